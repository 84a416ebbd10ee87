"""Define the task, its items, and the annotations on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal

Label = str
Json = Any
Purpose = Literal["sample", "region", "abstained", "other"]
STRICT: Mapping[str, Json] = {"extra": "forbid", "allow_inf_nan": False, "coerce_numbers_to_str": True}
"""Configuration of pydantic: an unknown key or a NaN is an error; an id or label may be a number."""


class TaskKind(StrEnum):
    """The kind of question: compare two responses, or label one."""

    PAIRWISE = "pairwise"
    BINARY = "binary"
    RATING = "rating"
    CHOICE = "choice"


Against = Literal["majority", "annotator"]
"""Human label that a verdict must agree with: that of most annotators, or of one drawn at random."""

EMPTY_RESPONSE = "(empty response)"
"""An empty response is a response: this is what judges and annotators see of it."""
TIE: Label = "tie"
SKIP: Label = "skip"
"""An annotator's abstention. It is kept, shown, and never counted as agreement."""


@dataclass(frozen=True, slots=True)
class Task:
    """The question, and every label that is a possible answer to it.

    `labels` is what a judge may answer, in the task's own order; with `ties == "drop"` a pairwise task offers
    no tie, and rows that most annotators call a tie are outside the claim, at calibration and after. With
    `ties == "half"` a tie against a preference is half right. A rating within `tolerance` of the human
    label is right. A row that everybody skipped disagrees with any verdict; with `skips == "outside"` it is
    outside the claim.
    """

    kind: TaskKind
    question: str
    labels: tuple[Label, ...]
    ties: Literal["class", "half", "drop"] = "class"
    tolerance: int = 0
    skips: Literal["disagree", "outside"] = "disagree"

    @property
    def responses(self) -> int:
        """How many responses an item of this task has."""
        return 2 if self.kind is TaskKind.PAIRWISE else 1

    @property
    def annotation_labels(self) -> tuple[Label, ...]:
        """The labels of an annotator: those of a judge, a skip, and a tie even where ties are dropped."""
        extra = [TIE] if self.kind is TaskKind.PAIRWISE and TIE not in self.labels else []
        return (*self.labels, *extra, SKIP)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to judge, without labels. `group` names rows that are clustered (same prompt, document).

    A response is a text, or the turns with which a conversation goes on after the prompt, the user's too.
    """

    id: str
    prompt: str | tuple[Turn, ...]
    responses: tuple[str | tuple[Turn, ...], ...]
    reference: str | None = None
    group: str | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    @property
    def prompt_text(self) -> str:
        """The prompt as plain text."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(turn.content for turn in self.prompt)

    @property
    def texts(self) -> tuple[str, ...]:
        """The responses as plain texts; of turns, those of the assistant."""
        return tuple(map(spoken, self.responses))


def visible(text: str) -> str:
    """A text as it is shown: an empty one, or one of white space, as words that say so.

    >>> visible(" "), visible("So.")
    ('(empty response)', 'So.')
    """
    return text if text.strip() else EMPTY_RESPONSE


def spoken(response: str | tuple[Turn, ...]) -> str:
    """A response as one text; of turns, those of the assistant."""
    if isinstance(response, str):
        return response
    return "\n\n".join(turn.content for turn in response if turn.role == "assistant")


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotator's label of one item, a tie or a skip included, and the `seconds` that it took.

    `purpose` is why this item was labelled: as part of a "sample", independently of any judge; as part of a
    sample from the "region" that the tested policies accept; because a cascade "abstained"; or for an unknown
    reason ("other"). Only samples certify, and only the first stands for all items. `criterion` is the
    name of the one that it answers, where there are several.
    """

    item_id: str
    annotator: str
    label: Label
    seconds: float | None = None
    purpose: Purpose = "sample"
    criterion: str | None = None
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT
