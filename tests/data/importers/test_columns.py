"""Tables and JSON rows: what columns hold is recognised by name or said in [import], and never guessed."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.formats import EVERY, parse, parse_with
from trustescalate.data.importers.files import open_foreign
from trustescalate.data.importers.registry import recognise
from trustescalate.errors import ConfigError, DataError, TrustEscalateError


def _file(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return tmp_path / name


# ── every sample is its own ──────────────────────────────────────────────────────────────────────


NAMED_OTHERWISE = {
    "arena": "chatbot_arena",
    "arena_battles": "chatbot_arena_battles",
    "arena_kaggle": "chatbot_arena_kaggle",
    "arena_wrapped": "chatbot_arena",
    "openai_responses": "openai_batch",
}


@pytest.mark.parametrize(("name", "files"), EVERY)
def test_every_sample_is_recognised_as_its_own_format(name: str, files: tuple[Path, ...]) -> None:
    """A sample is called by its format, with a word on the variant after it."""
    found, _ = recognise([open_foreign(file) for file in files])
    wanted = NAMED_OTHERWISE.get(name, name)
    assert wanted == found.name or wanted.startswith(f"{found.name}_")


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────

ROWS = [
    {"id": "x", "prompt": "2+2?", "response_a": "4", "response_b": "=5+1", "label": 1.0},
    {"id": "y", "prompt": "3+3?", "response_a": "7", "response_b": "6", "label": 2.0},
    {"id": "z", "prompt": "4+4?", "response_a": "8", "response_b": "9", "label": None},
]
COLUMNS = list(ROWS[0])


def _write(path: Path, layout: str) -> Path:
    if layout == "parquet":
        pytest.importorskip("pyarrow")
        import pandas as pd

        pd.DataFrame(ROWS).to_parquet(path)
        return path
    texts = {
        "list": json.dumps(ROWS),
        "lines": "\n".join(map(json.dumps, ROWS)),
        "served": json.dumps(
            {"features": [], "rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]}
        ),
        "split": json.dumps({"columns": COLUMNS, "data": [list(row.values()) for row in ROWS]}),
        "columns": json.dumps({name: [row[name] for row in ROWS] for name in COLUMNS}),
        "csv": ",".join(COLUMNS) + "\n" + "".join(",".join(map(_cell, row.values())) + "\n" for row in ROWS),
    }
    data = texts[layout.removesuffix(".gz")].encode()
    path.write_bytes(gzip.compress(data) if layout.endswith(".gz") else data)
    return path


def _cell(value: object) -> str:
    return "" if value is None else str(value)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("list", "rows.json"),
        ("lines", "rows.jsonl"),
        ("served", "rows.json"),
        ("split", "rows.json"),
        ("columns", "rows.json"),
        ("csv", "rows.csv"),
        ("parquet", "rows.parquet"),
        ("lines.gz", "rows.jsonl.gz"),
        ("columns.gz", "rows.json.gz"),
        ("csv.gz", "rows.csv.gz"),
    ],
)
def test_every_layout_of_a_table_says_the_same(layout: str, name: str, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", _write(tmp_path / name, layout))
    assert list(found.items) == ["x", "y", "z"]
    assert found.items["x"].responses == ("4", "=5+1")
    assert found.annotations == {("x", "annotator"): "A", ("y", "annotator"): "B"}
    assert found.result.refused == 0


def test_rows_that_the_server_cut_are_refused(tmp_path: Path) -> None:
    cut = {"row_idx": 1, "row": ROWS[2], "truncated_cells": ["response_a"]}
    path = _file(tmp_path, "rows.json", json.dumps({"rows": [{"row": ROWS[0]}, {"row": ROWS[1]}, cut]}))
    found = parse(tmp_path / "set", path)
    assert (found.result.items, found.result.refused) == (2, 1)
    assert "cut by the server: ['response_a']" in found.result.rejected[0]


# ── what is said ─────────────────────────────────────────────────────────────────────────────────

SAID = """
[task]
kind = "choice"
labels = ["sound", "unsound"]

