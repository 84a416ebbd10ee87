"""Open untrusted files: encodings, JSON and JSON lines, tables, and archives.

A file becomes places and values. An unreadable place is a `Rejected`, and reading continues; an unreadable
file raises `DataError`, and so does one over a limit. Lines, rows and the elements of a list are streamed:
memory does not grow with the file. The formats interpret the values.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from pydantic_core import from_json

from trustescalate.data.importers.archives import read_members
from trustescalate.data.importers.streams import (
    BUFFER,
    UNREADABLE,
    Record,
    Rejected,
    Unusable,
    elements,
    open_utf8,
    parse_json,
    why,
)
from trustescalate.data.importers.tables import doubled_columns, read_csv, read_parquet
from trustescalate.errors import DataError
from trustescalate.records.bounded import (
    LARGEST_VALUE,
    MOST_MEMORY,
    is_too_large,
    memory_of,
    read_lines,
    too_large,
)

__all__ = ["BUFFER", "Foreign", "Record", "Rejected", "Shape", "Unusable", "from_text", "open_foreign"]

Shape = Literal["lines", "list", "document", "table"]
"""JSON lines; a JSON list; one JSON value; rows under column names. An archive is a list of its members."""

HEAD = 64
"""Records read to recognise a format, at most."""
HEAD_MEMORY = 16_000_000
WHOLE_FILE = "give a whole file, as the other tool wrote it"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign file. `head` holds its first readable values, `columns` the column names of a table.

    `about` is an estimate of the number of records, from the size of the first ones. `doubled` maps columns
    to the earlier one of the same name. Where `whole` is set, the head is all there is. Where `kept` is set,
    the reader holds all records in memory, and there is a limit to them. `rows` reads the records of what is
    no file, and `origin` says where it is from.
    """

    path: Path
    shape: Shape
    head: tuple[Any, ...]
    columns: tuple[str, ...] = ()
    about: int = 0
    doubled: Mapping[str, str] = field(default_factory=dict)
    merged: bool = False
    whole: bool = False
    kept: bool = False
    rows: Callable[[], Iterator[Record]] | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    def records(self) -> Iterator[Record | Rejected]:
        """Everything in the file, in its order. Raises DataError for what is over a limit."""
        memory = 0
        try:
            for record in self._records():
                if self.kept and isinstance(record, Record):
                    memory += memory_of(record.value)
                    if memory > MOST_MEMORY:
                        raise too_large("records", MOST_MEMORY, "split it", "bytes in memory")
                yield record if not self.merged else self._merge(record)
        except UNREADABLE as error:
            if isinstance(error, OSError) and is_too_large(error):
                raise _over(self.path, error) from None
            yield Rejected(str(self.path), "end", f"cannot be read further: {why(error)}")

    def _records(self) -> Iterator[Record | Rejected]:
        if self.rows is not None:
            return self.rows()
        if self.whole:  # a document is read once: it may be large
            return (Record(place, value) for place, value in enumerate(self.head, 1))
        return _records(self.path, self.shape)

    def with_one_of_each(self, names: Container[str | None]) -> "Foreign":
        """The file with one column of each of these names. Raises DataError where the first rows differ."""
        doubled = {other: first for other, first in self.doubled.items() if first in names}
        if not doubled:
            return self
        merged = replace(self, doubled=doubled, merged=True)
        for place, row in enumerate(self.head, 1):
            if isinstance(problem := merged._merge(Record(place, row)), Rejected):
                names = ", ".join(f"{first!r} and {other!r}" for other, first in doubled.items())
                hint = f"remove one of them, or give each a meaning in --columns FILE, as {names}"
                raise DataError([f"{self.path}: {problem.why}"], hint)
        columns = tuple(name for name in self.columns if name not in doubled)
        rows = tuple({name: row[name] for name in columns} for row in self.head)
        return replace(merged, columns=columns, head=rows)

    def _merge(self, record: Record | Rejected) -> Record | Rejected:
        if isinstance(record, Rejected):
            return record
        row = dict(record.value)
        for name, first in self.doubled.items():
            if (other := row.pop(name)) != row[first]:
                both = f"{str(row[first])[:40]!r} and {str(other)[:40]!r}"
                return Rejected(
                    str(self.path), record.place, f"two columns are named {first!r}, and differ: {both}"
                )
        return Record(record.place, row)


def open_foreign(path: Path) -> Foreign:
    """Open a file and read its head. Raises DataError if nothing in it can be read.

    Suffixes mark tables (.csv, .tsv, .parquet) and archives (.eval); all else is JSON, recognised by its
    first characters. A further suffix .gz is decompressed. Text is UTF-8, or as its byte order mark says.
    """
    head: list[Any] = []
    problems: list[Rejected] = []
    memory, whole = 0, False
    try:
        shape = _shape(path)
        for record in _records(path, shape):
            if isinstance(record, Rejected):
                problems.append(record)
            else:
                head.append(record.value)
                memory += memory_of(record.value)
            if len(head) >= HEAD or (not head and len(problems) >= HEAD) or memory > HEAD_MEMORY:
                break
        else:
            whole = shape == "document" and not problems
    except UNREADABLE as error:
        if isinstance(error, OSError) and is_too_large(error):
            raise _over(path, error) from None
        raise DataError([f"{path}: {why(error)}"], WHOLE_FILE) from None
    if not head:
        problem = str(problems[0]) if problems else f"{path}: holds nothing"
        raise DataError([problem], WHOLE_FILE)
    columns = tuple(head[0]) if shape == "table" else ()
    about = round(_size(path) * len(head) / memory)
    return Foreign(path, shape, tuple(head), columns, about, doubled_columns(columns), whole=whole)


