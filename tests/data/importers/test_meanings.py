"""What a verdict means where a tool writes it in its own way: by model, by code, by logarithm, by draw."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, parse, parse_rows, parse_with
from trustescalate.errors import DataError

PAIR = {"prompt": "Which?", "response_a": "x", "response_b": "y"}


def _rows(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"id": str(i), **row}) for i, row in enumerate(rows)))
    return path


def _document(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(value))
    return path


def _verdicts(parsed: Parsed, judge: str) -> list[str]:
    return [parsed.votes(item_id, judge)[0][1] for item_id in parsed.items]


# ── winners by name ────────────────────────────────────────────────────────────────────────────────


def _won(winner: str, *models: str) -> dict[str, Any]:
    return {**PAIR, "model_a": models[0], "model_b": models[1], "winner": winner}


def test_a_model_that_won_has_the_side_of_its_row(tmp_path: Path) -> None:
    rows = [_won("gpt", "gpt", "claude"), _won("gpt", "claude", "gpt"), _won("tie", "gpt", "claude")]
    parsed = parse(tmp_path / "set", _rows(tmp_path, *rows, _won("gpt", "gpt", "gpt")))
    assert list(parsed.annotations.values()) == ["A", "B", "tie"]
    assert "do not say which side" in str(parsed.result.rejected)


def test_a_model_that_won_gets_no_side_of_its_own(tmp_path: Path) -> None:
    rows = _rows(tmp_path, _won("gpt", "gpt", "claude"), _won("claude", "claude", "gpt"))
    with pytest.raises(DataError, match="no side of its own"):
        parse_with(tmp_path, '[import]\nlabels = { gpt = "A", claude = "B" }', rows)


def test_models_named_as_sides_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names of sides as well"):
        parse_rows(tmp_path, _won("A", "A", "B"), _won("A", "B", "A"))
    always = [_won("A", "A", "B"), _won("B", "A", "B")]
    assert list(parse(tmp_path / "set", _rows(tmp_path, *always)).annotations.values()) == ["A", "B"]


# ── codes of judges ────────────────────────────────────────────────────────────────────────────────


def test_codes_of_predictions_are_decided_as_a_column(tmp_path: Path) -> None:
    def chosen(choice: str) -> list[dict[str, Any]]:
        return [{"from_name": "winner", "type": "choices", "value": {"choices": [choice]}}]

    tasks = [
        {
            "id": i,
            "data": PAIR,
            "annotations": [{"completed_by": 1, "result": chosen("left")}],
            "predictions": [{"model_version": "m", "result": chosen(str(i))}],
        }
        for i in range(2)
    ]
    with pytest.raises(DataError, match="predictions holds '0'"):
        parse(tmp_path / "set", _document(tmp_path, tasks))


def test_codes_of_suggestions_are_decided_as_a_column(tmp_path: Path) -> None:
    submitted = {"responses": ["response_a"], "responses.users": ["u"], "responses.status": ["submitted"]}
    rows = [
        {
            **PAIR,
            **{f"preference.{key}": value for key, value in submitted.items()},
            "preference.suggestion": str(i),
            "preference.suggestion.agent": "gpt",
        }
        for i in range(2)
    ]
    with pytest.raises(DataError, match="suggestion holds '0'"):
        parse(tmp_path / "set", _rows(tmp_path, *rows))


# ── what check refuses, import refuses ─────────────────────────────────────────────────────────────


def test_an_empty_question_is_refused_and_a_blank_session_no_group(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the prompt is empty"):
        parse_rows(tmp_path, {**PAIR, "prompt": [{"role": "user", "content": ""}], "winner": "A"})
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]
    battle = {"model_a": "m", "model_b": "n", "winner": "model_a", "evaluation_session_id": " "}
    row = {**battle, "conversation_a": talk, "conversation_b": talk}
    assert parse(tmp_path / "set", _rows(tmp_path, row)).items["0"].group is None


def _trace(trace: str, *assessments: dict[str, Any]) -> dict[str, Any]:
    info = {"trace_id": trace, "request_preview": "Q", "response_preview": "x"}
    return {"info": {**info, "assessments": assessments}, "data": {"spans": []}}


def _assessed(
    value: Any, assessment: str = "correct", kind: str = "HUMAN", who: str = "ann"
) -> dict[str, Any]:
    source = {"source_type": kind, "source_id": who}
    return {"assessment_name": assessment, "source": source, "feedback": value}


def test_feedback_of_another_shape_is_no_label(tmp_path: Path) -> None:
    rows = [_trace("1", _assessed({"value": 3})), _trace("2", _assessed(["x"]))]
    parsed = parse(tmp_path / "set", _rows(tmp_path, *rows, _trace("3", _assessed({"value": "yes"}))))
    assert parsed.annotations == {("3", "ann"): "pass"}
