"""Other providers' answers, in the shapes of their documentation: read, learnt from, or named as doom."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.endpoints import CANARY, run
from tests.support.servers import Body, Canned, FaultServer
from trustescalate.errors import ProviderError
from trustescalate.judges.base import EnsembleJudge
from trustescalate.judges.completions import Answer, Dialect, parse_completion
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.records import Item, Judgment, Message, Request, Task, TaskKind
from trustescalate.records.votes import all_votes

PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
USAGE = {"prompt_tokens": 700, "completion_tokens": 2, "total_tokens": 702}


def choice(content: Any, finish: str | None = "stop", **more: Any) -> Body:
    return {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish, **more}


GOOD: Mapping[str, Body] = {
    "anthropic": {
        "id": "msg_01", "object": "chat.completion", "created": 1, "model": "claude-sonnet-4",
        "choices": [choice("A", logprobs=None)], "usage": USAGE,
    },
    "gemini": {"model": "gemini-2.5-flash", "choices": [choice("A")], "usage": USAGE},
    "vertex, content as a list": {
        "choices": [choice([{"type": "text", "text": "A"}, {"type": "text", "text": "\n"}], logprobs=None)],
        "usage": USAGE,
    },
    "openrouter": {
        "id": "gen-1", "provider": "Together", "object": "chat.completion", "usage": USAGE,
        "choices": [{**choice("A"), "native_finish_reason": "eos", "logprobs": None}],
    },
    "ollama": {
        "id": "chatcmpl-1", "system_fingerprint": "fp_ollama", "choices": [choice("A")], "usage": USAGE,
    },
}  # fmt: skip

LOGPROBS = {
    "content": [
        {
            "token": "A", "logprob": -0.1, "bytes": [65],
            "top_logprobs": [
                {"token": "A", "logprob": -0.1, "bytes": [65]},
                {"token": " B", "logprob": -2.5, "bytes": [32, 66]},
            ],
        }
    ]
}  # fmt: skip


@pytest.mark.parametrize("provider", sorted(GOOD))
def test_an_answer_without_log_probabilities_is_read(provider: str) -> None:
    reply = parse_completion(json.dumps(GOOD[provider]).encode())
    assert reply is not None
    assert (reply.text.strip(), reply.tokens, reply.finish, reply.failure) == ("A", None, "stop", None)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (700, 2)


@pytest.mark.parametrize("server", ["openai", "vllm", "llama.cpp", "ollama"])
def test_log_probabilities_are_read(server: str) -> None:
    extra = {"llama.cpp": {"id": 1}, "vllm": {"stop_reason": None}}.get(server, {})
    body = {"choices": [{**choice("A"), "logprobs": LOGPROBS, **extra}], "usage": USAGE}
    reply = parse_completion(json.dumps(body).encode())
    assert reply is not None
    assert reply.tokens is not None
    assert reply.tokens[0].top == (("A", -0.1), (" B", -2.5))


@pytest.mark.parametrize(
    ("body", "finish", "failure"),
    [
        ({"choices": [choice(None, "length")]}, "length", None),
        ({"choices": [choice("", "max_tokens")]}, "length", None),
        ({"choices": [choice("", "content_filter")]}, "stop", "refused"),
        ({"choices": [choice(None, None)]}, "stop", None),
    ],
)
def test_finish_reasons_are_understood(body: Body, finish: str, failure: str | None) -> None:
    reply = parse_completion(json.dumps(body).encode())
    assert reply is not None
    assert (reply.finish, reply.failure, reply.text) == (finish, failure, "")


def anthropic(kind: str, message: str) -> Body:
    return {"type": "error", "error": {"type": kind, "message": message}}


def google(code: int, status: str, message: str) -> list[Body]:
    return [{"error": {"code": code, "message": message, "status": status}}]


ERRORS = [
    ("anthropic", 400, anthropic("invalid_request_error", "prompt is too long"), "bad_request"),
    ("anthropic", 529, anthropic("overloaded_error", "Overloaded"), "server_error"),
    ("anthropic", 429, anthropic("rate_limit_error", "…"), "rate_limited"),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Request contains an invalid argument."), "bad_request"),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded"), "rate_limited"),
    ("gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded."), "server_error"),
    ("azure", 400, {"error": {"code": "content_filter", "message": "The response was filtered"}}, "refused"),
    ("openrouter", 403, {"error": {"code": 403, "message": "Your input was flagged"}}, "refused"),
    (
        "llama.cpp",
        400,
        {"error": {"code": 400, "message": "exceeds the context size", "type": "exceed_context_size_error"}},
        "bad_request",
    ),
    ("vllm", 400, {"object": "error", "message": "maximum context length is 4096 tokens"}, "bad_request"),
]


@pytest.mark.parametrize(("provider", "status", "body", "failure"), ERRORS)
def test_an_error_has_its_message_and_its_code(provider: str, status: int, body: Any, failure: str) -> None:
    answer = Answer(status, {}, json.dumps(body).encode())
    assert answer.failure == failure
    assert answer.message
    assert answer.retryable == (failure in ("rate_limited", "server_error"))
    assert Dialect().without(answer.error)[0] == Dialect(), "none of these is about a parameter"


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("Logprobs is not enabled for models/gemini-2.5-pro", None),
        ('Invalid JSON payload received. Unknown name "logprobs": Cannot find field.', None),
        ("logprobs is not supported by this endpoint", None),
        ("top_logprobs must be less than or equal to 5", 5),
    ],
)
def test_a_refusal_of_log_probabilities_is_learnt_from(message: str, left: int | None) -> None:
    body = google(400, "INVALID_ARGUMENT", message)
    assert Dialect().without(Answer(400, {}, json.dumps(body).encode()).error)[0].alternatives == left


# ── over the wire ────────────────────────────────────────────────────────────────────────────────


def judged(server: FaultServer, channel: Any = None) -> tuple[Judgment, list[str]]:
    said: list[str] = []

    async def ask() -> Judgment:
        backend = OpenAIBackend(model="m", base_url=server.url, attempts=1, notice=said.append)
        judge = EnsembleJudge(
            "j",
            "print",
            PAIR,
            ((),),
            backend.complete,
            swap=True,
            samples=3,
            channel=channel,
            notice=said.append,
        )
        try:
            return await judge.judge(Item("q", "Hi?", ("a", "b")), all_votes)
        finally:
            await backend.close()

    return asyncio.run(ask()), said


def gemini(body: Body, nth: int) -> Canned:
    if "logprobs" in body:
        return Canned(400, google(400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/m"))
    return Canned(200, GOOD["gemini"])


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_with_channel_auto_draws_stand_for_log_probabilities(provider: str) -> None:
    plan = gemini if provider == "gemini" else lambda body, nth: Canned(200, GOOD["anthropic"])
    with FaultServer(plan=plan) as server:
        judgment, said = judged(server)
    assert [vote.channel for vote in judgment.votes] == ["samples"] * 6
    assert all(vote.failure is None for vote in judgment.votes)
    assert any("no log-probabilities" in text for text in said)


def test_a_certified_channel_is_never_left() -> None:
    with FaultServer(plan=lambda body, nth: Canned(200, GOOD["anthropic"])) as server:
        judgment, _ = judged(server, channel="logprobs")
    assert [vote.failure for vote in judgment.votes] == ["no_logprobs"] * 2


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, anthropic("authentication_error", "invalid x-api-key")),
        (400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")),
        (403, google(403, "PERMISSION_DENIED", "The API has not been used in this project")),
        (402, {"error": {"code": 402, "message": "Insufficient credits"}}),
        (404, {"error": {"message": "model 'm' not found", "type": "api_error"}}),
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}),
    ],
)  # fmt: skip
def test_what_dooms_every_request_is_named_at_once(status: int, body: Any) -> None:
    with (
        FaultServer(plan=lambda _, nth: Canned(status, body)) as server,
        pytest.raises(ProviderError) as caught,
    ):
        judged(server)
    assert caught.value.hint


# ── other hosts ────────────────────────────────────────────────────────────────────────────────────

ASKED = Request((Message("user", "which?"),), ("A", "B"), 16, 0.0, logprobs=False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_neither_a_text_nor_a_key_follows_a_redirection(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", CANARY)
    with FaultServer() as other:
        moved = Canned(status, "", {"location": f"{other.url}/chat/completions"})
        with FaultServer(plan=lambda _body, _nth: moved) as server:
            with pytest.raises(ProviderError, match=f"moved \\(HTTP {status}\\)"):
                run(server, lambda backend: backend.complete(ASKED))
            assert server.stats.requests == 1
    assert other.stats.requests == 0


def test_what_the_environment_gives_to_openai_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Own: {CANARY}\nUser-Agent: {CANARY}")
    monkeypatch.setenv("JUDGE_KEY", "sk-own")
    with FaultServer() as server:
        run(server, lambda backend: backend.complete(ASKED))
    (headers,) = server.stats.headers
    assert CANARY not in json.dumps(headers)
    assert headers["authorization"] == "Bearer sk-own"


def test_it_goes_to_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")

    async def headers(url: str | None) -> dict[str, str]:
        endpoint = Endpoint(model="m", base_url=url)
        await endpoint.close()
        return endpoint._transports[0]._headers

    for url in (None, "https://api.openai.com", "https://api.openai.com/v1"):
        sent = asyncio.run(headers(url))
        assert (sent["openai-organization"], sent["authorization"]) == ("org-1", "Bearer sk-own")
    assert "openai-organization" not in asyncio.run(headers("https://api.openai.com.example/v1"))
