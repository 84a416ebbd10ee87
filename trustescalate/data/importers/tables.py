"""Read tables as rows under column names: CSV in its many forms, and Parquet."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from trustescalate.data.importers.streams import Record, Rejected, open_utf8
from trustescalate.errors import DataError
from trustescalate.records.bounded import (
    LARGEST_FILE,
    LARGEST_VALUE,
    MOST_ROWS,
    memory_of,
    open_file,
    too_large,
)

LONGEST_ROW = 8_000_000
"""In characters."""
SHORT_LINE = 40
"""What a shorter line of a row counts: each is an object of its own."""
BATCH_MEMORY = 32_000_000
"""Of the rows of a Parquet file that are read at once, in bytes."""
MOST_AT_ONCE = 256
ROWS_A_PAGE = 1024
"""As its writers do: they look at a page's size after so many rows."""
_SAMPLE = 1 << 16
_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)
"""The first line by which Excel names its separator."""


class _Lines:
    """The lines of a table, and those since the last row."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file, self._read, self._length = file, 0, 0
        self._row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(LONGEST_ROW + 1):
            self._length += max(len(line), SHORT_LINE)
            self._read += 1
            if self._length > LONGEST_ROW:
                raise too_large("a row", LONGEST_ROW, "is a quote left open in it?", "characters")
            if self._read > MOST_ROWS:
                raise too_large("a table", MOST_ROWS, "split it", "lines")
            self._row.append(line)
            yield line.replace("\0", "\ufffd")

    def take(self) -> list[str]:
        """The lines since the last row."""
        row, self._row, self._length = self._row, [], 0
        return row


class _Row(NamedTuple):
    cells: list[str]
    place: int
    text: list[str]


def read_csv(path: Path) -> Iterator[Record | Rejected]:
    """Rows as dicts of text. Without a header (a first row that repeats itself, or holds long text) columns
    are named column_1, column_2, …; a second column of a name is named after its place, as winner.6."""
    csv.field_size_limit(LONGEST_ROW)
    with open_utf8(path) as start:
        sample = start.read(_SAMPLE).decode("utf-8", "replace")
    named = _SEPARATOR.match(sample)
    delimiter = named[1] if named else _delimiter(path, sample)
    names: list[str] = []
    before: _Row | None = None
    with io.TextIOWrapper(open_utf8(path), encoding="utf-8", newline="") as file:
        if named:
            file.readline()
        for row in _rows(file, path, delimiter, 1 if named else 0):
            if isinstance(row, Rejected):
                yield row
            elif not names:
                names = _names(row.cells)
                if names != row.cells and not _looks_named(row.cells):
                    before = row
            elif before is not None:
                yield _record(path, names, before)
                before = row
            else:
                before = row
    if before is not None and _is_cut(before, names, delimiter):
        shown = "a quote is open" if len(before.cells) >= len(names) else f"{len(before.cells)} cells"
        yield Rejected(str(path), before.place, f"the last row is cut: {shown} under {len(names)} columns")
    elif before is not None:
        yield _record(path, names, before)


def _rows(file: io.TextIOWrapper, path: Path, delimiter: str, skipped: int) -> Iterator[_Row | Rejected]:
    lines = _Lines(file)
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            lines.take()
            yield Rejected(str(path), rows.line_num + skipped, f"not a row of CSV: {error}")
            continue
        if cells is None:
            return
        text = lines.take()
        if any(cell.strip() for cell in cells):
            yield _Row(cells, rows.line_num + skipped, text)


def _record(path: Path, names: list[str], row: _Row) -> Record | Rejected:
    if len(row.cells) > len(names):
        return Rejected(str(path), row.place, f"{len(row.cells)} cells under {len(names)} columns")
    cells = [*row.cells, *[None] * (len(names) - len(row.cells))]  # a missing cell is no empty one
    return Record(row.place, dict(zip(names, cells, strict=True)))


def _is_cut(row: _Row, names: list[str], delimiter: str) -> bool:
    """Whether the last row is not whole: a quote is open, or cells are missing and so is the line's end."""
    if len(row.cells) < len(names) and not row.text[-1].endswith(("\n", "\r")):
        return True
    try:
        list(csv.reader(row.text, delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "end of data" in str(error)
    return False


def doubled_columns(columns: tuple[str, ...]) -> dict[str, str]:
    """The columns that repeat the name of an earlier one, as {"winner.6": "winner"}."""
    places = {f"{name}.{place}": name for place in range(2, len(columns) + 1) for name in columns}
    return {
        name: places[name]
        for place, name in enumerate(columns, 1)
        if name in places and name.endswith(f".{place}") and name.removesuffix(f".{place}") in columns
    }


def _delimiter(path: Path, sample: str) -> str:
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    first = _QUOTED.sub("", sample).partition("\n")[0]
    return max(",;\t|", key=first.count)


def _looks_named(row: list[str]) -> bool:
    """Whether a first row holds names: short, mostly different, on one line, and no numbers."""
    short = all(len(cell) <= 60 and "\n" not in cell for cell in row)
    return short and 2 * len({cell for cell in row if cell}) >= len(row) and not any(map(_is_number, row))


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _names(row: list[str]) -> list[str]:
    if not _looks_named(row):
        return [f"column_{place}" for place in range(1, len(row) + 1)]
    names: list[str] = []
    for place, cell in enumerate(row, 1):
        name = cell.strip() or f"column_{place}"
        names.append(f"{name}.{place}" if name in names else name)
    return names


def read_parquet(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError([f"{path}: Parquet needs pyarrow"], "pip install 'trustescalate[formats]'") from None
    try:
        with open_file(path) as data, parquet.ParquetFile(data, buffer_size=_SAMPLE) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise too_large("a table", MOST_ROWS, "split it", "rows")
            place = memory = 0
            for group in range(file.num_row_groups):
                size = _rows_at_once(data, file.metadata.row_group(group))
                for batch in file.iter_batches(size, row_groups=[group], use_threads=False):
                    for row in batch.to_pylist():
                        place += 1
                        memory += memory_of(row)
                        if memory > LARGEST_FILE:
                            raise too_large("rows", LARGEST_FILE, "split it")
                        yield Record(place, row)
    except ArrowException as error:
        raise OSError(f"not Parquet: {error}") from None


def _rows_at_once(data: IO[bytes], group: Any) -> int:
    """How many rows of a row group to read at once. Raises OSError where one does not fit into memory.

    A page is decompressed as a whole, and each row may hold the largest value of a dictionary.
    """
    size = MOST_AT_ONCE
    for column in map(group.column, range(group.num_columns)):
        rows = max(group.num_rows, 1)
        page = column.total_uncompressed_size * min(1.0, ROWS_A_PAGE / rows)
        words = 0
        if column.has_dictionary_page and (start := column.dictionary_page_offset) is not None:
            words = _page_size(data, start)
        row = words * max(1.0, column.num_values / rows)
        if max(page, row) > LARGEST_VALUE:
            raise too_large(f"a page of {column.path_in_schema!r}", LARGEST_VALUE, "write JSON lines instead")
        size = min(size, int(BATCH_MEMORY / max(row, 1)))
    return max(size, 1)


def _page_size(data: IO[bytes], start: int) -> int:
    """The uncompressed size in a page's header: the second field, a zigzag varint."""
    before = data.tell()
    data.seek(start)
    header = data.read(32)
    data.seek(before)
    place = 3  # a byte names each field; the first field, the kind of the page, is one byte
    value, shift = 0, 0
    while place < len(header):
        value |= (header[place] & 127) << shift
        shift += 7
        if header[place] < 128:
            break
        place += 1
    return value >> 1
