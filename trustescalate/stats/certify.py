"""Scores, labels, human labels in; the certified cascade out, or none, with every count that was tested.

Two ways to earn a certificate: test whole cascades along one path fixed beforehand (the default), or tier by
tier as the paper does. This file invents no test: p-values, procedures and counting are its siblings'.
"""

from typing import Literal, NamedTuple

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue, clopper_pearson_lower
from trustescalate.stats.control import Prefer, Rejections, choose, fixed_sequence, hedge, procedure_named
from trustescalate.stats.paths import Plan, Votes
from trustescalate.stats.policy import decide, evaluate

TIERWISE_GRID = 5_000


class TierTests(NamedTuple):
    """What `tierwise` earned: `thresholds` (m,), +inf where nothing passed, and each tier's last passed test.

    `accepted`, `errors`, `p_value` (m,) are of that test, on the rows that earlier tiers left over: 0, 0, 1
    where none passed. `level` is what each tier could spend.
    """

    thresholds: FloatArray
    accepted: IntArray
    errors: IntArray
    p_value: FloatArray
    level: float


class Table(NamedTuple):
    """Every policy that was tested: `policies` (t, m) thresholds, `by_tier` (t, m), all others (t,).

    `errors` of `accepted` rows gave `p_value`, held against `level`; `cost` is mean USD per row.
    """

    policies: FloatArray
    accepted: IntArray
    errors: IntArray
    by_tier: IntArray
    cost: FloatArray
    p_value: FloatArray
    level: FloatArray
    rejected: BoolArray


class Certified(NamedTuple):
    """The outcome: `chosen` is the row of `table` that is certified, `thresholds` (m,) its thresholds.

    `coverage_lower` is a lower limit on the share of the population that it releases. All three are None
    where nothing is certified.
    """

    chosen: int | None
    thresholds: FloatArray | None
    coverage_lower: float | None
    table: Table


def certify(
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    costs: FloatArray,
    *,
    alpha: float,
    delta: float,
    path: FloatArray | Plan | Literal["tierwise"],
    procedure: str = "fallback",
    prefer: Prefer = "coverage",
    abstention_price: float | None = None,
) -> Certified:
    """Find the policy to release verdicts with, such that P(its true risk > alpha) <= delta.

    `scores`, `labels`, `costs` are (n, m), `truth` (n,), as in `policy.evaluate`. `path` is an array of
    policies (t, m), strict to lax, that was fixed without these rows' labels (`policy.common_path`), or a
    `paths.Plan` of several sub-paths with a share of delta each, tested by `procedure`; where the plan has a
    stack, thresholds belong to `plan.read(...)`. Or "tierwise", which finds its own thresholds and does not
    use `procedure` and `prefer`: its table has one row a tier, the cascade grown by that tier, with the
    counts of the rows that it added. `prefer` and `abstention_price` as in `control.choose`.
    Assumes that the rows are drawn independently from the population that the cascade will meet.
    Raises ValueError for unknown names, shapes that differ, or rates outside (0, 1).
    Source: tests before thresholds, Angelopoulos et al. 2021, arXiv 2110.01052; cascades, arXiv 2407.18370.

    >>> rng = np.random.default_rng(1)
    >>> scores, truth = rng.uniform(0.5, 1, size=(400, 1)), rng.integers(2, size=400)
    >>> labels = np.where(rng.uniform(size=(400, 1)) < scores, truth[:, None], 1 - truth[:, None])
    >>> path = np.linspace(1, 0.5, 11)[:, None]
    >>> result = certify(scores, labels, truth, np.ones((400, 1)), alpha=0.2, delta=0.1, path=path)
    >>> result.thresholds.tolist(), result.table.errors.tolist()[:result.chosen + 1]
    ([0.85], [0, 2, 7, 11])
    """
    if isinstance(path, str):
        if path != "tierwise":
            raise ValueError(f"no path {path!r}: give an array of policies, or 'tierwise'")
        table = _tierwise_table(tierwise(scores, labels, truth, alpha, delta), scores, labels, costs)
        chosen = len(table.rejected) - 1 if table.rejected.any() else None
        released = int(table.accepted.sum())
    else:
        table = _path_table(
            Plan.of(path), scores, labels, truth, costs, alpha=alpha, delta=delta, procedure=procedure
        )
        chosen = choose(
            table.rejected,
            table.accepted,
            table.cost,
            prefer,
            n=len(truth),
            abstention_price=abstention_price,
        )
        released = 0 if chosen is None else int(table.accepted[chosen])
    if chosen is None:
        return Certified(None, None, None, table)
    lower = float(clopper_pearson_lower(released, len(truth), delta))
    return Certified(chosen, table.policies[chosen], lower, table)


