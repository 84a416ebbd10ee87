"""Tables and JSON rows: what columns hold is recognised by name or said in [import], and never guessed."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.importers.samples import FOLDER, SAMPLES, Parsed, begins, expected, parse
from trustescalate.data.importers.files import open_foreign
from trustescalate.data.importers.registry import recognise
from trustescalate.errors import ConfigError, DataError, TrustEscalateError

REAL = pytest.mark.skipif(not FOLDER.exists(), reason="the shared data is not here")
CSV = FOLDER / "csv_pairwise"
RANKINGS = """
[task]
kind = "pairwise"

[import]
prompt = "column_1"
context = "column_2"
responses = ["column_3", "column_4"]
label = "column_5"
"""
RATINGS = """
[task]
kind = "rating"
scale = [1, 7]

[import]
prompt = "column_1"
context = "column_2"
responses = ["column_3"]
label = "column_4"
"""
PANDAS = """
[import]
annotators = { gold = "gold", ann_1 = "ann_1", ann_2 = "ann_2" }
probabilities = { judge = "judge_p_a" }
labels = { 0 = "tie" }
meta = ["inconsistent", "note"]
"""


def _with(tmp_path: Path, said: str, *files: Path) -> Parsed:
    columns = tmp_path / "columns.toml"
    columns.write_text(said, encoding="utf-8")
    return parse(tmp_path / "set", *files, columns=columns)


def _file(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return tmp_path / name


# ── every sample is its own ──────────────────────────────────────────────────────────────────────


NAMED_OTHERWISE = {
    "arena_battles": "chatbot_arena_battles",
    "arena_kaggle": "chatbot_arena_kaggle",
    "arena_wrapped": "chatbot_arena",
    "openai_responses": "openai_batch",
}


@REAL
@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_recognised_as_its_own_format(name: str) -> None:
    """A sample is called by its format, with a word on the variant after it."""
    found, _ = recognise([open_foreign(FOLDER / file) for file in SAMPLES[name]])
    wanted = NAMED_OTHERWISE.get(name, name)
    assert wanted == found.name or wanted.startswith(f"{found.name}_")


# ── real tables ──────────────────────────────────────────────────────────────────────────────────


@REAL
def test_rankings_without_a_header_lose_no_row(tmp_path: Path) -> None:
    found = _with(tmp_path, RANKINGS, CSV / "headerless_crlf_rankings.csv")
    items = list(found.items.values())
    for wanted in expected("csv_pairwise")[0]["headerless_crlf_rankings.csv"]:
        item = items[wanted["row"]]
        assert isinstance(item.prompt, str)
        assert len(item.prompt) == wanted["prompt"]["chars"] + 2 + wanted["input"]["chars"]
        assert item.prompt.startswith(wanted["prompt"]["start"])
        assert item.prompt[wanted["prompt"]["chars"] + 2 :].startswith(wanted["input"]["start"])
        for text, response in zip(item.texts, wanted["responses"], strict=True):
            assert begins(text, response)
        assert found.annotations[item.id, "annotator"] == wanted["label"]
    assert found.result.items + found.result.repeated + found.result.refused >= 30
    assert set(found.annotations.values()) <= {"A", "B", "tie"}


@REAL
def test_ratings_without_a_header(tmp_path: Path) -> None:
    found = _with(tmp_path, RATINGS, CSV / "headerless_crlf_ratings.csv")
    assert found.result.items == 12
    assert set(found.annotations.values()) <= set("1234567")


@REAL
@pytest.mark.parametrize("name", ["pandas_default.csv", "pandas_excel_de.csv"])
def test_tables_as_pandas_writes_them(name: str, tmp_path: Path) -> None:
    found = _with(tmp_path, PANDAS, CSV / name)
    for wanted in expected("csv_pairwise")[0]["pandas_default.csv"]:
        item_id = wanted["item_id"]
        assert begins(str(found.items[item_id].prompt), wanted["prompt"])
        for each in wanted["labels"]:
            assert found.annotations.get((item_id, each["annotator"])) == each["label"]
        (vote,) = found.judgments[item_id, "judge"].votes
        if wanted["p_A"] is None:
            assert vote.failure == "none"
        else:
            assert vote.probs == pytest.approx({"A": wanted["p_A"], "B": 1 - wanted["p_A"]})
        assert found.items[item_id].meta["note"] == wanted["note"]
        said = {True: "True", False: "False", None: ""}[wanted["inconsistent"]]
        assert found.items[item_id].meta.get("inconsistent", "") == said
    for wanted in expected("csv_pairwise")[0]["pandas_excel_de.csv"]:
        (vote,) = found.judgments[wanted["item_id"], "judge"].votes
        assert vote.probs.get("A") == (None if wanted["p_A"] is None else pytest.approx(wanted["p_A"]))
    assert found.result.refused == 0


@REAL
def test_an_empty_label_is_none_and_pairs_without_labels_are_items(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", CSV / "align_fib_empty_labels.csv")
    for wanted in expected("csv_pairwise")[0]["align_fib_empty_labels.csv"]:
        item = found.items[wanted["item_id"]]
        assert begins(str(item.prompt), wanted["prompt"])
        assert begins(item.texts[0], wanted["output"])
        said = {None: None, True: "pass", False: "fail"}[wanted["label"]]
        assert found.annotations.get((item.id, "annotator")) == said
    assert (found.result.items, found.result.annotations) == (25, 18)
    pairs = parse(tmp_path / "pairs", CSV / "prolific_tasks.csv")
    assert (pairs.result.items, pairs.result.annotations, pairs.result.refused) == (8, 0, 0)


@REAL
def test_evouna_has_its_prompt_on_the_first_row_of_a_question(tmp_path: Path) -> None:
    said = """
    [task]
    kind = "binary"
    [import]
    group = "meta.question"
    reference = "meta.gold"
    label = "labels.0.label"
    annotator = "labels.0.annotator"
    meta = ["meta.system"]
    carry = ["prompt", "meta.gold"]
    """
    found = _with(tmp_path, said, FOLDER.parent / "evouna_qa/items.jsonl.gz")
    assert (found.result.items, found.result.refused) == (24784, 1)  # one response is empty
    assert found.items["nq-0000-gpt4"].prompt == "who got the first nobel prize in physics"
    assert found.items["nq-0002-gpt35"].reference == "Olivia/MFSK"
    assert found.items["nq-0002-gpt35"].group == "nq-0002"
    assert found.annotations["nq-0002-fid", "human"] == "fail"


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────

ROWS = [
    {"id": "x", "prompt": "2+2?", "response_a": "4", "response_b": "=5+1", "label": 1.0},
    {"id": "y", "prompt": "3+3?", "response_a": "6", "response_b": "7", "label": None},
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
    assert list(found.items) == ["x", "y"]
    assert found.items["x"].responses == ("4", "=5+1")
    assert found.annotations == {("x", "annotator"): "A"}
    assert found.result.refused == 0


def test_rows_that_the_server_cut_are_refused(tmp_path: Path) -> None:
    cut = {"row_idx": 1, "row": ROWS[1], "truncated_cells": ["response_a"]}
    path = _file(tmp_path, "rows.json", json.dumps({"rows": [{"row": ROWS[0]}, cut]}))
    found = parse(tmp_path / "set", path)
    assert (found.result.items, found.result.refused) == (1, 1)
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
    found = _with(tmp_path, said, _file(tmp_path, "rows.csv", TABLE))
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
            "what do the labels mean",
        ),
        (
            '[import]\nprompt = "asked"\nresponses = ["said", "verdict"]\ncarry = ["asked"]',
            DataError,
            "carry goes with a group",
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
        _with(tmp_path, said, _file(tmp_path, "rows.csv", TABLE))
    assert not (tmp_path / "set").exists()


def test_a_group_that_was_recognised_is_said(tmp_path: Path) -> None:
    rows = [{**row, "group": "sums"} for row in ROWS]
    found = parse(tmp_path / "set", _file(tmp_path, "rows.json", json.dumps(rows)))
    assert "rows with the same 'group' hang together: they are one group" in found.result.assumed


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
    path = _file(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, [ROWS[0], *rows])))
    try:
        found = parse(tmp_path / "set", path)
    except TrustEscalateError:
        return
    assert set(found.annotations.values()) <= {"A", "B", "tie", "skip"}
    assert found.result.items + found.result.repeated + found.result.refused >= len(rows) + 1
    assert len(found.items) == found.result.items
    assert len(found.annotations) == found.result.annotations == sum(found.result.labels.values())
