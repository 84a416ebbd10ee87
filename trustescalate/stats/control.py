"""Which policies keep their risk <= alpha, all at once with probability >= 1 - delta?

p-values along a path, strict to lax, and what each may spend of delta. The path, and where testing starts,
may depend on *counts of accepted rows*, never on labels: a start rule that looks at errors breaks its promise
(.29 instead of .10). This file computes no p-value: that is `bounds`.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.planning import label_floor

Prefer: TypeAlias = Literal["coverage", "cost"]

SHARES = ((0.6, 0.2), (0.4, 0.5))
"""(share of delta, share of the rows that a policy must accept before that share is spent)."""


class Rejections(NamedTuple):
    """`level` (t,): what the test of each policy could spend; `rejected` (t,): risk > alpha is rejected."""

    level: FloatArray
    rejected: BoolArray


def fallback(p: FloatArray, accepted: IntArray, n: int, alpha: float, delta: float) -> Rejections:
    """Fallback procedure: shares of delta start at given places, and pass on as long as tests are passed.

    `p` and `accepted` are (t,), strict to lax; `n` is the number of rows. 0.6 of delta starts at the first
    policy that accepts 20 % of the rows, 0.4 at the first that accepts half, and each no sooner than at the
    fewest rows with which its share alone could pass. Two shares at one place add up. If one of the places
    does not exist, all of delta starts at the first policy that accepts 20 % and with which it could pass.
    The second start is a second chance where the most confident verdicts hold an unlucky row, which ends a
    fixed sequence.
    Controls P(any true null is rejected) <= delta under any dependence, if each p is valid. Wiens (2003).

    >>> result = fallback(np.array([0.2, 0.01, 0.05]), np.array([40, 120, 160]), 200, 0.1, 0.1)
    >>> result.level.round(3).tolist(), result.rejected.tolist()
    ([0.06, 0.04, 0.04], [False, True, False])
    """
    weights = np.zeros(len(p))
    for share, place in _starts(accepted, n, alpha, delta):
        weights[place] += share
    return _carried(p, weights * delta)


def fixed_sequence(
    p: FloatArray,
    accepted: IntArray,
    n: int,  # noqa: ARG001 - one signature for all procedures
    alpha: float,
    delta: float,
) -> Rejections:
    """All of delta from the first policy that accepts 30 rows on; the first test that fails ends it.

    As `fallback` with one start, and as in the paper (arXiv 2407.18370, Algorithm 1), save that testing
    never starts below the fewest rows with which anything could pass, where it could only fail.

    >>> result = fixed_sequence(np.array([0.01, 0.2, 0.01]), np.array([40, 60, 90]), 200, 0.1, 0.1)
    >>> result.level.tolist(), result.rejected.tolist()
    ([0.1, 0.1, 0.0], [True, False, False])
    """
    weights = np.zeros(len(p))
    start = _first(accepted, max(30, label_floor(alpha, delta)))
    if start is not None:
        weights[start] = delta
    return _carried(p, weights)


def bonferroni(
    p: FloatArray,
    accepted: IntArray,
    n: int,  # noqa: ARG001 - one signature for all procedures
    alpha: float,
    delta: float,
) -> Rejections:
    """An equal share of delta for each policy with rows enough to pass at delta; each test stands alone.

    As `fallback`, for a path along which risk may jump up and down. A lax grid costs power here.

    >>> result = bonferroni(np.array([0.01, 0.2, 0.01]), np.array([9, 60, 90]), 200, 0.1, 0.1)
    >>> result.level.tolist(), result.rejected.tolist()
    ([0.0, 0.05, 0.05], [False, False, True])
    """
    testable = accepted >= label_floor(alpha, delta)
    return _tested(p, np.where(testable, delta / max(1, testable.sum()), 0.0))


Procedure: TypeAlias = Callable[[FloatArray, IntArray, int, float, float], Rejections]

PROCEDURES: Mapping[str, Procedure] = {
    "fallback": fallback,
    "fixed_sequence": fixed_sequence,
    "bonferroni": bonferroni,
}


def choose(rejected: BoolArray, accepted: IntArray, cost: FloatArray, prefer: Prefer) -> int | None:
    """The rejected policy that accepts most ("coverage") or costs least ("cost"); None if there is none.

    All three are (t,). The other wish breaks ties, then the place on the path. Any choice among the rejected
    keeps the promise. Raises ValueError for an unknown wish.

    >>> rejected = np.array([True, True, False])
    >>> choose(rejected, np.array([50, 80, 90]), np.array([1.0, 2.0, 0.5]), "coverage")
    1
    >>> choose(rejected, np.array([50, 80, 90]), np.array([1.0, 2.0, 0.5]), "cost")
    0
    """
    if prefer not in get_args(Prefer):
        raise ValueError(f"prefer must be one of {', '.join(get_args(Prefer))}, not {prefer!r}")
    wishes = (cost, -accepted) if prefer == "coverage" else (-accepted, cost)
    order = np.lexsort((np.arange(len(rejected)), *wishes))
    passed = order[rejected[order]]
    return int(passed[0]) if passed.size else None


def _starts(accepted: IntArray, n: int, alpha: float, delta: float) -> list[tuple[float, int]]:
    for shares in (SHARES, ((1.0, SHARES[0][1]),)):
        places = [
            _first(accepted, max(label_floor(alpha, share * delta), int(np.ceil(part * n))))
            for share, part in shares
        ]
        found = [
            (share, place) for (share, _), place in zip(shares, places, strict=True) if place is not None
        ]
        if len(found) == len(shares):
            return found
    return []


def _first(accepted: IntArray, least: int) -> int | None:
    enough = np.flatnonzero(accepted >= least)
    return int(enough[0]) if enough.size else None


def _carried(p: FloatArray, own: FloatArray) -> Rejections:
    level = own.copy()
    for t in range(1, len(p)):
        if level[t - 1] > 0 and p[t - 1] <= level[t - 1]:
            level[t] += level[t - 1]
    return _tested(p, level)


def _tested(p: FloatArray, level: FloatArray) -> Rejections:
    # A p-value may underflow to 0, and must not pass where nothing may be spent.
    return Rejections(level, (level > 0) & (p <= level))
