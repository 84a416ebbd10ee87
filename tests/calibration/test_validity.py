"""Violations counted in worlds whose true risk is known; wrong rules must show in the count.

TRUSTESCALATE_TRIALS raises the number of trials, for nightly runs.
"""

import os
from functools import cache

import numpy as np
import pytest

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue
from trustescalate.stats.certify import certify
from trustescalate.stats.control import carried
from trustescalate.stats.paths import PATHS, Basis
from trustescalate.stats.policy import common_path, decide, evaluate
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import (
    WORLDS,
    Replications,
    Sample,
    World,
    replicate,
    violation_limit,
    world,
)

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "500"))
ALPHA, DELTA, N = 0.1, 0.1, 500
RULES = {
    "fallback": ("common", "fallback"),
    "fixed_sequence": ("common", "fixed_sequence"),
    "bonferroni": ("common", "bonferroni"),
    "tierwise": ("tierwise", "fallback"),
    "hedged": ("hedged", "fallback"),
    "pooled": ("pooled", "fallback"),
    "pareto": ("pareto", "fallback"),
    "stacked": ("stacked", "fallback"),
}
DEV = 100


@cache
def counted(name: str, rule: str, tiers: int = 2) -> Replications:
    path, procedure = RULES[rule]
    return replicate(
        world(name, ALPHA, tiers),
        N,
        TestRule(ALPHA, DELTA, path, procedure),  # type: ignore[arg-type]
        trials=TRIALS,
        rng=np.random.default_rng(list(WORLDS).index(name)),
        dev=DEV if path in PATHS and PATHS[path].needs_dev else 0,  # type: ignore[index]
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", WORLDS)
def test_the_guarantee_holds(name: str, rule: str) -> None:
    result = counted(name, rule)
    assert result.violations <= violation_limit(TRIALS, DELTA)
    assert result.coverage_misses <= violation_limit(TRIALS, DELTA)


@pytest.mark.parametrize("rule", RULES)
def test_the_guarantee_holds_with_one_tier_and_with_three(rule: str) -> None:
    # Three independent judges put together are better than alpha; with two coins beside one they are not.
    barely_too_bad = "coin_beside" if rule in ("stacked", "pooled") else "adversarial"
    for tiers in (1, 3):
        assert counted(barely_too_bad, rule, tiers).violations <= violation_limit(TRIALS, DELTA)
        assert counted("tied", rule, tiers).violations <= violation_limit(TRIALS, DELTA)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_certified_where_nothing_can_be(rule: str) -> None:
    assert counted("hopeless", rule).certified == 0


@pytest.mark.parametrize(
    ("rule", "coverage"),
    [
        ("fallback", 0.85),
        ("bonferroni", 0.75),
        ("tierwise", 0.5),
        ("hedged", 0.85),
        ("pooled", 0.85),
        ("pareto", 0.8),
        ("stacked", 0.85),
    ],
)
def test_in_an_easy_world_the_certificate_comes(rule: str, coverage: float) -> None:
    result = counted("monotone", rule)
    assert result.certified >= 0.8 * TRIALS
    assert result.mean_coverage >= coverage


def test_the_second_start_pays_where_the_top_is_bad() -> None:
    assert counted("bad_at_top", "fallback").mean_coverage > 0.5
    assert counted("bad_at_top", "fixed_sequence").mean_coverage < 0.1


def test_a_judge_that_is_confidently_wrong_spoils_the_common_path_alone() -> None:
    assert counted("deceptive", "fallback").certified == 0
    for rule in ("hedged", "pareto", "stacked"):
        assert counted("deceptive", rule).mean_coverage > 0.5


def test_the_hedge_costs_little_where_it_is_not_needed() -> None:
    assert counted("monotone", "hedged").mean_coverage > counted("monotone", "fallback").mean_coverage - 0.03


# ── rules that are known to be wrong: the count must show it ─────────────────────────────────────


def broken(place: World, thresholds: FloatArray | None) -> bool:
    return thresholds is not None and place.risk_coverage(thresholds)[0] > ALPHA


def from_thirty_rows(p: FloatArray, accepted: IntArray) -> BoolArray:
    """All of delta from the first policy with 30 rows on; the first test that fails ends it."""
    own = np.zeros(len(p))
    own[np.flatnonzero(accepted >= 30)[:1]] = DELTA
    return carried(p, own).rejected


def published_rule(rows: Sample) -> FloatArray:
    """The paper's released code: all of delta for each tier, and the strictest threshold when none passed."""
    grid = np.linspace(1, 0, 5_000)[:, None]
    left, thresholds = np.arange(len(rows.truth)), []
    for j in range(rows.scores.shape[1]):
        tier = rows.scores[left, j : j + 1], rows.labels[left, j : j + 1]
        counts = evaluate(grid, *tier, rows.truth[left], np.zeros((len(left), 1)))
        p = binomial_pvalue(counts.errors, counts.accepted, ALPHA)
        passed = np.flatnonzero(from_thirty_rows(p, counts.accepted))
        last = passed[-1] if passed.size else int(np.argmax(counts.accepted >= 1))
        thresholds.append(grid[last, 0])
        left = left[decide(grid[last], *tier) < 0]
    return np.array(thresholds)


def test_canary_the_published_rule_breaks_the_guarantee() -> None:
    place, rng = world("hopeless", ALPHA, 2), np.random.default_rng(0)
    violations = sum(broken(place, published_rule(place.draw(N, rng))) for _ in range(100))
    assert violations > violation_limit(100, DELTA)


def split_ties(rows: Sample) -> FloatArray | None:
    """A sweep row by row: it may stop within rows of equal score, and then deploys all of them."""
    order = np.argsort(-rows.scores[:, 0], kind="stable")
    errors = np.cumsum((rows.labels[:, 0] != rows.truth)[order])
    accepted = np.arange(1, len(order) + 1)
    p = binomial_pvalue(errors, accepted, ALPHA)
    passed = np.flatnonzero(from_thirty_rows(p, accepted))
    return rows.scores[order[passed[-1:]]][0] if passed.size else None


def test_canary_splitting_ties_breaks_the_guarantee() -> None:
    place, rng = world("tied", ALPHA, 1), np.random.default_rng(0)
    violations = sum(broken(place, split_ties(place.draw(N, rng))) for _ in range(300))
    assert violations > violation_limit(300, DELTA)


def any_passing_bound(rows: Sample) -> FloatArray | None:
    """Testing starts, and ends, wherever the labels look good: every policy has all of delta."""
    path = common_path(None, rows.scores.shape[1], size=200)
    counts = evaluate(path, *rows, np.zeros(rows.scores.shape))
    passed = np.flatnonzero(binomial_pvalue(counts.errors, counts.accepted, ALPHA) <= DELTA)
    return path[passed[-1]] if passed.size else None


def test_canary_starting_where_labels_look_good_breaks_the_guarantee() -> None:
    place, rng = world("adversarial", ALPHA, 1), np.random.default_rng(0)
    violations = sum(broken(place, any_passing_bound(place.draw(N, rng))) for _ in range(300))
    assert violations > violation_limit(300, DELTA)


def rows_of(sample: Sample) -> Rows:
    return Rows(*sample, np.zeros(sample.scores.shape))


def test_canary_a_path_laid_out_on_certification_rows_breaks_the_guarantee() -> None:
    place, rng, violations = world("adversarial", ALPHA, 3), np.random.default_rng(0), 0
    for _ in range(60):
        rows = rows_of(place.draw(N, rng))
        plan = PATHS["pareto"].build(Basis(rows, None, 3, 2))
        violations += broken(place, certify(*rows, alpha=ALPHA, delta=DELTA, path=plan).thresholds)
    assert violations > violation_limit(60, DELTA)


@pytest.mark.parametrize("same", [True, False])
def test_canary_a_stack_fitted_on_certification_rows_breaks_the_guarantee(same: bool) -> None:
    """Fourteen coins: whatever is certified below a half is a broken guarantee."""
    coins = World(np.full((1, 14), 0.8), np.full((1, 14), 0.5))
    rng, violations = np.random.default_rng(0), 0
    for _ in range(60):
        dev, rows = rows_of(coins.draw(100, rng)), rows_of(coins.draw(100, rng))
        plan = PATHS["stacked"].build(Basis(dev, None, 14, 2))
        rows = dev if same else rows
        violations += certify(*rows, alpha=0.45, delta=DELTA, path=plan).thresholds is not None
    assert (violations > violation_limit(60, DELTA)) == same
