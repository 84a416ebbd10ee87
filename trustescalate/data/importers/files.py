"""Open untrusted files: encodings, JSON and JSON lines, tables, and archives.

A file becomes places and values. An unreadable place is a `Rejected`, and reading continues; an unreadable
file raises `DataError`. Lines and rows are streamed: memory does not grow with the file. The formats
interpret the values.
"""

import csv
import gzip
import io
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from pydantic_core import from_json

from trustescalate.errors import DataError

Shape = Literal["lines", "list", "document", "table"]
"""JSON lines; a JSON list; one JSON value; rows under column names. An archive is a list of its members."""

HEAD = 64
"""Records read to recognise a format."""
BUFFER = 1 << 16
"""Bytes per read or write."""
LONGEST_DOCUMENT = 2 * 1024**3
"""In bytes: a JSON document is held in memory whole, lines and tables are not."""
WHOLE_FILE = "give a whole file, as the other tool wrote it"
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"))
_WIDE = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError)


class Record(NamedTuple):
    """A value and its place: a line, a row or an element, counted from 1; or the name of a member."""

    place: int | str
    value: Any


class Rejected(NamedTuple):
    """A rejected record: file, place, and reason."""

    file: str
    place: int | str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.place}: {self.why}"


class Unusable(Exception):
    """An unusable record, with the reason. It becomes a `Rejected`."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A foreign file. `head` holds its first readable values, `columns` the column names of a table.

    `about` is an estimate of the number of records, from the size of the first ones.
    """

    path: Path
    shape: Shape
    head: tuple[Any, ...]
    columns: tuple[str, ...] = ()
    about: int = 0

    def records(self) -> Iterator[Record | Rejected]:
        """Everything in the file, in its order."""
        try:
            yield from _records(self.path, self.shape)
        except _UNREADABLE as error:
            yield Rejected(str(self.path), "end", f"cannot be read further: {_why(error)}")


def open_foreign(path: Path) -> Foreign:
    """Open a file and read its head. Raises DataError if nothing in it can be read.

    Suffixes mark tables (.csv, .tsv, .parquet) and archives (.eval); all else is JSON, recognised by its
    first characters. A further suffix .gz is decompressed. Text is UTF-8, or as its byte order mark says.
    """
    try:
        shape = _shape(path)
        head: list[Any] = []
        problems: list[Rejected] = []
        for record in _records(path, shape):
            if isinstance(record, Rejected):
                problems.append(record)
            else:
                head.append(record.value)
            if len(head) >= HEAD or (not head and len(problems) >= HEAD):
                break
    except _UNREADABLE as error:
        raise DataError([f"{path}: {_why(error)}"], WHOLE_FILE) from None
    if not head:
        why = str(problems[0]) if problems else f"{path}: holds nothing"
        raise DataError([why], WHOLE_FILE)
    columns = tuple(head[0]) if shape == "table" else ()
    weight = sum(len(str(value)) for value in head) / len(head)
    return Foreign(path, shape, tuple(head), columns, round(_size(path) / max(weight, 1)))


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
    with _text(path) as file:
        first = _first_line(file)
        if first.lstrip().startswith("["):
            return "lines" if _is_value(first) and _first_line(file).strip() else "list"
        if kind != ".json" or (_is_value(first) and _first_line(file).strip()):
            return "lines" if _is_value(first) or kind in (".jsonl", ".ndjson") else "document"
        return "document"


def _first_line(file: IO[str]) -> str:
    return next((line for line in file if line.strip()), "")


def _is_value(line: str) -> bool:
    try:
        return isinstance(from_json(line), dict | list)
    except ValueError:
        return False


def _records(path: Path, shape: Shape) -> Iterator[Record | Rejected]:
    kind = _suffix(path)
    if kind == ".parquet":
        return _parquet(path)
    if shape == "table":
        return _csv(path)
    if kind == ".eval":
        return _members(path)
    return _lines(path) if shape == "lines" else _rows(path, _document(path))


def _rows(path: Path, value: Any) -> Iterator[Record | Rejected]:
    """The rows of one JSON value: a list, or a table in a layout of Hugging Face or pandas."""
    if isinstance(value, list):
        yield from (Record(place, each) for place, each in enumerate(value, 1))
    elif _is_served(value):
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


# ── text ───────────────────────────────────────────────────────────────────────────────────────────


