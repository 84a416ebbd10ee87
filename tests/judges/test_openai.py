"""The OpenAI-compatible backend against a server that misbehaves, on the loopback interface."""

import asyncio
import gc
import gzip
import json
import logging
import traceback
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.endpoints import CANARY, Clock, explain_no_certificate, run
from tests.support.servers import (
    FAULTS,
    ODD_ANSWERS,
    WIRE_FAULTS,
    Canned,
    FaultServer,
    Plan,
    canonical,
    seeded,
)
from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Dialect
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.reply_parsing import read_verdict
from trustescalate.judges.transport import public_url
from trustescalate.records import FAILURES, Message, Reply, Request

pytestmark = pytest.mark.slow
AB = ("A", "B")
LATER = "Wed, 21 Oct 2026 07:28:07 GMT"
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUDGE_KEY", CANARY)


def ask(text: str = "which?", *, logprobs: bool = True, sample: int = 0) -> Request:
    return Request((Message("user", text),), AB, 16, 0.0 if logprobs else 1.0, logprobs, sample)


def always(response: str | Canned) -> Plan:
    return lambda body, nth: response


def first(*responses: str | Canned) -> Plan:
    return lambda body, nth: responses[nth - 1] if nth <= len(responses) else None


# ── a good answer ──────────────────────────────────────────────────────────────────────────────────


def test_a_good_answer() -> None:
    with FaultServer(lambda body: {"A": 0.7, "B": 0.25}) as server:
        reply = run(
            server, lambda backend: backend.complete(ask("é\x00\x1b[31m\u2028")), extra={"top_p": 0.5}
        )
    assert (reply.text, reply.finish, reply.failure) == ("A", "stop", None)
    assert read_verdict(reply, AB).probs == pytest.approx((0.7, 0.25))
    assert (reply.usage.calls, reply.usage.cached_tokens, reply.usage.output_tokens) == (1, 1, 1)
    (body,) = server.stats.bodies
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "é\x00\x1b[31m\u2028"}],
        "max_tokens": 16,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": 20,
        "top_p": 0.5,
    }
    (headers,) = server.stats.headers
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("trustescalate/")
    assert not any("stainless" in name for name in headers), "nobody is told about this machine"


def test_draws_are_seeded_with_their_number() -> None:
    async def use(backend: OpenAIBackend) -> list[Reply]:
        return [await backend.complete(ask(logprobs=False, sample=i)) for i in range(3)]

    with FaultServer() as server:
        replies = run(server, use)
    assert [body["seed"] for body in server.stats.bodies] == [0, 1, 2]
    assert all("logprobs" not in body for body in server.stats.bodies)
    assert [reply.tokens for reply in replies] == [None] * 3


@pytest.mark.parametrize("odd", ODD_ANSWERS)
def test_odd_answers(odd: str) -> None:
    with FaultServer(lambda body: {"A": 0.2, "B": 0.7}, always(odd)) as server:
        reply = run(server, lambda backend: backend.complete(ask()))
    reading = read_verdict(reply, AB)
    if odd in ("refusal", "content_filter"):
        assert reading.failure == "refused"
    elif odd == "no_logprobs":
        assert reading[:3] == ((0.0, 1.0), None, "samples")
    else:
        assert reading.probs == pytest.approx((0.2, 0.7))
    assert server.stats.requests == 1


# ── faults ─────────────────────────────────────────────────────────────────────────────────────────

ENDS = {
    "retry_seconds": "rate_limited",
    "retry_ms": "rate_limited",
    "retry_date": "rate_limited",
    "error_500": "server_error",
    "html_502": "server_error",
    "html_200": "bad_reply",
    "cut_json": "bad_reply",
    "no_choices": "bad_reply",
    "wrong_shape": "bad_reply",
    "drop": "unreachable",
    "garbage": "unreachable",
    "hang": "timeout",
}


