"""Quantify distribution shift between the certified rows and the items to be judged.

Known density ratios: `rejection_sample`, after which a certificate is exact again. Unknown ones: how far the
shift may go (`robustness_radius`), whether scores have drifted (`score_alarm`, no labels needed), and how the
procedure does on groups that it has not seen (`leave_one_group_out`). The last two are evidence, never a
guarantee: equal scores may hide unequal risks.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import kolmogorov

from trustescalate.stats.bounds import (
    BoolArray,
    FloatArray,
    IntArray,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from trustescalate.stats.certify import certify_rows
from trustescalate.stats.fisher import fisher_pvalue
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Rows, Votes
from trustescalate.stats.rule import TestRule

PART = 1 << 16
"""Rows that are worked on at a time."""


class ScoreAlarm(NamedTuple):
    """For each of m tiers: the largest gap between the two distribution functions, its p-value, its verdict.

    `raised` (m,): the tiers whose scores have moved, after Holm's correction; any of them is an alarm.
    """

    gap: FloatArray
    p_value: FloatArray
    raised: BoolArray


class LeftOut(NamedTuple):
    """One entry a group (g,): what a cascade certified on all other groups does on this one.

    `thresholds` (g, m), +inf where the others gave no certificate (then nothing is accepted). `risk` and
    `coverage` (g, 2) are limits, two-sided; (0, 1) for the risk where nothing was accepted.
    """

    group: IntArray
    thresholds: FloatArray
    rows: IntArray
    accepted: IntArray
    errors: IntArray
    risk: FloatArray
    coverage: FloatArray


def rejection_sample(weight: FloatArray, bound: float, rng: np.random.Generator) -> IntArray:
    """Places of the rows to keep, each with probability weight / bound: a sample of the shifted population.

    `weight` (n,) is the density of the new population over that of the rows, up to one factor, known without
    their labels, and at most `bound` *everywhere* (not only on these rows). Then the kept rows are
    independent draws from the new population, and what is certified on them is exact. With weights that were
    estimated it is approximate. Expect n * mean(weight) / bound rows. Raises ValueError unless
    0 <= weight <= bound. von Neumann (1951); for conformal use, arXiv 2006.10288.

    >>> rejection_sample(np.array([0.0, 2.0, 2.0, 0.0]), 2.0, np.random.default_rng(0)).tolist()
    [1, 2]
    """
    if not (np.isfinite(bound) and bound > 0 and np.all((weight >= 0) & (weight <= bound))):
        raise ValueError("weights must lie between 0 and bound")
    return np.flatnonzero(rng.random(len(weight)) * bound < weight).astype(np.int64)


def robustness_radius(upper: float, alpha: float) -> float | None:
    """The largest shift of the accepted rows under which a risk of at most `upper` stays at most alpha.

    The density ratio of new to old on accepted rows may lie anywhere in [1 / radius, radius]: the odds of an
    error grow by at most radius^2. sqrt(alpha (1 - U) / (U (1 - alpha))); infinite where U = 0, None where
    U > alpha: then nothing is certified without a shift. Raises ValueError unless 0 <= upper <= 1 and
    0 < alpha < 1.
    Source: likelihood ratios bounded on both sides, as in sensitivity analysis, Tan 2006.

    >>> round(robustness_radius(0.05, 0.1), 4), robustness_radius(0.11, 0.1)
    (1.453, None)
    """
    if not (0 <= upper <= 1 and 0 < alpha < 1):
        raise ValueError(f"upper must lie in [0, 1] and alpha in (0, 1), not {upper} and {alpha}")
    if upper > alpha:
        return None
    return float(np.sqrt(alpha * (1 - upper) / (upper * (1 - alpha)))) if upper else float("inf")


def score_alarm(calibration: Sequence[FloatArray], run: Sequence[FloatArray], level: float) -> ScoreAlarm:
    """Test for score drift of any tier between calibration and run, without labels.

    One array of scores for each tier in both, of any lengths. What a tier sees depends on what earlier tiers
    let through: both sides must hold the rows that *reach* it under the same thresholds. Two-sample
    Kolmogorov-Smirnov, since any change of shape matters; with ties it is conservative (measured at
    level 0.1, 3 tiers of 200 and 300 rows: false alarms .09 without ties, .02 with five score levels), and
    so is its limiting distribution, which is used at every size.
    P(any alarm) <= level without a shift (Holm over tiers), for independent rows. A tier without rows on a
    side has p = 1. Raises ValueError for numbers of tiers that differ, a score that is not finite, or a level
    outside (0, 1). Hodges (1958).

    >>> rng = np.random.default_rng(0)
    >>> same, moved = rng.random(500), rng.random(500) ** 2
    >>> alarm = score_alarm([same, same[:200]], [rng.random(300), moved], level=0.05)
    >>> alarm.raised.tolist()
    [False, True]
    """
    tests = [_test_two_samples(before, after) for before, after in zip(calibration, run, strict=True)]
    gap, p = (np.array([each[i] for each in tests], dtype=np.float64) for i in (0, 1))
    return ScoreAlarm(gap, p, _reject_by_holm(p, level))


class VerdictAlarm(NamedTuple):
    """For each of m tiers, the label (m,) whose verdicts or probabilities moved most, and the evidence.

    `share` (m, 2) is the share of verdicts with this label, before and after; `gap` (m,) the largest gap
    between the two distribution functions of its probability. `p_value` (m,) is that of the tier, and
    `raised` (m,) after Holm's correction over tiers.
    """

    label: IntArray
    share: FloatArray
    gap: FloatArray
    p_value: FloatArray
    raised: BoolArray


def verdict_alarm(calibration: Sequence[FloatArray], run: Sequence[FloatArray], level: float) -> VerdictAlarm:
    """Test for a shift of any tier's verdicts or scores between calibration and run, without labels.

    One array (rows, c) for each tier in both: the probability that the tier gives each label, which holds
    its verdict and its score. For each label two tests: Fisher's exact test of the share of verdicts, and
    two-sample Kolmogorov-Smirnov of the probability, which is conservative with ties. Verdicts of other
    shares raise it even where every score is the same. Two labels need one pair of tests, more labels one
    each (Bonferroni in a tier, Holm over tiers): P(any alarm) <= level without a shift, for independent
    rows. Rows as for `score_alarm`, which see; a row of zeros has no verdict. A tier without rows on a side
    has p = 1. Raises ValueError as `score_alarm` does.
    Source: Fisher 1935; Hodges 1958.

    >>> sure = np.array([[0.99, 0.01]])
    >>> before = np.concatenate([sure.repeat(48, 0), sure[:, ::-1].repeat(52, 0)])
    >>> after = np.concatenate([sure.repeat(4, 0), sure[:, ::-1].repeat(96, 0)])
    >>> alarm = verdict_alarm([before], [after], level=0.01)
    >>> alarm.raised.tolist(), alarm.share.round(2).tolist()
    ([True], [[0.48, 0.04]])
    """
    tests = [_test_verdicts(before, after) for before, after in zip(calibration, run, strict=True)]
    p = np.array([each.p_value for each in tests], dtype=np.float64)
    return VerdictAlarm(
        np.array([each.label for each in tests], dtype=np.int64),
        np.array([each.share for each in tests], dtype=np.float64).reshape(-1, 2),
        np.array([each.gap for each in tests], dtype=np.float64),
        p,
        _reject_by_holm(p, level),
    )


def leave_one_group_out(
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    group: IntArray,
    rule: TestRule[FloatArray | Plan | Literal["tierwise"]],
    costs: FloatArray | None = None,
) -> LeftOut:
    """Certify on all groups but one, and apply that cascade to the one left out; for each group (n,) in turn.

    Arrays are those of `certify`; `rule` chooses by `costs` (n, m), 0 unless given. Rows whose group is
    negative are of no group: never left out, always among the others. The limits on risk and coverage miss in
    either direction with probability at most delta, each by itself, and take the rows of a group as
    independent. A group far above alpha says that the certificate does not carry over to new groups; groups
    that fare well prove nothing about the next one. Raises ValueError as `certify` does, or with fewer than 2
    groups.
    Source: cross-validation by groups, Stone 1974.

    >>> rng = np.random.default_rng(0)
    >>> group, truth = np.repeat([0, 1, 2], 300), np.zeros(900, dtype=int)
    >>> labels = (rng.random((900, 1)) < np.array([0.02, 0.02, 0.3])[group][:, None]).astype(int)
    >>> scores, path = np.ones((900, 1)), np.zeros((1, 1))
    >>> found = leave_one_group_out(scores, labels, truth, group, TestRule(0.1, 0.1, path))
    >>> found.accepted.tolist(), found.errors.tolist(), found.risk[2].round(2).tolist()
    ([0, 0, 300], [0, 0, 91], [0.26, 0.35])
    """
    names, rows = np.unique(group[group >= 0], return_counts=True)
    if len(names) < 2 or group.shape != truth.shape:
        raise ValueError("at least 2 groups are needed, and one entry for each row")
    plan = None if isinstance(rule.path, str) else Plan.of(rule.path)
    unseen = Votes(scores, labels) if plan is None else plan.read(Votes(scores, labels))
    thresholds = np.full((len(names), unseen.scores.shape[1]), np.inf)
    accepted, errors = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    paid = np.zeros(scores.shape) if costs is None else costs
    for g, name in enumerate(names):
        out, rest = np.flatnonzero(group == name), np.flatnonzero(group != name)
        certified = certify_rows(Rows(scores[rest], labels[rest], truth[rest], paid[rest]), rule)
        if certified.thresholds is not None:
            thresholds[g] = certified.thresholds
        read = Votes(unseen.scores[out], unseen.labels[out])
        tier = decide(thresholds[g], *read)
        released = np.flatnonzero(tier >= 0)
        accepted[g] = len(released)
        errors[g] = np.count_nonzero(read.labels[released, tier[released]] != truth[out][released])
    return LeftOut(
        names,
        thresholds,
        rows.astype(np.int64),
        accepted,
        errors,
        _two_sided_limits(errors, accepted, rule.delta),
        _two_sided_limits(accepted, rows.astype(np.int64), rule.delta),
    )


def _two_sided_limits(errors: IntArray, n: IntArray, delta: float) -> FloatArray:
    return np.column_stack(
        [clopper_pearson_lower(errors, n, delta / 2), clopper_pearson_upper(errors, n, delta / 2)]
    )


def _test_two_samples(before: FloatArray, after: FloatArray) -> tuple[float, float]:
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("a score is not finite")
    if not (before.size and after.size):
        return 0.0, 1.0
    x, y = np.sort(before), np.sort(after)
    largest = 0.0
    for seen in (part for sample in (x, y) for part in _parts(sample)):
        gap = np.searchsorted(x, seen, "right") / x.size - np.searchsorted(y, seen, "right") / y.size
        largest = max(largest, float(np.abs(gap).max()))
    return largest, float(kolmogorov(largest * np.sqrt(x.size * y.size / (x.size + y.size))))


def _parts(rows: FloatArray) -> Iterator[FloatArray]:
    """The rows in parts, so that what is computed from a million of them takes little memory."""
    return (rows[start : start + PART] for start in range(0, len(rows), PART))


class _Moved(NamedTuple):
    label: int
    share: tuple[float, float]
    gap: float
    p_value: float


def _test_verdicts(before: FloatArray, after: FloatArray) -> _Moved:
    """The label of a tier that moved most; the p-value is corrected for all tests in the tier."""
    classes = before.shape[1]
    tested = 1 if classes == 2 else classes
    moves = []
    for label in range(tested):
        gap, drift = _test_two_samples(before[:, label], after[:, label])
        counts = (_count(before, label), _count(after, label))
        moved = fisher_pvalue(*counts) if len(before) and len(after) else 1.0
        one, other = (count / rows if rows else 0.0 for count, rows in counts)
        moves.append(_Moved(label, (one, other), gap, min(1.0, 2 * tested * min(drift, moved))))
    return min(moves, key=lambda each: each.p_value)


def _count(shares: FloatArray, label: int) -> tuple[int, int]:
    return sum(int(np.count_nonzero(_verdicts(part) == label)) for part in _parts(shares)), len(shares)


def _verdicts(shares: FloatArray) -> IntArray:
    """The label of the largest probability of each row; -1 for a row of zeros."""
    top = shares.max(axis=1, initial=0.0)
    return np.where(top > 0, shares.argmax(axis=1), -1)


def _reject_by_holm(p: FloatArray, level: float) -> BoolArray:
    """Which hypotheses Holm's procedure rejects at `level`."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, not {level}")
    order = np.argsort(p, kind="stable")
    raised = np.zeros(len(p), dtype=np.bool_)
    raised[order] = np.logical_and.accumulate(p[order] <= level / np.arange(len(p), 0, -1))
    return raised
