"""Endpoints that score: three dialects, failures as values, keys, and a cascade with one in it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.projects import calibrate, run, simulated, write_project
from tests.support.servers import Canned, FaultServer
from trustescalate.errors import ConfigError, ProviderError
from trustescalate.judges.reward import RewardJudge, score_request
from trustescalate.judges.score import ScoreBackend, body, read_score
from trustescalate.records import Item, Judgment, Reply, Request, Task, TaskKind, Usage
from trustescalate.records.votes import all_votes

PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
PASS = Task(TaskKind.BINARY, "Good?", ("pass", "fail"))
ITEM = Item("q", "Hi?", ("one", "three"))


def judged(item: Item, scores: Mapping[str, float], **settings: float) -> Judgment:
    async def ask(request: Request) -> Reply:
        return Reply(repr(scores[request.messages[-1].content]), None, "stop", Usage(1))

    task = PASS if len(item.responses) == 1 else PAIR
    return asyncio.run(RewardJudge("r", "print", task, ask, **settings).judge(item, all_votes))


def test_a_single_answer_is_compared_with_the_decision_threshold() -> None:
    item, scores = Item("q", "Hi?", ("four",)), {"four": 4.0}
    assert judged(item, scores, decision_threshold=4.0).votes[0].probs == {"pass": 0.5, "fail": 0.5}
    assert judged(item, scores).votes[0].probs["pass"] > 0.9
    assert judged(item, scores, decision_threshold=1000.0, scale=1e-9).votes[0].probs == {
        "pass": 0.0,
        "fail": 1.0,
    }


def test_a_pair_has_no_decision_threshold() -> None:
    scores = {"one": 1.0, "three": 3.0}
    assert judged(ITEM, scores, decision_threshold=9.0).votes == judged(ITEM, scores).votes


# ── over the wire ────────────────────────────────────────────────────────────────────────────────

SHAPES: Mapping[str, Any] = {
    "score": lambda score: {
        "object": "list",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
        "data": [{"index": 0, "object": "score", "score": score}],
    },
    "rerank": lambda score: {
        "id": "rerank-1",
        "usage": {"total_tokens": 9},
        "results": [{"index": 0, "document": {"text": "…"}, "relevance_score": score}],
    },
    "tei": lambda score: [{"index": 0, "score": score}],
}


def text_of(sent: dict[str, Any]) -> str:
    return str(sent.get("text_2") or (sent.get("documents") or sent.get("texts"))[0])


def scoring(api: str, **faults: Canned) -> FaultServer:
    """A server that scores by length; the first request for a text in `faults` ends so."""

    def plan(sent: dict[str, Any], nth: int) -> Canned:
        if nth == 1 and text_of(sent) in faults:
            return faults[text_of(sent)]
        return Canned(200, SHAPES[api](len(text_of(sent)) / 2))

    return FaultServer(plan=plan)


async def at_once(_: float) -> None:
    """Wait for nothing."""


def ask(server: FaultServer, api: str, *texts: str, **settings: Any) -> list[Reply]:
    async def asked() -> list[Reply]:
        backend = ScoreBackend(model="m", api=api, base_url=server.url, **settings)  # type: ignore[arg-type]
        try:
            return [await backend.complete(score_request(ITEM, text)) for text in texts]
        finally:
            await backend.close()

    return asyncio.run(asked())


@pytest.mark.parametrize("api", sorted(SHAPES))
def test_each_dialect_is_spoken(api: str) -> None:
    with scoring(api) as server:
        (reply,) = ask(server, api, "four", extra={"truncate": True})
    assert (reply.text, reply.failure, reply.usage.calls) == ("2.0", None, 1)
    assert reply.usage.input_tokens == (2 if api == "tei" else 9), "by length where none are counted"
    assert server.stats.bodies == [{**body(api, "m", "Hi?", "four"), "truncate": True}]  # type: ignore[arg-type]


def test_failures_are_values_and_passing_ones_are_asked_again() -> None:
    faults = {
        "again": Canned(500, {"error": "busy"}),
        "wait": Canned(429, {"error": "slow down"}, {"retry-after-ms": "5"}),
        "long": Canned(413, {"error": "too long"}),
        "odd": Canned(200, {"data": []}),
        "page": Canned(200, "<html>"),
    }
    with scoring("score", **faults) as server:
        replies = ask(server, "score", *faults, "fine", attempts=3, sleep=at_once)
    assert [reply.failure for reply in replies] == [None, None, "bad_request", None, None, None]
    assert sorted(server.stats.by_body.values()) == [1, 1, 2, 2, 2, 2]
    with FaultServer(plan=lambda sent, nth: Canned(200, {"data": []})) as server:
        assert ask(server, "score", "odd", sleep=at_once)[0].failure == "bad_reply"
        assert server.stats.requests == 3
    with scoring("score") as server:
        url = server.url
    assert ask(server, "score", "x", attempts=2)[0].failure == "unreachable", url


@pytest.mark.parametrize("status", [401, 402, 404])
def test_what_dooms_every_request_is_a_provider_error(status: int) -> None:
    with (
        FaultServer(plan=lambda sent, nth: Canned(status, {"error": {"message": "no"}})) as server,
        pytest.raises(ProviderError, match=r"m at http://127") as caught,
    ):
        ask(server, "score", "x")
    assert caught.value.hint


def test_a_key_is_named_sent_and_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORE_KEY", "sk-test-score")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    refusal = Canned(400, {"error": {"message": "bad text from sk-test-score"}})
    with FaultServer(plan=lambda sent, nth: refusal) as server:
        (reply,) = ask(server, "score", "x", api_key_env="SCORE_KEY")
        ask(server, "score", "x")
    assert reply.text == "bad text from ***"
    assert server.stats.headers[0]["authorization"] == "Bearer sk-test-score"
    assert "sk-" not in server.stats.headers[1]["authorization"]
    monkeypatch.delenv("SCORE_KEY")
    with pytest.raises(ProviderError, match="SCORE_KEY is not set"):
        ask(server, "score", "x", api_key_env="SCORE_KEY")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"[[1]]", b'{"data": {}}', b'{"data": [{"score": true}]}', b"[" * 9999),
        *(b'{"data": [{"score": NaN}]}', b'{"data": [{"score": "1"}]}', b'{"data": [{"score": 1e999}]}'),
        b'{"data": [{"score": ' + b"9" * 400 + b"}]}",
        b'{"results": [{"score": 1}, {"score": 2}]}',
    ],
)
def test_answers_of_any_other_shape_are_none(content: bytes) -> None:
    assert read_score(content) is None


# ── in a project ─────────────────────────────────────────────────────────────────────────────────


def table(url: str) -> str:
    return (
        f'[[judges]]\nname = "reward"\nbackend = "score"\nmodel = "m"\nbase_url = "{url}"\n'
        "scale = 100.0\nprice = { input = 0.02 }\n"
    )


@pytest.mark.slow
def test_a_reward_model_is_a_tier_whose_answers_are_cached(tmp_path: Any) -> None:
    with scoring("score") as server:
        config = write_project(tmp_path, table(server.url) + simulated("large", "M"), alpha=0.45)
        certificate = calibrate(config)
        assert certificate.diagnostics[0].votes == certificate.n
        assert certificate.diagnostics[0].cost == pytest.approx(2 * 9 * 0.02e-6)
        asked = server.stats.requests
        calibrate(config)
        assert server.stats.requests == asked
        run(config)
        config.write_text(config.read_text().replace("scale = 100.0", "scale = 200.0"))
        calibrate(config)
        assert max(server.stats.by_body.values()) == 1, "another scale is no other question"


def test_a_rating_cannot_be_scored(tmp_path: Any) -> None:
    def one(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for item in items:
            item["responses"] = item["responses"][:1]
        for note in notes:
            note["label"] = "3"

    config = write_project(
        tmp_path, table("http://localhost:1/v1"), change=one, more='[task]\nkind = "rating"'
    )
    with pytest.raises(ConfigError, match="no labels to choose a rating from"):
        calibrate(config)
