"""Lay out paths: the cascades that are tested, strict to lax, fixed before certification rows are read.

Label-free: `common` (in `policy`), `last_judge`, `pooled` and `hedged`. From dev rows: `pareto`, `stacked`.
The guarantee is the same on every path; a better order buys coverage. Neither dev rows nor the pilot may hold
certification rows: a path that has seen the rows it is tested on breaks the guarantee.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.special import expit

from trustescalate.stats.bounds import BoolArray, FloatArray
from trustescalate.stats.policy import common_path, evaluate
from trustescalate.stats.pooling import (
    DIGITS,
    NO_DEV,
    Rows,
    Stack,
    Votes,
    agreement_stack,
    conditional_logit,
    fit_stack,
    log_odds,
    stacked_scores,
)

HEDGE = (0.22, 0.3, 0.48)
"""Shares of delta: all tiers on one scale, the last judge alone, and pooled scores."""
STRICTEST, LAXEST = 0.01, 0.6
"""Predicted risks of the last row that is let in, between which `pareto` walks."""


class Plan(NamedTuple):
    """Sub-paths (t, r m), strict to lax each; for each its share of delta, and its expected `coverage` (t,).

    `coverage` is what tests are placed by (`control.own_levels`): the share of *unlabelled* rows that each
    policy accepts, or constants. A plan reads the m tiers in one or more ways, one `readings` each: by their
    own scores (None), or pooled by a `Stack`. A policy has a threshold for each tier in each reading, and
    +inf in every reading but the one that it goes by.
    """

    parts: tuple[FloatArray, ...]
    shares: tuple[float, ...]
    coverage: tuple[FloatArray, ...]
    readings: tuple[Stack | None, ...] = (None,)

    @classmethod
    def of(cls, path: "FloatArray | Plan") -> "Plan":
        """A plan as it is; an array of policies as one sub-path with all of delta.

        What an array accepts is unknown: its policies are taken for even steps of coverage.
        """
        if isinstance(path, Plan):
            return path
        return cls((path,), (1.0,), (np.arange(1, len(path) + 1) / max(1, len(path)),))

    @classmethod
    def laid_out(
        cls,
        parts: tuple[FloatArray, ...],
        shares: tuple[float, ...],
        seen: Votes | None,
        readings: tuple[Stack | None, ...] = (None,),
    ) -> "Plan":
        """A plan whose expected coverage is that on unlabelled rows.

        Where there are none, it is what it would be if scores were even between 1/2 and 1: a constant.
        """
        guessed = tuple(
            np.clip(2 * (1 - np.where(part < np.inf, part, 1.0).min(axis=1)), 0, 1) for part in parts
        )
        plan = cls(parts, shares, guessed, readings)
        if seen is None or len(seen.scores) == 0:
            return plan
        read, blank = plan.read(seen), np.full(len(seen.scores), -1)
        free = np.zeros(read.scores.shape)
        counted = [evaluate(part, *read, blank, free).accepted / len(blank) for part in parts]
        return plan._replace(coverage=tuple(counted))

    @property
    def policies(self) -> FloatArray:
        """All policies (t, r m), sub-path after sub-path."""
        return np.concatenate(self.parts)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of policies of each sub-path."""
        return tuple(len(part) for part in self.parts)

    def alone(self) -> "Plan":
        """The sub-paths that go by the tiers' own scores, with all of delta between them."""
        tiers = self.parts[0].shape[1] // len(self.readings)
        at = self.readings.index(None) * tiers
        own = [np.isfinite(part[-1, at : at + tiers]).any() for part in self.parts]
        shares = [share for share, keep in zip(self.shares, own, strict=True) if keep]
        return Plan(
            tuple(part[:, at : at + tiers] for part, keep in zip(self.parts, own, strict=True) if keep),
            tuple(share / sum(shares) for share in shares),
            tuple(part for part, keep in zip(self.coverage, own, strict=True) if keep),
        )

    def read(self, votes: Votes) -> Votes:
        """The scores and labels (n, r m) that the policies are about: all tiers in each reading."""
        if self.readings == (None,):
            return votes
        read = [votes if stack is None else stacked_scores(stack, votes) for stack in self.readings]
        scores, labels = ([each[part] for each in read] for part in (0, 1))
        return Votes(np.concatenate(scores, axis=1), np.concatenate(labels, axis=1))

    def spread(self, costs: FloatArray) -> FloatArray:
        """Costs (n, m) of the tiers as `read` lays them out (n, r m)."""
        return costs if self.readings == (None,) else np.tile(costs, (1, len(self.readings)))

    def rows(self, rows: Rows) -> Rows:
        """Rows with human labels as `read` and `spread` lay them out."""
        return Rows(*self.read(rows.votes), rows.truth, self.spread(rows.costs))

    def reading_of(self, policy: FloatArray) -> tuple[int, slice]:
        """The one of `readings` that a policy (r m,) uses, and the m columns that belong to it."""
        reading = int(np.isfinite(policy).reshape(len(self.readings), -1).any(axis=1).argmax())
        tiers = len(policy) // len(self.readings)
        return reading, slice(reading * tiers, (reading + 1) * tiers)


