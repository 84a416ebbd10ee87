"""How far do people agree, with one another and with a judge? Majority, Cohen's kappa, the human ceiling.

Labels are integers 0..c-1. A tie as a label of its own is one of them; a skip is no opinion and does not
belong here. This file knows no score: that is `calibration`.
"""

from typing import NamedTuple

import numpy as np

from trustescalate.stats.bounds import IntArray, clopper_pearson_interval


class Ceiling(NamedTuple):
    """`agreements` of `comparisons` of one person with the majority of the others; limits on that rate."""

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
    Raises ValueError unless labels lie in 0..c-1. Cohen (1960).

    >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2)
    0.5
    """
    if a.shape != b.shape or np.any((a < 0) | (a >= c) | (b < 0) | (b >= c)):
        raise ValueError(f"two lists of equal length with labels in 0..{c - 1} are needed")
    table = np.bincount(a * c + b, minlength=c * c).reshape(c, c)
    n = int(table.sum())
    by_chance = int(table.sum(axis=1) @ table.sum(axis=0))
    if n == 0 or by_chance == n * n:
        return None
    return (n * int(np.trace(table)) - by_chance) / (n * n - by_chance)


def human_ceiling(row: IntArray, annotator: IntArray, label: IntArray, delta: float) -> Ceiling | None:
    """How often one person agrees with the majority of the others: what no judge can be asked to exceed.

    One opinion an entry: on which row, by whom, which label; all (opinions,). Each opinion is compared with
    the unique majority of the others on its row, and left out where they have none. None if nobody can be
    compared. The interval is two-sided at 1 - delta. Comparisons on one row hang together (with two people
    they are one and the same), so it counts every row once: it is Clopper-Pearson on the mean rate over as
    many trials as there are rows, widened to whole agreements. Assumes independent rows, and one opinion per
    person and row. Raises ValueError if lengths differ or a label is negative.

    >>> row, who = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 2])
    >>> human_ceiling(row, who, np.array([1, 1, 0, 0, 0, 0]), delta=0.05)[:3]
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
    rows = len(np.unique(place[compared]))
    low, _ = clopper_pearson_interval(agreements * rows // comparisons, rows, delta)
    _, high = clopper_pearson_interval(-(-agreements * rows // comparisons), rows, delta)
    return Ceiling(len(np.unique(annotator)), comparisons, agreements, (low, high))
