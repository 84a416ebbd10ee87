"""A run: its header, its decisions, and what its rows say together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trustescalate.types.certificate import Certificate
from trustescalate.types.judging import Judgment
from trustescalate.types.task import Annotation, Item, Json, Label


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
