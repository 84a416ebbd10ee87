"""Rank several models by means or Bradley-Terry strengths, with simultaneous limits.

Both use every item (`inference`), and both name the pairs that the labels cannot tell apart. Strengths are
log-odds that sum to 0. A rank is a range, never a point.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, stdtrit

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.inference import (
    MIN_CLUSTERS,
    MIN_LABELS,
    MIN_RARE,
    ROUNDING,
    Survey,
    Target,
    check_survey,
    effective_residuals,
    influence,
    t_quantile,
    too_few,
    tuned_power,
)

EXACT_MODELS = 8
"""Up to this many, a rank correlation's p-value counts all orders (8! = 40,320)."""


class Leaderboard(NamedTuple):
    """m models: `estimate`, simultaneous limits `low` and `high`, `standard_error`, all (m,).

    `above` (m, m): the row's model is better than the column's, on simultaneous limits for all differences.
    `not_separable`: the pairs where neither is. `first_place`, `last_place` (m,): between how many are surely
    better and how many surely worse, 1 is best. `usable` and `reason` as in `inference.Mean`, for the first
    model that lacks labels; the limits of such models are infinite, and they are better than none.
    """

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray
    above: BoolArray
    not_separable: tuple[tuple[int, int], ...]
    first_place: IntArray
    last_place: IntArray
    usable: bool
    reason: str


class Games(NamedTuple):
    """Comparisons of two models each, with predictions for all and labels for some.

    `first`, `second` (N,): models 0..m-1; `prediction` (N,) in [0, 1]: the probability, as the judges see it,
    that the first wins. `labelled` (n,) places drawn uniformly, `label` (n,) in [0, 1]: 1 where people say
    that the first wins, a tie is 0.5. `cluster` (N,): games on one item are clustered.
    """

    first: IntArray
    second: IntArray
    prediction: FloatArray
    labelled: IntArray
    label: FloatArray
    cluster: IntArray | None = None


class RankCorrelation(NamedTuple):
    """Two leaderboards of the same models: coefficient and two-sided p-value, by Spearman and by Kendall."""

    spearman: float
    spearman_pvalue: float
    kendall: float
    kendall_pvalue: float


