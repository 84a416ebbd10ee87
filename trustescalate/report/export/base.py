"""Define what is exported, and what a format is.

Annotators see a judge's verdict only on rows that measure nothing (`Row.hidden`), and never the names of
models. A row that a format cannot hold is left out, with its reason, and counted.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trustescalate.records import (
    Annotation,
    Decision,
    Item,
    Judgment,
    Label,
    Run,
    Task,
    TaskKind,
    Turn,
    parts,
    visible,
)
from trustescalate.records.columns import Column, Lazy
from trustescalate.records.decisions import decided_places, placed_decisions
from trustescalate.records.run import UNCERTIFIED
from trustescalate.records.stored import judgments_of

ROLES_THAT_MEASURE = ("exemplars", "dev", "pilot", "certify", "undrawn", "holdout")
"""An annotator of a row in one of these roles must not see a judge's verdict on it."""
NAMED = ("model_a", "model_b")


class LeftOut(Exception):
    """Raised for a row that a format cannot hold, with the reason. It is counted and reported."""


@dataclass(frozen=True, slots=True)
class Row:
    """An item of a run with its results. `decision` is None where it is not judged yet."""

    item: Item
    decision: Decision | None
    judgments: tuple[Judgment, ...]
    annotations: tuple[Annotation, ...]
    hidden: bool

    @property
    def released(self) -> Label | None:
        """The verdict that the cascade released."""
        return None if self.decision is None else self.decision.label

    @property
    def suggestion(self) -> tuple[str, Label, float] | None:
        """The last verdict of a judge with its score, accepted or not; None on rows that measure.

        The name of the judge has a mark where the run is uncertified.
        """
        trail = [] if self.hidden or self.decision is None else self.decision.trail
        given = (
            (self.marked(step.judge), step.label, step.score)
            for step in reversed(trail)
            if step.label is not None
        )
        return next(given, None)

    def marked(self, judge: str) -> str:
        """The name of a judge, with a mark where no certificate covers its verdict and none is in force."""
        uncertified = self.decision is not None and self.decision.reason == UNCERTIFIED
        return f"{judge} ({UNCERTIFIED})" if uncertified else judge


