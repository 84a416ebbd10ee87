"""Scores of any origin as votes."""

import asyncio
import math
from collections.abc import Mapping

import pytest

from trustescalate.errors import ConfigError
from trustescalate.judges.base import Tariff
from trustescalate.judges.reward import RewardJudge, ScoringBackend, Unscored
from trustescalate.records import Item, Judgment, Message, Reply, Request, Task, TaskKind, Turn, Usage
from trustescalate.records.votes import all_votes

PAIR = Task(TaskKind.PAIRWISE, "Which?", ("A", "B", "tie"))
GRADE = Task(TaskKind.BINARY, "Good?", ("pass", "fail"))


class Table:
    """Scores by response; what is not in it cannot be scored."""

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = scores
        self.seen: list[tuple[tuple[Message, ...], str]] = []

    async def score(self, prompt: tuple[Message, ...], response: str) -> float:
        self.seen.append((prompt, response))
        if response not in self.scores:
            raise Unscored("bad_request", "too long")
        return self.scores[response]


def judged(task: Task, item: Item, scores: Mapping[str, float], **settings: float) -> Judgment:
    backend = ScoringBackend(Table(scores))
    judge = RewardJudge("r", "print", task, backend.complete, tariff=Tariff(request=0.25), **settings)
    return asyncio.run(judge.judge(item, all_votes))


def test_a_margin_becomes_a_probability_and_the_order_does_not_matter() -> None:
    scores = {"good": 1.5, "bad": -0.5}
    (vote,) = judged(PAIR, Item("q", "p", ("good", "bad")), scores).votes
    (mirror,) = judged(PAIR, Item("q", "p", ("bad", "good")), scores).votes
    p = 1 / (1 + math.exp(-2.0))
    assert vote.probs == pytest.approx({"A": p, "B": 1 - p, "tie": 0.0})
    assert (vote.probs["A"], vote.probs["B"]) == (mirror.probs["B"], mirror.probs["A"])
    assert (vote.order, vote.raw, vote.usage, vote.cost) == ("", "1.5, -0.5", Usage(calls=2), 0.5)


def test_a_single_response_passes_by_its_score() -> None:
    judgment = judged(GRADE, Item("q", "p", ("good",)), {"good": 3.0}, scale=2.0)
    (vote,) = judgment.votes
    p = 1 / (1 + math.exp(-1.5))
    assert vote.probs == pytest.approx({"pass": p, "fail": 1 - p})
    assert judgment.planned == 1


def test_scores_far_apart_stay_probabilities() -> None:
    (vote,) = judged(PAIR, Item("q", "p", ("good", "bad")), {"good": 9e300, "bad": -9e300}).votes
    assert vote.probs == {"A": 1.0, "B": 0.0, "tie": 0.0}


@pytest.mark.parametrize(
    ("scores", "failure"),
    [
        ({"good": 1.0}, "bad_request"),
        ({"good": 1.0, "bad": math.nan}, "bad_reply"),
        ({"good": math.inf, "bad": math.inf}, "bad_reply"),
        ({"good": 1.7e308, "bad": -1.7e308}, None),
    ],
)
def test_a_response_without_a_score_is_a_failed_vote(
    scores: Mapping[str, float], failure: str | None
) -> None:
    (vote,) = judged(PAIR, Item("q", "p", ("good", "bad")), scores).votes
    assert vote.failure == failure
    assert bool(vote.probs) == (failure is None)
    assert vote.usage.calls == 2


def test_a_reply_that_is_no_number_is_a_failed_vote() -> None:
    async def words(request: Request) -> Reply:
        return Reply("better than the other", None, "stop", Usage(1))

    judge = RewardJudge("r", "print", PAIR, words)
    (vote,) = asyncio.run(judge.judge(Item("q", "p", ("a", "b")), all_votes)).votes
    assert vote.failure == "bad_reply"


def test_all_turns_are_shown_and_nothing_else() -> None:
    table = Table({"x": 0.0, "y": 0.0})
    judge = RewardJudge("r", "print", PAIR, ScoringBackend(table).complete)
    turns = (Turn("system", "s"), Turn("user", "u"))
    asyncio.run(judge.judge(Item("q", turns, ("x", "y"), reference="secret"), all_votes))
    shown = (Message("system", "s"), Message("user", "u"))
    assert table.seen == [(shown, "x"), (shown, "y")]


def test_of_a_response_in_turns_the_last_is_scored_after_the_others() -> None:
    table = Table({"x": 1.0, "z": 0.0})
    judge = RewardJudge("r", "print", PAIR, ScoringBackend(table).complete)
    turns = (Turn("assistant", "w"), Turn("user", "more"), Turn("assistant", "x"))
    (vote,) = asyncio.run(judge.judge(Item("q", "p", (turns, "z")), all_votes)).votes
    before = (Message("user", "p"), Message("assistant", "w"), Message("user", "more"))
    assert table.seen == [(before, "x"), (before[:1], "z")]
    assert vote.probs["A"] > 0.7


@pytest.mark.parametrize("kind", [TaskKind.RATING, TaskKind.CHOICE])
def test_other_tasks_are_refused(kind: TaskKind) -> None:
    with pytest.raises(ConfigError, match="reward model") as caught:
        RewardJudge("r", "print", Task(kind, "?", ("1", "2", "3")), ScoringBackend(Table({})).complete)
    assert caught.value.hint
