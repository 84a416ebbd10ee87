"""Everything that is decided before a label is read, and the rows that it will be tested on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trustescalate.jsonl import digest, to_python
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.paths import PathName
from trustescalate.types import Judgment, Task


@dataclass(frozen=True, slots=True)
class GroupRule:
    """A promise for each value of the field `by`: `values` holds that of each certification row with one.

    `alpha` and `weights` are by value, where they are not the protocol's alpha and 1. A value with fewer rows
    than `fewest` is not tested, and `enough` is where testing a value may end.
    """

    by: str
    values: Mapping[str, str]
    alpha: Mapping[str, float]
    weights: Mapping[str, float]
    enough: float
    fewest: int


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Evidence on unseen values of the field `by`: `values` holds that of each certification row with one."""

    by: str
    values: Mapping[str, str]


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
    estimator: Literal["ensemble", "predictive"]
    judges: tuple[tuple[str, str], ...]
    roles: Mapping[str, tuple[str, ...]]
    grouped: bool
    seed: int
    version: str
    groups: GroupRule | None = None
    leave_out: LeaveOut | None = None

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
