import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.certify import certify
from trustescalate.stats.confidence import Bounds
from trustescalate.stats.paths import (
    HEDGE,
    PATHS,
    Basis,
    Plan,
    hedged_path,
    pareto_path,
    pooled_path,
    stacked_path,
)
from trustescalate.stats.policy import common_path, decide, evaluate
from trustescalate.stats.pooling import (
    MARGIN,
    Rows,
    Stack,
    Votes,
    agreement_stack,
    fit_stack,
    pooled_bounds,
    stacked_scores,
)
from trustescalate.stats.validity import world

LEVELS = [0.0, 0.3, 0.5, 0.5000000000000001, 0.75, 0.9, 1.0]


def random_rows(seed: int, n: int, m: int, c: int = 2) -> Rows:
    rng = np.random.default_rng(seed)
    scores = np.where(rng.random((n, m)) < 0.5, rng.choice(LEVELS, (n, m)), rng.random((n, m)))
    return Rows(scores, rng.integers(-1, c, (n, m)), rng.integers(-1, c, n), rng.random((n, m)))


def from_world(name: str, n: int, seed: int = 0, tiers: int = 2) -> Rows:
    sample = world(name, 0.1, tiers).draw(n, np.random.default_rng(seed))
    costs = np.tile(10.0 ** np.arange(tiers), (n, 1))
    return Rows(*sample, costs)


@pytest.mark.parametrize("name", PATHS)
@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 30), st.integers(1, 4), st.integers(2, 4))
def test_every_path_is_an_array_of_thresholds_and_can_be_certified(
    name: str, seed: int, n: int, p: int, m: int, c: int
) -> None:
    dev = random_rows(seed, n, m, c)
    pilot = random_rows(seed + 1, p, m, c).votes
    plan = PATHS[name].build(Basis(dev, pilot, m, c))
    again = PATHS[name].build(Basis(dev, pilot, m, c))
    assert sum(plan.shares) == pytest.approx(1)
    for part, same, coverage in zip(plan.parts, again.parts, plan.coverage, strict=True):
        np.testing.assert_array_equal(part, same)
        assert part.ndim == 2
        assert part.shape[1] == m * len(plan.readings)
        assert 1 <= len(part) <= 40
        assert np.isfinite(part).reshape(len(part), -1, m).any(axis=2).sum(axis=1).max() <= 1
        assert coverage.shape == (len(part),)
        assert np.all((coverage >= 0) & (coverage <= 1))
        assert not np.isnan(part).any()
        if name != "pareto":
            assert np.all(part[1:] <= part[:-1])
    rows = random_rows(seed + 2, 50, m, c)
    result = certify(*rows, alpha=0.2, delta=0.1, path=plan)
    assert len(result.table.policies) == sum(map(len, plan.parts))


