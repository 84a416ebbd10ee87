from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from trustescalate.stats.bounds import binomial_pvalue
from trustescalate.stats.control import (
    PROCEDURES,
    Rejections,
    aimed_levels,
    binomial_best,
    bonferroni,
    carried,
    choose,
    fallback,
    fixed_sequence,
    own_levels,
    reject,
)

pytestmark = pytest.mark.slow
COVERAGE = np.array([0.1, 0.2, 0.3, 0.5, 0.75])


def along(procedure: str, p: np.ndarray, coverage: np.ndarray, n: int, delta: float = 0.1) -> Rejections:
    own = own_levels(procedure, [coverage], (1.0,), n, delta, binomial_best(0.1, n))
    return reject(procedure, [len(p)], p, own)


def test_fallback_by_hand_after_wiens() -> None:
    """n = 200: 0.6 of delta starts at 20 %, 0.4 at half; the first chain breaks, the second stands."""
    level, rejected = along("fallback", np.array([0.0, 0.05, 0.07, 0.03, 0.05]), COVERAGE, 200)
    np.testing.assert_allclose(level, [0, 0.06, 0.06, 0.04, 0.04])
    assert rejected.tolist() == [False, True, False, True, False]


def test_what_is_passed_on_adds_up() -> None:
    level, rejected = along("fallback", np.array([1, 0.05, 0.05, 0.08, 0.1]), COVERAGE, 200)
    np.testing.assert_allclose(level, [0, 0.06, 0.06, 0.1, 0.1])
    assert rejected.tolist() == [False, True, True, True, True]


def test_two_starts_at_one_place_add_up() -> None:
    np.testing.assert_allclose(fallback(np.array([0.05, 0.75]), 200, 0.1, binomial_best(0.1, 200)), [0, 1])


def test_without_a_second_place_all_of_delta_starts_at_the_first() -> None:
    np.testing.assert_allclose(fallback(np.array([0.225, 0.4]), 200, 0.1, binomial_best(0.1, 200)), [1, 0])


def test_few_rows_can_still_pass_with_all_of_delta() -> None:
    """At alpha = 0.05 a share of 0.6 needs 55 rows, all of delta 45; 50 are expected."""
    assert fallback(np.array([1.0]), 50, 0.1, binomial_best(0.05, 50)).tolist() == [1.0]


@pytest.mark.parametrize("name", PROCEDURES)
def test_no_rows_no_start(name: str) -> None:
    level, rejected = along(name, np.zeros(2), np.array([0.0, 0.7]), 30)
    assert level.tolist() == [0, 0]
    assert rejected.tolist() == [False, False]


def test_fixed_sequence_starts_at_thirty_rows_and_stops_at_a_failure() -> None:
    coverage = np.array([0.29, 0.30, 0.31, 0.99])
    level, rejected = along("fixed_sequence", np.array([0, 0.1, 0.11, 0]), coverage, 100)
    assert level.tolist() == [0, 0.1, 0.1, 0]
    assert rejected.tolist() == [False, True, False, False]
    starts = fixed_sequence(np.array([0.30, 0.44, 0.45]), 100, 0.1, binomial_best(0.05, 100))
    assert starts.tolist() == [0, 0, 1]


def test_bonferroni_divides_by_the_policies_with_rows_enough() -> None:
    p = np.array([0, 0.03, 0.06, 0.05])
    level, _ = along("bonferroni", p, np.array([0.21, 0.22, 0.50, 0.90]), 100, 0.12)
    np.testing.assert_allclose(level, [0.03, 0.03, 0.03, 0.03])
    level, rejected = along("bonferroni", p, np.array([0.19, 0.22, 0.50, 0.90]), 100, 0.12)
    np.testing.assert_allclose(level, [0, 0.04, 0.04, 0.04])
    assert rejected.tolist() == [False, True, False, False]
    assert bonferroni(np.zeros(2), 100, 0.1, binomial_best(0.1, 100)).tolist() == [0, 0]


@pytest.mark.parametrize("name", PROCEDURES)
@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), min_size=1, max_size=30), st.integers(1, 900))
def test_levels_at_true_nulls_never_exceed_delta(name: str, steps: list[tuple[int, float]], n: int) -> None:
    """If nothing is rejected, the levels are what is spent on the complete null: at most delta in all."""
    coverage = np.cumsum([step for step, _ in steps]) / max(1, sum(step for step, _ in steps))
    level, rejected = along(name, np.ones(len(steps)), coverage, n)
    assert level.sum() <= 0.1 + 1e-12
    assert not rejected.any()
    p = np.array([p for _, p in steps])
    level, rejected = along(name, p, coverage, n)
    own = own_levels(name, [coverage], (1.0,), n, 0.1, binomial_best(0.1, n))
    assert np.all((level == 0) | (level >= aimed_levels(name, [len(p)], own) - 1e-12))
    np.testing.assert_array_equal(rejected, (p <= level) & (level > 0))


def test_a_test_aims_at_what_its_nearest_start_gives() -> None:
    own = own_levels("fallback", [COVERAGE, COVERAGE], (0.5, 0.5), 400, 0.1, binomial_best(0.1, 400))
    np.testing.assert_allclose(aimed_levels("fallback", (5, 5), own), [0, 0.03, 0.03, 0.02, 0.02] * 2)
    assert aimed_levels("bonferroni", (10,), own) is own


def test_choice_follows_the_wish_and_is_deterministic() -> None:
    rejected = np.array([True, True, True, False])
    accepted, cost = np.array([50, 80, 80, 90]), np.array([1.0, 2.0, 1.5, 0.1])
    assert choose(rejected, accepted, cost, "coverage", n=100) == 2
    assert choose(rejected, accepted, cost, "cost", n=100) == 0
    assert choose(rejected, accepted, np.ones(4), "cost", n=100) == 1
    assert choose(np.zeros(4, dtype=bool), accepted, cost, "cost", n=100) is None
    with pytest.raises(ValueError, match="prefer"):
        choose(rejected, accepted, cost, "luck", n=100)  # type: ignore[arg-type]


