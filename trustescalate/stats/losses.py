"""Certify a mean loss in [0, 1], where verdicts are not simply right or wrong: annotators, ties, ratings.

A loss is what releasing a tier's verdict on a row would cost; the guarantee is on its mean over released
rows. How ties count is an argument, decided before labels are read.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, rel_entr

from trustescalate.stats.betting import betting_pvalues
from trustescalate.stats.bounds import FloatArray, IntArray, clopper_pearson_lower
from trustescalate.stats.certify import Certified, Table, plan_levels
from trustescalate.stats.control import aimed_levels, binomial_best, reject
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import decide, evaluate
from trustescalate.stats.rule import TestRule

PARTS = 5040
"""Every share of up to ten annotators, and half of it, is a whole number of these parts."""


def expected_losses(label_counts: IntArray, lost: FloatArray) -> FloatArray:
    """The expected loss (n, c) in [0, 1] of each label against a randomly drawn annotator of the row.

    `label_counts` (n, c) says how many annotators gave each label, `lost` (c, c) what verdict i loses against
    label j. A row without a label loses 1, whatever the verdict. Raises ValueError for a negative
    count, a loss outside [0, 1], or shapes that differ.

    >>> expected_losses(np.array([[3, 1], [0, 0]]), 1 - np.eye(2)).tolist()
    [[0.25, 0.75], [1.0, 1.0]]
    """
    people = label_counts.sum(axis=1, keepdims=True)
    if lost.shape != (label_counts.shape[1],) * 2 or np.any(label_counts < 0):
        raise ValueError(f"shapes differ, or a count is negative: {label_counts.shape}, {lost.shape}")
    if not np.all((lost >= 0) & (lost <= 1)):
        raise ValueError("losses must lie in [0, 1]")
    share = (label_counts @ lost.T) / np.maximum(1, people)
    return np.where(people > 0, share, 1.0).astype(np.float64)


def hoeffding_bentkus_pvalue(total: FloatArray, n: IntArray, alpha: float) -> FloatArray:
    """P-value of "the mean of n losses in [0, 1] is at least alpha", from their sum.

    `total` and `n` broadcast; the result has their shape, 1 where n = 0. The smaller of Hoeffding's and
    Bentkus's bound: within a factor e of the exact binomial p-value where losses are 0 or 1. It knows no
    variance: where losses are mostly in the middle, betting has more power.
    Assumes independent rows. Raises ValueError unless 0 <= total <= n and 0 < alpha < 1.
    Bates et al. (2021), proposition 3; Hoeffding (1963), theorem 1; Bentkus (2004).

    >>> hoeffding_bentkus_pvalue(np.array([0.0, 4.5, 0.0]), np.array([40, 100, 0]), 0.1).round(4).tolist()
    [0.0148, 0.126, 1.0]
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    if not np.all((total >= 0) & (total <= n)):
        raise ValueError("a sum of n losses must lie between 0 and n")
    mean = np.minimum(total / np.maximum(1, n), alpha)
    hoeffding = np.exp(-n * (rel_entr(mean, alpha) + rel_entr(1 - mean, 1 - alpha)))
    bentkus = np.e * bdtr(np.ceil(total), n, alpha)
    return np.asarray(np.minimum(hoeffding, bentkus), dtype=np.float64)


class LossOutcomes(NamedTuple):
    """As `policy.Outcomes`; `total` (t,) is the sum of the accepted rows' losses."""

    accepted: IntArray
    total: FloatArray
    by_tier: IntArray
    cost: FloatArray


def evaluate_losses(
    thresholds: FloatArray, scores: FloatArray, labels: IntArray, losses: FloatArray, costs: FloatArray
) -> LossOutcomes:
    """Count what each policy accepts and costs, and add up what it loses.

    `thresholds` (t, m); `scores`, `labels`, `losses`, `costs` (n, m). Losses that are shares of up to ten
    people are added up exactly, any other sum is rounded up: rounding must not turn 4 errors into 3.
    Raises ValueError for a loss outside [0, 1], and as `policy.evaluate` does.

    >>> scores, labels = np.array([[0.9, 0.5], [0.6, 0.8]]), np.array([[0, 1], [1, 0]])
    >>> losses, path = np.array([[0.2, 0.8], [1.0, 0.1]]), np.array([[0.9, 0.9], [0.8, 0.8], [0.6, 0.6]])
    >>> evaluate_losses(path, scores, labels, losses, np.ones((2, 2))).total.round(6).tolist()
    [0.2, 0.3, 1.2]
    """
    _check(losses, labels)
    none = np.full(len(scores), -1)
    accepted, _, by_tier, cost = evaluate(thresholds, scores, labels, none, costs)
    sums = [_add_exactly(released_losses(policy, scores, labels, losses)) for policy in thresholds]
    return LossOutcomes(accepted, np.array(sums, dtype=np.float64), by_tier, cost)


