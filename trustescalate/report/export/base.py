"""What is exported, and what a format is. Only texts are made here; `export_data` writes them.

Where people will label, a judge's opinion is shown only on rows that measure nothing (`Row.hidden`), and the
names of models never. What a format has no place for is left out with its reason, and counted.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from trustescalate.records import Annotation, Decision, Item, Judgment, Label, Run, Task, TaskKind, Turn
from trustescalate.records.jsonl import digest, to_python

ROLES_THAT_MEASURE = ("exemplars", "dev", "pilot", "certify", "undrawn", "holdout")
"""Whoever labels a row of these must not see what a judge said of it."""
NAMED = ("model_a", "model_b")


class LeftOut(Exception):
    """A row that a format has no place for, and why. It is counted, never dropped in silence."""


@dataclass(frozen=True, slots=True)
class Row:
    """An item of a run with all that is known of it. `decision` is None where it was not judged yet."""

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
        """The last opinion of a judge, its label and score, accepted or not. None on rows that measure."""
        said = [] if self.hidden or self.decision is None else self.decision.trail
        return next(
            ((step.judge, step.label, step.score) for step in reversed(said) if step.label is not None), None
        )


@dataclass
class Export:
    """What goes out, and what has to be said about it.

    `beside` holds files that belong next to the one that was asked for, by the end of their names.
    """

    run: Run
    rows: Sequence[Row]
    blind: bool = False
    notices: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    beside: dict[str, bytes] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task of the run."""
        return self.run.header.certificate.task

    def say(self, sentence: str) -> None:
        """Something the reader of the file must know; once."""
        self.notices.setdefault(sentence)

    def each(self, write: Callable[[Row], Iterator[bytes]]) -> Iterator[bytes]:
        """Write row after row; count those that have no place."""
        for row in self.rows:
            try:
                yield from write(row)
            except LeftOut as why:
                self.left_out[str(why)] = self.left_out.get(str(why), 0) + 1


@dataclass(frozen=True, slots=True)
class Target:
    """A format that can be written: for which kinds of task, and `why` the others have no meaning there.

    `blind`: whether it can be written without any judge's opinion, for people who label.
    """

    name: str
    about: str
    write: Callable[[Export], Iterator[bytes]]
    kinds: tuple[TaskKind, ...] = tuple(TaskKind)
    why: str = ""
    blind: bool = False


def export_rows(run: Run, only: str = "all", *, blind: bool = False) -> tuple[Row, ...]:
    """The items of a run in their order: all of them, "abstained" (a person is needed) or "released".

    Items not judged yet are among all, and among neither of the others.
    """
    roles = run.header.certificate.roles
    measure = {item_id for role in ROLES_THAT_MEASURE for item_id in roles.get(role, ())}
    decisions = {decision.item_id: decision for decision in run.decisions}
    judgments: dict[str, list[Judgment]] = {}
    for judgment in run.judgments:
        judgments.setdefault(judgment.item_id, []).append(judgment)
    notes: dict[str, list[Annotation]] = {}
    for note in run.annotations:
        notes.setdefault(note.item_id, []).append(note)
    rows = (
        Row(
            item,
            decisions.get(item.id),
            tuple(judgments.get(item.id, ())),
            tuple(notes.get(item.id, ())),
            blind or item.id in measure,
        )
        for item in run.items
    )
    return tuple(row for row in rows if only == "all" or _stands(row) == only)


def _stands(row: Row) -> str:
    if row.decision is None:
        return "open"
    return "abstained" if row.decision.label is None else "released"


def certificate_id(run: Run) -> str:
    """What a certificate is known by outside: the first 16 digits of a hash of all it says."""
    return digest(to_python(run.header.certificate))[:16]


def readable(value: str | tuple[Turn, ...]) -> str:
    """A text, or the turns of a conversation one under another.

    >>> readable((Turn("user", "Hi"), Turn("assistant", "Hello")))
    'user: Hi\\n\\nassistant: Hello'
    """
    if isinstance(value, str):
        return value
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in value)


def plain(value: str | tuple[Turn, ...], format_name: str) -> str:
    """A text. Raises LeftOut for a conversation."""
    if not isinstance(value, str):
        raise LeftOut(f"{format_name} has no place for a conversation of several turns")
    return value


def models(item: Item) -> tuple[str, str]:
    """The names of the two models of a pair, or A and B where they have none."""
    first, second = (item.meta.get(key) for key in NAMED)
    named = isinstance(first, str) and isinstance(second, str) and first.strip() and second.strip()
    return (str(first), str(second)) if named and first != second else ("A", "B")


def coin(run: Run, item: Item) -> bool:
    """Whether an item's responses change places on a page: drawn by the run's id and the item's, for good.

    Exporting twice shows the same sides, and nobody can tell them from the texts.
    """
    return hashlib.sha256(f"sides {run.header.id} {item.id}".encode("utf-8", "replace")).digest()[0] % 2 == 1


def as_json(value: object) -> bytes:
    """One JSON value on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def listed(values: Iterator[bytes]) -> Iterator[bytes]:
    """JSON values as one list, a value a line."""
    mark = b"[\n"
    for value in values:
        yield mark + value
        mark = b",\n"
    yield b"[]\n" if mark == b"[\n" else b"\n]\n"


def lined(values: Iterator[bytes]) -> Iterator[bytes]:
    """JSON values as lines."""
    for value in values:
        yield value + b"\n"
