"""Keep the rows of a run on disk or packed, and make each when it is asked for: a million take little memory.

They are sequences like any other: everything that reads a run reads tuples as well.
"""

import io
import os
import shutil
import tempfile
import threading
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

from trustescalate.errors import DataError
from trustescalate.records.bounded import open_file, read_lines
from trustescalate.records.columns import Codes, Column, Lazy, Place, Texts
from trustescalate.records.criteria import cluster_of_rows, criterion_row, row_id, row_name, split_row_id
from trustescalate.records.decisions import PackedDecisions, decided_places
from trustescalate.records.item_columns import ItemColumns, columns_of, ids_of, places_of
from trustescalate.records.jsonl import LONGEST_PROBLEM, MOST_PROBLEMS, ListDigest, decode, to_python
from trustescalate.records.judge_counts import Counts
from trustescalate.records.judging import Judgment
from trustescalate.records.run import Decision, Run
from trustescalate.records.task import Item

T = TypeVar("T")
CHANGED = "the file was changed while it was read; try again"
MARK = b"\xef\xbb\xbf"
AHEAD, NEAR = 1 << 15, 1 << 12
"""Bytes that are read ahead where lines are read in their order, and how far apart these may be."""


class Lines:
    """The lines of a file, also of a compressed one, which are not blank, by their number among these.

    The file stays open, so that replacing it changes nothing; one that may be `missing` is then empty. Raises
    OSError where it cannot be read.
    """

    def __init__(self, path: Path, *, missing: bool = False) -> None:
        self.path = path
        self._starts, self._lengths = Column("Q"), Column("I")
        self._skipped: list[tuple[int, int]] = []  # the rows before blank lines, and how many there were
        self._file: IO[bytes] = io.BytesIO() if missing and not path.exists() else open_file(path)
        self._lock = threading.Lock()
        if path.suffix.lower() == ".gz":
            with self._file as packed:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
                shutil.copyfileobj(packed, self._file)
            self._file.seek(0)
        on_disk = hasattr(os, "pread") and not isinstance(self._file, io.BytesIO)
        self._number = self._file.fileno() if on_disk else None
        self._stamp: tuple[int, int] | None = None
        self._ahead = 0, b""  # the start of what was read ahead, and this

    @classmethod
    def found(cls, path: Path) -> "Lines":
        """The lines of a file, all found."""
        lines = cls(path)
        for _ in lines.scan():
            pass
        return lines

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def __len__(self) -> int:
        return len(self._starts)

    def scan(self, *, appended: bool = False) -> Iterator[tuple[int, bytes]]:
        """Find the lines, once: yield each with its number in the file.

        Of an `appended` file the last line is left out where its end is missing: a crash tore it.
        """
        start, last, self._stamp = 0, 0, None if appended else self._stamp_now()
        for number, line in enumerate(read_lines(self._file), 1):
            begin, start = start, start + len(line)
            if appended and not line.endswith(b"\n"):
                return
            if number == 1 and line.startswith(MARK):
                begin, line = begin + len(MARK), line.removeprefix(MARK)  # noqa: PLW2901
            if line != b"\n" if appended else line.strip():
                if number - len(self) != last:
                    last = number - len(self)
                    self._skipped.append((len(self), last))
                self._starts.append(begin)
                self._lengths.append(len(line))
                yield number, line

    def drop(self) -> None:
        """Leave out the line that was found last."""
        self._starts.pop()
        self._lengths.pop()

    def read(self, row: int) -> bytes:
        """Read a line again. Raises DataError where the file was written to since, or has become shorter."""
        start, length = self._starts[row], self._lengths[row]
        first, ahead = self._ahead
        at = start - first
        if 0 <= at <= len(ahead) - length:
            return ahead[at : at + length]
        if self._stamp != (self._stamp and self._stamp_now()):
            raise DataError([f"{self.path}: was changed"], CHANGED)
        more = AHEAD if 0 <= at <= len(ahead) + NEAR else 0  # lines are mostly read in their order
        if self._number is not None:
            ahead = os.pread(self._number, length + more, start)
        else:
            with self._lock:
                self._file.seek(start)
                ahead = self._file.read(length + more)
        if len(ahead) < length:
            raise DataError([f"{self.path}: ends early"], CHANGED)
        self._ahead = start, ahead
        return ahead[:length]

    def _stamp_now(self) -> tuple[int, int] | None:
        if self._number is None:
            return None
        status = os.fstat(self._number)
        return status.st_size, status.st_mtime_ns

    def number(self, row: int) -> int:
        """The number in the file of a line, from 1."""
        at = bisect_right(self._skipped, row, key=lambda pair: pair[0])
        return row + self._skipped[at - 1][1]


