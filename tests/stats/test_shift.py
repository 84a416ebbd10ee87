import numpy as np
import pytest
from scipy.stats import ks_2samp

from trustescalate.stats.certify import certify
from trustescalate.stats.paths import hedged_path, stacked_path
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule
from trustescalate.stats.shift import (
    leave_one_group_out,
    rejection_sample,
    robustness_radius,
    score_alarm,
    verdict_alarm,
)
from trustescalate.stats.validity import violation_limit, world

pytestmark = pytest.mark.slow
ALPHA, DELTA = 0.1, 0.1


def test_certificates_hold_after_a_known_shift() -> None:
    """The new population holds more of the unsure items: without the weights the guarantee breaks."""
    rng, trials = np.random.default_rng(0), 300
    place = world("monotone", 0.12, tiers=1)
    score, error = place.scores[:, 0], place.error[:, 0]
    weight = 2 - 2 * (score - 0.5) * 1.8
    path = np.unique(score)[::-1][:, None]
    accepts = score >= path
    risk = (accepts * weight * error).sum(axis=1) / (accepts * weight).sum(axis=1)
    violations = {"weighted": 0, "blind": 0}
    certified = 0
    for _ in range(trials):
        cell = rng.integers(len(score), size=1500)
        truth = np.zeros(1500, dtype=int)
        labels = (rng.random((1500, 1)) < error[cell][:, None]).astype(int)
        kept = rejection_sample(weight[cell], 2.0, rng)
        for name, rows in (("weighted", kept), ("blind", np.arange(1500))):
            drawn = score[cell[rows]][:, None]
            free = np.zeros(drawn.shape)
            result = certify(drawn, labels[rows], truth[rows], free, alpha=ALPHA, delta=DELTA, path=path)
            if result.chosen is not None:
                violations[name] += risk[result.chosen] > ALPHA
                certified += name == "weighted"
    assert violations["weighted"] <= violation_limit(trials, DELTA) < violations["blind"]
    assert certified > trials / 2


def test_kept_rows_have_the_new_distribution() -> None:
    rng = np.random.default_rng(1)
    x = rng.random(40_000)
    kept = rejection_sample(2 * x, 2.0, rng)
    assert len(kept) == pytest.approx(20_000, abs=600)
    assert ks_2samp(x[kept], np.sqrt(rng.random(20_000))).pvalue > 1e-6
    assert rejection_sample(x[:0], 1.0, rng).tolist() == []


@pytest.mark.parametrize(("upper", "alpha"), [(0.05, 0.1), (0.01, 0.2), (0.1, 0.1), (0.001, 0.05)])
def test_the_radius_is_where_the_worst_shift_reaches_alpha(upper: float, alpha: float) -> None:
    """Errors get the largest ratio, right verdicts the smallest; normalised, that is the worst."""
    radius = robustness_radius(upper, alpha)
    worst = upper * radius / (upper * radius + (1 - upper) / radius)
    assert worst == pytest.approx(alpha)
    inside = np.random.default_rng(0).uniform(1 / radius, radius, size=(1000, 2))
    shifted = upper * inside[:, 0] / (upper * inside[:, 0] + (1 - upper) * inside[:, 1])
    assert np.all(shifted <= alpha + 1e-12)


def test_no_radius_without_a_certificate() -> None:
    assert robustness_radius(0.1001, 0.1) is None
    assert robustness_radius(0.1, 0.1) == pytest.approx(1)
    assert robustness_radius(0.0, 0.1) == float("inf")


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize(("n", "size"), [(15, 10), (200, 300)])
def test_false_alarms_over_three_tiers(levels: int, n: int, size: int) -> None:
    rng, trials = np.random.default_rng(levels + n), 500

    def draw(rows: int) -> list[np.ndarray]:
        sets = rng.random((3, rows))
        return list(np.floor(sets * levels) / levels if levels else sets)

    alarms = sum(score_alarm(draw(n), draw(size), DELTA).raised.any() for _ in range(trials))
    assert alarms <= violation_limit(trials, DELTA)


@pytest.mark.parametrize("levels", [1000, 5])
def test_a_real_shift_is_seen_in_its_tier(levels: int) -> None:
    rng = np.random.default_rng(0)
    before, after = (np.floor(rng.beta(a, 1, size=1000) * levels) / levels for a in (1.0, 1.5))
    result = score_alarm([before, before[:300]], [after, before[300:]], 0.05)
    assert result.raised.tolist() == [True, False]
    assert result.gap[0] == pytest.approx(ks_2samp(before, after).statistic)


