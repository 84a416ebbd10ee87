"""Scores as votes: reward models and rerankers, over the wire and from any scorer."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import pytest

from tests.servers import Canned, FaultServer
from tests.test_project import calibrate, run, simulated, write_project
from trustescalate.errors import ConfigError, ProviderError
from trustescalate.judges.base import Tariff, all_votes
from trustescalate.judges.reward import RewardJudge, answers, scored
from trustescalate.judges.score import ScoreBackend, body, read_score
from trustescalate.types import Item, Judgment, Message, Reply, Request, Task, TaskKind, Turn, Usage

PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
PASS = Task(TaskKind.BINARY, "Good?", ("pass", "fail"))
ITEM = Item("q", "Hi?", ("one", "three"))


class Lengths:
    """The longer the better; no text of more than ten characters."""

    async def score(self, prompt: tuple[Turn, ...], response: str) -> float:
        if len(response) > 10:
            raise ValueError("too long")
        return float(len(response))


def judged(item: Item = ITEM, task: Task = PAIR, **settings: float) -> Judgment:
    judge = RewardJudge("r", "print", task, answers(Lengths()), tariff=Tariff(request=0.5), **settings)
    return asyncio.run(judge.judge(item, all_votes))


def test_a_margin_is_a_probability_as_bradley_and_terry_have_it() -> None:
    (vote,) = judged().votes
    assert vote.order == "AB+BA"
    assert vote.probs["B"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert vote.probs["tie"] == 0
    assert (vote.raw, vote.usage.calls, vote.cost) == ("3.0 5.0", 2, 1.0)
    assert judged(scale=4.0).votes[0].probs["B"] == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_a_swapped_pair_gets_the_swapped_vote_and_equal_scores_none() -> None:
    one, other = judged().votes[0], judged(Item("q", "Hi?", ("three", "one"))).votes[0]
    assert (one.probs["A"], one.probs["B"]) == (other.probs["B"], other.probs["A"])
    same = judged(Item("q", "Hi?", ("one", "two"))).votes[0]
    assert same.probs["A"] == same.probs["B"] == 0.5


def test_a_single_answer_is_held_against_the_middle() -> None:
    item = Item("q", "Hi?", ("four",))
    assert judged(item, PASS, middle=4.0).votes[0].probs == {"pass": 0.5, "fail": 0.5}
    assert judged(item, PASS).votes[0].probs["pass"] > 0.9
    assert judged(item, PASS, middle=1000.0, scale=1e-9).votes[0].probs == {"pass": 0.0, "fail": 1.0}


def test_a_response_that_cannot_be_scored_fails_the_vote() -> None:
    (vote,) = judged(Item("q", "Hi?", ("one", "much too long"))).votes
    assert (vote.failure, dict(vote.probs), vote.usage.calls) == ("bad_request", {}, 2)


@pytest.mark.parametrize("text", ["nan", "inf", "", "A", "1e999"])
def test_what_is_no_number_is_a_bad_reply(text: str) -> None:
    async def ask(request: Request) -> Reply:
        return Reply(text, None, "stop", Usage(1))

    judge = RewardJudge("r", "print", PAIR, ask)
    assert asyncio.run(judge.judge(ITEM, all_votes)).votes[0].failure == "bad_reply"


def test_other_tasks_are_refused() -> None:
    for kind in (TaskKind.RATING, TaskKind.CHOICE):
        with pytest.raises(ValueError, match=f"not {kind}"):
            RewardJudge("r", "print", Task(kind, "?", ("1", "2", "3")), answers(Lengths()))


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


def ask(server: FaultServer, api: str, *texts: str, **settings: Any) -> list[Reply]:
    async def asked() -> list[Reply]:
        backend = ScoreBackend(model="m", api=api, base_url=server.url, **settings)  # type: ignore[arg-type]
        try:
            return [await backend.complete(scored(ITEM, text)) for text in texts]
        finally:
            await backend.close()

    return asyncio.run(asked())


@pytest.mark.parametrize("api", sorted(SHAPES))
def test_each_dialect_is_spoken(api: str) -> None:
    with scoring(api) as server:
        (reply,) = ask(server, api, "four", extra={"truncate": True})
    assert (reply.text, reply.failure, reply.usage.calls) == ("2.0", None, 1)
    assert reply.usage.input_tokens == (0 if api == "tei" else 9)
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
        replies = ask(server, "score", *faults, "fine", attempts=3)
    assert [reply.failure for reply in replies] == [None, None, "bad_request", "bad_reply", "bad_reply", None]
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
        *(b'{"data": [{"score": NaN}]}', b'{"data": [{"score": "1"}]}'),
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
    with pytest.raises(ConfigError, match="scores can judge pairwise and binary tasks, not rating"):
        calibrate(config)


def test_turns_are_shown_with_their_roles() -> None:
    request = scored(Item("q", (Turn("user", "Hi"), Turn("assistant", "Hello")), ("a",)), "a")
    assert request.messages == (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("assistant", "a"),
    )
