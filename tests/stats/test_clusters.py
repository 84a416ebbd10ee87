from dataclasses import replace

import numpy as np
import pytest

from trustescalate.stats.betting import betting_pvalue
from trustescalate.stats.clusters import certify_clusters, cluster_pvalue, count_by_cluster
from trustescalate.stats.paths import Plan, hedged_path, stacked_path
from trustescalate.stats.policy import common_path, evaluate
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import world

PATH = common_path(None, 2)
PLAN = Plan.laid_out((PATH,), (1.0,), None)


def test_clusters_add_up_to_the_plain_counts() -> None:
    rows = world("monotone", 0.1, 2).draw(300, np.random.default_rng(0))
    cluster = np.random.default_rng(1).integers(25, size=300)
    counts = count_by_cluster(PATH, *rows, cluster)
    plain = evaluate(PATH, *rows, np.zeros(rows.scores.shape))
    np.testing.assert_array_equal(counts.accepted.sum(axis=1), plain.accepted)
    np.testing.assert_array_equal(counts.errors.sum(axis=1), plain.errors)
    for g in range(25):
        one = evaluate(PATH, *(part[cluster == g] for part in rows), np.zeros(((cluster == g).sum(), 2)))
        np.testing.assert_array_equal(counts.accepted[:, g], one.accepted)
        np.testing.assert_array_equal(counts.errors[:, g], one.errors)


def test_clusters_of_one_row_are_single_losses() -> None:
    wrong = np.random.default_rng(0).random(80) < 0.03
    expected = betting_pvalue(wrong - 0.1, 0.1)
    assert cluster_pvalue(np.ones(80, dtype=int), wrong.astype(int), 0.1, 1) == pytest.approx(expected)


def test_rows_in_one_cluster_are_one_piece_of_evidence() -> None:
    none = np.zeros(10, dtype=int)
    assert cluster_pvalue(np.full(10, 100), none, 0.1, 100) == cluster_pvalue(np.full(10, 1), none, 0.1, 1)


def test_no_rows_no_evidence() -> None:
    none = np.zeros(0, dtype=int)
    assert cluster_pvalue(none, none, 0.1, 5) == 1
    empty = np.zeros((0, 2))
    result = certify_clusters(
        empty, empty.astype(int), none, empty, none, TestRule(0.1, 0.1, PATH), largest=5, order=none
    )
    assert result[:2] == (None, None)


def test_wrong_input_is_refused() -> None:
    rows = world("flat", 0.1, 2).draw(40, np.random.default_rng(0))
    cluster = np.repeat(np.arange(10), 4)
    rule, order = TestRule(0.1, 0.1, PATH), np.arange(10)
    for largest, given, tested, message in (
        (3, order, rule, "largest = 3"),
        (4, order[:9], rule, "permutation of the 10"),
        (4, order, replace(rule, procedure="luck"), "no procedure"),
    ):
        with pytest.raises(ValueError, match=message):
            certify_clusters(*rows, rows.scores, cluster, tested, largest=largest, order=given)
    with pytest.raises(ValueError, match="negative"):
        certify_clusters(*rows, rows.scores, cluster - 1, rule, largest=4, order=order)


def test_plans_stacks_and_prices_are_those_of_a_plain_certificate() -> None:
    rows = world("flat", 0.1, 2).draw(1000, np.random.default_rng(0))
    cluster, costs = np.repeat(np.arange(500), 2), np.tile([1.0, 10.0], (1000, 1))
    dev = Rows(*(part[:200] for part in rows), costs[:200])
    rule, how = TestRule(0.2, 0.1, None), {"largest": 2, "order": np.arange(500)}
    priced = replace(rule, prefer="total", abstention_price=100.0)
    hedged = hedged_path(Votes(rows.scores[:50], rows.labels[:50]), 2, classes=2)
    plans = (hedged, stacked_path(dev, None, classes=2), PLAN)
    for plan in plans:
        result = certify_clusters(*rows, costs, cluster, priced.along(plan), **how)  # type: ignore[arg-type]
        counts = evaluate(plan.policies, *plan.rows(Rows(*rows, costs)))
        np.testing.assert_array_equal(result.table.errors, counts.errors)
        assert result.chosen is not None
        paid = counts.cost + 100.0 * (1 - counts.accepted / 1000)
        assert paid[result.chosen] == paid[result.table.rejected].min()
    result = certify_clusters(*rows, costs, cluster, rule.along(plans[0]), **how)  # type: ignore[arg-type]
    assert result.table.level.max() <= 0.1
