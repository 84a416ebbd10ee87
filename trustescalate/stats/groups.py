"""Certify several disjoint groups of items at once: delta is divided among them, and handed on.

Each group has its own path, alpha and tests. Within a group, and along each of its sub-paths, the procedure
is `control.fallback`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue, clopper_pearson_lower
from trustescalate.stats.certify import Certified, Table
from trustescalate.stats.control import Prefer, Rejections, binomial_best, carried, choose, fallback
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import Outcomes, evaluate
from trustescalate.stats.pooling import Rows


class CertifiedGroups(NamedTuple):
    """`groups`: g outcomes; `parts`: for each, the sub-path (t,) that every row of its table belongs to.

    Tables hold each sub-path up to where its testing ended. `spent` (g,): what the tests of a group that are
    still open could spend between them, and what all of them could where none is. `finished` (g,): all its
    tests, on every sub-path from its first start on, were passed, and its share went to the others.
    """

    groups: tuple[Certified, ...]
    parts: tuple[IntArray, ...]
    spent: FloatArray
    finished: BoolArray


def shares_of_unfinished(weights: FloatArray, finished: BoolArray) -> FloatArray:
    """Each one's share of delta (u,): its weight over the weights of all that are not finished.

    What is finished has the share that it would have if it were not: what it passed with less, it passes with
    that. `weights` (u,) >= 0, `finished` (u,). A weight of 0 gets nothing. Weighted Holm (1979).

    >>> shares_of_unfinished(np.array([0.5, 0.25, 0.25]), np.array([True, False, False])).tolist()
    [0.5, 0.5, 0.5]
    """
    among = np.where(finished, 0.0, weights).sum() + np.where(finished, weights, 0.0)
    return np.asarray(weights / np.where(among > 0, among, 1.0), dtype=np.float64)


def certify_groups(
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    costs: FloatArray,
    group: IntArray,
    *,
    alpha: FloatArray,
    delta: float,
    paths: Sequence[FloatArray | Plan],
    weights: FloatArray | None = None,
    target_coverage: float = 1.0,
    prefer: Prefer = "coverage",
    abstention_price: float | None = None,
) -> CertifiedGroups:
    """Find one policy for each group, such that P(any certified group's true risk > its alpha) <= delta.

    `scores`, `labels`, `costs` (n, m), `truth` (n,) as in `policy.evaluate`; `group` (n,) in 0..g-1; `alpha`
    (g,); `paths` are g arrays of policies (t, m), strict to lax, or g `paths.Plan`s; they and `weights`
    (g,) > 0, equal unless given, were fixed without the labels. What is not certified abstains. `prefer` and
    `abstention_price` as in `control.choose`, among a group's own rows.

    What is tested is divided into units: a group and one sub-path of its plan. A unit's share of delta is the
    group's weight times the sub-path's share; a unit that could pass nowhere, even with all of delta, holds
    none, which its number of rows and the plan's expected coverage tell. Its tests run from its first start
    to its end: the first policy that is expected to accept a share `target_coverage`, else the last of the
    sub-path. Later policies are not tested. The unit is *finished* when every test from its first start to
    its end is passed; then, and no sooner, its share is divided among the unfinished by their shares, and
    their tests are repeated with more to spend. A certificate alone does not finish a unit: the rest of its
    share is still held by the test that failed. A lower `target_coverage` gives up coverage there, and hands
    on more often. Starts are those of `fallback` at the unit's first share (at all of delta if that share
    alone could pass nowhere) and stay.

    Why it holds: units are lists of hypotheses, and whether two of them are about the same rows does not
    matter. What each test may spend rises only with tests that were passed, and adds up to at most delta over
    those not passed. So before any true null is rejected, the true nulls may spend delta at most between
    them, whatever the dependence between tests. That a unit is given up (not tested further, its share handed
    on unpassed) would break this, and does not happen. With one group and an array it is `certify` with its
    default procedure; with one group and a plan it passes all that `certify` passes up to its ends, and
    sometimes more, since `control.hedge` hands nothing on.
    Assumes that the rows of each group are drawn independently from that group.
    Raises ValueError for shapes that differ, a group outside 0..g-1, or rates outside their range, and as
    `control.choose` does.
    Source: weighted Holm over groups, Holm 1979; each tested as in `certify`.

    >>> scores, truth = np.ones((120, 1)), np.zeros(120, dtype=int)
    >>> labels, group = np.zeros((120, 1), dtype=int), np.repeat([0, 1], [90, 30])
    >>> rule = {"alpha": np.array([0.1, 0.1]), "delta": 0.1, "paths": [np.ones((1, 1))] * 2}
    >>> found = certify_groups(scores, labels, truth, scores, group, **rule)
    >>> [one.chosen for one in found.groups], found.finished.tolist(), found.spent.tolist()
    ([0, 0], [True, True], [0.1, 0.1])
    """
    rows = Rows(scores, labels, truth, costs)
    weight = _check(group, alpha, delta, paths, weights, target_coverage, len(truth))
    plans = [Plan.of(path) for path in paths]
    units = [
        unit
        for g, plan in enumerate(plans)
        for unit in _lay_out(g, plan, rows.take(group == g), float(alpha[g]), weight[g], target_coverage)
    ]
    # Who can pass nowhere holds no share; what plans leave unspent stays unspent.
    budget = delta * sum(unit.share for unit in units)
    able = np.array([_place_starts(unit, delta, delta).any() for unit in units], dtype=np.bool_)
    share = np.array([unit.share for unit in units]) * able
    starts = [
        _place_starts(unit, budget * first, delta)
        for unit, first in zip(units, share / (share.sum() or 1), strict=True)
    ]
    results, finished = _test_units(units, starts, share, budget)
    member = np.array([unit.group for unit in units], dtype=np.int64)
    open_share, done = _sum_shares(share, finished, member, len(plans))
    tables = [
        _tabulate([two for two in zip(units, results, strict=True) if two[0].group == g])
        for g in range(len(plans))
    ]
    return CertifiedGroups(
        tuple(
            _choose(table, int((group == g).sum()), delta, prefer, abstention_price)
            for g, (table, _) in enumerate(tables)
        ),
        tuple(parts for _, parts in tables),
        budget * open_share,
        done,
    )


class _Unit(NamedTuple):
    group: int
    part: int
    share: float
    alpha: float
    n: int
    path: FloatArray
    coverage: FloatArray
    outcomes: Outcomes
    p: FloatArray


def _lay_out(
    group: int, plan: Plan, rows: Rows, alpha: float, weight: float, target_coverage: float
) -> Iterator[_Unit]:
    n, read = len(rows.truth), plan.rows(rows)
    for part, (path, share, coverage) in enumerate(zip(plan.parts, plan.shares, plan.coverage, strict=True)):
        reached = np.flatnonzero(coverage >= target_coverage)
        end = int(reached[0]) + 1 if n and reached.size else len(path)
        counts = evaluate(path[:end], *read)
        p = binomial_pvalue(counts.errors, counts.accepted, alpha)
        yield _Unit(group, part, weight * share, alpha, n, path[:end], coverage[:end], counts, p)


def _place_starts(unit: _Unit, level: float, delta: float) -> FloatArray:
    best = binomial_best(unit.alpha, unit.n)
    first = fallback(unit.coverage, unit.n, level, best) if level else np.zeros(len(unit.coverage))
    return first if first.any() else fallback(unit.coverage, unit.n, delta, best)


def _test_units(
    units: Sequence[_Unit], starts: Sequence[FloatArray], share: FloatArray, budget: float
) -> tuple[list[Rejections], BoolArray]:
    """Test all units, and again with what the finished ones hand on; and which are finished in the end."""
    finished = np.zeros(len(units), dtype=np.bool_)
    results: list[Rejections] = []
    for _ in range(len(units) + 1):  # every pass but the last finishes a unit, or changes nothing
        spent = budget * shares_of_unfinished(share, finished)
        results = [
            carried(unit.p, first * own) for unit, first, own in zip(units, starts, spent, strict=True)
        ]
        finished = np.array([_is_finished(*two) for two in zip(starts, results, strict=True)], dtype=np.bool_)
    return results, finished


def _is_finished(starts: FloatArray, result: Rejections) -> bool:
    begun = np.cumsum(starts) > 0
    return bool(begun.any() and result.rejected[begun].all())


def _tabulate(units: Sequence[tuple[_Unit, Rejections]]) -> tuple[Table, IntArray]:
    """A group's sub-paths one below the other, and which of them each row belongs to."""
    rows = [(unit.path, *unit.outcomes, unit.p, *result) for unit, result in units]
    table = Table(*(np.concatenate(column) for column in zip(*rows, strict=True)))
    return table, np.repeat([unit.part for unit, _ in units], [len(unit.path) for unit, _ in units])


