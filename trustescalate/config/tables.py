"""What is asked, of which data, what is guaranteed, how judges are asked, and what CI wants."""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from trustescalate.config.base import NO_VERDICT, Level, Share, Table
from trustescalate.records import SKIP, TIE, Against, Task, TaskKind

MOST_LABELS = 26
MOST_PROMPTS = 1000
"""Of annotators, of shots and of samples: beyond it lies a slip of the finger, and no memory is enough."""


class TaskTable(Table):
    """[task]: what is asked of a judge."""

    kind: TaskKind = Field(TaskKind.PAIRWISE, description="pairwise | binary | rating | choice")
    question: str = Field("Which response would a human reader prefer?", min_length=1)
    labels: tuple[str, ...] | None = Field(
        None, description="what a judge may answer; for choice required, for the other kinds known"
    )
    scale: tuple[int, int] = Field((1, 5), description="rating: the lowest and the highest grade")
    ties: Literal["class", "half", "drop"] = Field(
        "class", description="pairwise: a tie is a verdict, half right against a preference, or left out"
    )
    skips: Literal["disagree", "outside"] = Field(
        "disagree", description="an item that everybody skips disagrees with any verdict, or is left out"
    )
    tolerance: int = Field(0, ge=0, description="rating: a verdict so far from people's still agrees")
    rubric: str | None = Field(None, min_length=1, description="how to judge, shown to every judge")
    rubric_file: str | None = Field(None, description="a text file that holds the rubric")
    criteria: tuple[str, ...] = Field((), description="what to judge by, shown as a numbered list")

    @model_validator(mode="after")
    def _one_rubric(self) -> Self:
        if self.rubric is not None and self.rubric_file is not None:
            raise ValueError("rubric and rubric_file say the same thing; keep one")
        return self

    @field_validator("criteria")
    @classmethod
    def _criteria_say_something(cls, criteria: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(str.strip, criteria)):
            raise ValueError("a criterion must not be empty")
        return criteria

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        if self.kind is TaskKind.CHOICE and self.labels is None:
            raise ValueError('kind = "choice" needs labels = ["…", "…"]')
        if self.kind in (TaskKind.PAIRWISE, TaskKind.RATING) and self.labels is not None:
            raise ValueError(f'kind = "{self.kind}" has labels of its own; remove labels')
        if self.kind is TaskKind.BINARY and self.labels is not None and len(self.labels) != 2:
            raise ValueError('kind = "binary" has two labels; for more of them set kind = "choice"')
        if self.kind is not TaskKind.RATING and "scale" in self.model_fields_set:
            raise ValueError('scale is for kind = "rating"')
        if self.kind is not TaskKind.PAIRWISE and self.ties != "class":
            raise ValueError(f'ties = "{self.ties}" is for kind = "pairwise"')
        if self.tolerance and self.kind is not TaskKind.RATING:
            raise ValueError('tolerance is for kind = "rating"')
        if self.tolerance >= self.scale[1] - self.scale[0]:
            raise ValueError("tolerance must be smaller than the scale is long: else every verdict agrees")
        return self

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        if not 2 <= len(labels) <= MOST_LABELS or len(set(labels)) != len(labels):
            raise ValueError(f"must be 2 to {MOST_LABELS} different labels")
        if not all(map(str.strip, labels)) or SKIP in labels:
            raise ValueError(f'a label must not be empty, nor "{SKIP}", which is how annotators pass')
        return labels

    @field_validator("scale")
    @classmethod
    def _scale_rises(cls, scale: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= scale[0] < scale[1] < scale[0] + MOST_LABELS:
            raise ValueError(f"must be [lowest, highest], from 0 on, with at most {MOST_LABELS} grades")
        return scale

    def task(self) -> Task:
        """The record that judges and statistics work with."""
        if self.kind is TaskKind.PAIRWISE:
            labels: tuple[str, ...] = ("A", "B") if self.ties == "drop" else ("A", "B", TIE)
        elif self.kind is TaskKind.RATING:
            labels = tuple(str(grade) for grade in range(self.scale[0], self.scale[1] + 1))
        else:
            labels = self.labels or ("pass", "fail")
        return Task(self.kind, self.question, labels, self.ties, self.tolerance, self.skips)


def must_be_meta(field: str) -> str:
    """Refuse what does not name a key of an item's meta."""
    if not re.match(r"meta\..", field):
        raise ValueError('must be "meta.<key>"')
    return field


class DataTable(Table):
    """[data]: files, relative to the configuration."""

    items: str = "items.jsonl"
    annotations: str = "annotations.jsonl"
    cluster: str | None = Field(
        None,
        description='what makes items one cluster: "group", "prompt", "meta.<key>", or "item": nothing does; '
        "default: the field group, and without it the same prompt",
    )
    labels_by: Literal["people"] | None = Field(
        None, description='"people": annotators are people, though their names are those of models'
    )
    strata: Annotated[str | None, NO_VERDICT] = Field(
        None, description='"meta.<key>": kinds of items, by which means over all items are stratified'
    )

    @field_validator("cluster")
    @classmethod
    def _cluster_known(cls, cluster: str | None) -> str | None:
        if cluster is None or cluster in ("group", "item", "prompt") or re.match(r"meta\..", cluster):
            return cluster
        raise ValueError('must be "group", "prompt", "item" or "meta.<key>"')

    @field_validator("strata")
    @classmethod
    def _strata_known(cls, strata: str | None) -> str | None:
        return strata if strata is None else must_be_meta(strata)


class PromptsTable(Table):
    """[prompts]: prompt files in the place of the shipped ones."""

    folder: str | None = Field(None, description="holds direct.txt, reason.txt, … for the modes in use")


class ImportTable(Table):
    """[import]: which column of foreign rows holds what. What is not said is recognised by its name.

    A name with dots reaches into a column: "labels.0.annotator".
    """

    id: str | None = Field(None, description="default: a hash of the texts")
    prompt: str | None = None
    context: str | None = Field(None, description="shown below the prompt")
    responses: tuple[str, ...] | None = None
    reference: str | None = None
    group: str | None = None
    label: str | None = Field(None, description="one opinion a row")
    annotator: str | None = Field(None, description="whose opinion it is")
    annotators: dict[str, str] = Field(default_factory=dict, description="name = column, for several a row")
    judges: dict[str, str] = Field(default_factory=dict, description="name = column with a recorded verdict")
    probabilities: dict[str, str] = Field(
        default_factory=dict,
        description="name = column with a judge's probability of the first of two labels",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="spelling = label")
    meta: tuple[str, ...] | dict[str, str] = Field((), description="columns, or name = column")
    escaped_formulas: bool = Field(
        False, description="a cell that begins with ' was guarded against being a formula"
    )
    empty_is_missing: bool = Field(
        False, description="an empty cell of a judge: it was not asked, and did not fail"
    )
    forward_fill: tuple[str, ...] = Field((), description="columns that only the first row of a group holds")

    @property
    def meta_columns(self) -> dict[str, str]:
        """Names and columns of what is kept beside an item."""
        return self.meta if isinstance(self.meta, dict) else {column: column for column in self.meta}


PathName = Literal["hedged", "common", "pooled", "last_judge", "pareto", "stacked", "tierwise"]
FITTED_PATHS = {"pareto", "stacked"}
"""Paths that are laid out on dev rows."""
NOT_IN_EXPECTATION = (
    *("delta", "label_budget", "path", "procedure", "prefer", "abstention_price", "pilot", "cluster_test"),
    *("largest_cluster", "interim", "interim_shares", "weight", "weight_bound", "weight_source"),
    "release_human_labels",
)
"""Keys that say how a test is made, or which rows it takes: conformal selection has no use for them."""
NOT_FOR_BATCHES = {"stacked", "tierwise"}
"""Paths whose later tiers read what earlier ones said of every item, or that bring a test of their own."""
MOST_INTERIM = 20
WEIGHT = r"^meta\..+"


class GuaranteeTable(Table):
    """[guarantee]: the guarantee to be tested."""

    alpha: Level = Field(0.15, description="released verdicts that may disagree with people, at most")
    delta: Level = Field(0.10, description="probability that the certificate is wrong, at most")
    claim: Literal["population", "batch", "expected"] = Field(
        "population",
        description="about items like these, about the very items of [data], or a mean over runs alone",
    )
    label_budget: int | None = Field(
        None, ge=1, description='claim = "batch": how many items are drawn for people to label'
    )
    path: PathName = Field("hedged", description=f"cascades to test: {' | '.join(get_args(PathName))}")
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"] = "fallback"
    prefer: Literal["coverage", "cost", "total"] = Field(
        "coverage",
        description="which certified cascade to use: the cheapest within 2 % of the most coverage, the "
        "cheapest of all, or that of least cost with a price on an abstention",
    )
    abstention_price: float | None = Field(
        None, gt=0, description='USD that a person costs per item, for prefer = "total"'
    )
    pilot: int = Field(100, ge=0, description="unlabelled items judged by all tiers to lay out the path")
    reference: Against = Field(
        "majority", description="whom verdicts must agree with: most annotators of an item, or one at random"
    )
    cluster_test: Literal["one_per_cluster", "row_weighted", "betting"] = Field(
        "one_per_cluster",
        description="of each cluster test one row, so that clusters count alike; one row, kept the likelier "
        "the larger the cluster is, so that rows count alike; or all rows, by betting on clusters",
    )
    largest_cluster: int | None = Field(
        None,
        ge=1,
        description='cluster_test = "row_weighted" or "betting": the most rows that a cluster can ever have',
    )
    interim: tuple[int, ...] | None = Field(
        None, description="numbers of certification rows at which the test may be made, rising"
    )
    interim_shares: tuple[float, ...] | None = Field(
        None,
        description="what each interim analysis may spend of delta; default: in proportion to 1, 2, 3, …",
    )
    attempts: Literal[1] | None = Field(
        None, description="1 gives all of delta to one test of these labels, and refuses a second"
    )
    weight: str | None = Field(
        None,
        pattern=WEIGHT,
        description='"meta.<key>": how much more common a row is among items to be judged',
    )
    weight_bound: float | None = Field(None, gt=0, description="no weight anywhere is larger")
    weight_source: Literal["known", "estimated"] | None = Field(
        None, description='"estimated" makes the guarantee approximate, and says so'
    )
    release_human_labels: bool = Field(
        False, description='claim = "batch": the rows that people label are released with their labels'
    )

    @model_validator(mode="after")
    def _a_mean_has_no_test(self) -> Self:
        if self.claim != "expected":
            return self
        if self.reference == "annotator":
            raise ValueError('claim = "expected" counts wrong verdicts: set reference = "majority"')
        extra = [key for key in NOT_IN_EXPECTATION if key in self.model_fields_set]
        if "delta" in extra:
            raise ValueError(
                'claim = "expected" limits a mean, and says nothing that holds with probability 1 - delta: '
                "remove delta"
            )
        if extra:
            raise ValueError(f'claim = "expected" selects items and tests no policy: remove {extra[0]}')
        return self

    @model_validator(mode="after")
    def _tierwise_is_a_procedure_of_its_own(self) -> Self:
        if self.path == "tierwise" and {"procedure", "prefer"} & self.model_fields_set:
            raise ValueError('path = "tierwise" brings its own procedure and choice; remove both keys')
        return self

    @model_validator(mode="after")
    def _a_batch_is_drawn_from(self) -> Self:
        if (self.claim == "batch") != (self.label_budget is not None):
            raise ValueError(
                'claim = "batch" and label_budget go together: label_budget = 200 draws 200 items to label'
            )
        if self.claim == "batch" and self.path in NOT_FOR_BATCHES:
            raise ValueError(f'path = "{self.path}" has no test for claim = "batch"; set path = "common"')
        return self

    @field_validator("interim")
    @classmethod
    def _interim_rises(cls, interim: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if interim is None:
            return None
        if not 1 <= len(interim) <= MOST_INTERIM or min(interim) < 1 or list(interim) != sorted(set(interim)):
            raise ValueError(f"must be 1 to {MOST_INTERIM} numbers of rows, rising")
        return interim

    @model_validator(mode="after")
    def _interim_has_shares(self) -> Self:
        if self.interim_shares is not None:
            if self.interim is None or len(self.interim_shares) != len(self.interim):
                raise ValueError("interim_shares holds one share of delta for each of interim")
            if min(self.interim_shares) <= 0 or sum(self.interim_shares) > 1 + 1e-12:
                raise ValueError("interim_shares must be above 0, and sum to at most 1")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """What each interim analysis may spend, of delta."""
        count = len(self.interim or ())
        return self.interim_shares or tuple((place + 1) / (count * (count + 1) / 2) for place in range(count))

    @model_validator(mode="after")
    def _weights_are_bounded(self) -> Self:
        if len({self.weight is None, self.weight_bound is None, self.weight_source is None}) > 1:
            raise ValueError(
                'weight, weight_bound and weight_source go together: source "known" or "estimated"'
            )
        return self

    @model_validator(mode="after")
    def _groups_are_bounded(self) -> Self:
        if (self.cluster_test != "one_per_cluster") != (self.largest_cluster is not None):
            raise ValueError(
                'largest_cluster goes with cluster_test = "row_weighted" or "betting": these two need the bound'
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_test(self) -> Self:
        """Whatever no test exists for is refused here, with the reason."""
        batch, bet = self.claim == "batch", self.cluster_test == "betting"
        for wrong, why in (
            (
                self.release_human_labels and not batch,
                'release_human_labels is for claim = "batch", where rows are drawn',
            ),
            (
                batch and self.reference == "annotator",
                'claim = "batch" counts rows: set reference = "majority"',
            ),
            (
                batch and self.cluster_test != "one_per_cluster",
                'claim = "batch" assumes nothing about clustered rows: remove cluster_test',
            ),
            (batch and self.interim, 'claim = "batch" is one draw, labelled at once: remove interim'),
            (batch and self.weight, 'claim = "batch" is about its own items: remove weight'),
            (
                bet and self.reference == "annotator",
                'cluster_test = "betting" counts errors: set reference = "majority"',
            ),
            (
                self.attempts is not None and self.interim is not None,
                "interim analyses are several tests, and attempts = 1 allows one: remove one of them",
            ),
            (
                bet and self.interim,
                'interim analyses count rows, and cluster_test = "betting" tests clusters: remove one of them',
            ),
            (
                bet and self.path == "tierwise",
                'path = "tierwise" counts rows: set cluster_test = "one_per_cluster"',
            ),
            (
                self.reference == "annotator" and self.path == "tierwise",
                'path = "tierwise" counts errors: set reference = "majority", or another path',
            ),
        ):
            if wrong:
                raise ValueError(why)
        return self

    @model_validator(mode="after")
    def _total_has_a_price(self) -> Self:
        if (self.prefer == "total") != (self.abstention_price is not None):
            raise ValueError('prefer = "total" and abstention_price go together')
        return self


MetaField = Annotated[str, Field(pattern=r"^meta\..")]


class GroupsTable(Table):
    """[groups]: a guarantee for each value of a field of the items, and evidence on values not seen."""

    by: MetaField | None = Field(None, description='"meta.<key>": each of its values has its own guarantee')
    alpha: dict[str, Level] = Field(
        default_factory=dict, description="alpha by value; for all others that of [guarantee]"
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="shares of delta by value, relative to 1 for all others"
    )
    target_coverage: float = Field(
        1.0, gt=0, le=1, description="coverage at which a value needs no more, and hands its share on"
    )
    min_rows: int = Field(
        30, ge=1, description="values with fewer certification rows hold no share, and abstain"
    )
    evidence: MetaField | None = Field(
        None, description='"meta.<key>": how the cascade fares on values it was not certified on; default: by'
    )

    @model_validator(mode="after")
    def _only_with_groups(self) -> Self:
        extra = sorted(self.model_fields_set & {"alpha", "weights", "target_coverage", "min_rows"})
        if self.by is None and extra:
            raise ValueError(
                f'{extra[0]} is about a guarantee for each value: name the field, by = "meta.<key>"'
            )
        return self


class RolesTable(Table):
    """[roles]: how labelled rows are divided; each group is in exactly one role."""

    seed: int = 0
    exemplars: int | None = Field(None, ge=0, description="rows for the few-shot prompts; default: as needed")
    dev: Share = 0.0
    holdout: Share = 0.0
    file: str | None = Field(
        None, description="roles that `trustescalate check --write-roles` wrote: they stay as they are"
    )

    @model_validator(mode="after")
    def _room_to_certify(self) -> Self:
        if self.dev + self.holdout >= 1:
            raise ValueError("dev + holdout must leave rows to certify with")
        return self


EstimatorName = Literal["ensemble", "sampled", "verbalized"]


class EnsembleTable(Table):
    """[ensemble]: how each judge is asked, and how its votes become a score."""

    annotators: int = Field(5, ge=1, le=MOST_PROMPTS, description="N few-shot prompts")
    shots: int = Field(5, ge=0, le=MOST_PROMPTS, description="K examples in each; 0 is zero-shot")
    swap: bool = Field(True, description="pairwise: ask in both orders")
    estimator: EstimatorName = Field(
        "ensemble", description=f"votes to a score: {' | '.join(get_args(EstimatorName))}"
    )
    samples: int = Field(
        3, ge=1, le=MOST_PROMPTS, description="draws a vote where an endpoint has no log-probabilities"
    )

    @model_validator(mode="after")
    def _asks_what_it_reads(self) -> Self:
        if self.shots == 0 and self.annotators > 1 and "annotators" in self.model_fields_set:
            raise ValueError("shots = 0 makes all prompts the same; set annotators = 1")
        return self

    @property
    def members(self) -> int:
        """How many different prompts are asked."""
        return 1 if self.shots == 0 else self.annotators


class BudgetTable(Table):
    """[budget]: what one invocation may spend. A run that stops here can be resumed."""

    usd: float | None = Field(None, gt=0)
    calls: int | None = Field(None, gt=0)


class GateTable(Table):
    """[gate]: what CI asks for."""

    min_agreement: Share | None = None
    min_coverage: Share | None = None
    max_failures: Share = Field(0.05, description="failed votes, as a share of all, above which: undecided")


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Models = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]}),
]


class LeaderboardTable(Table):
    """[leaderboard]: which models the items hold, to be ranked by a run. Nothing else depends on it."""

    models: Models = Field(
        (), description='"meta.<key>" of the model; pairwise: ["meta.<key of A>", "meta.<key of B>"]'
    )
    item: str | None = Field(
        None,
        description='"meta.<key>": what several models answered: such rows are clustered; default: the group',
    )
    method: Literal["mean", "bradley_terry"] = Field(
        "mean", description="mean: win rate, pass rate or rating; bradley_terry: strengths, pairwise only"
    )

    @field_validator("models")
    @classmethod
    def _models_known(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(models)) < len(models):
            raise ValueError("both name the same key")
        return tuple(map(must_be_meta, models))

    @field_validator("item")
    @classmethod
    def _item_known(cls, item: str | None) -> str | None:
        return item if item is None else must_be_meta(item)

    @model_validator(mode="after")
    def _has_models(self) -> Self:
        if self.model_fields_set and not self.models:
            raise ValueError('models = "meta.<key>" says which model answered an item')
        return self
