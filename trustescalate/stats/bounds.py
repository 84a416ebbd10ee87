"""Bound a risk from counts: exact binomial p-values and Clopper-Pearson limits.

Every limit is one-sided at 1 - delta, unless it is called an interval. None is corrected for multiple
testing: that is `control`.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
CodeArray: TypeAlias = npt.NDArray[np.integer[Any]]
"""The number of a kind or a cluster of each of many rows, in 32 bits where memory matters."""
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Counts: TypeAlias = int | npt.NDArray[np.integer[Any]]


def binomial_pvalue(errors: Counts, n: Counts, alpha: float) -> FloatArray:
    """P(Bin(n, alpha) <= errors): small when the true risk is unlikely to be above alpha.

    `errors` and `n` are integers that broadcast; the shape of the result is theirs. Where n = 0 nothing was
    tested and the p-value is 1. Assumes that, given n, the rows are independent with one common risk.
    Raises ValueError unless 0 <= errors <= n and 0 < alpha < 1.
    Source: the binomial test, Clopper and Pearson 1934; its use here arXiv 2407.18370.

    >>> float(binomial_pvalue(0, 45, 0.05).round(4))
    0.0994
    >>> binomial_pvalue(np.array([0, 3]), np.array([0, 60]), 0.1).round(4).tolist()
    [1.0, 0.1374]
    """
    errors, n = _checked(errors, n)
    _check_rate("alpha", alpha)
    return np.asarray(bdtr(errors, n, alpha), dtype=np.float64)


def clopper_pearson_upper(errors: Counts, n: Counts, delta: float | FloatArray) -> FloatArray:
    """Upper limit on a rate, exact and one-sided: it lies below the rate with probability at most delta.

    Integers and rates that broadcast; the result has their shape. Where errors = n, and so where n = 0, it
    is 1. Raises ValueError unless 0 <= errors <= n and 0 < delta < 1. Clopper and Pearson (1934).

    >>> clopper_pearson_upper(np.array([0, 0, 5]), np.array([45, 0, 5]), 0.1).round(4).tolist()
    [0.0499, 1.0, 1.0]
    """
    errors, n = _checked(errors, n)
    _check_rate("delta", delta)
    full = errors == n
    limit = betaincinv(errors + 1.0, np.where(full, 1, n - errors), 1 - delta)
    return np.where(full, 1.0, limit).astype(np.float64)


def clopper_pearson_lower(errors: Counts, n: Counts, delta: float) -> FloatArray:
    """Lower limit on a rate, exact and one-sided: it lies above the rate with probability at most delta.

    Integers that broadcast; the result has their shape. Where errors = 0, and so where n = 0, it is 0.
    Raises ValueError unless 0 <= errors <= n and 0 < delta < 1. Clopper and Pearson (1934).

    >>> clopper_pearson_lower(np.array([0, 0, 40]), np.array([45, 0, 50]), 0.1).round(4).tolist()
    [0.0, 0.0, 0.7087]
    """
    errors, n = _checked(errors, n)
    _check_rate("delta", delta)
    empty = errors == 0
    limit = betaincinv(np.where(empty, 1, errors), n - errors + 1.0, delta)
    return np.where(empty, 0.0, limit).astype(np.float64)


def clopper_pearson_interval(errors: int, n: int, delta: float) -> tuple[float, float]:
    """Two-sided limits on a rate: together they miss it with probability at most delta, delta / 2 a side.

    Raises ValueError unless 0 <= errors <= n and 0 < delta < 1. Clopper and Pearson (1934).

    >>> [round(limit, 4) for limit in clopper_pearson_interval(8, 10, 0.05)]
    [0.4439, 0.9748]
    """
    low = clopper_pearson_lower(errors, n, delta / 2)
    return float(low), float(clopper_pearson_upper(errors, n, delta / 2))


def _checked(errors: Counts, n: Counts) -> tuple[IntArray, IntArray]:
    counts = [np.asarray(count) for count in (errors, n)]
    if any(count.dtype.kind not in "iu" for count in counts):
        raise ValueError("errors and n must be integers: a count is never rebuilt from a rate")
    errors_of, rows = np.broadcast_arrays(counts[0].astype(np.int64), counts[1].astype(np.int64))
    if np.any((errors_of < 0) | (errors_of > rows)):
        raise ValueError("errors must lie between 0 and n")
    return errors_of, rows


def _check_rate(name: str, rate: float | FloatArray) -> None:
    if not np.all((np.asarray(rate) > 0) & (np.asarray(rate) < 1)):
        raise ValueError(f"{name} must lie strictly between 0 and 1, not {rate}")
