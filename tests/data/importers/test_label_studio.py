"""Label Studio: what people chose, whatever stood left; and what is no label is counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, labels_of, parse
from trustescalate.errors import DataError
from trustescalate.records import Turn


def _chosen(choice: str, control: str = "tie") -> dict[str, Any]:
    return {"type": "choices", "from_name": control, "to_name": "p", "value": {"choices": [choice]}}


def _side(side: str) -> dict[str, Any]:
    place = {"from_name": "comparison", "to_name": "comparison"}
    return {"type": "pairwise", **place, "value": {"selected": side}}


def _by(who: Any, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 5, "completed_by": who, "result": list(results), "was_cancelled": False, **more}


def _task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    shown = {"item_id": "i1", "prompt": "Which?", "answer1": "one", "answer2": "two", "left_is": "A", **data}
    shown = {key: value for key, value in shown.items() if value is not None}
    return {"id": 1, "data": shown, "annotations": list(annotations), "predictions": [], "drafts": []}


def _import(folder: Path, *tasks: dict[str, Any]) -> Parsed:
    (folder / "export.json").write_text(json.dumps(tasks))
    return parse(folder / "set", folder / "export.json")


@pytest.mark.parametrize("left", ["A", "B", "output_1", "output_2"])
@pytest.mark.parametrize("fields", [("answer1", "answer2"), ("left", "right")])
def test_left_is_brought_into_the_frame_of_the_item(
    left: str, fields: tuple[str, str], tmp_path: Path
) -> None:
    sides = {"answer1": None, "answer2": None, fields[0]: "stood left", fields[1]: "stood right"}
    found = _import(tmp_path, _task(_by(1, _side("left")), _by(2, _side("right")), left_is=left, **sides))
    first = left in ("A", "output_1")
    texts = ("stood left", "stood right")
    assert found.items["i1"].texts == (texts if first else texts[::-1])
    assert labels_of(found, "i1") == ({"1": "A", "2": "B"} if first else {"1": "B", "2": "A"})


def test_without_left_is_the_first_named_stands_left_and_that_is_said(tmp_path: Path) -> None:
    found = _import(tmp_path, _task(_by(1, _side("right")), left_is=None))
    assert labels_of(found, "i1") == {"1": "B"}
    assert any("left_is" in sentence for sentence in found.result.assumed)


def test_a_left_that_is_neither_response_costs_the_task(tmp_path: Path) -> None:
    bad = _task(_by(1, _side("left")), left_is="C", item_id="i2")
    found = _import(tmp_path, _task(_by(1, _side("left"))), bad)
    assert (found.result.items, found.result.refused) == (1, 1)
    assert "left_is" in found.result.rejected[0]


def test_a_choice_that_names_a_response_is_not_guessed_at_where_sides_were_swapped(tmp_path: Path) -> None:
    chosen = _by(1, _chosen("Answer 1", "preference")), _by(2, _chosen("left", "preference"))
    found = _import(tmp_path, _task(*chosen, left_is="B"))
    assert labels_of(found, "i1") == {"2": "B"}
    assert "does not say left or right" in found.result.rejected[0]


def test_a_choice_unknown_and_a_person_without_a_number_are_refused_alone(tmp_path: Path) -> None:
    odd = _by(1, _chosen("perhaps")), _by({"email": "a@b.c"}, _side("left")), _by({"id": 3}, _side("left"))
    found = _import(tmp_path, _task(*odd))
    assert labels_of(found, "i1") == {"3": "A"}
    assert found.result.refused == 2
    assert "a@b.c" not in "".join(found.result.rejected)


def test_the_same_twice_is_one_label(tmp_path: Path) -> None:
    found = _import(tmp_path, _task(_by(1, _side("left")), _by(1, _side("left"))))
    assert (labels_of(found, "i1"), found.result.refused) == ({"1": "A"}, 0)


def test_predictions_that_differ_or_say_nothing_are_failed_votes(tmp_path: Path) -> None:
    def shown(side: str, model: str) -> dict[str, Any]:
        return {"model_version": model, "score": 0.5, "result": [_side(side)]}

    said = [shown("left", "m"), shown("right", "m"), shown("up", "n"), shown("right", "")]
    annotations = [_by(place, _side("left"), prediction=one) for place, one in enumerate(said)]
    found = _import(tmp_path, {**_task(*annotations), "predictions": [shown("right", "o"), 7]})
    votes = {judge: found.judgments["i1", judge].votes[0] for _, judge in found.judgments}
    assert {judge: vote.failure for judge, vote in votes.items()} == {
        "m": "conflict",
        "n": "none",
        "prediction": None,
        "o": None,
    }
    assert votes["o"].probs == {"B": 1.0}


def test_conversations_in_cells_become_turns(tmp_path: Path) -> None:
    cells = {"prompt": '["p1", "p2"]', "answer1": '["a1", "a2"]', "answer2": '["b1", "b2"]'}
    item = _import(tmp_path, _task(_by(1, _side("left")), **cells)).items["i1"]
    assert item.prompt == "p1"
    assert item.responses[0] == (Turn("assistant", "a1"), Turn("user", "p2"), Turn("assistant", "a2"))


def _single(label: str, item_id: str = "i1") -> dict[str, Any]:
    only = {"answer1": None, "answer2": None, "left_is": None, "response": "one", "item_id": item_id}
    return _task(_by(1, _chosen(label, "label")), **only)


def test_single_responses_pass_or_fail_and_other_scales_are_asked_for(tmp_path: Path) -> None:
    found = _import(tmp_path, _single("pass"), _single("fail", "i2"))
    assert found.annotations == {("i1", "1"): "pass", ("i2", "1"): "fail"}
    (tmp_path / "grades").mkdir()
    with pytest.raises(DataError, match="'4'") as caught:
        _import(tmp_path / "grades", _single("4"))
    assert "--columns" in str(caught.value.hint)


def test_two_kinds_of_task_are_not_mixed(tmp_path: Path) -> None:
    for place, task in enumerate([_single("pass"), _task(_by(1, _side("left")))]):
        (tmp_path / f"{place}.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match="another task"):
        parse(tmp_path / "set", tmp_path / "0.json", tmp_path / "1.json")


def test_rows_of_one_task_that_show_different_texts_are_refused(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "p", "answer1": "a", "answer2": "b", "annotator": 1, "annotation_id": 1}
    row |= {"lead_time": 1.0, "comparison": [{"selected": "left"}]}
    rows = [row, {**row, "answer1": "other", "annotator": 2}, {**row, "id": 2}]
    (tmp_path / "min.json").write_text(json.dumps(rows))
    found = parse(tmp_path / "set", tmp_path / "min.json")
    assert found.annotations == {("2", "1"): "A"}
    assert "different texts" in found.result.rejected[0]
