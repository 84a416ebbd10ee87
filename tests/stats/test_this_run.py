"""Limits for one run: the two-step bound, the exact one by exchangeability, and both behind a certificate."""

import os
from fractions import Fraction
from functools import cache
from itertools import combinations, product
from math import comb
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import binom

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.certify import certify
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Votes
from trustescalate.stats.this_run import (
    LEVEL,
    exchangeable_errors_upper,
    policy_weights,
    run_errors_upper,
    two_step_errors_upper,
    two_step_loss_upper,
)
from trustescalate.stats.validity import Sample, World, violation_limit, world

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "500"))
ALPHA, DELTA, N = 0.15, 0.1, 300
SIZES = (50, 100, 200)
FLAT = world("adversarial", ALPHA, 2)


def flat(risk: float) -> World:
    """A world in which every policy has this risk."""
    return World(FLAT.scores, np.full(FLAT.scores.shape, risk))


WORLDS = {
    "just above": (flat(1.001 * ALPHA), TRIALS),
    "just below": (flat(0.99 * ALPHA), TRIALS),
    "below": (flat(0.8 * ALPHA), 4 * TRIALS),
    "monotone": (world("monotone", ALPHA, 2), TRIALS),
    "far below": (flat(0.3 * ALPHA), TRIALS),
}
"""Worlds, and how many certified runs are simulated in each: 500 or 2,000 on each push."""


class Simulated(NamedTuple):
    """Certified runs by size (3,): in how many the limit was exceeded, and alpha times the released was.

    `direct` counts those in which the limit by exchangeability is the smaller one.
    """

    runs: int
    missed: IntArray
    above_alpha: IntArray
    direct: IntArray


@cache
def simulated(name: str) -> Simulated:
    place, runs = WORLDS[name]
    # Independent judges of equal risk are better pooled: there every policy has the world's own risk.
    path: PathName = "common" if name.startswith("just") else "hedged"
    rng = np.random.default_rng(list(WORLDS).index(name))
    tried, result, counts = 0, 0, np.zeros((3, len(SIZES)), dtype=np.int64)
    while result < runs:
        if tried % 50 == 0:
            plan, weights = laid_out(path, place.draw(100, rng))
        tried += 1
        rows = place.draw(N, rng)
        certificate = certify(*rows, np.zeros(rows.scores.shape), alpha=ALPHA, delta=DELTA, path=plan)
        if certificate.chosen is None:
            continue
        result += 1
        labelled = (
            int(certificate.table.errors[certificate.chosen]),
            int(certificate.table.accepted[certificate.chosen]),
        )
        released, wrong = run_of(plan, plan.policies[certificate.chosen], place.draw(max(SIZES), rng))
        for column, size in enumerate(SIZES):
            m, errors = int(released[:size].sum()), int(wrong[:size].sum())
            limit = run_errors_upper(
                [m], [ALPHA], labelled=labelled, weight=float(weights[certificate.chosen])
            )
            alone = two_step_errors_upper(np.array([m]), np.array([ALPHA]), LEVEL / 2)
            counts[:, column] += (errors > limit, errors > ALPHA * m, limit < alone)
    return Simulated(result, *counts)


def laid_out(path: PathName, pilot: Sample) -> tuple[Plan, FloatArray]:
    plan = PATHS[path].build(Basis(None, Votes(pilot.scores, pilot.labels), 2, classes=2))
    return plan, policy_weights([part for part, policies in enumerate(plan.parts) for _ in policies])


def run_of(plan: Plan, policy: FloatArray, items: Sample) -> tuple[BoolArray, BoolArray]:
    """On which items (n,) a policy releases a verdict, and on which of these a wrong one."""
    read = plan.read(Votes(items.scores, items.labels))
    tier = decide(policy, *read)
    label = read.labels[np.arange(len(tier)), np.maximum(tier, 0)]
    return tier >= 0, (tier >= 0) & (label != items.truth)


