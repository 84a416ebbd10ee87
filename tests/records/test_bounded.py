"""Files that others made are regular files, and nothing of them is larger than a limit."""

import gzip
import io
import os
from pathlib import Path

import pytest

from trustescalate.config import load_config
from trustescalate.errors import ConfigError
from trustescalate.records import Item
from trustescalate.records import bounded as limits
from trustescalate.records.bounded import memory_of, must_fit, open_file, read_lines, read_text, read_whole
from trustescalate.records.jsonl import read_rows


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe or a device") as caught:
            open_file(path)
        assert caught.value.filename == str(path)
        assert read_rows(path, Item).problems == [f"{path}: cannot be read: {caught.value.strerror}"]
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    with path.open("wb") as file:
        file.truncate(100_000_000_000)  # a hole: it takes no disk
    with pytest.raises(OSError, match=r"is larger than 64,000,000,000 bytes; split it"):
        open_file(path)


def test_the_limit_holds_for_what_comes_out_of_a_compressed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGEST_FILE", 1_000_000)
    path = tmp_path / "items.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 2_000_000))
    (problem,) = read_rows(path, Item).problems
    assert "data of more than 1,000,000 bytes; split it" in problem


def test_a_line_is_as_long_as_a_value_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_VALUE", 10)
    assert list(read_lines(io.BytesIO(b"123456789\n\n1"))) == [b"123456789\n", b"\n", b"1"]
    with pytest.raises(OSError, match="a line of more than 10 bytes"):
        list(read_lines(io.BytesIO(b"a\n12345678901\n")))
    monkeypatch.setattr(limits, "MOST_ROWS", 2)
    assert len(list(read_lines(io.BytesIO(b"\n\n")))) == 2
    with pytest.raises(OSError, match="more than 2 lines"):
        list(read_lines(io.BytesIO(b"\n\n\n")))


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b",".join([b'{"":{"":{"":1}}}'] * 100_000) + b"]",
        b'{"k":[' + b",".join([b"[]"] * 600_000) + b"]}",
        b'{"' + b"a" * 1_200_000 + "\N{GRINNING FACE}".encode() + b'":1}',
        b'{"a":"' + rb"\ud83d\ude00" * 200_000 + b'"}',
    ],
)
def test_a_value_that_grows_in_memory_is_refused_by_its_text(text: bytes) -> None:
    with pytest.raises(OSError, match="JSON lines"):
        must_fit(text, 4_500_000)
    assert must_fit(text) == text


def test_prose_counts_as_its_length() -> None:
    text = b'{"a": "' + b"A sentence, with commas [and brackets {and all, of it}]. " * 100_000 + b'"}'
    assert must_fit(text, len(text) + 2000) == text
    assert memory_of({"a": ["x" * 100, 1]}) < 1000


def test_a_configuration_of_a_gigabyte_is_refused_with_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "trustescalate.toml"
    with path.open("wb") as file:
        file.truncate(1_000_000_000)
    with pytest.raises(ConfigError, match=r"is larger than 1,000,000 bytes"):
        load_config(path)
    (tmp_path / "rubric.txt").write_bytes(b"\xef\xbb\xbfBe fair.\r\n")
    assert read_text(tmp_path / "rubric.txt") == "Be fair.\n"
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_whole(tmp_path / "rubric.txt", 3)
