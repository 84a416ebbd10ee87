"""What a verdict means where a tool writes it in its own way: by model, by code, by logarithm, by draw."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, parse, parse_rows, parse_with
from trustescalate.data.importers.choices import with_choices
from trustescalate.data.importers.files import Unusable
from trustescalate.data.importers.unread import why_unread
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


# ── logarithms ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("cells", "why"), [((0.2, 0.7), "no log-probability"), ((0.0, 0.0), "0 alone")])
def test_a_loss_or_zeros_are_no_log_probabilities(
    cells: tuple[float, float], why: str, tmp_path: Path
) -> None:
    row = {**PAIR, "winner": "A", "gpt_logprob_A": cells[0], "gpt_logprob_B": cells[1]}
    with pytest.raises(DataError, match=why):
        parse_rows(tmp_path, row)


# ── promptfoo ──────────────────────────────────────────────────────────────────────────────────────


def _promptfoo(tmp_path: Path, grading: dict[str, Any]) -> Parsed:
    row = {
        "vars": {"q": 0},
        "provider": {"id": "gpt"},
        "prompt": {"raw": "Q?"},
        "response": {"output": "Answer"},
        "testCase": {},
        "gradingResult": grading,
    }
    return parse(tmp_path / "set", _document(tmp_path, {"results": {"results": [row]}}))


def _part(passed: bool, value: str = "x", **more: Any) -> dict[str, Any]:
    return {"assertion": {"type": "llm-rubric", "value": value}, "pass": passed, "reason": "so", **more}


def _by_judge(parsed: Parsed) -> dict[str, list[str]]:
    return {judge: [v for _, v in parsed.votes(item, judge)] for item, judge in parsed.judgments}


@pytest.mark.parametrize(
    ("grading", "verdicts"),
    [
        (_part(False), {"llm-rubric": ["fail"]}),
        ({"componentResults": [_part(False, error="API 500")]}, {"llm-rubric": ["invalid"]}),
        ({"componentResults": [_part(False, metadata={"error": "x"})]}, {"llm-rubric": ["invalid"]}),
        (
            {"componentResults": [_part(True, "polite"), _part(False, "right")]},
            {"llm-rubric": ["pass"], "llm-rubric 2": ["fail"]},
        ),
        (
            {"componentResults": [{"assertion": None, "componentResults": [_part(False)]}]},
            {"llm-rubric": ["fail"]},
        ),
        (
            {"componentResults": [{"pass": True, "componentResults": [_part(False)]}, _part(False)]},
            {"llm-rubric": ["fail"]},
        ),
    ],
)
def test_each_assertion_is_a_judge(
    grading: dict[str, Any], verdicts: dict[str, list[str]], tmp_path: Path
) -> None:
    assert _by_judge(_promptfoo(tmp_path, grading)) == verdicts


UNREAD = """Error code: 429 - {'error': 1}|Expecting value: line 1 column 1 (char 0)
Model grader produced a malformed response: foo|LLM-proposed evaluation result is not in JSON format: foo
Remote grading failed: 500|Could not perform remote grading: x|Invalid option: (Z)|Rubric evaluation error
Parsing error|Judge response could not be parsed|Failed to get a valid response from grader|KeyError: 'score'
json.decoder.JSONDecodeError: Expecting value|Unparseable output|Invalid response from judge|ReadTimeout
Empty response from grader|Grader returned no grade|Error during grading: timed out|Max retries exceeded
openai.BadRequestError: context length|Model did not return a grade|No response from judge|Exception: x
The grader's response did not match the expected pattern|Content filter triggered|N/A|Grading skipped"""
GRADED = """Error: the sum is wrong|Error in step 2|The response could not be parsed as JSON
Exceptions are missing|No answer to the question|Invalid response: it names no city
The model did not return a number|Parsing is right|The answer has no grade|ValueError is not raised
Timeouts are not handled|Expecting more detail"""


@pytest.mark.parametrize("text", UNREAD.replace("\n", "|").split("|"))
def test_a_sentence_about_the_grader_is_no_verdict(text: str) -> None:
    assert why_unread(text) is not None


@pytest.mark.parametrize("text", GRADED.replace("\n", "|").split("|"))
def test_a_sentence_about_the_answer_is_a_verdict(text: str) -> None:
    assert why_unread(text) is None


# ── MLflow ─────────────────────────────────────────────────────────────────────────────────────────


def test_one_of_several_questions_is_the_label_and_draws_are_votes(tmp_path: Path) -> None:
    human = [_assessed({"value": "yes"}), _assessed({"value": "no"}, "is_toxic")]
    judge = [_assessed({"value": value}, kind="LLM_JUDGE", who="gpt") for value in ("yes", "no")]
    rows = _rows(tmp_path, _trace("1", *human, *judge))
    with pytest.raises(DataError, match="and one is the label"):
        parse(tmp_path / "refused", rows)
    parsed = parse_with(tmp_path, '[import]\nlabel = "correct"', rows)
    assert parsed.annotations == {("1", "ann"): "pass"}
    assert _by_judge(parsed) == {"correct gpt": ["pass", "fail"]}


