import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.certify import certify
from trustescalate.stats.groups import CertifiedGroups, certify_groups, shares_of_unfinished
from trustescalate.stats.paths import HEDGE, Plan, hedged_path, stacked_path
from trustescalate.stats.policy import common_path
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.validity import Sample, world

pytestmark = pytest.mark.slow
COMMON = Plan.laid_out((common_path(None, 2),), (1.0,), None)


def hedged(name: str) -> Plan:
    seen = world(name, 0.1, 2).scores
    return hedged_path(Votes(seen, np.zeros(seen.shape, dtype=int)), 2, 2)


def joined(parts: list[Sample]) -> tuple[Sample, np.ndarray]:
    group = np.repeat(np.arange(len(parts)), [len(part.truth) for part in parts])
    return Sample(*(np.concatenate(part) for part in zip(*parts, strict=True))), group


def certified(names: list[str], n: int = 400, seed: int = 0, **more: object) -> CertifiedGroups:
    rng = np.random.default_rng(seed)
    rows, group = joined([world(name, 0.1, 2).draw(n, rng) for name in names])
    return certify_groups(
        *rows,
        np.zeros(rows.scores.shape),
        group,
        **{  # type: ignore[arg-type]
            "alpha": np.full(len(names), 0.1),
            "delta": 0.1,
            "paths": [COMMON] * len(names),
            **more,
        },
    )


@pytest.mark.parametrize("name", ["flat", "monotone", "bad_at_top", "hopeless"])
def test_one_group_is_the_plain_certificate(name: str) -> None:
    rows = world(name, 0.1, 2).draw(400, np.random.default_rng(0))
    expected = certify(*rows, np.zeros(rows.scores.shape), alpha=0.1, delta=0.1, path=COMMON)
    result = certified([name]).groups[0]
    assert (result.chosen, result.coverage_lower) == (expected.chosen, expected.coverage_lower)
    end = len(result.table.p_value)
    for mine, other in zip(result.table, expected.table, strict=True):
        np.testing.assert_array_equal(mine, None if other is None else other[:end])
    assert end == len(expected.table.p_value) or COMMON.coverage[0][end - 1] == 1.0


def test_a_finished_group_hands_its_share_on() -> None:
    """Flat risk at .7 alpha passes everywhere with 4,000 rows; a group of hopeless rows never does."""
    result = certified(["flat", "monotone", "hopeless"], n=4000)
    assert result.finished.tolist() == [True, False, False]
    np.testing.assert_allclose(result.spent[1:], 0.05)
    assert result.groups[1].table.level.max() == pytest.approx(0.05)
    assert result.groups[1].chosen is not None
    assert result.groups[2].chosen is None


def test_a_certificate_alone_hands_nothing_on() -> None:
    result = certified(["monotone", "hopeless"], n=400)
    assert result.groups[0].chosen is not None
    assert result.finished.tolist() == [False, False]
    np.testing.assert_allclose(result.spent, 0.05)


def test_enough_ends_a_path_early_and_hands_on() -> None:
    result = certified(["monotone", "hopeless"], n=1000, target_coverage=0.5)
    assert result.finished.tolist() == [True, False]
    assert result.spent[1] == pytest.approx(0.1)
    end = len(result.groups[0].table.accepted)
    assert COMMON.coverage[0][end - 1] >= 0.5 > COMMON.coverage[0][end - 2]


def test_who_can_pass_nowhere_holds_no_share() -> None:
    rng = np.random.default_rng(0)
    rows, group = joined([world("monotone", 0.1, 2).draw(n, rng) for n in (400, 10)])
    paths = [COMMON] * 2
    result = certify_groups(
        *rows, np.zeros(rows.scores.shape), group, alpha=np.array([0.1, 0.1]), delta=0.1, paths=paths
    )
    np.testing.assert_allclose(result.spent, [0.1, 0])
    assert result.groups[1][:3] == (None, None, None)


# ── plans of several sub-paths ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["flat", "monotone", "bad_at_top", "deceptive", "hopeless"])
@pytest.mark.parametrize("n", [60, 400])
def test_one_group_with_a_plan_passes_what_the_plain_certificate_passes(name: str, n: int) -> None:
    plan = hedged(name)
    for seed in range(10):
        rows = world(name, 0.1, 2).draw(n, np.random.default_rng(seed))
        plain = certify(*rows, np.zeros(rows.scores.shape), alpha=0.1, delta=0.1, path=plan)
        result = certified([name], n=n, seed=seed, paths=[plan])
        table, parts = result.groups[0].table, result.parts[0]
        for part, before in enumerate(np.cumsum((0, *plan.sizes[:-1]))):
            mine = table.rejected[parts == part]
            other = plain.table.rejected[before : before + len(mine)]
            assert np.all(mine >= other)
        assert len(parts) == len(table.p_value) == len(table.policies)


