"""Everything that is decided before a label is read, and the rows that it will be tested on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trustescalate.jsonl import digest, to_python
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.paths import PATHS, PathName
from trustescalate.types import Judgment, Task

FITTED = ("learned", "boosted", "interval")
"""Estimators that have numbers of their own."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that is decided before labels are read.

    `roles` holds item ids by role; `certify` at most one of each group, `pilot` items without labels (or dev
    rows) that lay out the path. With the claim "batch", `certify` and `undrawn` together are the batch.
    """

    task: Task
    alpha: float
    delta: float
    claim: Literal["population", "batch"]
    path: PathName | Literal["tierwise"]
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"]
    prefer: Literal["coverage", "cost", "total"]
    abstention_price: float | None
    estimator: str
    judges: tuple[tuple[str, str], ...]
    roles: Mapping[str, tuple[str, ...]]
    grouped: bool
    seed: int
    version: str
    recalibrate: Literal["isotonic", "platt", "temperature"] | None = None
    learn_from: Literal["people", "dearest"] = "people"

    @property
    def fitted(self) -> bool:
        """Whether scores have numbers that are fitted first (`scoring.fit_scorer`)."""
        return self.estimator in FITTED or self.recalibrate is not None

    @property
    def asks_dev(self) -> bool:
        """Whether judges must be asked about dev rows: the path, or the scores, are fitted on them."""
        return self.fitted or (self.path != "tierwise" and PATHS[self.path].needs_dev)

    @property
    def digest(self) -> str:
        """The hash that the certificate carries."""
        return digest(to_python(self))

    @property
    def batch(self) -> tuple[str, ...]:
        """The ids of the batch, for the claim on one."""
        return (*self.roles["certify"], *self.roles["undrawn"])


@dataclass(frozen=True, slots=True)
class Aligned:
    """n certification rows × m tiers: scores, labels (-1: no verdict), costs; truth (n,), -1: no majority."""

    scores: FloatArray
    labels: IntArray
    costs: FloatArray
    truth: IntArray


Judged = Mapping[str, Mapping[str, Judgment]]
"""Judgments by judge and item, full ensembles."""