@pytest.mark.parametrize("fault", [*FAULTS, *WIRE_FAULTS])
def test_a_fault_that_passes_is_retried_and_one_that_stays_is_a_failure(fault: str) -> None:
    with FaultServer(plan=first(fault)) as server:
        reply = run(server, lambda backend: backend.complete(ask()), timeout=0.2)
        assert reply.failure is None
        assert server.stats.requests == 2
        assert max(server.stats.answered.values()) == 1
    with FaultServer(plan=always(fault)) as server:
        reply = run(server, lambda backend: backend.complete(ask()), timeout=0.1, attempts=4)
        assert reply.failure == ENDS[fault]
        assert reply.failure in FAILURES
        assert reply.tokens is None
        assert server.stats.requests == (3 if ENDS[fault] == "bad_reply" else 4)


def test_a_storm_of_faults_loses_nothing_and_pays_nothing_twice() -> None:
    rates = {"retry_seconds": 0.04, "retry_ms": 0.03, "retry_date": 0.03, "error_500": 0.05, "drop": 0.02}
    rates |= {"garbage": 0.01, "html_200": 0.01, "html_502": 0.02, "cut_json": 0.01}

    async def use(backend: OpenAIBackend) -> list[Reply]:
        return await asyncio.gather(*(backend.complete(ask(f"item {i}")) for i in range(400)))

    with FaultServer(plan=seeded(rates, 7), latency=0.002) as server:
        replies = run(server, use, concurrency=8)
    assert all(reply.failure is None and reply.text in AB for reply in replies)
    assert max(server.stats.answered.values()) == 1
    assert server.stats.answered.total() == 400
    assert server.stats.peak == 8
    assert 400 < server.stats.requests < 600


def test_a_waiting_request_takes_no_slot() -> None:
    """With one slot, the others finish while the first waits for its retry."""
    order: list[str] = []
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait()

    async def use(backend: OpenAIBackend) -> None:
        async def one(text: str) -> None:
            await backend.complete(ask(text))
            order.append(text)
            if len(order) == 2:
                gate.set()

        await asyncio.gather(*(one(text) for text in ("slow", "x", "y")))

    def plan(body: Mapping[str, Any], nth: int) -> str | None:
        return "retry_seconds" if body["messages"][0]["content"] == "slow" and nth == 1 else None

    with FaultServer(plan=plan) as server:
        run(server, use, concurrency=1, sleep=sleep)
    assert order == ["x", "y", "slow"]
    assert server.stats.peak == 1


def test_the_overall_bound() -> None:
    clock = Clock()
    plan = always(Canned(429, "", {"retry-after": "40"}))
    with FaultServer(plan=plan) as server:
        reply = run(
            server,
            lambda b: b.complete(ask()),
            attempts=99,
            give_up_after=100.0,
            sleep=clock.sleep,
            clock=clock,
        )
    assert reply.failure == "rate_limited"
    assert clock.now < 100
    assert server.stats.requests == 3


def test_cancelling_releases_the_slot_and_the_connection() -> None:
    async def use(backend: OpenAIBackend) -> Reply:
        task = asyncio.create_task(backend.complete(ask("hangs")))
        while not server.stats.active:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await backend.complete(ask("next"))

    plan: Plan = lambda body, nth: "hang" if body["messages"][0]["content"] == "hangs" else None  # noqa: E731
    with FaultServer(plan=plan) as server:
        assert run(server, use, concurrency=1).failure is None
    gc.collect()


def test_nobody_listens() -> None:
    with FaultServer() as server:
        pass
    reply = run(server, lambda backend: backend.complete(ask()), attempts=2)
    assert reply.failure == "unreachable"


# ── what an endpoint does not support ──────────────────────────────────────────────────────────────

NEWER = explain_no_certificate(
    400,
    "Unsupported parameter: 'max_tokens' is not supported with m. Use 'max_completion_tokens' instead.",
    code="unsupported_parameter",
    param="max_tokens",
)
COLD = explain_no_certificate(
    400, "Unsupported value: 'temperature' does not support 0.0 with this model.", param="temperature"
)
FIVE = explain_no_certificate(400, "Requested sample logprobs of 20, which is greater than max allowed: 5")
NO_LOGPROBS = explain_no_certificate(403, "You are not allowed to request logprobs from this model")
NO_SEED = Canned(
    422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}]}
)