@pytest.mark.parametrize("name", WORLDS)
def test_certified_runs_exceed_the_limit_no_more_often_than_is_printed(name: str) -> None:
    result = simulated(name)
    assert result.missed.max() <= violation_limit(result.runs, DELTA + LEVEL)


@pytest.mark.parametrize("name", ["just below", "below", "monotone", "far below"])
def test_where_the_certificate_is_right_no_more_often_than_its_own_part(name: str) -> None:
    """Asked of certified runs alone, which is more than is guaranteed. In "monotone" few are just above."""
    result = simulated(name)
    assert result.missed.max() <= violation_limit(result.runs, LEVEL)


@pytest.mark.parametrize("name", ["just above", "just below"])
def test_alpha_times_the_released_is_no_limit(name: str) -> None:
    """The canary: what the sentence about the population seems to say about a run."""
    result = simulated(name)
    assert result.above_alpha.min() > violation_limit(result.runs, DELTA + LEVEL)


def test_each_of_the_two_limits_is_the_smaller_one_somewhere() -> None:
    assert simulated("just above").direct.max() < 0.1 * TRIALS
    assert simulated("far below").direct.min() > 0.95 * simulated("far below").runs


# ── by exchangeability ───────────────────────────────────────────────────────────────────────────


def exact_cdf(k: int, size: int, marked: int, drawn: int) -> Fraction:
    ways = sum(comb(marked, j) * comb(size - marked, drawn - j) for j in range(min(k, drawn) + 1))
    return Fraction(ways, comb(size, drawn))


@pytest.mark.parametrize("level", [0.02, 0.05, 0.2])
def test_the_limit_is_the_largest_number_that_the_labelled_rows_do_not_exclude(level: float) -> None:
    for accepted, released in [(1, 1), (3, 4), (6, 6), (9, 2), (0, 5), (5, 0)]:
        for k in range(accepted + 1):
            possible = [
                errors
                for errors in range(released + 1)
                if exact_cdf(k, accepted + released, k + errors, accepted) > level
            ]
            assert exchangeable_errors_upper(k, accepted, released, level) == max(possible)


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_over_all_ways_to_draw_the_labelled_rows_it_misses_at_most_its_level(level: float) -> None:
    """Every number of errors among twelve rows, each with the number of draws that it stands for."""
    for labelled in (4, 6, 9):
        limits = exchangeable_errors_upper(np.arange(labelled + 1), labelled, 12 - labelled, level).tolist()
        for wrong in range(13):
            misses = sum(
                comb(wrong, k) * comb(12 - wrong, labelled - k)
                for k, limit in enumerate(limits)
                if wrong - k > limit
            )
            assert Fraction(misses, comb(12, labelled)) <= Fraction(str(level))


def missed_by_any(accepts: BoolArray, wrong: BoolArray, labelled: int, levels: FloatArray) -> Fraction:
    """How often any policy's limit is exceeded, over all ways to draw the labelled rows of a few."""
    size = accepts.shape[1]
    draws = np.array([np.isin(range(size), drawn) for drawn in combinations(range(size), labelled)])
    n, m = draws.astype(int) @ accepts.T, (~draws).astype(int) @ accepts.T
    k, fresh = draws.astype(int) @ (accepts & wrong).T, (~draws).astype(int) @ (accepts & wrong).T
    return Fraction(int(np.any(fresh > exchangeable_errors_upper(k, n, m, levels), axis=1).sum()), len(draws))


def test_it_holds_for_any_choice_among_the_policies() -> None:
    """Ten rows, three policies that release other verdicts on them; whoever chooses knows all labels.

    With the whole level for each policy the same rows break it: the price of the choice is real.
    """
    rng, level, unpaid = np.random.default_rng(3), 0.2, Fraction(0)
    weights = policy_weights([0, 0, 1])
    for _ in range(60):
        accepts, wrong = rng.random((3, 10)) < 0.8, rng.random((3, 10)) < rng.uniform(0.2, 0.8)
        assert missed_by_any(accepts, wrong, 5, level * weights) <= Fraction(str(level))
        unpaid = max(unpaid, missed_by_any(accepts, wrong, 5, np.full(3, level)))
    assert unpaid > Fraction(str(level))


