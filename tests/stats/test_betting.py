from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import beta, binom

from trustescalate.stats.betting import BETS, MARGIN, OVERSHOOT, PRIOR, betting_pvalue, betting_pvalues
from trustescalate.stats.bounds import FloatArray, binomial_pvalue
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow


def by_hand(excess: list[float], alpha: float) -> float:
    """One purse a stake, term by term; the stake of the whole is settled before the term is seen."""
    purses, best = [1 / len(BETS)] * len(BETS), 1.0
    for term in excess:
        stake = sum(w * bet / (1 - alpha) for w, bet in zip(purses, BETS, strict=True)) / sum(purses)
        whole = sum(purses) * (1 - stake * term)
        purses = [w * (1 - bet / (1 - alpha) * term) for w, bet in zip(purses, BETS, strict=True)]
        assert sum(purses) == pytest.approx(whole)
        best = max(best, whole)
    return 1 / best


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4])
def test_wealth_by_hand(alpha: float) -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 5, 60):
        excess = rng.choice([0.0, 0.1, 0.5, 1.0], n, p=[0.7, 0.1, 0.1, 0.1]) - alpha
        assert betting_pvalue(excess, alpha) == pytest.approx(by_hand(excess.tolist(), alpha))


def test_no_terms_no_evidence_and_no_stake_loses_everything() -> None:
    assert betting_pvalue(np.zeros(0), 0.1) == 1
    assert betting_pvalue(np.full(1000, 0.9), 0.1) == 1
    assert 0 < betting_pvalue(np.concatenate([np.full(50, -0.1), np.full(1000, 0.9)]), 0.1) < 0.03


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_no_terms_do_better_than_the_lowest(alpha: float) -> None:
    rng = np.random.default_rng(0)
    for k in (5, 40):
        lowest = betting_pvalue(np.full(k, -alpha), alpha)
        assert betting_pvalue(rng.choice([0, 0, 0, 1], k) - alpha, alpha) >= lowest - 1e-12


@pytest.mark.parametrize("people", [1, 3, 50])
def test_small_pvalues_are_rare_where_the_mean_is_alpha(people: int) -> None:
    rng = np.random.default_rng(people)
    alpha = 0.1
    p = [betting_pvalue(rng.binomial(people, alpha, size=200) / people - alpha, alpha) for _ in range(1000)]
    for a in (0.05, 0.1, 0.3):
        assert np.sum(np.array(p) <= a) <= violation_limit(1000, a)


def test_terms_out_of_range_are_refused() -> None:
    for term in (0.95, -0.2, np.nan):
        with pytest.raises(ValueError, match="terms"):
            betting_pvalue(np.array([term]), 0.1)
    with pytest.raises(ValueError, match="alpha"):
        betting_pvalue(np.zeros(1), 1.0)
    with pytest.raises(ValueError, match="target"):
        betting_pvalue(np.zeros(1), 0.1, 1.0)


# ── bets that aim at a level ─────────────────────────────────────────────────────────────────────

Draw = Callable[[int, int, float, np.random.Generator], FloatArray]


def right_or_wrong(t: int, n: int, risk: float, rng: np.random.Generator) -> FloatArray:
    return (rng.random((t, n)) < risk).astype(float)


def shares_of_five(t: int, n: int, risk: float, rng: np.random.Generator) -> FloatArray:
    return rng.binomial(5, risk, (t, n)) / 5


def torn(t: int, n: int, risk: float, rng: np.random.Generator) -> FloatArray:
    """Most rows nobody disputes; on the others any share of five people disagrees."""
    return np.where(rng.random((t, n)) < 2 * risk, rng.integers(6, size=(t, n)) / 5, 0)


def half_ties(t: int, n: int, risk: float, rng: np.random.Generator) -> FloatArray:
    draw = rng.random((t, n))
    return np.where(draw < risk / 2, 1.0, np.where(draw < 1.5 * risk, 0.5, 0.0))


def all_alike(t: int, n: int, risk: float, rng: np.random.Generator) -> FloatArray:
    return np.full((t, n), risk)


def whole_clusters(t: int, g: int, risk: float, rng: np.random.Generator) -> FloatArray:
    """Terms of clusters of 1 to 10 rows, of which a policy accepts .7; some fail on half of theirs."""
    rate = np.where(rng.random((t, g)) < 2 * risk, 0.5, 0.0)
    accepted = rng.binomial(rng.integers(1, 11, (t, g)), 0.7)
    return (rng.binomial(accepted, rate) - ALPHA * accepted) / 10 + ALPHA


ALPHA, TARGET, N, TRIALS = 0.1, 0.1, 60, 5000
NULLS = (right_or_wrong, shares_of_five, torn, half_ties, all_alike, whole_clusters)


def cdf(k: float, n: int, p: float) -> float:
    """The binomial distribution function, between whole numbers as the beta distribution goes on."""
    return 0.0 if k <= -1 else 1.0 if k >= n else float(beta.sf(p, k + 1, n - k))