def test_coverage_gives_up_two_rows_of_a_hundred_for_a_cheaper_policy_and_no_more() -> None:
    passed, cost = np.ones(3, dtype=bool), np.array([1.0, 2.0, 3.0])
    assert choose(passed, np.array([77, 78, 80]), cost, "coverage", n=100) == 1
    assert choose(passed, np.array([77, 78, 80]), cost, "coverage", n=150) == 0
    assert choose(passed, np.array([77, 78, 80]), cost, "coverage", n=99) == 2


def test_total_cost_counts_what_an_abstention_costs() -> None:
    rejected = np.array([True, True, False])
    accepted, cost = np.array([50, 80, 100]), np.array([1.0, 2.0, 0.0])
    assert choose(rejected, accepted, cost, "total", n=100, abstention_price=3.0) == 0
    assert choose(rejected, accepted, cost, "total", n=100, abstention_price=4.0) == 1
    assert choose(rejected, accepted, cost, "total", n=100, abstention_price=0.0) == 0
    for price in (None, -1.0):
        with pytest.raises(ValueError, match="price"):
            choose(rejected, accepted, cost, "total", n=100, abstention_price=price)


def test_sub_paths_do_not_see_one_another_but_inherit_from_one_that_cannot_pass() -> None:
    p = np.array([0.9, 0.9, 0.02, 0.035])

    def both(first: tuple[float, float], p: np.ndarray = p) -> Rejections:
        coverage = (np.array(first), np.array([0.3, 0.45]))
        own = own_levels("fallback", coverage, (0.7, 0.3), 200, 0.1, binomial_best(0.1, 200))
        return reject("fallback", (2, 2), p, own)

    np.testing.assert_allclose(both((0.3, 0.45)).level, [0.07, 0, 0.03, 0.03])
    assert both((0.3, 0.45)).rejected.tolist() == [False, False, True, False]
    np.testing.assert_allclose(both((0.0, 0.1)).level, [0, 0, 0.1, 0.1])
    assert both((0.3, 0.45), np.array([0.0, 0.0, 0.9, 0.9])).level.tolist()[2] == pytest.approx(0.03)
    nobody = own_levels(
        "fallback", (np.array([0.0, 0.1]),) * 2, (0.7, 0.3), 200, 0.1, binomial_best(0.1, 200)
    )
    assert nobody.tolist() == [0] * 4


@pytest.mark.parametrize("name", PROCEDURES)
@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=9), min_size=1, max_size=4), st.integers(0, 2**32)
)
def test_sub_paths_never_spend_more_than_delta(name: str, steps: list[list[float]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(len(steps))) * 0.999 + 1e-4 / len(steps)
    coverage = [np.sort(part) for part in steps]
    assert own_levels(name, coverage, list(shares), 300, 0.1, binomial_best(0.1, 300)).sum() <= 0.1 + 1e-12


def test_what_does_not_fit_is_refused() -> None:
    for shares in ((0.8, 0.3), (1.0, 0.0), (1.0,)):
        with pytest.raises(ValueError, match="shares of delta"):
            own_levels("fallback", (COVERAGE, COVERAGE), shares, 100, 0.1, binomial_best(0.1, 100))
    with pytest.raises(ValueError, match="delta must lie"):
        own_levels("fallback", (COVERAGE,), (1.0,), 100, 1.0, binomial_best(0.1, 100))
    with pytest.raises(ValueError, match="2 p-values"):
        reject("fallback", (3,), np.ones(2), np.ones(2))


# ── the exact size of the two-policy case ────────────────────────────────────────────────────────


def wrong_certificates(
    n: int, alpha: float, delta: float, start: Callable[[int], np.ndarray], strong: float
) -> float:
    """P(a policy whose risk is above alpha passes) in the world "handover", summed over all outcomes.

    The strong tier releases a share `bad` of the rows, of which it gets `strong` wrong; under the next policy
    the cheap tier releases all rows, and gets exactly those wrong.
    """
    bad = alpha * 1.0001
    total = 0.0
    for released in range(n + 1):
        errors = np.arange(released + 1)
        chance = binom.pmf(released, n, bad) * binom.pmf(errors, released, strong)
        first, second = binomial_pvalue(errors, released, alpha), binomial_pvalue(released, n, alpha)
        own = start(released) * delta
        passes = [carried(np.array([p, second]), own).rejected.any() for p in first]
        total += float(chance[passes].sum())
    return total


def test_the_two_policy_case_keeps_delta_wherever_testing_starts() -> None:
    """Every pair of weights that knows no count of the tested rows; both nulls are true."""
    for n, alpha in ((40, 0.25), (60, 0.2)):
        for first in np.linspace(0, 1, 6):
            weights = np.array([first, 1 - first])
            size = wrong_certificates(n, alpha, 0.1, lambda _, w=weights: w, alpha * 1.0001)
            assert size <= 0.1


def test_starts_by_counts_of_the_tested_rows_break_it() -> None:
    """The canary: the rule of the first version, at n = 100 and alpha = .25: .1297 instead of .10."""

    def by_counts(released: int) -> np.ndarray:
        counted = np.array([released, 100]) / 100
        return fallback(counted, 100, 0.1, binomial_best(0.25, 100))

    size = wrong_certificates(100, 0.25, 0.1, by_counts, 0.25 * 1.0001)
    assert size == pytest.approx(0.1297, abs=0.0005)
