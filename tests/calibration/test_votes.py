"""Records to scores, and the guarantee of early stopping: it never changes what happens to an item."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.projects import calibrate
from tests.support.votes import FAILED, TASK, ballots, judged, vote
from trustescalate.calibration.scoring import Scorer
from trustescalate.calibration.votes import confidence, score_bounds, vote_array
from trustescalate.cascade.runner import Cascade, Tier, decide_item
from trustescalate.judges.replay import ReplayJudge
from trustescalate.records import Annotation, Decision, Item, Task, Vote
from trustescalate.records.jsonl import write_rows

pytestmark = pytest.mark.slow


def test_failed_and_missing_votes_stay_in_the_denominator() -> None:
    sure = {"A": 1.0}
    rows = [
        judged(*(vote(i, sure) for i in range(4))),
        judged(vote(0, sure), vote(1, sure), vote(2, sure), vote(3, FAILED)),
        judged(vote(0, sure), planned=4),
        judged(*(vote(i, FAILED) for i in range(4))),
    ]
    result = confidence(TASK, "ensemble", rows)
    assert result.label.tolist() == [0, 0, 0, -1]
    assert result.score.tolist() == [1.0, 0.75, 0.25, 0.0]


def test_votes_that_nobody_has_are_missing_too() -> None:
    assert confidence(TASK, "ensemble", [judged(vote(0, {"A": 1.0}), planned=4)]).score.tolist() == [0.25]


@settings(max_examples=60, deadline=None)
@given(st.lists(ballots(), min_size=2, max_size=5), st.sampled_from(["ensemble", "sampled", "verbalized"]))
def test_ensembles_of_different_sizes_score_together_as_each_alone(
    drawn: list[tuple[Task, list[list[Vote]]]], estimator: str
) -> None:
    task = max((task for task, _ in drawn), key=lambda task: len(task.labels))
    rows = [judged(*(vote for wave in waves for vote in wave)) for _, waves in drawn]
    ties = np.linspace(0, 0.9, len(rows))
    together = confidence(task, estimator, rows, ties)
    for place, row in enumerate(rows):
        alone = score_bounds(task, estimator, row.votes, row.planned, float(ties[place]))
        assert (alone.label, alone.low) == (together.label[place], together.score[place])


def test_short_ensembles_that_are_wrong_are_tested_as_they_would_be_released(tmp_path: Path) -> None:
    """Two sure votes must not count as two of four where they are tested, and as all where they decide."""
    places = range(400)
    lean = {"A": 0.8, "B": 0.2}
    rows = [(2, {"B": 0.99, "A": 0.01}) if place % 3 == 0 else (4, lean) for place in places]
    votes = [
        judged(*(vote(k, probs) for k in range(size)), item=f"q{n}") for n, (size, probs) in enumerate(rows)
    ]
    written = {
        "items": [Item(f"q{n}", f"Why {n}?", (f"yes {n}", f"no {n}")) for n in places],
        "annotations": [Annotation(f"q{n}", "ann", "A") for n in places[:300]],
        "votes": votes,
    }
    for name, records in written.items():
        write_rows(tmp_path / f"{name}.jsonl", records)
    config = tmp_path / "trustescalate.toml"
    config.write_text(
        "version = 1\n[guarantee]\nalpha = 0.2\ndelta = 0.1\n[ensemble]\nannotators = 2\nshots = 2\n"
        '[[judges]]\nname = "j"\nbackend = "replay"\nvotes = "votes.jsonl"\n',
        encoding="utf-8",
    )
    assert calibrate(config).status == "none"  # a third of all that any threshold releases is wrong


def test_votes_are_normalised_over_the_labels_in_the_order_of_the_task() -> None:
    votes = [vote(0, {"tie": 0.1, "A": 0.3}), vote(0, FAILED)]
    assert vote_array(TASK, votes).tolist() == [[0.3, 0.0, 0.1], [0.0, 0.0, 0.0]]
    assert score_bounds(TASK, "ensemble", votes, 2).low == pytest.approx(0.375)


def attainable(task: Task, estimator: str, votes: list[Vote], planned: int) -> list[float]:
    """Every bound that is met on the way, and its neighbours: the thresholds that could go wrong."""
    seen = [score_bounds(task, estimator, votes[:n], planned) for n in range(1, planned + 1)]
    values = {b.low for b in seen} | {b.high for b in seen}
    return sorted({w for v in values for w in (v, math.nextafter(v, 2), math.nextafter(v, -1))})


@settings(max_examples=150, deadline=None)
@given(ballots(), st.sampled_from(["ensemble", "verbalized"]), st.floats(0, 1))
def test_stopping_early_decides_as_the_whole_ensemble(
    drawn: tuple[Task, list[list[Vote]]], estimator: str, any_threshold: float
) -> None:
    task, waves = drawn
    votes = [vote for wave in waves for vote in wave]
    whole = confidence(task, estimator, [judged(*votes)])
    label, score = int(whole.label[0]), float(whole.score[0])
    end = score_bounds(task, estimator, votes, len(votes))
    assert (end.label, end.low, end.high) == (label, score, score)
    thresholds = [any_threshold, *attainable(task, estimator, votes, len(votes))]
    for threshold, decision in zip(
        thresholds, asyncio.run(decided(task, estimator, votes, thresholds)), strict=True
    ):
        wanted = task.labels[label] if label >= 0 and score >= threshold else None
        assert decision.label == wanted
        assert decision.trail[0].score <= score <= decision.trail[0].score_upper


async def decided(task: Task, estimator: str, votes: list[Vote], thresholds: list[float]) -> list[Decision]:
    """What the cascade does with one item at each threshold; votes come wave by wave, until enough."""
    judge, item = ReplayJudge("j", [judged(*votes)]), Item("x", "p", ("a", "b"))
    return [
        (await decide_item(item, Cascade((Tier(judge, tau),), Scorer(task, estimator))))[1]
        for tau in thresholds
    ]


def test_the_cascade_asks_no_more_than_it_needs() -> None:
    votes = [vote(i, {"A": 1.0}) for i in range(10)]
    low, high = asyncio.run(decided(TASK, "ensemble", votes, [0.5, 0.95]))
    assert (low.label, low.trail[0].votes) == ("A", 6)
    assert (high.label, high.trail[0].votes) == ("A", 10)
    split = [vote(i, {"A": 0.5, "B": 0.5}) for i in range(10)]
    (given_up,) = asyncio.run(decided(TASK, "ensemble", split, [0.9]))
    assert (given_up.label, given_up.trail[0].votes) == (None, 3)


def test_stopping_early_does_stop_early() -> None:
    sure, planned = [vote(i, {"A": 1.0}) for i in range(4)], 10
    assert score_bounds(TASK, "ensemble", sure[:3], planned).label == -1
    doubtful = [vote(i, {"A": 0.5, "B": 0.5}) for i in range(4)]
    assert score_bounds(TASK, "ensemble", doubtful, planned).high == 0.8
    assert score_bounds(TASK, "ensemble", [vote(i, {"A": 1.0}) for i in range(6)], planned)[:2] == (0, 0.6)
