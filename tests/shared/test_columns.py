"""Real tables, as their README describes them."""

from pathlib import Path

import pytest

from tests.support.formats import FOLDER, begins, expected, parse, parse_with

pytestmark = pytest.mark.shared
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


def test_rankings_without_a_header_lose_no_row(tmp_path: Path) -> None:
    found = parse_with(tmp_path, RANKINGS, CSV / "headerless_crlf_rankings.csv")
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


def test_ratings_without_a_header(tmp_path: Path) -> None:
    found = parse_with(tmp_path, RATINGS, CSV / "headerless_crlf_ratings.csv")
    assert found.result.items == 12
    assert set(found.annotations.values()) <= set("1234567")


@pytest.mark.parametrize("name", ["pandas_default.csv", "pandas_excel_de.csv"])
def test_tables_as_pandas_writes_them(name: str, tmp_path: Path) -> None:
    found = parse_with(tmp_path, PANDAS, CSV / name)
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
    forward_fill = ["prompt", "meta.gold"]
    """
    found = parse_with(tmp_path, said, FOLDER.parent / "evouna_qa/items.jsonl.gz")
    assert (found.result.items, found.result.refused) == (24785, 0)
    assert found.items["nq-0000-gpt4"].prompt == "who got the first nobel prize in physics"
    assert found.items["nq-0002-gpt35"].reference == "Olivia/MFSK"
    assert found.items["nq-0002-gpt35"].group == "nq-0002"
    assert found.annotations["nq-0002-fid", "human"] == "fail"
