"""What each mode sends to an endpoint, and what is given up where that is refused."""

import json
import math
from typing import Any

import pytest

from tests.support.endpoints import explain_no_certificate, run
from tests.support.servers import Canned, FaultServer, completion
from trustescalate.judges.base import EnsembleJudge
from trustescalate.judges.completions import Dialect
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.prompts import Asking, default_wording
from trustescalate.records import Item, Judgment, Message, Mode, Request, Task, TaskKind
from trustescalate.records.votes import all_votes

TASK = Task(TaskKind.BINARY, "Is it right?", ("pass", "fail"))
ITEM = Item("q", "2 + 2?", ("4",))
NO_FORM = explain_no_certificate(
    400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported"
)


# llama-cpp-python 0.3.36 answers so, with status 500 (`make test-servers`).
NO_SCHEMA = (
    "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': "
    "\"Input should be 'text' or 'json_object'\", 'input': 'json_schema', 'ctx': {'expected': \"'text' or "
    '\'json_object\'"}}\n\n  File "…/llama_cpp/server/app.py", line 376, in create_chat_completion\n'
    "    POST /v1/chat/completions"
)
NO_LOGPROBS = "logprobs is not supported for models created with logits_all=False"


def internal(message: str) -> Canned:
    error = {"message": message, "type": "internal_server_error", "param": None, "code": None}
    return Canned(500, {"error": error})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "a-key-of-the-tests")


def judged(server: FaultServer, mode: Mode, told: list[str] | None = None, **more: Any) -> Judgment:
    async def use(backend: OpenAIBackend) -> Judgment:
        asking = Asking(mode, default_wording(mode))
        made = EnsembleJudge(
            "j", "f", TASK, ((),), backend.complete, swap=False, samples=2, asking=asking, **more
        )
        return await made.judge(ITEM, all_votes)

    judgment: Judgment = run(server, use, notice=(told if told is not None else []).append)
    return judgment


def says(text: str, **message: Any) -> Any:
    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        code = body["messages"][-1]["content"].partition('"Verdict ')[2][:16]
        answer = completion(body, {"pass": 0.9, "fail": 0.1})
        answer["choices"][0]["message"] = {"content": text.replace("CODE", code), **message}
        answer["choices"][0]["logprobs"] = None
        return Canned(200, answer)

    return plan


OBJECT = json.dumps({"reasoning": "It is 4.", "verdict": "pass"})


def test_a_structured_reply_is_asked_for_by_schema() -> None:
    with FaultServer(plan=says(OBJECT)) as server:
        judgment = judged(server, "structured", channel="samples")
    assert [vote.probs for vote in judgment.votes] == [{"pass": 1.0, "fail": 0.0}] * 2
    form = server.stats.bodies[0]["response_format"]["json_schema"]
    assert form["strict"] is True
    assert list(form["schema"]["properties"]) == ["reasoning", "verdict"]
    assert form["schema"]["properties"]["verdict"]["enum"] == ["pass", "fail"]


def test_an_endpoint_without_schemas_is_asked_without_one_and_read_as_strictly() -> None:
    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        return NO_FORM if "response_format" in body else says(f"I think of {OBJECT}")(body, nth)

    told: list[str] = []
    with FaultServer(plan=plan) as server:
        judgment = judged(server, "structured", told, channel="samples")
    assert {vote.failure for vote in judgment.votes} == {"malformed"}
    assert len(told) == 1
    assert "takes no response_format" in told[0]


@pytest.mark.parametrize(
    ("mode", "field", "message", "notice"),
    [
        ("structured", "response_format", NO_SCHEMA, "takes no response_format"),
        ("direct", "logprobs", NO_LOGPROBS, "gives no log-probabilities"),
    ],
)
def test_a_refused_parameter_is_learnt_from_a_server_error_too(
    mode: Mode, field: str, message: str, notice: str
) -> None:
    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        reply = OBJECT if mode == "structured" else body["messages"][-1]["content"].split()[-1]
        return internal(message) if field in body else says(reply)(body, nth)

    told: list[str] = []
    with FaultServer(plan=plan) as server:
        judgment = judged(server, mode, told, channel="auto")
        bodies = [field in body for body in server.stats.bodies]
    assert bodies[0] is True
    assert not any(bodies[1:]), "asked with the parameter once, and not again as after a fault of the server"
    assert notice in " ".join(told)
    assert not {vote.failure for vote in judgment.votes} & {"server_error"}


def test_other_server_errors_are_no_refusal() -> None:
    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        busy = internal("an unexpected fault while the seed and the temperature were read")
        return busy if nth == 0 else says(OBJECT)(body, nth)

    told: list[str] = []
    with FaultServer(plan=plan) as server:
        judgment = judged(server, "structured", told, channel="samples")
        assert all({"seed", "temperature", "response_format"} <= set(body) for body in server.stats.bodies)
    assert not any(vote.failure for vote in judgment.votes)


