"""Define the task, its items, and the annotations on them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from trustescalate.records.messages import passages, plain_turns

Label = str
Json = Any
Purpose = Literal["sample", "region", "abstained", "other"]
STRICT: Mapping[str, Json] = {"extra": "forbid", "allow_inf_nan": False, "coerce_numbers_to_str": True}
"""Configuration of pydantic: an unknown key or a NaN is an error; an id or label may be a number."""


class TaskKind(StrEnum):
    """The kind of question: compare two responses, or label one."""

    PAIRWISE = "pairwise"
    BINARY = "binary"
    RATING = "rating"
    CHOICE = "choice"


Against = Literal["majority", "annotator"]
"""Human label that a verdict must agree with: that of most annotators, or of one drawn at random."""

EMPTY_RESPONSE = "(empty response)"
"""An empty response is a response: this is what judges and annotators see of it."""
EMPTY_RESULT = "(empty result)"
TIE: Label = "tie"
SKIP: Label = "skip"
"""An annotator's abstention. It is kept, shown, and never counted as agreement."""


@dataclass(frozen=True, slots=True)
class Task:
    """The question, and every label that is a possible answer to it.

    `labels` is what a judge may answer, in the task's own order; with `ties == "drop"` a pairwise task offers
    no tie, and rows that most annotators call a tie are outside the claim, at calibration and after. With
    `ties == "half"` a tie against a preference is half right. A rating within `tolerance` of the human
    label is right. A row that everybody skipped disagrees with any verdict; with `skips == "outside"` it is
    outside the claim.
    """

    kind: TaskKind
    question: str
    labels: tuple[Label, ...]
    ties: Literal["class", "half", "drop"] = "class"
    tolerance: int = 0
    skips: Literal["disagree", "outside"] = "disagree"

    @property
    def responses(self) -> int:
        """How many responses an item of this task has."""
        return 2 if self.kind is TaskKind.PAIRWISE else 1

    @property
    def annotation_labels(self) -> tuple[Label, ...]:
        """The labels of an annotator: those of a judge, a skip, and a tie even where ties are dropped."""
        extra = [TIE] if self.kind is TaskKind.PAIRWISE and TIE not in self.labels else []
        return (*self.labels, *extra, SKIP)


@dataclass(frozen=True, slots=True)
class _Converted:
    """Annotation of a field that pydantic reads through a function. (This room does not import pydantic.)"""

    read: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Json]) -> Json:
        """The schema of the field, after the function."""
        function = {"type": "no-info", "function": self.read}
        return {"type": "function-before", "function": function, "schema": handler(source)}


def _without_empty(*names: str) -> Callable[..., Json]:
    """Make a serialiser that leaves fields out where they are empty: digests without them stay the same."""

    def dump(record: Any, default: Callable[[Any], dict[str, Json]]) -> dict[str, Json]:
        plain = default(record)
        return {key: value for key, value in plain.items() if value or key not in names}

    def schema(_: type, source: Any, handler: Callable[[Any], Json]) -> Json:
        serialised = {"type": "function-wrap", "function": dump, "is_field_serializer": False}
        return handler(source) | {"serialization": serialised}

    return schema


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by an assistant. `arguments` are the text that was given, mostly JSON."""

    name: str
    arguments: str = ""
    id: str | None = None
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation. The turn of a "tool" is the result of the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT
    __get_pydantic_core_schema__ = classmethod(_without_empty("tool_calls", "tool_call_id", "name"))

    def __repr__(self) -> str:
        """Without empty fields: importers make ids from it."""
        given = {
            name: value for name in self.__slots__ if (value := getattr(self, name)) or name == "content"
        }
        return f"Turn({', '.join(f'{name}={value!r}' for name, value in given.items())})"


Turns = Annotated[tuple[Turn, ...], _Converted(plain_turns)]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to judge, without labels. `group` names rows that are clustered (same prompt, document).

    A response is a text, or the turns with which a conversation goes on after the prompt, the user's too, and
    those of tools. `context` holds passages, as a retriever found them.
    """

    id: str
    prompt: str | Turns
    responses: tuple[str | Turns, ...]
    reference: str | None = None
    group: str | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    context: Annotated[tuple[str, ...], _Converted(passages)] = ()
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT
    __get_pydantic_core_schema__ = classmethod(_without_empty("context"))

    @property
    def asked(self) -> Json:
        """What was asked: the prompt, with the passages where there are any. For comparison and digests."""
        return (self.prompt, self.context) if self.context else self.prompt

    @property
    def shown(self) -> tuple[Json, ...]:
        """All that a label is about: what was asked, the responses and the reference."""
        return self.asked, self.responses, self.reference

    @property
    def prompt_text(self) -> str:
        """The prompt as plain text, with its tool calls and their results, and the passages."""
        texts = [self.prompt] if isinstance(self.prompt, str) else [part.text for part in parts(self.prompt)]
        return "\n".join([*texts, *self.context])

    @property
    def texts(self) -> tuple[str, ...]:
        """The responses as plain texts; of turns, what the assistant says."""
        return tuple(map(spoken, self.responses))


