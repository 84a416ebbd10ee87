from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from trustescalate.stats.bounds import binomial_pvalue
from trustescalate.stats.certify import plan_levels
from trustescalate.stats.control import binomial_best, reject
from trustescalate.stats.losses import (
    certify_losses,
    evaluate_losses,
    expected_losses,
    hoeffding_bentkus_pvalue,
    released_losses,
)
from trustescalate.stats.paths import Plan, hedged_path, stacked_path
from trustescalate.stats.policy import common_path, decide
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import violation_limit, world

pytestmark = pytest.mark.slow
PATH = common_path(None, 2)
RULE = TestRule(0.1, 0.1, PATH)


# ── p-values ─────────────────────────────────────────────────────────────────────────────────────


def test_hoeffding_bentkus_by_its_formula() -> None:
    total, n, alpha = 3.2, 80, 0.1
    r = total / n
    divergence = r * np.log(r / alpha) + (1 - r) * np.log((1 - r) / (1 - alpha))
    expected = min(np.exp(-n * divergence), np.e * binom.cdf(4, n, alpha))
    assert hoeffding_bentkus_pvalue(np.array(total), np.array(n), alpha) == pytest.approx(expected)


def test_hoeffding_bentkus_lies_between_the_exact_pvalue_and_e_times_it() -> None:
    errors, n = np.tril_indices(61)[::-1]
    exact, result = binomial_pvalue(errors, n, 0.1), hoeffding_bentkus_pvalue(errors.astype(float), n, 0.1)
    assert np.all(result >= exact - 1e-12)
    assert np.all(result <= np.e * exact + 1e-12)
    np.testing.assert_allclose(result[errors == 0], exact[errors == 0], rtol=1e-9)


@pytest.mark.parametrize("shape", [[0.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.2], [0.1]])
def test_small_pvalues_are_rare_where_the_mean_is_alpha(shape: list[float]) -> None:
    rng, alpha, n = np.random.default_rng(0), 0.1, 150
    values = np.array(shape)
    rest = (alpha - values[0]) / (values[1:].mean() - values[0]) if len(shape) > 1 else 0.0
    chance = np.append(1 - rest, np.full(len(shape) - 1, rest / max(1, len(shape) - 1)))
    totals = rng.choice(values, size=(2000, n), p=chance).sum(axis=1)
    p = hoeffding_bentkus_pvalue(totals, np.full(2000, n), alpha)
    for a in (0.05, 0.1, 0.3):
        assert np.sum(p <= a) <= violation_limit(2000, a)


def test_sums_that_are_no_sums_are_refused() -> None:
    for total in (-0.1, 5.1, np.nan):
        with pytest.raises(ValueError, match="sum"):
            hoeffding_bentkus_pvalue(np.array(total), np.array(5), 0.1)
    with pytest.raises(ValueError, match="alpha"):
        hoeffding_bentkus_pvalue(np.array(1.0), np.array(5), 0.0)


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


def rows_of(name: str, n: int = 500) -> tuple[np.ndarray, ...]:
    rows = world(name, 0.1, 2).draw(n, np.random.default_rng(0))
    return (*rows, (rows.labels != rows.truth[:, None]).astype(float), np.zeros(rows.scores.shape))


def test_sums_are_exact_for_shares_of_people_and_never_too_small() -> None:
    ones, n = np.ones((300, 1)), 300
    for people in range(1, 11):
        losses = np.full((n, 1), 1 / people)
        total = evaluate_losses(ones[:1], ones, ones.astype(int), losses, ones).total[0]
        assert total == n / people
    odd = np.full((n, 1), 0.1234567)
    assert evaluate_losses(ones[:1], ones, ones.astype(int), odd, ones).total[0] >= 37.03701


def test_released_losses_are_those_of_the_first_tier_that_accepts() -> None:
    scores, labels, *_ = rows_of("monotone", 50)
    losses = np.random.default_rng(0).random(scores.shape)
    for policy in PATH[::6]:
        tier = decide(policy, scores, labels)
        expected = [losses[i, j] for i, j in enumerate(tier) if j >= 0]
        assert released_losses(policy, scores, labels, losses).tolist() == expected


