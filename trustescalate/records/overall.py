"""Record means over all items, abstained ones included; no decision depends on them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Stratum:
    """The mean label over the items of one stratum; `name` is None for items without a value.

    `interval` and `label_only` hold for all strata at once with probability 95 %. `usable` and `reason` as in
    `Overall`. `pooled`: too few labels to be a stratum of its own in the mean over all items.
    """

    name: str | None
    items: int
    labels: int
    estimate: float | None
    interval: tuple[float, float] | None
    label_only: tuple[float, float] | None
    usable: bool
    reason: str
    pooled: bool


@dataclass(frozen=True, slots=True)
class Overall:
    """The mean label over all items, abstained ones too: a win rate, a pass rate or a mean rating.

    `estimate` and its 95 % `interval` use predictions for all items and the certification rows' labels;
    `label_only` uses labels alone, and applies where `usable` is False; `label_basis` is its method
    (`stats.intervals`). `reason` is why the estimate is not usable, or missing. `verdicts` are limits from
    released verdicts alone. `grouped`: each group of items counts once. `strata`: estimates by stratum, where
    items name one.
    """

    estimate: float | None
    reason: str = ""
    interval: tuple[float, float] | None = None
    label_only: tuple[float, float] | None = None
    usable: bool = False
    items: int = 0
    labels: int = 0
    verdicts: tuple[float, float] | None = None
    grouped: bool = False
    strata: tuple[Stratum, ...] = ()
    label_basis: Literal["exact", "betting", "student"] = "exact"
