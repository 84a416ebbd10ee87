import math

import numpy as np
import pytest

from trustescalate.stats.ordinal import conformal_mass, interval_verdicts, ordinal_intervals, width_threshold
from trustescalate.stats.policy import decide
from trustescalate.stats.validity import violation_limit


def by_hand(row: np.ndarray, mass: float) -> tuple[int, int]:
    low = high = int(row.argmax())
    held = row[low]
    while held < mass and high - low + 1 < len(row):
        left = row[low - 1] if low > 0 else -1.0
        right = row[high + 1] if high + 1 < len(row) else -1.0
        if left >= right:
            low, held = low - 1, held + left
        else:
            high, held = high + 1, held + right
    return low, high


@pytest.mark.parametrize("c", [2, 5, 10])
@pytest.mark.parametrize("mass", [0.0, 0.5, 0.9, 1.0, math.inf])
def test_intervals_grow_as_by_hand(c: int, mass: float) -> None:
    probabilities = np.random.default_rng(c).dirichlet(np.full(c, 0.7), size=200)
    low, high = ordinal_intervals(probabilities, mass)
    assert [by_hand(row, mass) for row in probabilities] == list(zip(low, high, strict=True))


def test_a_threshold_on_the_score_is_a_limit_on_the_width() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(7, 0.7), size=300)
    low, high = ordinal_intervals(probabilities, 0.9)
    label, score = interval_verdicts(probabilities, 0.9)
    assert np.all((low <= label) & (label <= high) & (score > 0) & (score <= 1))
    for width in range(7):
        tier = decide(np.array([width_threshold(width, 7)]), score[:, None], label[:, None])
        np.testing.assert_array_equal(tier >= 0, high - low <= width)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("n", [9, 30, 100])
def test_intervals_miss_as_often_as_said(sharpness: float, n: int) -> None:
    """The judge's probabilities are sharper or blunter than the truth."""
    rng, miss, trials = np.random.default_rng(n), 0.1, 500
    missed = 0
    for _ in range(trials):
        true = rng.dirichlet(np.ones(5), size=n + 1)
        said = true**sharpness / (true**sharpness).sum(axis=1, keepdims=True)
        truth = (true.cumsum(axis=1) < rng.random((n + 1, 1))).sum(axis=1)
        low, high = ordinal_intervals(said[-1:], conformal_mass(said[:-1], truth[:-1], miss))
        missed += not low[0] <= truth[-1] <= high[0]
    assert missed <= violation_limit(trials, miss)


def test_too_few_rows_give_the_whole_scale() -> None:
    probabilities = np.tile([0.8, 0.1, 0.1], (8, 1))
    assert conformal_mass(probabilities, np.zeros(8, dtype=int), 0.1) == math.inf
    assert ordinal_intervals(probabilities, math.inf).high.tolist() == [2] * 8


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="probabilities"):
        ordinal_intervals(np.array([[0.5, np.nan]]), 0.5)
    with pytest.raises(ValueError, match="miss"):
        conformal_mass(np.ones((1, 1)), np.zeros(1, dtype=int), 0.0)
    with pytest.raises(ValueError, match="truth"):
        conformal_mass(np.ones((1, 1)), np.ones(1, dtype=int), 0.5)