# ── without human labels ─────────────────────────────────────────────────────────────────────────


def last_judge_path(pilot: FloatArray | None, tiers: int, size: int = 40) -> FloatArray:
    """The last judge alone, on quantiles of its own scores: (t, m), +inf for the tiers before it.

    They are not visited and cost nothing. `pilot` (p, m) and errors as in `common_path`.

    >>> last_judge_path(np.array([[0.9, 0.6], [0.7, 0.8]]), tiers=2, size=3).tolist()
    [[inf, 0.8], [inf, 0.6], [inf, 0.0]]
    """
    own = common_path(None if pilot is None else pilot[:, -1:], 1, size)
    return np.column_stack([np.full((len(own), tiers - 1), np.inf), own])


def pooled_path(pilot: Votes | None, tiers: int, classes: int, size: int = 40) -> Plan:
    """One threshold for all tiers on pooled scores: each tier speaks for all tiers so far.

    Judges that agree add up, and judges that differ cancel, so agreement *between* judges becomes part of the
    score, without a human label: most where judges give bare verdicts. Loses where a cheap judge is worse
    than chance. Weights (`agreement_stack`) and quantiles are those of `pilot`.
    Source: weighted majority, Nitzan and Paroush 1982; the path as in `policy.common_path`.

    >>> pilot = Votes(np.tile([[0.9, 0.7], [0.6, 0.7]], (50, 1)), np.tile([[0, 0], [0, 1]], (50, 1)))
    >>> plan = pooled_path(pilot, tiers=2, classes=2, size=3)
    >>> plan.parts[0].round(3).tolist(), plan.coverage[0].tolist(), plan.readings[0].weights[1, 0].tolist()
    ([[0.7, 0.7], [0.0, 0.0]], [1.0, 1.0], [0.0, 0.0])
    """
    stack = agreement_stack(pilot, tiers, classes)
    read = None if pilot is None else stacked_scores(stack, pilot).scores
    return Plan.laid_out((common_path(read, tiers, size),), (1.0,), pilot, (stack,))


def hedged_path(pilot: Votes | None, tiers: int, classes: int, size: int = 40) -> Plan:
    """Three sub-paths: `common_path` with .22 of delta, `last_judge_path` .3, `pooled_path` .48.

    Cheap judges that are confidently wrong spoil every policy of the first and the last; scores that are good
    by themselves lose by pooling; bare verdicts need it. Where one sub-path is good, the others cost little,
    since what a test needs grows with the logarithm of its share only. With one tier there is nothing to
    hedge. `pilot` and errors as in `pooled_path`.
    Source: shares of delta for sub-paths, as in `control.own_levels`; the shares are this library's, chosen
    by `benchmarks/regret.py`.

    >>> pilot = Votes(np.array([[0.9, 0.6], [0.7, 0.8]]), np.zeros((2, 2), dtype=int))
    >>> plan = hedged_path(pilot, tiers=2, classes=2, size=3)
    >>> plan.sizes, plan.policies.shape, [part[0].round(2).tolist() for part in plan.parts]
    ((3, 3, 3), (9, 4), [[0.9, 0.9, inf, inf], [inf, 0.8, inf, inf], [inf, inf, 0.85, 0.85]])
    """
    scores = None if pilot is None else pilot.scores
    together = common_path(scores, tiers, size)
    if tiers == 1:
        return Plan.laid_out((together,), (1.0,), pilot)
    pooled = pooled_path(pilot, tiers, classes, size)
    parts = (together, last_judge_path(scores, tiers, size), pooled.parts[0])
    blocks = zip(parts, (0, 0, 1), strict=True)
    wide = tuple(_place_in_reading(part, reading, readings=2) for part, reading in blocks)
    return Plan.laid_out(wide, HEDGE, pilot, (None, *pooled.readings))