def _choose(table: Table, n: int, delta: float, prefer: Prefer, abstention_price: float | None) -> Certified:
    chosen = choose(
        table.rejected, table.accepted, table.cost, prefer, n=max(1, n), abstention_price=abstention_price
    )
    if chosen is None:
        return Certified(None, None, None, table)
    lower = float(clopper_pearson_lower(table.accepted[chosen], n, delta))
    return Certified(chosen, table.policies[chosen], lower, table)


def _sum_shares(
    share: FloatArray, finished: BoolArray, member: IntArray, g: int
) -> tuple[FloatArray, BoolArray]:
    """The share of each group's open units, of all its units where none is open; and whether none is."""
    whole = np.bincount(member, share, minlength=g)
    remaining = np.bincount(member, share * ~finished, minlength=g)
    done = (whole > 0) & (remaining == 0)
    mine = np.where(done, whole, remaining)
    among = remaining.sum() - remaining + mine
    return mine / np.where(among > 0, among, 1.0), done


def _check(
    group: IntArray,
    alpha: FloatArray,
    delta: float,
    paths: Sequence[FloatArray | Plan],
    weights: FloatArray | None,
    target_coverage: float,
    n: int,
) -> FloatArray:
    g = len(alpha)
    share = np.full(g, 1 / max(1, g)) if weights is None else weights
    if group.shape != (n,) or len(paths) != g or share.shape != (g,):
        raise ValueError(f"shapes differ: {len(paths)} paths, alpha {alpha.shape}, group {group.shape}")
    if np.any((group < 0) | (group >= g)):
        raise ValueError(f"groups must lie in 0..{g - 1}")
    if not (np.all(share > 0) and 0 < delta < 1 and 0 < target_coverage <= 1):
        raise ValueError("weights must be positive, delta between 0 and 1, and target_coverage in (0, 1]")
    return np.asarray(share / share.sum(), dtype=np.float64)