@dataclass
class Export:
    """Rows to write, with notices for the user. `beside` holds additional files by their suffix, or
    by their name in the folder of a format that makes one.

    `criteria` has the question and the labels of each criterion, where a run judged several.
    """

    run: Run
    rows: Sequence[Row]
    blind: bool = False
    criteria: Mapping[str, Task] = field(default_factory=dict)
    notices: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    beside: dict[str, bytes] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task of the run."""
        return self.run.header.certificate.task

    def say(self, sentence: str) -> None:
        """Add a notice for the user, once."""
        self.notices.setdefault(sentence)

    def each(self, write: Callable[[Row], Iterator[bytes]]) -> Iterator[bytes]:
        """Write row after row, and count those left out."""
        for row in self.rows:
            try:
                yield from write(row)
            except LeftOut as why:
                self.left_out[str(why)] = self.left_out.get(str(why), 0) + 1


@dataclass(frozen=True, slots=True)
class Target:
    """A format: the kinds of task that it can hold, and `why` not the others.

    `blind`: whether it can be written without verdicts of judges, for annotators. `several`: whether it has
    a place for the criterion of a verdict. `inside` is the name of the file in the folder that it makes, with
    the additional files beside it; empty where it makes a file. `suffix`: the one that the file's name needs,
    if the other tool reads it only so.
    """

    name: str
    about: str
    write: Callable[[Export], Iterator[bytes]]
    kinds: tuple[TaskKind, ...] = tuple(TaskKind)
    why: str = ""
    blind: bool = False
    several: bool = False
    inside: str = ""
    suffix: str = ""


class Rows(Lazy[Row]):
    """Rows of a run, made when they are asked for; `places` are those of their items."""

    def __init__(self, run: Run, places: Sequence[int], *, blind: bool = False) -> None:
        roles = run.header.certificate.roles
        self._run, self._places, self._blind = run, places, blind
        self._measure = {item_id for role in ROLES_THAT_MEASURE for item_id in roles.get(role, ())}
        self._decided, self._judgments = decided_places(run), judgments_of(run)
        self._notes: dict[str, list[Annotation]] = {}
        for note in run.annotations:
            self._notes.setdefault(note.item_id, []).append(note)

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, place: int) -> Row:
        at = self._places[place]
        item, decided = self._run.items[at], self._decided[at]
        return Row(
            item,
            None if decided < 0 else self._run.decisions[decided],
            tuple(self._judgments(at)),
            tuple(self._notes.get(item.id, ())),
            self._blind or item.id in self._measure,
        )


def export_rows(run: Run, only: str = "all", *, blind: bool = False) -> Sequence[Row]:
    """Select the items of a run in their order: all, "abstained" (human review) or "released".

    Items that are not judged yet are part of "all" only, and so are those of an uncertified run.
    """
    if only == "all":
        return Rows(run, range(len(run.items)), blind=blind)
    chosen = (place for place, row in placed_decisions(run) if _state(row) == only)
    return Rows(run, Column("I", sorted(chosen)), blind=blind)


def _state(decision: Decision) -> str:
    if decision.reason == UNCERTIFIED:
        return UNCERTIFIED
    return "abstained" if decision.label is None else "released"


def readable(value: str | tuple[Turn, ...]) -> str:
    """Join the turns of a conversation to one text, and make an empty text visible.

    >>> readable((Turn("user", "Hi"), Turn("assistant", "Hello")))
    'user: Hi\\n\\nassistant: Hello'
    """
    if isinstance(value, str):
        return visible(value)
    return "\n\n".join(f"{what}: {text}" for _, what, text in parts(value, visible))


def with_passages(item: Item) -> str | tuple[Turn, ...]:
    """The prompt of an item, its passages below it, for formats without a place for them.

    >>> with_passages(Item("q", "Who?", ("Ann.",), context=("Ann did it.",)))
    'Who?\\n\\npassage 1: Ann did it.'
    """
    if not item.context:
        return item.prompt
    below = "\n\n".join(f"passage {place}: {text}" for place, text in enumerate(item.context, 1))
    if isinstance(item.prompt, str):
        return f"{item.prompt}\n\n{below}"
    return (*item.prompt, Turn("user", below))


def turns(value: str | tuple[Turn, ...], role: Literal["user", "assistant"] = "user") -> list[dict[str, Any]]:
    """Convert a conversation, or a text of `role`, to messages, tool calls as in chat completions."""
    messages = (Turn(role, value),) if isinstance(value, str) else value
    return list(map(_message, messages))


def _message(turn: Turn) -> dict[str, Any]:
    calls = [
        {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        | ({} if call.id is None else {"id": call.id})
        for call in turn.tool_calls
    ]
    given = {"tool_calls": calls, "tool_call_id": turn.tool_call_id, "name": turn.name}
    return {"role": turn.role, "content": turn.content} | {key: each for key, each in given.items() if each}


def plain(value: str | tuple[Turn, ...], format_name: str) -> str:
    """Return a text. Raises LeftOut for a conversation."""
    if not isinstance(value, str):
        raise LeftOut(f"{format_name} cannot hold a conversation of several turns")
    return value


def models(item: Item) -> tuple[str, str]:
    """Name the two models of a pair; A and B where they have no names."""
    first, second = (item.meta.get(key) for key in NAMED)
    named = isinstance(first, str) and isinstance(second, str) and first.strip() and second.strip()
    return (str(first), str(second)) if named and first != second else ("A", "B")


def coin(run: Run, item: Item) -> bool:
    """Draw whether an item's responses swap sides, by the ids of the run and the item: always the same."""
    return hashlib.sha256(f"sides {run.header.id} {item.id}".encode("utf-8", "replace")).digest()[0] % 2 == 1


def as_json(value: object) -> bytes:
    """Encode a JSON value on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def listed(values: Iterator[bytes]) -> Iterator[bytes]:
    """Write JSON values as a list, one per line."""
    mark = b"[\n"
    for value in values:
        yield mark + value
        mark = b",\n"
    yield b"[]\n" if mark == b"[\n" else b"\n]\n"


def lined(values: Iterator[bytes]) -> Iterator[bytes]:
    """Write JSON values as lines."""
    for value in values:
        yield value + b"\n"