def _over(path: Path, error: OSError) -> DataError:
    return DataError([f"{path}: {error.strerror}"], "nothing was written; these limits keep memory small")


def _size(path: Path) -> int:
    """In bytes, uncompressed; of a .gz an estimate from its trailer, modulo 4 GiB."""
    size = path.stat().st_size
    if path.suffix.lower() != ".gz" or size < 4:
        return size
    with path.open("rb") as file:
        file.seek(-4, 2)
        return max(size, int.from_bytes(file.read(4), "little"))


def _shape(path: Path) -> Shape:
    kind = _suffix(path)
    if kind in (".csv", ".tsv", ".parquet"):
        return "table"
    if kind == ".eval":
        return "list"
    with open_utf8(path) as file:
        first = _first_line(file)
        is_value = _is_value(first)
        if first.lstrip().startswith(b"["):
            return "lines" if is_value and _first_line(file).strip() else "list"
        if kind != ".json" or (is_value and _first_line(file).strip()):
            return "lines" if is_value or kind in (".jsonl", ".ndjson") else "document"
        return "document"


def _first_line(file: IO[bytes]) -> bytes:
    """The first line that is not blank, or the beginning of a long one."""
    line = b"\n"
    while line and not line.strip():
        line = file.readline(LARGEST_VALUE)
    return line


def _is_value(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict | list)
    except (ValueError, OSError):
        return False


def _records(path: Path, shape: Shape) -> Iterator[Record | Rejected]:
    kind = _suffix(path)
    if kind == ".parquet":
        return read_parquet(path)
    if shape == "table":
        return read_csv(path)
    if kind == ".eval":
        return read_members(path)
    return {"lines": _lines, "list": _elements, "document": _document}[shape](path)


def _lines(path: Path) -> Iterator[Record | Rejected]:
    """JSON lines; one that cannot be read costs only itself."""
    with open_utf8(path) as file:
        for place, line in enumerate(read_lines(file), 1):
            try:
                yield Record(place, parse_json(line))
            except ValueError as error:
                if not line.isspace():
                    yield Rejected(str(path), place, why(error))


def _elements(path: Path) -> Iterator[Record]:
    """The elements of a JSON list. One that cannot be read costs the file: nothing tells where it ends."""
    with open_utf8(path) as file:
        for place, element in enumerate(elements(file), 1):
            try:
                yield Record(place, parse_json(element))
            except ValueError as error:
                raise DataError([f"{path}: element {place}: {why(error)}"], WHOLE_FILE) from None


def _document(path: Path) -> Iterator[Record | Rejected]:
    with open_utf8(path) as file:
        data = file.read(LARGEST_VALUE + 1)
    try:
        value = parse_json(data)
    except ValueError as error:
        raise DataError([f"{path}: {why(error)}"], WHOLE_FILE) from None
    del data
    yield from _rows(path, value)


def _rows(path: Path, value: Any) -> Iterator[Record | Rejected]:
    """The rows of a table in a layout of Hugging Face or pandas; else the value itself."""
    if _is_served(value):
        for place, each in enumerate(value["rows"], 1):
            if each.get("truncated_cells"):
                yield Rejected(str(path), place, f"cells were cut by the server: {each['truncated_cells']}")
            else:
                yield Record(place, each["row"])
    elif _is_split(value):
        rows = enumerate(value["data"], 1)
        yield from (Record(place, dict(zip(value["columns"], row, strict=False))) for place, row in rows)
    elif _is_columns(value):
        rows = enumerate(zip(*value.values(), strict=True), 1)
        yield from (Record(place, dict(zip(value, row, strict=True))) for place, row in rows)
    else:
        yield Record(1, value)


def _is_served(value: Any) -> bool:
    """{"rows": [{"row": {…}}]}, as the dataset viewer of Hugging Face answers."""
    rows = value.get("rows") if isinstance(value, dict) else None
    return isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("row"), dict) for row in rows
    )


def _is_split(value: Any) -> bool:
    """{"columns": […], "data": [[…]]}, as pandas writes with orient="split"."""
    names, rows = (value.get(key) if isinstance(value, dict) else None for key in ("columns", "data"))
    return (
        isinstance(names, list)
        and isinstance(rows, list)
        and all(isinstance(name, str) for name in names)
        and all(isinstance(row, list) and len(row) == len(names) for row in rows)
    )


def _is_columns(value: Any) -> bool:
    """{"prompt": […], "label": […]}: lists of one length, of cells that are no objects."""
    if not isinstance(value, dict) or len(value) < 2:
        return False
    cells = list(value.values())
    return all(isinstance(column, list) and len(column) == len(cells[0]) for column in cells) and not any(
        isinstance(cell, dict) for column in cells for cell in column
    )


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def from_text(cell: str) -> Any:
    """Parse JSON inside a cell or a field, as some tools write lists; None for other text."""
    try:
        return from_json(cell)
    except ValueError:  # also half a surrogate pair, which could not be written again
        return None