def aimed_by_hand(excess: list[float], alpha: float, target: float) -> float:
    """One term at a time: the option that the wealth can buy, and the stake that replicates it."""
    wealth, best = target, target
    squares, falls = 0.0, list[float]()
    for seen, term in enumerate(excess):
        left, share = len(excess) - seen, wealth / (1 + MARGIN)
        fall = sum(falls) / len(falls) if falls else alpha
        rise = (squares + PRIOR * fall**2 * (1 - alpha) / alpha) / (seen + PRIOR) / fall
        heads = fall / (fall + rise)
        if share < (1 - heads) ** left:
            stake = share / (1 - alpha)
        else:
            most = brentq(lambda k, n=left, p=heads, u=share: cdf(k, n, p) - u, -1, left, xtol=1e-12)
            stake = (cdf(most, left - 1, heads) - cdf(most - 1, left - 1, heads)) / (fall + rise)
        stake = min(stake, share / (1 - alpha), (1 + OVERSHOOT - share) / fall)
        wealth -= (1 + MARGIN) * stake * term
        if wealth >= 1:
            return target / wealth
        best = max(best, wealth)
        squares += term**2
        falls += [-term] if term < 0 else []
    return min(1.0, target / best)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4])
@pytest.mark.parametrize("target", [0.02, 0.1])
def test_aimed_wealth_by_hand(alpha: float, target: float) -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 5, 40):
        excess = rng.choice([0.0, 0.1, 0.5, 1.0], n, p=[0.8, 0.1, 0.05, 0.05]) - alpha
        expected = aimed_by_hand(excess.tolist(), alpha, target)
        assert betting_pvalue(excess, alpha, target) == pytest.approx(expected, rel=1e-6)


def test_each_policy_has_its_own_terms_and_target() -> None:
    rng = np.random.default_rng(1)
    excess = torn(6, 80, 0.06, rng) - ALPHA
    excess[rng.random(excess.shape) < 0.4] = np.nan
    excess[5] = np.nan
    targets = np.array([0.02, 0.05, 0.1, 0.1, 0.2, 0.1])
    alone = [
        betting_pvalue(row[~np.isnan(row)], ALPHA, each) for row, each in zip(excess, targets, strict=True)
    ]
    np.testing.assert_array_equal(betting_pvalues(excess, ALPHA, target=targets), alone)
    assert alone[5] == 1


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_fewest_rows_are_those_of_the_exact_test(alpha: float) -> None:
    """A loss that was never seen costs no power: it takes as many rows as the binomial test."""
    n = np.arange(120)
    exact = binomial_pvalue(np.zeros(120, dtype=int), n, alpha) <= TARGET
    reached = [betting_pvalue(np.full(k, -alpha), alpha, TARGET) <= TARGET for k in n]
    np.testing.assert_array_equal(reached, exact)


@pytest.mark.parametrize("draw", NULLS)
def test_aimed_pvalues_are_valid_at_every_level(draw: Draw) -> None:
    p = betting_pvalues(draw(TRIALS, N, ALPHA, np.random.default_rng(0)) - ALPHA, ALPHA, target=TARGET)
    for level in (0.02, 0.05, TARGET, 0.2, 0.4):
        assert np.sum(p <= level) <= violation_limit(TRIALS, level)


def test_aimed_pvalues_are_valid_where_terms_depend_on_the_past() -> None:
    """A world that turns bad as soon as it went well, and the other way round; its mean stays alpha."""
    rng, terms = np.random.default_rng(0), np.zeros((TRIALS, N))
    for i in range(N):
        spread = np.where(terms[:, :i].sum(axis=1) < ALPHA * i, 1.0, 0.2)
        terms[:, i] = np.where(rng.random(TRIALS) < ALPHA / spread, spread, 0.0)
    p = betting_pvalues(terms - ALPHA, ALPHA, target=TARGET)
    for level in (0.05, TARGET, 0.3):
        assert np.sum(p <= level) <= violation_limit(TRIALS, level)


def test_canary_bets_that_look_at_the_current_term() -> None:
    """Half the stake where the term is bad: not predictable, so no p-value."""
    excess = right_or_wrong(TRIALS, N, ALPHA, np.random.default_rng(0)) - ALPHA
    p = betting_pvalues(np.where(excess > 0, excess / 2, excess), ALPHA, target=TARGET)
    assert np.sum(p <= TARGET) > violation_limit(TRIALS, TARGET)


@pytest.mark.parametrize(
    ("draw", "n", "risk", "gain"),
    [
        (right_or_wrong, 200, 0.06, 0.15),
        (shares_of_five, 100, 0.06, 0.1),
        (half_ties, 200, 0.06, 0.15),
        (whole_clusters, 200, 0.06, 0.15),
        (right_or_wrong, 500, 0.07, 0.15),
    ],
)
def test_aiming_at_the_level_gains_power(draw: Draw, n: int, risk: float, gain: float) -> None:
    excess = draw(400, n, risk, np.random.default_rng(0)) - ALPHA
    plain = np.mean([betting_pvalue(row, ALPHA) <= TARGET for row in excess])
    assert np.mean(betting_pvalues(excess, ALPHA, target=TARGET) <= TARGET) >= plain + gain


def test_aimed_bets_come_near_the_binomial_test() -> None:
    losses = right_or_wrong(2000, 200, 0.06, np.random.default_rng(0))
    exact = np.mean(binom.cdf(losses.sum(axis=1), 200, ALPHA) <= TARGET)
    assert np.mean(betting_pvalues(losses - ALPHA, ALPHA, target=TARGET) <= TARGET) >= exact - 0.05
