"""Turn votes (n, k, c) into a label (n,) and a confidence score (n,) in [0, 1].

A vote holds one probability per label, as seen; it is normalised over the labels here. A failed or missing
vote is a row of zeros: it stays in the denominator and gives no label any weight. Any score keeps the
guarantee; a better one buys coverage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Limits on one item: the full ensemble's score lies in [low, high].

    `label` is the verdict if the votes to come cannot change it, else -1.
    """

    label: int
    low: float
    high: float


def ensemble(votes: npt.ArrayLike) -> Confidence:
    """Mean probability over all k votes: the paper's Simulated Annotators, in both orders.

    `votes` is (n, k, c). An exact tie at the top, or no valid vote, is no verdict: label -1, score 0. Sums
    run in the order of the votes, as in `bounds`. Raises ValueError for no votes at all, and for one that is
    not finite, negative, or sums to more than 1.
    Source: arXiv 2407.18370, equation 4.

    >>> ensemble([[[0.9, 0.1], [0.7, 0.1]], [[0.2, 0.8], [0, 0]]])
    Confidence(label=array([0, 1]), score=array([0.8875, 0.4   ]))
    """
    shares = _normalise(_check_votes(votes))
    return _pick_winners(_sum_in_order(shares, axis=1), shares.shape[1])


def sampled(votes: npt.ArrayLike, tie: FloatArray | float = 0.5) -> Confidence:
    """Share of wins, for verdicts drawn again and again without probabilities: (wins + tie) / (k + c / 2).

    `votes` is (n, k, c) as in `ensemble`, a sample being 1 for the label that it names (parts of 1 where it
    names several). `tie`, one number or (n,), in [0, 1): k samples leave only k + 1 levels of score, and rows
    at one level enter together; a number per row, drawn and stored before labels are read, orders the rows
    *within* a level and never moves one out of it. At 0.5 this is the usual (wins + 1/2) / (k + 1) for two
    labels (Krichevsky and Trofimov, 1981). A tie between labels at the top is no verdict. Raises ValueError
    as `ensemble` does, or for a tie outside [0, 1).

    >>> sampled([[[1, 0], [1, 0], [1, 0], [0, 1]]])
    Confidence(label=array([0]), score=array([0.7]))
    """
    tie = np.asarray(tie, dtype=np.float64)
    if not np.all((tie >= 0) & (tie < 1)):
        raise ValueError("tie must lie in [0, 1)")
    label, share = ensemble(votes)
    k, c = np.shape(votes)[1:]
    # Recomputed from the sum, not from the share: a division would have rounded.
    wins = _sum_in_order(_normalise(_check_votes(votes)), axis=1).max(axis=1)
    return Confidence(label, np.where(share > 0, (wins + tie) / (k + c / 2), 0.0))


def verbalized(votes: npt.ArrayLike) -> Confidence:
    """Mean of what the judge *says* its confidence is, over all k votes.

    `votes` is (n, k, c): a vote is the stated confidence, in (0, 1], at the label that it names, and 0
    elsewhere. What it leaves of 1 is shared equally by the labels that it does not name, so "A, 30 %" speaks
    for the others; a vote that states one number for each label is normalised. Judges say round numbers, and
    high ones: expect many equal scores. All else as in `ensemble`. Tian et al. (2023).

    >>> verbalized([[[0.9, 0], [0.0, 0.6]]])
    Confidence(label=array([0]), score=array([0.65]))
    """
    stated = _complete(_check_votes(votes))
    return _pick_winners(_sum_in_order(stated, axis=1), stated.shape[1])


ESTIMATORS: Mapping[str, Callable[[npt.ArrayLike], Confidence]] = {
    "ensemble": ensemble,
    "sampled": sampled,
    "verbalized": verbalized,
}


def normalised(votes: npt.ArrayLike, estimator: str = "ensemble") -> FloatArray:
    """Each vote's shares of the labels, (n, k, c) as `votes`; a failed vote stays a row of zeros.

    For "verbalized" what is left of a stated confidence is shared by the labels that are not named. Raises
    ValueError as `ensemble` does.

    >>> normalised([[[0.6, 0.2], [0, 0]]]).round(2).tolist()
    [[[0.75, 0.25], [0.0, 0.0]]]
    >>> normalised([[[0.6, 0]]], "verbalized").round(2).tolist()
    [[[0.6, 0.4]]]
    """
    return _complete(_check_votes(votes)) if estimator == "verbalized" else _normalise(_check_votes(votes))


