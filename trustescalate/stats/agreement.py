"""Measure agreement of annotators with one another and with a judge: majority, κ, α, AC1, leave-one-out.

Labels are integers 0..c-1; a tie that is a label of its own is one of them, a skip is no label. Coefficients
of many annotators are functions of one c x c table of pairs, and take counts (n, c) of labels on each item.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from scipy.special import stdtrit

from trustescalate.stats.bounds import FloatArray, IntArray, clopper_pearson_interval
from trustescalate.stats.intervals import mean_interval

Scale: TypeAlias = Literal["nominal", "ordinal", "interval"]
Coefficient: TypeAlias = Literal[
    "fleiss_kappa", "gwet_ac1", "alpha_nominal", "alpha_ordinal", "alpha_interval"
]


MIN_UNITS, MIN_RARER = 10, 10


class LeaveOneOut(NamedTuple):
    """`agreements` of `comparisons` of one annotator with the majority of the others; limits on that rate.

    It is no upper limit on what a judge may reach: three annotators who are right 80 % of the time agree with
    one another in .76 of the comparisons, and a judge who is always right agrees with their majority in .90.
    """

    annotators: int
    comparisons: int
    agreements: int
    interval: tuple[float, float]


def majority(label_counts: IntArray) -> IntArray:
    """The label (n,) with the most votes in `label_counts` (n, c); -1 where it has a rival or there is none.

    >>> majority(np.array([[2, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])).tolist()
    [0, -1, -1, 0]
    """
    top = label_counts.max(axis=1)
    unique = (top > 0) & ((label_counts == top[:, None]).sum(axis=1) == 1)
    return np.where(unique, label_counts.argmax(axis=1), -1).astype(np.int64)


def cohen_kappa(a: IntArray, b: IntArray, c: int) -> float | None:
    """Agreement of two label lists (n,) beyond chance: 1 is perfect, 0 is chance by their own frequencies.

    None where both always give one and the same label, or without rows: nothing beyond chance to measure.
    Raises ValueError unless labels lie in 0..c-1. Source: Cohen 1960.

    >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2)
    0.5
    """
    if a.shape != b.shape or np.any((a < 0) | (a >= c) | (b < 0) | (b >= c)):
        raise ValueError(f"two lists of equal length with labels in 0..{c - 1} are needed")
    if len(np.unique([a, b])) < 2:
        return None
    chance = float((np.bincount(a, minlength=c) / a.size) @ (np.bincount(b, minlength=c) / b.size))
    return (float(np.mean(a == b)) - chance) / (1 - chance)


def leave_one_out_agreement(
    row: IntArray, annotator: IntArray, label: IntArray, delta: float, cluster: IntArray | None = None
) -> LeaveOneOut | None:
    """Human leave-one-out agreement: how often one annotator agrees with the majority of the others.

    One annotation an entry: on which row, by whom, which label; all (annotations,). Each is compared with the
    unique majority of the others on its row, and left out where they have none. None if none can be compared.
    The interval is two-sided at 1 - delta. Comparisons on one row are clustered (with two annotators they are
    one and the same), so it counts every row once: it is Clopper-Pearson on the mean rate over as many trials
    as there are rows, widened to whole agreements. With `cluster` (annotations,), where rows of one cluster
    are clustered, it is `intervals.mean_interval` over clusters. Assumes independent rows or clusters, and
    one annotation per annotator and row. Raises ValueError if lengths differ or a label is negative.
    Source: leave-one-out agreement, as in Calderon et al. 2025, arXiv 2501.10970.

    >>> row, who = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 2])
    >>> leave_one_out_agreement(row, who, np.array([1, 1, 0, 0, 0, 0]), delta=0.05)[:3]
    (3, 4, 3)
    """
    if not row.shape == annotator.shape == label.shape or np.any(label < 0):
        raise ValueError("row, annotator and label must have one length, and labels must not be negative")
    if row.size == 0:
        return None
    place = np.unique(row, return_inverse=True)[1]
    counts = np.zeros((int(place.max()) + 1, int(label.max()) + 1), dtype=np.int64)
    np.add.at(counts, (place, label), 1)
    others = counts[place]
    others[np.arange(row.size), label] -= 1
    rival = majority(others)
    compared = rival >= 0
    comparisons, agreements = int(compared.sum()), int((rival == label)[compared].sum())
    if comparisons == 0:
        return None
    annotators, agreed = len(np.unique(annotator)), (rival == label)[compared]
    if cluster is not None:
        limits = mean_interval(agreed.astype(np.float64), delta, cluster=cluster[compared])
        return LeaveOneOut(annotators, comparisons, agreements, limits[:2])
    rows = len(np.unique(place[compared]))
    low, _ = clopper_pearson_interval(agreements * rows // comparisons, rows, delta)
    _, high = clopper_pearson_interval(-(-agreements * rows // comparisons), rows, delta)
    return LeaveOneOut(annotators, comparisons, agreements, (low, high))


def fleiss_kappa(counts: IntArray) -> float | None:
    """Agreement of many annotators beyond chance by the labels' shares; `counts` (n, c) of labels.

    Items without labels count for nothing; where numbers of labels differ, each item weighs the same
    (Gwet's extension). None if no item has two labels, or only one label occurs. High agreement on one
    common label gives a low kappa: `gwet_ac1` does not have that. Raises ValueError unless counts are
    integers >= 0. Fleiss (1971).

    >>> round(fleiss_kappa(np.array([[3, 0], [0, 3], [2, 1], [3, 0]])), 4)
    0.625
    """
    return _measure("fleiss_kappa", counts)


def gwet_ac1(counts: IntArray) -> float | None:
    """Agreement beyond chance, where chance is a guess on items that are hard; arguments as `fleiss_kappa`.

    None if no item has two labels, or c = 1. Gwet (2008), "Computing inter-rater reliability and its
    variance in the presence of high agreement".

    >>> round(gwet_ac1(np.array([[3, 0], [0, 3], [2, 1], [3, 0]])), 4)
    0.7
    """
    return _measure("gwet_ac1", counts)


def krippendorff_alpha(counts: IntArray, scale: Scale = "nominal") -> float | None:
    """1 - observed over expected disagreement, any number of labels an item; `counts` (n, c).

    "nominal": labels differ or not; "ordinal": by how many labels lie between; "interval": labels are the
    numbers 0..c-1. Items with one label are left out. None if no item has two, or only one label occurs on
    them. Raises ValueError as `fleiss_kappa` does, or for an unknown scale. Krippendorff (2004), chapter 11.

    >>> counts = np.array([[3, 0, 0], [0, 2, 1], [0, 0, 3], [1, 0, 0]])
    >>> [round(krippendorff_alpha(counts, scale), 3) for scale in ("nominal", "ordinal", "interval")]
    [0.692, 0.848, 0.871]
    """
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be one of {', '.join(get_args(Scale))}, not {scale!r}")
    return _measure(f"alpha_{scale}", counts)


def agreement_interval(
    coefficient: Coefficient, counts: IntArray, delta: float, cluster: IntArray | None = None
) -> tuple[float, float] | None:
    """Two-sided limits on a coefficient, by leaving out one item, or one `cluster` (n,) of items, in turn.

    The jackknife on the scale of -log(1 - coefficient), with Student's t. None where `no_interval` says why:
    then unanimous, few or one-sided items do not say how far the coefficient may lie. Where there is one, it
    was measured at delta = 0.05 to miss in at most 7.5 % of draws: docs/intervals.md. Raises ValueError as
    `fleiss_kappa` does, for an unknown coefficient or delta outside (0, 1).
    Source: the delete-one jackknife, Efron and Stein 1981.

    >>> counts = np.tile([[3, 0], [0, 3], [2, 1], [3, 0]], (10, 1))
    >>> [round(limit, 3) for limit in agreement_interval("fleiss_kappa", counts, delta=0.1)]
    [0.374, 0.776]
    """
    if coefficient not in _COEFFICIENTS or not 0 < delta < 1:
        raise ValueError(f"one of {', '.join(_COEFFICIENTS)} and 0 < delta < 1, not {coefficient!r}, {delta}")
    if no_interval(coefficient, counts, cluster):
        return None
    unit = np.arange(len(counts)) if cluster is None else cluster
    units = len(np.unique(unit[counts.sum(axis=1) >= 2]))
    left, whole = _leave_out(coefficient, counts, unit), _measure(coefficient, counts) or 0.0
    scaled = -np.log1p(-left)
    error = float(np.sqrt((len(left) - 1) / len(left) * np.sum((scaled - scaled.mean()) ** 2)))
    reach = -error * float(stdtrit(units - 1, delta / 2))
    centre = -np.log1p(-whole)
    return float(-np.expm1(-(centre - reach))), float(-np.expm1(-(centre + reach)))


def no_interval(coefficient: Coefficient, counts: IntArray, cluster: IntArray | None = None) -> str:
    """The reason why a coefficient has no interval, or "". Arguments as `agreement_interval`.

    It takes 10 items or clusters with two labels, and annotators who differ. κ and α compare with what chance
    gives, which rests on the rarer labels: they take 10 items or clusters where most annotators give another
    label than the commonest. AC1 does not.
    The limits are set by coverage tests: docs/intervals.md.

    >>> counts = np.array([[3, 0]] * 50 + [[2, 1]] * 8 + [[0, 3]] * 2)
    >>> no_interval("fleiss_kappa", counts), no_interval("gwet_ac1", counts)
    ('most annotators give another label than the commonest on 2 rows, fewer than 10', '')
    """
    unit = np.arange(len(counts)) if cluster is None else cluster
    used = counts.sum(axis=1) >= 2
    units, what = len(np.unique(unit[used])), "rows" if cluster is None else "clusters"
    if units < MIN_UNITS:
        return f"{units} {what} with two labels, fewer than {MIN_UNITS}"
    whole = _measure(coefficient, counts)
    left = _leave_out(coefficient, counts, unit)
    if whole is None or whole >= 1 or not np.all(left < 1) or np.ptp(left) == 0:
        return "too few annotators differ to say how often they would"
    if coefficient != "gwet_ac1":
        most = majority(counts)
        other = used & (most >= 0) & (most != int(counts[used].sum(axis=0).argmax()))
        rarer = len(np.unique(unit[other]))
        if rarer < MIN_RARER:
            why = f"most annotators give another label than the commonest on {rarer} {what}"
            return f"{why}, fewer than {MIN_RARER}"
    return ""


def _leave_out(coefficient: Coefficient, counts: IntArray, unit: IntArray) -> FloatArray:
    """The coefficient without each item, or cluster of items, in turn."""
    pairs, shares = _count_pairs(coefficient, counts, np.unique(unit, return_inverse=True)[1])
    return _COEFFICIENTS[coefficient](pairs.sum(axis=0) - pairs, shares.sum(axis=0) - shares)


def _count_pairs(coefficient: str, counts: IntArray, place: IntArray) -> tuple[FloatArray, FloatArray]:
    """The pairs of labels (g, c, c) and labels (g, c) of each group of items.

    For alpha an item weighs as much as it has labels, for the other two all items weigh the same.
    """
    if counts.ndim != 2 or counts.dtype.kind not in "iu" or np.any(counts < 0):
        raise ValueError("counts must be integers (n, c), and not negative")
    n = counts.astype(np.float64)
    labels = n.sum(axis=1)
    several = labels >= 2
    alpha = coefficient.startswith("alpha")
    weight = several / np.maximum(1, (labels - 1) * (1 if alpha else labels))
    share = np.where(several, 1.0, 0.0) if alpha else 1 / np.maximum(1, labels)
    groups, c = int(place.max(initial=-1)) + 1, counts.shape[1]
    pairs, shares = np.zeros((groups, c, c)), np.zeros((groups, c))
    for k in range(c):
        np.add.at(shares[:, k], place, n[:, k] * share)
        for other in range(c):
            np.add.at(pairs[:, k, other], place, n[:, k] * (n[:, other] - (k == other)) * weight)
    return pairs, shares


def _measure(coefficient: str, counts: IntArray) -> float | None:
    pairs, shares = _count_pairs(coefficient, counts, np.zeros(len(counts), dtype=np.int64))
    value = float(_COEFFICIENTS[coefficient](pairs.sum(axis=0), shares.sum(axis=0)))
    return None if np.isnan(value) else value


def _correct_chance(observed: FloatArray, chance: FloatArray) -> FloatArray:
    """(observed - chance) / (1 - chance); NaN where there is nothing beyond chance."""
    known = chance < 1
    return np.where(known, (observed - chance) / np.where(known, 1 - chance, 1.0), np.nan)


def _observed_agreement(pairs: FloatArray) -> FloatArray:
    total = pairs.sum(axis=(-2, -1))
    share = np.trace(pairs, axis1=-2, axis2=-1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, share, np.nan)


def _kappa(pairs: FloatArray, shares: FloatArray) -> FloatArray:
    p = shares / np.maximum(1e-300, shares.sum(axis=-1, keepdims=True))
    return _correct_chance(_observed_agreement(pairs), np.asarray((p**2).sum(axis=-1)))


def _ac1(pairs: FloatArray, shares: FloatArray) -> FloatArray:
    p, c = shares / np.maximum(1e-300, shares.sum(axis=-1, keepdims=True)), shares.shape[-1]
    chance = (p * (1 - p)).sum(axis=-1) / (c - 1) if c > 1 else np.ones(shares.shape[:-1])
    return _correct_chance(_observed_agreement(pairs), np.asarray(chance))


def _alpha(scale: Scale) -> Callable[[FloatArray, FloatArray], FloatArray]:
    def value(pairs: FloatArray, shares: FloatArray) -> FloatArray:
        distance = _distance(scale, shares)
        total = shares.sum(axis=-1)
        expected = np.einsum("...k,...kl,...l->...", shares, distance, shares)
        observed = (pairs * distance).sum(axis=(-2, -1)) * (total - 1)
        known = expected > 0
        return np.where(known, 1 - observed / np.where(known, expected, 1.0), np.nan)

    return value


def _distance(scale: Scale, shares: FloatArray) -> FloatArray:
    """The squared distance (.., c, c) of two labels."""
    c = shares.shape[-1]
    if scale == "nominal":
        return np.broadcast_to(1 - np.eye(c), (*shares.shape, c))
    middle = np.arange(c) if scale == "interval" else shares.cumsum(axis=-1) - shares / 2
    return np.broadcast_to((middle[..., :, None] - middle[..., None, :]) ** 2, (*shares.shape, c))


_COEFFICIENTS: Mapping[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "fleiss_kappa": _kappa,
    "gwet_ac1": _ac1,
    "alpha_nominal": _alpha("nominal"),
    "alpha_ordinal": _alpha("ordinal"),
    "alpha_interval": _alpha("interval"),
}