def test_parameters_are_given_up_once_and_told_once() -> None:
    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        refused = {
            "max_tokens" in body: NEWER,
            "temperature" in body: COLD,
            body.get("top_logprobs", 0) > 5: FIVE,
        }
        return refused.get(True)

    async def use(backend: OpenAIBackend) -> list[Reply]:
        return await asyncio.gather(*(backend.complete(ask(f"{i}")) for i in range(20)))

    told: list[str] = []
    with FaultServer(plan=plan) as server:
        replies = run(server, use, notice=told.append, concurrency=4)
    assert all(reply.failure is None and reply.tokens for reply in replies)
    assert len(told) == 3
    assert all(server.url in line for line in told)
    assert server.stats.requests <= 20 + 3 * 4
    last = server.stats.bodies[-1]
    assert (last["max_completion_tokens"], last["top_logprobs"]) == (16, 5)
    assert "temperature" not in last


def test_an_endpoint_without_log_probabilities_or_seed() -> None:
    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        return NO_LOGPROBS if "logprobs" in body else NO_SEED if "seed" in body else None

    async def use(backend: OpenAIBackend) -> list[Reply]:
        return [await backend.complete(ask()), await backend.complete(ask(logprobs=False, sample=1))]

    told: list[str] = []
    with FaultServer(plan=plan) as server:
        replies = run(server, use, notice=told.append)
    assert [(reply.failure, reply.tokens) for reply in replies] == [(None, None)] * 2
    assert len(told) == 2


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 4100 tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 500. The maximum context length is 4096.",
        "messages: at least one message is required",
        "",
    ],
)
def test_other_refusals_are_of_this_request_alone(message: str) -> None:
    with FaultServer(plan=always(explain_no_certificate(400, message))) as server:
        reply = run(server, lambda backend: backend.complete(ask()))
    assert (reply.failure, reply.text) == ("bad_request", message or '{"error": {"message": ""}}')
    assert server.stats.requests == 1


@pytest.mark.parametrize(
    "canned",
    [
        explain_no_certificate(400, "The response was filtered", code="content_filter"),
        explain_no_certificate(403, "Your input was flagged by moderation"),
    ],
)
def test_a_content_filter_refuses_one_request(canned: Canned) -> None:
    with FaultServer(plan=first(canned)) as server:
        replies = run(
            server, lambda b: asyncio.gather(b.complete(ask("x")), b.complete(ask("y"))), concurrency=1
        )
    assert [reply.failure for reply in replies] == ["refused", "refused"]


def test_text_that_cannot_be_sent_is_a_bad_request() -> None:
    with FaultServer() as server:
        assert run(server, lambda backend: backend.complete(ask("\ud800"))).failure == "bad_request"


@given(st.text(max_size=300))
def test_no_message_crashes_the_dialect(text: str) -> None:
    dialect, what = Dialect().without({"message": f"logprobs temperature seed {text}"})
    assert (dialect == Dialect()) == (what == "")


def test_what_a_server_says_is_told_at_its_first_refusal() -> None:
    told: list[str] = []
    plan = always(explain_no_certificate(400, f"only \x1b[31mstream\n mode, {CANARY} " + "x" * 900))

    async def use(backend: OpenAIBackend) -> list[Reply]:
        return [await backend.complete(ask(f"{i}")) for i in range(3)]

    with FaultServer(plan=plan) as server:
        replies = run(server, use, notice=told.append)
    (line,) = told
    assert "(HTTP 400): only [31mstream mode, *** xxx" in line
    assert len(replies[0].text) == 300
    assert replies[0].text in line


def test_a_refusal_of_an_object_is_learnt_from_on_the_wire() -> None:
    refusal = {"message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}}

    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        return Canned(422, refusal) if "seed" in body else None

    with FaultServer(plan=plan) as server:
        reply = run(server, lambda backend: backend.complete(ask(logprobs=False, sample=1)))
    assert reply.failure is None
    assert server.stats.requests == 2


# ── errors inside a success, and answers that are none ─────────────────────────────────────────────


def said(text: str | None, finish: str | None = "stop", **more: Any) -> Canned:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish, **more}
    return Canned(200, {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})


