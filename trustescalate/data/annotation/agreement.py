"""Compute the agreement of the annotators of one queue, shown to them when they are done."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from trustescalate.data.annotation.answers import Answer
from trustescalate.records import SKIP


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
