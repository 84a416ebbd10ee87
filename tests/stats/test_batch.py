from fractions import Fraction
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.batch import (
    batch_errors_upper,
    batch_pvalue,
    certify_batch,
    errors_allowed,
    judgments_needed,
)
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.certify import Certified, certify
from trustescalate.stats.control import carried
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import common_path, decide, evaluate
from trustescalate.stats.pooling import Stack, Votes, stacked_scores
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import Sample, world

pytestmark = pytest.mark.slow


def draw_sample(size: int, n: int, rng: np.random.Generator) -> IntArray:
    """n rows of a batch of `size`, every set of them as likely, ascending."""
    return np.sort(rng.choice(size, n, replace=False)).astype(np.int64)


def exact_cdf(k: int, size: int, marked: int, drawn: int) -> Fraction:
    ways = sum(comb(marked, j) * comb(size - marked, drawn - j) for j in range(min(k, drawn) + 1))
    return Fraction(ways, comb(size, drawn))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("release_human_labels", [False, True])
def test_pvalues_are_exact_for_all_counts_up_to_twelve(alpha: float, release_human_labels: bool) -> None:
    for size in range(1, 13):
        for drawn in range(size + 1):
            for k in range(drawn + 1):
                marked = int(Fraction(str(alpha)) * size) + 1 + release_human_labels * k
                expected = exact_cdf(k, size, marked, drawn) if marked <= size else 0
                p = batch_pvalue(k, drawn, size, alpha, release_human_labels=release_human_labels)
                assert p == pytest.approx(float(expected), abs=1e-12)


def test_nothing_accepted_and_nothing_drawn_is_no_evidence() -> None:
    for release_human_labels in (False, True):
        assert batch_pvalue(0, 0, 0, 0.1, release_human_labels=release_human_labels) == 1
        assert batch_pvalue(0, 0, 50, 0.1, release_human_labels=release_human_labels) == 1
    assert batch_errors_upper(0, 0, 50, 0.1) == 50


def test_a_census_leaves_no_doubt() -> None:
    assert batch_pvalue(np.array([10, 11]), 100, 100, 0.1).tolist() == [0, 1]
    assert batch_errors_upper(7, 100, 100, 0.1) == 7


def test_errors_that_are_not_left_cannot_happen() -> None:
    """8 of 10 drawn, 7 wrong: two are left, and five may be wrong."""
    assert batch_pvalue(7, 8, 10, 0.5) > 0.9
    assert batch_pvalue(7, 8, 10, 0.5, release_human_labels=True) == 0


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(1, 10**7), st.integers(1, 999))
def test_allowed_errors_are_integer_arithmetic(size: int, thousandths: int) -> None:
    assert errors_allowed(size, thousandths / 1000) == size * thousandths // 1000


def test_allowed_errors_where_floats_go_wrong() -> None:
    assert int(0.29 * 100) == 28
    assert errors_allowed(np.array([100, 200]), 0.29).tolist() == [29, 58]


@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_limit_is_the_largest_count_that_is_not_rejected(delta: float) -> None:
    for size, drawn in [(1, 1), (7, 3), (12, 6), (30, 0), (30, 11)]:
        for k in range(drawn + 1):
            possible = [
                m for m in range(size + 1) if comb(size, drawn) and exact_cdf(k, size, m, drawn) > delta
            ]
            assert batch_errors_upper(k, drawn, size, delta) == max(possible)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(1, 60), st.data(), st.sampled_from([0.05, 0.1, 0.29, 0.4]), st.floats(0.01, 0.5))
def test_test_form_and_limit_form_agree(size: int, data: st.DataObject, alpha: float, delta: float) -> None:
    drawn = data.draw(st.integers(0, size))
    k = data.draw(st.integers(0, drawn))
    upper, allowed = batch_errors_upper(k, drawn, size, delta), errors_allowed(size, alpha)
    for replaced in (False, True):
        passes = batch_pvalue(k, drawn, size, alpha, release_human_labels=replaced) <= delta
        assert passes == (upper - replaced * k <= allowed)


# ── every sample that could have been drawn ──────────────────────────────────────────────────────


