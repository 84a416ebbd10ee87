"""Compute two-sided intervals for a mean of bounded terms that may be weighted, or clustered.

Student's interval where many terms carry the variance, an exact one by betting where few do, Clopper-Pearson
where terms are 0 or 1, independent, and count the same. The result names which of the three it is; the rule
as a whole has a coverage test (docs/intervals.md).
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.special import stdtrit

from trustescalate.stats.bounds import CodeArray, FloatArray, IntArray, clopper_pearson_interval

Basis: TypeAlias = Literal["exact", "betting", "student"]

MIN_EQUAL, MIN_UNEQUAL = 10, 20
"""From so many effective terms on Student's interval was measured to hold: where all weigh the same, and
where some weigh twenty times as much as others."""
BETS = (0.06, 0.15, 0.3, 0.6, 0.98)
"""Shares of the largest stake that cannot lose everything; the wealth starts in equal parts on each."""


class Limits(NamedTuple):
    """Two-sided limits, and what they rest on: "exact" is Clopper-Pearson, "student" is asymptotic."""

    low: float
    high: float
    basis: Basis


def effective_number(parts: FloatArray) -> float:
    """The number of `parts` (g,) of an error that carry its variance: (sum of squares)^2 / sum of 4th powers.

    About the number of the rarer outcome where that is rare, and 0 where nothing varies: then the sample does
    not say how far the mean may lie. Kish's effective sample size, with squares for weights.
    Source: Kish 1965, section 11.7.

    >>> rare = np.repeat([0.0, 1.0], [97, 3])
    >>> round(effective_number(rare - rare.mean()), 2), effective_number(np.zeros(9))
    (3.19, 0.0)
    """
    squares = parts**2
    fourth = float(squares @ squares)
    return float(squares.sum() ** 2 / fourth) if fourth > 0 else 0.0


def mean_interval(
    value: FloatArray, delta: float, *, cluster: CodeArray | None = None, weight: FloatArray | None = None
) -> Limits:
    """Limits on the weighted mean of values in [0, 1], which miss it with probability about `delta` at most.

    `value`, `cluster`, `weight` (n,): rows of one cluster are not independent, clusters are; `weight`
    defaults to 1 a row, so a cluster counts by its rows. Values that are all 0 or 1, one row a cluster and
    weights all equal: Clopper-Pearson. Otherwise Student's t over clusters, with fewer effective ones than
    `enough` asks `betting_interval`. (0, 1) without rows. The choice depends on the values, so it is measured
    as a whole.
    Raises ValueError for values outside [0, 1], weights that are not positive, shapes that differ, or delta
    outside (0, 1).
    Source: ratio estimation over clusters, Cochran 1977, section 6.

    >>> right = np.repeat([1.0, 0.0], [285, 15])
    >>> [round(limit, 3) for limit in mean_interval(right, 0.05)[:2]]
    [0.919, 0.972]
    >>> found = mean_interval(right, 0.05, cluster=np.arange(300) // 15)
    >>> round(found.low, 3), round(found.high, 3), found.basis
    (0.641, 1.0, 'betting')
    """
    n = len(value)
    weights = np.ones(n) if weight is None else weight
    _check(value, weights, delta, cluster)
    if n == 0:
        return Limits(0.0, 1.0, "exact")
    total, size = weights * value, weights
    if cluster is not None:
        place = np.unique(cluster, return_inverse=True)[1]
        total, size = (np.bincount(place, each).astype(np.float64) for each in (total, size))
    if len(size) == n and np.ptp(weights) == 0 and np.isin(value, (0, 1)).all():
        return Limits(*clopper_pearson_interval(int(value.sum()), n, delta), "exact")
    interval = student_interval(total, size, delta)
    return betting_interval(total, size, delta) if interval is None else interval


def enough(size: FloatArray) -> int:
    """The least number of effective clusters for Student's interval, where clusters weigh `size` (g,).

    The limit is set by coverage tests: docs/intervals.md.

    >>> enough(np.ones(3)), enough(np.array([1.0, 20.0]))
    (10, 20)
    """
    return MIN_EQUAL if np.ptp(size) <= 1e-9 * size.max() else MIN_UNEQUAL


def student_interval(total: FloatArray, size: FloatArray, delta: float) -> Limits | None:
    """Student's limits within [0, 1] on sum(total) / sum(size) over g clusters, (g,) each.

    None with fewer effective clusters than `enough`. Asymptotic. Assumes independent clusters.
    Source: the linearised ratio estimator, Cochran 1977, section 6.

    >>> student_interval(np.ones(30), np.ones(30), 0.05) is None
    True
    """
    mean = float(total.sum() / size.sum())
    parts = (total - mean * size) / size.sum()
    if effective_number(parts) < enough(size):
        return None
    error = float(np.sqrt(parts @ parts * len(parts) / (len(parts) - 1)))
    reach = -float(stdtrit(len(parts) - 1, delta / 2)) * error
    return Limits(max(0.0, mean - reach), min(1.0, mean + reach), "student")


def betting_interval(total: FloatArray, size: FloatArray, delta: float) -> Limits:
    """Limits on a weighted mean of terms in [0, 1]: they miss it with probability at most `delta`, exactly.

    `total` and `size` (g,): the sum of a cluster's weighted terms, at most the sum of its weights, `size`. A
    mean m is excluded where a fixed mixture of bets against it has won 2 / delta at the end; the order of the
    clusters does not matter. Holds for independent clusters drawn from one population, of which none is
    larger than the largest one here, for strata with their own means (by the inequality of the means), and
    for draws without replacement. Raises ValueError for a total outside [0, size], or delta outside (0, 1).
    Source: betting, Waudby-Smith and Ramdas 2024, arXiv 2010.09686, with a fixed mixture of bets.

    >>> [round(limit, 3) for limit in betting_interval(np.ones(60), np.ones(60), 0.05)[:2]]
    [0.917, 1.0]
    """
    if not 0 < delta < 1 or np.any((total < 0) | (total > size * (1 + 1e-12))) or not np.all(size > 0):
        raise ValueError("totals must lie in [0, size], sizes be positive, and delta lie in (0, 1)")
    share, weight, number = total / size.max(), size / size.max(), np.ones(1, dtype=np.int64)
    if np.ptp(size) == 0:  # equal terms win and lose together
        distinct, number = np.unique(share, return_counts=True)
        share, weight = distinct, np.ones(len(distinct))
    upper = 1 - _lower(weight - share, weight, number, delta / 2)
    return Limits(_lower(share, weight, number, delta / 2), upper, "betting")


def _lower(share: FloatArray, weight: FloatArray, number: IntArray, delta: float) -> float:
    """The largest mean that bets on a larger one exclude; their wealth falls as the mean that they fight
    rises. There are `number` clusters of each kind."""
    low, high = 0.0, float((number * share).sum() / (number * weight).sum())
    for _ in range(30):
        middle = (low + high) / 2
        if middle == 0:
            return 0.0
        gains = np.maximum(share, 0.0) / middle - weight
        logs = np.array([(number * np.log1p(stake * gains)).sum() for stake in BETS])
        excluded = np.logaddexp.reduce(logs) - np.log(len(BETS)) >= -np.log(delta)
        low, high = (middle, high) if excluded else (low, middle)
    return low


def _check(value: FloatArray, weight: FloatArray, delta: float, cluster: CodeArray | None) -> None:
    if value.ndim != 1 or any(each is not None and each.shape != value.shape for each in (weight, cluster)):
        raise ValueError("value, cluster and weight must be (n,)")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    if not (np.all((value >= 0) & (value <= 1)) and np.all(weight > 0)):
        raise ValueError("values must lie in [0, 1], and weights must be positive")