def bounds(estimator: str, seen: npt.ArrayLike, planned: int, tie: float = 0.5) -> Bounds:
    """Bounds on the full ensemble's score of one item after the first s of `planned` votes, `seen` (s, c).

    They hold whatever the remaining votes say, to the last bit: sums run in the same order as in the
    estimator, and rounded addition is monotone. So "accept if label >= 0 and low >= tau, escalate if
    high < tau" decides as the full ensemble would. When all votes are in, low == high == the score. `tie` is
    the row's own, for "sampled" alone. Raises ValueError for an unknown estimator, for more votes than
    planned, or for a vote that is no vote.

    >>> bounds("ensemble", [[0.9, 0.1], [1.0, 0.0]], planned=4)
    Bounds(label=-1, low=0.0, high=0.975)
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"no estimator {estimator!r}; there are {', '.join(ESTIMATORS)}")
    votes: list[list[float]] = seen if isinstance(seen, list) else np.asarray(seen, np.float64).tolist()
    least = most = _sum_shares(estimator, votes, len(votes[0]) if votes else np.shape(seen)[-1])
    if len(votes) > planned:
        raise ValueError(f"{len(votes)} votes seen, but only {planned} planned")
    left = planned - len(votes)
    for _ in range(left):
        most = [part + 1.0 for part in most]
    extra, total = (tie, planned + len(least) / 2) if estimator == "sampled" else (0.0, planned)
    winner = least.index(max(least))
    if least[winner] > max(most[:winner] + most[winner + 1 :]):
        return Bounds(winner, (least[winner] + extra) / total, (most[winner] + extra) / total)
    return Bounds(-1, 0.0, (max(most) + extra) / total if left else 0.0)


def _check_votes(votes: npt.ArrayLike) -> FloatArray:
    votes = np.asarray(votes, dtype=np.float64) + 0.0  # adding +0.0 turns -0.0 into 0.0
    if votes.ndim != 3 or votes.shape[1] < 1 or votes.shape[2] < 2:
        raise ValueError(f"votes must have shape (n, k, c) with k >= 1 and c >= 2, not {votes.shape}")
    # Not a number compares false, and so does a sum with one.
    good = (votes >= 0).all(axis=2) & (votes.sum(axis=2) <= 1 + MASS_TOLERANCE)
    if not good.all():
        row, vote = np.argwhere(~good)[0]
        raise ValueError(
            f"row {row}, vote {vote}: {votes[row, vote].tolist()} are not probabilities of labels"
        )
    return votes


def _normalise(votes: FloatArray) -> FloatArray:
    # Sorted first, so that the rounding of the mass does not depend on how the labels are ordered.
    mass = _sum_in_order(np.sort(votes, axis=2), axis=2)[..., None]
    return np.divide(votes, mass, out=np.zeros_like(votes), where=mass > 0)


def _complete(votes: FloatArray) -> FloatArray:
    shares = _normalise(votes)
    mass = _sum_in_order(np.sort(votes, axis=2), axis=2)[..., None]
    unnamed = (votes == 0).sum(axis=2, keepdims=True)
    rest = np.clip(1 - mass, 0.0, 1.0) / np.maximum(unnamed, 1)
    filled = np.where(votes > 0, np.minimum(votes, 1.0), rest)
    return np.where((mass > 0) & (unnamed > 0), filled, shares)


def _sum_shares(estimator: str, votes: list[list[float]], labels: int) -> list[float]:
    """`_sum_in_order` of the shares (c,) of one item's votes (s, c).

    The same sums to the last bit, in plain floats: this is asked after every reply, about a few numbers, for
    which numpy's calls take longer than the sums.
    """
    if labels < 2 or not all(len(vote) == labels and _is_vote(vote) for vote in votes):
        _check_votes(np.array([votes]))  # says what is wrong
    if estimator == "verbalized":
        shares = _complete(np.array(votes, dtype=np.float64).reshape(1, -1, labels))[0].tolist()
    else:
        massed = [(row, _add(sorted(row))) for row in votes]
        shares = [[part / mass for part in row] for row, mass in massed if mass > 0]
    return [_add(row[label] for row in shares) for label in range(labels)]


def _is_vote(vote: Sequence[float]) -> bool:
    return all(part >= 0 for part in vote) and _add(vote) <= 1 + MASS_TOLERANCE


def _add(parts: Iterable[float]) -> float:
    # sum() of newer Pythons makes good for rounding, and so would differ from numpy's.
    total = 0.0
    for part in parts:
        total += part
    return total


def _sum_in_order(parts: FloatArray, axis: int) -> FloatArray:
    # np.sum may add in another order for another shape; here equal prefixes give equal sums, to the last bit.
    total = np.zeros(parts.shape[:axis] + parts.shape[axis + 1 :])
    for place in range(parts.shape[axis]):
        total = total + parts[(slice(None),) * axis + (place,)]
    return total


def _pick_winners(totals: FloatArray, counted: int) -> Confidence:
    top = totals.max(axis=1)
    unique = (totals == top[:, None]).sum(axis=1) == 1
    label = np.where(unique, totals.argmax(axis=1), -1).astype(np.int64)
    return Confidence(label, np.where(unique, top / counted, 0.0))
