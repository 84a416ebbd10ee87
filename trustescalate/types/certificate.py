"""The certificate, with every count that it rests on, and what stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trustescalate.types.task import Task


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One policy of the path and its test: `errors` of `accepted` certification rows, against `level`.

    `thresholds` has one entry a tier; None means that the tier never accepts. `by_tier` splits `accepted`.
    `part` is the sub-path that the policy belongs to. With the claim "batch", `accepted` and `by_tier` are of
    the whole batch, and `errors` of the `drawn` rows among the accepted; else `drawn` is None.
    """

    thresholds: tuple[float | None, ...]
    accepted: int
    errors: int
    by_tier: tuple[int, ...]
    cost: float
    p_value: float
    level: float
    rejected: bool
    part: int = 0
    drawn: int | None = None


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability diagram: scores in [low, high], how many, their mean, how many were right."""

    low: float
    high: float
    count: int
    mean_score: float
    correct: int


@dataclass(frozen=True, slots=True)
class JudgeDiagnostics:
    """How one judge did on the certification rows when asked about all of them. No promise rests on it.

    A row without a verdict (failure, exact tie) is in `n` and not in `agreements`. `auroc` is None when all
    or no verdicts are right; `kappa` is None when there is nothing beyond chance to measure.
    """

    judge: str
    n: int
    agreements: int
    interval: tuple[float, float]
    kappa: float | None
    ece: float | None
    brier: float | None
    auroc: float | None
    bins: tuple[Bin, ...]
    votes: int
    failures: Mapping[str, int]
    cost: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How often one annotator agrees with the majority of the others, counted on the certification rows."""

    annotators: int
    comparisons: int
    agreements: int
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A measure of agreement among people beyond chance; `interval` is two-sided at 95 %, if there is one."""

    name: str
    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Annotator:
    """What one person said on the certification rows, and how often others said the same there.

    `agreements` of `comparisons` run over every other person on every row that both labelled.
    """

    name: str
    opinions: int
    ties: int
    skips: int
    agreements: int
    comparisons: int


@dataclass(frozen=True, slots=True)
class Pair:
    """How often two people agree on the rows that both labelled."""

    first: str
    second: str
    agreements: int
    comparisons: int


@dataclass(frozen=True, slots=True)
class StandIn:
    """One judge held against one person (`stats.annotators.alternative_annotator_test`)."""

    judge: str
    annotator: str
    rows: int
    advantage: float
    p_value: float
    beaten: bool


@dataclass(frozen=True, slots=True)
class People:
    """How two or more people agree on the certification rows. No promise rests on it.

    `stand_ins` has an entry for each judge and each person with at least `min_rows` comparable rows, where
    there are three people or more; `epsilon` is the gain that a judge's price is worth. `pairs` is empty
    where there are too many people to list.
    """

    coefficients: tuple[Coefficient, ...]
    annotators: tuple[Annotator, ...]
    pairs: tuple[Pair, ...]
    stand_ins: tuple[StandIn, ...]
    epsilon: float
    min_rows: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An upper limit on the true risk of the policy in place `test` of `tests`, at once with all others."""

    test: int
    upper: float


@dataclass(frozen=True, slots=True)
class Seal:
    """What a certificate is bound to, per judge: a run with anything else refuses the certificate."""

    judge: str
    fingerprint: str
    channel: Literal["logprobs", "samples"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What the claim "batch" is about: how many items, a digest of them, and one of the votes on them."""

    items: int
    digest: str
    votes: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """The promise, or the refusal to make one, with every count needed to recompute it.

    `roles` holds the ids of the items in each role (exemplars, dev, certify, holdout; pilot: unlabelled;
    with the claim "batch" also undrawn: the rest of the batch, of which pilot and certify are parts too).
    `stack` holds the weights of `stats.paths.Stack` where thresholds are held against stacked scores.
    `radius` is the robustness radius of the chosen policy, from its upper limit at the level of its test.
    `band` limits the risk of some policies at once with probability at least 1 - `delta`. `people` is None
    where fewer than two people labelled.

    `status == "none"` means that nothing was certified: then `thresholds` is None, `reason` says why and
    `advice` what would help. Otherwise, with probability at least 1 - `delta` over the draw of the
    certification rows, at least 1 - `alpha` of the verdicts that the cascade releases agree with people:
    on items from the same population, or, with the claim "batch", on the items of `batch`.
    """

    schema: int
    status: Literal["certified", "none"]
    reason: str
    advice: str
    alpha: float
    delta: float
    claim: Literal["population", "batch"]
    path: str
    procedure: str
    prefer: str
    estimator: str
    task: Task
    label_policy: str
    n: int
    no_majority: int
    dropped_ties: int
    chosen: int | None
    thresholds: tuple[float | None, ...] | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]
    judges: tuple[Seal, ...]
    diagnostics: tuple[JudgeDiagnostics, ...]
    ceiling: Ceiling | None
    roles: Mapping[str, tuple[str, ...]]
    protocol: str
    data_digest: str
    seed: int
    version: str
    created: str
    assumptions: tuple[str, ...]
    stack: tuple[tuple[tuple[float, float], ...], ...] | None = None
    batch: Batch | None = None
    radius: float | None = None
    band: tuple[Checkpoint, ...] = ()
    people: People | None = None
