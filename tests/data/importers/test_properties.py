"""Records that are nearly right, of every format: refused by name or taken whole, and never a traceback.

Of three records the last one is damaged. The other two must come in as if nothing had happened.
"""

import copy
import json
import math
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.formats import Parsed, parse
from trustescalate.config.tables import TaskTable
from trustescalate.data.importers.registry import COLUMNS, FORMATS
from trustescalate.errors import TrustEscalateError
from trustescalate.records import Task

pytestmark = pytest.mark.slow
Record = dict[str, Any]
RECORDS = 3
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


# ── damage ───────────────────────────────────────────────────────────────────────────────────────


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 2, 1.5, -0.0, math.nan, math.inf, 10**400, -(10**4000), 2**63, 1e308),
        *("", " ", "A", "B", "tie", "C", "null", "nan", "1", "²", "\ud800", "\x00", "é", "x" * 300),
        *("../../etc/passwd", "<script>", "{{x}}", '["\\ud800"]', '["a", null]', '"\\ud800"', "[" * 400),
        *([], {}, [None], [[]], [{}], {"": None}, {"role": None}, [1e400], _deep(100), _deep(300)),
    ]
)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from _paths(each, (*path, key))


@st.composite
def _damaged(draw: st.DrawFn, whole: Any) -> Any:
    """A copy with one to three of its fields lost, wrapped, doubled, or holding something odd."""
    value = {"all": copy.deepcopy(whole)}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([*_paths(value)] or [("all",)]))
        holder: Any = value
        for step in way:
            holder = holder[step]
        match draw(st.sampled_from(["odd", "odd", "lost", "wrapped", "doubled"])):
            case "lost" if way:
                del holder[last]
            case "wrapped":
                holder[last] = [holder[last]]
            case "doubled" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[last]))
            case _:
                holder[last] = copy.deepcopy(draw(ODD))
    return value["all"]


# ── what holds ───────────────────────────────────────────────────────────────────────────────────


def _write(folder: Path, example: Example, rows: list[Any], beside: list[Any]) -> list[Path]:
    main = folder / f"main{example.suffix}"
    whole = [example.around(rows)] if example.around else rows
    main.write_text("\n".join(map(json.dumps, whole)))
    if not example.beside:
        return [main]
    other = folder / "beside.jsonl"
    other.write_text("\n".join(map(json.dumps, beside)))
    return [main, other]


def _import(folder: Path, example: Example, rows: list[Any], beside: list[Any]) -> Parsed | None:
    """What is taken; None where the files are refused whole, with words."""
    try:
        return parse(folder / "set", *_write(folder, example, rows, beside))
    except TrustEscalateError as error:
        assert error.exit_code == 2  # noqa: PT017
        assert not (folder / "set").exists()
        return None


def _task(folder: Path) -> Task:
    table = tomllib.loads((folder / "set" / "trustescalate.toml").read_text(encoding="utf-8"))["task"]
    return TaskTable.model_validate_json(json.dumps(table)).task()


def _says_only_what_the_task_knows(found: Parsed, task: Task) -> bool:
    votes = [vote for row in found.judgments.values() for vote in row.votes]
    return (
        set(found.annotations.values()) <= set(task.annotation_labels)
        and all(set(vote.probs) <= set(task.labels) for vote in votes)
        and all(bool(vote.probs) != bool(vote.failure) for vote in votes)
        and all(len(item.responses) == task.responses for item in found.items.values())
    )


def _whole(example: Example, number: int = RECORDS) -> tuple[list[Record], list[Record]]:
    beside = example.beside or (lambda _: {})
    places = range(FIRST, FIRST + RECORDS)
    return [example.record(i) for i in places[:number]], [beside(i) for i in places]


def test_every_format_has_an_example() -> None:
    assert {example.format for example in EXAMPLES.values()} == {*FORMATS, COLUMNS}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_whole_file_is_of_its_format_and_comes_in_whole(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    found = _import(tmp_path, example, *_whole(example))
    assert found is not None
    assert (found.result.format, found.result.items, found.result.refused) == (example.format, RECORDS, 0)
    assert found.annotations or found.judgments or example.format == "openai_batch"
    assert not any(vote.failure for row in found.judgments.values() for vote in row.votes)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_damaged_record_is_refused_or_taken_and_costs_no_other(name: str) -> None:
    example = EXAMPLES[name]
    rows, beside = _whole(example)
    with tempfile.TemporaryDirectory() as folder:
        good = _import(Path(folder), example, *_whole(example, RECORDS - 1))
        assert good is not None

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(rows[-1]))
    def holds(last: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), example, [*rows[:-1], last], beside)
            if found is None:  # one JSON document, or what the labels mean is not known any more
                assert example.around or example.format == COLUMNS
                return
            result = found.result
            assert result.items + result.repeated + result.refused >= RECORDS
            assert good.items.items() <= found.items.items()
            assert _says_only_what_the_task_knows(found, _task(Path(folder)))
            if not isinstance(last, dict) or last.get("scores") == rows[-1].get(
                "scores"
            ):  # else it may have turned to finer grades
                assert good.annotations.items() <= found.annotations.items()

    holds()


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].around])
def test_a_damaged_document_never_ends_in_a_traceback(name: str) -> None:
    example = EXAMPLES[name]
    assert example.around
    bare = example._replace(around=None)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(example.around(_whole(example)[0])))
    def holds(document: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), bare, [document], [])
            assert found is None or _says_only_what_the_task_knows(found, _task(Path(folder)))

    holds()


@pytest.mark.parametrize("name", EXAMPLES)
def test_where_the_first_record_is_damaged_the_file_is_refused_or_read(name: str) -> None:
    example = EXAMPLES[name]
    rows, beside = _whole(example)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(rows[0]))
    def holds(first: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), example, [first, *rows[1:]], beside)
            assert found is None or _says_only_what_the_task_knows(found, _task(Path(folder)))

    holds()


@pytest.mark.parametrize("name", [name for name in EXAMPLES if EXAMPLES[name].beside])
def test_a_damaged_record_beside_is_counted(name: str) -> None:
    example = EXAMPLES[name]
    rows, beside = _whole(example)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(_damaged(beside[-1]))
    def holds(last: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = _import(Path(folder), example, rows, [*beside[:-1], last])
            assert found is not None
            assert found.result.items + found.result.refused >= RECORDS
            assert _says_only_what_the_task_knows(found, _task(Path(folder)))

    holds()
