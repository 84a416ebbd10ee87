import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.control import PROCEDURES, bonferroni, choose, fallback, fixed_sequence, hedge

ACCEPTED = np.array([20, 40, 60, 100, 150])


def test_fallback_by_hand_after_wiens() -> None:
    """n = 200: 0.6 of delta starts at 40 rows, 0.4 at 100; the first chain breaks, the second stands."""
    p = np.array([0.0, 0.05, 0.07, 0.03, 0.05])
    level, rejected = fallback(p, ACCEPTED, 200, 0.1, 0.1)
    np.testing.assert_allclose(level, [0, 0.06, 0.06, 0.04, 0.04])
    assert rejected.tolist() == [False, True, False, True, False]


def test_what_is_passed_on_adds_up() -> None:
    level, rejected = fallback(np.array([1, 0.05, 0.05, 0.08, 0.1]), ACCEPTED, 200, 0.1, 0.1)
    np.testing.assert_allclose(level, [0, 0.06, 0.06, 0.1, 0.1])
    assert rejected.tolist() == [False, True, True, True, True]


def test_two_starts_at_one_place_add_up() -> None:
    level, _ = fallback(np.array([0.5, 0.5]), np.array([10, 150]), 200, 0.1, 0.1)
    np.testing.assert_allclose(level, [0, 0.1])


def test_without_a_second_place_all_of_delta_starts_at_the_first() -> None:
    level, _ = fallback(np.array([0.5, 0.5]), np.array([45, 80]), 200, 0.1, 0.1)
    np.testing.assert_allclose(level, [0.1, 0])


def test_few_rows_can_still_pass_with_all_of_delta() -> None:
    """At alpha = 0.05 a share of 0.6 needs 55 rows, all of delta 45; there are 50, without an error."""
    level, rejected = fallback(np.array([0.95**50]), np.array([50]), 50, 0.05, 0.1)
    assert level.tolist() == [0.1]
    assert rejected.tolist() == [True]


def test_no_rows_no_start() -> None:
    for procedure in PROCEDURES.values():
        level, rejected = procedure(np.zeros(2), np.array([0, 21]), 30, 0.1, 0.1)
        assert level.tolist() == [0, 0]
        assert rejected.tolist() == [False, False]


def test_fixed_sequence_starts_at_thirty_rows_and_stops_at_a_failure() -> None:
    level, rejected = fixed_sequence(np.array([0, 0.1, 0.11, 0]), np.array([29, 30, 31, 99]), 99, 0.1, 0.1)
    assert level.tolist() == [0, 0.1, 0.1, 0]
    assert rejected.tolist() == [False, True, False, False]
    level, _ = fixed_sequence(np.ones(3), np.array([30, 44, 45]), 99, 0.05, 0.1)
    assert level.tolist() == [0, 0, 0.1]


def test_bonferroni_divides_by_the_policies_with_rows_enough() -> None:
    level, rejected = bonferroni(np.array([0, 0.03, 0.06, 0.05]), np.array([21, 22, 50, 90]), 99, 0.1, 0.12)
    np.testing.assert_allclose(level, [0.03, 0.03, 0.03, 0.03])
    level, rejected = bonferroni(np.array([0, 0.03, 0.06, 0.05]), np.array([19, 22, 50, 90]), 99, 0.1, 0.12)
    np.testing.assert_allclose(level, [0, 0.04, 0.04, 0.04])
    assert rejected.tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", PROCEDURES)
@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 1)), min_size=1, max_size=30))
def test_levels_at_true_nulls_never_exceed_delta(name: str, steps: list[tuple[int, float]]) -> None:
    """If nothing is rejected, the levels are what is spent on the complete null: at most delta in all."""
    accepted = np.cumsum([step for step, _ in steps])
    level, rejected = PROCEDURES[name](np.ones(len(steps)), accepted, int(accepted[-1]), 0.1, 0.1)
    assert level.sum() <= 0.1 + 1e-12
    assert not rejected.any()
    p = np.array([p for _, p in steps])
    level, rejected = PROCEDURES[name](p, accepted, int(accepted[-1]), 0.1, 0.1)
    assert level.max() <= 0.1 + 1e-12
    np.testing.assert_array_equal(rejected, (p <= level) & (level > 0))


