import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.policy import common_path, decide, evaluate

LEVELS = np.array([0.0, 0.25, 0.5, 0.5000000000000001, 0.75, 1.0])


def by_hand(
    policies: FloatArray, scores: FloatArray, labels: IntArray, truth: IntArray, costs: FloatArray
) -> list[tuple[int, int, list[int], float]]:
    """Row by row, tier by tier, as one would with a pencil."""
    result = []
    for policy in policies:
        errors, by_tier, cost = 0, [0] * len(policy), 0.0
        for i in range(len(scores)):
            for j, tau in enumerate(policy):
                cost += costs[i, j] * (tau < np.inf)
                if labels[i, j] >= 0 and scores[i, j] >= tau:
                    by_tier[j] += 1
                    errors += int(truth[i] < 0 or labels[i, j] != truth[i])
                    break
        result.append((sum(by_tier), errors, by_tier, cost / len(scores)))
    return result


@pytest.mark.parametrize("falling", [True, False])
@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 4), st.integers(1, 8))
def test_binning_counts_as_by_hand(falling: bool, seed: int, n: int, m: int, t: int) -> None:
    rng = np.random.default_rng(seed)
    scores, policies = rng.choice(LEVELS, (n, m)), rng.choice([*LEVELS, np.inf], (t, m))
    labels, truth, costs = rng.integers(-1, 3, (n, m)), rng.integers(-1, 3, n), rng.random((n, m))
    if falling:
        policies = -np.sort(-policies, axis=0)
    result = evaluate(policies, scores, labels, truth, costs)
    expected = by_hand(policies, scores, labels, truth, costs)
    assert result.accepted.tolist() == [row[0] for row in expected]
    assert result.errors.tolist() == [row[1] for row in expected]
    assert result.by_tier.tolist() == [row[2] for row in expected]
    np.testing.assert_allclose(result.cost, [row[3] for row in expected], rtol=1e-12)
    for policy, released in zip(policies, result.by_tier, strict=True):
        tier = decide(policy, scores, labels)
        assert np.bincount(tier[tier >= 0], minlength=m).tolist() == released.tolist()


def test_a_certified_threshold_admits_what_is_equal_to_it_and_nothing_below() -> None:
    tau = 0.1 + 0.2
    scores = np.array([[tau], [np.nextafter(tau, 0)], [np.nextafter(tau, 1)]])
    assert decide(np.array([tau]), scores, np.zeros((3, 1), dtype=int)).tolist() == [0, -1, 0]


def test_no_rows() -> None:
    empty = np.zeros((0, 2))
    counts = evaluate(np.ones((3, 2)), empty, empty.astype(int), np.zeros(0, dtype=int), empty)
    assert counts.accepted.tolist() == [0, 0, 0]
    assert counts.cost.tolist() == [0, 0, 0]


def test_wrong_input_is_refused() -> None:
    scores, labels, truth = np.ones((2, 1)), np.zeros((2, 1), dtype=int), np.zeros(2, dtype=int)
    with pytest.raises(ValueError, match="shapes"):
        evaluate(np.ones((3, 2)), scores, labels, truth, scores)
    with pytest.raises(ValueError, match="threshold is NaN"):
        evaluate(np.full((1, 1), np.nan), scores, labels, truth, scores)
    with pytest.raises(ValueError, match="row 1"):
        evaluate(np.ones((3, 1)), np.array([[1.0], [np.nan]]), labels, truth, scores)


@pytest.mark.parametrize("rows", [None, 0, 1, 7, 300])
def test_paths_run_from_strict_to_lax_and_end_with_everything(rows: int | None) -> None:
    pilot = None if rows is None else np.random.default_rng(0).random((rows, 3)).round(1)
    policies = common_path(pilot, 3)
    assert policies.shape[1] == 3
    assert len(policies) <= 40
    assert np.all(np.diff(policies, axis=0) < 0)
    assert np.all(policies[-1] == 0)


def test_grid_tells_saturated_probabilities_apart() -> None:
    steps = common_path(None, 1)[:, 0]
    assert steps[0] == 1
    assert np.sum(steps > 0.9999) >= 10


def test_quantiles_are_scores_that_occur() -> None:
    pilot = np.random.default_rng(0).random((60, 2))
    assert np.isin(common_path(pilot, 2)[:-1, 0], pilot).all()


def test_paths_refuse_what_is_no_score() -> None:
    with pytest.raises(ValueError, match="pilot"):
        common_path(np.array([[1.5]]), 1)
    with pytest.raises(ValueError, match="2 points"):
        common_path(None, 1, size=1)