INSIDE = {
    "choice": said("", "error", error={"code": 502, "message": "Upstream error"}),
    "partial": said("A", "error", error={"code": 502, "message": "Provider disconnected"}),
    "finish": said("A", "error"),
    "body": Canned(200, {"error": {"message": "Provider returned error", "code": 429}}),
    "text": Canned(200, {"error": "overloaded"}),
    "empty": said(""),
    "null": said(None),
    "blank": said(" \n", None),
    "stream": Canned(200, 'data: {"choices": [{"delta": {"content": "A"}}]}\n\ndata: [DONE]\n\n'),
    "page": Canned(403, "<html><title>Just a moment...</title></html>"),
}
STAYING = {"body": "rate_limited", "empty": "empty", "null": "empty", "blank": "empty", "stream": "bad_reply"}


@pytest.mark.parametrize("kind", INSIDE)
def test_an_answer_that_is_none_is_asked_again_and_is_a_failure_if_it_stays(kind: str) -> None:
    with FaultServer(plan=first(INSIDE[kind])) as server:
        reply = run(server, lambda backend: backend.complete(ask()))
    assert (reply.failure, server.stats.requests) == (None, 2)
    with FaultServer(plan=always(INSIDE[kind])) as server:
        reply = run(server, lambda backend: backend.complete(ask()), attempts=3)
    assert (reply.failure, server.stats.requests) == (STAYING.get(kind, "server_error"), 3)


def test_an_empty_reply_is_billed_each_time() -> None:
    with FaultServer(plan=first(said(""), said(""), said("A"))) as server:
        reply = run(server, lambda backend: backend.complete(ask()))
    assert (reply.text, reply.usage.input_tokens, reply.usage.output_tokens) == ("A", 30, 6)


# ── answers without an end ─────────────────────────────────────────────────────────────────────────

HUGE = b'{"choices": [{"message": {"content": "' + b"A" * 9_000_000 + b'"}}]}'
PACKED = {
    "plain": (HUGE, {}),
    "gzip": (gzip.compress(HUGE), {"content-encoding": "gzip"}),
    "deflate": (zlib.compress(HUGE), {"content-encoding": "deflate"}),
    "error": (b"x" * 9_000_000, {}),
}


@pytest.mark.parametrize("kind", PACKED)
def test_an_answer_above_the_limit_is_a_bad_reply_with_the_limit(kind: str) -> None:
    body, headers = PACKED[kind]
    status = 400 if kind == "error" else 200
    with FaultServer(plan=always(Canned(status, body, headers))) as server:
        reply = run(server, lambda backend: backend.complete(ask()), attempts=1)
    assert (reply.failure, reply.text) == ("bad_reply", "the answer is larger than 8 MiB")


def test_a_packed_answer_is_read_and_one_packed_otherwise_is_not() -> None:
    good = json.dumps({"choices": [{"message": {"content": "A"}}]}).encode()
    with FaultServer(plan=first(Canned(200, gzip.compress(good), {"content-encoding": "gzip"}))) as server:
        assert run(server, lambda backend: backend.complete(ask())).text == "A"
        assert server.stats.headers[0]["accept-encoding"] == "gzip"
    with FaultServer(plan=always(Canned(200, good, {"content-encoding": "br"}))) as server:
        reply = run(server, lambda backend: backend.complete(ask()), attempts=1)
    assert reply.failure == "bad_reply"
    assert "'br'" in reply.text


