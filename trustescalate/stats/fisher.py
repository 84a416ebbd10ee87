"""Fisher's exact test of two counts, as `scipy.stats.fisher_exact`, whose import alone takes a second."""

from typing import Literal

import numpy as np
from scipy.special import gammaln

from trustescalate.stats.bounds import FloatArray

TIED = 1e-7
"""Tables are as likely as the observed one up to this relative error, as in SciPy."""


def fisher_pvalue(
    first: tuple[int, int], second: tuple[int, int], side: Literal["both", "more"] = "both"
) -> float:
    """The p-value of two samples (count, size) whose shares are equal; "more": against more in the first.

    Two-sided, it sums all tables of these margins that are at most as likely as the observed one. Raises
    ValueError for counts outside their sizes. Source: Fisher 1935.

    >>> round(fisher_pvalue((8, 100), (5, 60)), 3), round(fisher_pvalue((8, 100), (0, 60), "more"), 3)
    (1.0, 0.021)
    """
    (count, size), (other, rest) = first, second
    if not (0 <= count <= size and 0 <= other <= rest):
        raise ValueError(f"{count} of {size} and {other} of {rest} are no counts")
    both = count + other
    possible = np.arange(max(0, both - rest), min(both, size) + 1)
    log_p = _log_choose(size, possible) + _log_choose(rest, both - possible)
    p = np.exp(log_p - log_p.max())
    counted = possible >= count if side == "more" else p <= p[count - possible[0]] * (1 + TIED)
    return min(1.0, float(p[counted].sum() / p.sum()))


def _log_choose(n: int, k: np.ndarray) -> FloatArray:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
