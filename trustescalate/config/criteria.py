"""Define [[criteria]]: several criteria that are judged in one request, with a guarantee for each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from trustescalate.config.base import NO_VERDICT, Level, Table
from trustescalate.config.judges import (
    ClassicalJudge,
    JudgeTable,
    LocalJudge,
    ModelTable,
    RewardJudge,
    ScoreJudge,
    VLLMJudge,
)
from trustescalate.config.tables import MOST_LABELS, TaskTable, must_be_labels, must_be_scale
from trustescalate.records import Task, TaskKind
from trustescalate.records.criteria import BY_CRITERION

MOST_CRITERIA = 50
LONGEST_NAME = 100
GATE_KEYS = ("min_rate", "max_drop", "min_gain")
QUESTIONS = ("How does the response do on each criterion?", "Which response is better on each criterion?")
"""The question about all criteria, where [task] has none: about one response, and about two."""


class CriterionTable(Table):
    """[[criteria]]: one criterion, which judges and annotators answer for every item."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="its name in files and reports")
    question: str = Field(min_length=1, description="what judges and annotators answer")
    scale: tuple[int, int] | None = Field(
        None, description="rating: the lowest and the highest grade; default: scale of [task]"
    )
    labels: tuple[str, ...] | None = Field(
        None, description="binary and choice: its labels; default: labels of [task]"
    )
    weight: Annotated[float, NO_VERDICT] = Field(
        1.0, ge=1e-9, le=1e9, description="its weight in the total, relative to the others"
    )
    alpha: Level | None = Field(None, description="its risk level; default: alpha of [guarantee]")
    min_rate: Annotated[float | None, NO_VERDICT] = Field(
        None, description="gate: least mean of the run's items, on its own scale"
    )
    max_drop: Annotated[float | None, NO_VERDICT] = Field(
        None, ge=0, description="gate: largest drop of that mean against the baseline that still passes"
    )
    min_gain: Annotated[float | None, NO_VERDICT] = Field(
        None, ge=0, description="gate: least gain of that mean against the baseline"
    )

    @field_validator("name")
    @classmethod
    def _is_one_line(cls, name: str) -> str:
        if not name.isprintable() or name != name.strip():
            raise ValueError("must be one line, without spaces around it")
        return name

    @field_validator("question")
    @classmethod
    def _asks_something(cls, question: str) -> str:
        if not question.strip():
            raise ValueError("must not be empty")
        return question

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return must_be_labels(labels)

    @field_validator("scale")
    @classmethod
    def _scale_rises(cls, scale: tuple[int, int] | None) -> tuple[int, int] | None:
        return None if scale is None else must_be_scale(scale)

    def task(self, task: TaskTable) -> Task:
        """The question of this criterion alone, with its own labels."""
        own: dict[str, Any] = {"question": self.question}
        if self.scale is not None:
            own["scale"] = self.scale
        if self.labels is not None:
            own["labels"] = self.labels
        return TaskTable.model_validate({**task.model_dump(exclude_unset=True), **own}).task()

    @model_validator(mode="after")
    def _one_kind_of_labels(self) -> Self:
        if self.scale is not None and self.labels is not None:
            raise ValueError("scale is for ratings and labels are for the other kinds; keep one")
        return self


