"""How sure is a judge? Votes (n, k, c) become a label (n,) and a score (n,) in [0, 1].

A vote holds one probability per label, as seen; it is normalised over the labels here. A failed or missing
vote is a row of zeros: it stays in the denominator and gives no label any weight. Any score whatever keeps
the guarantee; a better one buys coverage. This file does not judge the scores: that is `calibration`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trustescalate.stats.bounds import FloatArray, IntArray

MASS_TOLERANCE = 1e-6


class Confidence(NamedTuple):
    """`label` (n,): the winning label, -1 where there is no verdict; `score` (n,): its share, then 0."""

    label: IntArray
    score: FloatArray


class Bounds(NamedTuple):
    """What the full ensemble can still say about one item: its score lies in [low, high].

    `label` is the verdict if the votes to come cannot change it, else -1.
    """

    label: int
    low: float
    high: float


def ensemble(votes: npt.ArrayLike, orders: int) -> Confidence:
    """Mean probability over all k votes: the paper's Simulated Annotators, in both orders.

    `votes` is (n, k, c), exemplar set by exemplar set, each with its 1 or 2 orders. An exact tie at the top,
    or no valid vote, is no verdict: label -1, score 0. Sums run in the order of the votes, as in
    `bounds`. Raises ValueError for a vote that is not finite, negative, or sums to more than 1.
    Source: arXiv 2407.18370, equation 4.

    >>> ensemble([[[0.9, 0.1], [0.7, 0.1]], [[0.2, 0.8], [0, 0]]], orders=2)
    Confidence(label=array([0, 1]), score=array([0.8875, 0.4   ]))
    """
    shares = _shares(_checked(votes))
    if not 1 <= orders <= shares.shape[1]:
        raise ValueError(f"orders must lie between 1 and the {shares.shape[1]} votes, not {orders}")
    return _verdicts(_sum_in_order(shares, axis=1), shares.shape[1])


def predictive(votes: npt.ArrayLike, orders: int) -> Confidence:
    """Mean probability over the first exemplar set only: what the judge says without an ensemble.

    As `ensemble`, on `votes[:, :orders]`. Raises ValueError in the same cases.

    >>> predictive([[[0.9, 0.1], [0.1, 0.9]]], orders=1)
    Confidence(label=array([0]), score=array([0.9]))
    """
    return ensemble(_checked(votes)[:, :orders], orders)


ESTIMATORS: Mapping[str, Callable[[npt.ArrayLike, int], Confidence]] = {
    "ensemble": ensemble,
    "predictive": predictive,
}


def bounds(estimator: str, seen: npt.ArrayLike, planned: int, orders: int) -> Bounds:
    """Bounds on the full ensemble's score of one item after the first s of `planned` votes, `seen` (s, c).

    They hold whatever the remaining votes say, to the last bit: sums run in the same order as in the
    estimator, and rounded addition is monotone. So "accept if label >= 0 and low >= tau, escalate if
    high < tau" decides as the full ensemble would. When all votes are in, low == high == the score.
    Raises ValueError for an unknown estimator, for more votes than planned, or for a vote that is no vote.

    >>> bounds("ensemble", [[0.9, 0.1], [1.0, 0.0]], planned=4, orders=2)
    Bounds(label=-1, low=0.0, high=0.975)
    >>> bounds("predictive", [[0.9, 0.1], [1.0, 0.0]], planned=4, orders=2)
    Bounds(label=0, low=0.95, high=0.95)
    """
    counted = _votes_counted(estimator, planned, orders)
    votes = _checked(np.asarray(seen, dtype=np.float64)[None])
    if votes.shape[1] > planned:
        raise ValueError(f"{votes.shape[1]} votes seen, but only {planned} planned")
    votes = votes[:, :counted]
    left = counted - votes.shape[1]
    least = _sum_in_order(_shares(votes), axis=1)[0]
    most = _sum_in_order(np.vstack([least, np.ones((left, least.size))]), axis=0)
    winner = int(np.argmax(least))
    if np.all(least[winner] > np.delete(most, winner)):
        return Bounds(winner, float(least[winner] / counted), float(most[winner] / counted))
    return Bounds(-1, 0.0, float(most.max() / counted) if left else 0.0)


def _votes_counted(estimator: str, planned: int, orders: int) -> int:
    if estimator not in ESTIMATORS:
        raise ValueError(f"no estimator {estimator!r}; there are {', '.join(ESTIMATORS)}")
    if not 1 <= orders <= planned:
        raise ValueError(f"orders must lie between 1 and the {planned} planned votes, not {orders}")
    return orders if estimator == "predictive" else planned


def _checked(votes: npt.ArrayLike) -> FloatArray:
    votes = np.asarray(votes, dtype=np.float64) + 0.0  # adding +0.0 turns -0.0 into 0.0
    if votes.ndim != 3 or votes.shape[2] < 2:
        raise ValueError(f"votes must have shape (n, k, c) with c >= 2, not {votes.shape}")
    good = np.isfinite(votes).all(axis=2) & (votes >= 0).all(axis=2)
    good &= np.nansum(votes, axis=2) <= 1 + MASS_TOLERANCE
    if not good.all():
        row, vote = np.argwhere(~good)[0]
        raise ValueError(
            f"row {row}, vote {vote}: {votes[row, vote].tolist()} are not probabilities of labels"
        )
    return votes


def _shares(votes: FloatArray) -> FloatArray:
    # Sorted first, so that the rounding of the mass does not depend on how the labels are ordered.
    mass = _sum_in_order(np.sort(votes, axis=2), axis=2)[..., None]
    return np.divide(votes, mass, out=np.zeros_like(votes), where=mass > 0)


def _sum_in_order(parts: FloatArray, axis: int) -> FloatArray:
    # np.sum may add in another order for another shape; here equal prefixes give equal sums, to the last bit.
    total = np.zeros(np.delete(parts.shape, axis))
    for part in np.moveaxis(parts, axis, 0):
        total = total + part
    return total


def _verdicts(totals: FloatArray, counted: int) -> Confidence:
    top = totals.max(axis=1)
    unique = (totals == top[:, None]).sum(axis=1) == 1
    label = np.where(unique, totals.argmax(axis=1), -1).astype(np.int64)
    return Confidence(label, np.where(unique, top / counted, 0.0))
