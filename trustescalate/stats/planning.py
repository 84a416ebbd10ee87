"""Compute label budgets: what a test of risk <= alpha can and cannot reach with n labels.

All counts are rows that the policy *accepts*: divide by the coverage to get rows to label. One test is
considered; shares of delta are `control`, and whole calibrations are `pilot`.
"""

import math

import numpy as np
from scipy.special import bdtr, bdtrik, ndtri

from trustescalate.stats.bounds import Counts, FloatArray, IntArray, binomial_pvalue


def label_floor(alpha: float, delta: float) -> int:
    """The fewest accepted rows with which anything can pass: without one error, (1 - alpha)^n <= delta.

    Raises ValueError unless alpha and delta lie strictly between 0 and 1.
    Source: the binomial test without an error, Clopper and Pearson 1934.

    >>> label_floor(0.05, 0.1), label_floor(0.1, 0.1)
    (45, 22)
    """
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise ValueError(f"alpha and delta must lie strictly between 0 and 1, not {alpha} and {delta}")
    estimate = math.ceil(math.log(delta) / math.log1p(-alpha))
    near = range(max(1, estimate - 1), estimate + 2)
    return next(n for n in near if binomial_pvalue(0, n, alpha) <= delta)


def max_errors(n: Counts, alpha: float, delta: float) -> IntArray:
    """The most errors among n accepted rows that still pass, c*(n); -1 where not even 0 errors pass.

    The result has the shape of `n`. Raises ValueError as `binomial_pvalue` does.
    Source: the binomial test, Clopper and Pearson 1934.

    >>> max_errors(np.array([44, 45, 100, 300]), 0.05, 0.1).tolist()
    [-1, 0, 1, 9]
    """
    n = np.asarray(n, dtype=np.int64)
    label_floor(alpha, delta)
    with np.errstate(invalid="ignore"):
        guess = np.nan_to_num(np.floor(bdtrik(delta, n, alpha)), nan=0.0).astype(np.int64)
    # The inverse is rounded; the count next to it that satisfies the test itself is the answer.
    near = np.clip(guess[..., None] + np.array([-1, 0, 1]), 0, n[..., None])
    passing = binomial_pvalue(near, n[..., None], alpha) <= delta
    return np.asarray(np.where(passing, near, -1).max(axis=-1), dtype=np.int64)


def power(n: Counts, risk: float | FloatArray, alpha: float, delta: float) -> FloatArray:
    """The probability that n accepted rows of true risk `risk` pass the test of risk <= alpha at delta.

    `n` and `risk` broadcast: a column of n and a row of risks give a curve for each risk. Raises ValueError
    as `binomial_pvalue` does, or unless 0 <= risk <= 1.

    >>> power(np.array([45, 100, 400]), 0.02, 0.05, 0.1).round(3).tolist()
    [0.403, 0.403, 0.984]
    >>> power(np.array([[100], [400]]), np.array([0.01, 0.04]), 0.05, 0.1).round(2).tolist()
    [[0.74, 0.09], [1.0, 0.36]]
    """
    if not np.all((np.asarray(risk) >= 0) & (np.asarray(risk) <= 1)):
        raise ValueError(f"risk must lie between 0 and 1, not {risk}")
    most = max_errors(n, alpha, delta)
    return np.where(most < 0, 0.0, bdtr(np.maximum(most, 0), n, risk)).astype(np.float64)


def coverage_ceiling(mu: float, alpha: float) -> float:
    """The most that any method can cover at risk alpha, with a judge that errs on a share mu of all items.

    At the best, all that is left out is wrong: (1 - mu) / (1 - alpha), at most 1.
    Raises ValueError unless 0 <= mu <= 1 and 0 <= alpha < 1.

    >>> round(coverage_ceiling(0.3, 0.1), 4)
    0.7778
    """
    if not (0 <= mu <= 1 and 0 <= alpha < 1):
        raise ValueError(f"mu must lie in [0, 1] and alpha in [0, 1), not {mu} and {alpha}")
    return min(1.0, (1 - mu) / (1 - alpha))


def labels_needed(risk: float, alpha: float, delta: float, target: float = 0.8) -> int | None:
    """The fewest accepted rows from which on the power at true risk `risk` never falls below `target`.

    Power is a saw in n (one more row without one more permitted error lowers it), hence "from which on".
    None where risk >= alpha, or where more than ten million rows would be needed.
    Raises ValueError unless the other three lie strictly between 0 and 1.
    Source: the sawtooth power of exact tests, Chernick and Liu 2002.

    >>> labels_needed(0.02, 0.05, 0.1), labels_needed(0.05, 0.05, 0.1)
    (209, None)
    """
    if not 0 < target < 1:
        raise ValueError(f"target must lie strictly between 0 and 1, not {target}")
    floor = label_floor(alpha, delta)
    if risk >= alpha:
        return None
    spread = -ndtri(delta) * math.sqrt(alpha * (1 - alpha)) + ndtri(target) * math.sqrt(risk * (1 - risk))
    horizon = 4 * floor + 1000 + int(4 * max(spread, 0.0) ** 2 / (alpha - risk) ** 2)
    if horizon > 10_000_000:
        return None
    n = np.arange(floor, horizon)
    too_weak = np.flatnonzero(power(n, risk, alpha, delta) < target)
    return floor if too_weak.size == 0 else int(n[too_weak[-1]]) + 1
