"""What a format is: how its files are recognised, and how their records become ours.

A reader never guesses: what it cannot use raises `Unusable`, which costs that record alone and is counted.
Both orders of a pair are brought into one frame: A is what the record names first, whatever was shown.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trustescalate.data.importers.files import Foreign, Rejected
from trustescalate.records import TIE, Annotation, Item, Judgment, Label, Task, TaskKind, Turn, Vote

TIES = frozenset(
    {"tie", "tie (bothbad)", "tie (inconsistent)", "both_bad", "bothbad", "equal", "draw", "same"}
)
"""How others spell a tie, in lower case."""
LARGEST = 10**300
"""No number here means so much: a larger one is neither a float nor, past 4300 digits, a text in Python."""


class Unusable(Exception):
    """A record that cannot be taken, and why. It becomes a `Rejected`."""


class Found(NamedTuple):
    """What one record says: an item, what people said of it, and what judges said."""

    item: Item
    annotations: tuple[Annotation, ...] = ()
    judgments: tuple[Judgment, ...] = ()


class Plain(NamedTuple):
    """The same as plain values, ready to be written: for millions of rows, where records cost too much.

    `item` holds the fields of an `Item` that are not their defaults, `notes` annotators and labels.
    """

    item: Mapping[str, Any]
    notes: Sequence[tuple[str, Label]]
    judgments: Sequence[Judgment] = ()


@dataclass
class Notes:
    """What a reader had to assume, each sentence once; and the task that its records turned out to be."""

    task: Task | None = None
    assumed: dict[str, None] = field(default_factory=dict)

    def assume(self, sentence: str) -> None:
        """Say what was assumed."""
        self.assumed.setdefault(sentence)


Files = Mapping[str, Sequence[Foreign]]
"""The files of one import, by the part that each plays."""
Taken = Found | Plain | Rejected
Reader = Callable[[Files, Notes], Iterator[Taken]]
Sniff = Callable[[Foreign], bool]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: `parts` recognise its files, `main` are those without which there is nothing to import.

    `read` must set `notes.task` before its first `Found`.
    """

    name: str
    about: str
    parts: Mapping[str, Sniff]
    main: tuple[str, ...]
    read: Reader


def each(file: Foreign, read: Callable[[Any], Iterable[Found | Plain]]) -> Iterator[Taken]:
    """Read the records of a file one by one. What is unusable is rejected at its place."""
    for record in file.records():
        if isinstance(record, Rejected):
            yield record
            continue
        try:
            if not isinstance(record.value, dict):
                raise Unusable(f"is {_kind(record.value)}, not an object with fields")
            yield from read(record.value)
        except Unusable as error:
            yield Rejected(str(file.path), record.place, str(error))


# ── fields ───────────────────────────────────────────────────────────────────────────────────────


def has(file: Foreign, *keys: str) -> bool:
    """Whether the first record of a file is an object with all these keys."""
    return isinstance(file.head[0], dict) and all(key in file.head[0] for key in keys)


def get(row: Any, *path: str | int) -> Any:
    """What lies at a path of keys and places. Raises Unusable that names it, if nothing does."""
    value = row
    for step in path:
        held = isinstance(value, dict) if isinstance(step, str) else isinstance(value, list)
        try:
            value = value[step] if held else None
        except LookupError:
            held = False
        if not held:
            raise Unusable(f"{'.'.join(map(str, path))} is missing")
    return value


def text(row: Any, *path: str | int) -> str:
    """A text that is not empty, from a path."""
    value = get(row, *path)
    if not isinstance(value, str):
        raise Unusable(f"{'.'.join(map(str, path))} is {_kind(value)}, not text")
    if not value.strip():
        raise Unusable(f"{'.'.join(map(str, path))} is empty")
    return value


def name(row: Any, *path: str | int) -> str:
    """A name: a text, or a number as text (1 and 1.0 are one name)."""
    value = get(row, *path)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise Unusable(f"{'.'.join(map(str, path))} is a number of too many digits")
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise Unusable(f"{'.'.join(map(str, path))} is {_kind(value)}, not a name")
    return str(value)