def _place_in_reading(policies: FloatArray, reading: int, readings: int) -> FloatArray:
    never = np.full(policies.shape, np.inf)
    return np.concatenate([policies if at == reading else never for at in range(readings)], axis=1)


# ── from dev rows ────────────────────────────────────────────────────────────────────────────────


def pareto_path(dev: Rows, pilot: Votes | None = None, size: int = 40, grid: int = 20) -> Plan:
    """The best cascade on dev rows at each price of an error, from 100 accepted rows down to 1.7.

    At price 1 / λ a policy is worth the sum of (λ - risk of the row) over the rows that it accepts. λ walks
    from .01 to .6; for each, one tier's threshold after the other moves to the best of `grid` quantiles, from
    the last solution on, until none moves. A row's risk is half what was seen and half what a logistic curve
    in the tier's score says, so that the order of the path does not follow dev noise. Tiers that only harm
    get +inf. The search is local; coverage is that on `pilot` and dev rows. Needs some 50 dev rows. Raises
    ValueError without dev rows.
    Source: Pareto testing, Laufer-Goldshtein et al. 2022, arXiv 2210.07913.

    >>> scores, truth = np.tile([[1.0, 0.6], [1.0, 0.9]], (40, 1)), np.zeros(80, dtype=int)
    >>> dev = Rows(scores, np.tile([[0, 1], [1, 0]], (40, 1)), truth, np.zeros((80, 2)))
    >>> pareto_path(dev).parts[0].tolist()
    [[inf, inf], [inf, 0.9]]
    """
    _check_dev(dev)
    risk, grids = _smooth_risk(dev), _threshold_grids(dev, grid)
    best, policies = np.full(len(grids), np.inf), []
    for accepted_risk in np.linspace(STRICTEST, LAXEST, size):
        best = _ascend(best, grids, dev, accepted_risk - risk)
        policies.append(best)
    return Plan.laid_out((_drop_repeats(np.array(policies)),), (1.0,), _join(dev.votes, pilot))


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
    seen = _join(dev.votes, pilot)
    read = stacked_scores(stack, seen).scores
    return Plan.laid_out((common_path(read, read.shape[1], size),), (1.0,), seen, (stack,))


# ── by name ──────────────────────────────────────────────────────────────────────────────────────