class Stored(Lazy[T]):
    """Records of one kind in a JSON Lines file, in the order of `rows`, their numbers among its lines.

    `changed` are records that stand for those of the file, by their place in this sequence.
    """

    def __init__(
        self,
        kind: type[T],
        lines: Lines,
        rows: Sequence[int] | None = None,
        changed: Mapping[Place, T] | None = None,
    ) -> None:
        self.lines = lines
        self._kind, self._rows, self._changed = kind, rows, changed or {}

    def __len__(self) -> int:
        return len(self.lines if self._rows is None else self._rows)

    def _at(self, place: Place) -> T:
        if place in self._changed:
            return self._changed[place]
        return decode(self.lines.read(place if self._rows is None else self._rows[place]), self._kind)


class StoredItems(Stored[Item]):
    """Items of a file, or some of them; ids and clusters are in memory, and the latter may be others."""

    def __init__(self, lines: Lines, columns: ItemColumns, rows: Sequence[int] | None = None) -> None:
        super().__init__(Item, lines, rows)
        self.columns = columns

    def _at(self, place: Place) -> Item:
        item, group = super()._at(place), self.columns.groups[place]
        return item if item.group == group else replace(item, group=group)

    def clustered(self, groups: Iterable[str | None]) -> "StoredItems":
        """The same items in other clusters."""
        columns = ItemColumns(self.columns.ids, Codes(groups), several=self.columns.several)
        return type(self)(self.lines, columns, self._rows)

    def select(self, places: Sequence[Place]) -> "StoredItems":
        """Some of these items."""
        rows = places if self._rows is None else Column("I", (self._rows[place] for place in places))
        return type(self)(self.lines, self.columns.select(places), rows)

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the items."""
        return self.columns.ids


class StoredRows(StoredItems):
    """One row of each item of a file for each criterion, next to one another, as `criterion_row` makes it."""

    @classmethod
    def of(cls, items: StoredItems, criteria: Sequence[str]) -> "StoredRows":
        """The rows of these items."""
        many, columns = len(criteria), items.columns
        ids = Texts(row_id(item_id, name) for item_id in columns.ids for name in criteria)
        named = zip(columns.ids, columns.groups, strict=True)
        groups = (cluster_of_rows(item_id, group) for item_id, group in named for _ in criteria)
        places = range(len(items)) if items._rows is None else items._rows
        rows = Column("I", (place for place in places for _ in range(many)))
        return cls(items.lines, ItemColumns(ids, Codes(groups), several=True), rows)

    def _at(self, place: Place) -> Item:
        item = Stored._at(self, place)
        row = criterion_row(item, split_row_id(self.columns.ids[place]).criterion)
        return replace(row, group=self.columns.groups[place])


class StoredJudgments(Stored[Judgment]):
    """Judgments in the order of the items; those of item number i are from `starts[i]` to `starts[i + 1]`."""

    def __init__(
        self,
        lines: Lines,
        rows: Sequence[int],
        changed: Mapping[Place, Judgment],
        starts: Sequence[int],
        columns: ItemColumns,
        counts: Counts | None = None,
    ) -> None:
        super().__init__(Judgment, lines, rows, changed)
        self.starts, self.columns, self._counts = starts, columns, counts
        self.memo: dict[Any, Any] = {}  # what was computed from these rows, by what it was asked with

    @property
    def counts(self) -> Counts:
        """The counts of these judgments, which are made once."""
        if self._counts is None:
            self._counts = Counts(self)
        return self._counts

    def of_item(self, place: Place) -> tuple[Judgment, ...]:
        """The judgments of an item, by its place."""
        return self[self.starts[place] : self.starts[place + 1]]

    def select(self, places: Sequence[Place], columns: ItemColumns) -> "StoredJudgments":
        """Those of the items at some places, which have these columns."""
        rows, starts, changed = Column("I"), Column("I", [0]), dict[Place, Judgment]()
        for place in places:
            for at in range(self.starts[place], self.starts[place + 1]):
                if at in self._changed:
                    changed[len(rows)] = self._changed[at]
                rows.append(at if self._rows is None else self._rows[at])
            starts.append(len(rows))
        return StoredJudgments(self.lines, rows, changed, starts, columns)


def items_digest(items: Sequence[Item]) -> str:
    """Return a digest of the items of a run in order."""
    digest = ListDigest()
    for item in items:
        digest.add(to_python(item))
    return digest.hexdigest()


def judgments_of(run: Run) -> Callable[[Place], Sequence[Judgment]]:
    """A function that gives the judgments of an item, by its place."""
    if isinstance(run.judgments, StoredJudgments) and run.judgments.columns is columns_of(run.items):
        return run.judgments.of_item
    ids, by_item = ids_of(run.items), dict[str, list[Judgment]]()
    for judgment in run.judgments:
        by_item.setdefault(judgment.item_id, []).append(judgment)
    return lambda place: by_item.get(ids[place], ())


def placed_judgments(run: Run) -> Iterator[tuple[Place, Judgment]]:
    """The judgments of a run with the place of their item; those on unknown items are left out."""
    rows = run.judgments
    if isinstance(rows, StoredJudgments) and rows.columns is columns_of(run.items):
        for place in range(len(run.items)):
            start, stop = rows.starts[place], rows.starts[place + 1]
            yield from ((place, rows[row]) for row in range(start, stop))
    else:
        places = places_of(run.items)
        yield from ((places[row.item_id], row) for row in rows if row.item_id in places)


def select_items(items: Sequence[Item], chosen: Callable[[str], bool]) -> Sequence[Item]:
    """The items whose ids are chosen, in their order."""
    if not isinstance(items, StoredItems):
        return tuple(item for item in items if chosen(item.id))
    return items.select(Column("I", (place for place, item_id in enumerate(items.ids) if chosen(item_id))))


def take_items(items: Sequence[Item], places: Sequence[Place]) -> Sequence[Item]:
    """The items at these places, in this order."""
    if isinstance(items, StoredItems):
        return items.select(places)
    return tuple(items[place] for place in places)


def take_rows(run: Run, places: Sequence[Place]) -> Run:
    """The part of a run that is about the items at these places, in this order."""
    items, columns = take_items(run.items, places), columns_of(run.items)
    judgments: Sequence[Judgment]
    decisions: Sequence[Decision]
    if isinstance(run.judgments, StoredJudgments) and run.judgments.columns is columns:
        assert isinstance(items, StoredItems)
        judgments = run.judgments.select(places, items.columns)
    else:
        rows = judgments_of(run)
        judgments = tuple(row for place in places for row in rows(place))
    if isinstance(run.decisions, PackedDecisions) and run.decisions.columns is columns:
        assert isinstance(items, StoredItems)
        decisions = run.decisions.select(places, items.columns)
    else:
        decided = decided_places(run)
        decisions = tuple(run.decisions[decided[place]] for place in places if decided[place] >= 0)
    known = places_of(items)
    notes = tuple(note for note in run.annotations if note.item_id in known)
    return replace(run, items=items, judgments=judgments, decisions=decisions, annotations=notes)


def pick_items(items: Sequence[Item], ids: Iterable[str]) -> Sequence[Item]:
    """The items of these ids, in the order of the ids."""
    places = places_of(items)
    return take_items(items, Column("I", (places[item_id] for item_id in ids)))


def read_items(path: Path, each: Callable[[int, Item], object]) -> tuple[Sequence[Item], list[str]]:
    """Read a file of items, and pass each to a function with the number of its line; see `jsonl.read_rows`.

    Gives the good items, and one sentence `file:line: what` for each bad line.
    """
    ids, groups, several = Texts(), Codes(), False

    def add(number: int, _: int, item: Item) -> None:
        nonlocal several
        ids.append(item.id)
        groups.append(item.group)
        several = several or bool(row_name(item).criterion)
        each(number, item)

    lines, problems = read_stored(path, Item, add)
    return (() if lines is None else StoredItems(lines, ItemColumns(ids, groups, several=several))), problems


def read_stored(
    path: Path, kind: type[T], each: Callable[[int, int, T], object]
) -> tuple[Lines | None, list[str]]:
    """Read a file of one kind of record, and pass each to a function with the numbers of its line and row.

    Gives the lines of the good records, None where the file cannot be read, and a sentence for each bad line.
    """
    problems, last = list[str](), 0
    try:
        lines = Lines(path)
        for number, line in lines.scan():
            try:
                record = decode(line, kind)
            except ValueError as error:
                problems.append(f"{path}:{number}: {str(error)[:LONGEST_PROBLEM]}")
                lines.drop()
                if len(problems) >= MOST_PROBLEMS:
                    problems.append(f"{path}: not read further after so many; is it the right file?")
                    break
                continue
            last = number
            each(number, len(lines) - 1, record)
    except (OSError, EOFError, zlib.error) as error:
        after = f" after line {last}" if last else ""
        problems.append(f"{path}: cannot be read{after}: {getattr(error, 'strerror', None) or error}")
        return None, problems
    return lines, problems
