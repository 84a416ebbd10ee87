"""Make votes of grades ("A>>B") and scores: how sure a judge was is kept as a probability.

A grade is a place on a line from B to A: A>>B is 1, A>B is 3/4, and a tie is a tie. Where a judge's replies
hold no strong grades at all, A>B is all that it can say, and counts as 1. Two scores of a reward model are
compared by the logistic function of their difference, as such models are trained (Bradley and Terry, 1952).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.verdicts import SWAPPED, verdict
from trustescalate.records import TIE, Label, Vote

SLIGHT = 0.75
GRADED = f"a strong grade (A>>B) is a vote of 1 for its side, a slight one (A>B) of {SLIGHT}"
SCORED = (
    "scores are votes by the logistic function of their difference: equal ones are half a vote for each side"
)
GRADES: Mapping[str, float] = {
    **dict.fromkeys(("A>>B", "B<<A"), 1.0),
    **dict.fromkeys(("A>B", "B<A"), SLIGHT),
    **dict.fromkeys(("A=B", "B=A"), 0.5),
    **dict.fromkeys(("B>A", "A<B"), 1 - SLIGHT),
    **dict.fromkeys(("B>>A", "A<<B"), 0.0),
}
"""P(A is better) of each grade, in the order shown."""
GRADE = re.compile(r"\[\[\s*([AB]\s*(?:>>|>|=|<|<<)\s*[AB])\s*\]\]")


def grade_share(grade: Any, reply: Any = None) -> float | None:
    """P(A is better) of a grade; None without one.

    A judge's reply may hold a stronger grade than the one that was kept of it, on the same side.

    >>> grade_share("A>B"), grade_share("A>B", "so: [[A>>B]]"), grade_share("B>A", "[[A>>B]]")
    (0.75, 1.0, 0.25)
    """
    kept = GRADES.get(grade.strip()) if isinstance(grade, str) else None
    written = GRADE.findall(reply) if isinstance(reply, str) and kept is not None else []
    if kept is None or not written:
        return kept
    full = GRADES.get(re.sub(r"\s", "", written[-1]))
    return full if full is not None and (full - 0.5) * (kept - 0.5) > 0 else kept


def is_strong(grade: Any, reply: Any = None) -> bool:
    """Whether a grade, or the last one in a reply, is one of the strong ones."""
    return grade_share(grade, reply) in (0.0, 1.0)


def scored_vote(scores: Any, first: bool | None, *, raw: Any, order: Any) -> Vote:
    """A vote from two scores in the order shown; of equal ones, `first` says which one is named better.

    >>> scored_vote([20.75, 20.75], False, raw="", order="AB").probs
    {'B': 0.5, 'A': 0.5}
    """
    share = score_share(scores)
    if share is None:
        return replace(verdict(None, raw=raw, order=order), channel="logprobs")
    shares = {"A": share, "B": 1 - share}
    if order == "BA":
        shares, first = {"A": 1 - share, "B": share}, not first if first is not None else None
    vote = verdict("A", raw=raw, order=order)
    named = ("B", "A") if shares["A"] < 0.5 or (shares["A"] == 0.5 and first is False) else ("A", "B")
    probs = {label: shares[label] for label in named} if vote.failure is None else {}
    return replace(vote, probs=probs, channel="logprobs")


def graded_vote(share: float | None, *, raw: Any, order: Any, graded: bool) -> Vote:
    """A vote from P(the first shown is better) in order AB or BA; `graded` says that the judge has grades.

    >>> graded_vote(0.75, raw="", order="BA", graded=True).probs
    {'B': 0.75, 'A': 0.25}
    >>> graded_vote(0.75, raw="", order="AB", graded=False).probs
    {'A': 1.0}
    """
    label: Label | None = None
    if share is not None:
        label = TIE if share == 0.5 else "A" if share > 0.5 else "B"
    if label is not None and order == "BA":
        label = SWAPPED[label]
    vote = verdict(label, raw=raw, order=order)
    if not graded or vote.failure is not None or share is None:
        return replace(vote, channel="logprobs") if graded else vote
    sure = max(share, 1 - share)
    probs = {label: 1.0} if label == TIE or sure == 1 else {str(label): sure, SWAPPED[str(label)]: 1 - sure}
    return replace(vote, probs={str(each): p for each, p in probs.items()}, channel="logprobs")


def score_share(scores: Any) -> float | None:
    """P(the first is better) from the scores of two responses; None unless both are finite numbers.

    >>> round(score_share([19.875, 19.5]), 3), score_share([3, 3]), score_share([1, None])
    (0.593, 0.5, None)
    """
    if not isinstance(scores, list) or len(scores) != 2 or not all(map(_is_finite, scores)):
        return None
    margin = max(-700.0, min(700.0, float(scores[0]) - float(scores[1])))
    return 1 / (1 + math.exp(-margin))


def _is_finite(score: Any) -> bool:
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    return is_number and abs(score) < 1e300


def any_strong(grades: Iterable[tuple[Any, Any]]) -> bool:
    """Whether some of the grades, each with its reply, are strong."""
    return any(is_strong(grade, reply) for grade, reply in grades)
