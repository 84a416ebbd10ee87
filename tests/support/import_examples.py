"""Example records of every import format."""

from collections.abc import Callable
from typing import Any, NamedTuple

from trustescalate.data.importers.registry import COLUMNS

Record = dict[str, Any]
FIRST = 70
"""So that no damage gives a record the id of another one."""


class Example(NamedTuple):
    """How a format's records look: the i-th one, the file around them, and the files beside."""

    format: str
    record: Callable[[int], Record]
    around: Callable[[list[Record]], Any] | None = None
    beside: Callable[[int], Record] | None = None
    suffix: str = ".jsonl"


def _alpaca(i: int) -> Record:
    row: Record = {"instruction": f"Do {i}.", "output_1": "one", "output_2": "two", "generator_1": "x"}
    said = {"annotator": "judge", "preference": 1.5, "raw_completion": "m", "price_per_example": 0.1}
    return {**row, "generator_2": "y", "dataset": "d", **said}


def _people(i: int) -> Record:
    return {**_alpaca(i), "annotator_index": i, "preference": 2}


def _talk(answer: str) -> list[Record]:
    return [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": answer}]


def _battle(i: int) -> Record:
    models = {"question_id": f"q{i}", "model_a": "x", "model_b": "y", "winner": "model_a", "judge": "u"}
    return {**models, "conversation_a": _talk("one"), "conversation_b": _talk("two"), "turn": 1}


def _names(i: int) -> Record:
    return {"question_id": f"q{i}", "model_a": "x", "model_b": "y", "winner": "tie (bothbad)"}


def _kaggle(i: int) -> Record:
    texts = {"prompt": '["p", "q"]', "response_a": '["a", "b"]', "response_b": '["c", "d"]'}
    won = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    return {"id": i, "model_a": "x", "model_b": "y", **texts, **won}


def _game(a: str, b: str, score: str) -> Record:
    said = "".join(
        f"<|The Start of Assistant {side}'s Answer|>\n{text}\n<|The End of Assistant {side}'s Answer|>\n\n"
        for side, text in (("A", a), ("B", b))
    )
    shown = [{"role": "user", "content": f"<|User Prompt|>\nWhich?\n\n{said}"}]
    return {"score": score, "judgment": {"answer": f"[[{score}]]"}, "prompt": shown}


def _arena_hard(i: int) -> Record:
    games = [_game("one", "two", "A>B"), _game("two", "one", "B>>A")]
    return {"uid": f"u{i}", "category": "c", "judge": "j", "model": "m", "baseline": "b", "games": games}


def _argilla(i: int) -> Record:
    said = {"": ["response_a", "tie"], ".users": ["u", "v"], ".status": ["submitted", "discarded"]}
    row: Record = {"id": f"i{i}", "prompt": "p", "response_a": "one", "response_b": "two"}
    row |= {f"preference.responses{part}": value for part, value in said.items()}
    return {**row, "preference.suggestion": "response_b", "preference.suggestion.agent": "judge"}


def _deepeval(i: int) -> Record:
    metric = {"name": "Good", "success": True, "score": 0.9, "threshold": 0.5, "evaluationModel": "m"}
    metric |= {"reason": "so", "evaluationCost": 0.01, "error": None}
    return {
        "name": f"t{i}",
        "input": "p",
        "actualOutput": "r",
        "expectedOutput": "r",
        "metricsData": [metric],
    }


def _inspect(i: int) -> Record:
    history = [{"value": "C"}, {"value": "I", "provenance": {"author": "ann"}}]
    score = {"value": "I", "answer": "r", "explanation": "so", "history": history}
    return {
        "id": i,
        "epoch": 1,
        "input": _talk("r")[:1],
        "target": "r",
        "output": {"completion": "r", "choices": []},
        "scores": {"fact": score},
        "error": None,
    }


def _log(samples: list[Record]) -> Record:
    grader = {"model_roles": {"grader": {"model": "m"}}, "scorers": [{"name": "fact", "options": {}}]}
    return {"version": 2, "status": "success", "plan": {}, "eval": grader, "samples": samples}


def _judgebench(i: int) -> Record:
    game = {"judgment": {"judge_model": "m", "response": "so"}, "decision": "A>B"}
    texts = {"question": "p", "response_model": "x", "response_A": "one", "response_B": "two"}
    ids = {"pair_id": f"p{i}", "original_id": i, "source": "s", "label": "B>A"}
    return {**ids, **texts, "judge_name": "arena", "judgments": [game, game]}


def _label_studio(i: int) -> Record:
    place = {"from_name": "comparison", "to_name": "comparison", "type": "pairwise"}
    side = {**place, "value": {"selected": "left"}}
    detail = {"from_name": "detail", "to_name": "p", "type": "choices", "value": {"choices": ["Yes"]}}
    shown = {"model_version": "judge", "score": 0.5, "result": [side]}
    one = {"id": i, "completed_by": {"id": 1}, "result": [side, detail], "was_cancelled": False}
    data = {"item_id": f"i{i}", "prompt": "p", "left": "one", "right": "two", "left_is": "B", "book": "b"}
    annotations = [{**one, "prediction": shown}, {**one, "completed_by": 2, "result": [{**side}]}]
    return {"id": i, "data": data, "annotations": annotations, "predictions": [7], "drafts": []}


def _label_studio_row(i: int) -> Record:
    data = {"id": i, "prompt": "p", "answer1": "one", "answer2": "two", "left_is": "output_2"}
    return {
        **data,
        "annotator": 1,
        "annotation_id": i,
        "lead_time": 1.5,
        "comparison": [{"selected": "left"}],
    }


def _llmbar(i: int) -> Record:
    game = {"winner": "1", "completion": ["so"], "score_1": ["1"], "score_2": ["2"]}
    rounds = [{"swap = False": game, "swap = True": {**game, "winner": "2"}}]
    return {"input": f"p{i}", "output_1": "one", "output_2": "two", "label": 1, "results": rounds}


def _lm_eval(i: int) -> Record:
    asked = {f"gen_args_{place}": {"arg_0": "p", "arg_1": text} for place, text in enumerate("ab")}
    said = {"resps": [[["-1.0", "False"]]], "filtered_resps": [["-1.0", "False"], ["-2.0", "True"]]}
    scored = {"filter": "none", "metrics": ["acc"], "acc": 1.0}
    return {"doc_id": i, "doc": {}, "target": "0", "arguments": asked, **said, **scored}


def _mlflow(i: int) -> Record:
    span = {"attributes": {"mlflow.spanInputs": '{"q": "p"}', "mlflow.spanOutputs": '"r"'}}
    person = {"source_type": "HUMAN", "source_id": "ann"}
    judge = {"source_type": "LLM_JUDGE", "source_id": "m"}
    said: list[Record] = [
        {"assessment_name": "good", "source": person, "feedback": {"value": True}, "valid": True},
        {"assessment_name": "good", "source": judge, "feedback": {"value": "no"}, "rationale": "so"},
        {"assessment_name": "fact", "source": person, "expectation": {"value": "r"}},
    ]
    info = {"trace_id": f"t{i}", "assessments": said, "request_preview": "p", "response_preview": "r"}
    return {"info": info, "data": {"spans": [span]}}


def _mt_bench(i: int, models: int) -> tuple[Record, str]:
    only = "Assistant" if models == 1 else "Assistant A"
    said = f"[The Start of {only}'s Answer]\none\n[The End of {only}'s Answer]"
    if models == 2:
        said += "\n\n[The Start of Assistant B's Answer]\ntwo\n[The End of Assistant B's Answer]"
    return {"question_id": i, "judge": ["gpt-4", "v2"], "turn": 1, "tstamp": 1.5}, f"[Question]\np\n\n{said}"


def _mt_pair(i: int) -> Record:
    row, shown = _mt_bench(i, 2)
    games = {"g1_winner": "model_1", "g2_winner": "tie", "g1_judgment": "[[A]]", "g2_judgment": "[[C]]"}
    return {**row, "model_1": "x", "model_2": "y", **games, "g1_user_prompt": shown, "g2_user_prompt": shown}


def _mt_single(i: int) -> Record:
    row, shown = _mt_bench(i, 1)
    return {**row, "model": "x", "score": 7, "judgment": "[[7]]", "user_prompt": shown}


def _batch(i: int) -> Record:
    said = {"message": {"role": "assistant", "content": "r"}, "finish_reason": "stop"}
    body = {"model": "m", "choices": [said], "usage": {"prompt_tokens": 1}}
    return {"custom_id": f"c{i}", "response": {"status_code": 200, "body": body}, "error": None}


def _responses(i: int) -> Record:
    said = {"type": "message", "content": [{"type": "output_text", "text": "r"}]}
    body = {"model": "m", "status": "completed", "output": [said]}
    return {"custom_id": f"c{i}", "response": {"status_code": 200, "body": body}, "error": None}


def _request(i: int) -> Record:
    asked = {"model": "m", "messages": _talk("r")[:1]}
    return {"custom_id": f"c{i}", "method": "POST", "url": "/v1/chat/completions", "body": asked}


def _pandalm(i: int) -> Record:
    row: Record = {"idx": i, "cmp_key": "x_y", "instruction": f"Do {i}.", "input": "", "response1": "one"}
    return {**row, "response2": "two", "annotator1": 1, "annotator2": 0, "annotator3": 2}


def _pandalm_result(i: int) -> Record:
    return {"idx": i, "m_result": "1", "m_reason": "so"}


def _promptfoo(i: int) -> Record:
    rubric = {"pass": True, "score": 1, "reason": "so", "assertion": {"type": "llm-rubric", "metric": "good"}}
    person = {"pass": False, "score": 0, "reason": "no", "assertion": {"type": "human"}}
    grading = {"pass": True, "componentResults": [rubric, person]}
    asked = {"vars": {"i": i}, "prompt": {"raw": f"p{i}", "label": "l"}, "provider": {"id": "m"}}
    test = {"testIdx": i, "promptIdx": 0, "testCase": {"description": "d", "vars": {"i": i}}}
    return {**test, **asked, "response": {"output": "r"}, "success": True, "gradingResult": grading}


def _columns(i: int) -> Record:
    row: Record = {"id": f"i{i}", "prompt": "p", "response_a": "one", "response_b": _talk("two")[1:]}
    return {**row, "label": "A", "annotator": "ann", "group": "g"}


def _trl(i: int) -> Record:
    return {"prompt": f"Do {i}.", "chosen": "one", "rejected": "two"}


def _trl_unpaired(i: int) -> Record:
    return {"prompt": f"Do {i}.", "completion": "one", "label": True}


def _reward_bench(i: int) -> Record:
    models = {"chosen_model": "x", "rejected_model": "y", "subset": "easy"}
    return {"id": f"r{i}", "prompt": f"Do {i}.", "chosen": "one", "rejected": "two", **models}


def _prometheus(i: int) -> Record:
    asked = {"id": f"b{i}", "capability": "c", "task": "t", "instance_idx": i, "system_prompt": "Be kind."}
    rubric = {"criteria": "Good?"} | {f"score{k}_description": str(k) for k in range(1, 6)}
    said = {"response": "one", "response_model_name": "m", "feedback": "Fine.", "score": 4}
    more = {"input": f"Do {i}.", "reference_answer": "none", "score_rubric": rubric, "eval_model_name": "j"}
    return {**asked, **more, **said}


def _prometheus_pair(i: int) -> Record:
    return {"scenario": "s", "label": 1, "prompt": f"Do {i}.", "response 1": "one", "response 2": "two"}


def _mt_votes(i: int) -> Record:
    talk = "[('Hi?', 'user'), ('{}', 'assistant')]"
    row: Record = {"question_id": str(i), "model_a": "x", "model_b": "y", "turn_x": "1", "turn_y": "1"}
    for end, judge in (("_x", "expert_1"), ("_y", "gpt4_pair")):
        row |= {f"winner{end}": "model_a", f"judge{end}": judge}
        row |= {f"conversation_a{end}": talk.format("one"), f"conversation_b{end}": talk.format("two")}
    return row


EXAMPLES = {
    "alpaca_eval": Example("alpaca_eval", _alpaca),
    "alpaca_eval_people": Example("alpaca_eval", _people),
    "arena": Example("chatbot_arena", _battle),
    "arena_wrapped": Example(
        "chatbot_arena", lambda i: {"instance": _battle(i)}, lambda rows: {"instances": rows}, suffix=".json"
    ),
    "arena_hard": Example("arena_hard", _arena_hard),
    "arena_names": Example("chatbot_arena_battles", _names),
    "argilla": Example("argilla", _argilla),
    "columns": Example(COLUMNS, _columns),
    "deepeval": Example("deepeval", _deepeval, lambda rows: {"testCases": rows}, suffix=".json"),
    "inspect_ai": Example("inspect_ai", _inspect, _log, suffix=".json"),
    "judgebench": Example("judgebench", _judgebench),
    "kaggle": Example("chatbot_arena_kaggle", _kaggle),
    "label_studio": Example("label_studio", _label_studio),
    "label_studio_rows": Example("label_studio", _label_studio_row),
    "llmbar": Example("llmbar", _llmbar),
    "lm_eval": Example("lm_eval", _lm_eval),
    "mlflow": Example("mlflow", _mlflow),
    "mt_bench_pair": Example("mt_bench_pair", _mt_pair),
    "mt_bench_single": Example("mt_bench_single", _mt_single),
    "mt_bench_votes": Example("mt_bench_votes", _mt_votes),
    "openai_batch": Example("openai_batch", _batch, beside=_request),
    "openai_responses": Example("openai_batch", _responses, beside=_request),
    "pandalm": Example("pandalm", _pandalm, beside=_pandalm_result),
    "prometheus": Example(
        "prometheus",
        _prometheus,
        lambda rows: {str(place): row for place, row in enumerate(rows)},
        suffix=".json",
    ),
    "prometheus_pairs": Example("prometheus_pairs", _prometheus_pair),
    "promptfoo": Example("promptfoo", _promptfoo),
    "promptfoo_document": Example(
        "promptfoo", _promptfoo, lambda rows: {"results": {"results": rows}}, suffix=".json"
    ),
    "reward_bench": Example("reward_bench", _reward_bench),
    "trl": Example("trl", _trl),
    "trl_unpaired": Example("trl_unpaired", _trl_unpaired),
}
