"""Label some rows, look, label more: a share of delta for each look, so that looking often does no harm.

Each look is a whole certification on all rows labelled so far. Tests that were not planned have shares too.
This file does not watch a cascade that already runs.
"""

from collections.abc import Sequence

import numpy as np

from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import Certified, certify
from trustescalate.stats.control import Prefer
from trustescalate.stats.paths import Plan

LOOKS = (0.1, 0.2, 0.3, 0.4)
"""Shares of delta: small while there are few rows, which could pass with luck only."""
FIRST_SHARE = 0.9
"""What the first test of a label spends: all of delta would buy .006 to .016 of coverage, and be the last."""


def attempt_share(number: int, first: float = FIRST_SHARE) -> float:
    """What test 1, 2, ... of the same labels may spend of delta, where nobody planned how many there will be.

    `first`, then (1 - first) / (k (k - 1)): the shares of all tests sum to 1, however many are made. Raises
    ValueError unless number >= 1 and 0 < first < 1.
    Source: alpha spending, Lan and DeMets 1983, by Bonferroni over tests; the shares are this library's.

    >>> [round(attempt_share(k), 4) for k in (1, 2, 3, 4)]
    [0.9, 0.05, 0.0167, 0.0083]
    """
    if number < 1 or not 0 < first < 1:
        raise ValueError(f"number must be at least 1 and first lie in (0, 1), not {number} and {first}")
    return first if number == 1 else (1 - first) / (number * (number - 1))


def look_levels(delta: float, shares: Sequence[float] = LOOKS) -> FloatArray:
    """What each look may spend (l,): its share of delta.

    Raises ValueError unless 0 < delta < 1 and the shares are positive and sum to at most 1.
    Source: alpha spending, Lan and DeMets 1983, by Bonferroni over looks.

    >>> look_levels(0.1).round(3).tolist()
    [0.01, 0.02, 0.03, 0.04]
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    parts = np.asarray(shares, dtype=np.float64)
    if parts.size == 0 or not np.all(parts > 0) or parts.sum() > 1 + 1e-12:
        raise ValueError(f"shares must be positive and sum to at most 1, not {tuple(shares)}")
    return delta * parts


def certify_look(
    scores: FloatArray,
    labels: IntArray,
    truth: IntArray,
    costs: FloatArray,
    *,
    look: int,
    alpha: float,
    delta: float,
    path: FloatArray | Plan,
    shares: Sequence[float] = LOOKS,
    procedure: str = "fallback",
    prefer: Prefer = "coverage",
    abstention_price: float | None = None,
) -> Certified:
    """Certify on all rows labelled up to this look, 0, 1, ...: P(any look's certificate is wrong) <= delta.

    Arrays, path and all else as in `certify`. At look l a policy passes iff its p-value is at
    most what the procedure gives it out of delta times the look's share. The path, the shares, and how many
    rows each look has were fixed before the first label; whether there is a next look may depend on anything,
    so the usual end is the first certificate. A look that was skipped spends nothing and gives nothing back.
    Raises ValueError for a look that has no share, and as `look_levels` and `certify` do.
    Source: alpha spending, Lan and DeMets 1983, by Bonferroni over looks.

    >>> scores, truth = np.linspace(1, 0, 100)[:, None], np.zeros(100, dtype=int)
    >>> labels, path = np.zeros((100, 1), dtype=int), np.array([[0.5], [0.0]])
    >>> rule = {"alpha": 0.05, "delta": 0.1, "path": path}
    >>> certify_look(scores[:60], labels[:60], truth[:60], scores[:60], look=0, **rule).chosen is None
    True
    >>> certify_look(scores, labels, truth, scores, look=1, **rule).table.level.round(3).tolist()
    [0.0, 0.02]
    """
    levels = look_levels(delta, shares)
    if not 0 <= look < len(levels):
        raise ValueError(f"no look {look}: there are {len(levels)}, counted from 0")
    return certify(
        scores,
        labels,
        truth,
        costs,
        alpha=alpha,
        delta=float(levels[look]),
        path=path,
        procedure=procedure,
        prefer=prefer,
        abstention_price=abstention_price,
    )