def test_tokens_that_no_server_counts_are_told_once() -> None:
    told: list[str] = []
    plan = always(Canned(200, {"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}]}))
    with FaultServer(plan=plan) as server:
        run(
            server,
            lambda b: asyncio.gather(*(b.complete(ask(f"{i}" * 40)) for i in range(3))),
            notice=told.append,
        )
    (line,) = told
    assert "estimated by length" in line


# ── what dooms every request ───────────────────────────────────────────────────────────────────────

DOOMS = [
    (explain_no_certificate(401, f"Incorrect API key provided: {CANARY}"), "JUDGE_KEY"),
    (explain_no_certificate(400, f"API key {CANARY} not valid", code="invalid_api_key"), "JUDGE_KEY"),
    (explain_no_certificate(403, f"{CANARY} is not allowed here"), "JUDGE_KEY"),
    (explain_no_certificate(404, "The model does not exist", code="model_not_found"), "'m'"),
    (Canned(404, "<html>not found</html>"), "base_url"),
    (explain_no_certificate(429, "You exceeded your current quota", code="insufficient_quota"), "JUDGE_KEY"),
    (explain_no_certificate(429, "You exceeded your current quota", type="insufficient_quota"), "JUDGE_KEY"),
    (explain_no_certificate(402, "Insufficient credits"), "JUDGE_KEY"),
]


@pytest.mark.parametrize(("canned", "named"), DOOMS)
def test_a_doomed_endpoint_is_asked_once(
    canned: Canned, named: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    async def use(backend: OpenAIBackend) -> None:
        for _ in range(3):
            with pytest.raises(ProviderError) as caught:
                await backend.complete(ask())
            error = caught.value
            assert error.__context__ is None
            seen.extend([str(error), repr(error), error.hint, *traceback.format_exception(error)])
        seen.extend([repr(backend), str(backend)])

    with FaultServer(plan=always(canned)) as server:
        run(server, use)
    assert server.stats.requests == 1
    assert named in "".join(seen)
    out, err = capfd.readouterr()
    assert CANARY not in "".join([*seen, caplog.text, out, err])


def test_requests_that_queue_behind_a_doom_are_not_sent() -> None:
    async def use(backend: OpenAIBackend) -> list[Any]:
        return await asyncio.gather(
            *(backend.complete(ask(str(i))) for i in range(50)), return_exceptions=True
        )

    with FaultServer(plan=always(Canned(401))) as server:
        outcomes = run(server, use, concurrency=4)
    assert all(isinstance(outcome, ProviderError) for outcome in outcomes)
    assert server.stats.requests <= 4


def test_a_key_that_a_server_repeats_is_struck_out() -> None:
    with FaultServer(plan=always(explain_no_certificate(400, f"bad request with {CANARY}"))) as server:
        reply = run(server, lambda backend: backend.complete(ask()))
    assert reply.text == "bad request with ***"


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ProviderError, match="JUDGE_KEY"):
        OpenAIBackend(model="m", api_key_env="JUDGE_KEY", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ProviderError, match="OPENAI_API_KEY"):
        OpenAIBackend(model="m")
    monkeypatch.setenv("JUDGE_KEY", "clé\n2")
    with pytest.raises(ProviderError, match="holds no key") as caught:
        OpenAIBackend(model="m", api_key_env="JUDGE_KEY")
    assert "clé" not in str(caught.value)


def test_the_openai_key_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with FaultServer() as server:
        run(server, lambda backend: backend.complete(ask()), api_key_env=None)
    assert CANARY not in json.dumps(server.stats.headers)


def test_secrets_of_an_address_are_not_told() -> None:
    address = f"https://user:{CANARY}@host:8000/v1?key={CANARY}#{CANARY}"
    assert public_url(address) == "https://host:8000/v1"


# ── the server and the transport ───────────────────────────────────────────────────────────────────


def test_the_server_counts_by_body() -> None:
    with FaultServer() as server:
        run(server, lambda b: asyncio.gather(*(b.complete(ask(t)) for t in ("x", "x", "y"))))
    assert sorted(server.stats.by_body.values()) == [1, 2]
    assert all(json.loads(key)["model"] == "m" for key in server.stats.by_body)
    assert canonical(server.stats.bodies[0]) in server.stats.by_body


@pytest.mark.parametrize("fault", ["error_500", "drop", "garbage", "hang", "html_200"])
def test_a_fault_costs_one_more_request_and_is_named_where_it_stays(fault: str) -> None:
    with FaultServer(plan=first(fault)) as server:
        reply = run(server, lambda backend: backend.complete(ask()), timeout=0.5)
    assert reply.failure is None
    assert server.stats.requests == 2
    with FaultServer(plan=always(fault)) as server:
        reply = run(server, lambda backend: backend.complete(ask()), timeout=0.1, attempts=2)
    assert reply.failure == ENDS[fault]


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "7"},
        {"retry-after-ms": "7000"},
        {"retry-after": LATER, "date": DATE},
        {"x-ratelimit-reset-requests": "7s"},
    ],
)
def test_what_the_server_says_is_obeyed(headers: dict[str, str]) -> None:
    clock = Clock()
    with FaultServer(plan=first(Canned(429, "", headers), Canned(503, "", headers))) as server:
        assert run(server, lambda b: b.complete(ask()), sleep=clock.sleep).failure is None
    assert len(clock.slept) == 2
    assert all(7.0 <= wait <= 7.7 for wait in clock.slept)
