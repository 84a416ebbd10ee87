"""Certify a cascade from scores, verdicts and human labels, with the counts of every policy that is tested.

Whole cascades are tested along one path fixed beforehand (the default), or tier by tier as in the paper.
P-values are `bounds`, procedures `control`, counts `policy`.
"""

from typing import Literal, NamedTuple

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, binomial_pvalue, clopper_pearson_lower
from trustescalate.stats.control import (
    FEWEST_ROWS,
    BestPvalue,
    Prefer,
    binomial_best,
    carried,
    own_levels,
    reject,
)
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import decide, evaluate
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule

TIERWISE_GRID = 5_000


class TierTests(NamedTuple):
    """Result of `tierwise`: `thresholds` (m,), +inf where nothing passed, and each tier's last passed test.

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

    `errors` of `accepted` rows gave `p_value`, tested at `level`; `cost` is mean USD per row. Where losses
    are bounded, `total` is the loss of the accepted rows, and `errors` counts those that lose anything. In a
    batch `accepted`, `by_tier` and `cost` are of the whole batch, `drawn` and `errors` of the accepted rows
    that people labelled, and `released` is how many verdicts the judges give: all accepted, less the drawn
    where people's labels replace them.
    """

    policies: FloatArray
    accepted: IntArray
    errors: IntArray
    by_tier: IntArray
    cost: FloatArray
    p_value: FloatArray
    level: FloatArray
    rejected: BoolArray
    total: FloatArray | None = None
    drawn: IntArray | None = None
    released: IntArray | None = None


class Certified(NamedTuple):
    """The outcome: `chosen` is the row of `table` that is certified, `thresholds` (m,) its thresholds.

    `coverage_lower` is a lower limit on the share of the population that it releases; of a batch it is the
    share itself. `errors_upper`, for a batch alone, is at most alpha times the accepted: it limits the wrong
    verdicts that are released (the drawn rows' own among them, unless people's labels replace them). All
    four are None where nothing is certified.
    """

    chosen: int | None
    thresholds: FloatArray | None
    coverage_lower: float | None
    table: Table
    errors_upper: int | None = None


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
    policies (t, m), strict to lax, that was fixed without these rows (`policy.common_path`), or a
    `paths.Plan` of several sub-paths with a share of delta each, tested by `procedure`; thresholds belong to
    `plan.read(...)`. Or "tierwise", which finds its own thresholds and does not use `procedure` and `prefer`:
    its table has one row a tier, the cascade grown by that tier, with the counts of the rows that it added.
    `prefer` and `abstention_price` as in `control.choose`. Assumes that the rows are drawn independently from
    the population that the cascade will meet. Raises ValueError for unknown names, shapes that differ, or
    rates outside (0, 1).
    Source: tests before thresholds, Angelopoulos et al. 2021, arXiv 2110.01052; cascades, arXiv 2407.18370.

    >>> rng = np.random.default_rng(1)
    >>> scores, truth = rng.uniform(0.5, 1, size=(400, 1)), rng.integers(2, size=400)
    >>> labels = np.where(rng.uniform(size=(400, 1)) < scores, truth[:, None], 1 - truth[:, None])
    >>> path = np.linspace(1, 0.5, 11)[:, None]
    >>> result = certify(scores, labels, truth, np.ones((400, 1)), alpha=0.2, delta=0.1, path=path)
    >>> result.thresholds.tolist(), result.table.errors.tolist()[:result.chosen + 1]
    ([0.85], [0, 2, 7, 11])
    """
    rule = TestRule(alpha, delta, path, procedure, prefer, abstention_price)
    return certify_rows(Rows(scores, labels, truth, costs), rule)


def certify_rows(rows: Rows, rule: TestRule[FloatArray | Plan | Literal["tierwise"]]) -> Certified:
    """As `certify`, by a rule that was fixed without the rows.

    >>> ones = np.ones((60, 1), dtype=int)
    >>> rows = Rows(0.9 * ones, ones, ones[:, 0], 1.0 * ones)
    >>> certify_rows(rows, TestRule(0.1, 0.1, np.array([[0.5]]))).chosen
    0
    """
    path, n = rule.path, len(rows.truth)
    if isinstance(path, str):
        if path != "tierwise":
            raise ValueError(f"no path {path!r}: give an array of policies, or 'tierwise'")
        tests = tierwise(rows.scores, rows.labels, rows.truth, rule.alpha, rule.delta)
        table = _tabulate_tiers(tests, rows)
        chosen = len(table.rejected) - 1 if table.rejected.any() else None
        released = int(table.accepted.sum())
    else:
        table = _test_path(rows, rule.along(Plan.of(path)))
        chosen = rule.choose(table.rejected, table.accepted, table.cost, n)
        released = 0 if chosen is None else int(table.accepted[chosen])
    if chosen is None:
        return Certified(None, None, None, table)
    lower = float(clopper_pearson_lower(released, n, rule.delta))
    return Certified(chosen, table.policies[chosen], lower, table)


def tierwise(scores: FloatArray, labels: IntArray, truth: IntArray, alpha: float, delta: float) -> TierTests:
    """The paper's way, done right: each tier on the rows that earlier tiers left over, at delta / m.

    Arrays as in `certify`. Each tier tests 5,000 thresholds on [0, 1] from strict to lax, from the first with
    30 rows on, up to the first failure; what did not pass is not used. Scores must lie in [0, 1]. The proof
    is that of arXiv 2407.18370, which takes the rows that reach a tier as given, whatever the tests of
    earlier tiers did: complete for the first tier only.
    Source: arXiv 2407.18370, Algorithm 2; its released code drops the delta / m and falls back on the
    strictest threshold, which breaks the guarantee.
    Raises ValueError as `policy.evaluate` does.

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
        rejected = _test_tier(p_value, outcomes.accepted, alpha, tests.level)
        if rejected.any():
            last = int(np.flatnonzero(rejected)[-1])
            tests.thresholds[j] = grid[last, 0]
            tests.accepted[j], tests.errors[j] = outcomes.accepted[last], outcomes.errors[last]
            tests.p_value[j] = p_value[last]
            left = left[decide(grid[last], *tier) < 0]
    return tests