def with_groups(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A raw configuration with [groups] by criterion, where it has [[criteria]]."""
    if not isinstance(values.get("criteria"), list):
        return values
    given = [each for each in values["criteria"] if isinstance(each, Mapping)]
    groups = values.get("groups") or {}
    if not given or not isinstance(groups, Mapping):
        return values
    alpha = {each["name"]: each["alpha"] for each in given if each.get("alpha") and "name" in each}
    named = {**groups, "by": groups.get("by") or BY_CRITERION}
    if alpha or groups.get("alpha"):
        named["alpha"] = {**alpha, **(groups.get("alpha") or {})}
    task = dict(values.get("task") or {})
    if task.get("kind") == "choice" and all(each.get("labels") for each in given):
        task.setdefault("labels", given[0]["labels"])
    return {**values, "task": task, "groups": named}


def mixed_up(loc: Sequence[object], value: object) -> str:
    """Tell instructions for one verdict from criteria with a verdict each; "" where nobody took them for one.

    >>> mixed_up(("criteria", 0), "Be kind.")[:22]
    'must be written [[crit'
    """
    if loc[:2] == ("task", "criteria") and isinstance(value, Mapping):
        return (
            "is a list of instructions for one verdict; criteria with a verdict each are written [[criteria]]"
        )
    if loc[:1] == ("criteria",) and len(loc) <= 2 and not isinstance(value, Mapping):
        return (
            "must be written [[criteria]], with name and question; instructions for one verdict are [task] "
            "criteria"
        )
    return ""


def must_fit(criteria: Sequence[CriterionTable], task: TaskTable, by: str | None) -> None:
    """Raise ValueError where criteria do not fit together, [task] or [groups]."""
    names = [each.name for each in criteria]
    folded = [name.casefold() for name in names]
    twice = [name for place, name in enumerate(names) if name.casefold() in folded[:place]]
    if twice:
        raise ValueError(f"[[criteria]]: names must differ: {twice[0]!r} is there twice")
    if len(names) > MOST_CRITERIA:
        raise ValueError(f"[[criteria]]: {len(names)} are more than {MOST_CRITERIA} questions in one request")
    if task.criteria:
        raise ValueError(
            "[task] criteria are instructions for one verdict, [[criteria]] are verdicts of their own: write "
            "the instructions into [task] rubric, or into the question of a criterion"
        )
    if by != BY_CRITERION:
        raise ValueError(f"[[criteria]] have a guarantee each: remove [groups] by = {by!r}")
    for each in criteria:
        if each.labels is not None and task.kind in (TaskKind.RATING, TaskKind.PAIRWISE):
            raise ValueError(f'criterion {each.name!r}: kind = "{task.kind}" has labels of its own')
        if each.scale is not None and task.kind is not TaskKind.RATING:
            raise ValueError(f'criterion {each.name!r}: scale is for kind = "rating"')
        try:
            each.task(task)
        except ValueError as error:
            what = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)
            raise ValueError(f"criterion {each.name!r}: {what.removeprefix('Value error, ')}") from None
    if len(_union([each.task(task) for each in criteria])) > MOST_LABELS:
        raise ValueError(f"[[criteria]] have more than {MOST_LABELS} different labels in all")


def must_have_means(criteria: Sequence[CriterionTable], task: TaskTable) -> None:
    """Raise ValueError where the gate asks for a mean that a criterion cannot have."""
    for each in criteria:
        keys = [key for key in GATE_KEYS if getattr(each, key) is not None]
        labels = each.task(task).labels
        if keys and task.kind is TaskKind.CHOICE:
            raise ValueError(f'criterion {each.name!r}: labels of kind = "choice" have no mean for {keys[0]}')
        low, high = (int(labels[0]), int(labels[-1])) if task.kind is TaskKind.RATING else (0, 1)
        if each.min_rate is not None and not low <= each.min_rate <= high:
            raise ValueError(f"criterion {each.name!r}: min_rate must lie between {low} and {high}")
        for key in keys[each.min_rate is not None :]:
            if getattr(each, key) > high - low:
                raise ValueError(f"criterion {each.name!r}: {key} must be at most {high - low}")


def rows_task(criteria: Sequence[CriterionTable], task: TaskTable) -> Task:
    """The task of all rows: its labels are those of any criterion; each row takes those of its own.

    Criteria with different labels that are no ratings are of kind "choice": there is no mean over them all.
    """
    own = [each.task(task) for each in criteria]
    labels = _union(own)
    same = all(each.labels == labels for each in own)
    kind = task.kind if same or task.kind is TaskKind.RATING else TaskKind.CHOICE
    asked = "question" in task.model_fields_set
    question = task.question if asked else QUESTIONS[task.kind is TaskKind.PAIRWISE]
    return replace(own[0], kind=kind, question=question, labels=labels)


def must_ask_criteria(judges: Sequence[JudgeTable]) -> None:
    """Raise ValueError for a judge that cannot answer several questions in one request."""
    for judge in judges:
        if isinstance(judge, LocalJudge | VLLMJudge | RewardJudge | ScoreJudge | ClassicalJudge):
            raise ValueError(
                f'judge {judge.name!r}: backend = "{judge.backend}" gives one answer for an item and cannot '
                "judge [[criteria]]; serve the model behind an endpoint, or remove [[criteria]]"
            )
        if isinstance(judge, ModelTable) and judge.mode == "stated":
            raise ValueError(
                f'judge {judge.name!r}: mode = "stated" has one confidence for several [[criteria]]; set '
                'mode = "direct", "structured" or "reason"'
            )


def _union(own: Sequence[Task]) -> tuple[str, ...]:
    labels = dict.fromkeys(label for each in own for label in each.labels)
    ordered = sorted(labels, key=int) if own[0].kind is TaskKind.RATING else list(labels)
    return tuple(ordered)
