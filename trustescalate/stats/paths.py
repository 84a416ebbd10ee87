"""Paths: which cascades are tested, in which order, strict to lax. All are fixed before certification labels.

Label-free: `common` (in `policy`) and `hedged`. From dev rows: `calibrated`, `pareto`, `stacked`. Whatever
the path, the promise is the same; a better order buys coverage. Dev rows must never be certification rows: a
path that has seen the labels it is tested on breaks the promise. This file tests nothing: that is `control`.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.fitted import DIGITS, RECALIBRATORS, conditional_logit, log_odds, recalibrated
from trustescalate.stats.policy import common_path

HEDGE = (0.7, 0.3)
"""Shares of delta: all tiers on one scale, and the dearest judge alone."""
STRICTEST, LAXEST = 0.01, 0.6
"""Predicted risks of the last row that is let in, between which `pareto` walks."""
STACK_RIDGE, STACK_CLIP = 5.0, 4.0
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
        """Without what people say."""
        return Votes(self.scores, self.labels)

    def take(self, index: IntArray | BoolArray) -> "Rows":
        """Some of the rows, in this order."""
        return Rows(self.scores[index], self.labels[index], self.truth[index], self.costs[index])


class Stack(NamedTuple):
    """`weights` (m, m, 2): what tier i's log-odds, and its verdict, are worth at tier j >= i; c `classes`."""

    classes: int
    weights: FloatArray


class Plan(NamedTuple):
    """Sub-paths (t, m), strict to lax each, and the share of delta that each is tested with.

    Where `stack` is given, thresholds are held against `stacked_scores` instead of the tiers' own.
    """

    parts: tuple[FloatArray, ...]
    shares: tuple[float, ...]
    stack: Stack | None = None

    @classmethod
    def of(cls, path: "FloatArray | Plan") -> "Plan":
        """A plan as it is; an array of policies as one sub-path with all of delta."""
        return path if isinstance(path, Plan) else cls((path,), (1.0,))

    @property
    def policies(self) -> FloatArray:
        """All policies (t, m), sub-path after sub-path."""
        return np.concatenate(self.parts)

    def read(self, votes: Votes) -> Votes:
        """The scores and labels that the policies are about."""
        return votes if self.stack is None else stacked_scores(self.stack, votes)


# ── without human labels ─────────────────────────────────────────────────────────────────────────


def hedged_path(pilot: FloatArray | None, tiers: int, size: int = 40) -> Plan:
    """`common_path` with 0.7 of delta, and the dearest judge alone, on its own quantiles, with 0.3.

    Cheap judges that are confidently wrong spoil every policy of the common path; the second sub-path does
    not ask them: their threshold is +inf, so they are not visited and cost nothing. Where the common path is
    good, the hedge costs little, since what a test needs grows with the logarithm of its share only. With
    one tier there is nothing to hedge. `pilot` (p, m) and errors as in `common_path`.
    Source: shares of delta for sub-paths, as in `control.hedge`; the shares are this library's.

    >>> path = hedged_path(np.array([[0.9, 0.6], [0.7, 0.8]]), tiers=2, size=3)
    >>> [part.tolist() for part in path.parts]
    [[[0.9, 0.9], [0.8, 0.8], [0.0, 0.0]], [[inf, 0.8], [inf, 0.6], [inf, 0.0]]]
    """
    together = common_path(pilot, tiers, size)
    if tiers == 1:
        return Plan((together,), (1.0,))
    own = common_path(None if pilot is None else pilot[:, -1:], 1, size)
    alone = np.column_stack([np.full((len(own), tiers - 1), np.inf), own])
    return Plan((together, alone), HEDGE)


# ── from dev rows ────────────────────────────────────────────────────────────────────────────────


