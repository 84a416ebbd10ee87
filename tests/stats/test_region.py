"""Rows from the region that the tested policies accept: exact, and what would not be."""

import numpy as np
import pytest

from trustescalate.stats.bounds import clopper_pearson_lower
from trustescalate.stats.certify import Certified, certify
from trustescalate.stats.paths import PATHS, Basis, PathName, Plan
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Votes
from trustescalate.stats.region import (
    coverage_lower_limits,
    expected_among,
    in_region,
    proposed_region,
    reachable,
    truncated,
)
from trustescalate.stats.validity import Sample, World, violation_limit, world

pytestmark = pytest.mark.slow
ALPHA, DELTA, MOST, ROWS, PILOT, TRIALS = 0.1, 0.1, 0.4, 80, 100, 300


def laid_out(
    place: World, path: PathName, rng: np.random.Generator, most: float = MOST
) -> tuple[Plan, float]:
    """The policies up to `most` by a pilot without labels, and the share of the pilot in their region."""
    seen = place.draw(PILOT, rng)
    votes = Votes(seen.scores, seen.labels)
    plan = truncated(PATHS[path].build(Basis(None, votes, place.scores.shape[1], classes=2)), most)
    return plan, float(in_region(plan, votes).mean())


def drawn(place: World, plan: Plan, rows: int, rng: np.random.Generator) -> Sample:
    """Rows of the region, one after the other, from as many rows of the world as it takes."""
    parts: list[Sample] = []
    while sum(len(part.truth) for part in parts) < rows:
        more = place.draw(8 * rows, rng)
        inside = in_region(plan, Votes(more.scores, more.labels))
        parts.append(Sample(*(array[inside] for array in more)))
    return Sample(*(np.concatenate(arrays)[:rows] for arrays in zip(*parts, strict=True)))


def certified(plan: Plan, rows: Sample) -> Certified:
    free = np.zeros(rows.scores.shape)
    return certify(*rows, free, alpha=ALPHA, delta=DELTA, path=plan)


