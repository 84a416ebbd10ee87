"""Damaged copies of files: a clear error or counted refusals, never a traceback, never a wrong label."""

import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import EVERY, Parsed, parse
from trustescalate.errors import DataError, TrustEscalateError

Files = tuple[Path, ...]
TEXTUAL = [".json", ".jsonl", ".csv"]
JSON = [".json", ".jsonl"]


def _holds_no_more_than(part: Parsed, whole: Parsed) -> bool:
    """Whether everything that was taken from a damaged copy is what the whole one says."""
    return (
        part.items.items() <= whole.items.items()
        and part.annotations.items() <= whole.annotations.items()
        and all(whole.judgments.get(key) == row for key, row in part.judgments.items())
    )


def _without_last(part: Parsed) -> Parsed:
    """All but the last item: where a table is cut, nothing tells that its last row is not whole."""
    last = next(reversed(part.items))
    return part._replace(
        items={key: item for key, item in part.items.items() if key != last},
        annotations={key: label for key, label in part.annotations.items() if key[0] != last},
        judgments={key: row for key, row in part.judgments.items() if key[0] != last},
    )


def _copy(files: Files, folder: Path, data: bytes) -> list[Path]:
    first, *others = files
    folder.mkdir(parents=True, exist_ok=True)
    (folder / first.name).write_bytes(data)
    return [folder / first.name, *others]


def _ending(suffixes: Sequence[str]) -> list[Any]:
    return [each for each in EVERY if each.values[1][0].suffix in suffixes]


def _plain(label: str) -> str:
    """A grade, whether or not some lost record graded in parts."""
    return {"correct": "pass", "incorrect": "fail"}.get(label, label)


def _parsed_or_refused(folder: Path, files: list[Path]) -> Parsed | None:
    try:
        return parse(folder, *files)
    except DataError:
        return None


@pytest.mark.parametrize(("name", "files"), EVERY)
def test_a_truncated_copy_gives_an_error_or_fewer_records(name: str, files: Files, tmp_path: Path) -> None:
    whole = parse(tmp_path / "whole", *files)
    data = files[0].read_bytes()
    for place, cut in enumerate([1, len(data) // 3, len(data) // 2, len(data) - 40, len(data) - 2]):
        part = _parsed_or_refused(tmp_path / f"out{place}", _copy(files, tmp_path / f"in{place}", data[:cut]))
        if part is not None and files[0].suffix == ".csv":
            part = _without_last(part)
        assert part is None or _holds_no_more_than(part, whole) or part.result.refused


@pytest.mark.parametrize(("name", "files"), _ending(TEXTUAL))
def test_another_encoding_says_the_same(name: str, files: Files, tmp_path: Path) -> None:
    whole = parse(tmp_path / "whole", *files)
    text = files[0].read_bytes().decode("utf-8-sig")
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le"):
        mark = b"\xff\xfe" if encoding == "utf-16-le" else b""
        copy = _copy(files, tmp_path / f"in-{encoding}", mark + text.encode(encoding))
        again = parse(tmp_path / encoding, *copy)
        assert again[1:] == whole[1:]


@pytest.mark.parametrize(("name", "files"), _ending(JSON))
def test_lines_that_end_as_on_windows_say_the_same(name: str, files: Files, tmp_path: Path) -> None:
    whole = parse(tmp_path / "whole", *files)
    data = files[0].read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert parse(tmp_path / "again", *_copy(files, tmp_path / "in", data))[1:] == whole[1:]


@pytest.mark.parametrize(("name", "files"), EVERY)
def test_a_corrupted_copy_never_ends_in_a_traceback(name: str, files: Files, tmp_path: Path) -> None:
    whole = parse(tmp_path / "whole", *files)
    data = files[0].read_bytes()
    rng = random.Random(0)
    for trial in range(12):
        bad = bytearray(data)
        for _ in range(20):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        part = _parsed_or_refused(tmp_path / f"out{trial}", _copy(files, tmp_path / f"in{trial}", bytes(bad)))
        if part is not None:  # texts may have changed with their bytes; labels hardly ever do
            shared = part.annotations.keys() & whole.annotations.keys()
            changed = [
                key for key in shared if _plain(part.annotations[key]) != _plain(whole.annotations[key])
            ]
            assert len(changed) <= 1, changed


@pytest.mark.parametrize(
    "junk", [b"", b"\n\n", b"\x00" * 99, b"{", b"[", b"[]", b"{}", b"null", b"<html>", b"\xff\xfe"]
)
def test_what_is_no_file_of_any_tool_is_refused_by_name(junk: bytes, tmp_path: Path) -> None:
    for suffix in (".json", ".jsonl", ".csv", ".parquet", ".eval", ".json.gz"):
        path = tmp_path / f"junk{suffix}"
        path.write_bytes(junk)
        with pytest.raises(TrustEscalateError, match="junk") as caught:
            parse(tmp_path / "out", path)
        assert caught.value.exit_code == 2
        assert not (tmp_path / "out").exists()
    assert json.dumps([each.name for each in tmp_path.iterdir() if each.is_dir()]) == "[]"


@pytest.mark.parametrize(("offset", "value"), [(6, 197), (42, 0xFFFF_FFF0), (8, 1)])
def test_an_archive_of_another_kind_is_refused_by_name(offset: int, value: int, tmp_path: Path) -> None:
    """A later version of zip; a member that begins beyond the end; one that is encrypted."""
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + offset
    size = 4 if offset == 42 else 2
    data[place : place + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"log\.eval"):
        parse(tmp_path / "set", path)
