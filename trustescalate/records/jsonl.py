"""Records as lines of JSON: read with every bad line named, written exactly, digested canonically."""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from trustescalate.errors import DataError
from trustescalate.records.bounded import must_fit, open_file, read_lines
from trustescalate.records.messages import BadMessage

MOST_MEMORY = 500_000_000
"""Of one record or file of our own, in bytes."""
MOST_PROBLEMS = 100_000
"""Bad lines after which a file is not read further."""
LONGEST_PROBLEM = 500
SCANNED = 1 << 16
T = TypeVar("T")


class _Adapters(dict[Any, TypeAdapter[Any]]):
    """Type adapters by kind of record, each made when it is first needed."""

    def __init__(self, make: Callable[[Any], TypeAdapter[Any]]) -> None:
        self._make = make

    def __missing__(self, kind: Any) -> TypeAdapter[Any]:
        self[kind] = adapter = self._make(kind)
        return adapter


def _for_writing(kind: Any) -> TypeAdapter[Any]:
    """Of a tuple with one record: a dataclass by itself takes no configuration."""
    return TypeAdapter(tuple[kind], config=ConfigDict(ser_json_inf_nan="constants"))


_ADAPTERS, _WRITERS = _Adapters(TypeAdapter), _Adapters(_for_writing)


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
                problems.append(f"{path}:{number}: {str(error)[:LONGEST_PROBLEM]}")
                if len(problems) >= MOST_PROBLEMS:
                    problems.append(f"{path}: not read further after so many; is it the right file?")
                    break
    except (OSError, EOFError, zlib.error) as error:
        after = f" after line {rows[-1].line}" if rows else ""
        problems.append(f"{path}: cannot be read{after}: {getattr(error, 'strerror', None) or error}")
    return Rows(rows, problems)


def read_appended(path: Path, kind: type[T]) -> tuple[list[T], int]:
    """Read a file that only ever grows; a last line torn by a crash is dropped and counted.

    Raises DataError when any other line is damaged: such a file was edited, not torn.
    """
    if not path.exists():
        return [], 0
    records, problems, torn = list[T](), list[str](), 0
    for number, line in _lines(path):
        if not line.endswith(b"\n"):
            torn = 1
        elif line != b"\n":
            try:
                records.append(decode(line, kind))
            except ValueError as error:
                problems.append(f"{path}:{number}: {error}")
    if problems:
        raise DataError(problems, "the run folder was edited or damaged; start a new run")
    return records, torn


def truncate_torn(path: Path) -> None:
    """Cut a torn last line off, so that the next append starts on a line of its own."""
    if path.exists():
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            size, newline = end, 0
            while end and not newline:
                start = max(0, end - SCANNED)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n") + 1
                end = start + newline
            if end != size:
                file.truncate(end)


def decode(line: bytes, kind: type[T]) -> T:
    """One record from its JSON. Raises ValueError with a sentence that says what is wrong and what to do."""
    try:
        record: T = _ADAPTERS[kind].validate_json(must_fit(line, MOST_MEMORY))
        return record
    except OSError as error:
        raise ValueError(error.strerror) from None
    except ValidationError as error:
        raise ValueError("; ".join(_sentences(error.errors(include_url=False), kind))) from None


def encode(record: object) -> bytes:
    """One record as compact JSON, fields in order, defaults left out; floats round-trip exactly, -inf too."""
    return _WRITERS[type(record)].dump_json((record,), exclude_defaults=True)[1:-1]


def to_python(record: object) -> Any:
    """A record as plain JSON values, nothing left out."""
    return _ADAPTERS[type(record)].dump_python(record, mode="json")


def write_rows(path: Path, records: Iterable[object]) -> None:
    """Write a whole file at once; `path` never holds half of it."""
    write_atomically(path, (encode(record) + b"\n" for record in records))


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace `path` in one step: whenever this is killed, it holds the old data or the new.

    Lines are written as they come, so that a file may be larger than the memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:  # never through a link that waits at this name
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def digest(*values: object) -> str:
    """SHA-256 of the canonical JSON of values (sorted keys, no spaces), as hex.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(canonical(values).encode()).hexdigest()


class ListDigest:
    """`digest` of a list of values that are added one by one.

    >>> values = ListDigest()
    >>> for value in ({"b": 1, "a": 2}, "x"):
    ...     values.add(value)
    >>> values.hexdigest() == digest([{"b": 1, "a": 2}, "x"])
    True
    """

    def __init__(self) -> None:
        self._hash, self._before = hashlib.sha256(b"[["), b""

    def add(self, value: object) -> None:
        """Append a value."""
        self._hash.update(self._before + canonical(value).encode())
        self._before = b","

    def hexdigest(self) -> str:
        """The digest of the list so far."""
        whole = self._hash.copy()
        whole.update(b"]]")
        return whole.hexdigest()


def canonical(value: object) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, NaN refused."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, default=to_python)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open_file(path) as file:
        for number, line in enumerate(read_lines(file), 1):
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _sentences(errors: list[Any], kind: type) -> Iterator[str]:
    """One sentence an error; a list where a text or a list may stand is not told that it is no text."""
    for error in errors:
        if not (error["loc"][-1:] == ("str",) and isinstance(error["input"], list)):
            yield _sentence(error, kind)


def _sentence(error: Any, kind: type) -> str:
    # pydantic names the alternatives of a union (`str`, `tuple[Turn, ...]`) as if they were keys.
    where = ".".join(str(part) for part in error["loc"] if part != "str" and "[" not in str(part))
    if error["type"] == "unexpected_keyword_argument":
        known = _known(kind, error["loc"][:-1])
        near = get_close_matches(error["loc"][-1], known, 1)
        advice = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
        return f"unknown key {where!r}: {advice}"
    if error["type"] in {"missing", "missing_argument"}:
        return f"{where!r} is missing"
    if error["type"] == "value_error":
        why = error["ctx"]["error"]
        return f"{where}.{why}" if isinstance(why, BadMessage) else str(why)
    if error["type"] == "json_invalid":
        why = error["ctx"]["error"].replace("invalid unicode code point", "not UTF-8")
        return f"not valid JSON ({why.replace(' at line 1 column', ', column')})"
    return f"{where or 'a line'} {error['msg'].replace('Input should', 'must')}"


def _known(kind: Any, place: tuple[Any, ...]) -> list[str]:
    """The keys of the record that stands at a place in another."""
    for part in place:
        hints = get_type_hints(kind)
        kind = next(_records(hints[part]), kind) if part in hints else kind
    return [field.name for field in fields(kind)]


def _records(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from _records(inner)
