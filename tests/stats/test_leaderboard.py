import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import kendalltau, permutation_test, spearmanr
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from trustescalate.stats.inference import Survey, ppi_mean
from trustescalate.stats.leaderboard import (
    Games,
    Leaderboard,
    bradley_terry,
    mean_leaderboard,
    rank_correlation,
)
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
DELTA = 0.1
SKILL = np.array([1.0, 0.5, 0.0, 0.0, -1.5])


def games(n: int = 300, size: int = 3000, seed: int = 0, per_item: int = 1) -> Games:
    """Five models; where a cluster holds several games, the item's noise is shared by them."""
    rng = np.random.default_rng(seed)
    first = rng.integers(5, size=size)
    second = (first + rng.integers(1, 5, size=size)) % 5
    wins = (rng.random(size) < expit(SKILL[first] - SKILL[second])).astype(float)
    f = np.clip(0.15 + 0.7 * wins + 0.2 * rng.normal(size=size), 0, 1)
    if per_item == 1:
        rows = rng.choice(size, n, replace=False)
        return Games(first, second, f, rows, wins[rows])
    items = rng.choice(size // per_item, n // per_item, replace=False)
    rows = (items[:, None] * per_item + np.arange(per_item)).ravel()
    return Games(first, second, f, rows, wins[rows], np.arange(size) // per_item)


def covers(board: Leaderboard, truth: np.ndarray) -> bool:
    """Neither a limit nor a claim of one model being better is wrong anywhere."""
    claims = board.above & (truth[:, None] <= truth)
    return bool(np.all((board.low <= truth) & (truth <= board.high)) and not claims.any())


def test_one_model_has_the_interval_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    survey = Survey(rng.random(500), np.arange(120), (rng.random(120) < 0.5).astype(float))
    alone, board = ppi_mean(survey, DELTA), mean_leaderboard([survey], DELTA)
    assert (board.low[0], board.high[0]) == pytest.approx((alone.low, alone.high))
    assert board.not_separable == ()
    assert board.usable


@pytest.mark.parametrize("n", [100, 300])
def test_all_means_are_covered_at_once(n: int) -> None:
    trials, missed = 300, 0
    rng = np.random.default_rng(n)
    for _ in range(trials):
        hard = rng.normal(size=(1500, 1))
        p = expit(np.array([1.5, 1.0, 0.5, 0.5, 0.0]) + hard)
        y = (rng.random(p.shape) < p).astype(float)
        rows = rng.choice(1500, n, replace=False)
        board = mean_leaderboard([Survey(p[:, j], rows, y[rows, j]) for j in range(5)], DELTA, target="batch")
        truth = y.mean(axis=0)
        missed += not bool(np.all((board.low <= truth) & (truth <= board.high)))
    assert missed <= violation_limit(trials, DELTA)


@pytest.mark.parametrize("labels", [1, 3])
def test_models_with_items_and_labels_of_their_own_are_covered(labels: int) -> None:
    """Questions differ in difficulty, each model answers most; `labels` answers of some are labelled."""
    trials, missed, apart = 200, 0, 0
    rng = np.random.default_rng(labels)
    skill, size, drawn = np.array([1.5, 1.0, 0.5, 0.5, 0.0]), 1500, 600 // labels
    hard = rng.normal(size=200_000)[:, None]
    truth = expit(skill + hard).mean(axis=0)
    for _ in range(trials):
        p = expit(skill + rng.normal(size=(size, 1)))
        y = (rng.random(p.shape) < p).astype(float)
        seen = np.argsort(rng.random((size, 5)), axis=1) < labels
        seen[drawn:] = False
        answered = seen | (rng.random((size, 5)) < 0.8)
        surveys = []
        for j in range(5):
            mine = np.flatnonzero(answered[:, j])
            rows = np.flatnonzero(seen[mine, j])
            surveys.append(Survey(p[mine, j], rows, y[mine[rows], j], cluster=mine))
        board = mean_leaderboard(surveys, DELTA)
        missed += not covers(board, truth)
        apart += board.above[0, 4]
    assert missed <= violation_limit(trials, 2 * DELTA)  # means and differences, each at delta
    assert apart > 0.9 * trials


def test_clusters_of_one_name_are_one_thing() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random((300, 2)) < 0.5).astype(float)
    alike = [Survey(np.full(900, 0.5), np.arange(300), each.copy()) for each in y.T]
    named = [survey._replace(cluster=np.arange(900) + 7) for survey in alike]
    turned = rng.permutation(900)
    where = np.argsort(turned)
    mixed = Survey(np.full(900, 0.5), where[:300], y[:, 1], cluster=turned + 7)
    boards = [mean_leaderboard(each, DELTA) for each in (alike, named, [named[0], mixed])]
    for board in boards[1:]:
        np.testing.assert_allclose(board.low, boards[0].low)
    apart = mean_leaderboard([named[0], named[0]._replace(cluster=np.arange(900) + 2000)], DELTA)
    together = mean_leaderboard([named[0], named[0]], DELTA)
    np.testing.assert_allclose(apart.low, together.low)


def test_equal_models_are_seldom_told_apart() -> None:
    trials, wrong = 300, 0
    rng = np.random.default_rng(1)
    for _ in range(trials):
        y = (rng.random((200, 5)) < 0.7).astype(float)
        board = mean_leaderboard(
            [Survey(np.full(1000, 0.7), np.arange(200), each.copy()) for each in y.T], DELTA
        )
        wrong += board.above.any()
        assert len(board.not_separable) == 10 - np.count_nonzero(board.above)
    assert wrong <= violation_limit(trials, DELTA)


def test_places_are_ranges() -> None:
    y = np.array([[1.0, 0.9, 0.5, 0.1]]) > (np.arange(400)[:, None] + 0.5) / 400
    rng = np.random.default_rng(0)
    surveys = [Survey(np.full(900, 0.5), np.arange(400), rng.permutation(each).astype(float)) for each in y.T]
    board = mean_leaderboard([surveys[1], surveys[1], *surveys[2:]], DELTA)
    assert board.not_separable == ((0, 1),)
    assert board.first_place.tolist() == [1, 1, 3, 4]
    assert board.last_place.tolist() == [2, 2, 3, 4]


def test_strengths_from_labels_alone_are_a_logistic_regression() -> None:
    """With the sandwich of statsmodels, which sums each cluster's scores as well."""
    played = games(400, size=400, per_item=4)
    board = bradley_terry(played._replace(prediction=np.full(400, 0.5)), 5, DELTA)
    x = np.zeros((400, 5))
    x[np.arange(400), played.first[played.labelled]] += 1
    x[np.arange(400), played.second[played.labelled]] -= 1
    fit = GLM(played.label, x[:, :4], family=Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": played.cluster[played.labelled], "df_correction": False}
    )
    expected = np.append(fit.params, 0)
    np.testing.assert_allclose(board.estimate, expected - expected.mean(), atol=1e-8)
    centre = np.eye(5)[:, :4] - 0.2
    covariance = centre @ fit.cov_params() @ centre.T * (400 - 4) / 399
    np.testing.assert_allclose(board.standard_error, np.sqrt(np.diag(covariance)), rtol=1e-6)


@pytest.mark.parametrize("per_item", [1, 4])
@pytest.mark.parametrize("n", [200, 400])
def test_strengths_are_covered_at_once(n: int, per_item: int) -> None:
    trials, missed = 200, 0
    truth = SKILL - SKILL.mean()
    for seed in range(trials):
        missed += not covers(bradley_terry(games(n, seed=seed, per_item=per_item), 5, DELTA), truth)
    assert missed <= violation_limit(trials, 2 * DELTA)  # strengths and differences, each at delta


def test_predictions_narrow_the_strengths() -> None:
    played = games(300)
    alone = bradley_terry(played._replace(prediction=np.full(3000, 0.5)), 5, DELTA)
    assert np.all(bradley_terry(played, 5, DELTA).standard_error < 0.9 * alone.standard_error)


def test_names_and_sides_do_not_matter() -> None:
    played = games(300)
    board = bradley_terry(played, 5, DELTA)
    swapped = Games(
        played.second, played.first, 1 - played.prediction, played.labelled, 1 - played.label, played.cluster
    )
    renamed = played._replace(first=4 - played.first, second=4 - played.second)
    np.testing.assert_allclose(bradley_terry(swapped, 5, DELTA).estimate, board.estimate, atol=1e-9)
    np.testing.assert_allclose(bradley_terry(renamed, 5, DELTA).estimate[::-1], board.estimate, atol=1e-9)


def test_no_finite_strengths_are_refused() -> None:
    played = games(300)
    unbeaten = np.where(played.first[played.labelled] == 0, 1.0, played.label)
    unbeaten = np.where(played.second[played.labelled] == 0, 0.0, unbeaten)
    with pytest.raises(ValueError, match="no finite strengths"):
        bradley_terry(played._replace(label=unbeaten), 5, DELTA)
    with pytest.raises(ValueError, match="no finite strengths"):
        bradley_terry(played, 6, DELTA)


def test_few_wins_are_said_to_be_few() -> None:
    assert bradley_terry(games(400), 5, DELTA).usable
    result = bradley_terry(games(80, seed=3), 5, DELTA)
    assert (result.usable, result.reason) == (False, "80 labels, fewer than 100")
    result = bradley_terry(games(110, seed=1), 5, DELTA)
    assert result.reason.startswith("a model with fewer than 10")


def test_wrong_input_is_refused() -> None:
    played = games()
    for bad in (
        played._replace(first=played.first[:-1]),
        played._replace(first=played.second),
        played._replace(first=played.first + 1),
        played._replace(label=played.label * 2),
        played._replace(prediction=-played.prediction),
    ):
        with pytest.raises(ValueError, match=r"must|itself"):
            bradley_terry(bad, 5, DELTA)
    survey = Survey(np.zeros(9), np.arange(5), np.arange(5.0))
    other = survey._replace(labelled=np.arange(1, 6))
    clustered = survey._replace(cluster=np.arange(9))
    longer = survey._replace(prediction=np.zeros(12))
    for surveys in ([survey, other], [survey, clustered], [survey, longer]):
        with pytest.raises(ValueError, match="same"):
            mean_leaderboard(surveys, DELTA)
    for call in (lambda: mean_leaderboard([survey], 1.0), lambda: bradley_terry(played, 5, 0.0)):
        with pytest.raises(ValueError, match="delta"):
            call()


@pytest.mark.parametrize("m", [3, 5, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_counts_all_orders(m: int, ties: bool) -> None:
    rng = np.random.default_rng(m)
    a, b = rng.normal(size=(2, m))
    if ties:
        a[0], b[1] = a[1], b[2]
    result = rank_correlation(a, b)
    for statistic, value, p in (
        (spearmanr, result.spearman, result.spearman_pvalue),
        (kendalltau, result.kendall, result.kendall_pvalue),
    ):
        assert value == pytest.approx(statistic(a, b).statistic)
        expected = permutation_test(
            (b,),
            lambda y, of=statistic: abs(of(a, y).statistic),
            permutation_type="pairings",
            alternative="greater",
        )
        assert p == pytest.approx(expected.pvalue)


def test_rank_correlation_of_many_models_is_scipys() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20))
    result = rank_correlation(a, b)
    assert result[:2] == pytest.approx(tuple(spearmanr(a, b)))
    assert result[2:] == pytest.approx(tuple(kendalltau(a, b)))


def test_nothing_to_rank_is_none() -> None:
    assert rank_correlation(np.array([1.0, 2]), np.array([1.0, 2])) is None
    assert rank_correlation(np.ones(4), np.arange(4.0)) is None
    with pytest.raises(ValueError, match="finite"):
        rank_correlation(np.array([1.0, 2, np.nan]), np.arange(3.0))


@pytest.mark.parametrize("n", [60, 300])
def test_labels_that_are_all_ties_know_no_limit(n: int) -> None:
    first, second = np.array([0, 0, 1] * 200), np.array([1, 2, 2] * 200)
    prediction = np.random.default_rng(0).random(600)
    board = bradley_terry(Games(first, second, prediction, np.arange(n), np.full(n, 0.5)), 3, 0.1)
    assert (board.usable, bool(board.reason)) == (False, True)
    assert np.isinf([board.low, board.high]).all()
    assert not board.above.any()


def test_a_mean_without_enough_labels_has_no_limit_and_beats_nobody() -> None:
    rng, drawn = np.random.default_rng(0), np.arange(300)
    plain, agreed = (rng.random(300) < 0.5).astype(float), np.ones(300)
    board = mean_leaderboard([Survey(rng.random(600), drawn, y) for y in (plain, agreed)], 0.1)
    assert np.isfinite([board.low, board.high]).tolist() == [[True, False], [True, False]]
    assert (board.usable, board.reason.split(",")[0]) == (False, "0 labels differ from the commonest")
    assert not board.above.any()