class Batch:
    """One tier, N rows by falling score; the rows in `wrong` are."""

    def __init__(self, size: int, wrong: list[int], cuts: list[int]) -> None:
        self.scores = np.linspace(1, 0, size)[:, None]
        self.labels, self.truth = np.zeros((size, 1), dtype=int), np.isin(np.arange(size), wrong).astype(int)
        self.path = self.scores[np.array(cuts) - 1]

    def certified(
        self, sample: IntArray, alpha: float, delta: float, *, release_human_labels: bool = False, **rule: Any
    ) -> Certified:
        return certify_batch(
            self.scores,
            self.labels,
            sample,
            self.truth[sample],
            np.ones(self.scores.shape),
            TestRule(alpha, delta, self.path, **rule),
            release_human_labels=release_human_labels,
        )

    def wrong(self, thresholds: np.ndarray, sample: IntArray, release_human_labels: bool) -> int:
        released = self.scores[:, 0] >= thresholds[0]
        if release_human_labels:
            released[sample] = False
        return int(self.truth[released].sum())


BATCHES = {
    "just above alpha everywhere": (Batch(12, [0, 3, 6, 9], [2, 4, 6, 8, 10, 12]), 5, 0.3),
    "worst among the most confident": (Batch(11, [0, 1, 2], [3, 5, 7, 9, 11]), 6, 0.25),
    "one error too many at the end": (Batch(12, [9, 10, 11], [6, 9, 12]), 6, 0.2),
    "many wrong": (Batch(10, [0, 2, 3, 5, 7, 8], [4, 7, 10]), 5, 0.4),
    "half are drawn": (Batch(12, [0, 2, 5, 6, 7, 9, 10, 11], [8, 12]), 6, 0.4),
    "little": (Batch(8, [1, 4, 6], [2, 4, 6, 8]), 4, 0.25),
}


@pytest.mark.parametrize("release_human_labels", [False, True])
@pytest.mark.parametrize("procedure", ["fallback", "bonferroni"])
@pytest.mark.parametrize("name", BATCHES)
def test_over_all_samples_the_guarantee_is_broken_at_most_as_often_as_said(
    name: str, procedure: str, release_human_labels: bool
) -> None:
    """Not the chosen policy alone: that *any* policy with too many errors is rejected is as rare as said."""
    batch, n, alpha = BATCHES[name]
    size, delta = len(batch.scores), 0.3
    samples = [np.array(drawn) for drawn in combinations(range(size), n)]
    broken, certificates = 0, 0
    for sample in samples:
        result = batch.certified(
            sample, alpha, delta, procedure=procedure, release_human_labels=release_human_labels
        )
        allowed = errors_allowed(result.table.accepted, alpha)
        actual = np.array([batch.wrong(policy, sample, release_human_labels) for policy in batch.path])
        broken += bool((result.table.rejected & (actual > allowed)).any())
        certificates += result.chosen is not None
    assert broken <= delta * len(samples)
    assert certificates > 0 or name in ("many wrong", "little")


@pytest.mark.parametrize("cuts", [([2, 6, 10], [4, 8, 12]), ([12], [3, 5, 7, 9, 11, 12])])
def test_over_all_samples_a_plan_of_two_parts_keeps_the_guarantee(cuts: tuple[list[int], list[int]]) -> None:
    """As above, with shares of delta for two sub-paths that cross."""
    batch, n, alpha = Batch(12, [0, 3, 6, 9], [12]), 5, 0.3
    parts = tuple(batch.scores[np.array(part) - 1] for part in cuts)
    plan = Plan(parts, (0.7, 0.3), tuple(Plan.of(part).coverage[0] for part in parts))
    policies = plan.policies
    samples = [np.array(drawn) for drawn in combinations(range(12), n)]
    delta, broken, rejected = 0.4, 0, 0
    batch.path = plan  # type: ignore[assignment]
    for sample in samples:
        table = batch.certified(sample, alpha, delta).table
        allowed = errors_allowed(table.accepted, alpha)
        actual = np.array([batch.wrong(policy, sample, False) for policy in policies])
        broken += bool((table.rejected & (actual > allowed)).any())
        rejected += bool(table.rejected.any())
    assert broken <= delta * len(samples)
    assert rejected > 0