@pytest.mark.parametrize("rows", [5, 20, 100, 2000])
@pytest.mark.parametrize("levels", [0, 7])
def test_the_limiting_p_value_is_that_of_scipy_or_above(rows: int, levels: int) -> None:
    rng = np.random.default_rng(rows + levels)
    for _ in range(20):
        before, after = rng.random(rows), rng.random(2 * rows) ** 1.1
        if levels:
            before, after = np.floor(before * levels), np.floor(after * levels)
        result, known = score_alarm([before], [after], 0.05), ks_2samp(before, after, method="asymp")
        assert result.gap[0] == pytest.approx(known.statistic)
        assert known.pvalue - 1e-12 <= result.p_value[0] <= known.pvalue + 0.5 / np.sqrt(rows)


def test_holm_passes_level_on() -> None:
    rng = np.random.default_rng(2)
    still = rng.random(400)
    far, near = still + 0.5, still + 0.07
    alone = score_alarm([still], [near], 0.05)
    assert 0.025 < alone.p_value[0] <= 0.05
    assert score_alarm([still, still], [far, near], 0.05).raised.tolist() == [True, True]
    assert score_alarm([still, still], [still, near], 0.05).raised.tolist() == [False, False]


def test_a_tier_that_nobody_reached_raises_nothing() -> None:
    some = np.random.default_rng(0).random(50)
    assert score_alarm([some, some[:0]], [some, some], 0.1).p_value.tolist() == [1.0, 1.0]