@pytest.mark.parametrize("path", ["hedged", "common"])
@pytest.mark.parametrize("name", ["adversarial", "bad_at_top", "tied", "handover"])
def test_the_guarantee_holds_and_so_does_the_limit_on_coverage(name: str, path: PathName) -> None:
    place, rng = world(name, ALPHA, tiers=2), np.random.default_rng(3)
    violations = misses = 0
    for _ in range(TRIALS):
        plan, share = laid_out(place, path, rng)
        uniform, inside = place.draw(ROWS // 4, rng), drawn(place, plan, ROWS, rng)
        rows = Sample(*(np.concatenate(arrays) for arrays in zip(uniform, inside, strict=True)))
        result = certified(expected_among(plan, ROWS // 4, ROWS, share), rows)
        if result.chosen is None or result.thresholds is None or result.coverage_lower is None:
            continue
        unlabelled = place.draw(200, rng)
        votes = plan.read(Votes(unlabelled.scores, unlabelled.labels))
        blank, free = np.full(200, -1), np.zeros(votes.scores.shape)
        accepted = evaluate(plan.policies, *votes, blank, free).accepted
        risk, coverage = place.risk_coverage(result.thresholds, plan)
        violations += risk > ALPHA
        misses += coverage_lower_limits(accepted, 200, DELTA)[result.chosen] > coverage
    assert violations <= violation_limit(TRIALS, DELTA)
    assert misses <= violation_limit(TRIALS, DELTA)


def test_coverage_from_rows_of_the_region_is_wrong_about_everything() -> None:
    """The canary: the limit from the tested rows, as if they were a sample, is nearly always above."""
    place, rng = world("flat", 0.3, tiers=2), np.random.default_rng(0)
    certificates = naive = kept = 0
    for _ in range(60):
        plan, share = laid_out(place, "common", rng)
        result = certify(
            *(rows := drawn(place, plan, 60, rng)),
            np.zeros(rows.scores.shape),
            alpha=0.3,
            delta=DELTA,
            path=expected_among(plan, 0, 60, share),
        )
        if result.thresholds is None or result.coverage_lower is None:
            continue
        coverage = place.risk_coverage(result.thresholds)[1]
        certificates += 1
        naive += result.coverage_lower > coverage
        unlabelled = place.draw(200, rng)
        accepted = evaluate(
            plan.policies, unlabelled.scores, unlabelled.labels, unlabelled.truth, np.zeros((200, 2))
        ).accepted
        assert result.chosen is not None
        kept += coverage_lower_limits(accepted, 200, DELTA)[result.chosen] <= coverage
    assert certificates > 10
    assert naive > violation_limit(certificates, DELTA)
    assert kept >= certificates - violation_limit(certificates, DELTA)


def test_a_region_that_is_chosen_by_the_tested_labels_breaks_the_guarantee() -> None:
    """The canary: the region is that of the policy with which the tested labels agree best."""
    place, rng = world("adversarial", ALPHA, tiers=2), np.random.default_rng(1)
    chosen = fixed = 0
    for _ in range(TRIALS):
        rows = place.draw(400, rng)
        plan, share = laid_out(place, "common", rng, most=0.8)
        table = certified(expected_among(plan, 400, 0, share), rows).table
        best = int(table.p_value.argmin())
        chosen += table.p_value[best] <= DELTA
        fixed += bool(table.rejected.any())
    assert chosen > violation_limit(TRIALS, DELTA) >= fixed


def test_rows_outside_the_region_change_no_test() -> None:
    place, rng = world("monotone", ALPHA, tiers=2), np.random.default_rng(2)
    plan, share = laid_out(place, "hedged", rng)
    rows = place.draw(500, rng)
    inside = in_region(plan, Votes(rows.scores, rows.labels))
    assert 0 < inside.sum() < 500
    placed = expected_among(plan, 500, 0, share)
    result = certified(placed, rows)
    again = certified(placed, Sample(*(array[inside] for array in rows)))
    assert result.table.accepted.tolist() == again.table.accepted.tolist()
    assert result.table.p_value.tolist() == again.table.p_value.tolist()


def test_policies_that_accept_too_much_leave_with_their_share_of_delta() -> None:
    parts = (np.ones((3, 1)), np.ones((2, 1)), np.ones((1, 1)))
    coverage = (np.array([0.0, 0.2, 0.6]), np.array([0.9, 1.0]), np.array([0.3]))
    plan = Plan(parts, (0.2, 0.3, 0.5), coverage)
    cut = truncated(plan, 0.3)
    assert cut.sizes == (1, 1)
    assert cut.shares == pytest.approx((0.2 / 0.7, 0.5 / 0.7))
    assert sum(cut.shares) == pytest.approx(1)
    assert [part.tolist() for part in cut.coverage] == [[0.2], [0.3]]
    with pytest.raises(ValueError, match="no policy is expected"):
        truncated(plan, 0.1)
    for most in (0.0, 1.5):
        with pytest.raises(ValueError, match="expected coverage must lie"):
            truncated(plan, most)


def test_the_least_region_is_that_of_the_strictest_policy() -> None:
    plan = Plan((np.ones((3, 1)), np.ones((1, 1))), (0.5, 0.5), (np.array([0.0, 0.57, 0.9]), np.array([1.0])))
    most = reachable(plan, 0.3)
    assert truncated(plan, most).coverage[0].tolist() == [0.57]
    with pytest.raises(ValueError, match="accept anything"):
        reachable(Plan((np.ones((1, 1)),), (1.0,), (np.zeros(1),)), 0.3)


def test_nothing_is_expected_of_an_empty_region() -> None:
    plan = Plan.of(np.ones((2, 1)))
    for uniform, inside, share in ((0, 0, 0.5), (10, 10, 0.0), (10, 10, 1.2)):
        with pytest.raises(ValueError, match="nothing to expect"):
            expected_among(plan, uniform, inside, share)
    assert expected_among(plan, 0, 10, 0.25).coverage[0].tolist() == [1.0, 1.0]


def test_limits_on_coverage_hold_for_every_policy_at_once() -> None:
    """Nested policies on 2,000 draws: the least favourable is above its limit in at most delta of them."""
    rng, true = np.random.default_rng(5), np.linspace(0.02, 0.6, 20)
    misses = 0
    for _ in range(2000):
        seen = rng.random(150)
        accepted = (seen[:, None] < true).sum(axis=0)
        misses += bool((coverage_lower_limits(accepted, 150, DELTA) > true).any())
    assert misses <= violation_limit(2000, DELTA)
    one = coverage_lower_limits(np.array([40]), 150, DELTA)
    assert one[0] == clopper_pearson_lower(40, 150, DELTA)


def test_a_small_region_is_proposed_for_few_rows_and_a_small_alpha_and_none_else() -> None:
    sizes = [proposed_region(alpha, rows) for alpha, rows in ((0.05, 50), (0.1, 200), (0.15, 100))]
    assert sizes == [0.3, 0.42, 0.45]
    assert proposed_region(0.15, 200) is None
    assert proposed_region(0.3, 100) is None
