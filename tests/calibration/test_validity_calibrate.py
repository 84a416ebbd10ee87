"""Every world of `stats.validity`, from votes and labels through `calibrate()` to the thresholds in use.

`test_validity` has more trials, without records. TRUSTESCALATE_TRIALS raises the number of trials.
"""

import os
from collections.abc import Sequence

import numpy as np
import pytest

from trustescalate.calibration.calibrate import calibrate
from trustescalate.calibration.protocol import Protocol
from trustescalate.calibration.scoring import stack_of
from trustescalate.records import Annotation, Certificate, Judgment, Task, TaskKind, Vote
from trustescalate.records.policies import policy_of
from trustescalate.stats.paths import Plan
from trustescalate.stats.validity import WORLDS, Sample, World, violation_limit, world

TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "300")) // 5
ALPHA, DELTA, N, PILOT = 0.2, 0.1, 120, 60
TASK = Task(TaskKind.BINARY, "Is it right?", ("pass", "fail"))


@pytest.fixture(autouse=True)
def no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a "no certificate" advises is no part of a test."""
    monkeypatch.setattr("trustescalate.calibration.no_certificate.labels_needed", lambda *_: None)


def judgments(name: str, ids: Sequence[str], sample: Sample, tier: int) -> dict[str, Judgment]:
    votes = zip(ids, sample.scores[:, tier].tolist(), sample.labels[:, tier].tolist(), strict=True)
    return {
        item: Judgment(
            item,
            name,
            name,
            (Vote(0, "", {TASK.labels[label]: score, TASK.labels[1 - label]: 1 - score}),),
            1,
        )
        for item, score, label in votes
    }


def certified(place: World, path: str, rng: np.random.Generator, rows: int = N) -> Certificate:
    tested, seen = place.draw(rows, rng), place.draw(PILOT, rng)
    certify, pilot = [f"c{n}" for n in range(rows)], [f"p{n}" for n in range(PILOT)]
    names = [f"j{tier}" for tier in range(tested.scores.shape[1])]
    judged = {
        name: {**judgments(name, certify, tested, tier), **judgments(name, pilot, seen, tier)}
        for tier, name in enumerate(names)
    }
    protocol = Protocol(
        task=TASK,
        alpha=ALPHA,
        delta=DELTA,
        claim="population",
        path=path,  # type: ignore[arg-type]
        procedure="fallback",
        prefer="coverage",
        abstention_price=None,
        estimator="ensemble",
        judges=tuple((name, name) for name in names),
        roles={"exemplars": (), "dev": (), "holdout": (), "certify": tuple(certify), "pilot": tuple(pilot)},
        grouped=False,
        seed=0,
        version="0",
    )
    notes = [
        Annotation(item, "p", TASK.labels[truth]) for item, truth in zip(certify, tested.truth, strict=True)
    ]
    return calibrate(protocol, notes, judged, created="")


def true_risk(place: World, made: Certificate) -> float:
    policy = policy_of(made)
    if policy is None:
        return 0.0
    taus = np.array([np.inf if tau is None else tau for tau in policy.thresholds])
    stack = stack_of(made) if policy.pooled else None
    plan = Plan.of(taus[None])._replace(readings=(stack,))
    return place.risk_coverage(taus, plan)[0]


@pytest.mark.parametrize("name", WORLDS)
def test_the_guarantee_holds_from_votes_to_thresholds(name: str) -> None:
    place = world(name, ALPHA, 2)
    # A score of one half is a tie between two labels, and no verdict.
    place = place._replace(scores=np.maximum(place.scores, 0.501))
    found = [certified(place, "hedged", np.random.default_rng(seed)) for seed in range(TRIALS)]
    wrong = sum(true_risk(place, made) > ALPHA for made in found)
    assert wrong <= violation_limit(TRIALS, DELTA)
    if name in ("flat", "monotone", "tied"):
        assert sum(made.status == "certified" for made in found) > TRIALS / 2
    if name == "hopeless":
        assert {made.status for made in found} == {"none"}
