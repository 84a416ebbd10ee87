"""Violations of each further kind of certificate, counted as in `test_validity`, and of rules that are wrong.

TRUSTESCALATE_TRIALS raises the number of trials, for nightly runs.
"""

import os
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from trustescalate.config import GuaranteeTable
from trustescalate.stats.agreement import majority
from trustescalate.stats.batch import batch_pvalue, certify_batch, errors_allowed
from trustescalate.stats.bounds import FloatArray, IntArray, clopper_pearson_upper
from trustescalate.stats.certify import certify
from trustescalate.stats.clusters import certify_clusters
from trustescalate.stats.groups import certify_groups
from trustescalate.stats.losses import certify_losses, expected_losses
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import common_path, decide, evaluate
from trustescalate.stats.pooling import Votes
from trustescalate.stats.risk_limits import RiskLimits, certified_at, simultaneous_risk_upper
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import WORLDS, Sample, World, violation_limit, world

pytestmark = pytest.mark.slow
TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "500"))
ALPHA, DELTA = 0.1, 0.1
RULE = {"alpha": ALPHA, "delta": DELTA}
HARD = ("adversarial", "bad_at_top", "tied")


def count_broken(trial: Callable[[np.random.Generator], bool], trials: int = TRIALS, seed: int = 0) -> int:
    rng = np.random.default_rng(seed)
    return sum(trial(rng) for _ in range(trials))


def broken(place: World, thresholds: FloatArray | None, alpha: float = ALPHA) -> bool:
    return thresholds is not None and place.risk_coverage(thresholds)[0] > alpha


def draw_sample(size: int, n: int, rng: np.random.Generator) -> IntArray:
    return np.sort(rng.choice(size, n, replace=False)).astype(np.int64)


# ── one batch ────────────────────────────────────────────────────────────────────────────────────


@cache
def knife_edge(thousandths: int = 100) -> tuple[FloatArray, IntArray, FloatArray]:
    """A fixed batch with one error more than so many thousandths of the accepted, under every policy."""
    size, scores = 1200, np.linspace(1, 0, 1200)[:, None]
    cuts = np.arange(60, size + 1, 60)
    truth = np.zeros(size, dtype=int)
    for cut, before in zip(cuts, [0, *cuts[:-1]], strict=True):
        more = thousandths * int(cut) // 1000 + 1 - int(truth.sum())
        truth[before : before + more] = 1
    return scores, truth, scores[cuts - 1]


def batch_is_broken(rng: np.random.Generator, release_human_labels: bool) -> bool:
    # Where people's labels replace a quarter, the test has least to spare at about .126 wrong.
    scores, truth, path = knife_edge(126 if release_human_labels else 100)
    labels, sample = np.zeros(scores.shape, dtype=int), draw_sample(len(scores), 300, rng)
    result = certify_batch(
        scores,
        labels,
        sample,
        truth[sample],
        scores,
        TestRule(ALPHA, DELTA, path),
        release_human_labels=release_human_labels,
    )
    if result.chosen is None:
        return False
    released = scores[:, 0] >= path[result.chosen, 0]
    released[sample] &= not release_human_labels
    return bool(truth[released].sum() > errors_allowed(result.table.accepted[result.chosen], ALPHA))


@pytest.mark.parametrize("release_human_labels", [False, True])
def test_on_a_batch_with_one_error_too_many(release_human_labels: bool) -> None:
    violations = count_broken(lambda rng: batch_is_broken(rng, release_human_labels))
    assert violations <= violation_limit(TRIALS, DELTA)


@pytest.mark.parametrize("name", WORLDS)
def test_on_batches_from_a_world(name: str) -> None:
    """The batch's own errors count, whatever the world's risk."""
    place = world(name, ALPHA, 2)

    def trial(rng: np.random.Generator) -> bool:
        rows, sample = place.draw(800, rng), draw_sample(800, 250, rng)
        free, path = np.zeros(rows.scores.shape), common_path(rows.scores, 2)
        result = certify_batch(*rows[:2], sample, rows.truth[sample], free, TestRule(ALPHA, DELTA, path))
        if result.thresholds is None:
            return False
        counts = evaluate(result.thresholds[None], *rows, free)
        return bool(counts.errors[0] > errors_allowed(counts.accepted, ALPHA)[0])

    assert count_broken(trial) <= violation_limit(TRIALS, DELTA)


