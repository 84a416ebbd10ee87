"""A fitted score keeps the promise, end to end; one that is fitted on what it is tested on does not.

Counted as in `test_validity`. TRUSTESCALATE_TRIALS raises the number of trials, for nightly runs.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.calibration.test_calibrate import protocol
from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.scoring import Scorer
from trustescalate.records import Annotation, Certificate, Item, Judgment, Task, TaskKind, Vote
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.validity import violation_limit

TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "300"))
ALPHA, DELTA = 0.15, 0.1
TASK = Task(TaskKind.PAIRWISE, "Which?", ("A", "B"), "drop")
POPULATION = 1500
DEV, CERTIFY = 40, 150
Rows = Mapping[str, Judgment]


@cache
def population(world: str) -> tuple[Rows, Mapping[str, Item], tuple[str, ...], FloatArray]:
    """Votes of one judge in two orders on rows that stand for all, and each row's P(error).

    In "noise" no sign tells anything and every policy is as wrong as the whole, just too often. In "edge"
    the gap between the orders tells all, and the best tenth of the rows is just too often wrong. In "easy"
    half the rows are nearly always right, and only that gap tells which.
    """
    rng = np.random.default_rng(11)
    sure, gap = rng.uniform(0.55, 0.95, POPULATION), rng.uniform(0, 0.5, POPULATION)
    lengths = rng.integers(10, 500, size=(POPULATION, 2))
    error = np.full(POPULATION, 1.02 * ALPHA)
    if world == "edge":
        error = np.where(gap < 0.05, 1.02 * ALPHA, np.clip(0.1 + gap, 0, 0.5))
    if world == "easy":
        error = np.where(gap < 0.25, 0.03, 0.45)
    ids = tuple(f"p{i}" for i in range(POPULATION))
    rows, items = {}, {}
    for i, item in enumerate(ids):
        high, low = min(sure[i] + gap[i] / 2, 1.0), max(sure[i] - gap[i] / 2, 0.0)
        votes = tuple(
            Vote(0, order, {"A": share, "B": 1 - share})  # type: ignore[arg-type]
            for order, share in (("AB", high), ("BA", low))
        )
        rows[item] = Judgment(item, "j", "print of j", votes, 2)
        items[item] = Item(item, "p", tuple("x" * int(n) for n in lengths[i]))
    return rows, items, ids, error


def trial(world: str, rng: np.random.Generator, same: bool = False, **more: Any) -> tuple[Certificate, float]:
    """One calibration on rows drawn with replacement, and the true risk of what it certified.

    With `same`, dev rows are the certification rows under other names: the mistake that must show.
    """
    rows, items, ids, error = population(world)
    drawn = rng.choice(POPULATION, DEV + CERTIFY)
    wrong = rng.random(len(drawn)) < error[drawn]
    if same:
        drawn, wrong = np.tile(drawn[DEV:], 2), np.tile(wrong[DEV:], 2)
    names = [f"{ids[row]} {place}" for place, row in enumerate(drawn)]
    origin = dict(zip(names, (ids[row] for row in drawn), strict=True))
    votes = {name: replace(rows[item], item_id=name) for name, item in origin.items()}
    says_b = [sum(vote.probs["B"] for vote in votes[name].votes) > 1 for name in names]
    truth = ["AB"[int(said ^ bool(no))] for said, no in zip(says_b, wrong, strict=True)]
    dev, tested = names[:-CERTIFY], names[-CERTIFY:]
    roles = {"exemplars": (), "dev": dev, "holdout": (), "certify": tested, "pilot": dev}
    given = {"alpha": ALPHA, "delta": DELTA, "task": TASK, "roles": {k: tuple(v) for k, v in roles.items()}}
    texts = {name: items[item] for name, item in origin.items()}
    notes = [Annotation(name, "x", label) for name, label in zip(names, truth, strict=True)]
    made = calibrate(protocol(names, **{**given, **more}), notes, {"j": votes}, created="now", items=texts)
    return made, true_risk(made, world)


def true_risk(made: Certificate, world: str) -> float:
    rows, items, ids, error = population(world)
    if made.thresholds is None or made.thresholds[0] is None:
        return 0.0
    read = Scorer.of(made, items).read(["j"], ids, {"j": rows})
    accepted = (read.scores[:, 0] >= made.thresholds[0]) & (read.labels[:, 0] >= 0)
    return float(error[accepted].mean()) if accepted.any() else 0.0


@pytest.fixture(autouse=True)
def _no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many labels a refusal would advise takes longer to work out than the test, and decides nothing."""
    monkeypatch.setattr("trustescalate.calibration.no_certificate.labels_needed", lambda *_: None)


WAYS: Mapping[str, Mapping[str, Any]] = {
    "learned": {"estimator": "learned"},
    "boosted": {"estimator": "boosted"},
    "isotonic": {"recalibrate": "isotonic"},
    "sampled, platt": {"estimator": "sampled", "recalibrate": "platt"},
}


@pytest.mark.slow
@pytest.mark.parametrize("world", ["noise", "edge"])
@pytest.mark.parametrize("way", WAYS)
def test_scores_fitted_on_dev_rows_keep_the_promise(way: str, world: str) -> None:
    rng = np.random.default_rng(0)
    broken = sum(trial(world, rng, **WAYS[way])[1] > ALPHA for _ in range(TRIALS))
    assert broken <= violation_limit(TRIALS, DELTA)


@pytest.mark.parametrize("way", ["boosted"])
def test_canary_scores_fitted_on_the_rows_that_certify(way: str) -> None:
    rng = np.random.default_rng(0)
    broken = sum(trial("noise", rng, same=True, **WAYS[way])[1] > ALPHA for _ in range(60))
    assert broken > violation_limit(60, DELTA)


def test_in_an_easy_world_a_learned_score_certifies_what_a_plain_one_cannot() -> None:
    rng = np.random.default_rng(0)
    learned = [trial("easy", rng, estimator="learned")[0].status for _ in range(20)]
    plain = [trial("easy", rng)[0].status for _ in range(20)]
    assert learned.count("certified") >= 10
    assert plain.count("certified") <= 6
