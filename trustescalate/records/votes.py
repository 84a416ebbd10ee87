"""Count votes: prompts, orders, draws, and whether more of them could change the outcome."""

from collections.abc import Callable, Sequence

from trustescalate.records import Vote

NO_VOTE = Vote(-1, "", {})
Enough = Callable[[Sequence[Vote], int], bool]
"""Whether the votes so far, of all that are planned, are enough."""


def orders_of(votes: Sequence[Vote]) -> int:
    """How many votes share the first prompt."""
    return sum(vote.exemplar_set == votes[0].exemplar_set for vote in votes)


def draws_of(votes: Sequence[Vote]) -> int:
    """How many of these follow one another in the first one's order: draws, where there are samples."""
    first = votes[: orders_of(votes)]
    return next((place for place, vote in enumerate(first) if vote.order != first[0].order), len(first))


def all_votes(votes: Sequence[Vote], planned: int) -> bool:
    """An `Enough` that is never satisfied early."""
    return len(votes) >= planned


def may_settle(votes: Sequence[Vote], planned: int, more: int, enough: Enough) -> bool:
    """Whether `more` votes can be enough for some outcome of theirs.

    The earliest decisions come from failed votes, which only lower the score, or from certain votes for the
    leading label.

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


def next_wave(votes: Sequence[Vote], lacking: int, draws: int, planned: int, enough: Enough) -> int:
    """How many requests to make at once after these votes; 0 if the votes are enough.

    `lacking` requests of `draws` votes each are missing of the current prompt. They are made together, since
    estimators may read the first prompt alone; of a later one, one is made alone if it may be enough.

    >>> vote = Vote(0, "AB", {"A": 1.0})
    >>> [next_wave([vote] * n, 2, 1, 10, lambda votes, _: len(votes) >= 4) for n in (0, 2, 3, 4)]
    [2, 2, 1, 0]
    """
    if votes and enough(votes, planned):
        return 0
    return 1 if votes and lacking > 1 and may_settle(votes, planned, draws, enough) else lacking
