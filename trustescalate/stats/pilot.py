"""Estimate power, cost and coverage by numbers of labels, by certifying resamples of a pilot.

The pilot's labelled rows are taken for the population. That is hopeful when they are few: 50 rows without
an error look like a judge without errors. Plans are not guarantees, and no certificate rests on them. What a
single test can do without a pilot is `planning`.
"""

from typing import Literal, NamedTuple

import numpy as np

from trustescalate.stats.bounds import FloatArray, IntArray, clopper_pearson_lower, clopper_pearson_upper
from trustescalate.stats.certify import certify_rows
from trustescalate.stats.paths import Plan
from trustescalate.stats.planning import coverage_ceiling
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule


class PilotPower(NamedTuple):
    """Results of calibrations on n rows, all (s,) but the limits (s, 2).

    `power`: the share of `trials` whose certificate released at least the wanted share of the pilot, with
    Clopper-Pearson limits for the number of trials (not for the size of the pilot). `coverage`, `cost`: means
    of the share released and of USD per row; a trial without a certificate releases nothing and has paid
    every tier for every row.
    """

    n: IntArray
    power: FloatArray
    limits: FloatArray
    coverage: FloatArray
    cost: FloatArray


def pilot_power(
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    costs: FloatArray,
    n: IntArray,
    rule: TestRule[FloatArray | Plan | Literal["tierwise"]],
    *,
    wanted: float,
    rng: np.random.Generator,
    trials: int = 200,
) -> PilotPower:
    """The chance that n labelled rows certify a cascade that releases a share `wanted` of all items.

    Arrays as in `certify`, of the pilot. Each trial draws n rows of the pilot with replacement, certifies,
    and counts what the certified cascade would release of the whole pilot. Raises ValueError as
    `certify` does, or for a pilot without rows, trials < 1, or `wanted` outside (0, 1].
    Source: power by resampling a pilot, Efron and Tibshirani 1993.

    >>> rng = np.random.default_rng(0)
    >>> scores, truth = rng.uniform(0.5, 1, size=(200, 1)), np.zeros(200, dtype=int)
    >>> labels = (rng.random((200, 1)) > scores).astype(int)
    >>> n, rule = np.array([50, 200, 800]), TestRule(0.2, 0.1, np.linspace(1, 0.5, 41)[:, None])
    >>> found = pilot_power(scores, labels, truth, 0 * scores, n, rule, wanted=0.5, trials=100, rng=rng)
    >>> found.power.tolist(), found.coverage.round(2).tolist()
    ([0.23, 0.8, 1.0], [0.23, 0.56, 0.68])
    """
    size, rows = len(truth), Rows(scores, labels, truth, costs)
    if size == 0 or trials < 1 or not 0 < wanted <= 1:
        raise ValueError(f"rows, trials >= 1 and 0 < wanted <= 1 are needed, not {size}, {trials}, {wanted}")
    read = rows if isinstance(rule.path, str) else Plan.of(rule.path).rows(rows)
    none = np.full(read.scores.shape[1], np.inf)
    every_tier = float(costs.sum(axis=1).mean())
    passed, coverage, cost = np.zeros(len(n), dtype=np.int64), np.zeros(len(n)), np.zeros(len(n))
    for s, count in enumerate(n):
        for _ in range(trials):
            outcome_ = certify_rows(rows.take(rng.integers(size, size=int(count))), rule)
            chosen = none if outcome_.thresholds is None else outcome_.thresholds
            outcome = evaluate(chosen[None], *read)
            released = int(outcome.accepted[0])
            passed[s] += released >= wanted * size
            coverage[s] += released / size
            cost[s] += every_tier if outcome_.thresholds is None else float(outcome.cost[0])
    limits = [limit(passed, trials, 0.05) for limit in (clopper_pearson_lower, clopper_pearson_upper)]
    return PilotPower(n, passed / trials, np.column_stack(limits), coverage / trials, cost / trials)


def rows_needed(power: PilotPower, target: float = 0.8) -> int | None:
    """The fewest rows of the grid from which on the power never falls below `target`; None if there are none.

    `n` of `found` must rise. Raises ValueError unless it does and 0 < target < 1.

    >>> n, power = np.array([100, 200, 400]), np.array([0.3, 0.82, 0.97])
    >>> rows_needed(PilotPower(n, power, np.zeros((3, 2)), power, power))
    200
    """
    if not 0 < target < 1 or np.any(np.diff(power.n) <= 0):
        raise ValueError(
            f"target must lie strictly between 0 and 1, and n rise: {target}, {power.n.tolist()}"
        )
    weak = np.flatnonzero(power.power < target)
    first = 0 if weak.size == 0 else int(weak[-1]) + 1
    return int(power.n[first]) if first < len(power.n) else None


def expected_cost(
    thresholds: FloatArray, scores: FloatArray, labels: IntArray, costs: FloatArray, human: float = 0.0
) -> float:
    """Mean USD per item: every tier that it visits, and `human` for one that all of them pass on.

    `thresholds` (m,); the others (n, m) as in `policy.evaluate`, no labels of people needed. An abstained
    item has paid every tier, so a strict cascade may cost more than asking people at once. Raises ValueError
    as `policy.evaluate` does, without rows, or for a negative `human`.

    >>> scores, labels = np.array([[0.9, 0.5], [0.6, 0.8], [0.5, 0.5]]), np.zeros((3, 2), dtype=int)
    >>> costs = np.tile([1.0, 10.0], (3, 1))
    >>> expected_cost(np.array([0.8, 0.8]), scores, labels, costs, human=30.0)
    17.666666666666668
    """
    if len(scores) == 0 or human < 0:
        raise ValueError(f"rows and a price that is not negative are needed, not {len(scores)} and {human}")
    outcome = evaluate(thresholds[None], scores, labels, np.full(len(scores), -1), costs)
    return float(outcome.cost[0]) + human * (1 - int(outcome.accepted[0]) / len(scores))


def pilot_ceiling(labels: IntArray, truth: IntArray, alpha: float) -> float:
    """The most that any cascade of these judges can cover at risk alpha, on the pilot.

    `planning.coverage_ceiling` of the share of rows on which every judge is wrong or silent: no cascade can
    release a right verdict there. An estimate; `labels` (n, m), `truth` (n,). Raises ValueError without rows
    or as `coverage_ceiling` does.

    >>> pilot_ceiling(np.array([[0, 1], [1, 1], [1, -1], [0, 0]]), np.array([1, 1, 0, 0]), 0.1)
    0.8333333333333333
    """
    if len(truth) == 0:
        raise ValueError("a pilot needs rows")
    hopeless = np.all((labels != truth[:, None]) | (labels < 0), axis=1)
    return coverage_ceiling(float(hopeless.mean()), alpha)
