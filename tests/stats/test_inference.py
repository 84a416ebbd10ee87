import itertools

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from statsmodels.regression.linear_model import OLS

from trustescalate.stats.bounds import clopper_pearson_interval
from trustescalate.stats.inference import (
    Survey,
    coarse_strata,
    influence,
    ppi_mean,
    t_quantile,
    too_few,
    tuned_power,
    verdict_bounds,
)
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
DELTA = 0.1


def survey(n: int = 150, size: int = 2000, seed: int = 0, rate: float = 0.5) -> tuple[Survey, float]:
    """Honest probabilities with that mean, n uniform labels, and the mean label of the whole batch."""
    rng = np.random.default_rng(seed)
    f = rng.beta(4 * rate, 4 * (1 - rate), size=size)
    y = (rng.random(size) < f).astype(float)
    rows = rng.choice(size, n, replace=False)
    return Survey(f, rows, y[rows]), float(y.mean())


@pytest.mark.parametrize("power", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("n", [20, 150, 1500])
def test_mean_is_ppi_pys(n: int, power: float | None) -> None:
    """Theirs divides by n and has the normal quantile, ours n - 1 and Student's; theirs ends at power 1."""
    ppi_py = pytest.importorskip("ppi_py")
    rows, _ = survey(n)
    rows = rows._replace(prediction=2 * rows.prediction)
    result = ppi_mean(rows, DELTA, power=power)
    thinner = None if power is None else power * (1 - n / 2000)
    rest = np.delete(rows.prediction, rows.labelled)
    at_labels = rows.prediction[rows.labelled]
    low, high = np.ravel(ppi_py.ppi_mean_ci(rows.label, at_labels, rest, alpha=DELTA, lam=thinner))
    assert result.estimate == pytest.approx((low + high) / 2, rel=1e-12)
    half = result.standard_error * np.sqrt((n - 1) / n) * norm.isf(DELTA / 2)
    assert half == pytest.approx((high - low) / 2, rel=1e-12)
    assert result.high - result.estimate == pytest.approx(result.standard_error * t_quantile(rows, DELTA))


def test_without_predictions_it_is_students_interval() -> None:
    rows, _ = survey(60)
    rating = rows._replace(label=np.random.default_rng(1).normal(size=60))
    low, high = ttest_1samp(rating.label, 0).confidence_interval(1 - DELTA)
    result = ppi_mean(rating, DELTA, power=0.0)
    assert (result.low, result.high) == pytest.approx((low, high))
    assert result.label_only == pytest.approx((low, high))


def test_labels_alone_get_the_exact_interval() -> None:
    rows, _ = survey(40)
    assert ppi_mean(rows, DELTA).label_only == clopper_pearson_interval(int(rows.label.sum()), 40, DELTA)


def test_variance_of_clusters_is_statsmodels() -> None:
    rng = np.random.default_rng(2)
    cluster = rng.integers(50, size=400)
    y = rng.normal(size=50)[cluster] + rng.normal(size=400)
    result = ppi_mean(Survey(np.zeros(400), np.arange(400), y, cluster=cluster), DELTA)
    fit = OLS(y, np.ones(400)).fit(cov_type="cluster", cov_kwds={"groups": cluster, "df_correction": False})
    assert result.standard_error == pytest.approx(fit.bse[0])


def test_items_alone_in_their_cluster_change_nothing() -> None:
    rows, _ = survey()
    named = rows._replace(cluster=np.random.default_rng(0).permutation(2000))
    one = rows._replace(stratum=np.full(2000, 7))
    for other in (named, one):
        result, expected = ppi_mean(other, DELTA), ppi_mean(rows, DELTA)
        assert result[:4] == pytest.approx(expected[:4], rel=1e-12)


def test_a_batch_with_all_labels_has_no_error_left() -> None:
    rows, mean = survey(2000)
    result = ppi_mean(rows, DELTA, target="batch")
    assert result.estimate == pytest.approx(mean)
    assert result.standard_error == 0
    assert ppi_mean(rows, DELTA).standard_error > 0.01


def test_design_variance_by_enumeration() -> None:
    """Over all samples of 3 of 7 items the estimate is unbiased, and its mean variance is the true one."""
    f, y = np.array([0.1, 0.9, 0.4, 0.6, 0.2, 0.7, 0.5]), np.array([0.0, 1, 0, 1, 1, 1, 0])
    result = [
        ppi_mean(Survey(f, np.array(rows), y[list(rows)]), DELTA, target="batch", power=0.7)
        for rows in itertools.combinations(range(7), 3)
    ]
    estimates = np.array([each.estimate for each in result])
    assert estimates.mean() == pytest.approx(y.mean())
    assert np.mean([each.standard_error**2 for each in result]) == pytest.approx(estimates.var())


def test_power_is_the_best_one() -> None:
    rows, _ = survey(500)
    best = tuned_power(rows)
    variance = [ppi_mean(rows, DELTA, power=power).standard_error for power in (best, best - 0.2, best + 0.2)]
    assert variance[0] < min(variance[1:])
    assert tuned_power(rows._replace(prediction=1 - rows.prediction)) == 0
    assert tuned_power(rows._replace(prediction=np.full(2000, 0.8))) == 0


@pytest.mark.parametrize("target", ["population", "batch"])
@pytest.mark.parametrize(("rate", "n"), [(0.5, 100), (0.1, 200), (0.05, 400), (0.02, 1000)])
def test_intervals_cover_from_twenty_expected_rare_labels_on(target: str, rate: float, n: int) -> None:
    trials, missed = 300, 0
    for seed in range(trials):
        rows, mean = survey(n, seed=seed, rate=rate)
        result = ppi_mean(rows, DELTA, target=target)  # type: ignore[arg-type]
        missed += not result.low <= (rate if target == "population" else mean) <= result.high
    assert missed <= violation_limit(trials, DELTA)


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("n", [30, 60, 100, 200])
def test_what_is_shown_covers_at_any_number_of_labels(rate: float, n: int) -> None:
    """The asymptotic interval where it is usable, else the one from labels alone; see also the canary."""
    trials, missed = 300, 0
    for seed in range(trials):
        result = ppi_mean(survey(n, seed=seed, rate=rate)[0], DELTA)
        low, high = (result.low, result.high) if result.usable else result.label_only
        missed += not low <= rate <= high
    assert missed <= violation_limit(trials, DELTA)


def test_the_unguarded_interval_would_not() -> None:
    result = [ppi_mean(survey(30, seed=seed, rate=0.05)[0], DELTA) for seed in range(300)]
    missed = sum(not each.low <= 0.05 <= each.high for each in result)
    assert missed > violation_limit(300, DELTA)
    assert not any(each.usable for each in result)


@pytest.mark.parametrize("target", ["population", "batch"])
@pytest.mark.parametrize("clusters", [40, 100])
def test_clustered_intervals_cover_where_row_wise_ones_do_not(target: str, clusters: int) -> None:
    rng, trials, missed, blind = np.random.default_rng(clusters), 300, 0, 0
    cluster = np.repeat(np.arange(300), 5)
    for _ in range(trials):
        q = rng.beta(0.5, 0.5, size=300)[cluster]
        y = (rng.random(1500) < q).astype(float)
        f = np.clip(q + 0.5 * rng.normal(size=1500), 0, 1)
        rows = (rng.choice(300, clusters, replace=False)[:, None] * 5 + np.arange(5)).ravel()
        truth = 0.5 if target == "population" else y.mean()
        for cut in (cluster, None):
            result = ppi_mean(Survey(f, rows, y[rows], cluster=cut), DELTA, target=target)  # type: ignore[arg-type]
            missed += cut is not None and not result.low <= truth <= result.high
            blind += cut is None and not result.low <= truth <= result.high
    assert missed <= violation_limit(trials, DELTA) < blind


@pytest.mark.parametrize("target", ["population", "batch"])
def test_stratified_intervals_cover(target: str) -> None:
    """Three in ten items are hard; half of the labels go there."""
    rng, trials, missed = np.random.default_rng(3), 300, 0
    for _ in range(trials):
        hard = (rng.random(1500) < 0.3).astype(int)
        f = np.where(hard == 1, rng.beta(1, 3, size=1500), rng.beta(3, 1, size=1500))
        y = (rng.random(1500) < f).astype(float)
        rows = np.concatenate([rng.choice(np.flatnonzero(hard == h), 60, replace=False) for h in (0, 1)])
        result = ppi_mean(Survey(f, rows, y[rows], stratum=hard), DELTA, target=target)  # type: ignore[arg-type]
        missed += not result.low <= (0.6 if target == "population" else y.mean()) <= result.high
    assert missed <= violation_limit(trials, DELTA)


@pytest.mark.parametrize("target", ["population", "batch"])
@pytest.mark.parametrize(
    ("small", "large"), [((95, 100, 0.5), (40, 900, 0.98)), ((90, 100, 0.5), (60, 900, 0.98))]
)
def test_a_stratum_whose_labels_agree_hides_nothing(
    target: str, small: tuple[int, int, float], large: tuple[int, int, float]
) -> None:
    """The large stratum's few labels often agree: a variance of 0 that others' labels do not replace."""
    rng, trials = np.random.default_rng(5), 300
    (n, size, rate), (m, many, high) = small, large
    stratum, rows = np.repeat([0, 1], [size, many]), np.r_[np.arange(n), size + np.arange(m)]
    missed = {"shown": 0, "label_only": 0}
    for _ in range(trials):
        y = (rng.random(size + many) < np.where(stratum == 1, high, rate)).astype(float)
        f = np.clip(0.6 * y + 0.2 + rng.normal(0, 0.1, len(y)), 0, 1)
        result = ppi_mean(Survey(f, rows, y[rows], stratum=stratum), DELTA, target=target)  # type: ignore[arg-type]
        truth = y.mean() if target == "batch" else (size * rate + many * high) / (size + many)
        shown = (result.low, result.high) if result.usable else result.label_only
        missed["shown"] += not shown[0] <= truth <= shown[1]
        missed["label_only"] += not result.label_only[0] <= truth <= result.label_only[1]
    assert max(missed.values()) <= violation_limit(trials, DELTA), missed


@pytest.mark.parametrize("rate", [0.99, 0.95, 0.01])
@pytest.mark.parametrize("cut", ["plain", "strata", "uneven strata", "clusters", "both"])
def test_labels_that_agree_leave_a_width(cut: str, rate: float) -> None:
    """Case 22: with strata or clusters the limits from labels alone were (1.0, 1.0)."""
    rng, trials, size, n, missed = np.random.default_rng(1), 300, 600, 60, 0
    stratum = {"strata": np.arange(size) % 2, "both": np.arange(size) // 4 % 2}.get(cut)
    if cut == "uneven strata":
        stratum = (np.arange(size) < 20).astype(int)
    cluster = np.arange(size) // 2 if cut in ("clusters", "both") else None
    for trial in range(trials):
        y = (rng.random(size) < rate).astype(float) if trial else np.full(size, round(rate), float)
        f = np.clip(0.6 * y + 0.2 + rng.normal(0, 0.1, size), 0, 1)
        result = ppi_mean(Survey(f, np.arange(n), y[:n], stratum, cluster), DELTA)
        assert result.label_only[1] - result.label_only[0] > 0.01
        low, high = (result.low, result.high) if result.usable else result.label_only
        missed += not low <= rate <= high
    assert missed <= violation_limit(trials, DELTA)


@pytest.mark.parametrize("n", [30, 200])
def test_ratings_cover(n: int) -> None:
    rng, trials, missed, alone = np.random.default_rng(n), 300, 0, 0
    for _ in range(trials):
        z = rng.normal(size=1000)
        y = np.clip(np.round(3 + z + rng.normal(size=1000)), 1, 5)
        rows = rng.choice(1000, n, replace=False)
        result = ppi_mean(Survey(3 + 0.8 * z, rows, y[rows]), DELTA)
        missed += not result.low <= 3 <= result.high
        alone += not result.label_only[0] <= 3 <= result.label_only[1]
    assert max(missed, alone) <= violation_limit(trials, DELTA)


def test_rare_strata_are_put_together() -> None:
    stratum = np.repeat(np.arange(5), [400, 300, 200, 60, 40])
    labelled = np.concatenate([np.arange(90), np.arange(400, 450), np.arange(700, 742), [900, 901, 960]])
    result = coarse_strata(stratum, labelled)
    assert result is not None
    assert [set(result[stratum == k]) for k in range(5)] == [{0}, {1}, {2}, {2}, {2}]
    assert coarse_strata(stratum, labelled[:60]) is None
    assert coarse_strata(stratum, labelled, cluster=np.zeros(1000, dtype=int)) is None
    whole = coarse_strata(np.repeat([3, 8], 500), np.arange(400, 600))
    assert whole is not None
    assert np.unique(whole, return_counts=True)[1].tolist() == [500, 500]


def test_strata_mend_labels_drawn_more_often_from_some() -> None:
    """Hard items were labelled three times as often: within strata the draw is uniform, in all it is not."""
    rng, trials, missed, naive = np.random.default_rng(4), 200, 0, 0
    for _ in range(trials):
        hard = rng.random(1500) < 0.3
        p = np.where(hard, 0.3, 0.8)
        y = (rng.random(1500) < p).astype(float)
        rows = np.flatnonzero(rng.random(1500) < np.where(hard, 0.3, 0.1))
        drawn = Survey(np.full(1500, 0.5), rows, y[rows])
        for strata, count in ((coarse_strata(hard.astype(int), rows), True), (None, False)):
            mean = ppi_mean(drawn._replace(stratum=strata), DELTA)
            wrong = not mean.low <= 0.3 * 0.3 + 0.7 * 0.8 <= mean.high
            missed, naive = missed + (wrong and count), naive + (wrong and not count)
    assert missed <= violation_limit(trials, DELTA)
    assert naive > violation_limit(trials, DELTA)


def test_parts_of_two_models_give_their_covariance() -> None:
    rows, _ = survey()
    twice = rows._replace(label=2 * rows.label, prediction=2 * rows.prediction)
    powers = np.full(150, 0.5)
    (_, one), (_, two) = (influence(each, powers, "population") for each in (rows, twice))
    assert one @ two == pytest.approx(2 * (one @ one))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labelled": np.arange(99), "label": np.tile([0.0, 1, 1], 33)}, "99 labels"),
        ({"label": np.arange(150) < 9.0}, "9 labels differ"),
        ({"label": np.arange(150) >= 9.0}, "9 labels differ"),
        ({"cluster": np.arange(2000) % 39}, "39 labelled clusters"),
        ({"labelled": np.arange(150), "stratum": (np.arange(2000) < 39).astype(int)}, "39 labelled"),
    ],
)
def test_too_few_labels_are_said_to_be(change: dict[str, np.ndarray], reason: str) -> None:
    rows = survey()[0]._replace(labelled=np.arange(150), label=np.tile([0.0, 1.0], 75))
    assert too_few(rows) == ""
    result = ppi_mean(rows._replace(**change), DELTA)
    assert not result.usable
    assert result.reason.startswith(reason)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_verdict_bounds_hold_for_every_way_to_err(alpha: float) -> None:
    """100 items, 60 accepted, 40 of them for A: flip any admissible number of verdicts, abstain any way."""
    low, high = verdict_bounds(40, 60, 100, alpha)
    wins = [40 - a + b + c for a in range(13) for b in range(13) if a + b <= alpha * 60 for c in (0, 40)]
    assert low == pytest.approx(min(wins) / 100)
    assert high == pytest.approx(max(wins) / 100)


