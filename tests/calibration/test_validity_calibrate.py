"""Every world of `stats.validity`, from votes and labels through `calibrate()` to the thresholds in use.

`test_validity` has more trials, without records. TRUSTESCALATE_TRIALS raises the number of trials.
"""

import os

import numpy as np
import pytest

from tests.support.worlds import ALPHA, DELTA, certified
from trustescalate.calibration.scoring import stack_of
from trustescalate.records import Certificate
from trustescalate.records.policies import policy_of
from trustescalate.stats.paths import Plan
from trustescalate.stats.validity import WORLDS, World, violation_limit, world

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "300")) // 5


@pytest.fixture(autouse=True)
def no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a "no certificate" advises is no part of a test."""
    monkeypatch.setattr("trustescalate.calibration.no_certificate.labels_needed", lambda *_: None)


def true_risk(place: World, certificate: Certificate) -> float:
    policy = policy_of(certificate)
    if policy is None:
        return 0.0
    taus = np.array([np.inf if tau is None else tau for tau in policy.thresholds])
    stack = stack_of(certificate) if policy.pooled else None
    plan = Plan.of(taus[None])._replace(readings=(stack,))
    return place.risk_coverage(taus, plan)[0]


@pytest.mark.parametrize("name", WORLDS)
def test_the_guarantee_holds_from_votes_to_thresholds(name: str) -> None:
    place = world(name, ALPHA, 2)
    # A score of one half is a tie between two labels, and no verdict.
    place = place._replace(scores=np.maximum(place.scores, 0.501))
    result = [certified(place, "hedged", np.random.default_rng(seed)) for seed in range(TRIALS)]
    wrong = sum(true_risk(place, certificate) > ALPHA for certificate in result)
    assert wrong <= violation_limit(TRIALS, DELTA)
    if name in ("flat", "monotone", "tied"):
        assert sum(certificate.status == "certified" for certificate in result) > TRIALS / 2
    if name == "hopeless":
        assert {certificate.status for certificate in result} == {"none"}