def test_a_finished_sub_path_hands_its_share_on() -> None:
    """The common path passes up to its end; the hopeless last judge, alone, gets its .7, and fails."""
    rng = np.random.default_rng(0)
    n = 3000
    truth = np.zeros(n, dtype=int)
    labels = np.column_stack([rng.random(n) < 0.03, rng.random(n) < 0.5]).astype(int)
    scores = np.column_stack([0.6 + 0.4 * rng.random(n), 0.5 * rng.random(n)])
    parts = (np.array([[0.9, 0.9], [0.6, 0.6]]), np.array([[np.inf, 0.2], [np.inf, 0.0]]))
    plan = Plan(parts, (0.7, 0.3), (np.array([0.25, 1.0]), np.array([0.6, 1.0])))
    rule = {"alpha": np.array([0.1]), "delta": 0.1, "paths": [plan]}
    result = certify_groups(scores, labels, truth, scores, np.zeros(n, dtype=int), **rule)  # type: ignore[arg-type]
    table = result.groups[0].table
    assert result.parts[0].tolist() == [0, 0, 1, 1]
    assert table.rejected.tolist() == [True, True, False, False]
    assert table.level[2:].max() == pytest.approx(0.1)  # all of delta, of which it had 0.3
    assert result.finished.tolist() == [False]
    assert result.spent.tolist() == pytest.approx([0.1])


def test_sub_paths_of_groups_share_delta_by_weight() -> None:
    plan = hedged("adversarial")
    result = certified(["hopeless"] * 2, n=400, paths=[plan] * 2, weights=np.array([3.0, 1.0]))
    np.testing.assert_allclose(result.spent, [0.075, 0.025])
    for one, parts, weight in zip(result.groups, result.parts, (0.75, 0.25), strict=True):
        for part, share in enumerate(HEDGE):
            assert one.table.level[parts == part].sum() == pytest.approx(0.1 * weight * share)


def test_what_a_plan_leaves_unspent_stays_unspent() -> None:
    half = COMMON._replace(shares=(0.5,))
    result = certified(["hopeless", "hopeless"], paths=[half, half])
    np.testing.assert_allclose(result.spent, 0.025)
    assert sum(one.table.level.sum() for one in result.groups) == pytest.approx(0.05)


def test_a_stack_is_read_in_each_group() -> None:
    rng = np.random.default_rng(3)
    dev = world("monotone", 0.1, 2).draw(200, rng)
    plan = stacked_path(Rows(*dev, np.zeros(dev.scores.shape)), None, classes=2)
    rows, group = joined([world("monotone", 0.1, 2).draw(500, rng) for _ in range(2)])
    rule = {"delta": 0.1, "paths": [plan] * 2}
    result = certify_groups(*rows, rows.scores, group, alpha=np.array([0.1, 0.1]), **rule)  # type: ignore[arg-type]
    for g, one in enumerate(result.groups):
        some = [part[group == g] for part in rows]
        alone = certify(*some, some[0], alpha=0.1, delta=0.1, path=plan)
        end = len(one.table.errors)
        np.testing.assert_array_equal(one.table.errors, alone.table.errors[:end])
        assert one.thresholds is not None


def test_the_wish_is_granted_in_each_group() -> None:
    for prefer, price in (("coverage", None), ("cost", None), ("total", 0.5)):
        plan = hedged_path(None, 2, 2)
        rng = np.random.default_rng(1)
        rows, group = joined([world("monotone", 0.1, 2).draw(1500, rng) for _ in range(2)])
        costs = np.tile([0.01, 1.0], (3000, 1))
        result = certify_groups(
            *rows, costs, group, alpha=np.array([0.1, 0.1]), delta=0.1, paths=[plan] * 2,
            prefer=prefer, abstention_price=price,  # type: ignore[arg-type]
        )  # fmt: skip
        for one in result.groups:
            table = one.table
            passed = np.flatnonzero(table.rejected)
            paid = table.cost + (price or 0.0) * (1 - table.accepted / 1500)
            if prefer == "coverage":
                passed = passed[table.accepted[passed] >= table.accepted[passed].max() - 30]
            assert paid[one.chosen] == paid[passed].min()


def test_a_group_without_rows_abstains() -> None:
    rng = np.random.default_rng(0)
    rows = world("flat", 0.1, 2).draw(400, rng)
    plan = hedged_path(None, 2, 2)
    result = certify_groups(
        *rows, rows.scores, np.zeros(400, dtype=int), alpha=np.array([0.1, 0.1]), delta=0.1, paths=[plan] * 2
    )
    assert result.groups[1][:3] == (None, None, None)
    np.testing.assert_allclose(result.spent, [0.1, 0.0])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=8), st.data())
def test_shares_rise_as_groups_finish_and_add_up(groups: list[tuple[float, bool]], data: object) -> None:
    weights, finished = (np.array(part) for part in zip(*groups, strict=True))
    weights /= weights.sum()
    shares = shares_of_unfinished(weights, finished)
    if not finished.all():
        assert shares[~finished].sum() == pytest.approx(1)
    more = finished.copy()
    more[data.draw(st.integers(0, len(groups) - 1))] = True  # type: ignore[attr-defined]
    assert np.all(shares_of_unfinished(weights, more) >= shares - 1e-12)


def test_wrong_input_is_refused() -> None:
    for more, message in (
        ({"alpha": np.array([0.1])}, "shapes"),
        ({"weights": np.array([1.0, 0.0])}, "positive"),
        ({"target_coverage": 0.0}, "target_coverage"),
        ({"delta": 1.0}, "delta"),
        ({"alpha": np.array([0.1, 1.0])}, "alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            certified(["flat", "flat"], n=50, **more)
    rows = np.ones((2, 1))
    with pytest.raises(ValueError, match=r"0\.\.0"):
        certify_groups(
            rows,
            rows.astype(int),
            np.ones(2, dtype=int),
            rows,
            np.array([0, 1]),
            alpha=np.array([0.1]),
            delta=0.1,
            paths=[rows[:1]],
        )