def test_canary_all_of_delta_for_each_policy_of_a_batch() -> None:
    scores, truth, path = knife_edge()
    accepted = np.arange(60, 1201, 60)

    def trial(rng: np.random.Generator) -> bool:
        sample = draw_sample(len(scores), 300, rng)
        inside = scores[sample] >= path[:, 0]
        p = batch_pvalue(inside[truth[sample] == 1].sum(axis=0), inside.sum(axis=0), accepted, ALPHA)
        return bool((p <= DELTA).any())

    assert count_broken(trial, 300) > violation_limit(300, DELTA)


def test_canary_labelling_the_easiest_rows_of_a_batch() -> None:
    scores, truth, path = knife_edge()
    right_first = np.argsort(truth, kind="stable")

    def trial(rng: np.random.Generator) -> bool:
        sample = np.sort(rng.choice(right_first[:1110], 300, replace=False))
        labels = np.zeros(scores.shape, dtype=int)
        rule = TestRule(ALPHA, DELTA, path)
        return certify_batch(scores, labels, sample, truth[sample], scores, rule).chosen is not None

    assert count_broken(trial, 100) > violation_limit(100, DELTA)


# ── a band ───────────────────────────────────────────────────────────────────────────────────────


def true_risks(place: World, path: FloatArray) -> FloatArray:
    return np.array([place.risk_coverage(policy)[0] for policy in path])


@pytest.mark.parametrize("name", WORLDS)
def test_all_limits_of_a_band_hold_at_once(name: str) -> None:
    place, path = world(name, ALPHA, 1), common_path(world(name, ALPHA, 1).scores, 1, size=16)
    risks = true_risks(place, path)

    def trial(rng: np.random.Generator) -> bool:
        rows = place.draw(400, rng)
        counts = evaluate(path, *rows, np.zeros(rows.scores.shape))
        band = RiskLimits(path, *counts, simultaneous_risk_upper(counts.errors, counts.accepted, DELTA))
        alpha = min(0.99, float(band.upper.min()))  # the guarantee that looks best, chosen after looking
        chosen = certified_at(band, alpha, 400)
        assert chosen is None or risks[chosen] <= alpha or (risks > band.upper).any()
        return bool((risks > band.upper).any())

    assert count_broken(trial) <= violation_limit(TRIALS, DELTA)


def test_canary_limits_that_hold_one_at_a_time() -> None:
    place, path = (
        world("adversarial", ALPHA, 1),
        common_path(world("adversarial", ALPHA, 1).scores, 1, size=16),
    )
    risks = true_risks(place, path)

    def trial(rng: np.random.Generator) -> bool:
        rows = place.draw(2000, rng)
        counts = evaluate(path, *rows, np.zeros(rows.scores.shape))
        return bool((risks > clopper_pearson_upper(counts.errors, counts.accepted, DELTA)).any())

    assert count_broken(trial, 300) > violation_limit(300, DELTA)


# ── groups ───────────────────────────────────────────────────────────────────────────────────────


