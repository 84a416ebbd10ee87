"""Turn the probabilities of the symbols at a verdict's place into label probabilities."""

import math
from collections.abc import Sequence
from typing import NamedTuple

MASS_FLOOR = 0.5
"""Least total probability of the symbols at the verdict's place."""

OVERRULED = 0.1
"""A verdict conflicts with log-probabilities that give it less than this share of what another has."""


class Weighing(NamedTuple):
    """The mass of each symbol, or the failure. `conditional`: renormalized over the symbols."""

    probs: tuple[float, ...]
    failure: str | None
    conditional: bool = False


def weigh(mass: Sequence[float], least: float, verdict: int, *, constrained: bool) -> Weighing:
    """The label probabilities of a reply whose text names the symbol `verdict`.

    `mass` is the probability of each symbol, `least` that of the least alternative in the list. Under a
    schema (`constrained`) the reply is one of the symbols, but some servers report probabilities from before
    it: too little mass is renormalized over the symbols. A symbol that is not in the list counts as `least`,
    its upper bound; where that leaves open which symbol is likeliest, the vote has failed.

    >>> weigh((0.3, 0.1), 0.01, 0, constrained=False)
    Weighing(probs=(), failure='low_mass', conditional=False)
    >>> weigh((0.03, 0.01), 0.001, 0, constrained=True)
    Weighing(probs=(0.75, 0.25), failure=None, conditional=True)
    >>> weigh((0.03, 0.0), 0.01, 0, constrained=True).probs
    (0.75, 0.25)
    >>> weigh((0.03, 0.0), 0.03, 0, constrained=True).failure
    'low_mass'
    """
    total, most = math.fsum(mass), max(mass)
    if total >= MASS_FLOOR:
        if mass[verdict] < OVERRULED * most:
            return Weighing((), "conflict")
        return Weighing(tuple(p / max(total, 1.0) for p in mass), None)
    if not constrained or mass[verdict] < OVERRULED * most or (0.0 in mass and most <= least):
        return Weighing((), "low_mass")
    bounded = [p or least for p in mass]
    return Weighing(tuple(p / math.fsum(bounded) for p in bounded), None, conditional=True)
