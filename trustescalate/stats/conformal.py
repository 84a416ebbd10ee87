"""Release verdicts by conformal selection: the expected share of wrong ones is at most alpha.

The guarantee is weaker than a certificate's. The mean is over the draw of the labelled rows and of the items
of a run together; the share in any one run is not limited, nor is the risk in the population.
"""

from typing import NamedTuple

import numpy as np

from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.pooling import Votes, agreement_stack, stacked_scores


class Selected(NamedTuple):
    """The released items (m,): those that score at least `threshold`, None where none is.

    Of the n labelled rows `accepted` score as much, and `wrong` of these are wrong.
    """

    released: BoolArray
    threshold: float | None
    accepted: int
    wrong: int


class Released(NamedTuple):
    """A whole run: what each judge says with those before it in mind (m, tiers), and what is released (m,).

    Of the `rows` labelled rows and the `items` of the run that have a verdict, `selected` holds the counts.
    """

    read: Votes
    selected: Selected
    rows: int
    items: int


def select(scores: FloatArray, known: FloatArray, wrong: BoolArray, alpha: float) -> Selected:
    """Release as many items as Benjamini and Hochberg allow: E[share of wrong ones] <= alpha, 0 if none.

    `scores` (m,) of the items, `known` (n,) of the labelled rows, of which `wrong` (n,) are wrong. An item's
    conformal p-value is (1 + the wrong labelled rows that score as much or more) / (n + 1). With R items and
    N wrong labelled rows at a score of t or more, the threshold is the least score of an item with
    m (1 + N) <= alpha R (n + 1), in integers: the procedure at level alpha on the p-values. Items with equal
    scores are released together.
    Assumes that labelled rows and items are exchangeable: drawn independently from one population, say. The
    scores may depend on all of them, symmetrically and without labels. The expectation is over the draw of
    both together. Nothing holds given the labelled rows, for one run, or given that anything is released: the
    share is above alpha in up to about half of the runs. With fewer than `fewest_rows` nothing is released.
    Raises ValueError if shapes differ or unless 0 < alpha < 1.
    Source: Jin and Candes, arXiv 2210.01408; Benjamini and Hochberg 1995. With cascades of judges: SCOPE,
    arXiv 2602.13110.

    >>> known, wrong = np.linspace(1, 0.5, 50), np.arange(50) >= 30
    >>> found = select(np.array([0.9, 0.8, 0.7, 0.6, 0.55]), known, wrong, alpha=0.2)
    >>> found.released.tolist(), found.threshold, found.accepted, found.wrong
    ([True, True, True, False, False], 0.7, 30, 0)
    """
    _check_shapes(known, wrong)
    m, n = len(scores), len(known)
    levels = np.unique(scores)
    at_most = errors_allowed(_count_at_least(scores, levels) * (n + 1), alpha)
    passed = levels[m * (1 + _count_at_least(known[wrong], levels)) <= at_most]
    if passed.size == 0:
        return Selected(np.zeros(m, dtype=bool), None, 0, 0)
    threshold = passed[0]
    counts = (int((rows >= threshold).sum()) for rows in (known, known[wrong]))
    return Selected(scores >= threshold, float(threshold), *counts)


def select_run(run: Votes, known: Votes, right: BoolArray, alpha: float) -> Released:
    """Pool the judges, read verdicts by the last, and `select` among the items of a run.

    `run` (m, tiers) and `known` (n, tiers) hold full ensembles; `right` (n, c) says which of the c labels
    agree with the human labels of each labelled row. Weights are those of `pooling.agreement_stack` on the
    rows of both together: a symmetric function that reads no human label, so rows and items stay
    exchangeable. With one judge its own score counts. An item without a verdict is not released, and a
    labelled row without one not counted: given who has a verdict, the others are exchangeable. Raises
    ValueError as `select` and `pooling.stacked_scores` do.
    Source: as `select`; scores from all data at once as in full conformal prediction, Vovk et al. 2005.

    >>> scores, labels = np.linspace(1, 0.5, 40)[:, None], np.zeros((40, 1), dtype=int)
    >>> right = np.column_stack([np.arange(40) < 20, np.arange(40) >= 20])
    >>> found = select_run(Votes(scores[::4], labels[::4]), Votes(scores, labels), right, alpha=0.2)
    >>> found.selected.released.tolist(), found.rows, found.items, found.selected.wrong
    ([True, True, True, True, True, True, False, False, False, False], 40, 10, 1)
    """
    m, tiers = run.scores.shape
    read = Votes(np.concatenate([run.scores, known.scores]), np.concatenate([run.labels, known.labels]))
    if tiers > 1:
        read = stacked_scores(agreement_stack(read, tiers, right.shape[1]), read)
    score, label = read.scores[:, -1], read.labels[:, -1]
    items, rows = np.flatnonzero(label[:m] >= 0), m + np.flatnonzero(label[m:] >= 0)
    wrong = ~right[rows - m, label[rows]]
    selected = select(score[items], score[rows], wrong, alpha)
    released = np.zeros(m, dtype=bool)
    released[items] = selected.released
    mine = Votes(read.scores[:m], read.labels[:m])
    return Released(mine, selected._replace(released=released), len(rows), len(items))


def fewest_rows(alpha: float) -> int:
    """The fewest labelled rows with which `select` can release anything: 1 / alpha - 1, rounded up.

    Raises ValueError unless 0 < alpha < 1.

    >>> fewest_rows(0.1), fewest_rows(0.15)
    (9, 6)
    """
    n = int(1 / alpha) - 1 if 0 < alpha < 1 else 0
    while errors_allowed(n + 1, alpha) < 1:
        n += 1
    return n


def _count_at_least(values: FloatArray, limits: FloatArray) -> IntArray:
    return np.asarray(len(values) - np.searchsorted(np.sort(values), limits, side="left"), dtype=np.int64)


def _check_shapes(known: FloatArray, wrong: BoolArray) -> None:
    if known.shape != wrong.shape or known.ndim != 1:
        raise ValueError(f"shapes differ: known {known.shape}, wrong {wrong.shape}")
