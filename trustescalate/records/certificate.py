"""Define the certificate, every count that it rests on, and its secondary statistics."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from trustescalate.records.diagnostics import AnnotatorAgreement, HumanAgreement, JudgeDiagnostics
from trustescalate.records.display import html_table, one_line
from trustescalate.records.jsonl import digest, encode, to_python
from trustescalate.records.judging import Channel
from trustescalate.records.overall import Overall
from trustescalate.records.task import Against, Label, Task


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One policy of the path and its test: `errors` of `accepted` certification rows, against `level`.

    With the claim "batch", `accepted` and `by_tier` count the whole batch, and `errors` the `drawn` rows
    among the accepted.
    """

    thresholds: tuple[float | None, ...]  # one per tier; None: the tier never accepts
    accepted: int
    errors: int  # with fractional losses: accepted rows with any loss
    by_tier: tuple[int, ...]  # splits `accepted`
    cost: float
    p_value: float
    level: float
    rejected: bool
    part: int = 0  # sub-path that the policy belongs to
    pooled: bool = False  # thresholds apply to scores pooled over all tiers so far (`Certificate.stack`)
    drawn: int | None = None  # claim "batch" only
    loss: float | None = None  # sum of fractional losses; None where every loss is 0 or 1
    seen: int | None = None  # with a region: rows accepted among the `Region.judged` ones, as for `cost`


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An upper limit on the true risk of the policy `tests[test]`, simultaneous with all others."""

    test: int
    upper: float


@dataclass(frozen=True, slots=True)
class Pooling:
    """Pooling of tiers (`stats.pooling.Stack`): weights (m, m, 2), and the clip of the log-odds."""

    weights: tuple[tuple[tuple[float, float], ...], ...]
    clip: float


@dataclass(frozen=True, slots=True)
class JudgeBinding:
    """The judge that a certificate is bound to: a run with any other one rejects the certificate.

    `inputs` are what the fingerprint was made of, texts as short digests, to name what differs. `served`
    names the models that answered at calibration (`Judgment.served`), "" among them for answers that name
    none; empty where no answer names one.
    """

    judge: str
    fingerprint: str
    channel: Channel
    inputs: Mapping[str, str] = field(default_factory=dict)
    served: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """The items of the claim "batch": their number, a digest of them, and one of the votes on them.

    With `release_human_labels` the drawn rows are released with their human labels, whose digest is `labels`.
    """

    items: int
    digest: str
    votes: str
    release_human_labels: bool = False
    labels: str = ""


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """The verdict and score of each judge on one labelled row, and the verdicts that agree with the human
    labels: none where these have no majority."""

    item_id: str
    verdicts: tuple[Label | None, ...]
    scores: tuple[float, ...]
    agreeing: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class InterimAnalysis:
    """One planned interim analysis: its `number` from 1 on, and the rows and share of delta of each."""

    number: int
    sizes: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def share(self) -> float:
        """The share of delta that this analysis spends."""
        return self.shares[self.number - 1]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The number of a certificate's test of its labels, and the share of delta that it spends.

    `number` is 1 where none of the certification labels was tested before, else one more than the largest
    number of a test that shares a label with it. The shares of all tests of a label sum to at most 1.
    `ledger` is the digest of the test's line in ledger.jsonl, and so of every line before it.
    """

    number: int
    share: float
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of the certification rows, and the rows of each that were tested.

    `test` is "one_per_cluster": one row, each cluster weighs the same; "row_weighted": one row, `kept` with
    probability rows / `largest`, each row weighs the same; or "betting": all rows.
    """

    count: int
    largest: int | None  # upper bound on the rows of any cluster, where the test needs it
    test: Literal["one_per_cluster", "row_weighted", "betting"] = "betting"
    by: str = "group"  # field or rule that makes rows one cluster
    rows: int = 0  # labelled rows in all clusters
    sizes: tuple[int, int, int] = (1, 1, 1)  # the smallest, the median and the largest cluster
    kept: int = 0  # not counted where a cluster has a row for each of several criteria


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
    """The rows drawn from the region where some tested policy accepts."""

    most: float  # the largest expected coverage of a tested policy
    uniform: int  # certification rows drawn from all items
    rows: int  # certification rows drawn from the region
    judged: int  # unlabelled items drawn from all, to estimate the size of the region
    inside: int  # of these, the items in the region


@dataclass(frozen=True, slots=True)
class GroupGuarantee:
    """The guarantee for the items of one value of `Certificate.group_by`, or none: then `thresholds` is None.

    Fields without a comment are those of a certificate.
    """

    value: str
    alpha: float
    rows: tuple[str, ...]  # ids of its certification rows
    n: int  # of these, the rows with a stated label
    spent: float  # the share of delta that its open tests could spend
    finished: bool  # all tests were passed, and the share was handed on
    chosen: int | None
    thresholds: tuple[float | None, ...] | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]  # each sub-path up to where its testing ended; empty with too few rows
    radius: float | None


@dataclass(frozen=True, slots=True)
class Unseen:
    """Results of a cascade certified on all other values on the labelled `rows` of this one.

    `certified` is whether the other values gave a certificate; limits are two-sided, and (0, 1) where nothing
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
    """Each value of the field `by` left out in turn: evidence on unseen values, never a guarantee.

    `others` counts the rows that were never left out: those of rare values, and those without a value.
    """

    by: str
    values: tuple[Unseen, ...]
    others: int