@pytest.mark.parametrize("name", PATHS)
def test_a_path_written_as_json_decides_the_same(name: str) -> None:
    dev, rows = from_world("monotone", 100), from_world("monotone", 300, seed=1)
    plan = PATHS[name].build(Basis(dev, None, 2, 2))
    text = json.dumps(plan, default=lambda part: part.tolist())
    parts, shares, coverage, readings = json.loads(text)
    stacks = [None if stack is None else Stack(stack[0], np.array(stack[1]), stack[2]) for stack in readings]
    back = Plan(tuple(map(np.array, parts)), tuple(shares), tuple(map(np.array, coverage)), tuple(stacks))
    for before, after in zip(plan.read(rows.votes), back.read(rows.votes), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(plan.parts, back.parts, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", PATHS)
def test_human_labels_are_read_only_where_they_must_be(name: str) -> None:
    dev = from_world("monotone", 100)
    flipped = dev._replace(truth=1 - dev.truth)
    before, after = (PATHS[name].build(Basis(rows, None, 2, 2)) for rows in (dev, flipped))
    same = all(np.array_equal(*parts) for parts in zip(before.parts, after.parts, strict=False))
    for one, other in zip(before.readings, after.readings, strict=True):
        if one is not None and other is not None:
            same = same and np.array_equal(one.weights, other.weights)
    assert same != PATHS[name].needs_dev
    if PATHS[name].needs_dev:
        for nothing in (None, dev.take(np.zeros(0, dtype=int))):
            with pytest.raises(ValueError, match="dev rows"):
                PATHS[name].build(Basis(nothing, dev.votes, 2, 2))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("place", ["monotone", "deceptive"])
def test_every_path_but_the_common_one_survives_judges_that_are_confidently_wrong(
    name: str, place: str
) -> None:
    dev, rows = from_world(place, 150), from_world(place, 800, seed=1)
    plan = PATHS[name].build(Basis(dev, None, 2, 2))
    result = certify(*rows, alpha=0.1, delta=0.1, path=plan)
    assert (result.chosen is None) == (name == "common" and place == "deceptive")


def test_hedged_has_three_sub_paths_and_the_last_judge_alone_pays_nobody_else() -> None:
    rows = from_world("monotone", 200, tiers=3)
    plan = hedged_path(rows.votes, 3, 2)
    together, alone, pooled = plan.parts
    np.testing.assert_array_equal(together[:, :3], common_path(rows.scores, 3))
    np.testing.assert_array_equal(alone[:, 2:3], common_path(rows.scores[:, 2:], 1))
    np.testing.assert_array_equal(pooled[:, 3:], pooled_path(rows.votes, 3, 2).parts[0])
    assert np.all(np.isinf(alone[:, :2]))
    assert np.all(np.isinf(pooled[:, :3]))
    assert evaluate(alone, *plan.rows(rows)).cost.tolist() == pytest.approx([100.0] * len(alone))
    assert plan.shares == HEDGE
    assert hedged_path(None, 1, 2).shares == (1.0,)


@pytest.mark.parametrize("name", PATHS)
def test_expected_coverage_is_that_of_rows_without_labels(name: str) -> None:
    dev, seen = from_world("monotone", 120), from_world("monotone", 200, seed=1)
    plan = PATHS[name].build(Basis(dev, seen.votes, 2, 2))
    basis = seen if not PATHS[name].needs_dev else Rows(*map(np.concatenate, zip(dev, seen, strict=True)))
    counted = evaluate(plan.policies, *plan.rows(basis)).accepted / len(basis.truth)
    np.testing.assert_array_equal(np.concatenate(plan.coverage), counted)


def test_a_plan_without_the_parts_that_pool_has_all_of_delta_for_the_others() -> None:
    rows = from_world("monotone", 200)
    plan = hedged_path(rows.votes, 2, 2)
    alone = plan.alone()
    assert alone.readings == (None,)
    assert alone.shares == pytest.approx((0.22 / 0.52, 0.3 / 0.52))
    for part, before in zip(alone.parts, plan.parts, strict=False):
        np.testing.assert_array_equal(part, before[:, :2])


def test_a_silent_tier_never_accepts() -> None:
    dev = from_world("monotone", 100)
    dev.labels[:, 0] = -1
    assert np.isinf(pareto_path(dev).parts[0][:, 0]).all()


@pytest.mark.parametrize("place", ["monotone", "deceptive", "bad_at_top"])
def test_pareto_comes_close_to_a_full_search(place: str) -> None:
    """On the dev rows themselves: no cascade of two grids has much more coverage with as few errors."""
    dev = from_world(place, 80)
    part = pareto_path(dev, grid=8).parts[0]
    levels = [np.append(np.inf, np.quantile(dev.scores[:, j], np.linspace(0, 1, 8))) for j in (0, 1)]
    every = np.stack(np.meshgrid(*levels), axis=-1).reshape(-1, 2)
    ours, theirs = evaluate(part, *dev), evaluate(every, *dev)
    for allowed in (2, 4, 8):
        most = theirs.accepted[theirs.errors <= allowed].max()
        assert ours.accepted[ours.errors <= allowed].max() >= most - 0.15 * len(dev.truth)


# ── stacked scores ───────────────────────────────────────────────────────────────────────────────


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 4))
def test_renaming_labels_renames_verdicts_and_changes_no_score(seed: int, m: int, c: int) -> None:
    dev, rows = random_rows(seed, 80, m, c), random_rows(seed + 1, 40, m, c)
    stack = fit_stack(dev, c)
    new_name = np.append(np.random.default_rng(seed).permutation(c), -1)
    before = stacked_scores(stack, rows.votes)
    after = stacked_scores(stack, Votes(rows.scores, new_name[rows.labels]))
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(new_name[before.labels], after.labels)
    renamed = fit_stack(dev._replace(labels=new_name[dev.labels], truth=new_name[dev.truth]), c)
    np.testing.assert_allclose(stack.weights, renamed.weights, atol=1e-7)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 4))
def test_a_row_scores_the_same_bits_alone_and_before_later_tiers_are_asked(seed: int, m: int, c: int) -> None:
    rows = random_rows(seed, 33, m, c)
    stack = Stack(c, np.random.default_rng(seed).normal(size=(m, m, 2)))
    scores, labels = stacked_scores(stack, rows.votes)
    assert np.all((scores >= 0) & (scores <= 1))
    np.testing.assert_array_equal(scores == 0, labels < 0)
    for i in range(0, 33, 8):
        for j in range(m):
            known = Votes(rows.scores[i : i + 1].copy(), rows.labels[i : i + 1].copy())
            known.labels[:, j + 1 :] = -1
            alone = stacked_scores(stack, known)
            assert (alone.scores[0, j], alone.labels[0, j]) == (scores[i, j], labels[i, j])


def test_agreement_of_independent_judges_becomes_confidence() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=2000)
    wrong = rng.random((2000, 3)) < 0.2
    labels = np.where(wrong, 1 - truth[:, None], truth[:, None])
    rows = Rows(np.ones((2000, 3)), labels, truth, np.ones((2000, 3)))
    read = stacked_scores(fit_stack(rows, 2), rows.votes)
    unanimous = (labels == labels[:, :1]).all(axis=1)
    exact = 0.8**3 / (0.8**3 + 0.2**3)
    assert read.scores[unanimous, 2] == pytest.approx(exact, abs=0.02)
    assert read.scores[~unanimous, 2].mean() == pytest.approx(0.8, abs=0.03)


