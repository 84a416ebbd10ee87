"""Models with a handful of numbers, fitted on dev rows: honest scores, and a score learned from many signs.

A fit returns a record of plain numbers that can be written down, and applying the record gives the same bits
again, whatever the number of rows. Dev rows are never certification rows: a score fitted on the rows that it
is tested on breaks the promise. This file does not test: that is `certify`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.confidence import Confidence, ensemble, normalised

SATURATED = 1e-9
"""Scores are held this far from 0 and 1 before their log-odds are taken."""
DIGITS = 12
"""Fitted scores are rounded here, so that two orders of one sum give one score."""
MEAN, SPREAD, ORDER_GAP, LENGTH_GAP = range(4)
RIDGE = 1.0


# ── one solver ───────────────────────────────────────────────────────────────────────────────────


def conditional_logit(x: FloatArray, target: FloatArray, ridge: FloatArray) -> FloatArray:
    """Weights (d,) with which P(label k | x) is proportional to exp(x_k · weights), shrunk towards 0.

    `x` (n, c, d) holds the signs that speak for each label, `target` (n, c) the label as shares that sum to
    1, `ridge` (d,) > 0 the penalties, in units of rows. Logistic regression is c = 2 with x[:, 0] = 0.
    Newton's method with halved steps on a convex loss, so the answer is unique and no generator is needed;
    without rows it is 0. Raises ValueError if shapes differ, a value is not finite, or a penalty is not
    positive. McFadden (1974); Hoerl and Kennard (1970).

    >>> x = np.zeros((4, 2, 1))
    >>> x[:, 1, 0] = [1, 1, 1, -1]
    >>> target = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> conditional_logit(x, target, np.array([0.5])).round(4).tolist()
    [0.6836]
    """
    if x.ndim != 3 or target.shape != x.shape[:2] or ridge.shape != x.shape[2:]:
        raise ValueError(f"shapes differ: x {x.shape}, target {target.shape}, ridge {ridge.shape}")
    if not (np.isfinite(x).all() and np.isfinite(target).all() and np.all(ridge > 0)):
        raise ValueError("x and target must be finite, and penalties positive")
    weights = np.zeros(x.shape[2])
    loss, probability = _penalised(weights, x, target, ridge)
    for _ in range(100):
        mean = np.einsum("nc,ncd->nd", probability, x)
        gradient = np.einsum("nc,ncd->d", target - probability, x) - ridge * weights
        hessian = np.einsum("nc,ncd,nce->de", probability, x, x) - mean.T @ mean + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        while np.abs(step).max() > 1e-10:
            tried, moved = _penalised(weights + step, x, target, ridge)
            if tried <= loss:
                break
            step /= 2
        else:
            break
        weights, loss, probability = weights + step, tried, moved
    return weights


def _penalised(
    weights: FloatArray, x: FloatArray, target: FloatArray, ridge: FloatArray
) -> tuple[float, FloatArray]:
    eta = x @ weights
    log_share = eta - np.logaddexp.reduce(eta, axis=1, keepdims=True)
    return float((ridge * weights**2).sum() / 2 - (target * log_share).sum()), np.exp(log_share)


def _logistic(x: FloatArray, target: FloatArray, ridge: FloatArray) -> FloatArray:
    both = np.stack([np.zeros_like(x), x], axis=1)
    return conditional_logit(both, np.column_stack([1 - target, target]), ridge)


# ── recalibration: score -> P(correct), never falling ────────────────────────────────────────────


class Isotonic(NamedTuple):
    """Steps: `values` (k,) from `knots` (k,) on, both rising; below the first knot the first value."""

    knots: FloatArray
    values: FloatArray


class Platt(NamedTuple):
    """P(correct) = expit(intercept + slope · log-odds of the score), slope >= 0."""

    intercept: float
    slope: float


class Temperature(NamedTuple):
    """P(correct) = expit(log-odds of the score / temperature): keeps what is above a half above a half."""

    temperature: float


Curve: TypeAlias = Isotonic | Platt | Temperature


def fit_isotonic(score: FloatArray, correct: npt.NDArray[np.generic]) -> Isotonic:
    """The rising steps closest to the outcomes.

    `score` (n,) in [0, 1], `correct` (n,) booleans, or shares in [0, 1]. It needs no shape of the curve, and
    a few hundred rows: with fewer, steps are wide and what it says at the ends is 0 or 1. Raises ValueError
    without rows, or for values outside [0, 1]. Barlow et al. (1972).

    >>> fit_isotonic(np.array([0.6, 0.7, 0.8, 0.9]), np.array([False, True, False, True]))
    Isotonic(knots=array([0.6, 0.7, 0.9]), values=array([0. , 0.5, 1. ]))
    """
    from scipy.optimize import isotonic_regression

    score, outcome = _outcomes(score, correct)
    levels, place = np.unique(score, return_inverse=True)
    rows = np.bincount(place).astype(np.float64)
    fitted = isotonic_regression(np.bincount(place, weights=outcome) / rows, weights=rows).x
    first = np.append(True, np.diff(fitted) > 0)
    return Isotonic(levels[first], fitted[first])


def fit_platt(score: FloatArray, correct: npt.NDArray[np.generic]) -> Platt:
    """A logistic curve in the log-odds of the score; flat where a higher score would mean less.

    As `fit_isotonic`, with two numbers only: it can do with some fifty rows. A weak penalty keeps it finite
    where all rows are right. Platt (1999).

    >>> score, correct = np.repeat([0.6, 0.9], 50), np.arange(100) % 50 < np.repeat([25, 40], 50)
    >>> [round(float(part), 2) for part in fit_platt(score, correct)]
    [-0.27, 0.73]
    """
    score, outcome = _outcomes(score, correct)
    z = log_odds(score)
    centre = float(z.mean())
    base, slope = _logistic(np.column_stack([np.ones_like(z), z - centre]), outcome, np.array([0.1, RIDGE]))
    if slope < 0:
        slope, base = 0.0, _logistic(np.ones((len(z), 1)), outcome, np.array([0.1]))[0]
    return Platt(float(base - slope * centre), float(slope))


def fit_temperature(score: FloatArray, correct: npt.NDArray[np.generic]) -> Temperature:
    """One number: how many times too sure the judge is; infinite where its scores mean nothing, or less.

    As `fit_platt` without an intercept, for two labels. The order of scores stays. Guo et al. (2017).

    >>> score, correct = np.full(200, 0.9), np.arange(200) < 150
    >>> round(fit_temperature(score, correct).temperature, 2)
    2.01
    """
    score, outcome = _outcomes(score, correct)
    slope = float(_logistic(log_odds(score)[:, None], outcome, np.array([RIDGE]))[0])
    return Temperature(1 / slope if slope > 0 else float("inf"))


RECALIBRATORS: Mapping[str, Callable[[FloatArray, npt.NDArray[np.generic]], Curve]] = {
    "isotonic": fit_isotonic,
    "platt": fit_platt,
    "temperature": fit_temperature,
}


def recalibrated(curve: Curve, score: FloatArray) -> FloatArray:
    """P(correct) of each score, of the same shape; it never falls as the score rises.

    Source: the fits of `fit_isotonic`, `fit_platt` and `fit_temperature` name their own.

    >>> recalibrated(Isotonic(np.array([0.6, 0.8]), np.array([0.5, 0.9])), np.array([0.1, 0.7, 0.8])).tolist()
    [0.5, 0.5, 0.9]
    >>> recalibrated(Temperature(2.0), np.array([0.5, 0.9])).tolist()
    [0.5, 0.75]
    """
    if isinstance(curve, Isotonic):
        place = np.searchsorted(curve.knots, score, side="right") - 1
        return np.take(curve.values, np.maximum(place, 0))
    slope = curve.slope if isinstance(curve, Platt) else 1 / curve.temperature
    base = curve.intercept if isinstance(curve, Platt) else 0.0
    return np.asarray(np.round(expit(base + slope * log_odds(score)), DIGITS), dtype=np.float64)


def log_odds(score: FloatArray) -> FloatArray:
    """Log-odds of scores in [0, 1], finite: saturated ones are held at 1e-9 from the ends.

    Source: arithmetic; nothing to cite.

    >>> log_odds(np.array([0.5, 1.0])).round(1).tolist()
    [0.0, 20.7]
    """
    return np.asarray(logit(np.clip(score, SATURATED, 1 - SATURATED)), dtype=np.float64)


def _outcomes(score: FloatArray, correct: npt.NDArray[np.generic]) -> tuple[FloatArray, FloatArray]:
    outcome = np.asarray(correct, dtype=np.float64)
    if score.shape != outcome.shape or score.ndim != 1 or score.size == 0:
        raise ValueError(f"score {score.shape} and correct {outcome.shape} must be (n,), and not be empty")
    if not all(np.all((part >= 0) & (part <= 1)) for part in (score, outcome)):
        raise ValueError("score and correct must lie in [0, 1]")
    return score, outcome


# ── learned confidence ───────────────────────────────────────────────────────────────────────────


class Signs(NamedTuple):
    """What `signs` reads: the ensemble's `label` (n,), -1 without a verdict, and `x` (n, 4 + e)."""

    label: IntArray
    x: FloatArray