@dataclass(frozen=True, kw_only=True, repr=False)
class CertificateClaim:
    """What is claimed of which items, and on which assumptions."""

    schema: int
    status: Literal["certified", "expected", "none"]
    reason: str  # why nothing was certified
    advice: str  # what would help
    claim: Literal["population", "batch", "expected"]
    alpha: float
    delta: float
    task: Task
    label_policy: Against  # human label that verdicts must agree with
    assumptions: tuple[str, ...]
    batch: Batch | None = None
    group_by: str | None = None  # field whose values have a guarantee each
    clusters: Clusters | None = None
    weighting: Weighting | None = None
    region: Region | None = None
    attempt: Attempt | None = None  # which test of these labels this is


@dataclass(frozen=True, kw_only=True, repr=False)
class CertificateTests:
    """How policies were tested, on how many rows, and which one passed and is used."""

    path: str
    procedure: str
    prefer: str
    abstention_price: float | None = None  # USD, with `prefer == "total"`
    n: int  # certification rows of the claim
    no_majority: int  # of these, rows without a majority label, or skipped by everybody
    dropped_ties: int  # rows outside the claim as ties; with the claim "batch" every row is inside
    skipped: int = 0  # by everybody: among `n`, or outside the claim with `task.skips == "outside"`
    contested_ties: int = 0  # rows of the claim that some annotators call a tie, where ties are dropped
    method: Literal["exact", "betting", "clusters"] = "exact"
    """Test of each policy: "exact" from counts, else by betting on rows ("betting") or on whole clusters
    ("clusters") in an order drawn by the seed: then a p-value needs the votes and labels themselves."""
    tests: tuple[PolicyTest, ...]
    chosen: int | None  # index in `tests` of the policy used
    thresholds: tuple[float | None, ...] | None
    coverage_lower: float | None
    stack: Pooling | None = None  # how tiers are pooled, where any test is `pooled`
    groups: tuple[GroupGuarantee, ...] = ()
    interim: InterimAnalysis | None = None
    calibration: tuple[CalibrationRow, ...] = ()
    """With the claim "expected": the rows from which a run finds its thresholds."""


@dataclass(frozen=True, kw_only=True, repr=False)
class CertificateJudges:
    """The judges that the certificate is bound to, and how their votes become a score."""

    judges: tuple[JudgeBinding, ...]
    estimator: str