def number(row: Any, *path: str | int) -> float:
    """A finite number, from a path."""
    value = get(row, *path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise Unusable(f"{'.'.join(map(str, path))} is {_kind(value)}, not a number")
    return float(value)


def many(row: Any, *path: str | int) -> list[Any]:
    """A list, from a path."""
    value = get(row, *path)
    if not isinstance(value, list):
        raise Unusable(f"{'.'.join(map(str, path))} is {_kind(value)}, not a list")
    return value


def turns(row: Any, *path: str | int) -> tuple[Turn, ...]:
    """A conversation: a list of {role, content}. Anything in it but text is refused by name."""
    value = get(row, *path)
    where = ".".join(map(str, path))
    if not isinstance(value, list) or not value:
        raise Unusable(f"{where} is {_kind(value)}, not a conversation")
    return tuple(_turn(message, f"{where}.{place}") for place, message in enumerate(value))


def _turn(message: Any, where: str) -> Turn:
    role, content = (message.get(key) if isinstance(message, dict) else None for key in ("role", "content"))
    if isinstance(message, dict) and (message.get("tool_calls") or role in ("tool", "function")):
        raise Unusable(f"{where} holds a tool call, which cannot be judged as text")
    if isinstance(content, list):
        kinds = {str(part.get("type"))[:40] if isinstance(part, dict) else "None" for part in content}
        if not kinds <= {"text"}:
            raise Unusable(f"{where} holds {', '.join(sorted(kinds - {'text'}))}, not text")
        content = "".join(str(part.get("text", "")) for part in content)
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise Unusable(f"{where} is no turn with a role and text")
    return Turn(role, content)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return {"dict": "an object", "list": "a list", "str": "text", "bool": "a boolean"}.get(
        type(value).__name__, "a number"
    )


def between(shown: str, start: str, end: str) -> str | None:
    """What stands between two marks of a prompt that a judge was shown; None without the first mark.

    Raises Unusable where a mark stands more than once, or the second not at all: the texts may hold marks.
    """
    if start not in shown:
        return None
    before, _, after = shown.partition(start)
    if start in after or end not in after or end in before or after.count(end) > 1:
        raise Unusable(f"{start.strip()!r} to {end.strip()!r} does not stand once in the prompt")
    return after.partition(end)[0]


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────


def side(value: Any, first: Sequence[str], second: Sequence[str]) -> Label | None:
    """A, B or tie from a winner as others spell it; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    said = str(value).strip()
    if said in first:
        return None if said in second else "A"
    if said in second:
        return "B"
    return TIE if said.casefold() in TIES else None


def pairwise(question: str = "Which response is better?") -> Task:
    """The task of a comparison, with ties."""
    return Task(TaskKind.PAIRWISE, question, ("A", "B", TIE))


def verdict(
    label: Label | None, *, raw: str = "", order: Any = "", member: int = 0, why: str = "none"
) -> Vote:
    """One recorded verdict as a vote; without a label, a failure with its reason."""
    if label is None:
        return Vote(member, order, {}, raw=raw, failure=why, channel="samples")
    return Vote(member, order, {label: 1.0}, raw=raw, channel="samples")


def judged(item_id: str, judge: str, votes: Sequence[Vote], planned: int | None = None) -> Judgment:
    """A judge's recorded votes on an item. The fingerprint is of the judge's name: no more is known."""
    return Judgment(item_id, judge, fingerprint(judge), tuple(votes), planned or len(votes))


def fingerprint(judge: str) -> str:
    """What a recorded judge is known by.

    >>> fingerprint("gpt-4") == fingerprint("gpt-4"), fingerprint("gpt-4") == fingerprint("gpt-4o")
    (True, False)
    """
    return hashlib.sha256(f"recorded {judge}".encode("utf-8", "surrogatepass")).hexdigest()
