"""Record what a run says of the product: means over its items, changes against a baseline, and requirements.

Everything is derived from a run's rows, its certificate and human labels, and never stored.
"""

from dataclasses import dataclass
from typing import Literal

Basis = Literal["all labelled", "equal", "predictions", "exact", "betting", "student", "verdicts", "none"]
"""What limits rest on: a human label of every item; equal responses in both runs; predictions corrected by
labels (PPI++); labels alone (Clopper-Pearson, betting, Student's t); the certificate's limit on wrong
verdicts, with abstentions either way; nothing."""

PICKED = "the labelled items are judged differently from the rest: they were selected, not drawn at random"


@dataclass(frozen=True, slots=True)
class Limits:
    """A mean over items, or a difference of two, with limits that hold with probability `confidence`.

    With the basis "verdicts", `estimate` is the mean of human labels, released verdicts and predictions, each
    where the one before is missing. `labels` counts the human labels that are used. `reason` is why there is
    no estimate, or no better basis.
    """

    estimate: float | None
    low: float
    high: float
    confidence: float
    basis: Basis
    items: int
    labels: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ItemsMean:
    """The mean label of this run's items: of all of them, or of those with the value `group` of a field.

    `first` is what is printed and decided on, chosen by counts and never by its outcome. `second` is the
    other basis, if there is one, and `disjoint` whether the two exclude each other: then neither may be
    believed.
    """

    group: str | None
    first: Limits
    second: Limits | None = None

    @property
    def disjoint(self) -> bool:
        """Whether the limits of both bases have no value in common."""
        first, second = self.first, self.second
        return second is not None and (first.high < second.low or second.high < first.low)


@dataclass(frozen=True, slots=True)
class Change(ItemsMean):
    """The mean of this run's items minus that of the same items in the baseline.

    `matched` items are in both; `same` of these have equal responses, so that their change is 0. Items of
    either run without a counterpart widen the limits: their change may be anything.
    """

    matched: int = 0
    same: int = 0


@dataclass(frozen=True, slots=True)
class Requirement:
    """One product check of [gate]: the key, its value, and the limits that it is held against.

    `needed` estimates how many more `unit` would decide it; 0 where the limits do, None where no number
    would. `about` names a group, and is None for all items.
    """

    key: Literal["min_rate", "max_drop", "min_gain"]
    required: float
    about: str | None
    limits: Limits
    needed: int | None = None
    unit: Literal["human labels", "items"] = "human labels"


@dataclass(frozen=True, slots=True)
class Product:
    """What a run says of the product, on the scale of the labels (rates in [0, 1]; ratings as they are).

    `means[0]` is over all items. `changes` is empty without a baseline, which `baseline` names. `by` is the
    field of the groups. All limits from labels hold at once with the confidence that each states, and so do
    all from verdicts. `baseline_mean`, over all items of the baseline, is at the level of `means[0]` and
    holds by itself; nothing is decided on it.
    """

    means: tuple[ItemsMean, ...]
    changes: tuple[Change, ...] = ()
    by: str | None = None
    baseline: str = ""
    only_here: int = 0
    only_baseline: int = 0
    requirements: tuple[Requirement, ...] = ()
    reason: str = ""
    baseline_mean: ItemsMean | None = None

    @property
    def picked(self) -> bool:
        """Whether the labelled items are no random draw of the items, by how they are judged."""
        return bool(self.means) and self.means[0].first.reason.startswith(PICKED)