def mean_leaderboard(
    surveys: Sequence[Survey], delta: float, *, target: Target = "population"
) -> Leaderboard:
    """Mean win rate, pass rate or rating of each model, one survey a model.

    Without `cluster`, all surveys are on the same items in the same order, and on the same labelled ones.
    With it, each model may have items and labels of its own: clusters of one name are one thing (the answers
    of several models to one question, the two sides of a game), and what they share does not count as a
    difference.

    The limits on all means miss anywhere with probability at most delta, and so do, taken by themselves, the
    limits on all differences behind `above` (Sidak; the covariance between models is used). Asymptotic:
    measured at delta = 0.1 with 5 models, some interval misses in 11 % of draws from 100 labels on.
    Raises ValueError as `inference.ppi_mean` does, or if surveys without clusters differ in their items.
    Source: PPI++, arXiv 2311.01453; all pairs at once as in `inference.t_quantile`.

    >>> rng = np.random.default_rng(0)
    >>> skill, drawn = np.array([0.8, 0.5, 0.52]), np.arange(400)
    >>> passed = (rng.random((2000, 3)) < skill).astype(float)
    >>> surveys = [Survey(np.full(2000, 0.5), drawn, each[:400]) for each in passed.T]
    >>> board = mean_leaderboard(surveys, delta=0.1)
    >>> board.estimate.round(2).tolist(), board.not_separable, board.first_place.tolist()
    ([0.76, 0.48, 0.51], ((1, 2),), [1, 2, 2])
    """
    for survey in surveys:
        check_survey(survey)
    if any((survey.cluster is None) != (surveys[0].cluster is None) for survey in surveys):
        raise ValueError("clusters: all models need the same kind, given or not")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    influences = [
        influence(survey, np.full(len(survey.label), tuned_power(survey)), target) for survey in surveys
    ]
    parts = _aligned(surveys, [each for _, each in influences])
    m = len(surveys)
    alone, pairs = (
        np.array([t_quantile(survey, delta, comparisons) for survey in surveys])
        for comparisons in (m, max(1, m * (m - 1) // 2))
    )
    reach = alone, np.maximum(pairs[:, None], pairs)
    reasons = [too_few(survey) for survey in surveys]
    return _board(np.array([estimate for estimate, _ in influences]), parts.T @ parts, reach, reasons)


def bradley_terry(games: Games, m: int, delta: float) -> Leaderboard:
    """Strengths (m,) with P(first wins) = 1 / (1 + exp(strength of second - strength of first)).

    The score equation of the labels, with that of the predictions added for all games and taken off for the
    labelled ones, at the weight in [0, 1] that leaves least variance (PPI++). The covariance is a sandwich,
    summed over clusters: it stays right where the model does not hold, and then the strengths are those of
    the nearest model. Limits hold together as in `mean_leaderboard`; measured at delta = 0.1 with 5 models,
    some interval misses in 5 to 9 % of draws from 200 labels on.
    Raises ValueError for arrays that do not fit, or where the labels know no finite strengths: unless every
    model has a chain of wins over every other. Bradley and Terry (1952); Angelopoulos, Duchi and Zrnic,
    arXiv 2311.01453, section 3.

    >>> rng = np.random.default_rng(0)
    >>> first, second = np.array([0, 0, 1] * 400), np.array([1, 2, 2] * 400)
    >>> p = expit(np.array([1.0, 0.0, -1.0])[first] - np.array([1.0, 0.0, -1.0])[second])
    >>> wins = (rng.random(1200) < p).astype(float)
    >>> board = bradley_terry(Games(first, second, p, np.arange(600), wins[:600]), m=3, delta=0.1)
    >>> board.estimate.round(1).tolist(), board.not_separable
    ([1.0, 0.0, -1.0], ())
    """
    _check_games(games, m)
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    size, n = len(games.first), len(games.label)
    drawn = np.zeros(size)
    drawn[games.labelled] = 1 / n
    outcome = np.zeros(size)
    outcome[games.labelled] = games.label
    alone = _strengths(games, drawn, drawn * outcome, m)
    power = _game_power(games, alone)
    weight = power / size + (1 - power) * drawn
    wins = power / size * games.prediction + drawn * (outcome - power * games.prediction)
    strengths = _strengths(games, weight, wins, m)
    residual = wins - weight * expit(strengths[games.first] - strengths[games.second])
    cluster = np.arange(size) if games.cluster is None else np.unique(games.cluster, return_inverse=True)[1]
    score = np.zeros((int(cluster.max()) + 1, m))
    np.add.at(score, (cluster, games.first), residual)
    np.subtract.at(score, (cluster, games.second), residual)
    parts = score @ np.linalg.pinv(_information(games, weight, strengths, m), hermitian=True)
    units = len(np.unique(cluster[games.labelled]))
    covariance = parts.T @ parts * units / max(1, units - 1)
    pairs = m * (m - 1) // 2
    reach = [-float(stdtrit(max(1, units - m), -np.expm1(np.log1p(-delta) / k) / 2)) for k in (m, pairs)]
    return _board(strengths, covariance, (reach[0], reach[1]), [_too_few_games(games, units, m)] * m)


def rank_correlation(a: FloatArray, b: FloatArray) -> RankCorrelation | None:
    """Do two leaderboards order the same models (m,) alike? Spearman's rho, Kendall's tau-b for ties.

    p-values are of no association: all orders counted up to 8 models, scipy's approximations beyond. None for
    fewer than 3 models, or where a leaderboard has them all equal. The models are taken as given: what is
    uncertain about their figures does not enter. Raises ValueError if the shapes differ or a figure is not
    finite.
    Source: Spearman 1904; Kendall 1945 for ties.

    >>> found = rank_correlation(np.array([0.9, 0.7, 0.5, 0.2]), np.array([0.8, 0.6, 0.7, 0.1]))
    >>> [round(each, 3) for each in found]
    [0.8, 0.333, 0.667, 0.333]
    """
    from scipy.stats import kendalltau, rankdata, spearmanr

    if a.shape != b.shape or a.ndim != 1 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("two lists (m,) of finite figures are needed")
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rho, tau = spearmanr(a, b), kendalltau(a, b)
    if len(a) > EXACT_MODELS:
        return RankCorrelation(*(float(x) for x in (rho.statistic, rho.pvalue, tau.statistic, tau.pvalue)))
    by_rank = [np.diag(rankdata(each) - (len(a) + 1) / 2) for each in (a, b)]
    by_pair = [np.sign(each[:, None] - each) for each in (a, b)]
    exact = [_permutation_pvalue(*each) for each in (by_rank, by_pair)]
    return RankCorrelation(float(rho.statistic), exact[0], float(tau.statistic), exact[1])


def _aligned(surveys: Sequence[Survey], parts: Sequence[FloatArray]) -> FloatArray:
    """The parts (clusters, m) of all models' errors, a row for each cluster that any of them knows."""
    names = [survey.cluster for survey in surveys if survey.cluster is not None]
    if not names:
        if not all(np.array_equal(survey.labelled, surveys[0].labelled) for survey in surveys):
            raise ValueError("without clusters, all models need the same labelled items")
        if len({len(survey.prediction) for survey in surveys}) > 1:
            raise ValueError("without clusters, all models need the same items")
        return np.column_stack(parts)
    every = np.unique(np.concatenate(names))
    table = np.zeros((len(every), len(surveys)))
    for j, mine in enumerate(names):
        table[np.searchsorted(every, np.unique(mine)), j] = parts[j]
    return table


def _board(
    estimate: FloatArray,
    covariance: FloatArray,
    reach: tuple[FloatArray | float, FloatArray | float],
    reasons: Sequence[str],
) -> Leaderboard:
    m, poor = len(estimate), np.array([bool(reason) for reason in reasons])
    variance = np.diag(covariance)
    error = np.sqrt(variance)
    width = np.where(poor, np.inf, reach[0] * error)
    apart = np.sqrt(np.maximum(0.0, variance[:, None] + variance - 2 * covariance))
    above = (estimate[:, None] - estimate > reach[1] * apart) & ~(poor[:, None] | poor)
    reason = next(filter(None, reasons), "")
    unclear = ~(above | above.T)
    return Leaderboard(
        estimate,
        estimate - width,
        estimate + width,
        error,
        above,
        tuple((i, j) for i in range(m) for j in range(i + 1, m) if unclear[i, j]),
        1 + above.sum(axis=0),
        m - above.sum(axis=1),
        not reason,
        reason,
    )


def _check_games(games: Games, m: int) -> None:
    check_survey(Survey(games.prediction, games.labelled, games.label, cluster=games.cluster))
    if not games.first.shape == games.second.shape == games.prediction.shape:
        raise ValueError("first, second and prediction must be (N,)")
    if m < 2 or any(np.any((side < 0) | (side >= m)) for side in (games.first, games.second)):
        raise ValueError(f"models must lie in 0..{m - 1}, and be at least two")
    if np.any(games.first == games.second):
        raise ValueError("a model plays against itself")
    if any(np.any((share < 0) | (share > 1)) for share in (games.prediction, games.label)):
        raise ValueError("predictions and labels must lie in [0, 1]")
    from scipy.sparse.csgraph import connected_components

    beats = np.zeros((m, m))
    first, second = games.first[games.labelled], games.second[games.labelled]
    np.add.at(beats, (first, second), games.label)
    np.add.at(beats, (second, first), 1 - games.label)
    if connected_components(beats, connection="strong", return_labels=False) > 1:
        raise ValueError(
            "no finite strengths: some models never lose to the others in the labels, or never met"
        )


def _too_few_games(games: Games, units: int, m: int) -> str:
    """Each model needs wins and losses of its own: one that hardly loses has no usable limit."""
    first, second = games.first[games.labelled], games.second[games.labelled]
    won = np.bincount(first, games.label, m) + np.bincount(second, 1 - games.label, m)
    lost = np.bincount(first, 1 - games.label, m) + np.bincount(second, games.label, m)
    if len(games.label) < MIN_LABELS:
        return f"{len(games.label)} labels, fewer than {MIN_LABELS}"
    if min(won.min(), lost.min()) < MIN_RARE:
        return f"a model with fewer than {MIN_RARE} labelled wins or losses"
    if units < MIN_CLUSTERS:
        return f"{units} labelled clusters, fewer than {MIN_CLUSTERS}"
    for model in range(m):
        carried, least = effective_residuals(_as_survey(games, model))
        if carried < least:
            return f"a model where the error of the predictions rests on fewer than {least} labelled games"
    return ""


def _as_survey(games: Games, model: int) -> Survey:
    """The games of one model, from its side."""
    mine = np.flatnonzero((games.first == model) | (games.second == model))
    at_labels = np.isin(games.labelled, mine)
    won = np.where(games.first == model, games.prediction, 1 - games.prediction)
    label = np.where(games.first[games.labelled] == model, games.label, 1 - games.label)[at_labels]
    cluster = None if games.cluster is None else games.cluster[mine]
    labelled = np.searchsorted(mine, games.labelled[at_labels])
    return Survey(won[mine], labelled, label, cluster=cluster)


def _game_power(games: Games, strengths: FloatArray) -> float:
    """Least squares of the labels' residuals on the predictions', as in `inference.tuned_power`."""
    expected = expit(strengths[games.first] - strengths[games.second])
    hoped = games.prediction - expected
    at_labels = hoped[games.labelled] - hoped[games.labelled].mean()
    spread = float(np.mean((hoped - hoped.mean()) ** 2))
    fit = float(np.mean(at_labels * (games.label - expected[games.labelled])))
    return min(1.0, max(0.0, fit / spread)) if spread > ROUNDING else 0.0


def _information(games: Games, weight: FloatArray, strengths: FloatArray, m: int) -> FloatArray:
    p = expit(strengths[games.first] - strengths[games.second])
    once = np.bincount(games.first * m + games.second, weight * p * (1 - p), m * m).reshape(m, m)
    met = np.asarray(once + once.T, dtype=np.float64)
    return np.asarray(np.diag(met.sum(axis=1)) - met, dtype=np.float64)


def _strengths(games: Games, weight: FloatArray, wins: FloatArray, m: int) -> FloatArray:
    """Newton's steps, at most 1 in any strength, on a concave likelihood."""
    strengths = np.zeros(m)
    for _ in range(100):
        p = expit(strengths[games.first] - strengths[games.second])
        residual = wins - weight * p
        score = np.bincount(games.first, residual, m) - np.bincount(games.second, residual, m)
        inverse = np.linalg.pinv(_information(games, weight, strengths, m), hermitian=True)
        step = np.asarray(inverse @ score, dtype=np.float64)
        strengths = strengths + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            return np.asarray(strengths - strengths.mean(), dtype=np.float64)
    raise ValueError("no finite strengths: the predictions outweigh the labels")


def _permutation_pvalue(a: FloatArray, b: FloatArray) -> float:
    """The share of all orders of the models in b under which |sum of a * b| is as large as it is."""
    orders = np.array(list(itertools.permutations(range(len(a)))))
    sums = np.abs(np.einsum("ij,pij->p", a, b[orders[:, :, None], orders[:, None, :]]))
    return float(np.mean(sums >= sums[0] - 1e-9))
