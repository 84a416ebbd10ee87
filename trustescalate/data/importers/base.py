"""Define an import format: how its files are recognised, and how their records are converted.

A reader never guesses: an unusable record raises `Unusable`, is counted, and costs no other record. Both
orders of a pair are converted to one frame: A is the response that the record names first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from trustescalate.config.criteria import CriterionTable
from trustescalate.data.importers.fields import kind_of
from trustescalate.data.importers.files import Foreign, Record, Rejected, Unusable
from trustescalate.records import Annotation, Item, Judgment, Label, Task

if TYPE_CHECKING:
    from trustescalate.data.importers.columns import ColumnsFile


class Found(NamedTuple):
    """The content of one record: an item, its annotations, and its judgments."""

    item: Item
    annotations: tuple[Annotation, ...] = ()
    judgments: tuple[Judgment, ...] = ()


class Plain(NamedTuple):
    """The content of one record as plain values, which are faster than records for millions of rows.

    `item` holds the fields of an `Item` that are not their defaults, `notes` annotators and labels, and
    `on_criteria` names of criteria, annotators and labels.
    """

    item: Mapping[str, Any]
    notes: Sequence[tuple[str, Label]]
    judgments: Sequence[Judgment] = ()
    on_criteria: Sequence[tuple[str, str, Label]] = ()


@dataclass
class Notes:
    """The assumptions of a reader, each sentence once, its task, and the columns that it did not read."""

    task: Task | None = None
    criteria: Sequence[CriterionTable] = ()
    assumed: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)

    def assume(self, sentence: str) -> None:
        """Record an assumption."""
        self.assumed.setdefault(sentence)


Files = Mapping[str, Sequence[Foreign]]
"""The files of one import, by part."""
Taken = Found | Plain | Rejected
Reader = Callable[[Files, Notes], Iterator[Taken]]
Sniff = Callable[[Foreign], bool]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: `parts` recognise its files, and an import needs one of the parts `main`.

    `read` must set `notes.task` before its first `Found`. It holds the records of the parts `kept` in memory.
    `named` makes a reader with fields that the user named.
    """

    name: str
    about: str
    parts: Mapping[str, Sniff]
    main: tuple[str, ...]
    read: Reader
    kept: tuple[str, ...] = ()
    named: "Callable[[ColumnsFile], Reader] | None" = None


def each(
    file: Foreign,
    read: Callable[[Any], Iterable[Taken]],
    records: Iterable[Record | Rejected] | None = None,
) -> Iterator[Taken]:
    """Read the records of a file one by one, by default all; unusable ones are rejected at their place."""
    for record in file.records() if records is None else records:
        if isinstance(record, Rejected):
            yield record
            continue
        try:
            if not isinstance(record.value, dict):
                raise Unusable(f"is {kind_of(record.value)}, not an object with fields")
            yield from read(record.value)
        except Unusable as error:
            yield Rejected(str(file.path), record.place, str(error))
