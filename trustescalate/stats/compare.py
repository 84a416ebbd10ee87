"""Compare paths on one set of rows: dev rows choose the path, the other rows certify.

Only one certificate of a comparison may be used, and which one must not depend on the rows that certify.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import BoolArray
from trustescalate.stats.certify import Certified, certify_rows
from trustescalate.stats.control import Prefer
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule

TRIAL_DELTA = 0.5
"""On dev rows nothing is guaranteed: a path is tried at even odds, so that few rows can speak."""


class PathResult(NamedTuple):
    """One path: its `plan`, its certificate, and its figures on dev rows: mean coverage, mean USD a row.

    `coverage` and `cost` are means on dev rows that the path had not seen; a trial that certified nothing
    covers 0 and costs every tier.
    """

    name: PathName
    plan: Plan
    certified: Certified
    coverage: float
    cost: float


class PathResults(NamedTuple):
    """All paths, and the row of the one that dev rows chose: the guarantee belongs to `results[chosen]`
    alone."""

    results: tuple[PathResult, ...]
    chosen: int


def certify_paths(
    rows: Rows,
    dev: BoolArray,
    rule: TestRule[object],
    *,
    classes: int,
    pilot: Votes | None = None,
    paths: Sequence[PathName] = tuple(PATHS),
    pools: bool = True,
) -> PathResults:
    """Certify several paths on one set of rows; dev rows lay them out and choose one, the others certify.

    `rows` holds n rows, and `dev` (n,) says which of them are dev rows: a row is one or the other, never
    both. Dev rows choose by two trials: each half lays a path out and the other half tests it, at even odds;
    the wish is `rule.prefer`, ties go to the path named first. Whatever dev rows say, each certificate keeps
    its guarantee, and that of the chosen one survives the choice; the best-looking of the others does not.
    Without `pools` labels say right from wrong only, which cannot be pooled: sub-paths that pool are left
    out. Rows of one group must be on one side, and certification rows independent: see `certify`. Raises
    ValueError if there are no dev rows, for unknown names, and as `certify` does.
    Source: sample splitting, Cox 1975; each certificate as in `certify`.

    >>> rng = np.random.default_rng(0)
    >>> scores, truth = rng.uniform(0.5, 1, size=(600, 2)), rng.integers(2, size=600)
    >>> wrong = rng.uniform(size=(600, 2)) > np.column_stack([1.4 - scores[:, 0], scores[:, 1]])
    >>> rows = Rows(scores, np.where(wrong, 1 - truth[:, None], truth[:, None]), truth, np.ones((600, 2)))
    >>> found = certify_paths(rows, np.arange(600) % 3 == 0, TestRule(0.2, 0.1, None), classes=2)
    >>> [result.name for result in found.results if result.certified.chosen is None]
    ['hedged', 'common']
    >>> found.results[found.chosen].name
    'stacked'
    """
    if dev.dtype != np.bool_ or dev.shape != rows.truth.shape or not dev.any():
        raise ValueError(f"dev must be {len(rows.truth)} booleans, and some of them true")
    if unknown := [name for name in paths if name not in PATHS]:
        raise ValueError(f"no path {unknown[0]!r}; there are {', '.join(PATHS)}")
    fitting, testing = rows.take(dev), rows.take(~dev)
    tiers = rows.scores.shape[1]

    def laid_out(name: PathName, known: Rows) -> Plan:
        plan = PATHS[name].build(Basis(known, pilot, tiers, classes))
        return plan if pools else plan.alone()

    def tried(name: PathName) -> PathResult:
        plan = laid_out(name, fitting)
        halves = [fitting.take(np.arange(len(fitting.truth)) % 2 == side) for side in (0, 1)]
        seen = [
            _measure_release(
                certify_rows(test, replace(rule.along(laid_out(name, lay)), delta=TRIAL_DELTA)), test
            )
            for lay, test in (halves, halves[::-1])
            if len(lay.truth)
        ]
        coverage, cost = np.mean(seen, axis=0) if seen else (0.0, 0.0)
        result = certify_rows(testing, rule.along(plan))
        return PathResult(name, plan, result, float(coverage), float(cost))

    results = tuple(tried(name) for name in paths)
    price = rule.abstention_price or 0.0
    wishes = [wish(result.coverage, result.cost, rule.prefer, price) for result in results]
    return PathResults(results, wishes.index(min(wishes)))


def wish(coverage: float, cost: float, prefer: Prefer, price: float) -> tuple[float, float]:
    """The sort key of a choice, smallest first: most coverage, least cost, or least with abstentions.

    >>> wish(0.8, 2.0, "coverage", 0.0), wish(0.75, 2.0, "total", 4.0)
    ((-0.8, 2.0), (3.0, -0.75))
    """
    if prefer == "coverage":
        return -coverage, cost
    return cost + (price * (1 - coverage) if prefer == "total" else 0.0), -coverage


def _measure_release(result: Certified, rows: Rows) -> tuple[float, float]:
    if result.chosen is None:
        return 0.0, float(rows.costs.sum(axis=1).mean())
    table = result.table
    return float(table.accepted[result.chosen] / len(rows.truth)), float(table.cost[result.chosen])
