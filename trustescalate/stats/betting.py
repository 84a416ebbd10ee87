"""Test by betting whether a mean is below 0, for bounded terms that come one by one.

A gambler who believes so stakes part of a wealth of 1 on each term. If the mean is not below 0 the wealth is
a supermartingale, and ever exceeds 1/a with probability at most a. Terms are losses, or whole clusters.
"""

import numpy as np
from scipy.special import bdtrik, betainc

from trustescalate.stats.bounds import FloatArray, IntArray

BETS = (0.25, 0.5, 0.75, 0.99)
"""Shares of the largest stake that cannot lose everything; the wealth starts in equal parts on each."""
PRIOR = 3.0
"""Terms that the guess at the variance is worth, when stakes aim at a level: right or wrong at alpha."""
MARGIN = 1e-6
"""So much more than 1 / target is aimed at: rounding must not leave the wealth a bit below it."""
OVERSHOOT = 0.01
"""The last stake may win so much more than is needed: small terms would otherwise only ever come near."""
LEAST = 1e-9


def betting_pvalue(excess: FloatArray, alpha: float, target: float | None = None) -> float:
    """p-value of "the mean of the terms is at least 0": 1 / the largest wealth ever reached, at most 1.

    `excess` (n,) are the terms less alpha, in [-alpha, 1 - alpha], in an order fixed without looking at them.
    A stake nu turns the wealth W into W (1 - nu excess); it is kept to at most 1 / (1 - alpha), so W is never
    negative. Without a `target` the stake is the mean of `BETS`, weighted by what each has won so far: good
    at every n at once, and best at none. With a `target`, a level fixed before the terms are seen, stakes
    aim at a wealth of 1 / target at term n, as in `betting_pvalues`: more power at that level, none below it.
    Assumes that each term's mean, given those before it, is at least 0 under the null: independent draws will
    do. Then p is valid at every level, whatever the target.
    Raises ValueError for a term out of range, or unless 0 < alpha < 1 and 0 < target < 1.
    Waudby-Smith and Ramdas (2024); Ville's inequality.

    >>> round(betting_pvalue(np.full(40, -0.1), 0.1), 4), betting_pvalue(np.full(40, 0.0), 0.1)
    (0.0395, 1.0)
    >>> betting_pvalue(np.full(22, -0.1), 0.1) <= 0.1, betting_pvalue(np.full(22, -0.1), 0.1, 0.1) <= 0.1
    (False, True)
    >>> betting_pvalue(np.zeros(0), 0.1)
    1.0
    """
    if target is not None:
        return float(betting_pvalues(excess[None], alpha, target=target)[0])
    _check_terms(excess, alpha)
    stakes = np.array(BETS)[:, None] / (1 - alpha)
    logs = np.log1p(-stakes * excess).cumsum(axis=1)
    wealth = np.logaddexp.reduce(logs, axis=0) - np.log(len(BETS))
    return float(np.exp(-max(0.0, wealth.max(initial=0.0))))


def betting_pvalues(excess: FloatArray, alpha: float, *, target: FloatArray | float) -> FloatArray:
    """p-values (t,) of many policies at once, by stakes that aim at a wealth of 1 / target at the last term.

    `excess` (t, n) holds each policy's terms as in `betting_pvalue`, NaN where it has none: which places
    these are must not depend on the terms. `target` is one level, or one for each policy (t,), a constant.
    With r terms left, a wealth that is a share u of what is aimed at is worth the bet "at most c of r coins
    show heads", whose price under the null is u; the stake is what replicates it over the next term. Coins
    have the variance of the terms seen so far, with `PRIOR` terms that are right or wrong at alpha, so the
    test is nearly the binomial one where terms are such, and gains where they vary less. What cannot reach
    the aim any more stakes all; what has reached it stakes nothing.
    Assumes, and raises, as `betting_pvalue`; stakes depend on earlier terms and on their number alone.
    Source: aiming at a wealth at a fixed n is the idea of STaR-Bets, arXiv 2505.22422; the stake is that of
    a binomial option, c made continuous by the incomplete beta function.

    >>> rows = np.array([np.full(60, -0.1), np.repeat([-0.1, 0.9], [56, 4]), np.repeat([-0.1, np.nan], 30)])
    >>> betting_pvalues(rows, 0.1, target=0.1).round(3).tolist()
    [0.1, 0.1, 0.1]
    """
    given = ~np.isnan(excess)
    aim = np.broadcast_to(np.asarray(target, dtype=np.float64), len(excess))
    _check_terms(excess[given], alpha)
    if not np.all((aim > 0) & (aim < 1)):
        raise ValueError(f"target must lie strictly between 0 and 1, not {target}")
    terms = np.take_along_axis(excess, np.argsort(~given, axis=1, kind="stable"), axis=1)
    return np.asarray(np.minimum(1.0, aim / _play(terms, given.sum(axis=1), alpha, aim)))


def _play(terms: FloatArray, count: IntArray, alpha: float, target: FloatArray) -> FloatArray:
    """The largest wealth (t,) times target; row i has count[i] terms, from the left."""
    wealth = np.array(target)
    best, squares, falls, fallen = (np.array(wealth), *np.zeros((3, len(wealth))))
    for seen in range(int(count.max(initial=0))):
        now = np.flatnonzero((seen < count) & (wealth < 1))
        if not now.size:
            break
        fall = np.maximum(
            np.divide(falls[now], fallen[now], out=np.full(len(now), alpha), where=fallen[now] > 0), LEAST
        )
        variance = (squares[now] + PRIOR * fall**2 * (1 - alpha) / alpha) / (seen + PRIOR)
        term = terms[now, seen]
        stake = _size_stake(wealth[now] / (1 + MARGIN), count[now] - seen, fall, variance / fall, alpha)
        wealth[now] = np.maximum(0.0, wealth[now] - (1 + MARGIN) * stake * term)
        best = np.maximum(best, wealth)
        squares[now] += term**2
        falls[now] -= np.minimum(term, 0)
        fallen[now] += term < 0
    return best


def _size_stake(
    share: FloatArray, left: IntArray, fall: FloatArray, rise: FloatArray, alpha: float
) -> FloatArray:
    """The stake (t,) on the next of `left` terms, of a wealth that is a share of the aim, all (t,).

    Under the null a term is taken to be -fall or rise, with mean 0: a coin that shows heads with probability
    fall / (fall + rise).
    """
    heads = fall / (fall + rise)
    within = np.clip(share, LEAST, 1 - LEAST)
    most = bdtrik(within, left, heads)
    spread = _binomial_cdf(most, left - 1, heads) - _binomial_cdf(most - 1, left - 1, heads)
    whole = share / (1 - alpha)
    out_of_reach = share < (1 - heads) ** left
    stake = np.where(out_of_reach, whole, spread / (fall + rise))
    return np.asarray(np.clip(stake, 0, np.minimum(whole, (1 + OVERSHOOT - share) / fall)))


def _binomial_cdf(k: FloatArray, n: IntArray, p: FloatArray) -> FloatArray:
    """P(at most k of n), k any real number: the identity with the incomplete beta function, extended."""
    inner = betainc(np.maximum(n - k, LEAST), np.maximum(k + 1, LEAST), 1 - p)
    return np.asarray(np.where(k <= -1, 0.0, np.where(k >= n, 1.0, inner)))


def _check_terms(excess: FloatArray, alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    if not np.all((excess >= -alpha - 1e-12) & (excess <= 1 - alpha + 1e-12)):
        raise ValueError("terms must lie in [-alpha, 1 - alpha]")
