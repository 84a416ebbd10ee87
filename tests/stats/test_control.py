import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.control import PROCEDURES, bonferroni, choose, fallback, fixed_sequence

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