def test_betting_depends_on_the_order_given_and_on_nothing_else() -> None:
    scores, labels, _, losses, free = rows_of("monotone")
    order = np.random.default_rng(1).permutation(500)
    result = certify_losses(scores, labels, losses, free, RULE, order=order)
    same = certify_losses(scores[order], labels[order], losses[order], free, RULE, order=np.arange(500))
    np.testing.assert_array_equal(result.table.p_value, same.table.p_value)


def test_impossible_means_none() -> None:
    for name, n in (("hopeless", 500), ("monotone", 10), ("monotone", 0)):
        scores, labels, _, losses, free = rows_of(name, n)
        assert certify_losses(scores, labels, losses, free, RULE, order=np.arange(n))[:3] == (
            None,
            None,
            None,
        )


def test_wrong_input_is_refused() -> None:
    scores, labels, _, losses, free = rows_of("flat", 50)
    order = np.arange(50)
    for rule, given, message in (
        (RULE, np.zeros(50, dtype=int), "permutation"),
        (replace(RULE, procedure="luck"), order, "no procedure"),
    ):
        with pytest.raises(ValueError, match=message):
            certify_losses(scores, labels, losses, free, rule, order=given)
    with pytest.raises(ValueError, match="losses must"):
        certify_losses(scores, labels, losses * 2 + 0.1, free, RULE, order=order)
    with pytest.raises(ValueError, match="shapes"):
        evaluate_losses(PATH, scores, labels, losses[:, :1], free)


# ── plans, and what a verdict loses against an annotator drawn at random ─────────────────────────


def _own_scores(scores: np.ndarray, labels: np.ndarray) -> Plan:
    """Two sub-paths that go by the tiers' own scores."""
    return hedged_path(Votes(scores[:50], labels[:50]), 2, classes=2).alone()


def test_a_plan_is_tested_with_its_shares_and_abstentions_have_a_price() -> None:
    scores, labels, truth, losses, _ = rows_of("monotone")
    costs = np.tile([1.0, 10.0], (len(truth), 1))
    plan = _own_scores(scores, labels)
    order, rule = np.arange(len(truth)), TestRule(0.1, 0.1, plan, "fallback", "total", 5.0)
    bet = certify_losses(scores, labels, losses, costs, rule, order=order)
    own = plan_levels(plan, "fallback", 500, 0.1, binomial_best(0.1, 500))
    by_hand = reject("fallback", plan.sizes, bet.table.p_value, own)
    np.testing.assert_array_equal(bet.table.level, by_hand.level)
    rule = replace(rule, abstention_price=1e9)
    widest = certify_losses(scores, labels, losses, costs, rule, order=order)
    assert widest.chosen is not None
    assert widest.table.accepted[widest.chosen] == widest.table.accepted[widest.table.rejected].max()


def test_losses_of_stacked_verdicts_are_not_guessed() -> None:
    scores, labels, truth, losses, free = rows_of("monotone", 60)
    plan = stacked_path(Rows(scores, labels, truth, free), None, classes=2)
    with pytest.raises(ValueError, match="read the votes by the plan first"):
        certify_losses(scores, labels, losses, free, RULE.along(plan), order=np.arange(60))


@pytest.mark.parametrize("half", [False, True])
def test_expected_losses_are_means_over_annotators(half: bool) -> None:
    """One annotator at a time, as one would with a pencil; label 2 is the tie, and may count one half."""
    rng = np.random.default_rng(0)
    counts, lost = rng.integers(0, 4, (200, 3)), 1 - np.eye(3)
    if half:
        lost[2, :2] = lost[:2, 2] = 0.5
    result = expected_losses(counts, lost)
    for i, label in np.ndindex(200, 3):
        people = [opinion for opinion in range(3) for _ in range(counts[i, opinion])]
        expected = np.mean([lost[label, opinion] for opinion in people]) if people else 1.0
        assert result[i, label] == pytest.approx(expected, abs=1e-15)


def test_wrong_counts_and_losses_are_refused() -> None:
    counts = np.ones((2, 3), dtype=int)
    for message, wrong in (("shapes", np.eye(2)), ("losses", 2 * np.eye(3))):
        with pytest.raises(ValueError, match=message):
            expected_losses(counts, wrong)
    with pytest.raises(ValueError, match="negative"):
        expected_losses(-counts, np.eye(3))