def _two_labels(share: float, sure: float, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Bare verdicts: a share of them for the first label, all with one score."""
    first = np.where(rng.random(rows) < share, sure, 1 - sure)
    return np.column_stack([first, 1 - first])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("levels", [0, 1])
def test_false_alarms_of_verdicts_and_scores(classes: int, levels: int) -> None:
    rng, trials = np.random.default_rng(classes + levels), 400

    def draw(rows: int) -> list[np.ndarray]:
        votes = rng.dirichlet(np.ones(classes), size=(2, rows))
        return list(np.eye(classes)[votes.argmax(axis=2)] if levels else votes)

    alarms = sum(verdict_alarm(draw(60), draw(90), DELTA).raised.any() for _ in range(trials))
    assert alarms <= violation_limit(trials, DELTA)


def test_verdicts_of_other_shares_are_seen_where_every_score_is_the_same() -> None:
    """48 % of the labelled rows pass, 2 % of the candidate's items do: the confidence is .99 in both."""
    rng = np.random.default_rng(0)
    before, after = _two_labels(0.48, 0.99, 200, rng), _two_labels(0.02, 0.99, 1000, rng)
    confidence = [np.max(side, axis=1) for side in (before, after)]
    assert not score_alarm([confidence[0]], [confidence[1]], 0.01).raised.any()
    alarm = verdict_alarm([before], [after], 0.01)
    assert alarm.raised.tolist() == [True]
    assert alarm.share[0] == pytest.approx([np.mean(before[:, 0] > 0.5), np.mean(after[:, 0] > 0.5)])


def test_a_rare_verdict_that_vanishes_is_seen_by_the_exact_test() -> None:
    rng = np.random.default_rng(1)
    before, after = _two_labels(0.1, 0.9, 300, rng), _two_labels(0.01, 0.9, 1000, rng)
    assert verdict_alarm([before], [after], 0.01).raised.tolist() == [True]
    assert not score_alarm([before[:, 0]], [after[:, 0]], 0.01).raised.any()


def test_the_label_that_moved_most_is_named_and_rows_without_a_verdict_count() -> None:
    before = np.eye(3)[np.repeat([0, 1, 2], 40)]
    after = np.eye(3)[np.repeat([0, 1, 2], [40, 5, 75])]
    after[:5] = 0.0
    alarm = verdict_alarm([before], [after], 0.05)
    assert (alarm.label.tolist(), alarm.share.round(3).tolist()) == ([1], [[0.333, 0.042]])
    none = np.zeros((0, 3))
    assert verdict_alarm([before, none], [after, after], 0.05).p_value[1] == 1.0


def test_groups_left_out_by_hand() -> None:
    rng = np.random.default_rng(0)
    rows = world("monotone", ALPHA, tiers=2).draw(1200, rng)
    group = rng.integers(10, 14, size=1200)
    path = np.linspace(1, 0, 21)[:, None].repeat(2, axis=1)
    result = leave_one_group_out(*rows, group, TestRule(ALPHA, DELTA, path))
    assert result.group.tolist() == [10, 11, 12, 13]
    assert result.rows.sum() == 1200
    for g, name in enumerate(result.group):
        rest, out = group != name, np.flatnonzero(group == name)
        free = np.zeros((int(rest.sum()), 2))
        alone = certify(*(part[rest] for part in rows), free, alpha=ALPHA, delta=DELTA, path=path)
        assert result.thresholds[g].tolist() == alone.thresholds.tolist()
        accepted = errors = 0
        for i in out:
            for j in range(2):
                if rows.scores[i, j] >= result.thresholds[g, j]:
                    accepted += 1
                    errors += int(rows.labels[i, j] != rows.truth[i])
                    break
        assert (accepted, errors) == (result.accepted[g], result.errors[g])
        assert result.risk[g, 0] <= errors / accepted <= result.risk[g, 1]


@pytest.mark.parametrize("kind", ["hedged", "stacked"])
def test_groups_left_out_under_a_plan(kind: str) -> None:
    """Rows of no group are always among the others."""
    rng = np.random.default_rng(1)
    place = world("monotone", ALPHA, tiers=2)
    rows, group = place.draw(900, rng), rng.integers(-1, 2, size=900)
    dev = place.draw(200, rng)
    plan = hedged_path(Votes(place.scores, np.zeros(place.scores.shape, dtype=int)), 2, classes=2)
    if kind == "stacked":
        plan = stacked_path(Rows(*dev, np.zeros(dev.scores.shape)), None, classes=2)
    result = leave_one_group_out(*rows, group, TestRule(ALPHA, DELTA, plan))
    assert result.group.tolist() == [0, 1]
    for g in (0, 1):
        rest, out = group != g, group == g
        free = np.zeros((int(rest.sum()), 2))
        alone = certify(*(part[rest] for part in rows), free, alpha=ALPHA, delta=DELTA, path=plan)
        assert alone.thresholds is not None
        assert result.thresholds[g].tolist() == alone.thresholds.tolist()
        unseen = Rows(rows.scores[out], rows.labels[out], rows.truth[out], rows.scores[out])
        counts = evaluate(alone.thresholds[None], *plan.rows(unseen))
        assert (result.accepted[g], result.errors[g]) == (counts.accepted[0], counts.errors[0])


def test_limits_of_an_unseen_group_cover() -> None:
    """Each limit by itself; the first group is like the others, so its true risk is known."""
    rng, trials = np.random.default_rng(5), 200
    place = world("monotone", ALPHA, tiers=1)
    path = np.linspace(1, 0.5, 11)[:, None]
    missed = 0
    for _ in range(trials):
        group = np.repeat([0, 1], [100, 500])
        result = leave_one_group_out(*place.draw(600, rng), group, TestRule(ALPHA, DELTA, path))
        risk, coverage = place.risk_coverage(result.thresholds[0])
        missed += not result.risk[0, 0] <= risk <= result.risk[0, 1]
        missed += not result.coverage[0, 0] <= coverage <= result.coverage[0, 1]
    assert missed <= 2 * violation_limit(trials, DELTA)


def test_hopeless_groups_accept_nothing() -> None:
    rows = world("hopeless", ALPHA, tiers=1).draw(200, np.random.default_rng(0))
    result = leave_one_group_out(
        *rows, np.repeat([0, 1], 100), TestRule(ALPHA, DELTA, np.linspace(1, 0, 5)[:, None])
    )
    assert np.isinf(result.thresholds).all()
    assert result.accepted.tolist() == [0, 0]
    assert result.risk.tolist() == [[0, 1], [0, 1]]


def test_wrong_input_is_refused() -> None:
    rng, one = np.random.default_rng(0), np.ones(3)
    rows = world("flat", ALPHA, tiers=1).draw(3, rng)
    for call in (
        lambda: rejection_sample(one * 2, 1.5, rng),
        lambda: rejection_sample(-one, 1.5, rng),
        lambda: rejection_sample(one * np.nan, 1.5, rng),
        lambda: rejection_sample(one, np.inf, rng),
        lambda: robustness_radius(1.5, 0.1),
        lambda: robustness_radius(0.1, 1.0),
        lambda: score_alarm([one], [one, one], 0.1),
        lambda: score_alarm([one], [one * np.nan], 0.1),
        lambda: score_alarm([one], [one], 1.0),
        lambda: leave_one_group_out(*rows, np.zeros(3, int), TestRule(0.1, 0.1, np.ones((1, 1)))),
    ):
        with pytest.raises(ValueError, match=r"must|shorter|longer|finite|group"):
            call()
