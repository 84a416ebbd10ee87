"""Turn votes into arrays, and a judgment into a label and a score, in the same way in all phases."""

from collections.abc import Sequence

import numpy as np

from trustescalate.records import Judgment, Task, Vote
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.confidence import ESTIMATORS, Bounds, Confidence, bounds, sampled


def confidence(
    task: Task, estimator: str, judgments: Sequence[Judgment], ties: FloatArray | float = 0.5
) -> Confidence:
    """Label and score of one judge on n items, each judged by its full ensemble.

    Votes that were planned for an item and are missing count like failed ones: in the denominator, for no
    label. An item scores the same bits alone (`score_bounds`) and among items of larger ensembles. `ties`,
    one number or (n,), orders the rows within a level of the estimator `sampled`.

    >>> from trustescalate.records import TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    >>> pair = [Judgment("q", "small", "f", (Vote(0, "AB", {"A": 1.0}),), planned) for planned in (1, 2)]
    >>> confidence(task, "ensemble", pair).score.tolist()
    [1.0, 0.5]
    """
    planned, tie = np.array([judgment.planned for judgment in judgments]), np.asarray(ties)
    label, score = np.full(len(judgments), -1, dtype=np.int64), np.zeros(len(judgments))
    for size in np.unique(planned).tolist():
        rows = np.flatnonzero(planned == size)
        votes = _padded(task, [judgments[row] for row in rows.tolist()], size)
        if estimator == "sampled":
            label[rows], score[rows] = sampled(votes, tie[rows] if tie.ndim else tie)
        else:
            label[rows], score[rows] = ESTIMATORS[estimator](votes)
    return Confidence(label, score)


def _padded(task: Task, judgments: Sequence[Judgment], planned: int) -> FloatArray:
    """The votes (n, planned, c) of n judgments, rows of zeros where votes are missing."""
    votes = np.zeros((len(judgments), planned, len(task.labels)))
    for row, judgment in enumerate(judgments):
        votes[row, : len(judgment.votes)] = vote_array(task, judgment.votes)
    return votes


def score_bounds(task: Task, estimator: str, votes: Sequence[Vote], planned: int, tie: float = 0.5) -> Bounds:
    """Limits on the full ensemble's score of one item after the votes so far."""
    return bounds(estimator, _vote_rows(task, votes), planned, tie)


def vote_array(task: Task, votes: Sequence[Vote]) -> FloatArray:
    """Votes as (k, c) probabilities; a failed vote is a row of zeros."""
    return np.array(_vote_rows(task, votes), dtype=float)


def _vote_rows(task: Task, votes: Sequence[Vote]) -> list[list[float]]:
    return [[vote.probs.get(label, 0.0) for label in task.labels] for vote in votes]
