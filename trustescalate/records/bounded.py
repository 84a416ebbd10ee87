"""Read files that others may have made: regular ones only, and no more of them than a limit.

Limits hold for what comes out of a compressed file, while it is read. What is over a limit raises an OSError
whose `strerror` names the limit and the way on.
"""

import errno
import gzip
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

LARGEST_FILE = 4_000_000_000
"""What comes out of a compressed file or an archive."""
LARGEST_PLAIN = 64_000_000_000
"""A plain file, which is read line by line."""
LARGEST_VALUE = 64_000_000
"""Of a line, a JSON value or an archive member."""
LARGEST_TEXT = 1_000_000
"""Of a configuration, a rubric or a prompt."""
MOST_ROWS = 10_000_000
MOST_MEMORY = 120_000_000
"""Of a JSON value as Python objects, which can be 40 times its text."""
SMALL = 1_000_000
"""A JSON text of which no more than 40 MB can come."""
_BUFFER = 1 << 16
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[{\[,]', re.DOTALL)
_OBJECT, _LIST, _PLACE, _TEXT = 200, 80, 64, 56
"""In bytes, of what a token starts."""
_WIDE, _WIDEST = re.compile(rb"[\xc4-\xef]|\\u"), re.compile(rb"[\xf0-\xff]|\\u[dD]")


def too_large(what: str, limit: int, advice: str, unit: str = "bytes") -> OSError:
    """The error of something over its limit."""
    return OSError(errno.EFBIG, f"holds {what} of more than {limit:,} {unit}; {advice}")


def is_too_large(error: OSError) -> bool:
    """Whether an error is one of `too_large`."""
    return error.errno == errno.EFBIG


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file; one that ends in .gz is decompressed. Raises OSError, also for one too large."""
    # A pipe without a writer would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    number = os.open(path, flags)
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        os.close(number)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "is a pipe or a device; save it as a file first", str(path))
    if status.st_size > LARGEST_PLAIN:
        os.close(number)
        raise OSError(errno.EFBIG, f"is larger than {LARGEST_PLAIN:,} bytes; split it", str(path))
    file = os.fdopen(number, "rb", _BUFFER)
    return io.BufferedReader(_Unpacked(file), _BUFFER) if path.suffix.lower() == ".gz" else file


class _Unpacked(io.RawIOBase):
    """What comes out of a .gz file, up to the limit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._packed, self._left = file, gzip.GzipFile(fileobj=file), LARGEST_FILE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._packed.readinto(buffer)
        self._left -= size
        if self._left < 0:
            raise too_large("data", LARGEST_FILE, "split it")
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def read_whole(path: Path, limit: int = LARGEST_VALUE) -> bytes:
    """All bytes of a file."""
    with open_file(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit:,} bytes; is it the right file?", str(path))
    return data


def read_text(path: Path) -> str:
    """A text that a human wrote, in UTF-8; a byte order mark is left out."""
    return read_whole(path, LARGEST_TEXT).decode("utf-8-sig").replace("\r\n", "\n")


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, each with its end."""
    for _ in range(MOST_ROWS):
        line = file.readline(LARGEST_VALUE + 1)
        if not line:
            return
        if len(line) > LARGEST_VALUE:
            raise too_large("a line", LARGEST_VALUE, "leave that record out, or shorten it")
        yield line
    if file.read(1):
        raise OSError(errno.EFBIG, f"holds more than {MOST_ROWS:,} lines; split it")


def must_fit(data: bytes, limit: int = MOST_MEMORY) -> bytes:
    """Return the text of a JSON value if its objects fit into memory; else raise OSError."""
    if len(data) > LARGEST_VALUE:
        raise too_large("one JSON value", LARGEST_VALUE, "write its records as JSON lines")
    if len(data) > SMALL and _memory(data, limit) > limit:
        raise too_large("one JSON value", limit, "write its records as JSON lines", "bytes in memory")
    return data


def _memory(data: bytes, limit: int) -> int:
    """An estimate of the memory of a JSON value, in bytes; counted no further than the limit."""
    total = 0
    for token in _TOKEN.finditer(data):
        start, end = token.span()
        if data[start] == 34:
            text = token.group()
            width = 4 if _WIDEST.search(text) else 2 if _WIDE.search(text) else 1
            total += _TEXT + width * (end - start)
        else:
            total += _OBJECT if data[start] == 123 else _LIST if data[start] == 91 else _PLACE
        if total > limit:
            break
    return total


def memory_of(value: Any) -> int:
    """The memory of a JSON value, in bytes, about."""
    if isinstance(value, str):
        return _TEXT + len(value) * (1 if value.isascii() else 4)
    if isinstance(value, dict):
        return _OBJECT + sum(_PLACE + len(key) + memory_of(each) for key, each in value.items())
    return _LIST + sum(map(memory_of, value)) if isinstance(value, list) else 32
