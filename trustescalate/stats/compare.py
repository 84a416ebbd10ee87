"""Side by side: which path, and which way to make scores, buys most coverage for the same promise?

A comparison is not a promise. Only one certificate of a comparison may be used, and which one must not depend
on the rows that certify: `certify_paths` lets dev rows choose. `compare_estimators` looks at all labels, so
it is for deciding about the *next* set. This file tests nothing itself: that is `certify`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.calibration import auroc, brier_score, expected_calibration_error
from trustescalate.stats.certify import Certified, certify
from trustescalate.stats.control import Prefer
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Rows, Votes

TRIAL_DELTA = 0.5
"""On dev rows nothing is promised: a path is tried at even odds, so that few rows can speak."""


class PathResult(NamedTuple):
    """One path: its `plan`, its certificate, and what dev rows had said of it: mean coverage, mean USD a row.

    `coverage` and `cost` are means on dev rows that the path had not seen; a trial that certified nothing
    covers 0 and costs every tier.
    """

    name: PathName
    plan: Plan
    certified: Certified
    coverage: float
    cost: float


class PathResults(NamedTuple):
    """All paths, and the row of the one that dev rows chose: the promise belongs to `results[chosen]`
    alone."""

    results: tuple[PathResult, ...]
    chosen: int


def certify_paths(
    rows: Rows,
    dev: BoolArray,
    *,
    alpha: float,
    delta: float,
    classes: int,
    pilot: Votes | None = None,
    paths: Sequence[PathName] = tuple(PATHS),
    pools: bool = True,
    procedure: str = "fallback",
    prefer: Prefer = "coverage",
    abstention_price: float | None = None,
) -> PathResults:
    """Certify several paths on one set of rows; dev rows lay them out and choose one, the others certify.

    `rows` holds n rows, and `dev` (n,) says which of them are dev rows: a row is one or the other, never
    both. Dev rows choose by two trials: each half lays a path out and the other half tests it, at even odds;
    the wish is `prefer`'s, ties go to the path named first. Whatever dev rows say, each certificate keeps its
    promise, and that of the chosen one survives the choice; the best-looking of the others does not. Without
    `pools` labels say right from wrong only, which cannot be pooled: sub-paths that pool are left out. Rows
    of one group must be on one side, and certification rows independent: see `certify`. Raises ValueError if
    there are no dev rows, for unknown names, and as `certify` does.
    Source: sample splitting, Cox 1975; each certificate as in `certify`.

    >>> rng = np.random.default_rng(0)
    >>> scores, truth = rng.uniform(0.5, 1, size=(600, 2)), rng.integers(2, size=600)
    >>> wrong = rng.uniform(size=(600, 2)) > np.column_stack([1.4 - scores[:, 0], scores[:, 1]])
    >>> rows = Rows(scores, np.where(wrong, 1 - truth[:, None], truth[:, None]), truth, np.ones((600, 2)))
    >>> found = certify_paths(rows, np.arange(600) % 3 == 0, alpha=0.2, delta=0.1, classes=2)
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
    how = {"alpha": alpha, "procedure": procedure, "prefer": prefer, "abstention_price": abstention_price}

    def laid_out(name: PathName, known: Rows) -> Plan:
        plan = PATHS[name].build(Basis(known, pilot, tiers, classes))
        return plan if pools else plan.alone()

    def tried(name: PathName) -> PathResult:
        plan = laid_out(name, fitting)
        halves = [fitting.take(np.arange(len(fitting.truth)) % 2 == side) for side in (0, 1)]
        seen = [
            _released(
                certify(
                    *test,
                    path=laid_out(name, lay),
                    delta=TRIAL_DELTA,
                    **how,  # type: ignore[arg-type]
                ),
                test,
            )
            for lay, test in (halves, halves[::-1])
            if len(lay.truth)
        ]
        coverage, cost = np.mean(seen, axis=0) if seen else (0.0, 0.0)
        result = certify(*testing, path=plan, delta=delta, **how)  # type: ignore[arg-type]
        return PathResult(name, plan, result, float(coverage), float(cost))

    results = tuple(tried(name) for name in paths)
    price = abstention_price or 0.0
    wishes = [wish(result.coverage, result.cost, prefer, price) for result in results]
    return PathResults(results, wishes.index(min(wishes)))


def trial(
    rows: Rows,
    pilot: Votes | None,
    path: PathName,
    classes: int,
    *,
    alpha: float,
    prefer: Prefer = "coverage",
    abstention_price: float | None = None,
) -> tuple[float, float]:
    """Coverage and mean USD a row that a label-free path would have, tested at even odds: for dev rows.

    Nothing is promised by it. Without a certificate it covers 0 and costs every tier. Raises ValueError as
    `certify` does, and for a path that is laid out on labels.
    Source: the test of `certify` at delta = 1/2: a median-unbiased guess, never a promise.

    >>> ones = np.ones((40, 1), dtype=int)
    >>> rows = Rows(0.9 * ones, ones, ones[:, 0], 1.0 * ones)
    >>> trial(rows, None, "common", 2, alpha=0.1)
    (1.0, 1.0)
    """
    plan = PATHS[path].build(Basis(None, pilot, rows.scores.shape[1], classes))
    how = {"alpha": alpha, "prefer": prefer, "abstention_price": abstention_price}
    return _released(certify(*rows, path=plan, delta=TRIAL_DELTA, **how), rows)  # type: ignore[arg-type]