[import]
prompt = "asked"
responses = ["said"]
label = "verdict"
labels = { ok = "sound", "not ok" = "unsound" }
"""
JUDGES = """
[[judges]]
name = "j"
backend = "replay"
votes = "v.jsonl"
"""
TABLE = "asked,said,verdict\n2+2?,4,OK\n2+3?,4,not ok\n2+4?,4,perhaps\n"


@pytest.mark.parametrize("said", [SAID, f"version = 1\n{SAID}{JUDGES}"], ids=["columns", "configuration"])
def test_columns_are_named_in_a_file_or_in_the_configuration(said: str, tmp_path: Path) -> None:
    found = parse_with(tmp_path, said, _file(tmp_path, "rows.csv", TABLE))
    assert sorted(found.annotations.values()) == ["sound", "unsound"]
    assert "'perhaps' is not known" in found.result.rejected[0]
    assert "an item's id is a hash" in " ".join(found.result.assumed)


@pytest.mark.parametrize(
    ("said", "error", "why"),
    [
        ('[import]\nprompt = "nowhere"', DataError, "there is no column 'nowhere'"),
        ('[import]\nprmpt = "asked"', ConfigError, "import.prmpt"),
        ("version = 1", ConfigError, "judges is missing"),
        ("[import", ConfigError, "not valid TOML"),
        ('[import]\nprompt = "asked"', DataError, "known to hold a response"),
        (
            '[task]\nkind = "pairwise"\n[import]\nprompt = "asked"\nresponses = ["said"]',
            DataError,
            "has 2 responses",
        ),
        (
            '[import]\nprompt = "asked"\nresponses = ["said"]\nlabel = "verdict"',
            DataError,
            "the labels have no known meaning",
        ),
        (
            '[import]\nprompt = "asked"\nresponses = ["said", "verdict"]\nforward_fill = ["asked"]',
            DataError,
            "forward_fill goes with a group",
        ),
        (
            '[task]\nkind = "rating"\n[import]\nprompt = "asked"\nresponses = ["said"]\n'
            'probabilities = { j = "verdict" }',
            DataError,
            "two labels",
        ),
    ],
)
def test_what_is_said_wrongly_is_named(said: str, error: type[Exception], why: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=why):
        parse_with(tmp_path, said, _file(tmp_path, "rows.csv", TABLE))
    assert not (tmp_path / "set").exists()


def test_a_group_that_was_recognised_is_said(tmp_path: Path) -> None:
    rows = [{**row, "group": "sums"} for row in ROWS]
    found = parse(tmp_path / "set", _file(tmp_path, "rows.json", json.dumps(rows)))
    assert "rows with the same 'group' are clustered: they are one group" in found.result.assumed


def test_formulas_blanks_and_breaks_in_cells_are_data(tmp_path: Path) -> None:
    text = 'id,prompt,response,label\r\nx,"=cmd|\' /C calc\'!A0","  padded  ",1.0\r\ny,"two\nlines",@b,0\r\n'
    found = parse(tmp_path / "set", _file(tmp_path, "rows.csv", text))
    assert found.items["x"].prompt == "=cmd|' /C calc'!A0"
    assert found.items["x"].responses == ("  padded  ",)
    assert found.items["y"].prompt == "two\nlines"
    assert found.annotations == {("x", "annotator"): "pass", ("y", "annotator"): "fail"}


CELL = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["A", "tie"])
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from([*COLUMNS, "annotator", "group"]), CELL), max_size=8))
def test_rows_are_taken_or_counted_and_labels_are_the_tasks(
    rows: Sequence[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("rows")
    path = _file(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, [*ROWS[:2], *rows])))
    try:
        found = parse(tmp_path / "set", path)
    except TrustEscalateError:
        return
    assert set(found.annotations.values()) <= {"A", "B", "tie", "skip"}
    assert found.result.items + found.result.repeated + found.result.refused > len(rows) + 1
    assert len(found.items) == found.result.items
    assert len(found.annotations) == found.result.annotations == sum(found.result.labels.values())


# ── tables as spreadsheets write them ────────────────────────────────────────────────────────────

HEADER = "id,prompt,response_a,response_b,winner"


def test_the_line_by_which_excel_names_its_separator_is_read(tmp_path: Path) -> None:
    text = 'sep=;\r\nid;prompt;response_a;response_b;winner\r\nq1;p?;a, b;"x ""y""\r\nz";A\r\n'
    found = parse(tmp_path / "set", _file(tmp_path, "table.csv", text))
    assert found.items["q1"].responses == ("a, b", 'x "y"\r\nz')


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_separator_is_found_outside_of_quotes(mark: str, tmp_path: Path) -> None:
    names = mark.join(['"id"', '"prompt, or question"', "response_a", "response_b", "winner"])
    text = f"{names}\n{mark.join('qpxyA')}\n"
    path = _file(tmp_path, "table.csv", text.replace("prompt, or question", "prompt"))
    assert list(parse(tmp_path / "set", path).items) == ["q"]
    assert open_foreign(_file(tmp_path, "other.csv", text)).columns[1] == "prompt, or question"


def test_columns_of_one_name_are_refused_where_they_differ(tmp_path: Path) -> None:
    path = _file(tmp_path, "table.csv", f"{HEADER},winner\nq1,p,x,y,A,B\nq2,p2,x,y,B,B\n")
    with pytest.raises(DataError, match="two columns are named 'winner', and differ: 'A' and 'B'") as caught:
        parse(tmp_path / "refused", path)
    assert "'winner' and 'winner.6'" in caught.value.hint
    names = '[import]\nannotators = { ann = "winner", bob = "winner.6" }\n'
    found = parse_with(tmp_path, names, path)
    assert (found.annotations["q1", "ann"], found.annotations["q1", "bob"]) == ("A", "B")


def test_columns_of_one_name_are_one_where_they_agree(tmp_path: Path) -> None:
    same = "".join(f"q{row},p{row},x,y,A,A\n" for row in range(70))
    path = _file(tmp_path, "table.csv", f"{HEADER},winner\n{same}q70,p,x,y,A,B\n")
    found = parse(tmp_path / "set", path)
    assert (found.result.annotations, found.result.refused) == (70, 1)


def test_an_id_that_is_no_name_is_replaced(tmp_path: Path) -> None:
    rows = "".join(f"{name},p{place},x,y,A\n" for place, name in enumerate(["", " ", "nan", "NaN", "None"]))
    found = parse(tmp_path / "set", _file(tmp_path, "table.csv", f"{HEADER}\n{rows}"))
    assert (len(found.items), found.result.refused) == (5, 0)


@pytest.mark.parametrize("end", ["q2,p,x", 'q2,p,x,y,"A', 'q2,"p'])
def test_a_table_that_is_cut_in_its_last_row_says_so(end: str, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", _file(tmp_path, "table.csv", f"{HEADER}\nq1,p1,x,y,A\n{end}"))
    assert list(found.items) == ["q1"]
    assert "table.csv:3: the last row is cut" in found.result.rejected[0]


def test_a_last_row_that_is_whole_needs_no_line_end(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", _file(tmp_path, "table.csv", f'{HEADER}\nq1,"a ""b"" c",x,y,A'))
    assert found.items["q1"].prompt == 'a "b" c'


def test_columns_that_were_left_out_are_named(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", _file(tmp_path, "table.csv", f"{HEADER},note,cost\nq1,p,x,y,A,n,1\n"))
    assert found.result.left_out == ("cost", "note")


# ── further draws ────────────────────────────────────────────────────────────────────────────────

JUDGES = '[import]\nlabel = "winner"\njudges = { m = "verdict" }\n'


def test_a_second_verdict_of_a_judge_is_a_further_vote(tmp_path: Path) -> None:
    rows = "q1,p,x,y,,A\nq2,p2,x,y,,B\nq1,p,x,y,,A\nq1,p,x,y,,B\n"
    path = _file(tmp_path, "table.csv", f"{HEADER},verdict\n{rows}")
    found = parse_with(tmp_path, JUDGES, path)
    assert found.votes("q1", "m") == [("", "A"), ("", "A"), ("", "B")]
    assert [vote.exemplar_set for vote in found.judgments["q1", "m"].votes] == [0, 1, 2]
    assert (found.judgments["q1", "m"].planned, found.judgments["q2", "m"].planned) == (3, 1)
    assert (found.result.judges["m"].judgments, found.result.judges["m"].votes) == (2, 4)
    assert found.result.refused == 0


def test_a_verdict_that_is_repeated_beside_another_annotator_is_one_vote(tmp_path: Path) -> None:
    rows = "q1,p,x,y,A,A,ann\nq1,p,x,y,B,A,bob\nq1,p,x,y,A,B,cyd\n"
    path = _file(tmp_path, "table.csv", f"{HEADER},verdict,annotator\n{rows}")
    found = parse_with(tmp_path, JUDGES, path)
    assert found.votes("q1", "m") == [("", "A"), ("", "B")]
    assert len(found.annotations) == 3


def test_files_of_different_tasks_are_not_one_set(tmp_path: Path) -> None:
    pair = _file(tmp_path, "pairs.csv", f"{HEADER}\nq1,p,x,y,A\n")
    single = _file(tmp_path, "single.csv", "id,prompt,response,label\nq2,p,x,pass\n")
    with pytest.raises(DataError, match="different tasks"):
        parse(tmp_path / "set", single, pair)
