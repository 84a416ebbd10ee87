"""Label Studio: real exports, as their README describes them."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import FOLDER, begins, expected, labels_of, parse
from trustescalate.records import Item

pytestmark = pytest.mark.shared
HERE = FOLDER / "label_studio"


def _one_each(said: list[dict[str, Any]]) -> dict[str, str]:
    """The expected labels; of somebody who says two different things, none."""
    by: dict[str, set[str]] = {}
    for each in said:
        by.setdefault(str(each["annotator"]), set()).update([each["label"]] if each["label"] else [])
    return {who: labels.pop() for who, labels in by.items() if len(labels) == 1}


def _shows(item: Item, wanted: dict[str, Any]) -> bool:
    texts = zip(item.responses, wanted["responses"], strict=True)
    return all(
        begins(said if isinstance(said, str) else said[0].content, described) for said, described in texts
    ) and ("prompt" not in wanted or begins(str(item.prompt), wanted["prompt"]))


@pytest.mark.parametrize("file", ["pairwise.json", "pairwise.min.json", "pairwise.csv"])
def test_all_three_exports_say_the_same_of_people(file: str, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", HERE / f"produced.{file}")
    blocks = expected("label_studio")[0]
    assert found.result.format == "label_studio"
    assert set(found.items) == {wanted["item_id"] for wanted in blocks}
    for wanted in blocks:
        assert _shows(found.items[wanted["item_id"]], wanted)
        assert labels_of(found, wanted["item_id"]) == _one_each(wanted["labels"])


def test_what_is_no_label_is_counted_with_its_annotation(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", HERE / "produced.pairwise.json")
    why = [problem.partition("json:")[2] for problem in found.result.rejected]
    assert why == [
        "2: '3' says B and tie of 'natural-2': neither is taken",
        "3: annotation 8 of 'natural-3': was cancelled",
        "4: annotation 11 of 'natural-5': was cancelled",
        "5: annotation 12 of 'natural-8': holds no choice",
        "6: '1' says A and B of 'gptout-0': neither is taken",
        "7: annotation 16 of 'gptout-1': holds no choice",
    ]
    assert found.result.refused == 6
    rows = parse(tmp_path / "rows", HERE / "produced.pairwise.csv")
    assert rows.result.refused == 4  # what was cancelled is not in the table


def test_predictions_are_a_judges_votes_in_the_frame_of_the_items(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", HERE / "produced.pairwise.json")
    for wanted in expected("label_studio")[0]:
        order = "AB" if wanted["left_is"] == "A" else "BA"
        for judge in wanted["judge"]:
            votes = found.votes(wanted["item_id"], judge["judge"])
            assert votes == [(order, judge["verdict"])]
            assert (
                found.judgments[wanted["item_id"], judge["judge"]].votes[0].raw == f"score {judge['score']}"
            )
    assert len(found.judgments) == sum(len(wanted["judge"]) for wanted in expected("label_studio")[0])


def test_drafts_and_addresses_stay_where_they_are(tmp_path: Path) -> None:
    parse(tmp_path / "set", HERE / "produced.pairwise.json")
    assert "@" in (HERE / "produced.pairwise.json").read_text(encoding="utf-8")
    for file in (tmp_path / "set").rglob("*.json*"):
        assert "@" not in file.read_text(encoding="utf-8")


def test_choices_are_labels_and_the_votes_in_the_data_are_not(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", HERE / "real.lmsys_choices.json")
    assert (found.result.items, found.result.annotations, found.result.refused) == (10, 10, 0)
    for wanted in expected("label_studio")[1]:
        item = found.items[str(wanted["item_id"])]
        assert _shows(item, wanted)
        for response in item.responses:
            assert (1 if isinstance(response, str) else (len(response) + 1) // 2) == wanted["turns"]
        models = [item.meta["model_a"], item.meta["model_b"]]
        assert models == [response["model"] for response in wanted["responses"]]
        assert labels_of(found, item.id) == _one_each(wanted["labels"])
        assert item.meta["upstream_vote"] == wanted["upstream_vote"]


@pytest.mark.parametrize(("annotator", "block"), [(1, 2), (2, 3)])
def test_of_many_questions_the_preference_is_the_label(annotator: int, block: int, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", HERE / f"real.booookscore.formal.annotator{annotator}.json")
    for wanted in expected("label_studio")[block]:
        item = found.items[str(wanted["task_id"])]
        assert _shows(item, wanted)
        assert item.meta["book"] == wanted["item_id"]
        assert labels_of(found, item.id) == _one_each(wanted["labels"])
        assert item.meta["criteria"] == {str(wanted["labels"][0]["annotator"]): wanted["criteria"]}
    assert found.result.refused == 0


def test_files_of_several_annotators_come_in_together(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", *sorted(HERE.glob("real.booookscore.*.json")))
    assert found.result.items == 10
    assert {who for _, who in found.annotations} == {"5", "7", "8"}