def _binary(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb", BUFFER)


def _encoding(path: Path) -> str:
    with _binary(path) as file:
        start = file.read(4)
    return next((name for mark, name in (*_BOMS, *_WIDE) if start.startswith(mark)), "utf-8")


def _text(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    return io.TextIOWrapper(_binary(path), encoding=_encoding(path), newline=newline)


def _lines(path: Path) -> Iterator[Record | Rejected]:
    """JSON lines. UTF-8 is split as bytes, so that one line that is not UTF-8 costs only itself."""
    encoding = _encoding(path)
    narrow = encoding.startswith("utf-8")
    lines: IO[Any] = _binary(path) if narrow else _text(path, newline="\n")
    with lines:
        if encoding == "utf-8-sig":
            lines.read(3)
        for place, line in enumerate(lines, 1):
            try:
                yield Record(place, from_json(line, cache_strings="keys"))
            except ValueError as error:
                if not line.isspace():
                    yield Rejected(str(path), place, f"not valid JSON: {_json_why(error)}")


def _document(path: Path) -> Any:
    with _binary(path) as file:
        data = file.read(LONGEST_DOCUMENT + 1)
    if len(data) > LONGEST_DOCUMENT:
        raise DataError(
            [f"{path}: one JSON document of more than {LONGEST_DOCUMENT / 1e9:.0f} GB"],
            "write it as JSON lines, which are streamed",
        )
    try:
        return from_json(data.decode(_encoding(path)))
    except ValueError as error:
        why = f"not valid JSON: {_json_why(error)}" if not isinstance(error, UnicodeError) else _why(error)
        raise DataError([f"{path}: {why}"], "is the file whole? give it as the other tool wrote it") from None


def _json_why(error: ValueError) -> str:
    return str(error).replace(" at line 1 column", ", column")


def _why(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} at byte {error.start + 1}; save it as UTF-8"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────


def _csv(path: Path) -> Iterator[Record | Rejected]:
    """Rows as dicts of text. Without a header (a first row that repeats itself, or holds long text) columns
    are named column_1, column_2, …"""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with _text(path, newline="") as file:
        sample = file.read(1 << 16)
        file.seek(0)
        if file.encoding == "utf-8-sig":
            sample = sample.removeprefix("\ufeff")
        rows = csv.reader(_without_nul(file), delimiter=_delimiter(path, sample))
        names: list[str] = []
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Rejected(str(path), rows.line_num, f"not a row of CSV: {error}")
                continue
            if row is None:
                return
            if not any(cell.strip() for cell in row):
                continue
            if not names:
                names = _names(row)
                if names == row or _looks_named(row):
                    continue
            if len(row) > len(names):
                why = f"{len(row)} cells under {len(names)} columns"
                yield Rejected(str(path), rows.line_num, why)
                continue
            yield Record(rows.line_num, dict(zip(names, row + [""] * (len(names) - len(row)), strict=True)))


def _without_nul(file: IO[str]) -> Iterator[str]:
    for line in file:
        yield line.replace("\0", "\ufffd")


def _delimiter(path: Path, sample: str) -> str:
    if path.name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    first = sample.partition("\n")[0]
    return max(",;\t", key=first.count)


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


def _parquet(path: Path) -> Iterator[Record]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError([f"{path}: Parquet needs pyarrow"], "pip install 'trustescalate[formats]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            place = 0
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    place += 1
                    yield Record(place, row)
    except ArrowException as error:
        raise OSError(f"not Parquet: {error}") from None


# ── archives ───────────────────────────────────────────────────────────────────────────────────────


def _members(path: Path) -> Iterator[Record | Rejected]:
    """The JSON members of a zip archive with their names, which are never used as paths."""
    with _archive(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".json"):
                continue
            try:
                yield Record(
                    info.filename, {"member": info.filename, "value": from_json(_member(archive, info))}
                )
            except (ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
                yield Rejected(str(path), info.filename, f"cannot be read: {error}")


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (NotImplementedError, ValueError) as error:  # of another version, or of lengths that cannot be
        raise zipfile.BadZipFile(str(error)) from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes. Zstandard (method 93), which Inspect AI writes, is not in this Python's zipfile."""
    if info.file_size > LONGEST_DOCUMENT:
        raise ValueError(f"{info.file_size} bytes are too many")
    if info.compress_type != 93:
        return archive.read(info)
    try:
        import zstandard
    except ImportError:
        raise ValueError("zstd needs a library: pip install 'trustescalate[formats]'") from None
    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    local = archive.fp.read(30)
    skip = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    archive.fp.seek(info.header_offset + 30 + skip)
    packed = archive.fp.read(info.compress_size)
    try:
        data = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    return bytes(data)


def from_text(cell: str) -> Any:
    """Parse JSON inside a cell or a field, as some tools write lists; None for other text."""
    try:
        return from_json(cell)
    except ValueError:  # also half a surrogate pair, which could not be written again
        return None
