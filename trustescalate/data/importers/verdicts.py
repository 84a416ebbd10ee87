"""Convert recorded verdicts to votes, judgments and annotations."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trustescalate.data.importers.unread import why_unread
from trustescalate.records import TIE, Annotation, Judgment, Label, Task, TaskKind, Vote

TIES = frozenset(
    {
        "tie",
        "tie (bothbad)",
        "tie (inconsistent)",
        "both_bad",
        "bothbad",
        "both_good",
        "equal",
        "draw",
        "same",
    }
)
"""Spellings of a tie, in lower case."""
SWAPPED: Mapping[Label, Label] = {"A": "B", "B": "A", TIE: TIE}
"""Labels of a pair in the frame of its swapped responses."""


def side(value: Any, first: Sequence[str], second: Sequence[str]) -> Label | None:
    """A, B or tie from the spelling of a winner; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    spelling = str(value).strip()
    if spelling in first:
        return None if spelling in second else "A"
    if spelling in second:
        return "B"
    return TIE if spelling.casefold() in TIES else None


def pairwise(question: str = "Which response is better?") -> Task:
    """The task of a comparison, with ties."""
    return Task(TaskKind.PAIRWISE, question, ("A", "B", TIE))


def grade(score: Any, highest: int) -> Label | None:
    """A whole score from 1 to `highest` as a label; None for everything else."""
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    return str(int(score)) if is_number and score in range(1, highest + 1) else None


def verdict(
    label: Label | None,
    *,
    raw: Any = "",
    order: Any = "",
    member: int = 0,
    why: str = "none",
    cost: Any = 0.0,
) -> Vote:
    """One recorded verdict as a vote; without a label, a failure with its reason.

    `raw` is what the judge wrote, or the reason that its tool gives: if that says that the judge could not
    be read, the vote is a failure. It is kept if it is text, and `cost` if it is a plausible price in USD.
    """
    if unread := why_unread(raw):
        label, why = None, unread if why == "none" else why
    reply = raw if isinstance(raw, str) else ""
    paid = isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < 1e6
    probs, failure = ({}, why) if label is None else ({label: 1.0}, None)
    return Vote(member, order, probs, reply, failure, "samples", cost=float(cost) if paid else 0.0)


def annotate(item_id: str, labels: Mapping[str, Label]) -> tuple[Annotation, ...]:
    """The annotations of an item, from its labels by annotator."""
    return tuple(Annotation(item_id, annotator, label) for annotator, label in labels.items())


def judged(item_id: str, judge: str, votes: Sequence[Vote], planned: int | None = None) -> Judgment:
    """A judge's recorded votes on an item. The fingerprint is of the judge's name: no more is known."""
    return Judgment(item_id, judge, fingerprint(judge), tuple(votes), planned or len(votes))


def fingerprint(judge: str) -> str:
    """The fingerprint of a recorded judge.

    >>> fingerprint("gpt-4") == fingerprint("gpt-4"), fingerprint("gpt-4") == fingerprint("gpt-4o")
    (True, False)
    """
    return hashlib.sha256(f"recorded {judge}".encode("utf-8", "surrogatepass")).hexdigest()
