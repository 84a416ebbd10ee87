"""Votes as arrays: the one way in which a judgment becomes a label and a score, in all phases.

Nothing is fitted here: `scoring` is where numbers that were learned from other rows come in.
"""

from collections.abc import Callable, Sequence

import numpy as np

from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.confidence import ESTIMATORS, Bounds, Confidence, bounds, sampled
from trustescalate.types import Judgment, Task, Vote

NO_VOTE = Vote(-1, "", {})


def confidence(
    task: Task, estimator: str, judgments: Sequence[Judgment], ties: FloatArray | float = 0.5
) -> Confidence:
    """Label and score of one judge on n items, each judged by its full ensemble.

    Votes that were planned and are missing count like failed ones: in the denominator, for no label. `ties`,
    one number or (n,), orders the rows within a level of the estimator `sampled`.
    """
    orders = max(orders_of(judgment.votes) for judgment in judgments)
    if estimator == "sampled":
        return sampled(padded(task, judgments), orders, ties)
    return ESTIMATORS[estimator](padded(task, judgments), orders)


def padded(task: Task, judgments: Sequence[Judgment]) -> FloatArray:
    """The votes (n, k, c) of n judgments, rows of zeros where votes are missing."""
    planned = max(judgment.planned for judgment in judgments)
    votes = np.zeros((len(judgments), planned, len(task.labels)))
    for row, judgment in enumerate(judgments):
        votes[row, : len(judgment.votes)] = vote_array(task, judgment.votes)
    return votes


def score_bounds(task: Task, estimator: str, votes: Sequence[Vote], planned: int, tie: float = 0.5) -> Bounds:
    """What the full ensemble will say about one item, as far as the votes so far decide it."""
    return bounds(estimator, vote_array(task, votes), planned, orders_of(votes), tie)


def vote_array(task: Task, votes: Sequence[Vote]) -> FloatArray:
    """Votes as (k, c) probabilities; a failed vote is a row of zeros."""
    return np.array([[vote.probs.get(label, 0.0) for label in task.labels] for vote in votes], dtype=float)


def orders_of(votes: Sequence[Vote]) -> int:
    """How many votes share the first prompt."""
    return sum(vote.exemplar_set == votes[0].exemplar_set for vote in votes)


def draws_of(votes: Sequence[Vote]) -> int:
    """How many of these stand side by side in the first one's order: draws, where there are samples."""
    first = votes[: orders_of(votes)]
    return next((place for place, vote in enumerate(first) if vote.order != first[0].order), len(first))


def all_votes(votes: Sequence[Vote], planned: int) -> bool:
    """An `Enough` that is never satisfied early."""
    return len(votes) >= planned


def may_settle(
    votes: Sequence[Vote], planned: int, more: int, enough: Callable[[Sequence[Vote], int], bool]
) -> bool:
    """Whether so few more votes may be enough, whatever they say.

    What decides soonest is failed votes, which only lower the score, or sure ones for the label that leads.

    >>> vote = Vote(0, "AB", {"A": 0.9, "B": 0.1})
    >>> [may_settle([vote], 10, n, lambda v, _: sum(w.probs.get("A", 0) for w in v) >= 3) for n in (2, 3)]
    [False, True]
    """
    if enough([*votes, *[NO_VOTE] * more], planned):
        return True
    lead: dict[str, float] = {}
    for vote in votes:
        for label, p in vote.probs.items():
            lead[label] = lead.get(label, 0.0) + p
    if not lead:
        return False
    sure = Vote(-1, "", {max(lead, key=lead.__getitem__): 1.0})
    return enough([*votes, *[sure] * more], planned)
