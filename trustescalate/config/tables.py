"""Define the tables of the task, the data, the ensemble, the budget, the gate and the leaderboard."""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, field_validator, model_validator

from trustescalate.config.base import NO_VERDICT, Share, Table
from trustescalate.records import SKIP, TIE, Task, TaskKind
from trustescalate.records.judging import MOST_VOTES

MOST_LABELS = 26
MOST_PROMPTS = 1000
"""Of annotators, of shots and of samples: a larger number is a typing error, and no memory is enough."""


def must_be_labels(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the labels; raise ValueError where they cannot be told apart or name a skip."""
    if labels is None:
        return None
    if not 2 <= len(labels) <= MOST_LABELS or len(set(labels)) != len(labels):
        raise ValueError(f"must be 2 to {MOST_LABELS} different labels")
    if not all(map(str.strip, labels)) or SKIP in labels:
        raise ValueError(f'a label must not be empty, nor "{SKIP}", which is how annotators pass')
    return labels


def must_be_scale(scale: tuple[int, int]) -> tuple[int, int]:
    """Return the scale; raise ValueError where it does not rise from its lowest grade."""
    if not 0 <= scale[0] < scale[1] < scale[0] + MOST_LABELS:
        raise ValueError(f"must be [lowest, highest], from 0 on, with at most {MOST_LABELS} grades")
    return scale


class TaskTable(Table):
    """[task]: the question that judges answer."""

    kind: TaskKind = Field(TaskKind.PAIRWISE, description="pairwise | binary | rating | choice")
    question: str = Field("Which response would a human reader prefer?", min_length=1)
    labels: tuple[str, ...] | None = Field(
        None, description="labels that a judge may answer with; required for choice, built in otherwise"
    )
    scale: tuple[int, int] = Field((1, 5), description="rating: the lowest and the highest grade")
    ties: Literal["class", "half", "drop"] = Field(
        "class",
        description="pairwise: class: a tie is a verdict; half: half right against a preference; "
        "drop: tied items are outside the claim",
    )
    skips: Literal["disagree", "outside"] = Field(
        "disagree",
        description="an item that every annotator skips: disagree: counts as an error; outside: is outside "
        "the claim",
    )
    tolerance: int = Field(
        0, ge=0, description="rating: largest distance at which a verdict still agrees with the human label"
    )
    rubric: str | None = Field(None, min_length=1, description="judging instructions, shown to every judge")
    rubric_file: str | None = Field(None, description="text file with the rubric")
    criteria: tuple[str, ...] = Field(
        (),
        description="instructions for the one verdict, shown to every judge as a numbered list; for a "
        "verdict on each criterion, [[criteria]]",
    )
    _rows: Task | None = PrivateAttr(None)

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
        return must_be_labels(labels)

    @field_validator("scale")
    @classmethod
    def _scale_rises(cls, scale: tuple[int, int]) -> tuple[int, int]:
        return must_be_scale(scale)

    def of_rows(self, task: Task) -> Self:
        """This table for rows of items, one for each of several criteria."""
        table = self.model_copy()
        table._rows = task
        return table

    def task(self) -> Task:
        """The record that judges and statistics work with; with [[criteria]], that of all rows."""
        if self._rows is not None:
            return self._rows
        if self.kind is TaskKind.PAIRWISE:
            labels: tuple[str, ...] = ("A", "B") if self.ties == "drop" else ("A", "B", TIE)
        elif self.kind is TaskKind.RATING:
            labels = tuple(str(grade) for grade in range(self.scale[0], self.scale[1] + 1))
        else:
            labels = self.labels or ("pass", "fail")
        return Task(self.kind, self.question, labels, self.ties, self.tolerance, self.skips)


def must_be_meta(field: str) -> str:
    """Return a field of an item's meta; raise ValueError for any other name."""
    if not re.match(r"meta\..", field):
        raise ValueError('must be "meta.<key>"')
    return field


class DataTable(Table):
    """[data]: files, relative to the configuration."""

    items: str = "items.jsonl"
    annotations: str = "annotations.jsonl"
    cluster: str | None = Field(
        None,
        description='what clusters items: "group", "prompt", "meta.<key>", or "item" (no clusters); '
        "default: the field group, or without it the same prompt",
    )
    labels_by: Literal["people"] | None = Field(
        None, description='"people": the annotators are humans, although they are named like models'
    )
    strata: Annotated[str | None, NO_VERDICT] = Field(
        None, description='"meta.<key>": field that stratifies the means over all items'
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
    """[prompts]: prompt files that replace the shipped ones."""

    folder: str | None = Field(None, description="folder with direct.txt, reason.txt, … for the modes in use")


class ImportTable(Table):
    """[import]: columns of foreign rows. Columns that are not named here are recognised by their names.

    A name with dots reaches into a column: "labels.0.annotator".
    """

    id: str | None = Field(None, description="default: a hash of the texts")
    prompt: str | None = None
    context: str | None = Field(None, description="shown below the prompt; a list of passages one by one")
    responses: tuple[str, ...] | None = None
    reference: str | None = None
    group: str | None = None
    label: str | None = Field(None, description="column with one label per row")
    annotator: str | None = Field(None, description="column with the annotator of `label`")
    annotators: dict[str, str] = Field(
        default_factory=dict, description="name = column, for several labels per row"
    )
    criteria: dict[str, str] = Field(
        default_factory=dict,
        description="name = column with the label on one of [[criteria]]; default: the column of that name",
    )
    judges: dict[str, str] = Field(
        default_factory=dict, description="name = column with the recorded verdict of a judge"
    )
    probabilities: dict[str, str | dict[str, str]] = Field(
        default_factory=dict,
        description="name = column with a judge's probability of the first of two labels, "
        "or { label = column } of each label",
    )
    labels: dict[str, str] = Field(default_factory=dict, description="spelling in the file = label")
    meta: tuple[str, ...] | dict[str, str] = Field(
        (), description="columns to keep in meta, or name = column"
    )
    escaped_formulas: bool = Field(
        False, description="remove the ' that escapes a cell which a spreadsheet would run as a formula"
    )
    empty_is_missing: bool = Field(
        False, description="an empty cell of a judge is a missing verdict, not a failed one"
    )
    forward_fill: tuple[str, ...] = Field((), description="columns that only the first row of a group fills")

    @property
    def meta_columns(self) -> dict[str, str]:
        """The columns kept in meta, by name."""
        return self.meta if isinstance(self.meta, dict) else {column: column for column in self.meta}


class RolesTable(Table):
    """[roles]: how labelled rows are divided; each cluster is in exactly one role."""

    seed: int = 0
    exemplars: int | None = Field(
        None, ge=0, description="labelled rows for the few-shot examples; default: as needed"
    )
    dev: Share = 0.0
    holdout: Share = 0.0
    file: str | None = Field(
        None, description="roles written by `trustescalate check --write-roles`, used as they are"
    )

    @model_validator(mode="after")
    def _room_to_certify(self) -> Self:
        if self.dev + self.holdout >= 1:
            raise ValueError("dev + holdout must leave rows to certify with")
        return self


EstimatorName = Literal["ensemble", "sampled", "verbalized"]


class EnsembleTable(Table):
    """[ensemble]: the votes of each judge, and the estimator that turns them into a score."""

    annotators: int = Field(
        5, ge=1, le=MOST_PROMPTS, description="simulated annotators N: few-shot prompts per judge"
    )
    shots: int = Field(
        5, ge=0, le=MOST_PROMPTS, description="few-shot examples K in each prompt; 0 is zero-shot"
    )
    swap: bool = Field(True, description="pairwise: present the responses in both orders")
    estimator: EstimatorName = Field(
        "ensemble", description=f"how votes become a confidence score: {' | '.join(get_args(EstimatorName))}"
    )
    samples: int = Field(
        3, ge=1, le=MOST_PROMPTS, description="draws per vote where an endpoint has no log-probabilities"
    )

    @model_validator(mode="after")
    def _asks_what_it_reads(self) -> Self:
        if self.shots == 0 and self.annotators > 1 and "annotators" in self.model_fields_set:
            raise ValueError("shots = 0 makes all prompts the same; set annotators = 1")
        if 2 * self.members * self.samples > MOST_VOTES:
            raise ValueError(f"annotators × samples in both orders are over {MOST_VOTES:,} votes on an item")
        return self

    @property
    def members(self) -> int:
        """The number of different prompts."""
        return 1 if self.shots == 0 else self.annotators


class BudgetTable(Table):
    """[budget]: the limit of one invocation. A run that stops at it can be resumed."""

    usd: float | None = Field(None, gt=0)
    calls: int | None = Field(None, gt=0)


class GateTable(Table):
    """[gate]: what CI checks: the product, then the judges."""

    min_rate: float | None = Field(
        None,
        description="least win rate, pass rate or mean rating of the run's items; with [[criteria]], of "
        "their weighted total, from 0 to 1",
    )
    baseline: str | None = Field(
        None, min_length=1, description="run to compare with: its id, or the folder of a run"
    )
    match: str | None = Field(
        None, description='"meta.<key>": key by which items match those of the baseline; default: their ids'
    )
    max_drop: float | None = Field(
        None, ge=0, description="largest drop of the rate against the baseline that still passes"
    )
    min_gain: float | None = Field(None, ge=0, description="least gain of the rate against the baseline")
    by: str | None = Field(
        None, description='"meta.<key>": hold min_rate, max_drop and min_gain for each value as well'
    )
    target: Literal["items", "population"] = Field(
        "items", description="items: of these items; population: of what these items are a sample of"
    )
    max_cost_usd: float | None = Field(None, ge=0, description="largest cost of the run's judges in USD")
    max_abstention: Share | None = Field(None, description="largest share of items for human review")
    max_failure_share: Share | None = Field(
        None,
        description="share of failed votes above which the gate is undecided; without it, each judge's rate "
        "is compared with that of the certificate",
    )
    max_certificate_age_days: float | None = Field(None, gt=0, description="largest age of the certificate")
    allow_shift: bool | None = Field(
        None,
        description="whether the gate may pass although the distribution-shift check raises an alarm; "
        "false also where the check cannot be made; default: false, if it can be made",
    )
    min_agreement: Share | None = None
    min_coverage: Share | None = None

    @field_validator("match", "by")
    @classmethod
    def _is_meta(cls, field: str | None) -> str | None:
        return field if field is None else must_be_meta(field)

    @model_validator(mode="after")
    def _has_what_it_divides(self) -> Self:
        if self.by is not None and (self.min_rate, self.max_drop, self.min_gain) == (None, None, None):
            raise ValueError("by is for min_rate, max_drop and min_gain")
        return self


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Models = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]}),
]


class LeaderboardTable(Table):
    """[leaderboard]: the models whose responses the items hold, ranked by a run; nothing else uses it."""

    models: Models = Field(
        (), description='"meta.<key>" with the model; pairwise: ["meta.<key of A>", "meta.<key of B>"]'
    )
    item: str | None = Field(
        None,
        description='"meta.<key>": question that several models answered; its rows are clustered; '
        "default: group",
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
