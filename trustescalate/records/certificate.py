"""The certificate, with every count that it rests on, and what stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trustescalate.records.display import html_table, one_line
from trustescalate.records.judging import Channel
from trustescalate.records.overall import Overall
from trustescalate.records.task import Against, Label, Task


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One policy of the path and its test: `errors` of `accepted` certification rows, against `level`.

    `thresholds` has one entry a tier; None means that the tier never accepts. `by_tier` splits `accepted`.
    `part` is the sub-path that the policy belongs to; if it is `pooled`, its thresholds are held against
    scores that pool all tiers so far (`Certificate.stack`). With the claim "batch", `accepted` and `by_tier`
    are of the whole batch, and `errors` of the `drawn` rows among the accepted; else `drawn` is None. Where
    verdicts lose shares, `loss` is their sum, and `errors` counts the accepted rows that lose anything; else
    it is None. Where rows were drawn from a region, `seen` counts the rows that the policy accepts among the
    `Region.judged` unlabelled ones, on which `cost` is counted too: accepted rows say nothing of coverage.
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
    pooled: bool = False
    drawn: int | None = None
    loss: float | None = None
    seen: int | None = None


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
    """How one judge did on the certification rows when asked about all of them. No guarantee rests on it.

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
class HumanAgreement:
    """Human leave-one-out agreement on the certification rows, and what no verdict can exceed there.

    `agreements` of `comparisons` of one annotator with the majority of the others: no upper limit for a
    judge. That is, for agreement with the majority, the share `decidable` of `rows` that have one; for
    agreement with an annotator drawn at random, `largest_share`, the mean over rows of what the best verdict
    there agrees with. Both limits are 95 % intervals.
    """

    annotators: int
    comparisons: int
    agreements: int
    interval: tuple[float, float]
    rows: int = 0
    decidable: int = 0
    decidable_interval: tuple[float, float] = (0.0, 1.0)
    largest_share: float = 1.0
    largest_share_interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A measure of agreement among people beyond chance; `interval` is two-sided at 95 %, if there is one.

    Where there is none, `reason` says why.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Annotator:
    """What one person said on the certification rows, and how often others said the same there.

    `agreements` of `comparisons` run over every other person on every row that both labelled. `seconds` is
    the median time that an answer took, skips included, over the `timed` ones whose time is known.
    """

    name: str
    opinions: int
    ties: int
    skips: int
    agreements: int
    comparisons: int
    timed: int = 0
    seconds: float | None = None


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
class AnnotatorAgreement:
    """How two or more people agree on the certification rows. No guarantee rests on it.

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
class Pooling:
    """How tiers are pooled (`stats.pooling.Stack`): weights (m, m, 2), and where log-odds are cut."""

    weights: tuple[tuple[tuple[float, float], ...], ...]
    clip: float


@dataclass(frozen=True, slots=True)
class JudgeBinding:
    """What a certificate is bound to, per judge: a run with anything else refuses the certificate."""

    judge: str
    fingerprint: str
    channel: Channel


@dataclass(frozen=True, slots=True)
class Batch:
    """What the claim "batch" is about: how many items, a digest of them, and one of the votes on them.

    With `release_human_labels` the drawn rows are released with people's labels, of which `labels` is a digest.
    """

    items: int
    digest: str
    votes: str
    release_human_labels: bool = False
    labels: str = ""


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """What each judge says of one labelled row by itself, verdict and score, and which verdicts agree with
    people: none where people have no majority."""

    item_id: str
    verdicts: tuple[Label | None, ...]
    scores: tuple[float, ...]
    agreeing: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class InterimAnalysis:
    """One of several planned looks: its `number` from 1 on, rows and share of delta of each, as planned."""

    number: int
    sizes: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def share(self) -> float:
        """What this look may spend, of delta."""
        return self.shares[self.number - 1]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which test of its labels a certificate is from, and what that test may spend.

    `number` is 1 where none of the certification labels was tested before, else one more than the largest
    number of a test that shares a label with it. `share` is of delta; the shares of all tests of a label sum
    to at most 1. `ledger` is the digest of the test's line in ledger.jsonl, and so of every line before it.
    """

    number: int
    share: float
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters that certification rows come from, and what was tested of each (`test`).

    "one_per_cluster": one row, each cluster counting once; "row_weighted": one row, `kept` with probability rows /
    `largest`, each row counting once; "betting": all rows. `count` clusters hold `rows` labelled rows, by `sizes`
    the smallest, the median and the largest; `by` is what makes rows one cluster. `largest`, where it is
    needed, is the most rows that a cluster can ever have.
    """

    count: int
    largest: int | None
    test: Literal["one_per_cluster", "row_weighted", "betting"] = "betting"
    by: str = "group"
    rows: int = 0
    sizes: tuple[int, int, int] = (1, 1, 1)
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Weighting:
    """Certification rows kept with probability weight / bound: `kept` of `offered`, weights from field `by`.

    "known" weights are exact; with "estimated" ones the guarantee is approximate.
    """

    by: str
    bound: float
    source: Literal["known", "estimated"]
    offered: int
    kept: int


@dataclass(frozen=True, slots=True)
class Region:
    """Rows that were drawn where some tested policy accepts: `rows` of them, the other `uniform` from all.

    No policy was tested whose expected coverage is above `most`. Of `judged` items, drawn from all without
    labels, `inside` lie in the region.
    """

    most: float
    uniform: int
    rows: int
    judged: int
    inside: int


@dataclass(frozen=True, slots=True)
class GroupGuarantee:
    """The guarantee for the items of one value of `Certificate.group_by`, or none: then `thresholds` is None.

    `rows` are its certification rows, `n` of which state an opinion; `alpha` is its own. `tests` hold each
    sub-path up to where its testing ended, and none where there were too few rows to be tested. `spent` is
    what its open tests could spend of delta, `finished` whether all were passed and the share handed on. The
    other fields are those of a certificate.
    """

    value: str
    alpha: float
    rows: tuple[str, ...]
    n: int
    spent: float
    finished: bool
    chosen: int | None
    thresholds: tuple[float | None, ...] | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]
    radius: float | None


@dataclass(frozen=True, slots=True)
class Unseen:
    """What a cascade certified on all other values did on the rows of this one (`rows`, with an opinion).

    `certified` tells whether the others gave a certificate; limits are two-sided, and (0, 1) where nothing
    was accepted.
    """

    value: str
    rows: int
    certified: bool
    accepted: int
    errors: int
    risk: tuple[float, float]
    coverage: tuple[float, float]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Each value of the field `by` left out in turn: evidence on values not seen, never a guarantee.

    `others` counts the rows that were never left out: those of rare values, and those without one.
    """

    by: str
    values: tuple[Unseen, ...]
    others: int


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """The guarantee, or the refusal to make one, with every count needed to recompute it.

    `roles` holds the ids of the items in each role (exemplars, dev, certify, holdout; pilot: unlabelled;
    with the claim "batch" also undrawn: the rest of the batch, of which pilot and certify are parts too).
    `stack` says how tiers are pooled, where any test is `pooled`.
    `radius` is the robustness radius of the chosen policy, from its upper limit at the level of its test.
    `band` limits the risk of some policies at once with probability at least 1 - `delta` (times the share of
    the `attempt`); both are left out unless `method` is "exact". `people` is None where fewer than two people
    labelled. `left_out` is evidence on values of a field that were not seen. `label_policy` says whom
    verdicts agree with, `method` how that was tested: "exact" from counts, else by betting on rows
    ("betting") or on whole clusters ("clusters"), in an order drawn by the seed: then a p-value needs the
    votes and labels themselves. `scoring` is None where no score was fitted. `overall` is the mean over all
    items as the last judge sees them, whatever came of the test; None for the claim "batch". With a `region`,
    the rows in the role `region` are tested too, and only the rows in the role `certify` stand for all items.

    `n` counts the certification rows of the claim, `no_majority` those among them where nobody is ahead or
    everybody skipped. `skipped` rows are among them, or with `task.skips == "outside"` outside the claim;
    `dropped_ties` are outside (in a batch everything is inside), and `contested_ties` are rows of the claim
    that some people call a tie, where ties are dropped.

    With `group_by`, a field of the items, each value has a guarantee of its own in `groups`, or none, and
    `chosen`, `thresholds`, `tests`, `radius` and `band` are there, not here. Then `status` is "certified" if
    any of them is, all of these hold at once with probability at least 1 - `delta`, and items of every other
    value are abstained on. `alpha` is that of values without one of their own, and `coverage_lower` a limit
    on the share released of items of all values.

    `status == "none"` means that nothing was certified: then `thresholds` is None, `reason` says why and
    `advice` what would help. Otherwise, with probability at least 1 - `delta` over the draw of the
    certification rows, at least 1 - `alpha` of the verdicts that the cascade releases agree with people:
    on items from the same population, or, with the claim "batch", on the items of `batch`.

    `status == "expected"`, with the claim "expected", is no certificate: in expectation, over the draw of the
    labelled rows and of a run's items together, at most `alpha` of the verdicts that the run releases
    disagree with people (`stats.conformal`). It has no thresholds, since each run finds its own from the rows
    in `calibration`, and `delta` is 1: nothing is said of any one draw.
    """

    schema: int
    status: Literal["certified", "expected", "none"]
    reason: str
    advice: str
    alpha: float
    delta: float
    claim: Literal["population", "batch", "expected"]
    path: str
    procedure: str
    prefer: str
    estimator: str
    task: Task
    label_policy: Against
    n: int
    no_majority: int
    dropped_ties: int
    chosen: int | None
    thresholds: tuple[float | None, ...] | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]
    judges: tuple[JudgeBinding, ...]
    diagnostics: tuple[JudgeDiagnostics, ...]
    human_agreement: HumanAgreement | None
    roles: Mapping[str, tuple[str, ...]]
    protocol: str
    data_digest: str
    seed: int
    version: str
    created: str
    assumptions: tuple[str, ...]
    stack: Pooling | None = None
    batch: Batch | None = None
    radius: float | None = None
    band: tuple[Checkpoint, ...] = ()
    annotator_agreement: AnnotatorAgreement | None = None
    group_by: str | None = None
    groups: tuple[GroupGuarantee, ...] = ()
    left_out: LeftOut | None = None
    method: Literal["exact", "betting", "clusters"] = "exact"
    interim: InterimAnalysis | None = None
    clusters: Clusters | None = None
    weighting: Weighting | None = None
    overall: Overall | None = None
    attempt: Attempt | None = None
    region: Region | None = None
    skipped: int = 0
    contested_ties: int = 0
    calibration: tuple[CalibrationRow, ...] = ()

    def _facts(self) -> Mapping[str, object]:
        outcome = self.reason if self.status == "none" else self.status
        facts: dict[str, object] = {"certificate": f"none: {outcome}" if self.status == "none" else outcome}
        facts |= {"claim": self.claim, "alpha": f"{self.alpha:g}", "delta": f"{self.delta:g}", "rows": self.n}
        return {**facts, "judges": " → ".join(seal.judge for seal in self.judges)}

    def __repr__(self) -> str:
        return one_line("Certificate", self._facts())

    def _repr_html_(self) -> str:
        return html_table("Certificate", self._facts())
