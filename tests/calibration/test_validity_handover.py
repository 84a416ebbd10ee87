"""Rows that one tier releases under one policy, and another tier under the next: at 20,000 trials.

Starts by counts of the certification rows were the rule of the first version; they are the canary here.
"""

import numpy as np
import pytest

from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.bounds import binomial_pvalue
from trustescalate.stats.certify import plan_levels
from trustescalate.stats.control import binomial_best, own_levels, reject
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Rows
from trustescalate.stats.validity import Sample, World, counts_by_kind, kinds_of, violation_limit, world

pytestmark = pytest.mark.slow
TRIALS, DELTA = 20_000, 0.1
CELLS = 1_000


def handover(alpha: float, share: float) -> World:
    """The world "handover" on a share of the rows; the others no policy but the laxest accepts."""
    place = world("handover", alpha, 2)
    scores, error = np.full((CELLS, 2), 0.5), np.full((CELLS, 2), 0.5)
    kept = int(errors_allowed(CELLS, share)) if share < 1 else CELLS
    bad = int(errors_allowed(kept, alpha)) + 1
    scores[:kept, 0], error[:kept, 0] = 0.85, np.arange(kept) < bad
    scores[:bad, 1], error[:bad, 1] = 0.95, place.error[0, 1]
    return World(scores, error)


def laid_out(place: World, path: PathName, seed: int) -> Plan:
    seen = place.draw(200, np.random.default_rng(seed))
    return PATHS[path].build(Basis(None, Rows(*seen, seen.scores).votes, 2, classes=2))


def risks(place: World, plan: Plan) -> np.ndarray:
    return np.array([place.risk_coverage(policy, plan)[0] for policy in plan.policies])


@pytest.mark.parametrize(
    ("path", "procedure", "n", "alpha", "share"),
    [
        ("common", "fallback", 100, 0.25, 1.0),
        ("hedged", "fallback", 500, 0.225, 1.0),
        ("common", "fixed_sequence", 200, 0.2, 0.9),
        ("common", "bonferroni", 200, 0.2, 0.9),
        ("pooled", "fallback", 200, 0.2, 0.9),
    ],
)
def test_the_guarantee_holds_where_rows_are_handed_over(
    path: PathName, procedure: str, n: int, alpha: float, share: float
) -> None:
    place = handover(alpha, share)
    plan = laid_out(place, path, seed=1)
    too_risky, rng = risks(place, plan) > alpha, np.random.default_rng(2)
    own = plan_levels(plan, procedure, n, DELTA, binomial_best(alpha, n))
    wrong = 0
    for accepted, errors in zip(*counts_by_kind(kinds_of(place), plan, n, TRIALS, rng), strict=True):
        p = binomial_pvalue(errors, accepted, alpha)
        wrong += bool((reject(procedure, plan.sizes, p, own).rejected & too_risky).any())
    assert too_risky.any()
    assert wrong <= violation_limit(TRIALS, DELTA)


def test_canary_starts_by_counts_of_the_tested_rows_break_it() -> None:
    place = handover(0.25, 1.0)
    plan = laid_out(place, "common", seed=1)
    too_risky, rng = risks(place, plan) > 0.25, np.random.default_rng(2)
    wrong = 0
    for accepted, errors in zip(*counts_by_kind(kinds_of(place), plan, 100, TRIALS, rng), strict=True):
        own = own_levels("fallback", [accepted / 100], (1.0,), 100, DELTA, binomial_best(0.25, 100))
        p = binomial_pvalue(errors, accepted, 0.25)
        wrong += bool((reject("fallback", plan.sizes, p, own).rejected & too_risky).any())
    assert wrong > violation_limit(TRIALS, DELTA)


def test_counting_kinds_counts_what_drawing_rows_counts() -> None:
    place = handover(0.2, 0.9)
    plan = laid_out(place, "hedged", seed=0)
    accepted, errors = counts_by_kind(kinds_of(place), plan, 1, TRIALS, np.random.default_rng(0))
    sample = place.draw(TRIALS, np.random.default_rng(1))
    rows = plan.rows(Rows(*Sample(*sample), sample.scores))
    for t, policy in enumerate(plan.policies):
        tier = decide(policy, rows.scores, rows.labels)
        released = np.flatnonzero(tier >= 0)
        wrong = int((rows.labels[released, tier[released]] != rows.truth[released]).sum())
        assert accepted[:, t].mean() == pytest.approx(len(released) / TRIALS, abs=0.025)
        assert errors[:, t].mean() == pytest.approx(wrong / TRIALS, abs=0.025)
