"""Certify a cascade on clustered rows (one prompt, one document, one query) by betting on whole clusters.

Rows of one cluster are wrong together, so many of them say little. Where one row of each cluster can be drawn
instead, `certify` is exact.
"""

from typing import NamedTuple

import numpy as np

from trustescalate.stats.betting import betting_pvalue, betting_pvalues
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import Certified, Table, plan_levels
from trustescalate.stats.control import aimed_levels, binomial_best, reject
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import decide, evaluate
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule


class ClusterCounts(NamedTuple):
    """`accepted` (t, g) and `errors` (t, g): what each policy releases, and gets wrong, of each cluster."""

    accepted: IntArray
    errors: IntArray


def count_by_cluster(
    path: FloatArray, scores: FloatArray, labels: IntArray, truth: IntArray, cluster: IntArray
) -> ClusterCounts:
    """Count what each policy releases and gets wrong in each cluster; `cluster` (n,) in 0..g-1.

    Other arrays as in `policy.evaluate`.

    >>> labels, truth = np.zeros((3, 1), dtype=int), np.array([0, 1, 1])
    >>> counts = count_by_cluster(np.ones((1, 1)), np.ones((3, 1)), labels, truth, np.array([0, 0, 1]))
    >>> counts.accepted.tolist(), counts.errors.tolist()
    ([[2, 1]], [[1, 1]])
    """
    g = int(cluster.max(initial=-1)) + 1
    accepted, errors = np.zeros((len(path), g), dtype=np.int64), np.zeros((len(path), g), dtype=np.int64)
    for t, policy in enumerate(path):
        tier = decide(policy, scores, labels)
        rows = np.flatnonzero(tier >= 0)
        wrong = rows[labels[rows, tier[rows]] != truth[rows]]
        accepted[t], errors[t] = (np.bincount(cluster[these], minlength=g) for these in (rows, wrong))
    return ClusterCounts(accepted, errors)


def cluster_pvalue(
    accepted: IntArray, errors: IntArray, alpha: float, largest: int, target: float | None = None
) -> float:
    """p-value of "the risk, over rows of random clusters, is at least alpha", by betting on whole clusters.

    `accepted` and `errors` (g,) count one policy's rows in each cluster, in an order fixed without looking.
    A term is Z = errors - alpha * accepted; E[Z] >= 0 says that the expected errors are at least alpha times
    the expected accepted. `largest` is the most rows that a cluster can have, known beforehand, `target` the
    level that bets aim at, as in `betting_pvalue`.
    Assumes clusters drawn independently; within a cluster anything. One large cluster sets the scale for
    all: power falls with largest / mean accepted. At best, all rows accepted and none wrong in clusters of
    equal size, it needs 22 clusters at alpha = target = 0.1, and 30 without a target.
    Raises ValueError unless 0 <= errors <= accepted <= largest and 0 < alpha < 1.
    Source: betting on bounded means, Waudby-Smith and Ramdas, arXiv 2010.09686.

    >>> round(cluster_pvalue(np.full(40, 5), np.zeros(40, dtype=int), 0.1, largest=5), 4)
    0.0395
    >>> cluster_pvalue(np.full(40, 1), np.zeros(40, dtype=int), 0.1, largest=5) > 0.4
    True
    """
    _check_counts(accepted, errors, largest)
    return betting_pvalue((errors - alpha * accepted) / max(1, largest), alpha, target)


def _check_counts(accepted: IntArray, errors: IntArray, largest: int) -> None:
    if np.any((errors < 0) | (errors > accepted) | (accepted > largest)):
        raise ValueError(f"counts must satisfy 0 <= errors <= accepted <= largest = {largest}")


def cluster_coverage_lower(accepted: IntArray, rows: IntArray, delta: float, largest: int) -> float:
    """Lower limit on the share of rows that are accepted, above it with probability at most delta.

    `accepted` of `rows` (g,) in each cluster, in an order fixed without looking; `largest` as in
    `cluster_pvalue`, whose test of "the share left is at least 1 - c" is inverted: it falls as c falls.
    Assumes clusters drawn independently. Raises ValueError unless 0 <= accepted <= rows <= largest and 0 <
    delta < 1.
    Source: betting on bounded means, Waudby-Smith and Ramdas, arXiv 2010.09686.

    >>> round(cluster_coverage_lower(np.full(60, 4), np.full(60, 5), 0.1, largest=5), 3)
    0.759
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        shown = cluster_pvalue(rows, rows - accepted, 1 - middle, largest) <= delta
        low, high = (middle, high) if shown else (low, middle)
    return low


def certify_clusters(
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    costs: FloatArray,
    cluster: IntArray,
    rule: TestRule[FloatArray | Plan],
    *,
    largest: int,
    order: IntArray,
) -> Certified:
    """Find the policy to release verdicts with, such that P(its true risk > alpha) <= delta, rows clustered.

    `scores`, `labels`, `costs` (n, m), `truth` (n,) and all else as in `certify`, with a path that is an
    array or a `paths.Plan`; `cluster` (n,) in 0..g-1, `order` (g,) a permutation of the clusters drawn
    without looking at them, `largest` as in `cluster_pvalue`. The risk is that of a row drawn by its place in
    the population: large clusters count more. Where tests start and what the bets aim at depends on the
    number of clusters and the plan alone, not on how large the clusters came out. Assumes whole clusters
    drawn independently from the population that the cascade will meet. Raises ValueError for unknown names,
    shapes that differ, a cluster that is too large, or an order that is no permutation.
    Source: betting, arXiv 2010.09686, on whole clusters, along a path as in `control`.

    >>> scores, labels, truth = np.ones((80, 1)), np.zeros((80, 1), dtype=int), np.zeros(80, dtype=int)
    >>> cluster, rule = np.repeat(np.arange(40), 2), TestRule(0.1, 0.1, np.ones((1, 1)))
    >>> order = np.arange(40)
    >>> certify_clusters(scores, labels, truth, scores, cluster, rule, largest=2, order=order).chosen
    0
    """
    plan, alpha, delta = Plan.of(rule.path), rule.alpha, rule.delta
    read = plan.rows(Rows(scores, labels, truth, costs))
    outcomes = evaluate(plan.policies, *read)
    if cluster.shape != truth.shape or np.any(cluster < 0):
        raise ValueError(
            f"shapes differ, or a cluster is negative: cluster {cluster.shape}, truth {truth.shape}"
        )
    counts = count_by_cluster(plan.policies, read.scores, read.labels, truth, cluster)
    if not np.array_equal(np.sort(order), np.arange(counts.accepted.shape[1])):
        raise ValueError(f"order must be a permutation of the {counts.accepted.shape[1]} clusters")
    accepted, errors = counts.accepted[:, order], counts.errors[:, order]
    g = len(order)
    own = plan_levels(plan, rule.procedure, g, delta, binomial_best(alpha, g))
    _check_counts(accepted, errors, largest)
    aim = aimed_levels(rule.procedure, plan.sizes, own)
    terms = (errors - alpha * accepted) / max(1, largest)
    p_value = betting_pvalues(terms, alpha, target=np.where(aim > 0, aim, delta))
    rejections = reject(rule.procedure, plan.sizes, p_value, own)
    table = Table(plan.policies, *outcomes, p_value, *rejections)
    chosen = rule.choose(table.rejected, table.accepted, table.cost, len(truth))
    if chosen is None:
        return Certified(None, None, None, table)
    rows = np.bincount(cluster, minlength=len(order))[order]
    lower = cluster_coverage_lower(accepted[chosen], rows, delta, largest)
    return Certified(chosen, table.policies[chosen], lower, table)
