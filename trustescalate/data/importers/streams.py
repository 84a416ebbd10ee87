"""Read the text of untrusted files piece by piece: bytes in UTF-8, JSON values, the elements of a list."""

import codecs
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic_core import from_json

from trustescalate.records.bounded import LARGEST_VALUE, must_fit, open_file, too_large

BUFFER = 1 << 16
"""Bytes per read or write."""
MOST_AT_ONCE = 1 << 23
UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeError)
_ENCODINGS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[{}\[\],]', re.DOTALL)
_QUOTE, _COMMA = b'",'
_LONGEST_REASON = 400


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
        return f"{self.file}:{self.place}: {self.why[:_LONGEST_REASON]}"


class Unusable(Exception):
    """An unusable record, with the reason. It becomes a `Rejected`."""


def open_utf8(path: Path) -> IO[bytes]:
    """Open a text as UTF-8, whatever its byte order mark says it is, without the mark."""
    with open_file(path) as file:
        start = file.read(4)
    encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), "utf-8")
    file = open_file(path)
    if not encoding.startswith("utf-8"):
        return io.BufferedReader(_Recoded(file, encoding), BUFFER)
    file.read(3 if encoding == "utf-8-sig" else 0)
    return file


class _Recoded(io.RawIOBase):
    """A text of another encoding as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder(encoding)()
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            data = self._file.read(BUFFER)
            text = self._decoder.decode(data, final=not data)
            self._left = text.encode("utf-8", "surrogatepass")
            if not data and not self._left:
                return 0
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def parse_json(data: bytes) -> Any:
    """A JSON value. Raises ValueError for other text, OSError for a value too large."""
    return from_json(must_fit(data), cache_strings="keys")


def elements(file: IO[bytes]) -> Iterator[bytes]:
    """The elements of a JSON list, as they stand; what follows the list comes as one more, which is no JSON.

    >>> list(elements(io.BytesIO(b'[1, {"a": "],"}]')))
    [b'1', b' {"a": "],"}']
    """
    buffer, at, depth = b"", 0, 0  # from the current element on; what is scanned of it; open brackets
    while data := file.read(min(max(BUFFER, len(buffer)), MOST_AT_ONCE)):
        buffer, start = buffer + data, 0
        for token in _STRUCTURE.finditer(buffer, at):
            at, mark = token.end(), buffer[token.start()]
            if mark == _QUOTE and not token[1]:  # the string goes on in what is not read yet
                at = token.start()
                break
            if mark in b"{[":
                depth += 1
                start = at if depth == 1 else start
            elif depth > 1:
                depth -= mark in b"}]"
            elif mark != _QUOTE:
                element, start = buffer[start : token.start()], at
                if mark == _COMMA or element.strip():
                    yield element
                if mark != _COMMA:
                    yield from _after(bytes([mark]), buffer[at:] + file.read(BUFFER))
                    return
        else:
            at = len(buffer)
        buffer, at = buffer[start:], at - start
        if len(buffer) > LARGEST_VALUE:
            raise too_large("an element", LARGEST_VALUE, "leave that record out, or shorten it")
    yield b"[" + buffer  # the list does not end


def _after(mark: bytes, rest: bytes) -> list[bytes]:
    """What follows a list as a text that is no JSON, unless it is blank."""
    return [] if mark == b"]" and not rest.strip() else [mark + rest[:80]]


def why(error: BaseException) -> str:
    """A reason in words."""
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding} at byte {error.start + 1}; save it as UTF-8"
    if isinstance(error, ValueError):
        return f"not valid JSON: {str(error).replace(' at line 1 column', ', column')}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
