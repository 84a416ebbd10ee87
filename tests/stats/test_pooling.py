import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from trustescalate.stats import pooling
from trustescalate.stats.pooling import Stack, Votes, conditional_logit, log_odds, stacked_scores

RNG = np.random.default_rng(0)


def test_two_labels_are_scikit_learns_ridge() -> None:
    x, y = RNG.normal(size=(200, 3)), RNG.integers(2, size=200)
    both = np.stack([np.zeros_like(x), x], axis=1)
    result = conditional_logit(both, np.eye(2)[y], np.full(3, 2.0))
    expected = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10).fit(x, y).coef_[0]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_many_labels_are_statsmodels_conditional_logit() -> None:
    x, y = RNG.normal(size=(150, 3, 2)), RNG.integers(3, size=150)
    result = conditional_logit(x, np.eye(3)[y], np.full(2, 1e-9))
    chosen = (np.arange(3) == y[:, None]).astype(int).ravel()
    fit = sm.ConditionalLogit(chosen, x.reshape(-1, 2), groups=np.repeat(np.arange(150), 3)).fit(disp=0)
    np.testing.assert_allclose(result, fit.params, atol=1e-4)


def test_separable_rows_and_huge_signs_converge() -> None:
    x = np.zeros((50, 2, 1))
    x[:, 1, 0] = np.linspace(1, 1e4, 50)
    result = conditional_logit(x, np.tile([0.0, 1.0], (50, 1)), np.array([1e-3]))
    assert np.isfinite(result).all()
    assert result[0] > 0
    assert conditional_logit(x[:0], np.zeros((0, 2)), np.array([1.0])).tolist() == [0]


def test_the_solver_refuses_what_it_cannot_solve() -> None:
    x, target = np.zeros((3, 2, 1)), np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="shapes"):
        conditional_logit(x, target, np.ones(2))
    with pytest.raises(ValueError, match="positive"):
        conditional_logit(x, target, np.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        conditional_logit(x + np.nan, target, np.ones(1))


def test_log_odds_are_finite_at_both_ends() -> None:
    ends = log_odds(np.array([0.0, 0.5, 1.0]))
    assert np.isfinite(ends).all()
    assert ends[1] == 0
    assert ends[0] == pytest.approx(-ends[2])


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_a_row_has_the_same_bits_alone_and_among_others(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = Votes(RNG.random((50, 3)).round(2), RNG.integers(-1, 4, (50, 3)))
    stack = Stack(4, RNG.normal(size=(3, 3, 2)))
    whole = stacked_scores(stack, votes)
    monkeypatch.setattr(pooling, "ROWS_AT_ONCE", at_once)
    parts = stacked_scores(stack, votes)
    assert (parts.scores == whole.scores).all()
    assert (parts.labels == whole.labels).all()
    assert len(stacked_scores(stack, Votes(votes.scores[:0], votes.labels[:0])).scores) == 0