def test_weights_sum_to_one_and_favour_the_laxest_of_each_sub_path() -> None:
    weights = policy_weights([0] * 40 + [1] * 40)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights[39] == weights[79] == pytest.approx(0.25 + 0.5 / 80)
    assert policy_weights([0]).tolist() == [1.0]
    with pytest.raises(ValueError, match="no policies"):
        policy_weights([])


# ── by two steps ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_two_steps_are_a_binomial_quantile(level: float) -> None:
    for m, alpha in product((1, 2, 7, 40), (0.01, 0.15, 0.5, 0.9)):
        limit = two_step_errors_upper(np.array([m]), np.array([alpha]), level)
        assert binom.sf(limit, m, alpha) <= level
        assert limit == 0 or binom.sf(limit - 1, m, alpha) > level
    assert two_step_errors_upper(np.array([0]), np.array([0.1]), level) == 0


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_with_guarantees_of_several_sizes_it_holds_for_the_sum(level: float) -> None:
    """The exact distribution of the sum, by convolution; the mean alpha alone would not do for few items."""
    for m, alpha in product(product((1, 3, 20), repeat=2), product((0.004, 0.05, 0.3), repeat=2)):
        sums = np.convolve(
            *(binom.pmf(range(each + 1), each, rate) for each, rate in zip(m, alpha, strict=True))
        )
        limit = two_step_errors_upper(np.array(m), np.array(alpha), level)
        assert sums[limit + 1 :].sum() <= level + 1e-12
    assert two_step_errors_upper(np.array([50, 0]), np.array([0.1, 0.4]), level) == binom.isf(level, 50, 0.1)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_sums_of_shares_keep_their_limit(level: float) -> None:
    """Losses of 0, 1/2 and 1 with mean alpha, as spread out and as narrow as they can be."""
    for m, alpha in product((1, 4, 30, 200), (0.02, 0.15, 0.4)):
        limit = two_step_loss_upper(m, alpha, level)
        for half in (0.0, alpha, 2 * alpha):
            each = np.array([1 - alpha - half / 2, half, alpha - half / 2])
            sums = np.array([1.0])
            for _ in range(m):
                sums = np.convolve(sums, each)
            assert sums[2 * limit + 1 :].sum() <= level + 1e-12
        assert limit >= two_step_errors_upper(np.array([m]), np.array([alpha]), level)


def test_without_labelled_counts_the_whole_level_goes_to_two_steps() -> None:
    alone = two_step_errors_upper(np.array([200]), np.array([ALPHA]), LEVEL)
    assert run_errors_upper([200], [ALPHA]) == alone
    assert run_errors_upper([200], [ALPHA], labelled=(0, 300), weight=0.0) == alone
    assert run_errors_upper([200], [ALPHA], labelled=(0, 300), weight=1.0) < 10


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="a weight must lie"):
        run_errors_upper([10], [0.1], labelled=(0, 10), weight=1.5)
    with pytest.raises(ValueError, match="released must be integers"):
        two_step_errors_upper(np.array([1.0]), np.array([0.1]), 0.05)
    with pytest.raises(ValueError, match="one for each alpha"):
        two_step_errors_upper(np.array([1, 2]), np.array([0.1]), 0.05)
    for alpha, level in ((0.0, 0.05), (0.1, 1.0)):
        with pytest.raises(ValueError, match="strictly between"):
            two_step_loss_upper(10, alpha, level)
    with pytest.raises(ValueError, match="must not be negative"):
        exchangeable_errors_upper(0, 5, -1, 0.05)
    with pytest.raises(ValueError, match="0 <= errors"):
        exchangeable_errors_upper(6, 5, 1, 0.05)