def test_one_tier_without_a_verdict_says_nothing() -> None:
    stack = Stack(3, np.ones((2, 2, 2)))
    read = stacked_scores(stack, Votes(np.array([[0.0, 0.9]]), np.array([[-1, 2]])))
    assert read.labels.tolist() == [[-1, 2]]
    assert read.scores[0, 0] == 0


def test_wrong_input_is_refused() -> None:
    rows = from_world("monotone", 20)
    with pytest.raises(ValueError, match="number of classes"):
        fit_stack(rows, 1)
    with pytest.raises(ValueError, match="must be"):
        stacked_scores(fit_stack(rows, 2), Votes(rows.scores[:, :1], rows.labels[:, :1]))
    with pytest.raises(ValueError, match="below 2"):
        stacked_scores(fit_stack(rows, 2), Votes(rows.scores, rows.labels + 2))


def test_thresholds_of_stacked_scores_are_about_stacked_scores() -> None:
    dev, rows = from_world("monotone", 150), from_world("monotone", 400, seed=1)
    plan = stacked_path(dev, None, classes=2)
    result = certify(*rows, alpha=0.1, delta=0.1, path=plan)
    assert result.thresholds is not None
    read = plan.read(rows.votes)
    tier = decide(result.thresholds, read.scores, read.labels)
    assert int((tier >= 0).sum()) == result.table.accepted[result.chosen]


# ── pooled scores ────────────────────────────────────────────────────────────────────────────────


def test_pooled_scores_by_hand() -> None:
    """90 % agreement counts 1, as the last judge does; 50 % nothing; log-odds are cut at 3."""
    labels = np.array([[0, 0, 0]] * 400 + [[1, 0, 0]] * 370 + [[0, 1, 1]] * 30)
    labels[:, 0] = np.where(np.arange(800) % 2 == 0, labels[:, 2], 1 - labels[:, 2])
    stack = agreement_stack(Votes(np.full((800, 3), 0.9), labels), tiers=3, classes=2)
    assert stack.weights[2, :, 0].tolist() == pytest.approx([0.0, 1.5, 1.0])
    read = stacked_scores(stack, Votes(np.array([[0.9, 0.99, 0.8]]), np.array([[1, 0, 1]])))
    against = 1.5 * 3.0 - np.log(0.8 / 0.2)
    assert read.labels.tolist() == [[-1, 0, 0]]
    assert read.scores[0, 2] == pytest.approx(1 / (1 + np.exp(-against)))


def test_weights_with_three_labels_count_against_both_others() -> None:
    labels = np.array([[0, 0]] * 60 + [[1, 0]] * 40)
    stack = agreement_stack(Votes(np.full((100, 2), 0.9), labels), tiers=2, classes=3)
    share = 61.5 / 103
    assert stack.weights[1, 0, 0] == pytest.approx(np.log(2 * share / (1 - share)) / np.log(18), abs=1e-6)
    with pytest.raises(ValueError, match="2 classes"):
        agreement_stack(None, tiers=2, classes=1)


def test_where_nobody_speaks_every_tier_counts_the_same() -> None:
    silent = Votes(np.zeros((20, 3)), np.full((20, 3), -1))
    for pilot in (None, silent):
        assert agreement_stack(pilot, tiers=3, classes=2).weights[2, :, 0].tolist() == [1.0, 1.0, 1.0]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 4))
def test_bounds_hold_whatever_the_open_ensemble_says(seed: int, m: int, c: int) -> None:
    """Any verdict with a score inside its bounds gives a pooled score inside theirs, and the same label."""
    rng = np.random.default_rng(seed)
    rows = random_rows(seed, 1, m, c)
    pilot = random_rows(seed + 1, 50, m, c)
    stack, tier = agreement_stack(pilot.votes, m, c), int(rng.integers(m))
    seen = Votes(rows.scores.copy(), rows.labels.copy())
    seen.labels[:, tier:] = -1
    low, high = np.sort(rng.choice([*LEVELS, *rng.random(2)], size=2))
    label = int(rng.integers(-1, c))
    open_bounds = Bounds(label, float(low) if label >= 0 else 0.0, float(high))
    result = pooled_bounds(stack, seen, tier, open_bounds)
    for score in (open_bounds.low, float(high), *rng.uniform(open_bounds.low, high, size=4)):
        for stated in (label,) if label >= 0 else range(-1, c):
            full = Votes(seen.scores.copy(), seen.labels.copy())
            full.scores[0, tier], full.labels[0, tier] = score, stated
            read = stacked_scores(stack, full)
            if result.label >= 0:
                assert read.labels[0, tier] == result.label
            assert result.low - MARGIN <= read.scores[0, tier] <= result.high + MARGIN