def plan_levels(plan: Plan, procedure: str, n: int, delta: float, best: BestPvalue) -> FloatArray:
    """The levels (t,) that start at the policies of a plan, by `control.own_levels`.

    Raises ValueError as `control.own_levels` does.

    >>> plan_levels(Plan.of(np.ones((2, 1))), "fallback", 100, 0.1, binomial_best(0.1, 100)).round(3).tolist()
    [0.1, 0.0]
    """
    return own_levels(procedure, plan.coverage, plan.shares, n, delta, best)


def _test_path(rows: Rows, rule: TestRule[Plan]) -> Table:
    plan, n = rule.path, len(rows.truth)
    own = plan_levels(plan, rule.procedure, n, rule.delta, binomial_best(rule.alpha, n))
    outcomes = evaluate(plan.policies, *plan.rows(rows))
    p_value = binomial_pvalue(outcomes.errors, outcomes.accepted, rule.alpha)
    return Table(plan.policies, *outcomes, p_value, *reject(rule.procedure, plan.sizes, p_value, own))


def _test_tier(p: FloatArray, accepted: IntArray, alpha: float, level: float) -> BoolArray:
    """Test in order from the first threshold with 30 rows, and with as many as could pass at all."""
    own = np.zeros(len(p))
    own[np.flatnonzero((accepted >= FEWEST_ROWS) & (binomial_pvalue(0, accepted, alpha) <= level))[:1]] = (
        level
    )
    return carried(p, own).rejected


def _tabulate_tiers(tests: TierTests, rows: Rows) -> Table:
    m = len(tests.thresholds)
    grown = np.where(np.tri(m, dtype=bool), tests.thresholds, np.inf)
    cost = evaluate(grown, rows.scores, rows.labels, np.full(len(rows.truth), -1), rows.costs).cost
    rejected, by_tier, level = np.isfinite(tests.thresholds), np.diag(tests.accepted), np.full(m, tests.level)
    return Table(grown, tests.accepted, tests.errors, by_tier, cost, tests.p_value, level, rejected)