def calibrated_path(
    dev: Rows, pilot: Votes | None = None, size: int = 40, curve: Literal["platt", "isotonic"] = "platt"
) -> Plan:
    """One threshold for all tiers on P(correct | c_j), which is fitted for each tier on dev rows.

    A tier whose fitted P(correct) is low accepts late or never, so judges that are confidently wrong drop
    out. Levels are quantiles of each row's highest fitted value, on `pilot` and dev rows. Fitted curves never
    fall, so the policies are thresholds on the tiers' own scores. A row without a majority counts as wrong.
    With few levels of score, or under some 50 dev rows, curves are coarse. Raises ValueError without dev
    rows. Platt (1999).

    >>> scores, truth = np.tile([[1.0, 0.6], [1.0, 0.9]], (40, 1)), np.zeros(80, dtype=int)
    >>> labels = np.tile([[0, 1], [1, 0]], (40, 1))
    >>> dev = Rows(scores, labels, truth, np.zeros((80, 2)))
    >>> calibrated_path(dev).parts[0].tolist()
    [[inf, 0.9], [1.0, 0.9]]
    """
    _check_dev(dev)
    seen = _joined(dev.votes, pilot)
    curves = [_calibrate_tier(dev, seen, j, curve) for j in range(dev.scores.shape[1])]
    levels = _levels(np.column_stack([own for _, _, own in curves]).max(axis=1), size)
    policies = np.column_stack(
        [np.append(knots, np.inf)[np.searchsorted(values, levels)] for knots, values, _ in curves]
    )
    return Plan((_distinct(policies),), (1.0,))


def pareto_path(dev: Rows, size: int = 40, grid: int = 20, abstention_price: float | None = None) -> Plan:
    """The best cascade on dev rows at each price of an error, from an error as dear as 100 rows to 1.7 rows.

    At price 1 / λ a policy is worth the sum of (λ - risk of the row) over the rows that it accepts; with an
    `abstention_price` in USD, less λ times what its judges cost in units of that price. λ walks from .01 to
    .6; for each, one tier's threshold after the other moves to the best of `grid` quantiles, from the last
    solution on, until none moves. A row's risk is half what was seen and half what a logistic curve in the
    tier's score says, so that the order of the path does not follow dev noise. Tiers that only harm get +inf.
    The search is local. Needs some 50 dev rows. Raises ValueError without dev rows or for a price that is not
    positive.
    Source: Pareto testing, Laufer-Goldshtein et al. 2022, arXiv 2210.07913.

    >>> scores, truth = np.tile([[1.0, 0.6], [1.0, 0.9]], (40, 1)), np.zeros(80, dtype=int)
    >>> dev = Rows(scores, np.tile([[0, 1], [1, 0]], (40, 1)), truth, np.zeros((80, 2)))
    >>> pareto_path(dev).parts[0].tolist()
    [[inf, inf], [inf, 0.9]]
    """
    _check_dev(dev)
    if abstention_price is not None and not abstention_price > 0:
        raise ValueError(f"the price of an abstention must be positive, not {abstention_price}")
    usd = 0.0 if abstention_price is None else 1 / abstention_price
    risk, grids = _smoothed_risk(dev), _grids(dev, grid)
    best, found = np.full(len(grids), np.inf), []
    for accepted_risk in np.linspace(STRICTEST, LAXEST, size):
        best = _ascend(best, grids, dev, accepted_risk - risk, accepted_risk * usd)
        found.append(best)
    return Plan((_distinct(np.array(found)),), (1.0,))


