"""Votes as arrays: the one way in which a judgment becomes a label and a score, in all phases."""

from collections.abc import Sequence

import numpy as np

from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.confidence import ESTIMATORS, Bounds, Confidence, bounds
from trustescalate.types import Judgment, Task, Vote


def confidence(task: Task, estimator: str, judgments: Sequence[Judgment]) -> Confidence:
    """Label and score of one judge on n items, each judged by its full ensemble.

    Votes that were planned and are missing count like failed ones: in the denominator, for no label.
    """
    planned = max(judgment.planned for judgment in judgments)
    votes = np.zeros((len(judgments), planned, len(task.labels)))
    for row, judgment in enumerate(judgments):
        votes[row, : len(judgment.votes)] = vote_array(task, judgment.votes)
    return ESTIMATORS[estimator](votes, max(_orders(judgment.votes) for judgment in judgments))


def score_bounds(task: Task, estimator: str, votes: Sequence[Vote], planned: int) -> Bounds:
    """What the full ensemble will say about one item, as far as the votes so far decide it."""
    return bounds(estimator, vote_array(task, votes), planned, _orders(votes))


def vote_array(task: Task, votes: Sequence[Vote]) -> FloatArray:
    """Votes as (k, c) probabilities; a failed vote is a row of zeros."""
    return np.array([[vote.probs.get(label, 0.0) for label in task.labels] for vote in votes], dtype=float)


def _orders(votes: Sequence[Vote]) -> int:
    return sum(vote.exemplar_set == votes[0].exemplar_set for vote in votes)
