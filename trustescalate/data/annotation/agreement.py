"""How far the people behind one queue agree, for them to see when they are done. It certifies nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from trustescalate.data.annotation.answers import Answer
from trustescalate.records import SKIP


class PairAgreement(NamedTuple):
    """Two people: on how many rows both have an opinion, and on how many it is the same."""

    first: str
    second: str
    agreed: int
    compared: int


class Agreement(NamedTuple):
    """All pairs of people, and Krippendorff's α over all; None where it has no value."""

    pairs: tuple[PairAgreement, ...]
    alpha: float | None


def agreement(answers: Sequence[str], said: Iterable[Answer]) -> Agreement:
    """Compare what people say of the same rows. A skip is no opinion; α is nominal.

    >>> rows = [("ann", "x", "first"), ("bob", "x", "first"), ("ann", "y", "tie"), ("bob", "y", "second")]
    >>> found = agreement(["first", "second", "tie"], [Answer("q", x, who, said) for who, x, said in rows])
    >>> found.pairs
    (PairAgreement(first='ann', second='bob', agreed=1, compared=2),)
    >>> round(found.alpha, 2)
    0.4
    """
    by_person: dict[str, dict[str, str]] = {}
    for row in said:
        if row.answer not in (None, SKIP):
            by_person.setdefault(row.annotator, {})[row.item_id] = str(row.answer)
    pairs = []
    for first, second in combinations(sorted(by_person), 2):
        shared = by_person[first].keys() & by_person[second].keys()
        agreed = sum(by_person[first][item_id] == by_person[second][item_id] for item_id in shared)
        pairs.append(PairAgreement(first, second, agreed, len(shared)))
    return Agreement(
        tuple(pairs), _alpha(answers, by_person) if any(pair.compared for pair in pairs) else None
    )


def _alpha(answers: Sequence[str], by_person: dict[str, dict[str, str]]) -> float | None:
    import numpy as np

    from trustescalate.stats.agreement import krippendorff_alpha

    opinions: dict[str, Counter[str]] = {}
    for own in by_person.values():
        for item_id, answer in own.items():
            opinions.setdefault(item_id, Counter())[answer] += 1
    stated = [answer for answer in answers if answer != SKIP]
    return krippendorff_alpha(np.array([[row[answer] for answer in stated] for row in opinions.values()]))
