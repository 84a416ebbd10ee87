import numpy as np
import pytest

from trustescalate.stats.betting import BETS, betting_best_pvalue, betting_pvalue
from trustescalate.stats.validity import violation_limit


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
def test_best_is_what_the_lowest_terms_give(alpha: float) -> None:
    n = np.arange(80)
    expected = [betting_pvalue(np.full(k, -alpha), alpha) for k in n]
    np.testing.assert_allclose(betting_best_pvalue(n, alpha), expected, rtol=1e-12)
    rng = np.random.default_rng(0)
    for k in (5, 40):
        assert (
            betting_pvalue(rng.choice([0, 0, 0, 1], k) - alpha, alpha)
            >= betting_best_pvalue(k, alpha) - 1e-12
        )


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
