"""Ratings on an ordered scale: intervals of ratings that hold the person's, and verdicts from narrow ones.

An interval grows from the likeliest rating towards the likelier neighbour. How much mass it needs is learned
on dev rows; the width it ends with is a score like any other, so no promise of `certify` depends on it. This
file does not certify.
"""

import math
from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import FloatArray, IntArray


class Intervals(NamedTuple):
    """Ratings `low`..`high` (n,), both included, as places on the scale."""

    low: IntArray
    high: IntArray


class Verdicts(NamedTuple):
    """`label` (n,): the likeliest rating. `score` (n,) in (0, 1]: 1 - (high - low) / c."""

    label: IntArray
    score: FloatArray


def ordinal_intervals(probabilities: FloatArray, mass: float) -> Intervals:
    """The first interval, growing from the likeliest rating, that holds `mass`; else the whole scale.

    `probabilities` (n, c), rows that sum to 1. Of equal neighbours the lower one comes first.
    Raises ValueError unless all probabilities are finite and not negative. Lu et al. (2022), ordinal APS.

    >>> ordinal_intervals(np.array([[0.0, 0.1, 0.6, 0.2, 0.1]]), 0.85)
    Intervals(low=array([1]), high=array([3]))
    """
    low, high, held = _grown(probabilities)
    step = np.where((held >= mass).any(axis=1), (held >= mass).argmax(axis=1), held.shape[1] - 1)
    rows = np.arange(len(step))
    return Intervals(low[rows, step], high[rows, step])


def conformal_mass(probabilities: FloatArray, truth: IntArray, miss: float) -> float:
    """The mass with which an interval misses a further row's rating with probability at most `miss`.

    `probabilities` (n, c) and people's ratings `truth` (n,) in 0..c-1 of dev rows, exchangeable with the
    further row; the probability is over both. Infinite, for the whole scale, where the rows are too few:
    below 1/miss - 1. Raises ValueError unless 0 < miss < 1, and as `ordinal_intervals` does.
    Vovk, Gammerman and Shafer (2005); split conformal.

    >>> sure = np.tile([0.7, 0.2, 0.1], (9, 1))
    >>> round(conformal_mass(sure, np.array([0, 0, 0, 0, 0, 0, 1, 1, 2]), 0.2), 6)
    0.7
    """
    if not 0 < miss < 1:
        raise ValueError(f"miss must lie strictly between 0 and 1, not {miss}")
    low, high, held = _grown(probabilities)
    if truth.shape != (len(low),) or np.any((truth < 0) | (truth >= low.shape[1])):
        raise ValueError(f"truth must be {len(low)} ratings in 0..{low.shape[1] - 1}")
    inside = (low <= truth[:, None]) & (truth[:, None] <= high)
    before = np.hstack([np.zeros((len(low), 1)), held[:, :-1]])  # mass held when the next rating came in
    reached = np.sort(before[np.arange(len(low)), inside.argmax(axis=1)])
    place = math.ceil((len(low) + 1) * (1 - miss))
    return math.inf if place > len(low) else float(np.nextafter(reached[place - 1], 2))


def interval_verdicts(probabilities: FloatArray, mass: float) -> Verdicts:
    """Verdicts for a cascade: a threshold of `width_threshold(w, c)` accepts iff high - low is <= w.

    Source: conformal intervals as in `conformal_mass`; the score is this library's.

    >>> interval_verdicts(np.array([[0.0, 0.1, 0.6, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0, 1.0]]), 0.85)
    Verdicts(label=array([2, 4]), score=array([0.6, 1. ]))
    """
    low, high = ordinal_intervals(probabilities, mass)
    label = probabilities.argmax(axis=1).astype(np.int64)
    return Verdicts(label, 1 - (high - low) / probabilities.shape[1])


def width_threshold(width: int, c: int) -> float:
    """The score of an interval of that width on a scale of c ratings, to the bit.

    Source: arithmetic; nothing to cite.

    >>> width_threshold(2, 5)
    0.6
    """
    return 1 - width / c


def _grown(probabilities: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    if not np.all(np.isfinite(probabilities) & (probabilities >= 0)):
        raise ValueError("probabilities must be finite and not negative")
    n, c = probabilities.shape
    rows, walled = np.arange(n), np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1.0)
    low, high = np.empty((n, c), dtype=np.int64), np.empty((n, c), dtype=np.int64)
    held = np.empty((n, c))
    low[:, 0] = high[:, 0] = probabilities.argmax(axis=1)
    held[:, 0] = probabilities.max(axis=1)
    for step in range(1, c):
        left, right = walled[rows, low[:, step - 1]], walled[rows, high[:, step - 1] + 2]
        down = left >= right
        low[:, step], high[:, step] = low[:, step - 1] - down, high[:, step - 1] + ~down
        held[:, step] = held[:, step - 1] + np.where(down, left, right)
    return low, high, held
