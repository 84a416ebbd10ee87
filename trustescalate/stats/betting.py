"""Is a mean below 0? A test by betting, for bounded terms that come one by one: losses, or whole clusters.

A gambler who believes so stakes part of a wealth of 1 on each term. If the mean is not below 0 the wealth is
a supermartingale, and ever exceeds 1/a with probability at most a. This file does not say what the terms are.
"""

import numpy as np

from trustescalate.stats.bounds import FloatArray, IntArray

BETS = (0.25, 0.5, 0.75, 0.99)
"""Shares of the largest stake that cannot lose everything; the wealth starts in equal parts on each."""


def betting_pvalue(excess: FloatArray, alpha: float) -> float:
    """p-value of "the mean of the terms is at least 0": 1 / the largest wealth ever reached, at most 1.

    `excess` (n,) are the terms less alpha, in [-alpha, 1 - alpha], in an order fixed without looking at them.
    A stake nu turns the wealth W into W (1 - nu excess); it is kept below 1 / (1 - alpha), so W stays
    positive. The stake is the mean of `BETS`, weighted by what each has won so far: it is predictable, needs
    no tuning, and with terms of small variance it comes near the best fixed stake.
    Assumes that each term's mean, given those before it, is at least 0 under the null: independent draws will
    do. With terms in {-alpha, 1 - alpha} the exact binomial test has more power, about .9 against .7.
    Raises ValueError for a term out of range, or unless 0 < alpha < 1.
    Waudby-Smith and Ramdas (2024); Ville's inequality.

    >>> round(betting_pvalue(np.full(40, -0.1), 0.1), 4), betting_pvalue(np.full(40, 0.0), 0.1)
    (0.0395, 1.0)
    >>> betting_pvalue(np.zeros(0), 0.1)
    1.0
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    if not np.all((excess >= -alpha - 1e-12) & (excess <= 1 - alpha + 1e-12)):
        raise ValueError("terms must lie in [-alpha, 1 - alpha]")
    stakes = np.array(BETS)[:, None] / (1 - alpha)
    logs = np.log1p(-stakes * excess).cumsum(axis=1)
    wealth = np.logaddexp.reduce(logs, axis=0) - np.log(len(BETS))
    return float(np.exp(-max(0.0, wealth.max(initial=0.0))))


def betting_best_pvalue(n: IntArray, alpha: float) -> FloatArray:
    """The p-value of n terms that are all as low as can be, -alpha: nothing shorter can pass. Shape of `n`.

    Source: as `betting_pvalue`.

    >>> betting_best_pvalue(np.array([0, 40]), 0.1).round(4).tolist()
    [1.0, 0.0395]
    """
    stakes = np.array(BETS)[:, None] / (1 - alpha)
    wealth = np.logaddexp.reduce(np.log1p(stakes * alpha) * n, axis=0) - np.log(len(BETS))
    return np.asarray(np.exp(-wealth), dtype=np.float64)
