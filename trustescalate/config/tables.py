"""What is asked, of which data, what is promised, how judges are asked, and what CI wants."""

import re
from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from trustescalate.config.base import Level, Share, Table
from trustescalate.types import SKIP, TIE, Task, TaskKind

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
    ties: Literal["class", "drop"] = Field("class", description="pairwise: a tie is a verdict, or left out")

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
            raise ValueError('ties = "drop" is for kind = "pairwise"')
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
        return Task(self.kind, self.question, labels, self.ties)


class DataTable(Table):
    """[data]: files, relative to the configuration."""

    items: str = "items.jsonl"
    annotations: str = "annotations.jsonl"
    group: str | None = Field(
        None, description='what hangs together: "group", "prompt" or "meta.<key>"; default: the field group'
    )

    @field_validator("group")
    @classmethod
    def _group_known(cls, group: str | None) -> str | None:
        if group is None or group in ("group", "prompt") or re.match(r"meta\..", group):
            return group
        raise ValueError('must be "group", "prompt" or "meta.<key>"')


PathName = Literal["hedged", "common", "calibrated", "pareto", "stacked", "tierwise"]
FITTED_PATHS = {"calibrated", "pareto", "stacked"}
"""Paths that are laid out on dev rows."""
NOT_FOR_BATCHES = {"stacked", "tierwise"}
"""Paths whose later tiers read what earlier ones said of every item, or that bring a test of their own."""


class GuaranteeTable(Table):
    """[guarantee]: the promise to be tested."""

    alpha: Level = Field(0.15, description="released verdicts that may disagree with people, at most")
    delta: Level = Field(0.10, description="probability that the certificate is wrong, at most")
    claim: Literal["population", "batch"] = Field(
        "population", description="about items like these, or about the very items of [data]"
    )
    label: int | None = Field(
        None, ge=1, description='claim = "batch": how many items are drawn for people to label'
    )
    path: PathName = Field("hedged", description=f"cascades to test: {' | '.join(get_args(PathName))}")
    procedure: Literal["fallback", "fixed_sequence", "bonferroni"] = "fallback"
    prefer: Literal["coverage", "cost", "total"] = Field(
        "cost", description="which of the certified cascades to use; an abstained item has paid every judge"
    )
    abstention_price: float | None = Field(
        None, gt=0, description='USD that a person costs per item, for prefer = "total"'
    )
    pilot: int = Field(50, ge=0, description="unlabelled items judged by all tiers to lay out the path")

    @model_validator(mode="after")
    def _tierwise_is_a_procedure_of_its_own(self) -> Self:
        if self.path == "tierwise" and {"procedure", "prefer"} & self.model_fields_set:
            raise ValueError('path = "tierwise" brings its own procedure and choice; remove both keys')
        return self

    @model_validator(mode="after")
    def _a_batch_is_drawn_from(self) -> Self:
        if (self.claim == "batch") != (self.label is not None):
            raise ValueError('claim = "batch" and label go together: label = 200 draws 200 items to label')
        if self.claim == "batch" and self.path in NOT_FOR_BATCHES:
            raise ValueError(f'path = "{self.path}" has no test for claim = "batch"; set path = "common"')
        return self

    @model_validator(mode="after")
    def _total_has_a_price(self) -> Self:
        if (self.prefer == "total") != (self.abstention_price is not None):
            raise ValueError('prefer = "total" and abstention_price go together')
        return self


class RolesTable(Table):
    """[roles]: how labelled rows are divided; each group is in exactly one role."""

    seed: int = 0
    exemplars: int | None = Field(None, ge=0, description="rows for the few-shot prompts; default: as needed")
    dev: Share = 0.0
    holdout: Share = 0.0

    @model_validator(mode="after")
    def _room_to_certify(self) -> Self:
        if self.dev + self.holdout >= 1:
            raise ValueError("dev + holdout must leave rows to certify with")
        return self


class EnsembleTable(Table):
    """[ensemble]: how each judge is asked."""

    annotators: int = Field(5, ge=1, le=MOST_PROMPTS, description="N few-shot prompts")
    shots: int = Field(5, ge=0, le=MOST_PROMPTS, description="K examples in each; 0 is zero-shot")
    swap: bool = Field(True, description="pairwise: ask in both orders")
    estimator: Literal["ensemble", "predictive"] = "ensemble"
    samples: int = Field(
        3, ge=1, le=MOST_PROMPTS, description="draws a vote where an endpoint has no log-probabilities"
    )

    @model_validator(mode="after")
    def _asks_what_it_reads(self) -> Self:
        if self.shots == 0 and self.annotators > 1 and "annotators" in self.model_fields_set:
            raise ValueError("shots = 0 makes all prompts the same; set annotators = 1")
        if self.estimator == "predictive" and "annotators" in self.model_fields_set and self.annotators > 1:
            raise ValueError('estimator = "predictive" reads one prompt; set annotators = 1')
        return self

    @property
    def members(self) -> int:
        """How many different prompts are asked."""
        return 1 if self.shots == 0 or self.estimator == "predictive" else self.annotators


class BudgetTable(Table):
    """[budget]: what one invocation may spend. A run that stops here can be resumed."""

    usd: float | None = Field(None, gt=0)
    calls: int | None = Field(None, gt=0)


class GateTable(Table):
    """[gate]: what CI asks for."""

    min_agreement: Share | None = None
    min_coverage: Share | None = None
    max_failures: Share = Field(0.05, description="failed votes, as a share of all, above which: undecided")
