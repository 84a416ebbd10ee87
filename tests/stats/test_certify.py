import numpy as np
import pytest
from scipy.stats import binom

from trustescalate.stats.certify import TIERWISE_GRID, Certified, certify, tierwise
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import common_path, decide
from trustescalate.stats.validity import Sample, world

ALPHA, DELTA = 0.1, 0.1


def sample(name: str, n: int = 500, seed: int = 0) -> Sample:
    return world(name, ALPHA, tiers=2).draw(n, np.random.default_rng(seed))


def result(rows: Sample, path: object = None, **more: object) -> Certified:
    fixed = Plan.laid_out((common_path(None, 2),), (1.0,), None) if path is None else path
    free = np.ones(rows.scores.shape)
    return certify(*rows, free, alpha=ALPHA, delta=DELTA, path=fixed, **more)  # type: ignore[arg-type]


def test_every_number_can_be_recomputed_from_its_counts() -> None:
    rows = sample("monotone")
    outcome = result(rows)
    table = outcome.table
    assert outcome.chosen is not None
    for t, policy in enumerate(table.policies):
        tier = decide(policy, rows.scores, rows.labels)
        released = np.flatnonzero(tier >= 0)
        wrong = rows.labels[released, tier[released]] != rows.truth[released]
        assert (len(released), int(wrong.sum())) == (table.accepted[t], table.errors[t])
        expected = binom.cdf(table.errors[t], table.accepted[t], ALPHA) if len(released) else 1
        assert table.p_value[t] == pytest.approx(expected)
    np.testing.assert_array_equal(table.rejected, (table.p_value <= table.level) & (table.level > 0))
    assert table.rejected[outcome.chosen]
    assert table.accepted[outcome.chosen] >= table.accepted[table.rejected].max() - 0.02 * 500
    assert outcome.coverage_lower < table.accepted[outcome.chosen] / 500


@pytest.mark.parametrize("path", [None, "tierwise"])
def test_row_order_and_label_names_do_not_matter(path: str | None) -> None:
    rows = sample("monotone")
    expected = result(rows, path)
    order = np.random.default_rng(1).permutation(500)
    shuffled = Sample(*(part[order] for part in rows))
    renamed = Sample(rows.scores, 1 - rows.labels, 1 - rows.truth)
    for other in (shuffled, renamed):
        outcome = result(other, path)
        for before, after in zip(expected.table, outcome.table, strict=True):
            np.testing.assert_array_equal(before, after)
        assert outcome[0] == expected[0]
        assert outcome[2] == expected[2]


@pytest.mark.parametrize("path", [None, "tierwise"])
@pytest.mark.parametrize("rows", [sample("hopeless"), sample("monotone", n=10), sample("monotone", n=0)])
def test_impossible_means_none(rows: Sample, path: str | None) -> None:
    assert result(rows, path)[:3] == (None, None, None)


def test_silent_judges_certify_nothing() -> None:
    rows = sample("monotone")
    silent = Sample(np.zeros_like(rows.scores), np.full_like(rows.labels, -1), rows.truth)
    assert result(silent).chosen is None
    assert result(silent).table.accepted.max() == 0


def test_no_majority_counts_as_an_error() -> None:
    rows = Sample(np.ones((100, 2)), np.zeros((100, 2), dtype=int), np.full(100, -1))
    assert result(rows).table.errors.max() == 100


def test_tierwise_tests_each_tier_on_what_is_left() -> None:
    rows = sample("monotone", n=2000)
    tests = tierwise(*rows, alpha=ALPHA, delta=DELTA)
    tier = decide(tests.thresholds, rows.scores, rows.labels)
    grid = np.linspace(1, 0, TIERWISE_GRID)
    for j in range(2):
        released = tier == j
        wrong = rows.labels[released, j] != rows.truth[released]
        assert (released.sum(), wrong.sum()) == (tests.accepted[j], tests.errors[j])
        assert tests.p_value[j] <= DELTA / 2
        assert tests.thresholds[j] in grid
    outcome = result(rows, "tierwise")
    np.testing.assert_array_equal(outcome.thresholds, tests.thresholds)
    assert outcome.table.policies[0].tolist() == [tests.thresholds[0], np.inf]


def test_a_tier_that_did_not_pass_is_skipped() -> None:
    rows = sample("monotone", n=1000)
    coin = Sample(rows.scores, rows.labels.copy(), rows.truth)
    coin.labels[::2, 0] = 1 - rows.truth[::2]
    tests = tierwise(*coin, alpha=ALPHA, delta=DELTA)
    assert tests.thresholds[0] == np.inf
    assert (tests.accepted[0], tests.errors[0], tests.p_value[0]) == (0, 0, 1)
    assert np.isfinite(tests.thresholds[1])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no procedure 'luck'"):
        result(sample("flat"), procedure="luck")
    with pytest.raises(ValueError, match="no path 'common'"):
        result(sample("flat"), "common")
    with pytest.raises(ValueError, match="prefer"):
        result(sample("flat"), prefer="luck")
