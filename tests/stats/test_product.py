"""Limits on the mean of given items, and on its change: certain, covered, and decided with few errors."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from trustescalate.stats.inference import Survey
from trustescalate.stats.product import (
    Sampled,
    Verdicts,
    change_limits,
    items_limits,
    labels_needed,
    sampled_limits,
)
from trustescalate.stats.this_run import two_step_errors_upper

ALPHA, DRAWS = 0.15, 150
Rng = np.random.Generator


def each_its_own(low: Any, high: Any, fall: Any, rise: Any, losses: float, **more: float) -> Verdicts:
    """Verdicts of items of which each is a kind."""
    return Verdicts(np.arange(len(low)), low, high, fall, rise, losses, **more)


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────


def test_no_way_to_err_passes_the_limits() -> None:
    """Five ratings of 1 to 5 within one grade of the truth, two of them wrong, one unknown, one known."""
    verdict = np.array([5.0, 4.0, 2.0, 1.0, 3.0])
    low, high = np.maximum(1, verdict - 1), np.minimum(5, verdict + 1)
    limits = items_limits(
        each_its_own(
            np.append(low, [1.0, 4.0]),
            np.append(high, [5.0, 4.0]),
            np.append(low - 1, [0.0, 0.0]),
            np.append(5 - high, [0.0, 0.0]),
            losses=2,
        )
    )
    means = []
    for wrong in combinations(range(5), 2):
        for end, right in ((1.0, low), (5.0, high)):
            label = np.where(np.isin(np.arange(5), wrong), end, right)
            means.append((label.sum() + end + 4.0) / 7)
    assert limits == pytest.approx((min(means), max(means)))


def test_a_loss_that_is_shared_moves_a_tie_by_one_half() -> None:
    """Ties count one half: a loss of 1 is two ties that people break, or one reversed preference."""
    verdict = np.array([0.5, 0.5, 1.0])
    for losses, low, high in ((1, 1.0, 3.0), (1.5, 0.5, 3.0), (0.5, 1.5, 2.5)):
        found = items_limits(each_its_own(verdict, verdict, verdict, 1 - verdict, losses, per_loss=1.0))
        assert found == pytest.approx((low / 3, high / 3))


def test_items_of_one_kind_count_as_each_of_them_would() -> None:
    rng = np.random.default_rng(1)
    table, kind = np.sort(rng.random((4, 5)), axis=0), rng.integers(5, size=200).astype(np.int8)
    low, high, fall, rise = table[1], table[2], table[1] - table[0], table[3] - table[2]
    for losses, more in ((0, {}), (7.5, {}), (500, {}), (7.5, {"per_loss": 0.4})):
        together = Verdicts(kind, low, high, fall, rise, losses, **more)
        apart = each_its_own(low[kind], high[kind], fall[kind], rise[kind], losses, **more)
        assert items_limits(together) == pytest.approx(items_limits(apart), abs=1e-12)
        some = kind > 1
        assert items_limits(together.of(some)) == pytest.approx(items_limits(apart.of(some)), abs=1e-12)


def test_a_change_is_limited_by_both_runs_errors_outside_of_equal_items() -> None:
    won, zero = np.ones(10), np.zeros(10)
    after, before = each_its_own(won, won, won, zero, 2), each_its_own(zero, zero, zero, won, 3)
    assert change_limits(after, before, np.arange(10) < 4) == pytest.approx((0.6 - 0.5, 0.6))
    assert change_limits(after, before, np.arange(10) < 10) == (0.0, 0.0)
    none = won < 0
    with pytest.raises(ValueError, match="no items"):
        change_limits(after.of(none), before.of(none), none[:0])
    with pytest.raises(ValueError, match="no items"):
        items_limits(after.of(none))


@pytest.mark.parametrize("side", [0.0, 1.0])
def test_verdicts_that_err_at_alpha_cover_and_verdicts_that_are_believed_do_not(side: float) -> None:
    """Every error on one side, risk exactly alpha, abstained items all the other way: the worst there is."""
    rng, missed, believed = np.random.default_rng(0), 0, 0
    for _ in range(2 * DRAWS):
        label = (rng.random(300) < 0.5).astype(float)
        released = rng.random(300) < 0.8
        errors = np.where(label == side, rng.random(300) < 2 * ALPHA, False) & released
        verdict = np.where(errors, 1 - label, label)
        count = int(released.sum())
        limit = int(two_step_errors_upper(np.array([count]), np.array([ALPHA]), 0.05))
        low, high = np.where(released, verdict, 0.0), np.where(released, verdict, 1.0)
        found = items_limits(each_its_own(low, high, verdict * released, (1 - verdict) * released, limit))
        missed += not found[0] - 1e-12 <= label.mean() <= found[1] + 1e-12
        trusted = items_limits(each_its_own(verdict, verdict, verdict, 1 - verdict, 0))
        believed += not trusted[0] - 1e-12 <= label.mean() <= trusted[1] + 1e-12
    assert missed <= binom.ppf(1 - 1e-6, 2 * DRAWS, 0.05)
    assert believed > DRAWS


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_with_every_label_has_one_mean() -> None:
    label = np.array([1.0, 0.0, 1.0, 1.0])
    survey = Survey(np.zeros(4), np.arange(4), label, ends=(0.0, 1.0))
    found = sampled_limits(survey, 0.05, known=np.array([0.0]))
    assert (found.estimate, found.low, found.high, found.basis) == (0.6, 0.6, 0.6, "all labelled")
    other = sampled_limits(survey, 0.05, target="population")
    assert other.low < 0.5 < other.high


def test_labels_that_are_known_are_part_of_the_mean() -> None:
    survey = Survey(np.zeros(60), np.arange(30), np.tile([1.0, 0.0], 15), ends=(0.0, 1.0))
    alone, beside = sampled_limits(survey, 0.05), sampled_limits(survey, 0.05, known=np.ones(60))
    assert beside.estimate == pytest.approx(0.5 * alone.estimate + 0.5)
    assert beside.low == pytest.approx(0.5 * alone.low + 0.5)
    with pytest.raises(ValueError, match="ends"):
        sampled_limits(survey._replace(ends=None), 0.05)


def test_a_batch_has_hypergeometric_limits() -> None:
    """Every number of ones among 40 items that 30 labels do not contradict at 2.5 % a side, and no other."""
    label = np.repeat([1.0, 0.0], [6, 24])
    found = sampled_limits(Survey(np.zeros(40), np.arange(30), label, ends=(0.0, 1.0)), 0.05)
    kept = [
        ones
        for ones in range(6, 17)
        if min(hypergeom.cdf(6, 40, ones, 30), hypergeom.sf(5, 40, ones, 30)) > 0.025
    ]
    assert (found.basis, found.low, found.high) == ("exact", min(kept) / 40, max(kept) / 40)


# ── decisions ────────────────────────────────────────────────────────────────────────────────────


class Drawn(NamedTuple):
    """Items of two systems with labels and predictions; the judge's errors differ between the two."""

    label: tuple[np.ndarray, np.ndarray]
    prediction: tuple[np.ndarray, np.ndarray]