def test_a_plan_of_one_part_is_its_path_and_pooled_scores_are_read() -> None:
    batch, n, alpha = Batch(200, [30, 150, 160, 170, 180], list(range(20, 201, 20))), 80, 0.1
    sample, path = draw_sample(200, n, np.random.default_rng(0)), batch.path
    one = batch.certified(sample, alpha, 0.1)
    batch.path = Plan.of(path)  # type: ignore[assignment]
    for mine, other in zip(one.table, batch.certified(sample, alpha, 0.1).table, strict=True):
        np.testing.assert_array_equal(mine, other)
    stack = Stack(2, np.array([[[1.0, 0.0]]]))
    read = stacked_scores(stack, Votes(batch.scores, np.zeros(batch.scores.shape, dtype=int))).scores
    batch.path = Plan.of(np.unique(read)[::-1][:, None])._replace(readings=(stack,))  # type: ignore[assignment]
    result = batch.certified(sample, alpha, 0.1)
    assert result.table.accepted.tolist() == [int((read >= tau).sum()) for tau in np.unique(read)[::-1]]


def test_an_abstention_has_a_price() -> None:
    batch, alpha = Batch(200, [150, 170], list(range(20, 201, 20))), 0.1
    sample = draw_sample(200, 80, np.random.default_rng(0))
    result = batch.certified(sample, alpha, 0.1, prefer="total", abstention_price=5.0)
    assert result.chosen == np.flatnonzero(result.table.rejected)[-1]


def test_canary_handing_on_what_the_laxer_test_passed_breaks_the_guarantee() -> None:
    """With people's labels in place of verdicts, which nulls are true depends on the draw: order is lost."""
    batch, n, alpha = BATCHES["half are drawn"]
    samples = [np.array(drawn) for drawn in combinations(range(12), n)]
    delta, broken = 2 / 7 + 1e-9, 0
    for sample in samples:
        drawn, errors, *_ = evaluate(
            batch.path, batch.scores[sample], batch.labels[sample], batch.truth[sample], batch.scores[sample]
        )
        accepted = np.array([8, 12])
        p = batch_pvalue(errors, drawn, accepted, alpha, release_human_labels=True)
        rejected = carried(p, np.array([delta, 0])).rejected
        actual = np.array([batch.wrong(policy, sample, True) for policy in batch.path])
        broken += bool((rejected & (actual > errors_allowed(accepted, alpha))).any())
    assert broken == 267 > delta * len(samples)  # of 924: 1.011 delta


def test_where_testing_starts_does_not_depend_on_the_draw() -> None:
    batch, n, alpha = BATCHES["just above alpha everywhere"]
    starts = set()
    for seed in range(20):
        sample = draw_sample(12, n, np.random.default_rng(seed))
        table = batch.certified(sample, alpha, 0.3).table
        first = int(np.flatnonzero(table.level)[0])
        starts.add((first, float(table.level[first])))
    assert len(starts) == 1


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


def test_every_number_can_be_recomputed_from_its_counts() -> None:
    rows = world("monotone", 0.1, 2).draw(1000, np.random.default_rng(0))
    sample, path = draw_sample(1000, 300, np.random.default_rng(1)), common_path(rows.scores, 2)
    for replaced in (False, True):
        result = certify_batch(
            rows.scores,
            rows.labels,
            sample,
            rows.truth[sample],
            np.ones(rows.scores.shape),
            TestRule(0.1, 0.1, path),
            release_human_labels=replaced,
        )
        table = result.table
        for t, policy in enumerate(path):
            tier = decide(policy, rows.scores, rows.labels)
            inside = sample[tier[sample] >= 0]
            wrong = rows.labels[inside, tier[inside]] != rows.truth[inside]
            assert (len(inside), wrong.sum()) == (table.drawn[t], table.errors[t])
            assert table.accepted[t] == (tier >= 0).sum() == table.by_tier[t].sum()
            assert table.released[t] == table.accepted[t] - replaced * table.drawn[t]
        p = batch_pvalue(table.errors, table.drawn, table.accepted, 0.1, release_human_labels=replaced)
        np.testing.assert_array_equal(table.p_value, p)
        np.testing.assert_array_equal(table.rejected, (p <= table.level) & (table.level > 0))
        assert result.chosen is not None
        assert table.released[result.chosen] == table.released[table.rejected].max()
        assert result.errors_upper <= errors_allowed(table.accepted[result.chosen], 0.1)


