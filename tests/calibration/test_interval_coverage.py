"""Everything that is printed as a 95 % interval misses at most 7.5 %: docs/intervals.md, and a fresh draw."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import fisher_exact
from scipy.stats import t as student_t

from benchmarks.intervals import DELTA, MANY, TITLES, Misses, World, measure, worlds
from trustescalate.calibration.diagnostics import human_agreement
from trustescalate.calibration.population import agreement_limits
from trustescalate.records import Annotation, Task, TaskKind
from trustescalate.stats.agreement import agreement_interval, leave_one_out_agreement, no_interval
from trustescalate.stats.inference import Survey, ppi_mean
from trustescalate.stats.intervals import betting_interval, effective_number, enough, mean_interval
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs" / "intervals.md").read_text("utf-8")
DRAWN, MOST = 1000, 0.075
FRESH = int(os.environ.get("TRUSTESCALATE_TRIALS", "25"))
ROW = re.compile(r"^\| (.+) \| ([\d.]+) \| (\d+) \|$", re.MULTILINE)
WORLDS = list(worlds())


def page() -> dict[tuple[str, str], tuple[float, float]]:
    """The share of draws that missed, and that gave an interval, by kind and world."""
    parts = {kind: PAGE.split(f"### {title}\n")[1].split("\n### ")[0] for kind, title in TITLES.items()}
    return {
        (kind, name): (float(missed) / 100, float(shown) / 100)
        for kind, part in parts.items()
        for name, missed, shown in ROW.findall(part)
    }


def test_the_page_has_every_world_and_none_misses_too_often() -> None:
    rows = page()
    assert list(rows) == sorted(
        ((each.kind, each.name) for each in WORLDS), key=lambda row: list(TITLES).index(row[0])
    )
    assert {row: missed for row, (missed, _) in rows.items() if missed > MOST} == {}


@pytest.mark.parametrize("kind", TITLES)
def test_the_page_says_what_is_measured(kind: str) -> None:
    rows = page()
    mine = [world for world in WORLDS if world.kind == kind]
    fresh = [measure(world, FRESH, seed=1) for world in mine]
    for world, seen in zip(mine, fresh, strict=True):
        missed, shown = rows[world.kind, world.name]
        for stated, count in ((missed, seen.missed), (shown, seen.shown)):
            before = round(stated * DRAWN)
            table = [[before, DRAWN - before], [count, FRESH - count]]
            assert fisher_exact(table).pvalue > 1e-6, (world.name, stated, count / FRESH)
    drawn = FRESH * len(mine)
    assert sum(each.missed for each in fresh) <= violation_limit(drawn, MOST)


# ── what the guards are for: without them these miss ─────────────────────────────────────────────


def missed(world: World, trials: int = 300) -> Misses:
    return measure(world, trials, seed=2)


def test_students_interval_over_few_clusters_would_miss() -> None:
    def draw(rng: np.random.Generator) -> tuple[float, float]:
        share = (rng.random(30) < 0.05).astype(float)
        reach = share.std(ddof=1) / np.sqrt(30) * student_t.isf(DELTA / 2, 29)
        return share.mean() - reach, share.mean() + reach

    assert missed(World("clusters", "unguarded", 0.05, draw)).missed > violation_limit(300, MOST)


def test_rows_of_clusters_taken_for_independent_would_miss() -> None:
    def draw(rng: np.random.Generator) -> tuple[float, float]:
        right = np.repeat(rng.random(30) < 0.9, 10).astype(float)
        return mean_interval(right, DELTA)[:2]

    assert missed(World("clusters", "blind", 0.9, draw)).missed > violation_limit(300, MOST)


def test_predictions_that_hardly_ever_err_would_mislead() -> None:
    def draw(rng: np.random.Generator) -> tuple[float, float]:
        label = (rng.random(MANY) < 0.5).astype(float)
        seen = np.where(rng.random(MANY) < 0.02, 1.0, label)
        result = ppi_mean(Survey(seen, np.arange(100), label[:100]), DELTA)
        return result.low, result.high

    assert missed(World("one-sided judge", "unguarded", 0.5, draw)).missed > violation_limit(300, MOST)


@pytest.mark.parametrize("rate", [0.99, 0.98])
@pytest.mark.parametrize("labels", [60, 120])
def test_unanimous_labels_have_a_width_with_strata_and_clusters(rate: float, labels: int) -> None:
    rng, off = np.random.default_rng(labels), np.zeros(3, dtype=int)
    for _ in range(300):
        y = (rng.random(600) < rate).astype(float)
        seen = np.clip(0.6 * y + 0.2 + rng.normal(0, 0.1, 600), 0, 1)
        cuts = ((None, None), (np.arange(600) % 2, None), (None, np.arange(600) // 2))
        for k, (stratum, cluster) in enumerate(cuts):
            survey = Survey(seen, np.arange(labels), y[:labels], stratum, cluster)
            low, high = ppi_mean(survey, DELTA).label_only
            assert high - low > 0.02
            off[k] += not low <= rate <= high
    assert off.max() <= violation_limit(300, DELTA)


# ── the parts ────────────────────────────────────────────────────────────────────────────────────


def test_betting_holds_for_strata_of_other_means_and_draws_without_replacement() -> None:
    rng, off = np.random.default_rng(3), np.zeros(2, dtype=int)
    batch = (np.arange(200) < 20).astype(float)
    for _ in range(400):
        values = (rng.random(60) < np.repeat([0.02, 0.3], 30)).astype(float)
        drawn = rng.choice(batch, 60, replace=False)
        for k, (each, truth) in enumerate(((values, 0.16), (drawn, 0.1))):
            low, high, basis = betting_interval(each, np.ones(60), DELTA)
            assert basis == "betting"
            off[k] += not low <= truth <= high
    assert off.max() <= violation_limit(400, DELTA)


def test_betting_by_enumeration() -> None:
    """Over all outcomes of 8 clusters of 1 and 3 rows the limits miss with probability at most delta."""
    size = np.array([1.0, 3, 1, 3, 1, 1, 3, 1])
    for rate in (0.5, 0.2, 0.05):
        missing = 0.0
        for outcome in np.indices((2,) * 8).reshape(8, -1).T:
            low, high, _ = betting_interval(outcome * size, size, 0.1)
            chance = np.prod(np.where(outcome == 1, rate, 1 - rate))
            missing += chance * (not low <= rate <= high)
        assert missing <= 0.1


def test_what_is_effective() -> None:
    assert effective_number(np.tile([1.0, -1.0], 50)) == pytest.approx(100)
    assert effective_number(np.r_[np.zeros(99), 1.0]) == 1
    assert (enough(np.full(9, 0.1)), enough(np.array([0.1, 2.0]))) == (10, 20)
    assert mean_interval(np.zeros(0), DELTA) == (0.0, 1.0, "exact")
    for bad in (np.array([1.2]), np.array([np.nan])):
        with pytest.raises(ValueError, match="values"):
            mean_interval(bad, DELTA)
    with pytest.raises(ValueError, match="must be"):
        mean_interval(np.ones(2), DELTA, cluster=np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="delta"):
        mean_interval(np.ones(2), 1.0)
    with pytest.raises(ValueError, match="totals"):
        betting_interval(np.array([2.0]), np.ones(1), DELTA)
    with pytest.raises(ValueError, match="ends"):
        ppi_mean(Survey(np.zeros(9), np.arange(3), np.array([0.0, 1, 2]), ends=(0.0, 1.0)), DELTA)


def test_labels_of_an_unknown_scale_have_no_interval_unless_many_vary() -> None:
    label = np.r_[np.full(39, 5.0), 1.0]
    assert ppi_mean(Survey(np.zeros(90), np.arange(40), label), DELTA).label_only == (-np.inf, np.inf)
    low, high = ppi_mean(Survey(np.zeros(90), np.arange(40), label, ends=(1.0, 5.0)), DELTA).label_only
    assert 4 < low < 4.9 < high <= 5


def test_the_gate_keeps_true_guarantees_on_rows_of_clusters() -> None:
    """The upper end is below a true agreement of .9 in at most 2.5 % of draws; row by row in more."""
    rng, off = np.random.default_rng(4), np.zeros(2, dtype=int)
    units = [f"group {k}" for k in np.repeat(np.arange(25), 12)]
    alone = [f"item {k}" for k in range(300)]
    for _ in range(300):
        lost = np.repeat(rng.random(25) < 0.1, 12).astype(float).tolist()
        off += [agreement_limits(lost, names, DELTA)[1] < 0.9 for names in (units, alone)]
    assert off[0] <= violation_limit(300, DELTA / 2) < off[1]


def test_leave_one_out_is_no_ceiling_and_the_upper_limits_are() -> None:
    """Three people right 80 % of the time: .763 between them, while a perfect judge agrees .896 with most."""
    rng, n = np.random.default_rng(0), 4000
    right = rng.random((n, 3)) < 0.8
    notes = [
        Annotation(f"{i}", name, "A" if right[i, k] else "B")
        for i in range(n)
        for k, name in enumerate("xyz")
    ]
    result = human_agreement(Task(TaskKind.PAIRWISE, "?", ("A", "B")), notes)
    assert result is not None
    perfect = float((right.sum(axis=1) >= 2).mean())
    assert result.agreements / result.comparisons == pytest.approx(0.763, abs=0.012)
    assert perfect == pytest.approx(0.896, abs=0.015)
    assert (result.decidable, result.rows) == (n, n)
    most = np.maximum(right.sum(axis=1), 3 - right.sum(axis=1)) / 3
    assert result.largest_share == pytest.approx(float(most.mean()))
    assert result.largest_share_interval[0] < result.largest_share < result.largest_share_interval[1]


def test_two_people_who_differ_leave_no_majority() -> None:
    notes = [Annotation(f"{i}", who, "A" if who == "x" or i % 4 else "B") for i in range(40) for who in "xy"]
    result = human_agreement(Task(TaskKind.PAIRWISE, "?", ("A", "B")), notes)
    assert result is not None
    assert (result.decidable, result.rows, result.largest_share) == (30, 40, 0.875)
    assert result.decidable_interval[0] < 0.75 < result.decidable_interval[1]
    clustered = human_agreement(
        Task(TaskKind.PAIRWISE, "?", ("A", "B")), notes, {f"{i}": i // 4 for i in range(40)}
    )
    assert clustered is not None
    assert clustered.decidable_interval != result.decidable_interval


def test_leave_one_out_over_clusters_covers() -> None:
    rng, off, truth = np.random.default_rng(5), 0, 0.9**2 + 0.1**2
    row, who = np.repeat(np.arange(300), 2), np.tile([0, 1], 300)
    for _ in range(200):
        stated = np.repeat(rng.random((60, 2)) < 0.1, 5, axis=0).astype(np.int64).ravel()
        result = leave_one_out_agreement(row, who, stated, DELTA, cluster=row // 5)
        assert result is not None
        off += not result.interval[0] <= truth <= result.interval[1]
    assert off <= violation_limit(200, DELTA)


def test_a_coefficient_without_an_interval_has_a_reason() -> None:
    one_sided = np.array([[3, 0]] * 50 + [[2, 1]] * 8 + [[0, 3]] * 2)
    for counts, kind, why in (
        (one_sided, "fleiss_kappa", "2 rows"),
        (one_sided, "alpha_nominal", "2 rows"),
        (one_sided[:9], "gwet_ac1", "9 rows with two labels"),
        (np.tile([3, 0], (50, 1)), "gwet_ac1", "too few annotators differ"),
    ):
        assert why in no_interval(kind, counts)  # type: ignore[arg-type]
        assert agreement_interval(kind, counts, DELTA) is None  # type: ignore[arg-type]
    assert agreement_interval("gwet_ac1", one_sided, DELTA) is not None
