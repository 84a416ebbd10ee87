"""Read the JSON members of zip archives. Their names are never used as paths, their sizes never believed."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trustescalate.data.importers.streams import Record, Rejected, parse_json
from trustescalate.records.bounded import LARGEST_FILE, LARGEST_VALUE, is_too_large, open_file, too_large

MOST_MEMBERS = 100_000
LARGEST_LIST = 32_000_000
"""Of the list of members, in bytes."""
ZSTD = 93
"""The number of Zstandard, which Inspect AI writes and this Python's zipfile does not read."""


def read_members(path: Path) -> Iterator[Record | Rejected]:
    """Yield every JSON member as {"member": its name, "value": …}."""
    left = LARGEST_FILE
    with open_file(path) as file:
        _check_list(file)
        archive = _open(file)
        if sum(info.file_size for info in archive.infolist()) > LARGEST_FILE:
            raise too_large("members", LARGEST_FILE, "split it")
        for info in archive.infolist():
            if not info.filename.endswith(".json"):
                continue
            try:
                data = _member(archive, info)
                value = parse_json(data)
            except OSError as error:
                if is_too_large(error):
                    raise too_large(f"the member {info.filename[:80]!r}", LARGEST_VALUE, _ADVICE) from None
                yield Rejected(str(path), info.filename, f"cannot be read: {error}")
                continue
            except (ValueError, EOFError, NotImplementedError, RuntimeError, *_DAMAGED) as error:
                yield Rejected(str(path), info.filename, f"cannot be read: {error}")
                continue
            left -= len(data)
            if left < 0:
                raise too_large("members", LARGEST_FILE, "split it")
            yield Record(info.filename, {"member": info.filename, "value": value})


_ADVICE = "leave that record out of the log"
_DAMAGED = (zipfile.BadZipFile, zlib.error)


def _open(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (NotImplementedError, ValueError) as error:  # of another version, or of lengths that cannot be
        raise zipfile.BadZipFile(str(error)) from None


def _check_list(file: IO[bytes]) -> None:
    """Refuse an archive whose list of members would not fit into memory: it is read at once."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 100))
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        return
    count, length = (int.from_bytes(tail[end + at : end + to], "little") for at, to in ((10, 12), (12, 16)))
    wide = tail.rfind(b"PK\x06\x06", 0, end)
    if wide >= 0 and 0xFFFF_FFFF in (length, count | 0xFFFF_0000):
        count, length = (int.from_bytes(tail[wide + at : wide + at + 8], "little") for at in (32, 40))
    if count > MOST_MEMBERS or length > LARGEST_LIST:
        raise too_large("an archive", MOST_MEMBERS, "split it", "members")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type == ZSTD:
        data = _zstd(archive, info)
    elif info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with archive.open(info) as file:
            data = file.read(LARGEST_VALUE + 1)
    else:
        raise ValueError(f"compressed in a way that is not read (method {info.compress_type})")
    if len(data) > LARGEST_VALUE:
        raise too_large("a member", LARGEST_VALUE, _ADVICE)
    return data


def _zstd(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise ValueError("zstd needs a library: pip install 'trustescalate[formats]'") from None
    assert archive.fp is not None
    archive.fp.seek(info.header_offset)
    local = archive.fp.read(30)
    skip = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    archive.fp.seek(info.header_offset + 30 + skip)
    packed = archive.fp.read(min(info.compress_size, LARGEST_VALUE))
    try:
        unpacking = zstandard.ZstdDecompressor(max_window_size=LARGEST_VALUE)
        with unpacking.stream_reader(io.BytesIO(packed)) as file:
            return file.read(LARGEST_VALUE + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
