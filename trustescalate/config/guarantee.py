"""Define [guarantee] and [groups]: the guarantee to test, and one for each value of a field."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from trustescalate.config.base import NO_VERDICT, Level, Table
from trustescalate.records import Against

PathName = Literal["hedged", "common", "pooled", "last_judge", "pareto", "stacked", "tierwise"]
FITTED_PATHS = {"pareto", "stacked"}
"""Paths that are fitted on dev rows."""
NOT_IN_EXPECTATION = (
    *("delta", "label_budget", "path", "procedure", "prefer", "abstention_price", "pilot", "cluster_test"),
    *("largest_cluster", "interim", "interim_shares", "weight", "weight_bound", "weight_source"),
    "release_human_labels",
)
"""Keys of the tests and of their rows, which conformal selection does not have."""
NOT_FOR_BATCHES = {"stacked", "tierwise"}
"""Paths whose later tiers read what earlier ones said of every item, or that bring a test of their own."""
MOST_INTERIM = 20
MetaField = Annotated[str, Field(pattern=r"^meta\..")]


class GuaranteeTable(Table):
    """[guarantee]: the guarantee to be tested."""

    alpha: Level = Field(
        0.15, description="risk level: the largest share of released verdicts that may disagree with humans"
    )
    delta: Level = Field(0.10, description="failure probability: at most how likely the certificate is wrong")
    claim: Literal["population", "batch", "expected"] = Field(
        "population",
        description="population: items like these; batch: exactly the items of [data] (finite-batch "
        "guarantee); expected: a bound on the expected risk, without a certificate",
    )
    label_budget: int | None = Field(
        None, ge=1, description='claim = "batch": how many items are drawn for human labels'
    )
    path: PathName = Field(
        "hedged", description=f"family of policies to test: {' | '.join(get_args(PathName))}"
    )
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"] = Field(
        "fallback", description="multiple-testing procedure that controls the family-wise error at delta"
    )
    prefer: Literal["coverage", "cost", "total"] = Field(
        "coverage",
        description="which certified policy to use: coverage: the cheapest within 2 % of the largest "
        "coverage; cost: the cheapest; total: the one of least cost including abstention_price",
    )
    abstention_price: float | None = Field(
        None, gt=0, description='prefer = "total": USD that human review costs per abstained item'
    )
    pilot: int = Field(100, ge=0, description="unlabelled items that all tiers judge to lay out the path")
    reference: Against = Field(
        "majority",
        description="human label that a verdict must agree with: that of the majority of an item's "
        "annotators, or of one annotator drawn at random",
    )
    cluster_test: Literal["one_per_cluster", "row_weighted", "betting"] = Field(
        "one_per_cluster",
        description="clustered rows: one_per_cluster: one row of each, so clusters weigh the same; "
        "row_weighted: one row, kept in proportion to the cluster's size, so rows weigh the same; "
        "betting: all rows, by betting on clusters",
    )
    largest_cluster: int | None = Field(
        None,
        ge=1,
        description='cluster_test = "row_weighted" or "betting": an upper bound on the rows of any cluster',
    )
    interim: tuple[int, ...] | None = Field(
        None,
        description="interim analyses of a group-sequential test: rising numbers of certification rows",
    )
    interim_shares: tuple[float, ...] | None = Field(
        None,
        description="share of delta that each interim analysis spends; default: in proportion to 1, 2, 3, …",
    )
    attempts: Literal[1] | None = Field(
        None, description="1 spends all of delta on one test of these labels, and rejects a second test"
    )
    weight: MetaField | None = Field(
        None,
        description='"meta.<key>": importance weight of a row: how much more common it is among the items to '
        "be judged",
    )
    weight_bound: float | None = Field(None, gt=0, description="an upper bound on every weight")
    weight_source: Literal["known", "estimated"] | None = Field(
        None, description='"estimated" makes the guarantee approximate, as the certificate then states'
    )
    pin_served_model: Annotated[bool, NO_VERDICT] = Field(
        False,
        description="true: a reply of another served model, or system fingerprint, than at calibration stops "
        "the run",
    )
    release_human_labels: bool = Field(
        False, description='claim = "batch": release the labelled rows with their human labels'
    )

    @field_validator("interim")
    @classmethod
    def _check_interim(cls, interim: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if interim is None:
            return None
        if not 1 <= len(interim) <= MOST_INTERIM or min(interim) < 1 or list(interim) != sorted(set(interim)):
            raise ValueError(f"must be 1 to {MOST_INTERIM} numbers of rows, rising")
        return interim

    @model_validator(mode="after")
    def _check_expectation(self) -> Self:
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
    def _check_pairs(self) -> Self:
        """Keys that are given together or not at all."""
        if self.path == "tierwise" and {"procedure", "prefer"} & self.model_fields_set:
            raise ValueError('path = "tierwise" brings its own procedure and choice; remove both keys')
        if (self.claim == "batch") != (self.label_budget is not None):
            raise ValueError(
                'claim = "batch" and label_budget go together: label_budget = 200 draws 200 items to label'
            )
        if self.claim == "batch" and self.path in NOT_FOR_BATCHES:
            raise ValueError(f'path = "{self.path}" has no test for claim = "batch"; set path = "common"')
        if self.interim_shares is not None:
            if self.interim is None or len(self.interim_shares) != len(self.interim):
                raise ValueError("interim_shares holds one share of delta for each of interim")
            if min(self.interim_shares) <= 0 or sum(self.interim_shares) > 1 + 1e-12:
                raise ValueError("interim_shares must be above 0, and sum to at most 1")
        if len({self.weight is None, self.weight_bound is None, self.weight_source is None}) > 1:
            raise ValueError(
                'weight, weight_bound and weight_source go together: source "known" or "estimated"'
            )
        if (self.cluster_test != "one_per_cluster") != (self.largest_cluster is not None):
            raise ValueError(
                'largest_cluster goes with cluster_test = "row_weighted" or "betting": these two '
                "need the bound"
            )
        return self

    @model_validator(mode="after")
    def _check_test(self) -> Self:
        """Reject combinations that no test exists for, with the reason."""
        batch, bet, tierwise = self.claim == "batch", self.cluster_test == "betting", self.path == "tierwise"
        annotator = self.reference == "annotator"
        reasons = {
            'release_human_labels is for claim = "batch", where rows are drawn': (
                self.release_human_labels and not batch
            ),
            'claim = "batch" counts rows: set reference = "majority"': batch and annotator,
            'claim = "batch" assumes nothing about clustered rows: remove cluster_test': (
                batch and self.cluster_test != "one_per_cluster"
            ),
            'claim = "batch" is one draw, labelled at once: remove interim': batch and self.interim,
            'claim = "batch" is about its own items: remove weight': batch and self.weight,
            'cluster_test = "betting" counts errors: set reference = "majority"': bet and annotator,
            "interim analyses are several tests, and attempts = 1 allows one: remove one of them": (
                self.attempts is not None and self.interim is not None
            ),
            'interim analyses count rows, and cluster_test = "betting" tests clusters: remove one of them': (
                bet and self.interim
            ),
            'path = "tierwise" counts rows: set cluster_test = "one_per_cluster"': bet and tierwise,
            'path = "tierwise" counts errors: set reference = "majority", or another path': (
                annotator and tierwise
            ),
            'prefer = "total" and abstention_price go together': (
                (self.prefer == "total") != (self.abstention_price is not None)
            ),
        }
        if reason := next((reason for reason, applies in reasons.items() if applies), None):
            raise ValueError(reason)
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of delta that each interim analysis spends."""
        count = len(self.interim or ())
        return self.interim_shares or tuple((place + 1) / (count * (count + 1) / 2) for place in range(count))


class GroupsTable(Table):
    """[groups]: a guarantee for each value of a field of the items, and evidence on values not seen."""

    by: MetaField | None = Field(
        None, description='"meta.<key>": field whose values each have a guarantee of their own'
    )
    alpha: dict[str, Level] = Field(
        default_factory=dict, description="risk level by value; default: alpha of [guarantee]"
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="share of delta by value, relative to 1 for every other value"
    )
    target_coverage: float = Field(
        1.0, gt=0, le=1, description="coverage from which on a value hands its share of delta on"
    )
    min_rows: int = Field(
        30, ge=1, description="values with fewer certification rows hold no share of delta, and abstain"
    )
    evidence: MetaField | None = Field(
        None,
        description='"meta.<key>": field whose values are left out in turn, to estimate risk and coverage on '
        "unseen values; default: by",
    )

    @model_validator(mode="after")
    def _check_by(self) -> Self:
        extra = sorted(self.model_fields_set & {"alpha", "weights", "target_coverage", "min_rows"})
        if self.by is None and extra:
            raise ValueError(
                f'{extra[0]} is about a guarantee for each value: name the field, by = "meta.<key>"'
            )
        return self
