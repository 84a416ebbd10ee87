"""Pool the verdicts of several judges into one label and one score.

Each tier's verdict counts by its log-odds and a weight: from agreement with the last judge on unlabelled rows
(`agreement_stack`), or from dev rows (`fit_stack`). Neither may hold a certification row.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logit

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.confidence import Bounds

SATURATED = 1e-9
"""Scores are held this far from 0 and 1 before their log-odds are taken."""
DIGITS = 12
"""Fitted scores are rounded here, so that two orders of one sum give one score."""
POOL_CLIP, MOST_WEIGHT, LAST_AGREEMENT = 3.0, 1.5, 0.9
PSEUDO_AGREEMENTS, PSEUDO_ROWS = 1.5, 3.0
WEIGHT_DIGITS = 6
MARGIN = 1e-9
"""More than the rounding of a pooled score."""
STACK_RIDGE, STACK_CLIP = 5.0, 4.0
ROWS_AT_ONCE = 10_000
NO_DEV = "this path is fitted on dev rows, and there are none"


class Votes(NamedTuple):
    """Rows without human labels: `scores`, `labels` (n, m), a label -1 where the tier has no verdict."""

    scores: FloatArray
    labels: IntArray


class Rows(NamedTuple):
    """Rows with human labels: `scores`, `labels`, `costs` (n, m), `truth` (n,), as in `policy.evaluate`."""

    scores: FloatArray
    labels: IntArray
    truth: IntArray
    costs: FloatArray

    @property
    def votes(self) -> Votes:
        """The votes, without human labels."""
        return Votes(self.scores, self.labels)

    def take(self, index: IntArray | BoolArray) -> "Rows":
        """Some of the rows, in this order."""
        return Rows(self.scores[index], self.labels[index], self.truth[index], self.costs[index])


class Stack(NamedTuple):
    """How tiers are pooled: `weights` (m, m, 2), what tier i's log-odds, and its verdict, are worth at tier
    j.

    c `classes`; log-odds are cut to +-`clip`. Tier j reads the tiers i <= j.
    """

    classes: int
    weights: FloatArray
    clip: float = STACK_CLIP


def agreement_stack(pilot: Votes | None, tiers: int, classes: int) -> Stack:
    """Pool tiers without a human label: weights from how often each agrees with the last judge.

    Tier i's log-odds, cut to +-3, count w_i: the log-odds of (agreements + 1.5) / (rows + 3) against the
    other labels, relative to those of 90 %, cut to [0, 1.5]. The last judge counts 1. Rows are those of
    `pilot` on which both give a verdict; where there are none every tier counts 1. Raises ValueError for
    fewer than 2 classes.
    Source: weighted majority by log-odds, Nitzan and Paroush 1982; agreement in place of accuracy as in
    Dawid and Skene 1979.

    >>> labels = np.array([[0, 0]] * 45 + [[1, 0]] * 5)
    >>> agreement_stack(Votes(np.full((50, 2), 0.9), labels), tiers=2, classes=2).weights[1, :, 0].tolist()
    [0.895516, 1.0]
    """
    if classes < 2:
        raise ValueError(f"there must be 2 classes, not {classes}")
    worth = np.ones(tiers)
    seen = np.zeros((0, tiers), dtype=np.int64) if pilot is None else pilot.labels
    for i in range(tiers - 1):
        both = (seen[:, i] >= 0) & (seen[:, -1] >= 0)
        if both.any():
            agreed = int((seen[both, i] == seen[both, -1]).sum())
            worth[i] = (agreed + PSEUDO_AGREEMENTS) / (int(both.sum()) + PSEUDO_ROWS)
            worth[i] = _against_others(worth[i], classes) / _against_others(LAST_AGREEMENT, classes)
    weights = np.zeros((tiers, tiers, 2))
    weights[:, :, 0] = np.tri(tiers) * np.round(np.clip(worth, 0.0, MOST_WEIGHT), WEIGHT_DIGITS)
    return Stack(classes, weights, POOL_CLIP)


def fit_stack(dev: Rows, classes: int, ridge: float = STACK_RIDGE) -> Stack:
    """For each tier a small logistic model over what all tiers so far say: log-odds, and verdict.

    Each tier i votes for its label with a · (log-odds of its score against the other labels, within ±4) + b.
    The weights are one pair (a, b) per tier seen, the same for all labels, so renaming labels renames the
    verdict and changes no score. Shrunk towards 0. Rows without a majority are left out. Raises ValueError
    without rows, for fewer than 2 classes, or for a label that is not below `classes`.
    Source: stacking, Wolpert 1992.

    >>> ones = np.ones((50, 1), dtype=int)
    >>> dev = Rows(np.full((50, 1), 0.8), ones, ones[:, 0], np.zeros((50, 1)))
    >>> fit_stack(dev, classes=2).weights.round(2).tolist()
    [[[1.14, 0.82]]]
    """
    if len(dev.truth) == 0:
        raise ValueError(NO_DEV)
    if classes < 2 or max(dev.labels.max(), dev.truth.max()) >= classes:
        raise ValueError(f"labels must lie below the number of classes, {classes}, and there must be 2")
    m = dev.scores.shape[1]
    known = dev.truth >= 0
    features = _features(Votes(dev.scores[known], dev.labels[known]), classes, STACK_CLIP)
    target = np.eye(classes)[dev.truth[known]]
    weights = np.zeros((m, m, 2))
    for j in range(m):
        x = features[:, :, : j + 1].reshape(len(target), classes, 2 * (j + 1))
        weights[j, : j + 1] = conditional_logit(x, target, np.full(x.shape[2], ridge)).reshape(-1, 2)
    return Stack(classes, weights)


def stacked_scores(stack: Stack, votes: Votes) -> Votes:
    """Label and score of tier j pooled with all tiers before it: the likeliest label, and its probability.

    Column j reads the columns up to j only, so a run can go tier by tier, with -1 for tiers that have not
    judged yet. A row gets the same bits alone and among others. A tie at the top is no verdict: label -1,
    score 0. A tier that fails keeps what was said before it. Raises ValueError for another number of tiers or
    a label too large.
    Source: stacking, Wolpert 1992.

    >>> stack = Stack(2, np.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]))
    >>> read = stacked_scores(stack, Votes(np.array([[0.8, 0.8], [0.8, 0.9]]), np.array([[1, 1], [1, 0]])))
    >>> read.labels.tolist(), read.scores.round(3).tolist()
    ([[1, 1], [1, 0]], [[0.8, 0.941], [0.8, 0.692]])
    """
    m = len(stack.weights)
    if votes.scores.shape != votes.labels.shape or votes.scores.shape[1:] != (m,):
        raise ValueError(f"scores {votes.scores.shape} and labels {votes.labels.shape} must be (n, {m})")
    if votes.labels.size and votes.labels.max() >= stack.classes:
        raise ValueError(f"labels must lie below {stack.classes}")
    scores, labels = np.zeros(votes.scores.shape), np.full(votes.labels.shape, -1, dtype=np.int64)
    for start in range(0, len(scores), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        features = _features(Votes(votes.scores[rows], votes.labels[rows]), stack.classes, stack.clip)
        for j in range(m):
            eta = np.zeros(features.shape[:2])
            for i in range(j + 1):
                eta = (
                    eta
                    + stack.weights[j, i, 0] * features[:, :, i, 0]
                    + stack.weights[j, i, 1] * features[:, :, i, 1]
                )
            scores[rows, j], labels[rows, j] = _likeliest(eta)
    return Votes(scores, labels)


def pooled_bounds(stack: Stack, votes: Votes, tier: int, last: Bounds) -> Bounds:
    """Limits on `stacked_scores` of one row at `tier`, whose own full ensemble is open.

    `votes` (1, m) holds the tiers before it, all their votes in, and `last` what its own can still say. For
    weights as `agreement_stack` makes them: log-odds count, and never against their label. They hold to
    within the rounding of a sum of m terms (`MARGIN`).

    >>> stack = agreement_stack(None, tiers=2, classes=2)
    >>> seen = Votes(np.array([[0.8, 0.0]]), np.array([[1, -1]]))
    >>> [round(each, 3) for each in pooled_bounds(stack, seen, 1, Bounds(1, 0.6, 0.7))]
    [1, 0.857, 0.903]
    >>> [round(each, 3) for each in pooled_bounds(stack, seen, 1, Bounds(-1, 0.0, 0.9))]
    [-1, 0.0, 0.988]
    """
    decided = last.label >= 0
    labels = [last.label] if decided else list(range(stack.classes))
    ends = [(label, score) for label in labels for score in (last.low, last.high)]
    scores = np.repeat(votes.scores, len(ends) + 1, axis=0)
    verdicts = np.repeat(votes.labels, len(ends) + 1, axis=0)
    verdicts[:, tier] = [*(label for label, _ in ends), -1]
    scores[:, tier] = [*(score for _, score in ends), 0.0]
    read = stacked_scores(stack, Votes(scores, verdicts))
    score, label = read.scores[:, tier], read.labels[:, tier]
    # With a verdict that is decided, the tier cannot be silent: the last row is not among what can happen.
    score, label = (score[:-1], label[:-1]) if decided else (score, label)
    if decided and label[0] >= 0 and (label == label[0]).all():
        return Bounds(int(label[0]), float(score.min()), float(score.max()))
    return Bounds(-1, 0.0, float(score.max()))


# ── logistic models ──────────────────────────────────────────────────────────────────────────────


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


def log_odds(score: FloatArray) -> FloatArray:
    """Log-odds of scores in [0, 1], finite: saturated ones are held at 1e-9 from the ends.

    >>> log_odds(np.array([0.5, 1.0])).round(1).tolist()
    [0.0, 20.7]
    """
    return np.asarray(logit(np.clip(score, SATURATED, 1 - SATURATED)), dtype=np.float64)


# ── log-odds of votes ────────────────────────────────────────────────────────────────────────────


def _features(votes: Votes, classes: int, clip: float) -> FloatArray:
    """(n, c, m, 2): at the label that a tier names its log-odds against each other label, and 1; else 0."""
    n, m = votes.scores.shape
    features = np.zeros((n, classes, m, 2))
    strength = np.clip(log_odds(votes.scores) + np.log(classes - 1), -clip, clip)
    row, tier = np.nonzero(votes.labels >= 0)
    features[row, votes.labels[row, tier], tier, 0] = strength[row, tier]
    features[row, votes.labels[row, tier], tier, 1] = 1.0
    return features


def _likeliest(eta: FloatArray) -> tuple[FloatArray, IntArray]:
    # Sorted first: the sum does not depend on how labels are ordered. Rounded first: nor do ties.
    eta = np.round(eta, DIGITS)
    behind = np.sort(np.exp(eta - eta.max(axis=1, keepdims=True)), axis=1)
    total = np.zeros(len(eta))
    for k in range(eta.shape[1]):
        total = total + behind[:, k]
    unique = (eta == eta.max(axis=1, keepdims=True)).sum(axis=1) == 1
    label = np.where(unique, eta.argmax(axis=1), -1).astype(np.int64)
    return np.where(unique, np.round(1 / total, DIGITS), 0.0), label


def _against_others(share: float, classes: int) -> float:
    return float(np.log(share / (1 - share) * (classes - 1)))