def test_choice_follows_the_wish_and_is_deterministic() -> None:
    rejected = np.array([True, True, True, False])
    accepted, cost = np.array([50, 80, 80, 90]), np.array([1.0, 2.0, 1.5, 0.1])
    assert choose(rejected, accepted, cost, "coverage") == 2
    assert choose(rejected, accepted, cost, "cost") == 0
    assert choose(rejected, accepted, np.ones(4), "cost") == 1
    assert choose(np.zeros(4, dtype=bool), accepted, cost, "cost") is None
    with pytest.raises(ValueError, match="prefer"):
        choose(rejected, accepted, cost, "luck")  # type: ignore[arg-type]


def test_total_cost_counts_what_an_abstention_costs() -> None:
    rejected = np.array([True, True, False])
    accepted, cost = np.array([50, 80, 100]), np.array([1.0, 2.0, 0.0])
    assert choose(rejected, accepted, cost, "total", n=100, abstention_price=3.0) == 0
    assert choose(rejected, accepted, cost, "total", n=100, abstention_price=4.0) == 1
    assert choose(rejected, accepted, cost, "total", n=100, abstention_price=0.0) == 0
    for missing in ({"n": 100}, {"abstention_price": 1.0}, {"n": 100, "abstention_price": -1.0}):
        with pytest.raises(ValueError, match="price"):
            choose(rejected, accepted, cost, "total", **missing)  # type: ignore[arg-type]


def test_one_sub_path_with_all_of_delta_is_the_procedure_itself() -> None:
    p = np.array([0.0, 0.05, 0.07, 0.03, 0.05])
    for procedure in PROCEDURES.values():
        whole = procedure(p, ACCEPTED, 200, 0.1, 0.1)
        for one, other in zip(whole, hedge(procedure, (5,), (1.0,), p, ACCEPTED, 200, 0.1, 0.1), strict=True):
            np.testing.assert_array_equal(one, other)


def test_sub_paths_do_not_see_one_another_but_inherit_from_one_that_cannot_pass() -> None:
    p = np.array([0.9, 0.9, 0.02, 0.035])
    both = hedge(fallback, (2, 2), (0.7, 0.3), p, np.array([60, 90, 60, 90]), 200, 0.1, 0.1)
    np.testing.assert_allclose(both.level, [0.07, 0, 0.03, 0.03])
    assert both.rejected.tolist() == [False, False, True, False]
    alone = hedge(fallback, (2, 2), (0.7, 0.3), p, np.array([0, 21, 60, 90]), 200, 0.1, 0.1)
    np.testing.assert_allclose(alone.level, [0, 0, 0.1, 0.1])
    nobody = hedge(fallback, (2, 2), (0.7, 0.3), p * 0, np.array([0, 21, 0, 21]), 200, 0.1, 0.1)
    assert not nobody.rejected.any()


@pytest.mark.parametrize("name", PROCEDURES)
@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=9), min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_sub_paths_never_spend_more_than_delta(name: str, steps: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(len(steps))) * 0.999 + 1e-4 / len(steps)
    accepted = np.concatenate([np.cumsum(part) for part in steps])
    sizes = [len(part) for part in steps]
    level, rejected = hedge(
        PROCEDURES[name], sizes, list(shares), np.ones(len(accepted)), accepted, 300, 0.1, 0.1
    )
    assert level.sum() <= 0.1 + 1e-12
    assert not rejected.any()


def test_shares_that_promise_too_much_are_refused() -> None:
    for shares in ((0.8, 0.3), (1.0, 0.0)):
        with pytest.raises(ValueError, match="shares of delta"):
            hedge(fallback, (1, 1), shares, np.ones(2), np.array([50, 60]), 100, 0.1, 0.1)
    with pytest.raises(ValueError, match="2 policies"):
        hedge(fallback, (3,), (1.0,), np.ones(2), np.array([50, 60]), 100, 0.1, 0.1)
