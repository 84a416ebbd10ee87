"""Define the protocol: everything that is decided before a label is read, and the rows that are tested."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from trustescalate.config import GuaranteeTable
from trustescalate.records import (
    Against,
    Annotation,
    Attempt,
    Clusters,
    InterimAnalysis,
    Judgment,
    Task,
    Weighting,
)
from trustescalate.records.jsonl import digest, to_python
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.paths import PATHS, PathName
from trustescalate.stats.rule import TestRule

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Clustering:
    """The ids of the certification rows, cluster by cluster, and the most rows that any cluster can have."""

    rows: tuple[tuple[str, ...], ...]
    largest: int


@dataclass(frozen=True, slots=True)
class GroupRule:
    """A guarantee for each value of the field `by`: `values` holds that of each certification row with one.

    `alpha` and `weights` are by value, where they are not the protocol's alpha and 1. A value with fewer rows
    than `fewest` is not tested, and `enough` is where testing a value may end.
    """

    by: str
    values: Mapping[str, str]
    alpha: Mapping[str, float]
    weights: Mapping[str, float]
    target_coverage: float
    min_rows: int


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Evidence on unseen values of the field `by`: `values` holds that of each certification row with one."""

    by: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegionRule:
    """Rows in the role `region` were drawn where some policy accepts of expected coverage at most `most`.

    `share` of the pilot lies there, `plan` is a digest of these policies, and `candidates` are the ids of
    items from the whole population, drawn without labels, on which coverage is counted.
    """

    most: float
    share: float
    plan: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that is decided before labels are read.

    `roles` holds item ids by role; `certify` at most one of each cluster of `drawn_from`, unless `clusters`
    divides them, `pilot` items without labels (or dev rows) that lay out the path. With the claim "batch",
    `certify` and `undrawn` together are the batch; `release_human_labels` releases the former with their
    human labels. With a `region`, the role of that name holds rows that are tested as well, and stand for the
    region only.
    """

    task: Task
    rule: TestRule[PathName | Literal["tierwise"]]
    claim: Literal["population", "batch", "expected"]
    estimator: str
    judges: tuple[tuple[str, str], ...]
    roles: Mapping[str, tuple[str, ...]]
    grouped: bool
    seed: int
    version: str
    reference: Against = "majority"
    clusters: Clustering | None = None
    interim: InterimAnalysis | None = None
    weighting: Weighting | None = None
    release_human_labels: bool = False
    groups: GroupRule | None = None
    leave_out: LeaveOut | None = None
    attempt: Attempt | None = None
    drawn_from: Clusters | None = None
    region: RegionRule | None = None

    @property
    def level(self) -> float:
        """The probability of a wrong certificate that this test may spend: delta, or its share of it."""
        share = self.attempt or self.interim
        return self.rule.delta if share is None else self.rule.delta * share.share

    @property
    def tierwise(self) -> bool:
        """Whether each tier is tested by itself, on the rows that earlier tiers left over."""
        return self.rule.path == "tierwise"

    def rule_along(self, path: P) -> TestRule[P]:
        """The rule of this test, along the path that was laid out, at the delta that it may spend."""
        return replace(self.rule.along(path), delta=self.level)

    @property
    def asks_dev(self) -> bool:
        """Whether judges must judge dev rows: the path is fitted on them."""
        return self.rule.path != "tierwise" and PATHS[self.rule.path].needs_dev

    @property
    def digest(self) -> str:
        """The hash that the certificate carries."""
        return digest(to_python(self))

    @property
    def tested(self) -> tuple[str, ...]:
        """The ids of the rows that are tested."""
        return (*self.roles["certify"], *self.roles.get("region", ()))

    @property
    def batch(self) -> tuple[str, ...]:
        """The ids of the batch, for the claim on one."""
        return (*self.roles["certify"], *self.roles["undrawn"])


def rule_of(guarantee: GuaranteeTable) -> TestRule[PathName | Literal["tierwise"]]:
    """The test rule that a configuration names."""
    return TestRule(
        guarantee.alpha,
        guarantee.delta,
        guarantee.path,
        guarantee.procedure,
        guarantee.prefer,
        guarantee.abstention_price,
    )


@dataclass(frozen=True, slots=True)
class Aligned:
    """n rows × m tiers: scores, labels (-1: no verdict), costs; truth (n,), -1: no majority.

    `ids` (n,) names the rows; `losses` (n, c) is what each label would lose on them
    (`calibration.losses.losses`).
    """

    ids: tuple[str, ...]
    scores: FloatArray
    labels: IntArray
    costs: FloatArray
    truth: IntArray
    losses: FloatArray

    def take(self, rows: Sequence[bool]) -> "Aligned":
        """Some of the rows, by a mask (n,)."""
        mask = np.array(rows, dtype=np.bool_)
        ids = tuple(item_id for item_id, taken in zip(self.ids, rows, strict=True) if taken)
        votes = (self.scores[mask], self.labels[mask], self.costs[mask])
        return Aligned(ids, *votes, self.truth[mask], self.losses[mask])


def labels_digest(annotations: Iterable[Annotation], rows: Iterable[str]) -> str:
    """A hash of the annotations on these rows, in whatever order."""
    wanted = set(rows)
    return digest(sorted((a.item_id, a.annotator, a.label) for a in annotations if a.item_id in wanted))


Judged = Mapping[str, Mapping[str, Judgment]]
"""Judgments by judge and item, full ensembles."""
