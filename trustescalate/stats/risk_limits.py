"""Limit the risk of several policies at once, so that alpha may be chosen after looking at the limits.

One set of labels, 12 to 20 checkpoints that make up the path, a share of delta for each. With alpha known
beforehand `certify` covers more. Nothing is said between checkpoints: risk need not be monotone.
"""

from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import FloatArray, IntArray, clopper_pearson_upper
from trustescalate.stats.control import Prefer, choose


class RiskLimits(NamedTuple):
    """The checkpoints: `policies` (t, m) thresholds, `by_tier` (t, m), all others (t,).

    `upper` limits the true risk of all policies at once, given `errors` of `accepted` rows of n; `cost` is
    mean USD per row.
    """

    policies: FloatArray
    accepted: IntArray
    errors: IntArray
    by_tier: IntArray
    cost: FloatArray
    upper: FloatArray


def simultaneous_risk_upper(
    errors: IntArray, accepted: IntArray, delta: float, weights: FloatArray | None = None
) -> FloatArray:
    """Limits (t,) with P(R_t <= limit_t for all t) >= 1 - delta: Clopper-Pearson, each at its share of delta.

    `errors` and `accepted` are (t,); `weights` (t,) > 0 sum to at most 1, equal unless given, and were fixed
    without labels. Where errors = accepted, and so where nothing is accepted, the limit is 1. Any dependence
    between the policies is allowed. Assumes rows drawn independently from the population.
    Raises ValueError for other weights, unless 0 < delta < 1, and as `clopper_pearson_upper` does.
    Source: Clopper and Pearson 1934, and Bonferroni's inequality, Dunn 1961.

    >>> simultaneous_risk_upper(np.array([0, 4, 9]), np.array([0, 100, 200]), 0.1).round(4).tolist()
    [1.0, 0.0952, 0.0811]
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    shares = np.full(len(accepted), 1 / max(1, len(accepted))) if weights is None else weights
    if shares.shape != accepted.shape or not np.all(shares > 0) or shares.sum() > 1 + 1e-12:
        raise ValueError("weights must be positive, one for each policy, and sum to at most 1")
    return clopper_pearson_upper(errors, accepted, delta * shares)


def certified_at(limits: RiskLimits, alpha: float, n: int, prefer: Prefer = "coverage") -> int | None:
    """The checkpoint to release verdicts with at risk `alpha`, which may be chosen after seeing the limits.

    Of those whose limit is at most alpha, the one that `control.choose` takes, counted on n rows; None where
    there is none. However often alpha is changed, P(any answer's true risk > its alpha) <= delta.
    Raises ValueError unless 0 < alpha < 1.

    >>> limits = RiskLimits(np.zeros((2, 1)), np.array([80, 90]), np.array([0, 9]), np.array([[80], [90]]),
    ...                     np.ones(2), np.array([0.06, 0.2]))
    >>> [certified_at(limits, alpha, n=100) for alpha in (0.05, 0.1, 0.25)]
    [None, 0, 1]
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    return choose(limits.upper <= alpha, limits.accepted, limits.cost, prefer, n=n)
