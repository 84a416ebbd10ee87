"""Which policies keep their risk <= alpha, all at once with probability >= 1 - delta?

p-values along a path, strict to lax, and what each may spend of delta. The path, and where testing starts,
may depend on *counts of accepted rows*, never on labels: a start rule that looks at errors breaks its promise
(.29 instead of .10). Where a policy could never pass is told by its p-value without any error: `best` (t,),
the exact binomial one unless given. This file computes no p-value of its own: that is `bounds`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue

Prefer: TypeAlias = Literal["coverage", "cost", "total"]

SHARES = ((0.6, 0.2), (0.4, 0.5))
"""(share of delta, share of the rows that a policy must accept before that share is spent)."""


class Rejections(NamedTuple):
    """`level` (t,): what the test of each policy could spend; `rejected` (t,): risk > alpha is rejected."""

    level: FloatArray
    rejected: BoolArray


def fallback(
    p: FloatArray,
    accepted: IntArray,
    n: int,
    alpha: float,
    delta: float,
    best: FloatArray | None = None,
) -> Rejections:
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
    return carried(p, starting_weights(accepted, n, alpha, delta, best) * delta)


def fixed_sequence(
    p: FloatArray,
    accepted: IntArray,
    n: int,  # noqa: ARG001 - one signature for all procedures
    alpha: float,
    delta: float,
    best: FloatArray | None = None,
) -> Rejections:
    """All of delta from the first policy that accepts 30 rows on; the first test that fails ends it.

    As `fallback` with one start, and as in the paper (arXiv 2407.18370, Algorithm 1), save that testing
    never starts below the fewest rows with which anything could pass, where it could only fail.

    >>> result = fixed_sequence(np.array([0.01, 0.2, 0.01]), np.array([40, 60, 90]), 200, 0.1, 0.1)
    >>> result.level.tolist(), result.rejected.tolist()
    ([0.1, 0.1, 0.0], [True, False, False])
    """
    own = np.zeros(len(p))
    start = _first((accepted >= 30) & (_best(accepted, alpha, delta, best) <= delta))
    if start is not None:
        own[start] = delta
    return carried(p, own)


def bonferroni(
    p: FloatArray,
    accepted: IntArray,
    n: int,  # noqa: ARG001 - one signature for all procedures
    alpha: float,
    delta: float,
    best: FloatArray | None = None,
) -> Rejections:
    """An equal share of delta for each policy with rows enough to pass at delta; each test stands alone.

    As `fallback`, for a path along which risk may jump up and down. A lax grid costs power here.
    Source: Bonferroni's inequality, Dunn 1961.

    >>> result = bonferroni(np.array([0.01, 0.2, 0.01]), np.array([9, 60, 90]), 200, 0.1, 0.1)
    >>> result.level.tolist(), result.rejected.tolist()
    ([0.0, 0.05, 0.05], [False, False, True])
    """
    testable = _best(accepted, alpha, delta, best) <= delta
    return _tested(p, np.where(testable, delta / max(1, testable.sum()), 0.0))


class Procedure(Protocol):
    """What all procedures take and give."""

    def __call__(
        self,
        p: FloatArray,
        accepted: IntArray,
        n: int,
        alpha: float,
        delta: float,
        best: FloatArray | None = None,
    ) -> Rejections: ...


PROCEDURES: Mapping[str, Procedure] = {
    "fallback": fallback,
    "fixed_sequence": fixed_sequence,
    "bonferroni": bonferroni,
}


def procedure_named(name: str) -> Procedure:
    """The procedure of that name in `PROCEDURES`; ValueError, with the names there are, if there is none.

    Source: nothing to cite; each procedure names its own.

    >>> procedure_named("fallback") is fallback
    True
    """
    if name not in PROCEDURES:
        raise ValueError(f"no procedure {name!r}; there are {', '.join(PROCEDURES)}")
    return PROCEDURES[name]


def starting_weights(
    accepted: IntArray, n: int, alpha: float, delta: float, best: FloatArray | None = None
) -> FloatArray:
    """Where `fallback` starts: shares (t,) of delta that sum to 1, or to 0 where nothing could ever pass.

    Source: the weights of the fallback procedure, Wiens 2003.

    >>> starting_weights(np.array([40, 120, 160]), 200, 0.1, 0.1).tolist()
    [0.6, 0.4, 0.0]
    """
    weights = np.zeros(len(accepted))
    for share, place in _starts(accepted, n, _best(accepted, alpha, delta, best), delta):
        weights[place] += share
    return weights


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
    return _tested(p, level)


def hedge(
    procedure: Procedure,
    parts: Sequence[int],
    shares: Sequence[float],
    p: FloatArray,
    accepted: IntArray,
    n: int,
    alpha: float,
    delta: float,
    best: FloatArray | None = None,
) -> Rejections:
    """Several sub-paths side by side, each tested by `procedure` with its own share of delta.

    `parts` holds how many policies each sub-path has, `shares` > 0 what it gets; all else as in `fallback`,
    sub-path after sub-path. A sub-path that accepts too few rows for anything to pass, even with all of
    delta, gives its share to the others: it is known from counts alone. Nothing else is passed on, since a
    sub-path ends at a failed test, whose level is spent. P(any true null is rejected) is at most the sum over
    sub-paths, and so at most delta. Raises ValueError unless sizes add up, and shares are positive and add up
    to at most 1.
    Source: Bonferroni over sub-paths, Dunn 1961; each tested as its procedure says.

    >>> p, accepted = np.array([0.5, 0.5, 0.02, 0.02]), np.array([60, 90, 60, 80])
    >>> hedge(fallback, (2, 2), (0.7, 0.3), p, accepted, 200, 0.1, 0.1).rejected.tolist()
    [False, False, True, True]
    """
    if len(parts) != len(shares) or sum(parts) != len(p):
        raise ValueError(f"{len(p)} policies cannot be {len(parts)} sub-paths of {parts} with {shares}")
    if min(shares) <= 0 or sum(shares) > 1 + 1e-12:
        raise ValueError(f"shares of delta must be positive and add up to at most 1, not {shares}")
    best = _best(accepted, alpha, delta, best)
    ends = np.cumsum(parts)[:-1]
    pieces = list(zip(*(np.split(part, ends) for part in (p, accepted, best)), strict=True))
    own = np.array(
        [share if np.any(least <= delta) else 0.0 for (*_, least), share in zip(pieces, shares, strict=True)]
    )
    spent = own.sum()
    found = [
        procedure(own_p, rows, n, alpha, delta * (share * sum(shares) / spent), least)
        if share
        else Rejections(np.zeros(len(own_p)), np.zeros(len(own_p), dtype=np.bool_))
        for (own_p, rows, least), share in zip(pieces, own, strict=True)
    ]
    return Rejections(*(np.concatenate(part) for part in zip(*found, strict=True)))


def choose(
    rejected: BoolArray,
    accepted: IntArray,
    cost: FloatArray,
    prefer: Prefer,
    *,
    n: int | None = None,
    abstention_price: float | None = None,
) -> int | None:
    """The rejected policy that accepts most, or costs least; None if there is none.

    All three are (t,). "coverage" takes the most accepted rows, "cost" the least USD for judges, each
    breaking ties by the other; "total" the least USD per row where each of the n rows that is not accepted
    costs `abstention_price` USD, a human label say, and ties go to coverage. Last comes the place on the
    path. Any choice among the rejected keeps the promise. Raises ValueError for an unknown wish, or if
    "total" has no `n` or no price >= 0.
    Source: any choice among what was rejected is covered, Angelopoulos et al. 2021, arXiv 2110.01052.

    >>> rejected = np.array([True, True, False])
    >>> choose(rejected, np.array([50, 80, 90]), np.array([1.0, 2.0, 0.5]), "coverage")
    1
    >>> choose(rejected, np.array([50, 80, 90]), np.array([1.0, 2.0, 0.5]), "cost")
    0
    >>> cost = np.array([1.0, 2.0, 0.5])
    >>> choose(rejected, np.array([50, 80, 90]), cost, "total", n=100, abstention_price=5.0)
    1
    """
    if prefer not in get_args(Prefer):
        raise ValueError(f"prefer must be one of {', '.join(get_args(Prefer))}, not {prefer!r}")
    paid = cost
    if prefer == "total":
        if not n or abstention_price is None or not abstention_price >= 0:
            raise ValueError('prefer "total" needs the number of rows, and a price >= 0 on an abstention')
        paid = cost + abstention_price * ((n - accepted) / n)
    wishes = (cost, -accepted) if prefer == "coverage" else (-accepted, paid)
    order = np.lexsort((np.arange(len(rejected)), *wishes))
    passed = order[rejected[order]]
    return int(passed[0]) if passed.size else None


def _starts(accepted: IntArray, n: int, best: FloatArray, delta: float) -> list[tuple[float, int]]:
    for shares in (SHARES, ((1.0, SHARES[0][1]),)):
        places = [
            _first((accepted >= int(np.ceil(part * n))) & (best <= share * delta)) for share, part in shares
        ]
        found = [
            (share, place) for (share, _), place in zip(shares, places, strict=True) if place is not None
        ]
        if len(found) == len(shares):
            return found
    return []


def _best(accepted: IntArray, alpha: float, delta: float, best: FloatArray | None) -> FloatArray:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    return binomial_pvalue(0, accepted, alpha) if best is None else best


def _first(enough: BoolArray) -> int | None:
    places = np.flatnonzero(enough)
    return int(places[0]) if places.size else None


def _tested(p: FloatArray, level: FloatArray) -> Rejections:
    # A p-value may underflow to 0, and must not pass where nothing may be spent.
    return Rejections(level, (level > 0) & (p <= level))
