"""Fields, questions and controls of other names: the message names what is there, `--columns` reaches it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import parse, parse_with
from trustescalate.errors import DataError

LABEL_STUDIO = """
[task]
kind = "choice"
question = "How good?"
labels = ["good", "bad"]
[import]
prompt = "ask"
responses = ["reply"]
label = "quality"
labels = { "Very good" = "good", Bad = "bad" }
"""


def task(number: int, data: dict[str, str], *results: dict[str, Any]) -> dict[str, Any]:
    annotations = [
        {"id": place, "completed_by": place, "result": [result]} for place, result in enumerate(results, 1)
    ]
    return {"id": number, "data": data, "annotations": annotations}


def chosen(control: str, *choices: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": control, "value": {"choices": list(choices)}}


def selected(side: str) -> dict[str, Any]:
    return {"type": "pairwise", "from_name": "pw", "value": {"selected": side}}


def write(path: Path, *rows: Any) -> Path:
    path.write_text(json.dumps(rows), "utf-8")
    return path


@pytest.mark.parametrize("names", [("text1", "text2"), ("text_1", "text_2"), ("summary1", "summary2")])
def test_numbered_texts_are_the_sides_of_a_comparison(names: tuple[str, str], tmp_path: Path) -> None:
    rows = [task(1, dict(zip(names, ("x", "y"), strict=True)), selected("left"), selected("right"))]
    found = parse(tmp_path / "set", write(tmp_path / "tasks.json", *rows))
    assert found.items["1"].responses == ("x", "y")
    assert found.annotations == {("1", "1"): "A", ("1", "2"): "B"}


def test_other_sides_are_named_and_can_be_told(tmp_path: Path) -> None:
    row = task(1, {"ask": "q?", "mine": "x", "theirs": "y", "extra": "z" * 300}, selected("right"))
    path = write(tmp_path / "tasks.json", row)
    with pytest.raises(DataError, match="there are 'ask', 'mine', 'theirs', 'extra'") as caught:
        parse(tmp_path / "refused", path)
    assert "--columns FILE with [import]" in caught.value.hint
    found = parse_with(tmp_path, '[import]\nprompt = "ask"\nresponses = ["mine", "theirs"]\n', path)
    assert (found.items["1"].prompt, found.items["1"].responses) == ("q?", ("x", "y"))
    assert found.annotations == {("1", "1"): "B"}
    assert found.result.left_out == ("extra",)
    assert "left out:    'extra'" in found.result.lines()


def test_another_control_is_named_and_can_be_told(tmp_path: Path) -> None:
    data = {"ask": "q?", "reply": "r"}
    rows = [
        task(1, {**data, "response": "r"}, chosen("quality", "Very good")),
        task(2, {**data, "response": "r"}, chosen("quality", "Bad")),
    ]
    path = write(tmp_path / "tasks.json", *rows)
    with pytest.raises(DataError, match=r"hold the label; there are 'quality' \('Very good', 'Bad'\)"):
        parse(tmp_path / "refused", path)
    found = parse_with(tmp_path, LABEL_STUDIO, path)
    assert found.annotations == {("1", "1"): "good", ("2", "1"): "bad"}


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ('[import]\nresponses = ["mine", "nobody"]\n', "data holds no field 'nobody'"),
        ('[import]\nresponses = ["mine"]\nlabel = "quality"\n', "have no known meaning"),
        ('[task]\nkind = "binary"\n[import]\nresponses = ["mine", "theirs"]\n', "has 1 responses, and 2 are"),
    ],
)
def test_names_that_do_not_fit_are_refused(columns: str, why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "tasks.json", task(1, {"mine": "x", "theirs": "y"}, selected("left")))
    with pytest.raises(DataError, match=why):
        parse_with(tmp_path, columns, path)


def argilla(**fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"id": "r1", "status": "completed", "_server_id": None, **fields}
    for part, value in (("", ["good"]), (".users", ["u1"]), (".status", ["submitted"])):
        row[f"quality.responses{part}"] = value
    return row | {"quality.suggestion": "bad", "quality.suggestion.agent": "m", "quality.suggestion.score": 1}


def test_other_questions_and_fields_of_argilla_are_named_and_can_be_told(tmp_path: Path) -> None:
    path = write(tmp_path / "records.json", argilla(ask="q?", reply="r", extra="e"))
    with pytest.raises(DataError, match="'reply', 'extra', questions 'quality'"):
        parse(tmp_path / "refused", path)
    found = parse_with(tmp_path, LABEL_STUDIO, path)
    assert found.items["r1"].responses == ("r",)
    assert found.annotations == {("r1", "u1"): "good"}
    assert found.votes("r1", "m") == [("", "bad")]
    assert found.result.left_out == ("extra",)


def test_other_usual_names_of_argilla_are_known(tmp_path: Path) -> None:
    row = argilla(instruction="q?", response_1="x", response_2="y")
    row = {key.replace("quality", "label"): value for key, value in row.items()}
    row["label.responses"], row["label.suggestion"] = ["response_2"], "response_1"
    found = parse(tmp_path / "set", write(tmp_path / "records.json", row))
    assert found.items["r1"].responses == ("x", "y")
    assert found.annotations == {("r1", "u1"): "B"}