def test_verdict_bounds_of_a_population_cover() -> None:
    rng, trials, missed = np.random.default_rng(0), 500, 0
    for _ in range(trials):
        cell = rng.multinomial(200, [0.3, 0.3, 0.4])
        low, high = verdict_bounds(int(cell[0]), int(cell[:2].sum()), 200, 0.1, DELTA)
        missed += not (low <= 0.3 - 0.1 * 0.6 and high >= 0.3 + 0.1 * 0.6 + 0.4)
    assert missed <= violation_limit(trials, DELTA)
    assert verdict_bounds(0, 0, 10, 0.1) == (0.0, 1.0)


def test_wrong_input_is_refused() -> None:
    rows, _ = survey()
    labelled = rows.labelled
    for bad in (
        rows._replace(label=rows.label[:-1]),
        rows._replace(labelled=np.append(labelled[:-1], labelled[0])),
        rows._replace(labelled=np.append(labelled[:-1], 2000)),
        rows._replace(labelled=labelled.astype(float)),
        rows._replace(label=np.append(rows.label[:-1], np.nan)),
        rows._replace(prediction=np.append(rows.prediction[:-1], np.inf)),
        rows._replace(cluster=np.zeros(3)),
        rows._replace(cluster=np.zeros(2000)),
        rows._replace(stratum=np.isin(np.arange(2000), labelled[0]).astype(int)),
        rows._replace(labelled=labelled[:0], label=rows.label[:0]),
    ):
        with pytest.raises(ValueError, match=r"must|twice|finite|entry|stratum"):
            ppi_mean(bad, DELTA)
    for options in ({"delta": 1.0}, {"target": "all"}):
        with pytest.raises(ValueError, match=r"delta|target"):
            ppi_mean(rows, **{"delta": DELTA, **options})  # type: ignore[arg-type]
    for counts in ((3, 2, 5), (1, 6, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="order"):
            verdict_bounds(*counts, 0.1)
    with pytest.raises(ValueError, match="strictly"):
        verdict_bounds(1, 2, 3, 1.0)