def stacked_path(dev: Rows, pilot: Votes | None, classes: int, size: int = 40) -> Plan:
    """`common_path` on stacked scores: each tier speaks for all tiers seen so far.

    Quantiles are those of `pilot` and dev rows. Pays most where judges give bare verdicts: their agreement
    becomes the score. Costs coverage where scores are good and dev rows few, since `fit_stack` spends them.
    A run needs every earlier tier's exact score: no early stopping. Raises ValueError as `fit_stack` does.
    Source: stacking, Wolpert 1992; the path as in `policy.common_path`.

    >>> ones = np.ones((50, 2), dtype=int)
    >>> dev = Rows(np.full((50, 2), 0.8), ones, ones[:, 0], np.zeros((50, 2)))
    >>> stacked_path(dev, None, classes=2).parts[0].round(2).tolist()
    [[0.95, 0.95], [0.0, 0.0]]
    """
    stack = fit_stack(dev, classes)
    seen = _joined(dev.votes, pilot)
    read = stacked_scores(stack, seen).scores
    return Plan((common_path(read, read.shape[1], size),), (1.0,), stack)


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
    _check_dev(dev)
    if classes < 2 or max(dev.labels.max(), dev.truth.max()) >= classes:
        raise ValueError(f"labels must lie below the number of classes, {classes}, and there must be 2")
    m = dev.scores.shape[1]
    known = dev.truth >= 0
    said = _said(Votes(dev.scores[known], dev.labels[known]), classes)
    target = np.eye(classes)[dev.truth[known]]
    weights = np.zeros((m, m, 2))
    for j in range(m):
        x = said[:, :, : j + 1].reshape(len(target), classes, 2 * (j + 1))
        weights[j, : j + 1] = conditional_logit(x, target, np.full(x.shape[2], ridge)).reshape(-1, 2)
    return Stack(classes, weights)


def stacked_scores(stack: Stack, votes: Votes) -> Votes:
    """What tier j says with all tiers before it in mind: its likeliest label, and that label's probability.

    Column j reads the columns up to j only, so a run can go tier by tier, with -1 for tiers not asked yet. A
    row gets the same bits alone and among others. A tie at the top is no verdict: label -1, score 0. A tier
    that fails keeps what was said before it. Raises ValueError for another number of tiers or a label too
    large.
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
    said = _said(votes, stack.classes)
    scores, labels = np.zeros(votes.scores.shape), np.full(votes.labels.shape, -1, dtype=np.int64)
    for j in range(m):
        eta = np.zeros(said.shape[:2])
        for i in range(j + 1):
            eta = eta + stack.weights[j, i, 0] * said[:, :, i, 0] + stack.weights[j, i, 1] * said[:, :, i, 1]
        scores[:, j], labels[:, j] = _likeliest(eta)
    return Votes(scores, labels)


# ── by name ──────────────────────────────────────────────────────────────────────────────────────


class Basis(NamedTuple):
    """What a path may be laid out from: dev rows, unlabelled votes, the numbers of tiers and of labels.

    Neither may hold a certification row. Without `pilot`, dev rows give the quantiles, or a fixed grid does.
    """

    dev: Rows | None
    pilot: Votes | None
    tiers: int
    classes: int

    @property
    def labelled(self) -> Rows:
        """The dev rows; ValueError if there are none."""
        if self.dev is None:
            raise ValueError(NO_DEV)
        return self.dev

    @property
    def unlabelled(self) -> FloatArray | None:
        """Scores that no human label is needed for."""
        if self.pilot is not None and len(self.pilot.scores):
            return self.pilot.scores
        return None if self.dev is None else self.dev.scores


class Rule(NamedTuple):
    """How a path is laid out, and whether that takes dev rows."""

    build: Callable[[Basis], Plan]
    needs_dev: bool


PathName: TypeAlias = Literal["hedged", "common", "pareto", "calibrated", "stacked"]

PATHS: Mapping[PathName, Rule] = {
    "hedged": Rule(lambda basis: hedged_path(basis.unlabelled, basis.tiers), needs_dev=False),
    "common": Rule(
        lambda basis: Plan((common_path(basis.unlabelled, basis.tiers),), (1.0,)), needs_dev=False
    ),
    "pareto": Rule(lambda basis: pareto_path(basis.labelled), needs_dev=True),
    "calibrated": Rule(lambda basis: calibrated_path(basis.labelled, basis.pilot), needs_dev=True),
    "stacked": Rule(lambda basis: stacked_path(basis.labelled, basis.pilot, basis.classes), needs_dev=True),
}


def _joined(votes: Votes, pilot: Votes | None) -> Votes:
    if pilot is None:
        return votes
    return Votes(np.concatenate([votes.scores, pilot.scores]), np.concatenate([votes.labels, pilot.labels]))


def _check_dev(dev: Rows) -> None:
    if len(dev.truth) == 0:
        raise ValueError(NO_DEV)


# ── calibrated ───────────────────────────────────────────────────────────────────────────────────


def _calibrate_tier(dev: Rows, seen: Votes, j: int, curve: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The tier's scores that occur, their fitted values, both rising; and the value (n,) of each seen row."""
    said, told = dev.labels[:, j] >= 0, seen.labels[:, j] >= 0
    if not said.any():
        return np.zeros(0), np.zeros(0), np.zeros(len(told))
    model = RECALIBRATORS[curve](dev.scores[said, j], (dev.labels[:, j] == dev.truth)[said])
    knots = np.unique(seen.scores[told, j])
    return knots, recalibrated(model, knots), np.where(told, recalibrated(model, seen.scores[:, j]), 0.0)