@pytest.mark.parametrize("mode", ["direct", "reason", "stated"])
def test_other_modes_ask_for_no_schema(mode: Mode) -> None:
    request = Request((Message("user", "x"),), ("A", "B"), 9, 0.0, False, mode=mode)
    assert b"response_format" not in Dialect().body("m", request, {})


def test_reasoning_is_drawn_where_there_are_no_log_probabilities() -> None:
    """A reasoning model: no log-probabilities, and hidden thoughts that name the other verdict."""
    hidden = {"reasoning_content": "Verdict: fail\n[[fail]]"}
    with FaultServer(plan=says("<think>[[fail]]</think>It is 4.\n\nVerdict CODE: pass", **hidden)) as server:
        judgment = judged(server, "reason", max_tokens=3000)
    assert [(vote.channel, vote.probs) for vote in judgment.votes] == [
        ("samples", {"pass": 1.0, "fail": 0.0})
    ] * 2
    assert {body["max_tokens"] for body in server.stats.bodies} == {3000}
    assert judgment.votes[0].raw.endswith(": pass")


def test_a_stated_confidence_costs_one_call() -> None:
    with FaultServer(plan=says("Verdict CODE: pass, 85 %")) as server:
        judgment = judged(server, "stated")
    assert [(vote.channel, vote.probs) for vote in judgment.votes] == [("stated", {"pass": 0.85})]
    assert server.stats.requests == 1
    assert "logprobs" not in server.stats.bodies[0]


def constrained(verdict: str, *top: tuple[str, float]) -> Any:
    """A server that holds the reply to the schema, with the probabilities from before it (llama.cpp)."""

    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        answer = completion(body, {"pass": 0.9, "fail": 0.1})
        pieces = ['{"reasoning": "It is 4.", "verdict": "', verdict, '"}']
        answer["choices"][0]["message"] = {"content": "".join(pieces)}
        listed = [{"token": token, "logprob": math.log(p)} for token, p in top]
        alternatives = ([], listed, [])
        answer["choices"][0]["logprobs"] = body.get("logprobs") and {
            "content": [
                {"token": piece, "logprob": math.log(dict(top).get(piece, 1e-4)), "top_logprobs": tops}
                for piece, tops in zip(pieces, alternatives, strict=True)
            ]
        }
        return Canned(200, answer)

    return plan


def test_probabilities_from_before_the_schema_are_renormalized_over_the_labels() -> None:
    notes: list[str] = []
    with FaultServer(plan=constrained("pass", ("Response", 0.9), ("pass", 0.06), ("fail", 0.02))) as server:
        judgment = judged(server, "structured", notice=notes.append)
    (vote,) = judgment.votes
    assert (vote.failure, vote.channel) == (None, "logprobs")
    assert vote.probs == pytest.approx({"pass": 0.75, "fail": 0.25})
    assert notes == [
        "j gives log-probabilities from before its schema: they are renormalized over the labels"
    ]


def test_without_the_labels_among_the_alternatives_draws_replace_them() -> None:
    notes: list[str] = []
    with FaultServer(plan=constrained("pass", ("Response", 0.9), ("The", 0.05))) as server:
        judgment = judged(server, "structured", notice=notes.append)
        again = judged(server, "structured", channel="logprobs")
    assert [(v.channel, v.probs) for v in judgment.votes] == [("samples", {"pass": 1.0, "fail": 0.0})] * 2
    (note,) = notes
    assert note.endswith("from before its schema, without the labels: 2 draws a vote instead")
    assert [vote.failure for vote in again.votes] == ["low_mass"]


@pytest.mark.parametrize(
    ("mode", "text", "failure"),
    [
        ("structured", '{"reasoning": "(left out)", "verdict": "pass"}', "malformed"),
        ("structured", '{"reasoning": "It is 4.", "verdict": "<verdict>"}', "none"),
        ("stated", "Verdict CODE: pass, (left out)", "no_confidence"),
        ("reason", "(left out)\n\nVerdict CODE: pass", None),
    ],
)
def test_a_copied_placeholder_is_no_value_and_is_noticed(mode: Mode, text: str, failure: str | None) -> None:
    notes: list[str] = []
    with FaultServer(plan=says(text)) as server:
        more = {} if mode == "stated" else {"channel": "samples"}
        judgment = judged(server, mode, notice=notes.append, **more)
    assert {vote.failure for vote in judgment.votes} == {failure}
    (note,) = notes
    assert "repeats a placeholder where its own words belong: " in note
