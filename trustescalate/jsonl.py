"""Records as lines of JSON: read with every bad line named, written exactly, digested canonically."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from trustescalate.errors import DataError

T = TypeVar("T")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


class Row(NamedTuple, Generic[T]):
    """A record and the line it came from."""

    line: int
    record: T


class Rows(NamedTuple, Generic[T]):
    """The good rows of a file, and one sentence `file:line: what` for each bad one."""

    rows: list[Row[T]]
    problems: list[str]


def read_rows(path: Path, kind: type[T]) -> Rows[T]:
    """Read a JSONL file (also .gz) of one kind of record. Bad lines become problems, never exceptions.

    Blank lines are skipped; a byte order mark is tolerated; text must be UTF-8.
    """
    rows: list[Row[T]] = []
    problems: list[str] = []
    try:
        for number, line in _lines(path):
            if not line.strip():
                continue
            try:
                rows.append(Row(number, decode(line, kind)))
            except ValueError as error:
                problems.append(f"{path}:{number}: {error}")
    except (OSError, EOFError) as error:
        problems.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
    return Rows(rows, problems)


def read_appended(path: Path, kind: type[T]) -> tuple[list[T], int]:
    """Read a file that only ever grows; a last line torn by a crash is dropped and counted.

    Raises DataError when any other line is damaged: such a file was edited, not torn.
    """
    if not path.exists():
        return [], 0
    data = path.read_bytes()
    whole, torn = data.rpartition(b"\n")[0::2]
    records, problems = [], []
    for number, line in enumerate(whole.split(b"\n"), 1):
        if not line:
            continue
        try:
            records.append(decode(line, kind))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise DataError(problems, "the run folder was edited or damaged; start a new run")
    return records, int(bool(torn))


def truncate_torn(path: Path) -> None:
    """Cut a torn last line off, so that the next append starts on a line of its own."""
    if path.exists():
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end != len(data):
            with path.open("r+b") as file:
                file.truncate(end)


def decode(line: bytes, kind: type[T]) -> T:
    """One record from its JSON. Raises ValueError with a sentence that says what is wrong and what to do."""
    try:
        record: T = _adapter(kind).validate_json(line)
        return record
    except ValidationError as error:
        raise ValueError("; ".join(_sentence(e, kind) for e in error.errors()[:4])) from None


def encode(record: object) -> bytes:
    """One record as compact JSON, fields in order, defaults left out; floats round-trip exactly."""
    data: bytes = _adapter(type(record)).dump_json(record, exclude_defaults=True)
    return data


def to_python(record: object) -> Any:
    """A record as plain JSON values, nothing left out."""
    return _adapter(type(record)).dump_python(record, mode="json")


def write_rows(path: Path, records: Iterable[object]) -> None:
    """Write a whole file at once; `path` never holds half of it."""
    write_atomically(path, b"".join(encode(record) + b"\n" for record in records))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` in one step, durable when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def digest(*values: object) -> str:
    """SHA-256 of the canonical JSON of values (sorted keys, no spaces), as hex.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=to_python)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _sentence(error: Any, kind: type) -> str:
    where = ".".join(str(part) for part in error["loc"])
    known = [field.name for field in fields(kind)]
    if error["type"] == "unexpected_keyword_argument":
        near = get_close_matches(where, known, 1)
        advice = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
        return f"unknown key {where!r}: {advice}"
    if error["type"] in {"missing", "missing_argument"}:
        return f"{where!r} is missing"
    if error["type"] == "json_invalid":
        return f"not valid JSON ({error['ctx']['error']})"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}" if where else error["msg"]
