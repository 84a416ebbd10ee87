"""The records that pass between modules: frozen dataclasses, standard library only.

This file holds no I/O and no statistics. Reading and writing records as JSON is `trustescalate.jsonl`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal

Label = str
Json = Any
STRICT: Mapping[str, Json] = {"extra": "forbid", "allow_inf_nan": False, "coerce_numbers_to_str": True}
"""Read by pydantic at the door: an unknown key or a NaN is an error, and an id or label may be a number."""

# ── the task ─────────────────────────────────────────────────────────────────────────────────────


class TaskKind(StrEnum):
    """What is asked of a judge: compare two responses, or label one."""

    PAIRWISE = "pairwise"
    BINARY = "binary"
    RATING = "rating"
    CHOICE = "choice"


TIE: Label = "tie"
SKIP: Label = "skip"
"""An annotator's way to say "no opinion". It is kept, shown, and never counted as agreement."""


@dataclass(frozen=True, slots=True)
class Task:
    """The question, and every label that is a possible answer to it.

    `labels` is what a judge may answer, in the task's own order; with `ties == "drop"` a pairwise task
    offers no tie, and rows whose human label is a tie are outside the claim, at calibration and after.
    """

    kind: TaskKind
    question: str
    labels: tuple[Label, ...]
    ties: Literal["class", "drop"] = "class"

    @property
    def responses(self) -> int:
        """How many responses an item of this task has."""
        return 2 if self.kind is TaskKind.PAIRWISE else 1

    @property
    def annotation_labels(self) -> tuple[Label, ...]:
        """What a person may answer: a judge's labels, a skip, and a tie even where ties are dropped."""
        extra = [TIE] if self.kind is TaskKind.PAIRWISE and TIE not in self.labels else []
        return (*self.labels, *extra, SKIP)


# ── the data ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to judge, without labels. `group` names rows that hang together (same prompt, document)."""

    id: str
    prompt: str | tuple[Turn, ...]
    responses: tuple[str, ...]
    reference: str | None = None
    group: str | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Annotation:
    """One person's opinion on one item. Ties and skips are labels."""

    item_id: str
    annotator: str
    label: Label
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


# ── what a backend is asked, and what it answers ─────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model. Equal requests have equal answers, so a request is a cache key.

    `symbols` are the strings that the prompt tells the model to answer with, one per label of the task, in
    task order. `logprobs` asks for log-probabilities; without it the answer is one draw, `sample` its number.
    """

    messages: tuple[Message, ...]
    symbols: tuple[str, ...]
    max_tokens: int
    temperature: float
    logprobs: bool
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token: its text, and the alternatives at its place as (text, natural log-probability)."""

    text: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What was asked of a model, in counts. `input_tokens` includes `cached_tokens`."""

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer. `tokens` is None when the endpoint gave no log-probabilities.

    `failure` is a code of `FAILURES` when there is no usable answer at all (timeout, refused, …); whether
    the text holds a verdict is decided later, by `judges.reading.read_verdict`.
    """

    text: str
    tokens: tuple[Token, ...] | None
    finish: Literal["stop", "length"]
    usage: Usage
    failure: str | None = None


# ── what a judge says ────────────────────────────────────────────────────────────────────────────

FAILURES: Mapping[str, str] = {
    "none": "the reply holds no verdict",
    "multiple": "the reply holds two different verdicts",
    "truncated": "the reply was cut off before its verdict",
    "refused": "the model or a content filter refused",
    "low_mass": "the labels hold too little of the probability at the verdict's place",
    "no_logprobs": "the certificate was made with log-probabilities, and the reply has none",
    "timeout": "no answer in time, after all attempts",
    "unreachable": "the connection failed, after all attempts",
    "server_error": "the server kept answering with an error",
    "rate_limited": "the server kept refusing for its rate limit",
    "bad_reply": "the server's answer is not a chat completion (HTML, broken JSON)",
    "bad_request": "the server rejects this request (too long, forbidden content)",
    "not_recorded": "the recorded votes hold nothing for this item",
}
"""Every way a vote can fail. A failed vote stays in every denominator and gives no label any weight."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One reading of one item: by the few-shot prompt `exemplar_set`, in presentation order `order`.

    `probs` is in the item's own frame (order already undone), over the task's labels, as seen: it sums to
    the mass that the labels hold, at most 1. It is empty exactly when `failure` names a code of `FAILURES`.
    `channel` says where it comes from: token log-probabilities, or samples.
    """

    exemplar_set: int
    order: Literal["AB", "BA", "AB+BA", ""]
    probs: Mapping[Label, float]
    raw: str = ""
    failure: str | None = None
    channel: Literal["logprobs", "samples"] = "logprobs"
    usage: Usage = Usage()
    cost: float = 0.0
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Judgment:
    """A judge's votes on one item, raw: no confidence is stored, so any estimator can be re-run for free.

    `planned` is the size of the full ensemble; fewer votes mean that the rest could not change the decision.
    """

    item_id: str
    judge: str
    fingerprint: str
    votes: tuple[Vote, ...]
    planned: int
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    @property
    def usage(self) -> Usage:
        """Counts summed over the votes."""
        return sum((vote.usage for vote in self.votes), Usage())

    @property
    def cost(self) -> float:
        """USD summed over the votes."""
        return sum(vote.cost for vote in self.votes)


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


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


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Step:
    """What one tier did with one item.

    `score` and `score_upper` bound the full ensemble's score; they are equal when all votes were asked.
    """

    judge: str
    label: Label | None
    score: float
    score_upper: float
    threshold: float | None
    accepted: bool
    votes: int
    planned: int
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the cascade did with one item. `label` is None when a person is needed; `reason` says why."""

    item_id: str
    label: Label | None
    judge: str | None
    score: float | None
    reason: str
    trail: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class RunHeader:
    """run.json: what was run, with what. `config` never holds a key, only the names of their variables."""

    schema: int
    id: str
    status: Literal["running", "complete", "budget", "stopped"]
    created: str
    command: str
    config: Mapping[str, Json]
    certificate: Certificate
    items_digest: str
    items: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overall:
    """The mean label over all items, abstained ones too: a win rate, a pass rate or a mean rating.

    `estimate` and its 95 % `interval` use predictions for all items and the certification rows' labels;
    `label_only` uses labels alone, and is to be read where `usable` is False. `reason` says why that is so,
    or why there is no estimate at all. `verdicts` are limits from released verdicts alone. `grouped`: each
    group of items counts once.
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


@dataclass(frozen=True, slots=True)
class TierShift:
    """The scores of the rows that reach a tier: `before` certification rows against `after` items of the run.

    `gap` is the largest one between the two distribution functions. `raised` after Holm's correction.
    """

    judge: str
    before: int
    after: int
    gap: float
    p_value: float
    raised: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A run as read back from its folder. Rows are in the order of `items`, one a decided item.

    `annotations` are those on judged items, if people labelled any: they measure, they certify nothing.
    `overall` and `shift` are derived from the rows and from the certificate's votes, never stored.
    """

    header: RunHeader
    items: tuple[Item, ...]
    judgments: tuple[Judgment, ...]
    decisions: tuple[Decision, ...]
    annotations: tuple[Annotation, ...] = ()
    overall: Overall | None = None
    shift: tuple[TierShift, ...] = ()
