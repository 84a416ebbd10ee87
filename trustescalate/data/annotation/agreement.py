"""Compute the agreement of the annotators of one queue: as a running figure, and in full when one is done."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from trustescalate.data.annotation.answers import Answer
from trustescalate.records import SKIP

STEP = 10
"""The running figure changes when this many more items are compared."""


class PairAgreement(NamedTuple):
    """Two annotators: the number of rows that both labelled, and of those with the same label."""

    first: str
    second: str
    agreed: int
    compared: int


class Agreement(NamedTuple):
    """All pairs of annotators, and Krippendorff's α over all; None where it is undefined."""

    pairs: tuple[PairAgreement, ...]
    alpha: float | None


def agreement(answers: Sequence[str], given: Iterable[Answer]) -> Agreement:
    """Compare the answers to the same rows. A skip is no label; α is nominal.

    >>> rows = [("ann", "x", "first"), ("bob", "x", "first"), ("ann", "y", "tie"), ("bob", "y", "second")]
    >>> result = agreement(["first", "second", "tie"], [Answer("q", x, who, label) for who, x, label in rows])
    >>> result.pairs
    (PairAgreement(first='ann', second='bob', agreed=1, compared=2),)
    >>> round(result.alpha, 2)
    0.4
    """
    by_annotator: dict[str, dict[str, str]] = {}
    for row in given:
        if row.answer not in (None, SKIP):
            by_annotator.setdefault(row.annotator, {})[row.item_id] = str(row.answer)
    pairs = []
    for first, second in combinations(sorted(by_annotator), 2):
        shared = by_annotator[first].keys() & by_annotator[second].keys()
        agreed = sum(by_annotator[first][item_id] == by_annotator[second][item_id] for item_id in shared)
        pairs.append(PairAgreement(first, second, agreed, len(shared)))
    return Agreement(
        tuple(pairs), _alpha(answers, by_annotator) if any(pair.compared for pair in pairs) else None
    )


def _alpha(answers: Sequence[str], by_annotator: dict[str, dict[str, str]]) -> float | None:
    import numpy as np

    from trustescalate.stats.agreement import krippendorff_alpha

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for own in by_annotator.values():
        for item_id, answer in own.items():
            counts[item_id][answer] += 1
    labels = [answer for answer in answers if answer != SKIP]
    return krippendorff_alpha(np.array([[row[label] for label in labels] for row in counts.values()]))


class RunningAgreement:
    """How many comparisons of one annotator with the others agree, in steps of `STEP` items.

    It counts the first label that each annotator gave to an item. So no figure tells what the others answered
    to one item, and changing an answer does not change a figure.

    >>> running = RunningAgreement()
    >>> for n in range(19):
    ...     for who in ("ann", "bob"):
    ...         running.add(Answer("q", f"x{n}", who, "tie" if n else who))
    >>> running.of("ann")
    {'agreed': 9, 'compared': 10}
    """

    def __init__(self, given: Iterable[Answer] = ()) -> None:
        self._first: dict[str, dict[str, str]] = defaultdict(dict)
        self._items: dict[str, set[str]] = defaultdict(set)
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._shown: dict[str, dict[str, int]] = {}
        for row in given:
            self.add(row)

    def add(self, row: Answer) -> None:
        """Count a line of the log, unless it is no first label."""
        labels = self._first[row.item_id]
        if row.answer is None or row.answer == SKIP or row.annotator in labels:
            return
        for other, label in labels.items():
            for annotator in (row.annotator, other):
                self._counts[annotator].update(agreed=label == row.answer, compared=1)
        if labels:
            for annotator in (row.annotator, *labels):
                self._show(annotator, row.item_id)
        labels[row.annotator] = row.answer

    def _show(self, annotator: str, item_id: str) -> None:
        items = self._items[annotator]
        if item_id not in items:
            items.add(item_id)
            if len(items) % STEP == 0:
                self._shown[annotator] = dict(self._counts[annotator])

    def of(self, annotator: str) -> dict[str, int] | None:
        """Return what the annotator may see; None before the first `STEP` compared items."""
        return self._shown.get(annotator)
