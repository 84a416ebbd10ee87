"""Find judges that labelled rows show to be useless: constant verdicts, misleading scores, idle draws."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from trustescalate.records import Disagreement, Judgment, Label
from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.calibration import scores_mislead

LEAST = 10
"""Fewer rows, or prompts with several draws, show no pattern."""
SUREST = 5
"""Number of disagreements that are shown."""

Confusion = tuple[tuple[int, ...], ...]


def confusion_matrix(verdict: IntArray, truth: IntArray, labels: int) -> Confusion:
    """Count rows (n,) by human label and verdict, -1 for none; the last row and column count these.

    >>> confusion_matrix(np.array([0, 0, 1, -1]), np.array([0, 1, 1, -1]), 2)
    ((1, 0, 0), (1, 1, 0), (0, 0, 1))
    """
    counts = np.zeros((labels + 1, labels + 1), dtype=np.int64)
    np.add.at(counts, (truth, verdict), 1)
    return tuple(tuple(map(int, row)) for row in counts)


def surest_disagreements(
    ids: Sequence[str],
    score: FloatArray,
    verdict: IntArray,
    truth: IntArray,
    right: BoolArray,
    labels: Sequence[Label],
) -> tuple[Disagreement, ...]:
    """The verdicts (n,) of the highest scores that are not `right`; rows without a verdict are none."""
    wrong = np.flatnonzero((verdict >= 0) & ~right)
    first = wrong[np.argsort(-score[wrong], kind="stable")][:SUREST]
    return tuple(
        Disagreement(ids[i], labels[verdict[i]], labels[truth[i]] if truth[i] >= 0 else None, float(score[i]))
        for i in first
    )


def draws_alike(judgments: Iterable[Judgment]) -> tuple[int, int]:
    """Count the prompts with several valid draws, and those of them whose draws do not differ."""
    drawn = alike = 0
    for judgment in judgments:
        valid = [v for v in judgment.votes if v.channel == "samples" and v.failure is None]
        valid.sort(key=lambda vote: (vote.exemplar_set, vote.order))
        for _, group in groupby(valid, key=lambda vote: (vote.exemplar_set, vote.order)):
            draws = [dict(vote.probs) for vote in group]
            drawn += len(draws) > 1
            alike += len(draws) > 1 and all(draw == draws[0] for draw in draws)
    return drawn, alike


def findings(
    labels: Sequence[Label], confusion: Confusion, auroc: float | None, drawn: int = 0, alike: int = 0
) -> list[str]:
    """Say in a sentence each what is wrong with a judge; empty where nothing is, or rows are few.

    >>> findings(("A", "B"), ((9, 0, 0), (6, 0, 0), (0, 0, 0)), None)
    ["answered 'A' on all 15 rows with a verdict: it tells nothing apart"]
    """
    counts = np.array(confusion, dtype=np.int64).reshape(len(labels) + 1, -1) if confusion else None
    if counts is None:
        return []
    given, right = counts[:, :-1].sum(axis=0), int(np.trace(counts[:-1, :-1]))
    spoken = int(given.sum())
    sentences = []
    differ = np.count_nonzero(counts[:-1, :-1].sum(axis=1)) > 1
    if spoken >= LEAST and np.count_nonzero(given) == 1 and differ:
        label = labels[int(given.argmax())]
        sentences.append(f"answered {label!r} on all {spoken:,} rows with a verdict: it tells nothing apart")
    if auroc is not None and scores_mislead(auroc, right, spoken - right):
        sentences.append(
            f"is surer where it is wrong (AUROC {auroc:.2f}): its scores mislead, and no threshold helps"
        )
    if drawn >= LEAST and alike == drawn:
        sentences.append(
            f"gave the same verdict in every draw of {drawn:,} prompts: [ensemble] samples = 1 costs less "
            "and says as much"
        )
    return sentences