@pytest.mark.parametrize("size", [600, 1500, 2900])
def test_few_undrawn_rows_leave_little_to_be_unsure_of(size: int) -> None:
    """Coverage of the batch, mean of 40: more than the certificate on the population, as N < 10 n."""
    place, n = world("monotone", 0.1, 2), 300
    batch, replaced, population = 0.0, 0.0, 0.0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows, sample = place.draw(size, rng), draw_sample(size, n, rng)
        path, free = common_path(rows.scores, 2), np.zeros(rows.scores.shape)
        some = Sample(*(part[sample] for part in rows))
        result = certify(*some, free[sample], alpha=0.1, delta=0.1, path=path)
        if result.thresholds is not None:
            population += np.mean(decide(result.thresholds, rows.scores, rows.labels) >= 0) / 40
        for release_human_labels in (False, True):
            one = certify_batch(
                rows.scores,
                rows.labels,
                sample,
                some.truth,
                free,
                TestRule(0.1, 0.1, path),
                release_human_labels=release_human_labels,
            )
            share = 0.0 if one.chosen is None else one.table.accepted[one.chosen] / size / 40
            batch, replaced = (
                batch + (not release_human_labels) * share,
                replaced + release_human_labels * share,
            )
    assert replaced > batch > population - 0.02  # either gives up 2 % for a cheaper policy


def test_needed_judgments_are_the_visits_of_any_policy() -> None:
    rng = np.random.default_rng(0)
    levels = np.linspace(0, 1, 5)
    for _ in range(30):
        scores, labels = rng.choice(levels, (20, 3)), rng.integers(-1, 2, (20, 3))
        path = rng.choice([*levels, np.inf], (4, 3))
        visited = np.zeros((20, 3), dtype=bool)
        for policy in path:
            last = decide(policy, scores, labels)
            last[last < 0] = 3
            visited |= (np.arange(3) <= last[:, None]) & (policy < np.inf)
        np.testing.assert_array_equal(judgments_needed(path, scores, labels), visited)


def test_asking_tier_by_tier_finds_the_same_counts_without_the_rest() -> None:
    rows = world("monotone", 0.1, 3).draw(500, np.random.default_rng(0))
    path = common_path(rows.scores, 3)[:20]
    scores, labels = np.zeros(rows.scores.shape), np.full(rows.labels.shape, -1)
    for j in range(3):
        asked = judgments_needed(path, scores, labels)[:, j]
        scores[asked, j], labels[asked, j] = rows.scores[asked, j], rows.labels[asked, j]
    whole, part = (
        evaluate(path, *two, rows.truth, np.ones(scores.shape))
        for two in ((rows.scores, rows.labels), (scores, labels))
    )
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (labels[:, 2] < 0).any()


@pytest.mark.parametrize("counts", [(2, 1, 5), (1, 6, 5), (-1, 2, 5), (1.0, 2, 5)])
def test_counts_that_are_no_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="errors"):
        batch_pvalue(*counts, 0.1)


def test_wrong_input_is_refused() -> None:
    batch = BATCHES["little"][0]
    with pytest.raises(ValueError, match="distinct"):
        batch.certified(np.array([1, 1]), 0.1, 0.1)
    with pytest.raises(ValueError, match="distinct"):
        batch.certified(np.array([-1, 2]), 0.1, 0.1)
    with pytest.raises(ValueError, match="no procedure 'luck'"):
        batch.certified(np.array([1, 2]), 0.1, 0.1, procedure="luck")
    with pytest.raises(ValueError, match="alpha"):
        errors_allowed(5, 1.0)
    with pytest.raises(ValueError, match="delta"):
        batch_errors_upper(0, 1, 5, 1.0)