class Learned(NamedTuple):
    """`centre`, `scale` (d,) of the signs, then an intercept and `weights` (d,) on the standardised ones."""

    centre: FloatArray
    scale: FloatArray
    intercept: float
    weights: FloatArray


class Boosted(NamedTuple):
    """Trees, (trees, nodes) each: go `left` iff x[feature] <= threshold; a leaf has feature -1 and a
    value."""

    base: float
    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    value: FloatArray


Model: TypeAlias = Learned | Boosted


def signs(
    votes: npt.ArrayLike,
    orders: int,
    lengths: FloatArray | None = None,
    earlier: tuple[FloatArray, IntArray] | None = None,
    draws: int = 1,
) -> Signs:
    """What there is to see of one judge's votes before it is known whether its verdict is right.

    `votes` (n, k, c) as in `confidence.ensemble`. The columns: log-odds of the winner's mean probability; the
    spread of its probability over exemplar sets; the gap of its mean between the two orders, without its
    sign; the log of its response's length over the mean of the others'; then one column for each of e earlier
    tiers: their log-odds, negative where they name another label. `lengths` (n, c) holds lengths in
    characters, 0 where a label has no response of its own (a tie); `earlier` scores and labels, (n, e) each.
    Of a prompt's `orders` votes, `draws` in each order stand side by side, where samples replace
    probabilities. What is missing is 0. Exchanging the responses, and with them the orders, changes nothing
    but the label.
    Raises ValueError as `ensemble` does, if shapes differ, or if `draws` does not divide `orders`.
    Source: features of this library; nothing to cite.

    >>> signs([[[0.9, 0.1], [0.7, 0.3]]], orders=2, lengths=np.array([[99.0, 9.0]])).x.round(2).tolist()
    [[1.39, 0.0, 0.2, 2.3]]
    """
    found = ensemble(votes, orders)
    if draws < 1 or orders % draws:
        raise ValueError(f"{orders} votes a prompt are not {draws} in each order")
    share = normalised(votes)
    n, k, c = share.shape
    said = found.label >= 0
    winner = np.where(said, found.label, 0)
    own = np.take_along_axis(share, winner[:, None, None], axis=2)[..., 0]
    sets = [own[:, i : i + orders].mean(axis=1) for i in range(0, k, orders)]
    half = np.arange(k) % orders // draws
    halves = [own[:, half == i].mean(axis=1) for i in range(orders // draws)]
    x = np.zeros((n, 4))
    x[:, MEAN] = log_odds(found.score)
    x[:, SPREAD] = np.std(sets, axis=0)
    x[:, ORDER_GAP] = np.max(halves, axis=0) - np.min(halves, axis=0)
    if lengths is not None:
        x[:, LENGTH_GAP] = _length_gap(lengths, winner, (n, c))
    if earlier is not None:
        x = np.column_stack([x, _earlier(*earlier, found.label)])
    x[~said] = 0.0
    return Signs(found.label, np.round(x, DIGITS))


def fit_learned(seen: Signs, target: IntArray, ridge: float = RIDGE) -> Learned:
    """A small logistic model of "the verdict is right" over `signs`.

    `target` (n,) is what people say on dev rows; or what the *dearest judge* says on unlabelled ones, so that
    a cheap judge learns when to ask its elder without a human label. Rows with target -1, or without a
    verdict, are left out. With fewer than some 50 rows the mean alone is as good. Raises ValueError if
    lengths differ or no row is left.
    Source: ridge-penalised logistic regression, le Cessie and van Houwelingen 1992.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 4))
    >>> target = (rng.random(300) > 1 / (1 + np.exp(-2 * x[:, 2]))).astype(int)
    >>> fit_learned(Signs(np.zeros(300, dtype=int), x), target).weights.round(1).tolist()
    [0.1, -0.1, 1.5, -0.1]
    """
    x, correct = _training(seen, target)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([np.ones(len(x)), (x - centre) / scale])
    found = _logistic(design, correct.astype(np.float64), np.append(0.1, np.full(x.shape[1], ridge)))
    return Learned(centre, scale, float(found[0]), found[1:])


def fit_boosted(seen: Signs, target: IntArray, trees: int = 40, depth: int = 2) -> Boosted:
    """As `fit_learned`, with boosted trees: for signs that matter only together, and hundreds of rows.

    Deterministic. Raises ValueError in the same cases. Friedman (2001), by scikit-learn.

    >>> x = np.tile([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], (50, 1))
    >>> model = fit_boosted(Signs(np.zeros(200, dtype=int), x), np.tile([0, 1, 1, 0], 50))
    >>> apply_learned(model, Signs(np.zeros(4, dtype=int), x[:4])).score.round(1).tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    from sklearn.ensemble import GradientBoostingClassifier

    x, correct = _training(seen, target)
    chance = (correct.sum() + 0.5) / (correct.size + 1)
    base, nodes = float(logit(chance)), 2 ** (depth + 1) - 1
    if correct.all() or not correct.any():
        leaf = np.full((0, nodes), -1, dtype=np.int64)
        return Boosted(base, leaf, np.zeros((0, nodes)), leaf, leaf, np.zeros((0, nodes)))
    rate = 0.2
    fitted = GradientBoostingClassifier(
        n_estimators=trees, max_depth=depth, learning_rate=rate, min_samples_leaf=5, random_state=0
    ).fit(x, correct)
    parts = [tree[0].tree_ for tree in fitted.estimators_]
    prior = float(logit(fitted.init_.class_prior_[1]))

    def padded(rows: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
        return np.array([np.pad(row, (0, nodes - len(row))) for row in rows])

    return Boosted(
        prior,
        padded([np.where(part.children_left < 0, -1, part.feature) for part in parts]).astype(np.int64),
        padded([part.threshold for part in parts]).astype(np.float64),
        padded([part.children_left for part in parts]).astype(np.int64),
        padded([part.children_right for part in parts]).astype(np.int64),
        padded([rate * part.value[:, 0, 0] for part in parts]).astype(np.float64),
    )


def apply_learned(model: Model, seen: Signs) -> Confidence:
    """The ensemble's label with the model's probability that it is right; score 0 without a verdict.

    The signs need every vote, so nothing can be decided before all votes are in: no early stopping.
    Raises ValueError if there are other columns than those that the model was fitted on.
    Source: as `fit_learned` and `fit_boosted`.

    >>> model = Learned(np.zeros(4), np.ones(4), 0.0, np.array([1.0, 0.0, -2.0, 0.0]))
    >>> apply_learned(model, signs([[[0.9, 0.1], [0.7, 0.3]]], orders=2)).score.round(3).tolist()
    [0.728]
    """
    x = seen.x
    if isinstance(model, Learned):
        if x.shape[1] != len(model.weights):
            raise ValueError(f"the model knows {len(model.weights)} signs, not {x.shape[1]}")
        eta = np.full(len(x), model.intercept)
        for d, weight in enumerate(model.weights):
            eta = eta + weight * ((x[:, d] - model.centre[d]) / model.scale[d])
    else:
        eta = np.full(len(x), model.base)
        for tree in zip(model.feature, model.threshold, model.left, model.right, model.value, strict=True):
            eta = eta + _leaf_values(x, *tree)
    score = np.round(expit(eta), DIGITS)
    return Confidence(seen.label, np.where(seen.label >= 0, score, 0.0))


def _leaf_values(
    x: FloatArray,
    feature: IntArray,
    threshold: FloatArray,
    left: IntArray,
    right: IntArray,
    value: FloatArray,
) -> FloatArray:
    node = np.zeros(len(x), dtype=np.int64)
    while (inner := feature[node] >= 0).any():
        # scikit-learn compares in float32.
        goes = x[np.arange(len(x)), np.maximum(feature[node], 0)].astype(np.float32) <= threshold[node]
        node = np.where(inner, np.where(goes, left[node], right[node]), node)
    return value[node]


def _training(seen: Signs, target: IntArray) -> tuple[FloatArray, BoolArray]:
    if target.shape != seen.label.shape:
        raise ValueError(f"{len(seen.label)} verdicts, but target is {target.shape}")
    used = (target >= 0) & (seen.label >= 0)
    if not used.any():
        raise ValueError("no row has both a verdict and a target")
    return seen.x[used], (seen.label == target)[used]


def _length_gap(lengths: FloatArray, winner: IntArray, shape: tuple[int, int]) -> FloatArray:
    if lengths.shape != shape:
        raise ValueError(f"lengths {lengths.shape} must be {shape}, one for each label")
    own = np.take_along_axis(lengths, winner[:, None], axis=1)[:, 0]
    others = np.maximum(1, (lengths > 0).sum(axis=1) - (own > 0))
    mean = (np.sort(lengths, axis=1).sum(axis=1) - own) / others
    return np.where((own > 0) & (mean > 0), np.log1p(own) - np.log1p(np.maximum(mean, 0)), 0.0)


def _earlier(scores: FloatArray, labels: IntArray, label: IntArray) -> FloatArray:
    if scores.shape != labels.shape or len(scores) != len(label):
        raise ValueError(f"earlier scores {scores.shape} and labels {labels.shape} must both be (n, e)")
    sign = np.where(labels == label[:, None], 1.0, -1.0)
    return np.where(labels >= 0, sign * np.clip(log_odds(scores), -6.0, 6.0), 0.0)