def _levels(values: FloatArray, size: int) -> FloatArray:
    rising = np.unique(np.quantile(values, np.linspace(0, 1, size), method="inverted_cdf"))
    return np.asarray(rising[::-1], dtype=np.float64)


def _distinct(policies: FloatArray) -> FloatArray:
    kept = [t for t in range(len(policies)) if t == 0 or (policies[t] != policies[t - 1]).any()]
    return policies[kept]


# ── pareto ───────────────────────────────────────────────────────────────────────────────────────


def _smoothed_risk(dev: Rows) -> FloatArray:
    risk = np.ones(dev.scores.shape)
    for j in range(dev.scores.shape[1]):
        said = dev.labels[:, j] >= 0
        if said.any():
            correct = (dev.labels[:, j] == dev.truth)[said]
            fitted = recalibrated(RECALIBRATORS["platt"](dev.scores[said, j], correct), dev.scores[said, j])
            risk[said, j] = 1 - (correct + fitted) / 2
    return risk


def _grids(dev: Rows, size: int) -> list[FloatArray]:
    told = [dev.scores[dev.labels[:, j] >= 0, j] for j in range(dev.scores.shape[1])]
    return [np.append(np.inf, _levels(own, size) if own.size else []) for own in told]


def _ascend(
    start: FloatArray, grids: list[FloatArray], dev: Rows, gain: FloatArray, price: float
) -> FloatArray:
    best = start
    for _ in range(4):
        before = best
        for j in reversed(range(len(grids))):
            tried = np.repeat(best[None], len(grids[j]), axis=0)
            tried[:, j] = grids[j]
            best = tried[int(np.argmax(_worth(tried, dev, gain, price)))]
        if np.array_equal(before, best):
            break
    return best


def _worth(policies: FloatArray, dev: Rows, gain: FloatArray, price: float) -> FloatArray:
    left = np.ones((len(policies), len(gain)))
    worth = np.zeros(len(policies))
    for j in range(policies.shape[1]):
        if price:
            worth -= price * (policies[:, j] < np.inf) * (left @ dev.costs[:, j])
        accepts = (dev.scores[:, j] >= policies[:, j : j + 1]) & (dev.labels[:, j] >= 0)
        worth += (left * accepts) @ gain[:, j]
        left = left * ~accepts
    return worth


# ── stacked ──────────────────────────────────────────────────────────────────────────────────────


def _said(votes: Votes, classes: int) -> FloatArray:
    """(n, c, m, 2): at the label that a tier names its log-odds against each other label, and 1; else 0."""
    n, m = votes.scores.shape
    said = np.zeros((n, classes, m, 2))
    strength = np.clip(log_odds(votes.scores) + np.log(classes - 1), -STACK_CLIP, STACK_CLIP)
    row, tier = np.nonzero(votes.labels >= 0)
    said[row, votes.labels[row, tier], tier, 0] = strength[row, tier]
    said[row, votes.labels[row, tier], tier, 1] = 1.0
    return said


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
