"""What a log says is read as what it means: unread graders, choices, grades, scores, empty answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, parse
from trustescalate.data.importers.choices import with_choices
from trustescalate.data.importers.unread import why_unread
from trustescalate.errors import DataError
from trustescalate.records import Turn


def _write(tmp_path: Path, value: Any, name: str = "log.json") -> Path:
    lines = value if isinstance(value, list) else [value]
    (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / name


def _inspect(*samples: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "id": str(i),
            "epoch": 1,
            "input": "2 + 2?",
            "target": "A",
            "output": {"completion": "ANSWER: A"},
            **one,
        }
        for i, one in enumerate(samples)
    ]
    return {"eval": {"scorers": []}, "status": "success", "plan": {}, "samples": rows}


def _verdicts(found: Parsed, judge: str) -> list[str]:
    return [found.votes(item_id, judge)[0][1] for item_id in found.items]


# ── graders that could not be read ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "score",
    [
        {"value": "I", "explanation": "Grade not found in model output: GRID: C"},
        {"value": "I", "explanation": "ok", "reason": "invalid_response_format"},
        {"value": "I", "reason": "grader_failed"},
        {"value": "C", "metadata": {"unscored_reason": "grade_parse_failure"}},
        {"value": "I", "explanation": "API error: 503 service unavailable"},
        {"value": float("nan")},
        {"value": float("nan"), "reason": "abstained", "metadata": {"abstained": True, "label": None}},
    ],
)
def test_a_grader_that_was_not_read_is_a_failed_vote(score: dict[str, Any], tmp_path: Path) -> None:
    edited = {**score, "history": [score, {"value": "C", "provenance": {"author": "ann"}}]}
    log = _inspect({"scores": {"g": score}}, {"scores": {"g": {"value": "I", "explanation": "wrong"}}})
    found = parse(tmp_path / "set", _write(tmp_path, log))
    assert _verdicts(found, "g") == ["invalid", "fail"]
    found = parse(tmp_path / "edited", _write(tmp_path, _inspect({"scores": {"g": edited}})))
    assert _verdicts(found, "g") == ["invalid"]
    assert found.annotations == {("0|epoch1", "ann"): "pass"}


def test_a_response_cannot_make_its_own_check_fail_to_be_read(tmp_path: Path) -> None:
    """Checks explain themselves with the response: its words are no report on a grader."""
    words = "Grade not found in model output"
    one = {"output": {"completion": words}, "scores": {"match": {"value": "I", "explanation": words}}}
    assert _verdicts(parse(tmp_path / "set", _write(tmp_path, _inspect(one))), "match") == ["fail"]


def test_a_model_that_gave_nothing_is_still_judged(tmp_path: Path) -> None:
    silent = {"output": {"completion": ""}, "scores": {"match": {"value": "I", "reason": "no_response"}}}
    found = parse(tmp_path / "set", _write(tmp_path, _inspect(silent)))
    assert [item.responses for item in found.items.values()] == [("",)]
    assert _verdicts(found, "match") == ["fail"]


def test_grades_on_a_scale_are_no_pass(tmp_path: Path) -> None:
    log = _inspect(*({"scores": {"g": {"value": value}, "h": {"value": value > 3}}} for value in (1, 5)))
    found = parse(tmp_path / "set", _write(tmp_path, log))
    assert _verdicts(found, "g") == ["invalid", "invalid"]
    assert _verdicts(found, "h") == ["fail", "pass"]
    assert "'g' give grades on a scale" in " ".join(found.result.assumed)


def _promptfoo(output: Any, *parts: dict[str, Any]) -> dict[str, Any]:
    row = {
        "vars": {"q": "x"},
        "prompt": {"raw": "Say x."},
        "provider": {"id": "m"},
        "response": {"output": output},
        "testCase": {"description": str(output)},
        "testIdx": 0,
        "promptIdx": 0,
        "gradingResult": {"componentResults": list(parts)},
    }
    return {"results": {"results": [row]}}


def _part(kind: str, reason: str, passed: bool = False) -> dict[str, Any]:
    return {"pass": passed, "score": int(passed), "reason": reason, "assertion": {"type": kind}}


@pytest.mark.parametrize(
    "reason",
    [
        "Could not extract JSON from llm-rubric response",
        "llm-rubric produced malformed response: x",
        "No output",
        "API error: 500 Internal Server Error",
        "API call error: Error: Request timed out",
        "Rate limit exceeded",
    ],
)
def test_a_rubric_that_was_not_read_is_a_failed_vote(reason: str, tmp_path: Path) -> None:
    for passed in (True, False):  # "not-" turns an error into a pass
        log = _write(tmp_path, _promptfoo("x", _part("llm-rubric", reason, passed), _part("equals", "no")))
        found = parse(tmp_path / str(passed), log)
        assert _verdicts(found, "llm-rubric") == ["invalid"]
        assert _verdicts(found, "equals") == ["fail"]


def test_reasons_that_only_mention_an_error_are_reasons() -> None:
    for reason in (
        "The response says 'API error: 500' and stops.",
        "The model failed to answer.",
        "Failed to parse the question correctly, so the answer is wrong.",
        "No response was given.",
        "API error handling is missing.",
        "Expected output to be valid JSON",
    ):
        assert why_unread(reason) is None


def test_comparative_verdicts_are_left_out_and_said(tmp_path: Path) -> None:
    parts = (
        _part("select-best", "Output selected", True),
        _part("max-score", "best", True),
        _part("equals", "no"),
    )
    found = parse(tmp_path / "set", _write(tmp_path, _promptfoo("x", *parts)))
    assert {judge for _, judge in found.judgments} == {"equals"}
    assert "2 verdicts of select-best and max-score are left out" in " ".join(found.result.assumed)


# ── choices ──────────────────────────────────────────────────────────────────────────────────────


def test_choices_of_a_sample_are_in_its_prompt_as_the_model_saw_them(tmp_path: Path) -> None:
    shuffled = [{"role": "user", "content": "Answer.\n\n2 + 2?\n\nA) 4\nB) 3"}]
    log = _inspect(
        {"choices": ["3", "4"]},
        {"choices": ["3", "4"], "messages": shuffled},
        {"choices": ["3", "4"], "input": "2 + 2? (a) 3 (b) 4"},
        {"choices": ["3", "4"], "input": [{"role": "user", "content": "2 + 2?"}]},
        {"choices": None},
    )
    found = parse(tmp_path / "set", _write(tmp_path, log))
    assert [item.prompt for item in found.items.values()] == [
        "2 + 2?\n\nA) 3\nB) 4",
        "2 + 2?\n\nA) 4\nB) 3",
        "2 + 2? (a) 3 (b) 4",
        "2 + 2?\n\nA) 3\nB) 4",
        "2 + 2?",
    ]


@pytest.mark.parametrize(
    ("prompt", "choices", "whole"),
    [
        ("Which?\nA. one\nB. two", ["one", "two"], True),
        ("Which?\n1) one\n2) two", ["one", "two"], True),
        ("Which?\none\ntwo", ["one", "two"], True),
        ("Which?\nA. one\nB. two", [" A", " B"], True),
        ("Is one more than two?", ["one", "two"], False),
        ("Which?\nA. one\nB. twofold", ["one", "two"], False),
    ],
)
def test_choices_that_stand_in_the_prompt_are_not_repeated(
    prompt: str, choices: Sequence[str], whole: bool
) -> None:
    assert (with_choices(prompt, choices) == prompt) == whole


def test_choices_go_to_the_last_question_of_a_conversation() -> None:
    talk = (Turn("system", "Be brief."), Turn("user", "Which?"))
    assert with_choices(talk, ["x", "y"]) == (talk[0], Turn("user", "Which?\n\nA) x\nB) y"))


@pytest.mark.parametrize(
    "choices", [["3", "4"], {"text": ["3", "4"], "label": ["A", "B"]}, {"A": "3", "B": "4"}]
)
def test_choices_of_a_row_are_in_its_prompt(choices: Any, tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "choices": choices, "response": "B", "label": "yes"}
    found = parse(tmp_path / "set", _write(tmp_path, [row], "rows.jsonl"))
    assert [item.prompt for item in found.items.values()] == ["2 + 2?\n\nA) 3\nB) 4"]


# ── grades and scores ────────────────────────────────────────────────────────────────────────────


def _bench(*games: dict[str, Any]) -> dict[str, Any]:
    pair = {"pair_id": "p", "original_id": 1, "source": "s", "question": "q", "response_model": "m"}
    texts = {"response_A": "x", "response_B": "y", "label": "A>B", "judge_name": "j"}
    return {**pair, **texts, "judgments": list(games)}


def _game(decision: Any, **judgment: Any) -> dict[str, Any]:
    return {"decision": decision, "judgment": {"judge_model": "m", **judgment}}


def _shares(found: Parsed) -> list[float]:
    """P(A) of each vote."""
    (row,) = found.judgments.values()
    return [vote.probs["A"] if "A" in vote.probs else 1 - sum(vote.probs.values()) for vote in row.votes]


def test_scores_are_confidences_by_their_margin(tmp_path: Path) -> None:
    shares = []
    for i, (one, other) in enumerate([(19.875, 19.5), (19.875, 9.5), (19.5, 19.875), (3, 3)]):
        games = _game("A>B", scores=[one, other]), _game("B>A", scores=[other, one])
        found = parse(tmp_path / str(i), _write(tmp_path, [_bench(*games)], "rows.jsonl"))
        first, second = _shares(found)
        assert first == pytest.approx(second)
        shares.append(first)
    assert shares[1] > 0.99 > shares[0] > 0.5 == shares[3] > shares[2]


def test_strong_grades_are_surer_than_slight_ones(tmp_path: Path) -> None:
    for kept in ("A>>B", "A>B"):  # the grade stands in the reply, where the decision was folded
        games = _game(kept, response="[[A>>B]]"), _game("B>A", response="[[B>A]]")
        found = parse(tmp_path / kept, _write(tmp_path, [_bench(*games)], "rows.jsonl"))
        assert _shares(found) == [1.0, 0.75]
    plain = _game("A>B", response="[[A>B]]"), _game("A=B", response="[[A=B]]")
    found = parse(tmp_path / "plain", _write(tmp_path, [_bench(*plain)], "rows.jsonl"))
    (row,) = found.judgments.values()
    assert [vote.probs for vote in row.votes] == [{"A": 1.0}, {"tie": 1.0}]


# ── the newest Arena release ─────────────────────────────────────────────────────────────────────


def _said(*texts: Any) -> list[dict[str, Any]]:
    roles = ("user", "assistant") * len(texts)
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if isinstance(text, str) else text}
        for role, text in zip(roles, texts, strict=False)
    ]


def test_the_newest_arena_release_is_read(tmp_path: Path) -> None:
    models = {"model_a": "m", "model_b": "n", "evaluation_session_id": "s"}
    image = [{"type": "image", "image": "data:…"}, {"type": "text", "text": "What is it?"}]
    rows = [
        {
            "id": "1",
            **models,
            "winner": "both_bad",
            "conversation_a": _said("q", "x"),
            "conversation_b": _said("q", ""),
        },
        {
            "id": "2",
            **models,
            "winner": "model_b",
            "conversation_a": _said("q", "x", "r", "y"),
            "conversation_b": _said("q", "v", "r", "w"),
        },
        {
            "id": "3",
            **models,
            "winner": "model_a",
            "conversation_a": _said(image, "x"),
            "conversation_b": _said(image, "y"),
        },
    ]
    found = parse(tmp_path / "set", _write(tmp_path, rows, "rows.jsonl"))
    assert found.items["1"].responses == ("x", "")
    assert [len(each) for each in found.items["2"].responses] == [3, 3]  # judged after the last turn
    assert set(found.annotations.values()) == {"tie", "B"}
    assert {item.group for item in found.items.values()} == {"s"}
    assert (found.result.refused, "image" in found.result.rejected[0]) == (1, True)


# ── empty answers, and missing ones ──────────────────────────────────────────────────────────────


def test_an_empty_answer_is_an_answer_and_a_missing_one_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"q{i}",
            "response_a": "x",
            "winner": "A",
            **({} if value == "none" else {"response_b": value}),
        }
        for i, value in enumerate(["y", "", " \n", None, "none"])
    ]
    found = parse(tmp_path / "set", _write(tmp_path, rows, "rows.jsonl"))
    assert [item.responses[1] for item in found.items.values()] == ["y", "", " \n"]
    assert [each.rsplit("/", 1)[1] for each in found.result.rejected] == [
        "rows.jsonl:4: response_b is missing",
        "rows.jsonl:5: response_b is missing",
    ]


def test_a_missing_cell_of_a_table_is_no_empty_answer(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,response_a,response_b\nq,x,\nr,y\n")
    found = parse(tmp_path / "set", tmp_path / "rows.csv")
    assert [item.responses for item in found.items.values()] == [("x", "")]
    assert found.result.rejected[0].endswith("rows.csv:3: response_b is missing")


def test_files_of_names_are_refused_for_what_they_are(tmp_path: Path) -> None:
    for name, line in (
        ("qrels.txt", "401 0 FBIS3-1 2\n402\t0\tFT-2\t0\n"),
        ("run", "401 Q0 FT-2 1 3.5 bm25\n"),
    ):
        (tmp_path / name).write_text(line)
        with pytest.raises(DataError, match="the names of texts without the texts"):
            parse(tmp_path / "set", tmp_path / name)


def test_the_order_of_tiers_without_prices_is_said(tmp_path: Path) -> None:
    log = _promptfoo("x", _part("zebra", "no"), _part("ant", "no"))
    found = parse(tmp_path / "set", _write(tmp_path, log))
    assert "the order of the tiers ('ant', 'zebra') is by votes and name" in " ".join(found.result.assumed)


# ── lm-evaluation-harness ────────────────────────────────────────────────────────────────────────


def _sample(**fields: Any) -> dict[str, Any]:
    asked = {"gen_args_0": {"arg_0": "2 + 2?", "arg_1": {}}}
    usual = {"doc": {}, "target": "4", "arguments": asked, "resps": [["It is four."]], "filter": "strict"}
    return {**usual, "filtered_resps": ["four"], "metrics": ["match"], "match": 0.0, **fields}


def test_a_check_whose_filter_found_no_answer_is_a_failed_vote(tmp_path: Path) -> None:
    rows = [_sample(doc_id=0, filtered_resps=["[invalid]"]), _sample(doc_id=1)]
    found = parse(tmp_path / "set", _write(tmp_path, rows, "samples.jsonl"))
    assert [item.responses for item in found.items.values()] == [("It is four.",)] * 2
    assert _verdicts(found, "match") == ["invalid", "fail"]


def test_a_metric_with_numbers_above_1_is_no_verdict(tmp_path: Path) -> None:
    rows = [
        _sample(doc_id=i, metrics=["match", "length"], length=length) for i, length in enumerate([1, 0, 7])
    ]
    found = parse(tmp_path / "set", _write(tmp_path, rows, "samples.jsonl"))
    assert _verdicts(found, "length") == ["invalid"] * 3
    assert _verdicts(found, "match") == ["fail"] * 3


def test_choices_of_a_document_are_in_its_prompt(tmp_path: Path) -> None:
    asked = {f"gen_args_{i}": {"arg_0": "2 + 2?", "arg_1": f" {i + 3}"} for i in range(2)}
    scores = [["-2.0", "False"], ["-1.0", "True"]]
    row = _sample(
        doc_id=0, arguments=asked, resps=[[each] for each in scores], filtered_resps=scores, target="1"
    )
    found = parse(tmp_path / "set", _write(tmp_path, [row], "samples.jsonl"))
    (item,) = found.items.values()
    assert (item.prompt, item.responses, item.reference) == ("2 + 2?\n\nA) 3\nB) 4", (" 4",), " 4")
