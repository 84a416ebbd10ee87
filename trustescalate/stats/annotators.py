"""Compare annotators one by one, and run the alternative-annotator test of a judge.

One annotation an entry: on which row, by whom, which label. Agreement of the group is `agreement`.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray


class AlternativeTest(NamedTuple):
    """Against each of a annotators with rows enough: `annotator`, `rows`, `advantage`, `p_value`, `beaten`.

    `advantage` (a,): the share of rows on which the judge does at least as well as that person. The judge
    `passes` if `winning_rate`, the share of people beaten, is at least a half; `mean_advantage` ranks judges.
    """

    annotator: IntArray
    rows: IntArray
    advantage: FloatArray
    p_value: FloatArray
    beaten: BoolArray
    winning_rate: float
    mean_advantage: float
    passes: bool


class AnnotatorReport(NamedTuple):
    """a annotators: `annotations` (a,), pairwise `agreements` of `comparisons` (a, a), as counts."""

    annotator: IntArray
    annotations: IntArray
    agreements: IntArray
    comparisons: IntArray


def alternative_annotator_test(
    row: IntArray,
    annotator: IntArray,
    label: FloatArray,
    judge: FloatArray,
    epsilon: float,
    *,
    scale: Literal["nominal", "interval"] = "nominal",
    q: float = 0.05,
    min_rows: int = 30,
) -> AlternativeTest | None:
    """Test whether the judge may replace an annotator, by how well each agrees with all the others.

    One annotation an entry, `row`, `annotator`, `label` (annotations,); `judge` (rows,) holds the judge's
    label of each row, NaN where it has none. On each row, judge and person are compared by their mean
    agreement with the other people ("nominal") or their root mean square distance ("interval"). A person is
    beaten if the share of rows that the judge loses exceeds the share that it wins by significantly less than
    `epsilon`, the gain that a judge's price is worth: 0.2 for experts, 0.15 for skilled annotators, 0.1 for
    crowd workers. One-sided t-test, false discovery rate `q` over people (Benjamini and Yekutieli). People
    with fewer than `min_rows` rows are left out; None if all are. Assumes independent rows, and a t-test's
    approximation. Raises ValueError for lengths that differ, a row that `judge` does not have, or q outside
    (0, 1). Calderon, Reichart and Dror (2025), arXiv 2501.10970, section 3.

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.integers(2, size=80)
    >>> row, who = np.repeat(np.arange(80), 3), np.tile(np.arange(3), 80)
    >>> said = np.where(rng.random(240) < 0.8, truth[row], 1 - truth[row])
    >>> found = alternative_annotator_test(row, who, said, truth.astype(float), epsilon=0.1)
    >>> found.winning_rate, round(found.mean_advantage, 2), found.passes
    (1.0, 0.97, True)
    """
    if not row.shape == annotator.shape == label.shape or np.any((row < 0) | (row >= len(judge))):
        raise ValueError("row, annotator and label must have one length, and judge an entry for each row")
    if not 0 < q < 1:
        raise ValueError(f"q must lie strictly between 0 and 1, not {q}")
    names, who = np.unique(annotator, return_inverse=True)
    table = np.full((len(judge), len(names)), np.nan)
    table[row, who] = label
    kept, rows, advantage, p_value = [], [], [], []
    for j in range(len(names)):
        others = np.delete(table, j, axis=1)
        use = ~np.isnan(table[:, j]) & ~np.isnan(judge) & ~np.isnan(others).all(axis=1)
        if np.count_nonzero(use) < min_rows:
            continue
        mine, its = (_alignment(one[use], others[use], scale) for one in (table[:, j], judge))
        kept.append(j)
        rows.append(np.count_nonzero(use))
        advantage.append(float(np.mean(its >= mine)))
        p_value.append(_less_pvalue((mine >= its).astype(float) - (its >= mine), epsilon))
    if not kept:
        return None
    beaten = _benjamini_yekutieli(np.array(p_value), q)
    wins = int(np.count_nonzero(beaten))
    return AlternativeTest(
        names[kept],
        np.array(rows),
        np.array(advantage),
        np.array(p_value),
        beaten,
        wins / len(kept),
        float(np.mean(advantage)),
        2 * wins >= len(kept),
    )


def annotator_report(row: IntArray, annotator: IntArray, label: IntArray) -> AnnotatorReport:
    """Agreement of each pair, and the number of labels of each annotator; one annotation an entry.

    Assumes one annotation per annotator and row. Raises ValueError if lengths differ or a label is negative.
    Source: observed agreement by pairs, Artstein and Poesio 2008, section 2.

    >>> row, who = np.array([0, 0, 1, 1, 2]), np.array([7, 8, 7, 8, 7])
    >>> found = annotator_report(row, who, np.array([0, 0, 1, 2, 2]))
    >>> found.annotations.tolist(), found.agreements.tolist(), found.comparisons.tolist()
    ([3, 2], [[0, 1], [1, 0]], [[0, 2], [2, 0]])
    """
    if not row.shape == annotator.shape == label.shape or np.any(label < 0):
        raise ValueError("row, annotator and label must have one length, and labels must not be negative")
    names, who = np.unique(annotator, return_inverse=True)
    rows, place = np.unique(row, return_inverse=True)
    table = np.full((len(rows), len(names)), -1, dtype=np.int64)
    table[place, who] = label
    given = (table >= 0).astype(np.int64)
    agreements = sum(
        ((table == c).astype(np.int64).T @ (table == c) for c in np.unique(label)),
        np.zeros((len(names), len(names)), dtype=np.int64),
    )
    comparisons = given.T @ given
    for square in (agreements, comparisons):
        np.fill_diagonal(square, 0)
    return AnnotatorReport(names, given.sum(axis=0), agreements, comparisons)


def _alignment(one: FloatArray, others: FloatArray, scale: Literal["nominal", "interval"]) -> FloatArray:
    there = ~np.isnan(others)
    gap = np.where(there, others - one[:, None], 0.0)
    if scale == "nominal":
        return np.asarray(1 - np.count_nonzero(gap, axis=1) / there.sum(axis=1), dtype=np.float64)
    return np.asarray(-np.sqrt((gap**2).sum(axis=1) / there.sum(axis=1)), dtype=np.float64)


def _less_pvalue(difference: FloatArray, epsilon: float) -> float:
    """One-sided t-test of mean >= epsilon."""
    gap, spread = float(difference.mean()) - epsilon, float(difference.std(ddof=1))
    if spread == 0:
        return float(gap >= 0)
    return float(stdtr(len(difference) - 1, gap / spread * np.sqrt(len(difference))))


def _benjamini_yekutieli(p: FloatArray, q: float) -> BoolArray:
    m, order = len(p), np.argsort(p, kind="stable")
    rank = np.arange(1, m + 1)
    passed = np.flatnonzero(p[order] <= rank / m * q / np.sum(1 / rank))
    rejected = np.zeros(m, dtype=np.bool_)
    rejected[order[: passed[-1] + 1 if passed.size else 0]] = True
    return rejected