def groups_broken(rng: np.random.Generator, names: tuple[str, ...], n: int, enough: float = 1.0) -> bool:
    places = [world(name, ALPHA, 1) for name in names]
    parts = [place.draw(n, rng) for place in places]
    rows = Sample(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    result = certify_groups(
        *rows,
        np.zeros(rows.scores.shape),
        np.repeat(np.arange(len(names)), n),
        alpha=np.full(len(names), ALPHA),
        delta=DELTA,
        paths=[common_path(place.scores, 1, size=20) for place in places],
        target_coverage=enough,
    )
    return any(broken(place, one.thresholds) for place, one in zip(places, result.groups, strict=True))


@pytest.mark.parametrize(
    ("names", "enough"),
    [
        (("adversarial",) * 4, 1.0),
        (("flat", "adversarial", "adversarial"), 0.3),
        (("monotone", "tied", "bad_at_top"), 0.5),
    ],
)
def test_all_groups_keep_the_guarantee_at_once(names: tuple[str, ...], enough: float) -> None:
    violations = count_broken(lambda rng: groups_broken(rng, names, 400, enough))
    assert violations <= violation_limit(TRIALS, DELTA)


def test_canary_all_of_delta_for_each_group() -> None:
    def trial(rng: np.random.Generator) -> bool:
        return any(groups_broken(rng, ("adversarial",), 400) for _ in range(6))

    assert count_broken(trial, 200) > violation_limit(200, DELTA)


# ── losses ───────────────────────────────────────────────────────────────────────────────────────


def draw_losses(place: World, n: int, people: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Scores, and the share of people who disagree; its mean is the world's P(error)."""
    cell = rng.integers(len(place.scores), size=n)
    return place.scores[cell], rng.binomial(people, place.error[cell]) / people


@pytest.mark.parametrize("people", [1, 5])
@pytest.mark.parametrize("name", HARD)
def test_mean_losses_keep_the_guarantee(name: str, people: int) -> None:
    place = world(name, ALPHA, 1)
    path = common_path(place.scores, 1, size=16)

    def trial(rng: np.random.Generator) -> bool:
        scores, losses = draw_losses(place, 300, people, rng)
        labels, free = np.zeros(scores.shape, dtype=int), np.zeros(scores.shape)
        order = rng.permutation(300)
        result = certify_losses(scores, labels, losses, free, TestRule(ALPHA, DELTA, path), order=order)
        return broken(place, result.thresholds)

    assert count_broken(trial) <= violation_limit(TRIALS, DELTA)


def test_in_an_easy_world_mean_losses_are_certified() -> None:
    place, total = world("monotone", ALPHA, 2), 0.0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        scores, losses = draw_losses(place, 500, 5, rng)
        labels, free = np.zeros(scores.shape, dtype=int), np.zeros(scores.shape)
        path, order = common_path(scores, 2), rng.permutation(500)
        result = certify_losses(
            scores, labels, losses, free, TestRule(ALPHA, DELTA, path), order=order
        ).thresholds
        total += 0.0 if result is None else place.risk_coverage(result)[1] / 50
    assert total >= 0.85


def test_canary_the_majority_is_not_a_random_annotator() -> None:
    """A sixth of all people disagree everywhere, and a majority of five hides it: hence the estimand."""

    def trial(rng: np.random.Generator) -> bool:
        against = rng.binomial(5, 1 / 6, size=300)
        labels, counts = np.zeros((300, 1), dtype=int), np.stack([5 - against, against], axis=1)
        assert expected_losses(counts, 1 - np.eye(2))[:, 0].mean() > 0.11
        ones = np.ones((300, 1))
        return certify(ones, labels, majority(counts), ones, path=ones[:1], **RULE).chosen is not None

    assert count_broken(trial, 100) > violation_limit(100, DELTA)


# ── clusters ─────────────────────────────────────────────────────────────────────────────────────


def queries(g: int, bad: float, rng: np.random.Generator, worst: float = 0.6) -> tuple[Sample, IntArray]:
    """g queries of 20 rows; a share `bad` of queries fails on `worst` of its rows, the others on none."""
    cluster = np.repeat(np.arange(g), 20)
    risk = np.where(rng.random(g) < bad, worst, 0.0)[cluster]
    wrong = (rng.random(len(cluster)) < risk).astype(int)
    scores = rng.random((len(cluster), 1))
    return Sample(scores, np.zeros(scores.shape, dtype=int), wrong), cluster


def cluster_certified(
    rows: Sample, cluster: IntArray, rng: np.random.Generator, alpha: float
) -> FloatArray | None:
    return certify_clusters(
        *rows,
        np.zeros(rows.scores.shape),
        cluster,
        TestRule(alpha, DELTA, np.linspace(0.9, 0, 10)[:, None]),
        largest=20,
        order=rng.permutation(int(cluster.max()) + 1),
    ).thresholds


@pytest.mark.parametrize(("g", "alpha"), [(25, 0.2), (100, 0.1)])
def test_queries_that_fail_together_keep_the_guarantee(g: int, alpha: float) -> None:
    """The risk of every policy is 1.01 alpha."""

    def trial(rng: np.random.Generator) -> bool:
        return cluster_certified(*queries(g, 1.01 * alpha / 0.6, rng), rng, alpha) is not None

    assert count_broken(trial) <= violation_limit(TRIALS, DELTA)


@pytest.mark.parametrize(("g", "alpha"), [(25, 0.2), (25, 0.1), (100, 0.1)])
def test_canary_counting_rows_where_queries_fail_together(g: int, alpha: float) -> None:
    def trial(rng: np.random.Generator) -> bool:
        rows, _ = queries(g, 1.01 * alpha / 0.6, rng)
        path = np.linspace(0.9, 0, 10)[:, None]
        result = certify(*rows, np.zeros(rows.scores.shape), alpha=alpha, delta=DELTA, path=path)
        return result.chosen is not None

    assert count_broken(trial, 200) > violation_limit(200, DELTA)


@pytest.mark.parametrize(
    ("g", "bad", "alpha", "least", "most"),
    [
        (25, 0.0, 0.2, 1.0, 1.0),
        (25, 0.03, 0.2, 0.5, 1.0),
        (25, 0.0, 0.1, 0.5, 1.0),
        (20, 0.0, 0.1, 0.0, 0.0),
        (200, 0.05, 0.1, 0.8, 1.0),
    ],
)
def test_what_clusters_can_and_cannot_certify(
    g: int, bad: float, alpha: float, least: float, most: float
) -> None:
    """25 queries can show risk <= .2, and <= .1 without an error; 20 never <= .1, whatever rows they have."""

    def trial(rng: np.random.Generator) -> bool:
        return cluster_certified(*queries(g, bad, rng), rng, alpha) is not None

    assert least <= count_broken(trial, 100) / 100 <= most


# ── looks ────────────────────────────────────────────────────────────────────────────────────────

SIZES = (60, 200, 600, 1800)
LEVELS = [DELTA * share for share in GuaranteeTable(interim=SIZES).shares]


@pytest.mark.parametrize("name", HARD)
def test_four_looks_keep_the_guarantee(name: str) -> None:
    place = world(name, ALPHA, 1)
    path = common_path(place.scores, 1, size=16)

    def trial(rng: np.random.Generator) -> bool:
        rows = place.draw(SIZES[-1], rng)
        for n, level in zip(SIZES, LEVELS, strict=True):
            some = Sample(*(part[:n] for part in rows))
            result = certify(*some, np.zeros(some.scores.shape), path=path, alpha=ALPHA, delta=level)
            if broken(place, result.thresholds):
                return True
        return False

    assert count_broken(trial) <= violation_limit(TRIALS, DELTA)


def test_canary_all_of_delta_at_each_look() -> None:
    place = world("adversarial", ALPHA, 1)

    def trial(rng: np.random.Generator) -> bool:
        rows = place.draw(SIZES[-1], rng)
        some = (Sample(*(part[:n] for part in rows)) for n in SIZES)
        rule = {"path": np.array([[0.0]]), **RULE}
        return any(certify(*seen, np.zeros(seen.scores.shape), **rule).chosen is not None for seen in some)  # type: ignore[arg-type]

    assert count_broken(trial, 400) > violation_limit(400, DELTA)


def test_in_an_easy_world_an_early_look_is_enough() -> None:
    place, looks = world("monotone", ALPHA, 2), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        seen, rows = place.draw(100, rng), place.draw(SIZES[-1], rng)
        pilot = Votes(seen.scores, seen.labels)
        plan = Plan.laid_out((common_path(seen.scores, 2),), (1.0,), pilot)
        for look, n in enumerate(SIZES):
            some = Sample(*(part[:n] for part in rows))
            free = np.zeros(some.scores.shape)
            result = certify(*some, free, path=plan, alpha=ALPHA, delta=LEVELS[look])
            if result.thresholds is not None:
                assert decide(result.thresholds, *rows[:2]).max() >= 0
                looks.append(look)
                break
    assert len(looks) == 40
    assert np.mean(looks) <= 1.3
