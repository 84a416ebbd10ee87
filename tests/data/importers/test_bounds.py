"""What comes in is bounded: archives, compressed files, rows and documents end with the limit named."""

import gzip
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.formats import parse
from trustescalate.data.importers import archives, streams, tables
from trustescalate.data.importers.files import open_foreign
from trustescalate.errors import DataError

ROW = {"id": "q", "prompt": "p", "response_a": "x", "response_b": "y", "winner": "A"}
HEADER = "id,prompt,response_a,response_b,winner\n"
LONG = b"a" * 66_000_000


def _lines(path: Path) -> Path:
    path.write_bytes(gzip.compress(json.dumps(ROW).encode() + b'\n{"id": "' + LONG, 1))
    return path


def _list(path: Path) -> Path:
    path.write_bytes(gzip.compress(b"[" + json.dumps(ROW).encode() + b',{"id": "' + LONG, 1))
    return path


def _table(path: Path) -> Path:
    path.write_bytes(gzip.compress(f'{HEADER}q,p,x,y,A\nr,"'.encode() + b"a\n" * 5_000_000, 1))
    return path


def _archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("header.json", "{}")
        archive.writestr("samples/1.json", LONG)
    return path


def _liar(path: Path) -> Path:
    """A member that says it is small."""
    data = bytearray(_archive(path).read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    return path


def _crowd(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for place in range(archives.MOST_MEMBERS + 1):
            archive.writestr(f"{place}", b"")
    return path


@pytest.mark.parametrize(
    ("make", "name", "limit"),
    [
        (_lines, "x.jsonl.gz", "a line of more than 64,000,000 bytes"),
        (_list, "x.json.gz", "an element of more than 64,000,000 bytes"),
        (_table, "x.csv.gz", "a row of more than 8,000,000 characters; is a quote left open"),
        (_archive, "x.eval", "the member 'samples/1.json' of more than 64,000,000 bytes"),
        (_crowd, "x.eval", "an archive of more than 100,000 members"),
    ],
)
def test_a_bomb_ends_with_its_limit_and_writes_nothing(
    make: Callable[[Path], Path], name: str, limit: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=limit) as caught:
        parse(tmp_path / "set", make(tmp_path / name))
    assert caught.value.exit_code == 2
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_member_that_lies_about_its_size_is_read_no_further(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"samples/1\.json"):
        parse(tmp_path / "set", _liar(tmp_path / "x.eval"))


def test_all_members_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST_FILE", 1000)
    with zipfile.ZipFile(tmp_path / "x.eval", "w") as archive:
        for place in range(3):
            archive.writestr(f"samples/{place}.json", json.dumps({"id": "a" * 400}))
    with pytest.raises(DataError, match="members of more than 1,000 bytes"):
        parse(tmp_path / "set", tmp_path / "x.eval")


def test_a_reader_that_holds_its_records_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"id": 1, "data": {"prompt": "p", "response_a": "x" * 900, "response_b": "y"}, "annotations": []}
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{**task, "id": place} for place in range(20)]), "utf-8")
    assert len(parse(tmp_path / "set", path).items) == 20
    monkeypatch.setattr("trustescalate.data.importers.files.MOST_MEMORY", 20_000)
    with pytest.raises(DataError, match="records of more than 20,000 bytes in memory; split it"):
        parse(tmp_path / "other", path)


def test_pages_and_dictionaries_of_parquet_are_bounded(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 50), pyarrow.array(["a" * 2_000_000]))
    table = pyarrow.table({"prompt": texts, "response_a": ["x"] * 50, "response_b": ["y"] * 50})
    parquet.write_table(table, tmp_path / "dictionary.parquet", compression="zstd")
    path = tmp_path / "dictionary.parquet"
    with parquet.ParquetFile(path) as file, path.open("rb") as data:
        assert tables._rows_at_once(data, file.metadata.row_group(0)) == 15
    assert sum(1 for _ in open_foreign(tmp_path / "dictionary.parquet").records()) == 50
    plain = pyarrow.table({"prompt": ["a" * 70_000_000], "response_a": ["x"], "response_b": ["y"]})
    parquet.write_table(plain, tmp_path / "page.parquet", use_dictionary=False, compression="zstd")
    with pytest.raises(DataError, match="a page of 'prompt' of more than 64,000,000 bytes"):
        open_foreign(tmp_path / "page.parquet")


def test_the_elements_of_a_list_are_found_wherever_a_read_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{'a,"]': ["x\\", "é🙂", {}]}, '\\"[', 1.5, None, [], [[',"']]]
    for ascii_only in (True, False):
        (tmp_path / "list.json").write_text(json.dumps(rows, ensure_ascii=ascii_only), "utf-8")
        for size in (1, 2, 3, 7, 64):
            monkeypatch.setattr(streams, "BUFFER", size)
            monkeypatch.setattr(streams, "MOST_AT_ONCE", size)
            found = [record.value for record in open_foreign(tmp_path / "list.json").records()]
            assert found == rows


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}', '[{"a": 1}} ', '[{"a": 1}] {"a": 2}', '[{"a": "1}'])
def test_a_list_that_is_cut_or_goes_on_costs_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"list\.json: element \d: not valid JSON"):
        open_foreign(tmp_path / "list.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        b'{"k":[' + b",".join([b'{"":' * 50 + b"1" + b"}" * 50] * 100_000) + b"]}",
        b"[" + b",".join([json.dumps({**ROW, "prompt": "p" * 2_000_000}).encode()] * 120) + b"]",
        b'{"k":"' + b"a" * 28_000_000 + "\N{GRINNING FACE}".encode() + b'"}',
    ],
    ids=["objects", "long texts", "wide characters"],
)
def test_memory_stays_below_400_mb(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text)
    code = (
        "import sys; from pathlib import Path\n"
        "from trustescalate.data.import_files import import_files\n"
        "from trustescalate.errors import DataError\n"
        "try: import_files([Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "except DataError as error: print(error)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    files = [str(tmp_path / "x.json"), str(tmp_path / "set")]
    shown = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    assert int(shown.stdout.splitlines()[-1]) < 400_000