def drawn(rng: Rng, *, size: int = 1000, drop: float = 0.0) -> Drawn:
    """Half are good, alike in both; the judge misses 5 % of the first system, and flatters the second."""
    luck, chance = rng.random(size), rng.beta(1, 1, size=size)
    labels = [(luck < np.clip(chance - k * drop, 0, 1)).astype(float) for k in (0, 1)]
    errors = (rng.random(size) < 0.05, (rng.random(size) < 0.12) & (labels[1] == 0))
    seen = [
        0.1 + 0.8 * np.where(wrong, 1 - label, label) for wrong, label in zip(errors, labels, strict=True)
    ]
    return Drawn((labels[0], labels[1]), (seen[0], seen[1]))


def pair(world: Drawn, rows: np.ndarray) -> Survey:
    before, after = world.label
    change = world.prediction[1] - world.prediction[0]
    return Survey(change, rows, (after - before)[rows], ends=(-1.0, 1.0))


def decided(seed: int, n: int, drop: float) -> tuple[int, int, int]:
    """How many of DRAWS candidates pass and fail max_drop = .02, and pass where verdicts are believed."""
    rng, passed, failed, believed = np.random.default_rng(seed), 0, 0, 0
    for _ in range(DRAWS):
        world = drawn(rng, drop=drop)
        found = sampled_limits(pair(world, rng.choice(1000, n, replace=False)), 0.05)
        true = world.label[1].mean() - world.label[0].mean()
        passed += found.low >= -0.02 > true or (drop == 0 and found.low >= -0.02)
        failed += found.high < -0.02 <= true or (drop > 0 and found.high < -0.02)
        believed += (world.prediction[1].mean() - world.prediction[0].mean()) / 0.8 >= -0.02
    return passed, failed, believed


