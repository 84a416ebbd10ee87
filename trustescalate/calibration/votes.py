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

    Votes that were planned and are missing count like failed ones: in the denominator, for no label. `ties`,
    one number or (n,), orders the rows within a level of the estimator `sampled`.
    """
    if estimator == "sampled":
        return sampled(padded(task, judgments), ties)
    return ESTIMATORS[estimator](padded(task, judgments))


def padded(task: Task, judgments: Sequence[Judgment]) -> FloatArray:
    """The votes (n, k, c) of n judgments, rows of zeros where votes are missing."""
    planned = max(judgment.planned for judgment in judgments)
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
