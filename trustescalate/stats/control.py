"""Test many policies at once, so that P(any policy whose risk is above alpha passes) <= delta.

What each test may spend is fixed by constants and *unlabelled* rows: `coverage`, the share of them that each
policy accepts, and n. Counts of the tested rows may not place anything: in a cascade the same row is released
by another tier under the next policy, so counts carry information on errors (.13 instead of .10 by
enumeration; the world "handover" of `validity`). P-values are `bounds`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue

Prefer: TypeAlias = Literal["coverage", "cost", "total"]

SHARES = ((0.6, 0.2), (0.4, 0.5))
"""(share of delta, expected coverage at which that share starts)."""
FEWEST_ROWS = 30
SLACK = 0.02
"""Coverage that `choose` gives up, at most, for a cheaper policy."""

BestPvalue: TypeAlias = Callable[[FloatArray], FloatArray]
"""From expected coverage, the least p-value that so many of n rows can give: where none of them is wrong."""


class Rejections(NamedTuple):
    """`level` (t,): what the test of each policy could spend; `rejected` (t,): risk > alpha is rejected."""

    level: FloatArray
    rejected: BoolArray


def binomial_best(alpha: float, n: int) -> BestPvalue:
    """The least exact p-value of the accepted among n rows, (1 - alpha)^accepted; 1 for none.

    >>> binomial_best(0.1, 100)(np.array([0.0, 0.22])).round(3).tolist()
    [1.0, 0.098]
    """
    return lambda coverage: binomial_pvalue(0, expected_rows(coverage, n), alpha)


def expected_rows(coverage: FloatArray, n: int) -> IntArray:
    """Whole rows (t,) of n that policies are expected to accept. Rounded first: .29 of 100 are 29, not 28.

    >>> expected_rows(np.array([0.29, 0.999]), 100).tolist()
    [29, 99]
    """
    return np.floor(np.round(coverage * n, 9)).astype(np.int64)


# ── where testing starts ─────────────────────────────────────────────────────────────────────────


def fallback(
    coverage: FloatArray,
    n: int,  # noqa: ARG001 - one signature for all procedures
    delta: float,
    best: BestPvalue,
) -> FloatArray:
    """Starts of the fallback procedure: shares (t,) of delta that sum to 1, or to 0 where nothing could pass.

    `coverage` (t,) is the expected share of rows that each policy accepts, strict to lax. 0.6 of delta starts
    at the first policy that accepts 20 %, 0.4 at the first that accepts half, and each no sooner than at the
    fewest expected rows with which its share alone could pass. Two shares at one place add up. If one of the
    places does not exist, all of delta starts at the first policy that accepts 20 % and with which it could
    pass. The second start is a second chance where the most confident verdicts hold an unlucky row, which
    ends a fixed sequence. Wiens (2003).

    >>> fallback(np.array([0.2, 0.6, 0.8]), 200, 0.1, binomial_best(0.1, 200)).tolist()
    [0.6, 0.4, 0.0]
    """
    least = best(coverage)
    for shares in (SHARES, ((1.0, SHARES[0][1]),)):
        places = [_find_first((coverage >= part) & (least <= share * delta)) for share, part in shares]
        weights = np.zeros(len(coverage))
        for (share, _), place in zip(shares, places, strict=True):
            if place is not None:
                weights[place] += share
        if None not in places:
            return weights
    return np.zeros(len(coverage))


def fixed_sequence(coverage: FloatArray, n: int, delta: float, best: BestPvalue) -> FloatArray:
    """One start with all of delta: at the first policy that is expected to accept 30 rows and could pass.

    Arguments and result as in `fallback`. The first test that fails ends the sequence, as in arXiv
    2407.18370, Algorithm 1.

    >>> fixed_sequence(np.array([0.1, 0.2, 0.4]), 200, 0.1, binomial_best(0.1, 200)).tolist()
    [0.0, 1.0, 0.0]
    """
    expected = expected_rows(coverage, n)
    weights = np.zeros(len(coverage))
    start = _find_first((expected >= FEWEST_ROWS) & (best(coverage) <= delta))
    if start is not None:
        weights[start] = 1.0
    return weights


def bonferroni(
    coverage: FloatArray,
    n: int,  # noqa: ARG001 - one signature for all procedures
    delta: float,
    best: BestPvalue,
) -> FloatArray:
    """An equal share for each policy that is expected to accept enough rows to pass at delta.

    Arguments and result as in `fallback`. Each test stands alone: for a path along which risk may jump up and
    down. A lax grid costs power here.
    Source: Bonferroni's inequality, Dunn 1961.

    >>> bonferroni(np.array([0.05, 0.3, 0.5]), 200, 0.1, binomial_best(0.1, 200)).tolist()
    [0.0, 0.5, 0.5]
    """
    testable = best(coverage) <= delta
    return np.where(testable, 1 / max(1, testable.sum()), 0.0)


class Procedure(NamedTuple):
    """The starts of shares of delta, and whether a test that passes hands its level to the next policy."""

    starts: Callable[[FloatArray, int, float, BestPvalue], FloatArray]
    carries: bool


PROCEDURES: Mapping[str, Procedure] = {
    "fallback": Procedure(fallback, carries=True),
    "fixed_sequence": Procedure(fixed_sequence, carries=True),
    "bonferroni": Procedure(bonferroni, carries=False),
}


def procedure_named(name: str) -> Procedure:
    """The procedure of that name in `PROCEDURES`; ValueError, with the names there are, if there is none.

    >>> procedure_named("fallback").carries
    True
    """
    if name not in PROCEDURES:
        raise ValueError(f"no procedure {name!r}; there are {', '.join(PROCEDURES)}")
    return PROCEDURES[name]


def own_levels(
    procedure: str,
    coverage: Sequence[FloatArray],
    shares: Sequence[float],
    n: int,
    delta: float,
    best: BestPvalue,
) -> FloatArray:
    """The levels (t,) that start at each policy of several sub-paths, one after the other; at most delta.

    `coverage` holds the expected coverage (t,) of each sub-path's policies, `shares` > 0 what each sub-path
    gets of delta. A sub-path that is expected to accept too few rows for anything to pass, even with all of
    delta, gives its share to the others. Raises ValueError for an unknown procedure, unless delta lies in
    (0, 1), or unless shares are positive and add up to at most 1.
    Source: Bonferroni over sub-paths, Dunn 1961; within each as its procedure says.

    >>> coverage = (np.array([0.3, 0.6]), np.array([0.3, 0.7]))
    >>> own_levels("fallback", coverage, (0.5, 0.5), 400, 0.1, binomial_best(0.1, 400)).round(3).tolist()
    [0.03, 0.02, 0.03, 0.02]
    """
    starts = procedure_named(procedure).starts
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    if len(shares) != len(coverage) or min(shares) <= 0 or sum(shares) > 1 + 1e-12:
        raise ValueError(f"shares of delta must be positive and add up to at most 1, not {shares}")
    able = [
        share if np.any(best(part) <= delta) else 0.0 for part, share in zip(coverage, shares, strict=True)
    ]
    levels = [
        starts(part, n, level, best) * level if level else np.zeros(len(part))
        for part, level in zip(coverage, _divide(able, delta * sum(shares)), strict=True)
    ]
    return np.concatenate(levels)


def _divide(shares: Sequence[float], delta: float) -> list[float]:
    total = sum(shares)
    return [delta * (share / total) if total else 0.0 for share in shares]


# ── which policies pass ──────────────────────────────────────────────────────────────────────────


def reject(procedure: str, sizes: Sequence[int], p: FloatArray, own: FloatArray) -> Rejections:
    """Hold p-values (t,) against what each test may spend: its `own` level (t,), and what is handed on.

    `sizes` are the numbers of policies of the sub-paths, none of which hands anything to another. Controls
    P(any policy whose risk is above alpha is rejected) <= sum of `own` under any dependence, if `own` is
    fixed without the tested rows, and each p is valid. Raises ValueError for an unknown procedure, or unless
    sizes add up.
    Source: the fallback procedure, Wiens 2003; Bonferroni's inequality.

    >>> p, own = np.array([0.01, 0.04, 0.01]), np.array([0.02, 0.01, 0.01])
    >>> reject("fallback", (3,), p, own).rejected.tolist(), reject("bonferroni", (3,), p, own).level.tolist()
    ([True, False, True], [0.02, 0.01, 0.01])
    """
    if sum(sizes) != len(p) or len(own) != len(p):
        raise ValueError(f"{len(p)} p-values, {len(own)} levels and sub-paths of {list(sizes)} do not fit")
    if not procedure_named(procedure).carries:
        return _compare(p, own)
    ends = np.cumsum(sizes)[:-1]
    rejections = [carried(*two) for two in zip(np.split(p, ends), np.split(own, ends), strict=True)]
    return Rejections(*(np.concatenate(part) for part in zip(*rejections, strict=True)))


def aimed_levels(procedure: str, sizes: Sequence[int], own: FloatArray) -> FloatArray:
    """The level (t,) of each test if it spends anything and nothing came from before the nearest start.

    Arguments as in `reject`. A constant before any row is tested, so bets may aim at it; a test that spends
    more than that has power to spare.

    >>> aimed_levels("fallback", (3, 1), np.array([0.02, 0.0, 0.01, 0.05])).tolist()
    [0.02, 0.02, 0.01, 0.05]
    """
    if not procedure_named(procedure).carries:
        return own
    ends = np.cumsum(sizes)[:-1]
    return np.concatenate([_carry_starts(part) for part in np.split(own, ends)])


def _carry_starts(own: FloatArray) -> FloatArray:
    places = np.maximum.accumulate(np.where(own > 0, np.arange(len(own)), 0))
    return own[places]


def carried(p: FloatArray, own: FloatArray) -> Rejections:
    """Test in order; each test spends its `own` level (t,) and what a test passed just before it hands on.

    Source: the fallback procedure, Wiens 2003.

    >>> carried(np.array([0.01, 0.04, 0.01]), np.array([0.02, 0.01, 0.01])).rejected.tolist()
    [True, False, True]
    """
    level = own.copy()
    for t in range(1, len(p)):
        if level[t - 1] > 0 and p[t - 1] <= level[t - 1]:
            level[t] += level[t - 1]
    return _compare(p, level)


def choose(
    rejected: BoolArray,
    accepted: IntArray,
    cost: FloatArray,
    prefer: Prefer,
    *,
    n: int,
    abstention_price: float | None = None,
) -> int | None:
    """The rejected policy that is used; None if none is rejected.

    All three arrays are (t,), counted on n rows. "coverage" takes the cheapest of those that accept at most
    2 % of the n rows fewer than the one that accepts most. "cost" takes the least USD for judges whatever it
    accepts; "total" the least USD per row where each row that is not accepted costs `abstention_price` USD, a
    human label say. Ties go to the one that accepts more, then to the place on the path. Any choice among the
    rejected keeps the guarantee. Raises ValueError for an unknown wish, or if "total" has no price >= 0.
    Source: any choice among what was rejected is covered, Angelopoulos et al. 2021, arXiv 2110.01052.

    >>> rejected, accepted = np.array([True, True, True, False]), np.array([50, 79, 80, 90])
    >>> cost = np.array([1.0, 2.0, 3.0, 0.5])
    >>> choose(rejected, accepted, cost, "coverage", n=100), choose(rejected, accepted, cost, "cost", n=100)
    (1, 0)
    >>> choose(rejected, accepted, cost, "total", n=100, abstention_price=5.0)
    1
    """
    if prefer not in get_args(Prefer):
        raise ValueError(f"prefer must be one of {', '.join(get_args(Prefer))}, not {prefer!r}")
    offered, paid = rejected, cost
    if prefer == "total":
        if abstention_price is None or not abstention_price >= 0:
            raise ValueError('prefer "total" needs a price >= 0 on an abstention')
        paid = cost + abstention_price * ((n - accepted) / max(1, n))
    if prefer == "coverage" and rejected.any():
        # In whole rows: 2 % of 100 rows are 2, whatever .02 is in binary.
        offered = rejected & (accepted >= accepted[rejected].max() - int(SLACK * n + 1e-9))
    order = np.lexsort((np.arange(len(rejected)), -accepted, paid))
    passed = order[offered[order]]
    return int(passed[0]) if passed.size else None


def _find_first(enough: BoolArray) -> int | None:
    places = np.flatnonzero(enough)
    return int(places[0]) if places.size else None


def _compare(p: FloatArray, level: FloatArray) -> Rejections:
    # A p-value may underflow to 0, and must not pass where nothing may be spent.
    return Rejections(level, (level > 0) & (p <= level))