# ── choices ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choices", "shown", "more"),
    [
        (["1", "1.5"], "Which?\n\nA) 1.5\nB) 1", "A) 1.5\nB) 1"),
        (["cat", "cat nap", "dog"], "A) cat nap\nB) dog\nC) cat", "A) cat nap\nB) dog\nC) cat"),
        (["yes", "no"], "Ex:\nA) no\nB) yes\nANSWER: A\nIs it?\nA) yes\nB) no", "A) yes\nB) no"),
        (["A. red", "B. blue"], "", "A. red\nB. blue"),
    ],
)
def test_choices_have_the_letters_that_were_shown(choices: list[str], shown: str, more: str) -> None:
    assert with_choices("Which?", choices, shown) == f"Which?\n\n{more}"


def test_choices_that_were_shown_by_unknown_letters_are_refused() -> None:
    with pytest.raises(Unusable, match="letters cannot be told"):
        with_choices("Which?", ["red", "blue"], "blue or red?")


@pytest.mark.parametrize(
    ("choices", "more"),
    [
        ({"text": ["red", "blue"], "label": ["1", "2"]}, "1) red\n2) blue"),
        ([{"label": "A", "text": "red"}, {"label": "C", "text": "blue"}], "A) red\nC) blue"),
        ({"a": "red", "b": "blue"}, "a) red\nb) blue"),
    ],
)
def test_choices_have_the_letters_of_the_file(choices: Any, more: str, tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": choices, "response": "2", "label": "yes"}
    assert parse(tmp_path / "set", _rows(tmp_path, row)).items["0"].prompt == f"Which?\n\n{more}"


# ── lm-evaluation-harness, and codes of one judge ──────────────────────────────────────────────────


def _sample(**more: Any) -> dict[str, Any]:
    row = {"doc_id": 1, "doc": {}, "target": "0", "arguments": [["Q?", " x"]], "resps": [["x"]]}
    return {**row, "filtered_resps": ["x"], **more}


def test_a_normalised_accuracy_of_another_choice_is_no_vote(tmp_path: Path) -> None:
    likely = [[-2.0, False]], [[-3.0, False]]
    row = _sample(arguments=[["Q?", " x"], ["Q?", " long"]], resps=list(likely), acc=1.0, acc_norm=0.0)
    row["filtered_resps"] = [each[0] for each in likely]
    parsed = parse(tmp_path / "set", _rows(tmp_path, row))
    assert _by_judge(parsed) == {"acc": ["pass"], "acc_norm": ["invalid"]}


def test_the_draw_that_the_filter_took_is_the_response(tmp_path: Path) -> None:
    row = _sample(
        resps=[["It is 12", "It is 2", "2"]], filtered_resps=["2"], acc=1.0, seed=1, prompt_tokens=0
    )
    parsed = parse(tmp_path / "set", _rows(tmp_path, row))
    assert [item.responses for item in parsed.items.values()] == [("2",)]
    assert _by_judge(parsed) == {"acc": ["pass"]}


def test_two_opposite_codes_of_a_judge_are_asked_for(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "response": "x", "label": i, "gpt": 2 * i - 1} for i in range(2)]
    with pytest.raises(DataError, match="column 'gpt' holds '-1'"):
        parse_with(
            tmp_path, '[task]\nkind = "binary"\n[import]\njudges = { gpt = "gpt" }', _rows(tmp_path, *rows)
        )


# ── cells of tables ────────────────────────────────────────────────────────────────────────────────


def test_choices_in_a_cell_stand_in_the_prompt(tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": '["red", "blue"]', "response": "B", "label": "y"}
    parsed = parse(tmp_path / "set", _rows(tmp_path, row, {**row, "label": "<NA>"}, {**row, "label": "n"}))
    assert parsed.items["0"].prompt == "Which?\n\nA) red\nB) blue"
    assert [label for _, label in sorted(parsed.annotations.items())] == ["pass", "fail"]


def test_ids_of_questions_are_given_as_groups(tmp_path: Path) -> None:
    row = {**PAIR, "question_id": "q", "winner": "A"}
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (row, {**row, "response_a": "z"})))
    assert "as group in [import]" in str(parse(tmp_path / "refused", path).result.rejected)
    parsed = parse_with(tmp_path, '[import]\ngroup = "question_id"', path)
    assert [item.group for item in parsed.items.values()] == ["q", "q"]


def test_an_unknown_label_of_one_person_leaves_the_labels_of_others(tmp_path: Path) -> None:
    responses = {"": ["response_a", "weird"], ".users": ["u", "v"], ".status": ["submitted", "submitted"]}
    row = {**PAIR, **{f"preference.responses{part}": value for part, value in responses.items()}}
    parsed = parse(tmp_path / "set", _rows(tmp_path, row))
    assert parsed.annotations == {("0", "u"): "A"}
    assert "'weird' is not known" in str(parsed.result.rejected)


def test_the_targets_of_a_sample_are_its_reference(tmp_path: Path) -> None:
    sample = {"id": 1, "epoch": 1, "input": "Q?", "target": ["Paris", "City of Paris"]}
    log = {"eval": {}, "status": "success", "plan": {}}
    rows = [{**sample, "output": {"completion": "Paris"}, "scores": {"g": {"value": "C"}}}]
    parsed = parse(tmp_path / "set", _document(tmp_path, {**log, "samples": rows}))
    assert parsed.items["1|epoch1"].reference == "Paris\nCity of Paris"