def wish(coverage: float, cost: float, prefer: Prefer, price: float) -> tuple[float, float]:
    """What a choice wants, the smaller the better: most coverage, least cost, or least with abstentions.

    Source: an ordering of this library; nothing to cite.

    >>> wish(0.8, 2.0, "coverage", 0.0), wish(0.75, 2.0, "total", 4.0)
    ((-0.8, 2.0), (3.0, -0.75))
    """
    if prefer == "coverage":
        return -coverage, cost
    return cost + (price * (1 - coverage) if prefer == "total" else 0.0), -coverage


class EstimatorResult(NamedTuple):
    """One way to make scores. `ece`, `brier`, `auroc` per tier, None where they are not defined.

    `coverage` and `cost` (USD a row) are means over draws, where a draw that certifies nothing covers 0 and
    costs every tier; `certified` and `violations` count draws.
    """

    name: str
    ece: tuple[float | None, ...]
    brier: tuple[float | None, ...]
    auroc: tuple[float | None, ...]
    coverage: float
    cost: float
    certified: int
    violations: int


def compare_estimators(
    candidates: Mapping[str, Votes],
    truth: IntArray,
    costs: FloatArray | Mapping[str, FloatArray],
    *,
    alpha: float,
    delta: float,
    n: int,
    draws: int,
    rng: np.random.Generator,
    path: PathName = "hedged",
    classes: int = 2,
    pilot: int = 100,
    dev: int = 0,
) -> tuple[EstimatorResult, ...]:
    """What each way to make scores is worth: calibration figures, and certified coverage by resampling.

    `candidates` holds scores and labels (N, m) by name, for the N rows of `truth` (N,) and `costs` (N, m), or
    costs by name where some read fewer votes than others.
    Each draw takes `pilot` rows without labels, `dev` rows, and n - `dev` rows to certify, with replacement,
    the same for all candidates; the certificate is scored on all N rows, which stand for the population.
    A score that was fitted on some of the N rows looks better than it is: fit it elsewhere. Raises ValueError
    if shapes differ, and as `certify` does.
    Source: the bootstrap, Efron 1979; the figures as in `calibration`.

    >>> rng = np.random.default_rng(0)
    >>> sure, truth = rng.uniform(0.5, 1, size=(500, 1)), rng.integers(2, size=500)
    >>> labels = np.where(rng.uniform(size=(500, 1)) < sure, truth[:, None], 1 - truth[:, None])
    >>> candidates = {"sure": Votes(sure, labels), "blind": Votes(np.full((500, 1), 0.8), labels)}
    >>> rule = {"alpha": 0.15, "delta": 0.1, "n": 300, "draws": 50}
    >>> found = compare_estimators(candidates, truth, np.ones((500, 1)), rng=rng, **rule)
    >>> [(one.name, round(one.coverage, 1), one.violations) for one in found]
    [('sure', 0.5, 2), ('blind', 0.0, 0)]
    """
    population = {
        name: Rows(*votes, truth, costs[name] if isinstance(costs, Mapping) else costs)
        for name, votes in candidates.items()
    }
    size, tiers = next(iter(population.values())).scores.shape
    tallies = {name: np.zeros(4) for name in candidates}
    for _ in range(draws):
        seen, known, drawn = (rng.integers(size, size=rows) for rows in (pilot, dev, n - dev))
        for name, rows in population.items():
            basis = Basis(rows.take(known) if dev else None, rows.take(seen).votes, tiers, classes)
            plan = PATHS[path].build(basis)
            result = certify(*rows.take(drawn), alpha=alpha, delta=delta, path=plan)
            tallies[name] += _scored(result, plan, rows, alpha)
    return tuple(
        EstimatorResult(
            name,
            _by_tier(expected_calibration_error, rows),
            _by_tier(brier_score, rows),
            _by_tier(auroc, rows),
            float(tallies[name][0] / draws),
            float(tallies[name][1] / draws),
            int(tallies[name][2]),
            int(tallies[name][3]),
        )
        for name, rows in population.items()
    )


def _released(result: Certified, rows: Rows) -> tuple[float, float]:
    if result.chosen is None:
        return 0.0, float(rows.costs.sum(axis=1).mean())
    table = result.table
    return float(table.accepted[result.chosen] / len(rows.truth)), float(table.cost[result.chosen])


def _scored(result: Certified, plan: Plan, rows: Rows, alpha: float) -> FloatArray:
    if result.thresholds is None:
        return np.array([0.0, rows.costs.sum(axis=1).mean(), 0.0, 0.0])
    outcome = evaluate(result.thresholds[None], *plan.rows(rows))
    released, errors = int(outcome.accepted[0]), int(outcome.errors[0])
    broken = bool(released) and errors / released > alpha
    return np.array([released / len(rows.truth), outcome.cost[0], 1.0, float(broken)])


def _by_tier(
    measure: Callable[[FloatArray, BoolArray], float | None], rows: Rows
) -> tuple[float | None, ...]:
    said, correct = rows.labels >= 0, rows.labels == rows.truth[:, None]
    tiers = range(rows.scores.shape[1])
    return tuple(measure(rows.scores[said[:, j], j], correct[said[:, j], j]) for j in tiers)
