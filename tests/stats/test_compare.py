from dataclasses import replace

import numpy as np
import pytest

from trustescalate.stats.compare import certify_paths
from trustescalate.stats.paths import PATHS
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import world

RULE = TestRule(0.1, 0.1, None)


def rows_of(name: str, n: int, seed: int = 0) -> Rows:
    return Rows(*world(name, 0.1, 2).draw(n, np.random.default_rng(seed)), np.tile([1.0, 10.0], (n, 1)))


def test_dev_rows_certify_nothing_and_certification_rows_choose_nothing() -> None:
    rows, dev = rows_of("deceptive", 600), np.arange(600) < 200
    before = certify_paths(rows, dev, RULE, classes=2)
    for result in before.results:
        assert result.certified.table.accepted.max() <= 400
    truth = rows.truth.copy()
    truth[~dev] = 1 - truth[~dev]
    after = certify_paths(rows._replace(truth=truth), dev, RULE, classes=2)
    assert after.chosen == before.chosen
    for one, other in zip(before.results, after.results, strict=True):
        assert (one.coverage, one.cost) == (other.coverage, other.cost)
        np.testing.assert_array_equal(np.concatenate(one.plan.parts), np.concatenate(other.plan.parts))
        assert other.certified.chosen is None


def test_dev_rows_choose_a_path_that_works() -> None:
    outcome = certify_paths(rows_of("deceptive", 800), np.arange(800) % 4 == 0, RULE, classes=2)
    assert [result.name for result in outcome.results] == list(PATHS)
    best = outcome.results[outcome.chosen]
    assert best.name != "common"
    assert best.certified.chosen is not None
    assert best.coverage == max(result.coverage for result in outcome.results)


def test_the_wish_decides_between_paths() -> None:
    rows, dev = rows_of("monotone", 600), np.arange(600) % 3 == 0
    cheap = certify_paths(rows, dev, replace(RULE, prefer="cost"), classes=2)
    assert cheap.results[cheap.chosen].cost == min(result.cost for result in cheap.results)
    total = certify_paths(rows, dev, replace(RULE, prefer="total", abstention_price=50.0), classes=2)
    price = [result.cost + 50 * (1 - result.coverage) for result in total.results]
    assert total.chosen == int(np.argmin(price))


def test_paths_refuse_missing_rows_and_unknown_names() -> None:
    rows = rows_of("monotone", 50)
    with pytest.raises(ValueError, match="dev must be"):
        certify_paths(rows, np.zeros(50, dtype=bool), RULE, classes=2)
    with pytest.raises(ValueError, match="dev must be"):
        certify_paths(rows, np.zeros(50, dtype=int), RULE, classes=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no path 'luck'"):
        certify_paths(rows, np.arange(50) < 9, RULE, classes=2, paths=["luck"])  # type: ignore[list-item]