def released_losses(
    thresholds: FloatArray, scores: FloatArray, labels: IntArray, losses: FloatArray
) -> FloatArray:
    """The losses of the rows that one policy (m,) releases, in row order; the other three are (n, m).

    >>> scores, labels = np.array([[0.9, 0.5], [0.6, 0.8]]), np.array([[0, 1], [1, 0]])
    >>> released_losses(np.array([0.8, 0.8]), scores, labels, np.array([[0.2, 0.8], [1.0, 0.1]])).tolist()
    [0.2, 0.1]
    """
    tier = decide(thresholds, scores, labels)
    rows = np.flatnonzero(tier >= 0)
    return np.asarray(losses[rows, tier[rows]], dtype=np.float64)


def certify_losses(
    scores: FloatArray,
    labels: IntArray,
    losses: FloatArray,
    costs: FloatArray,
    rule: TestRule[FloatArray | Plan],
    *,
    order: IntArray,
) -> Certified:
    """Find the policy to release verdicts with, such that P(its true mean loss > alpha) <= delta.

    `scores`, `labels`, `losses`, `costs` (n, m); all else as in `certify`, with a path that is an array or a
    `paths.Plan` of the tiers' own scores (read the votes by another first: losses are those of the verdicts).
    `order` is a permutation (n,) of the rows, drawn without looking at them: each bet aims at the level of
    the nearest start. Where losses are 0 or 1 by construction, `certify` has more power; taking it whenever
    they *happen* to be would be two chances for one delta. Assumes that the rows are drawn independently from
    the population that the cascade will meet. Raises ValueError for unknown names, shapes that differ, or
    numbers outside their range.
    Source: bounded losses, Angelopoulos et al. 2021, arXiv 2110.01052, by betting, arXiv 2010.09686.

    >>> rng = np.random.default_rng(0)
    >>> scores, labels, losses = np.ones((90, 1)), np.zeros((90, 1), dtype=int), np.full((90, 1), 0.05)
    >>> rule = TestRule(0.1, 0.1, np.ones((1, 1)))
    >>> found = certify_losses(scores, labels, losses, scores, rule, order=rng.permutation(90))
    >>> found.chosen, found.table.p_value.round(3).tolist()
    (0, [0.1])
    """
    plan, n, alpha, delta = Plan.of(rule.path), len(scores), rule.alpha, rule.delta
    if plan.readings != (None,):
        raise ValueError("losses belong to verdicts: read the votes by the plan first")
    own = plan_levels(plan, rule.procedure, n, delta, binomial_best(alpha, n))
    outcomes = evaluate_losses(plan.policies, scores, labels, losses, costs)
    _check_order(order, n)
    shuffled = scores[order], labels[order], losses[order]
    excess = np.array([_subtract_alpha(policy, *shuffled, alpha) for policy in plan.policies])
    aim = aimed_levels(rule.procedure, plan.sizes, own)
    p_value = betting_pvalues(excess, alpha, target=np.where(aim > 0, aim, delta))
    rejections = reject(rule.procedure, plan.sizes, p_value, own)
    accepted, total, by_tier, cost = outcomes
    errors = np.sum(excess > -alpha, axis=1)
    table = Table(plan.policies, accepted, errors, by_tier, cost, p_value, *rejections, total=total)
    chosen = rule.choose(table.rejected, table.accepted, table.cost, n)
    if chosen is None:
        return Certified(None, None, None, table)
    lower = float(clopper_pearson_lower(table.accepted[chosen], n, delta))
    return Certified(chosen, table.policies[chosen], lower, table)


def _subtract_alpha(
    policy: FloatArray, scores: FloatArray, labels: IntArray, losses: FloatArray, alpha: float
) -> FloatArray:
    """The loss less alpha of each row (n,) under one policy, NaN where it is not released."""
    tier = decide(policy, scores, labels)
    released = np.take_along_axis(losses, np.maximum(tier, 0)[:, None], axis=1)[:, 0]
    return np.where(tier >= 0, released - alpha, np.nan)


def _add_exactly(losses: FloatArray) -> float:
    parts = np.rint(losses * PARTS)
    if np.all(np.abs(losses * PARTS - parts) < 1e-9):
        return int(parts.sum()) / PARTS
    return min(float(losses.sum()) * (1 + len(losses) * np.finfo(float).eps), float(len(losses)))


def _check(losses: FloatArray, labels: IntArray) -> None:
    if losses.shape != labels.shape:
        raise ValueError(f"shapes differ: losses {losses.shape}, labels {labels.shape}")
    if not np.all((losses >= 0) & (losses <= 1)):
        raise ValueError("losses must lie in [0, 1]")


def _check_order(order: IntArray, n: int) -> None:
    if not np.array_equal(np.sort(order), np.arange(n)):
        raise ValueError(f"betting needs an order: a permutation of the {n} rows, drawn without their losses")