@pytest.mark.slow
def test_a_gate_seldom_errs_and_decides_with_enough_labels() -> None:
    """A judge that flatters the candidate by six points hides a drop of five: its verdicts pass it."""
    level = binom.ppf(1 - 1e-6, DRAWS, 0.025)
    equal_passed, equal_failed, _ = decided(1, 800, 0.0)
    worse_passed, worse_failed, believed = decided(2, 800, 0.05)
    few_passed, few_failed, _ = decided(3, 60, 0.05)
    assert equal_failed <= level
    assert worse_passed <= level
    assert equal_passed > 0.9 * DRAWS
    assert worse_failed > 0.9 * DRAWS
    assert few_passed <= level
    assert few_failed < 0.1 * DRAWS
    assert believed > 0.5 * DRAWS


def test_the_labels_that_are_said_to_be_needed_are_about_enough() -> None:
    """With half as many again as are said, most means that lie .05 above the value are decided."""
    enough, numbers = 0, []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        world = drawn(rng, size=4000)
        order, value = rng.permutation(4000), float(world.label[0].mean()) - 0.05

        def limits(n: int, order: np.ndarray = order, world: Drawn = world) -> Sampled:
            rows = order[:n]
            survey = Survey(world.prediction[0], rows, world.label[0][rows], ends=(0.0, 1.0))
            return sampled_limits(survey, 0.05)

        before = limits(100)
        if before.low >= value:
            continue
        reach = before.estimate - before.low if before.estimate >= value else before.high - before.estimate
        more, unit = labels_needed(abs(before.estimate - value), before, 100, 4000, 0.05, reach=reach)
        assert unit == "human labels"
        assert more is not None
        numbers.append(more)
        enough += limits(min(4000, 100 + more * 3 // 2)).low >= value
    assert len(numbers) >= 10
    assert enough >= 0.8 * len(numbers)
    assert np.median(numbers) < 600


@pytest.mark.parametrize("basis", ["predictions", "exact"])
def test_a_label_of_every_item_decides_about_these_and_not_about_a_population(basis: str) -> None:
    found = Sampled(0.5, 0.4, 0.6, basis, residual=0.1, spread=0.25)  # type: ignore[arg-type]
    assert labels_needed(0.0, found, 120, 500, 0.05, reach=0.1) == (380, "human labels")
    assert labels_needed(0.0, found, 120, 500, 0.05, "population", reach=0.1) == (None, "items")
    assert labels_needed(0.01, found, 120, 500, 0.05, "population", reach=0.1) == (9104, "items")
    more, unit = labels_needed(0.06, found, 120, 500, 0.05, "population", reach=0.1)
    assert (unit, more is not None and 0 < more <= 380) == ("human labels", True)