def visible(text: str) -> str:
    """A text as it is shown: an empty one, or one of white space, as words that say so.

    >>> visible(" "), visible("So.")
    ('(empty response)', 'So.')
    """
    return text if text.strip() else EMPTY_RESPONSE


def spoken(response: str | tuple[Turn, ...]) -> str:
    """A response as one text; of turns, what the assistant says: no tool call, and no result."""
    if isinstance(response, str):
        return response
    own = (turn for turn in response if turn.role == "assistant" and (turn.content or not turn.tool_calls))
    return "\n\n".join(turn.content for turn in own)


class Part(NamedTuple):
    """A text of a conversation, the number of its turn, and what it is: a role, a tool call, or a result."""

    turn: int
    what: str
    text: str


def parts(turns: Sequence[Turn], show: Callable[[str], str] = str) -> Iterator[Part]:
    """The texts of a conversation as they are shown: what is said, each tool call, each result.

    Calls are numbered, and a result has the number of its call: that of its id; without an id, the first call
    that has no result yet, of the same tool where it is named. `show` is applied to what is said.

    >>> call = Turn("assistant", "", (ToolCall("add", "[2, 2]", "c1"),))
    >>> for part in parts([call, Turn("tool", "4", tool_call_id="c1"), Turn("assistant", "Four.")]):
    ...     print(part)
    Part(turn=1, what='tool call 1', text='name: add\\narguments: [2, 2]')
    Part(turn=2, what='result of tool call 1', text='4')
    Part(turn=3, what='assistant', text='Four.')
    """
    number, by_id, waiting = 0, dict[str, int](), defaultdict[str | None, list[int]](list)
    answered = set[int]()
    for place, turn in enumerate(turns, 1):
        if turn.role == "tool":
            text = turn.content if turn.content.strip() else EMPTY_RESULT
            call = _call_of(turn, by_id, waiting, answered)
            if call is not None:
                answered.add(call)
                yield Part(place, f"result of tool call {call}", text)
            else:
                yield Part(
                    place,
                    "tool result",
                    f"name: {_one_line(turn.name)}\nresult: {text}" if turn.name else text,
                )
            continue
        if turn.content or not turn.tool_calls:
            yield Part(place, turn.role, show(turn.content))
        for each in turn.tool_calls:
            number += 1
            if each.id is not None:
                by_id[each.id] = number
            for key in (None, each.name):
                waiting[key].append(number)
            yield Part(
                place, f"tool call {number}", f"name: {_one_line(each.name)}\narguments: {each.arguments}"
            )


def _one_line(name: str) -> str:
    """A name that cannot end its line: what follows it would look like arguments."""
    return " ".join(name.split())


def _call_of(
    turn: Turn, by_id: dict[str, int], waiting: Mapping[str | None, list[int]], answered: set[int]
) -> int | None:
    """The number of the call that a result belongs to; None where there is no such call."""
    if turn.tool_call_id is not None:
        return by_id.pop(turn.tool_call_id, None)
    queue = waiting[turn.name]
    while queue:
        if (number := queue.pop(0)) not in answered:
            return number
    return None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotator's label of one item, a tie or a skip included, and the `seconds` that it took.

    `purpose` is why this item was labelled: as part of a "sample", independently of any judge; as part of a
    sample from the "region" that the tested policies accept; because a cascade "abstained"; or for an unknown
    reason ("other"). Only samples certify, and only the first stands for all items. `criterion` is the
    name of the one that it answers, where there are several. `content` is a digest of the texts that were
    shown, where that is known. `reason` is why the annotator skipped.
    """

    item_id: str
    annotator: str
    label: Label
    seconds: float | None = None
    purpose: Purpose = "sample"
    criterion: str | None = None
    content: str | None = None
    reason: str | None = None
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT
