"""Measure the calibration of scores: reliability, expected calibration error, Brier score, AUROC.

`score` (n,) in [0, 1] is the judge's confidence, `correct` (n,) whether its verdict agrees with the human
label. Rows without a verdict do not belong here. No guarantee rests on these figures.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray


class Reliability(NamedTuple):
    """The bars that hold rows: scores in [`low`, `high`), how many, their mean, how many were right."""

    low: FloatArray
    high: FloatArray
    rows: IntArray
    mean_score: FloatArray
    correct: IntArray


def reliability(score: FloatArray, correct: BoolArray, bins: int = 10) -> Reliability:
    """Rows by score, in bars of equal width on [0, 1]; bars without rows are left out.

    Equal width, so that bars of two judges stand side by side. A score on an edge belongs to the bar above
    it, and 1 to the last. Raises ValueError unless the shapes agree and 0 <= score <= 1.
    Source: reliability diagrams, DeGroot and Fienberg 1983.

    >>> bars = reliability(np.array([0.95, 0.9, 1.0, 0.55]), np.array([True, True, False, True]))
    >>> bars.low.round(1).tolist(), bars.rows.tolist(), bars.correct.tolist()
    ([0.5, 0.9], [1, 3], [1, 2])
    """
    _check(score, correct)
    edges = np.arange(bins + 1) / bins  # np.linspace puts 0.6 above 0.6
    place = np.minimum(np.searchsorted(edges, score, side="right") - 1, bins - 1)
    count = np.bincount(place, minlength=bins)
    right = np.bincount(place[correct], minlength=bins)
    total = np.bincount(place, weights=score, minlength=bins)
    filled = count > 0
    return Reliability(
        edges[:-1][filled], edges[1:][filled], count[filled], total[filled] / count[filled], right[filled]
    )


def expected_calibration_error(score: FloatArray, correct: BoolArray, bins: int = 10) -> float | None:
    """The mean gap between a bar's score and its share of right verdicts, weighted by rows.

    None without rows. It depends on the number of bars, and is biased upwards with few rows. Raises
    ValueError as `reliability` does. Guo et al. (2017), equation 3.

    >>> expected_calibration_error(np.full(8, 0.75), np.arange(8) < 4)
    0.25
    """
    bars = reliability(score, correct, bins)
    if bars.rows.size == 0:
        return None
    gaps = np.abs(bars.correct / bars.rows - bars.mean_score)
    return float((gaps * bars.rows).sum() / bars.rows.sum())


def brier_score(score: FloatArray, correct: BoolArray) -> float | None:
    """The mean squared gap between score and outcome (1 right, 0 wrong); None without rows.

    Raises ValueError as `reliability` does. Source: Brier 1950.

    >>> brier_score(np.array([1.0, 0.5]), np.array([True, False]))
    0.125
    """
    _check(score, correct)
    if score.size == 0:
        return None
    return float(np.mean((score - correct) ** 2))


def auroc(score: FloatArray, correct: BoolArray) -> float | None:
    """The probability that a right verdict scores above a wrong one, a tie counting half.

    None where all verdicts or none are right: there is nothing to tell apart. Raises ValueError as
    `reliability` does. Source: the Mann-Whitney statistic, Hanley and McNeil 1982.

    >>> auroc(np.array([0.9, 0.8, 0.8, 0.6]), np.array([True, True, False, False]))
    0.875
    """
    _check(score, correct)
    if correct.all() or not correct.any():
        return None
    right, wrong = score[correct], np.sort(score[~correct])
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.sum() / (2 * right.size * wrong.size))


def scores_mislead(auroc: float, right: int, wrong: int, level: float = 0.01) -> bool:
    """Whether right verdicts score below wrong ones, beyond chance at a one-sided `level`.

    The Mann-Whitney test in its normal approximation, `right` and `wrong` the numbers of verdicts; with ties
    it is conservative. False where either is 0. Source: Mann and Whitney (1947).

    >>> scores_mislead(0.2, 20, 20), scores_mislead(0.45, 20, 20)
    (True, False)
    """
    if not right or not wrong:
        return False
    deviation = math.sqrt((right + wrong + 1) / (12 * right * wrong))
    return bool(ndtr((auroc - 0.5) / deviation) < level)


def _check(score: FloatArray, correct: BoolArray) -> None:
    if score.shape != correct.shape or score.ndim != 1:
        raise ValueError(f"score {score.shape} and correct {correct.shape} must be (n,)")
    if correct.dtype != np.bool_:
        raise ValueError("correct must be an array of booleans")
    if not np.all((score >= 0) & (score <= 1)):
        raise ValueError("scores must lie in [0, 1]")
