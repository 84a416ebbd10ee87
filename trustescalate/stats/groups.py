"""A promise for each of several disjoint groups of items, all kept at once: delta is divided, and handed on.

Each group has its own path, alpha and tests; what a group no longer needs helps the others. This file invents
no test: within a group it is `control.fallback`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue, clopper_pearson_lower
from trustescalate.stats.certify import Certified, Table
from trustescalate.stats.control import Prefer, Rejections, carried, choose, starting_weights
from trustescalate.stats.policy import Outcomes, evaluate


class CertifiedGroups(NamedTuple):
    """`groups`: g outcomes, each table ends where its testing ended; `spent` (g,): what each could spend.

    `finished` (g,): all its tests, from its first start on, were passed, and its share went to the others.
    """

    groups: tuple[Certified, ...]
    spent: FloatArray
    finished: BoolArray


def shares_of_unfinished(weights: FloatArray, finished: BoolArray) -> FloatArray:
    """Each group's share of delta (g,): its weight over the weights of all that are not finished.

    A finished group has the share that it would have if it were not: what it passed with less, it passes with
    that. `weights` (g,) >= 0, `finished` (g,). A group of weight 0 gets nothing. Weighted Holm (1979).

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
    paths: Sequence[FloatArray],
    weights: FloatArray | None = None,
    enough: float = 1.0,
    prefer: Prefer = "coverage",
) -> CertifiedGroups:
    """Find one policy for each group, such that P(any certified group's true risk > its alpha) <= delta.

    `scores`, `labels`, `costs` (n, m), `truth` (n,) as in `policy.evaluate`; `group` (n,) in 0..g-1; `alpha`
    (g,); `paths` are g arrays of policies (t, m), strict to lax; they and `weights` (g,) > 0, equal unless
    given, were fixed without the labels. What is not certified abstains.

    A group's tests run from its first start to its end: the first policy that accepts a share `enough` of the
    group's rows, else the last of its path. Later policies are not tested. The group is *finished* when every
    test from its first start to its end is passed; then, and no sooner, its share of delta is divided among
    the unfinished by their weights, and their tests are repeated with more to spend. A certificate alone does
    not finish a group: the rest of its share is still held by the test that failed. A lower `enough` gives up
    coverage there, and hands on more often. Starts are those of `fallback` at the group's first share (at all
    of delta if that share alone could pass nowhere) and stay.

    Why it holds: what each test may spend rises only with tests that were passed, and adds up to at most
    delta over those not passed. So before any true null is rejected, the true nulls may spend delta at most
    between them. With one group it is `certify` with its default procedure.
    Assumes that the rows of each group are drawn independently from that group.
    Raises ValueError for shapes that differ, a group outside 0..g-1, or rates outside their range.

    >>> scores, truth = np.ones((120, 1)), np.zeros(120, dtype=int)
    >>> labels, group = np.zeros((120, 1), dtype=int), np.repeat([0, 1], [90, 30])
    >>> rule = {"alpha": np.array([0.1, 0.1]), "delta": 0.1, "paths": [np.ones((1, 1))] * 2}
    >>> found = certify_groups(scores, labels, truth, scores, group, **rule)
    >>> [one.chosen for one in found.groups], found.finished.tolist(), found.spent.tolist()
    ([0, 0], [True, True], [0.1, 0.1])
    """
    share = _checked(group, alpha, delta, paths, weights, enough, len(truth))
    tests = []
    for g, path in enumerate(paths):
        rows = group == g
        outcomes = evaluate(path, scores[rows], labels[rows], truth[rows], costs[rows])
        tests.append(_laid_out(path, outcomes, int(rows.sum()), float(alpha[g]), delta, share[g], enough))
    # Who can pass nowhere, which counts alone tell, holds no share.
    share = np.where([one.starts.any() for one in tests], share, 0.0)
    finished = np.zeros(len(tests), dtype=bool)
    for _ in range(len(tests) + 1):  # every pass but the last finishes a group, or changes nothing
        spent = delta * shares_of_unfinished(share, finished)
        results = [carried(one.p, one.starts * own) for one, own in zip(tests, spent, strict=True)]
        finished = np.array([_is_finished(*two) for two in zip(tests, results, strict=True)], dtype=bool)
    certified = [_outcome(*two, delta, prefer) for two in zip(tests, results, strict=True)]
    return CertifiedGroups(tuple(certified), spent, finished)


class _Tests(NamedTuple):
    path: FloatArray
    outcomes: Outcomes
    n: int
    p: FloatArray
    starts: FloatArray


def _laid_out(
    path: FloatArray, outcomes: Outcomes, n: int, alpha: float, delta: float, share: float, enough: float
) -> _Tests:
    reached = np.flatnonzero(outcomes.accepted >= enough * n)
    end = int(reached[0]) + 1 if n and reached.size else len(path)
    kept = Outcomes(
        outcomes.accepted[:end], outcomes.errors[:end], outcomes.by_tier[:end], outcomes.cost[:end]
    )
    at_first = starting_weights(kept.accepted, n, alpha, share * delta)
    starts = at_first if at_first.any() else starting_weights(kept.accepted, n, alpha, delta)
    return _Tests(path[:end], kept, n, binomial_pvalue(kept.errors, kept.accepted, alpha), starts)


def _is_finished(tests: _Tests, result: Rejections) -> bool:
    begun = np.cumsum(tests.starts) > 0
    return bool(begun.any() and result.rejected[begun].all())


def _outcome(tests: _Tests, result: Rejections, delta: float, prefer: Prefer) -> Certified:
    table = Table(tests.path, *tests.outcomes, tests.p, *result)
    chosen = choose(table.rejected, table.accepted, table.cost, prefer)
    if chosen is None:
        return Certified(None, None, None, table)
    lower = float(clopper_pearson_lower(table.accepted[chosen], tests.n, delta))
    return Certified(chosen, table.policies[chosen], lower, table)


def _checked(
    group: IntArray,
    alpha: FloatArray,
    delta: float,
    paths: Sequence[FloatArray],
    weights: FloatArray | None,
    enough: float,
    n: int,
) -> FloatArray:
    g = len(alpha)
    share = np.full(g, 1 / max(1, g)) if weights is None else weights
    if group.shape != (n,) or len(paths) != g or share.shape != (g,):
        raise ValueError(f"shapes differ: {len(paths)} paths, alpha {alpha.shape}, group {group.shape}")
    if np.any((group < 0) | (group >= g)):
        raise ValueError(f"groups must lie in 0..{g - 1}")
    if not (np.all(share > 0) and 0 < delta < 1 and 0 < enough <= 1):
        raise ValueError("weights must be positive, delta between 0 and 1, and enough in (0, 1]")
    return np.asarray(share / share.sum(), dtype=np.float64)