class Basis(NamedTuple):
    """The data of a path: dev rows, unlabelled votes, the numbers of tiers and of labels.

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
    def unlabelled(self) -> Votes | None:
        """Votes that no human label is needed for."""
        if self.pilot is not None and len(self.pilot.scores):
            return self.pilot
        return None if self.dev is None else self.dev.votes


class Rule(NamedTuple):
    """The function that lays a path out, and whether it takes dev rows."""

    build: Callable[[Basis], Plan]
    needs_dev: bool


PathName: TypeAlias = Literal["hedged", "common", "pooled", "last_judge", "pareto", "stacked"]

PATHS: Mapping[PathName, Rule] = {
    "hedged": Rule(lambda basis: hedged_path(basis.unlabelled, basis.tiers, basis.classes), needs_dev=False),
    "common": Rule(lambda basis: _lay_out_common(basis.unlabelled, basis.tiers), needs_dev=False),
    "pooled": Rule(lambda basis: pooled_path(basis.unlabelled, basis.tiers, basis.classes), needs_dev=False),
    "last_judge": Rule(lambda basis: _lay_out_last_judge(basis.unlabelled, basis.tiers), needs_dev=False),
    "pareto": Rule(lambda basis: pareto_path(basis.labelled, basis.pilot), needs_dev=True),
    "stacked": Rule(lambda basis: stacked_path(basis.labelled, basis.pilot, basis.classes), needs_dev=True),
}


def _lay_out_common(seen: Votes | None, tiers: int) -> Plan:
    path = common_path(None if seen is None else seen.scores, tiers)
    return Plan.laid_out((path,), (1.0,), seen)


def _lay_out_last_judge(seen: Votes | None, tiers: int) -> Plan:
    path = last_judge_path(None if seen is None else seen.scores, tiers)
    return Plan.laid_out((path,), (1.0,), seen)


def _join(votes: Votes, pilot: Votes | None) -> Votes:
    if pilot is None:
        return votes
    return Votes(np.concatenate([votes.scores, pilot.scores]), np.concatenate([votes.labels, pilot.labels]))


def _check_dev(dev: Rows) -> None:
    if len(dev.truth) == 0:
        raise ValueError(NO_DEV)


def _quantiles(values: FloatArray, size: int) -> FloatArray:
    rising = np.unique(np.quantile(values, np.linspace(0, 1, size), method="inverted_cdf"))
    return np.asarray(rising[::-1], dtype=np.float64)


def _drop_repeats(policies: FloatArray) -> FloatArray:
    kept = [t for t in range(len(policies)) if t == 0 or (policies[t] != policies[t - 1]).any()]
    return policies[kept]


# ── pareto ───────────────────────────────────────────────────────────────────────────────────────


def _smooth_risk(dev: Rows) -> FloatArray:
    risk = np.ones(dev.scores.shape)
    for j in range(dev.scores.shape[1]):
        spoken = dev.labels[:, j] >= 0
        if spoken.any():
            correct = (dev.labels[:, j] == dev.truth)[spoken]
            risk[spoken, j] = 1 - (correct + _fit_accuracy(dev.scores[spoken, j], correct)) / 2
    return risk


def _fit_accuracy(score: FloatArray, correct: BoolArray) -> FloatArray:
    """P(correct) of each score (n,) by a logistic curve in its log-odds, flat where it would fall."""
    z = log_odds(score)
    z = z - z.mean()
    target = np.column_stack([~correct, correct]).astype(np.float64)
    base, slope = _fit_logistic(np.column_stack([np.ones_like(z), z]), target, np.array([0.1, 1.0]))
    if slope < 0:
        slope, base = 0.0, _fit_logistic(np.ones((len(z), 1)), target, np.array([0.1]))[0]
    return np.asarray(np.round(expit(base + slope * z), DIGITS), dtype=np.float64)


def _fit_logistic(x: FloatArray, target: FloatArray, ridge: FloatArray) -> FloatArray:
    return conditional_logit(np.stack([np.zeros_like(x), x], axis=1), target, ridge)


def _threshold_grids(dev: Rows, size: int) -> list[FloatArray]:
    scores = [dev.scores[dev.labels[:, j] >= 0, j] for j in range(dev.scores.shape[1])]
    return [np.append(np.inf, _quantiles(own, size) if own.size else []) for own in scores]


def _ascend(start: FloatArray, grids: list[FloatArray], dev: Rows, gain: FloatArray) -> FloatArray:
    best = start
    for _ in range(4):
        before = best
        for j in reversed(range(len(grids))):
            tried = np.repeat(best[None], len(grids[j]), axis=0)
            tried[:, j] = grids[j]
            best = tried[int(np.argmax(_value_policies(tried, dev, gain)))]
        if np.array_equal(before, best):
            break
    return best


def _value_policies(policies: FloatArray, dev: Rows, gain: FloatArray) -> FloatArray:
    left = np.ones((len(policies), len(gain)))
    worth = np.zeros(len(policies))
    for j in range(policies.shape[1]):
        accepts = (dev.scores[:, j] >= policies[:, j : j + 1]) & (dev.labels[:, j] >= 0)
        worth += (left * accepts) @ gain[:, j]
        left = left * ~accepts
    return worth