@dataclass(frozen=True, kw_only=True, repr=False)
class CertificateProvenance:
    """What the certificate was made from, with which protocol, when and by which version."""

    roles: Mapping[str, tuple[str, ...]]
    """Item ids by role: exemplars, dev, certify, holdout; pilot (unlabelled); with the claim "batch" also the
    rest of the batch, of which pilot and certify are parts too; region."""
    protocol: str  # digest of everything that was decided before a label was read
    data_digest: str
    seed: int
    version: str
    created: str


@dataclass(frozen=True, kw_only=True, repr=False)
class CertificateSecondary:
    """Statistics that no guarantee rests on."""

    diagnostics: tuple[JudgeDiagnostics, ...]
    human_agreement: HumanAgreement | None
    annotator_agreement: AnnotatorAgreement | None = None  # None with fewer than two annotators
    overall: Overall | None = None
    """Mean over all items as the last judge sees them, whatever the result of the test; None for the claim
    "batch"."""
    left_out: LeftOut | None = None  # evidence on unseen values of a field
    radius: float | None = None
    """Robustness radius of the chosen policy from its upper limit at the level of its test."""
    band: tuple[Checkpoint, ...] = ()
    """Simultaneous limits on the risk of some policies, with probability at least 1 - `delta` (times the
    share of the `attempt`); "exact" only."""


# Fields come in the order of the bases from the last to the first: so the file begins with the claim.
@dataclass(frozen=True, kw_only=True, repr=False)
class Certificate(
    CertificateSecondary, CertificateProvenance, CertificateJudges, CertificateTests, CertificateClaim
):
    """The guarantee, or the reason for "no certificate", with every count needed to recompute it.

    `status == "certified"`: with probability at least 1 - `delta` over the draw of the certification rows, at
    least 1 - `alpha` of the verdicts that the cascade releases agree with the human labels: on items from the
    same population, or, with the claim "batch", on the items of `batch`.

    `status == "none"`: nothing was certified. Then `thresholds` is None.

    `status == "expected"`, with the claim "expected", is no certificate: in expectation, over the draw of the
    labelled rows and of a run's items together, at most `alpha` of the verdicts that the run releases
    disagree with the human labels (`stats.conformal`). It has no thresholds, since each run finds its own
    from the rows in `calibration`, and `delta` is 1: nothing is said of any one draw.

    With `group_by`, each value of a field of the items has a guarantee of its own in `groups`, or none, and
    `chosen`, `thresholds`, `tests`, `radius` and `band` are there, not here. Then `status` is "certified" if
    any of them is, all of these hold at once with probability at least 1 - `delta`, and items of every other
    value are abstained on. `alpha` is that of values without one of their own, and `coverage_lower` a limit
    on the share released of items of all values.

    With a `region`, the rows in the role `region` are tested too, and only the rows in the role `certify`
    stand for all items.
    """

    @cached_property
    def id(self) -> str:
        """The first 16 digits of a digest of the content, which identify the certificate."""
        return digest(to_python(self))[:16]

    @property
    def digest(self) -> str:
        """The SHA-256 of certificate.json as `calibrate` writes it, what `sha256sum` prints."""
        try:
            return hashlib.sha256(encode(self) + b"\n").hexdigest()
        except ValueError:  # half of a surrogate pair, which fits into no file
            return digest(self)

    def _facts(self) -> Mapping[str, object]:
        return {
            "certificate": f"none: {self.reason}" if self.status == "none" else self.status,
            "claim": self.claim,
            "alpha": f"{self.alpha:g}",
            "delta": f"{self.delta:g}",
            "rows": self.n,
            "judges": " → ".join(binding.judge for binding in self.judges),
        }

    def __repr__(self) -> str:
        return one_line("Certificate", self._facts())

    def _repr_html_(self) -> str:
        return html_table("Certificate", self._facts())