def tierwise(scores: FloatArray, labels: IntArray, truth: IntArray, alpha: float, delta: float) -> TierTests:
    """The paper's way, done right: each tier on the rows that earlier tiers left over, at delta / m.

    Arrays as in `certify`. Each tier tests 5,000 thresholds on [0, 1] from strict to lax, from the first with
    30 rows on, up to the first failure; what did not pass is not used. Scores must lie in [0, 1].
    Source: arXiv 2407.18370, Algorithm 2; its released code drops the delta / m and falls back on the
    strictest threshold, which breaks the promise. Raises ValueError as `policy.evaluate` does.

    >>> scores, truth = np.tile([[0.9, 0.8], [0.6, 0.9]], (60, 1)), np.zeros(120, dtype=int)
    >>> labels = np.tile([[0, 0], [1, 0]], (60, 1))
    >>> tests = tierwise(scores, labels, truth, alpha=0.1, delta=0.1)
    >>> tests.thresholds.round(3).tolist(), tests.accepted.tolist(), tests.errors.tolist()
    ([0.6, 0.0], [60, 60], [0, 0])
    """
    m = scores.shape[1]
    grid = np.linspace(1, 0, TIERWISE_GRID)[:, None]
    tests = TierTests(
        np.full(m, np.inf), np.zeros(m, dtype=np.int64), np.zeros(m, dtype=np.int64), np.ones(m), delta / m
    )
    left = np.arange(len(truth))
    for j in range(m):
        tier = (scores[left, j : j + 1], labels[left, j : j + 1])
        outcomes = evaluate(grid, *tier, truth[left], np.zeros((len(left), 1)))
        p_value = binomial_pvalue(outcomes.errors, outcomes.accepted, alpha)
        _, rejected = fixed_sequence(p_value, outcomes.accepted, len(left), alpha, tests.level)
        if rejected.any():
            last = int(np.flatnonzero(rejected)[-1])
            tests.thresholds[j] = grid[last, 0]
            tests.accepted[j], tests.errors[j] = outcomes.accepted[last], outcomes.errors[last]
            tests.p_value[j] = p_value[last]
            left = left[decide(grid[last], *tier) < 0]
    return tests


def reject_along(
    plan: Plan,
    procedure: str,
    p: FloatArray,
    accepted: IntArray,
    n: int,
    alpha: float,
    delta: float,
    best: FloatArray | None = None,
) -> Rejections:
    """Hold the p-values (t,) of a plan's policies against what `procedure` gives them, by `control.hedge`.

    `p`, `accepted` and `best` (t,) go sub-path after sub-path, as `plan.policies` does. Raises ValueError for
    an unknown procedure, and as `control.hedge` does.
    Source: as `control.hedge`.

    >>> p, accepted = np.array([0.01, 0.2]), np.array([60, 90])
    >>> reject_along(Plan.of(np.ones((2, 1))), "fallback", p, accepted, 100, 0.1, 0.1).rejected.tolist()
    [True, False]
    """
    sizes = [len(part) for part in plan.parts]
    return hedge(procedure_named(procedure), sizes, plan.shares, p, accepted, n, alpha, delta, best)


def _path_table(
    plan: Plan,
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    costs: FloatArray,
    *,
    alpha: float,
    delta: float,
    procedure: str,
) -> Table:
    outcomes = evaluate(plan.policies, *plan.read(Votes(scores, labels)), truth, costs)
    p_value = binomial_pvalue(outcomes.errors, outcomes.accepted, alpha)
    rejections = reject_along(plan, procedure, p_value, outcomes.accepted, len(truth), alpha, delta)
    return Table(plan.policies, *outcomes, p_value, *rejections)


def _tierwise_table(tests: TierTests, scores: FloatArray, labels: IntArray, costs: FloatArray) -> Table:
    m = len(tests.thresholds)
    grown = np.where(np.tri(m, dtype=bool), tests.thresholds, np.inf)
    cost = evaluate(grown, scores, labels, np.full(len(scores), -1), costs).cost
    rejected = np.isfinite(tests.thresholds)
    by_tier = np.diag(tests.accepted)
    level = np.full(m, tests.level)
    return Table(grown, tests.accepted, tests.errors, by_tier, cost, tests.p_value, level, rejected)
