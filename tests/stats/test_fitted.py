import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.calibration import auroc, brier_score
from trustescalate.stats.confidence import ensemble
from trustescalate.stats.fitted import (
    RECALIBRATORS,
    Isotonic,
    Learned,
    Platt,
    Signs,
    Temperature,
    apply_learned,
    conditional_logit,
    fit_boosted,
    fit_isotonic,
    fit_learned,
    fit_platt,
    fit_temperature,
    log_odds,
    recalibrated,
    signs,
)

RNG = np.random.default_rng(0)
SCORE = RNG.uniform(0.5, 1, 400).round(2)
CORRECT = RNG.random(400) < 0.3 + SCORE / 2


# ── the solver ───────────────────────────────────────────────────────────────────────────────────


def test_two_labels_are_scikit_learns_ridge() -> None:
    x, y = RNG.normal(size=(200, 3)), RNG.integers(2, size=200)
    both = np.stack([np.zeros_like(x), x], axis=1)
    found = conditional_logit(both, np.eye(2)[y], np.full(3, 2.0))
    expected = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10).fit(x, y).coef_[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_many_labels_are_statsmodels_conditional_logit() -> None:
    x, y = RNG.normal(size=(150, 3, 2)), RNG.integers(3, size=150)
    found = conditional_logit(x, np.eye(3)[y], np.full(2, 1e-9))
    chosen = (np.arange(3) == y[:, None]).astype(int).ravel()
    fit = sm.ConditionalLogit(chosen, x.reshape(-1, 2), groups=np.repeat(np.arange(150), 3)).fit(disp=0)
    np.testing.assert_allclose(found, fit.params, atol=1e-4)


def test_separable_rows_and_huge_signs_converge() -> None:
    x = np.zeros((50, 2, 1))
    x[:, 1, 0] = np.linspace(1, 1e4, 50)
    found = conditional_logit(x, np.tile([0.0, 1.0], (50, 1)), np.array([1e-3]))
    assert np.isfinite(found).all()
    assert found[0] > 0
    assert conditional_logit(x[:0], np.zeros((0, 2)), np.array([1.0])).tolist() == [0]


def test_the_solver_refuses_what_it_cannot_solve() -> None:
    x, target = np.zeros((3, 2, 1)), np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="shapes"):
        conditional_logit(x, target, np.ones(2))
    with pytest.raises(ValueError, match="positive"):
        conditional_logit(x, target, np.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        conditional_logit(x + np.nan, target, np.ones(1))


# ── recalibration ────────────────────────────────────────────────────────────────────────────────


def test_isotonic_is_scikit_learns_at_the_knots() -> None:
    expected = IsotonicRegression().fit(SCORE, CORRECT).predict(np.unique(SCORE))
    np.testing.assert_allclose(recalibrated(fit_isotonic(SCORE, CORRECT), np.unique(SCORE)), expected)


@pytest.mark.parametrize("name", RECALIBRATORS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 50))
def test_curves_never_fall_and_are_probabilities(name: str, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    score, correct = rng.choice([0, 0.4, 0.5, 0.9, 1.0, rng.random()], n), rng.random(n) < rng.random()
    curve = RECALIBRATORS[name](score, correct)
    values = recalibrated(curve, np.linspace(0, 1, 101))
    assert np.all((values >= 0) & (values <= 1))
    assert np.all(np.diff(values) >= 0)
    np.testing.assert_array_equal(recalibrated(curve, np.linspace(0, 1, 101)[17:18]), values[17:18])


@pytest.mark.parametrize("name", RECALIBRATORS)
def test_recalibration_makes_scores_honest_on_fresh_rows(name: str) -> None:
    rng = np.random.default_rng(1)
    score = rng.uniform(0.5, 1, 4000)
    correct = rng.random(4000) < 1 / (1 + np.exp(-log_odds(score) / 3))
    curve = RECALIBRATORS[name](score[:2000], correct[:2000])
    before = brier_score(score[2000:], correct[2000:])
    after = brier_score(recalibrated(curve, score[2000:]), correct[2000:])
    assert before is not None
    assert after is not None
    assert after < before - 0.01


def test_temperature_and_platt_find_the_numbers_that_made_the_rows() -> None:
    rng = np.random.default_rng(2)
    score = rng.uniform(0.5, 0.99, 20_000)
    correct = rng.random(20_000) < 1 / (1 + np.exp(-log_odds(score) / 2))
    assert fit_temperature(score, correct).temperature == pytest.approx(2, abs=0.1)
    intercept, slope = fit_platt(score, correct)
    assert (intercept, slope) == (pytest.approx(0, abs=0.1), pytest.approx(0.5, abs=0.05))


def test_scores_that_mislead_become_one_level() -> None:
    wrong_way = np.arange(100) / 100 > 0.5
    score = 1 - np.arange(100) / 100
    assert fit_platt(score, wrong_way).slope == 0
    assert fit_temperature(1 - score / 2, np.ones(100, dtype=bool)).temperature < 1
    assert fit_temperature(0.5 + score / 2, np.zeros(100, dtype=bool)) == Temperature(float("inf"))
    assert recalibrated(Temperature(float("inf")), np.array([0.2, 0.9])).tolist() == [0.5, 0.5]


def test_recalibrators_refuse_what_is_no_score() -> None:
    for fit in RECALIBRATORS.values():
        with pytest.raises(ValueError, match="not be empty"):
            fit(np.zeros(0), np.zeros(0, dtype=bool))
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            fit(np.array([1.5]), np.array([True]))


def test_records_are_plain_numbers() -> None:
    assert isinstance(fit_platt(SCORE, CORRECT), Platt)
    assert all(type(part) is float for part in fit_platt(SCORE, CORRECT))
    assert type(fit_temperature(SCORE, CORRECT).temperature) is float
    assert isinstance(fit_isotonic(SCORE, CORRECT), Isotonic)


# ── learned confidence ───────────────────────────────────────────────────────────────────────────


def some_votes(seed: int, n: int, sets: int = 3) -> FloatArray:
    rng = np.random.default_rng(seed)
    share = rng.random((n, 2 * sets))
    votes = np.stack([share, 1 - share], axis=2)
    return np.where(rng.random((n, 2 * sets, 1)) < 0.1, 0.0, votes)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_exchanging_responses_and_orders_changes_nothing_but_the_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    votes, lengths = some_votes(seed, 20), rng.integers(0, 500, (20, 2)).astype(float)
    earlier = rng.random((20, 2)), rng.integers(-1, 2, (20, 2))
    before = signs(votes, 2, lengths, earlier)
    swapped = votes.reshape(20, 3, 2, 2)[:, :, ::-1, ::-1].reshape(20, 6, 2)
    renamed = np.where(earlier[1] < 0, -1, 1 - earlier[1])
    after = signs(swapped, 2, lengths[:, ::-1], (earlier[0], renamed))
    np.testing.assert_allclose(before.x, after.x, atol=1e-9)
    np.testing.assert_array_equal(np.where(before.label < 0, -1, 1 - before.label), after.label)


def test_signs_are_what_they_are_called() -> None:
    votes = np.array([[[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.6, 0.4]]])
    seen = signs(votes, 2, np.array([[200.0, 100.0]]), (np.array([[0.8, 0.8]]), np.array([[0, 1]])))
    mean, spread, gap, length, agrees, differs = seen.x[0]
    assert mean == pytest.approx(np.log(0.7 / 0.3))
    assert spread == pytest.approx(0)
    assert gap == pytest.approx(0.85 - 0.55)
    assert length == pytest.approx(np.log(201 / 101))
    assert (agrees, differs) == (pytest.approx(np.log(4)), pytest.approx(-np.log(4)))
    silent = signs(np.zeros((1, 4, 2)), 2)
    assert silent.label.tolist() == [-1]
    assert not silent.x.any()


def misled(n: int, seed: int) -> tuple[FloatArray, Signs, np.ndarray]:
    """A judge whose mean says little and whose order gap says all."""
    rng = np.random.default_rng(seed)
    gap, mean = rng.uniform(0, 0.4, n), rng.uniform(0.55, 0.8, n)
    votes = np.stack([mean + gap / 2, mean - gap / 2], axis=1)
    votes = np.stack([np.clip(votes, 0, 1), 1 - np.clip(votes, 0, 1)], axis=2)
    truth = (rng.random(n) < 0.05 + 1.1 * gap).astype(np.int64)
    return votes, signs(votes, 2), truth


@pytest.mark.parametrize("fit", [fit_learned, fit_boosted])
def test_what_was_learned_tells_right_from_wrong_better(fit: object) -> None:
    _, dev, dev_truth = misled(400, 0)
    votes, seen, truth = misled(2000, 1)
    model = fit(dev, dev_truth)  # type: ignore[operator]
    found, plain = apply_learned(model, seen), ensemble(votes, 2)
    np.testing.assert_array_equal(found.label, plain.label)
    said = found.label >= 0
    correct = (found.label == truth)[said]
    better, before = auroc(found.score[said], correct), auroc(plain.score[said], correct)
    assert better is not None
    assert before is not None
    assert better > before + 0.1
    one = apply_learned(model, Signs(seen.label[7:8], seen.x[7:8]))
    assert one.score[0] == found.score[7]
    for first, second in zip(model, fit(dev, dev_truth), strict=True):  # type: ignore[operator]
        np.testing.assert_array_equal(first, second)


def test_boosted_trees_say_what_scikit_learn_says() -> None:
    from sklearn.ensemble import GradientBoostingClassifier

    _, dev, truth = misled(300, 0)
    correct = dev.label == truth
    fitted = GradientBoostingClassifier(
        n_estimators=40, max_depth=2, learning_rate=0.2, min_samples_leaf=5, random_state=0
    ).fit(dev.x, correct)
    found = apply_learned(fit_boosted(dev, truth), dev)
    np.testing.assert_allclose(found.score, fitted.predict_proba(dev.x)[:, 1], atol=1e-9)


def test_one_outcome_only_is_no_reason_to_fail() -> None:
    seen = Signs(np.zeros(20, dtype=np.int64), RNG.normal(size=(20, 4)))
    for fit in (fit_learned, fit_boosted):
        assert apply_learned(fit(seen, np.zeros(20, dtype=np.int64)), seen).score.min() > 0.7


def test_learning_refuses_what_cannot_be_learned_from() -> None:
    seen = Signs(np.array([-1, 0]), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="no row"):
        fit_learned(seen, np.array([0, -1]))
    with pytest.raises(ValueError, match="2 verdicts"):
        fit_boosted(seen, np.zeros(3, dtype=np.int64))
    with pytest.raises(ValueError, match="knows 3 signs"):
        apply_learned(Learned(np.zeros(3), np.ones(3), 0.0, np.ones(3)), seen)
    with pytest.raises(ValueError, match="lengths"):
        signs(np.zeros((2, 2, 2)), 2, np.zeros((2, 3)))
