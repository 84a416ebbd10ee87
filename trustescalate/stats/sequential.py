"""Spend delta over repeated tests of the same labels (α-spending)."""

FIRST_SHARE = 0.9
"""The share of the first test of a label: all of delta buys .006 to .016 of coverage, and is the last."""


def attempt_share(number: int, first: float = FIRST_SHARE) -> float:
    """The share of delta that test 1, 2, ... of the same labels may spend, when their number is not planned.

    `first`, then (1 - first) / (k (k - 1)): the shares of all tests sum to 1, however many are made. Raises
    ValueError unless number >= 1 and 0 < first < 1.
    Source: alpha spending, Lan and DeMets 1983, by Bonferroni over tests; the shares are this library's.

    >>> [round(attempt_share(k), 4) for k in (1, 2, 3, 4)]
    [0.9, 0.05, 0.0167, 0.0083]
    """
    if number < 1 or not 0 < first < 1:
        raise ValueError(f"number must be at least 1 and first lie in (0, 1), not {number} and {first}")
    return first if number == 1 else (1 - first) / (number * (number - 1))
