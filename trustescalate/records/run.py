"""A run: its header, its decisions, and what its rows say together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trustescalate.records.certificate import Certificate
from trustescalate.records.judging import Judgment
from trustescalate.records.overall import Overall
from trustescalate.records.standings import Standings
from trustescalate.records.task import Annotation, Item, Json, Label
from trustescalate.report.export.frame import VOTE_COLUMNS, as_frame, frame_columns, item_rows, vote_rows


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
    `overall`, `shift` and `standings` are derived from the rows and from the certificate's votes, never
    stored; `standings` is None where no models are named. So is `independent`: the ids of items that are
    independent of one another and of all that the certificate was made from, one of each cluster.
    """

    header: RunHeader
    items: tuple[Item, ...]
    judgments: tuple[Judgment, ...]
    decisions: tuple[Decision, ...]
    annotations: tuple[Annotation, ...] = ()
    overall: Overall | None = None
    shift: tuple[TierShift, ...] = ()
    standings: Standings | None = None
    independent: tuple[str, ...] = ()

    def to_frame(self) -> Any:
        """The run as a pandas DataFrame: a row an item, in the order of the items; costs in USD.

        Columns: id, label (None: a person is needed), judge, score, reason ("open": not judged yet), cost,
        input_tokens, output_tokens, people (how many labelled it), human_label (what most of them say), and
        for each judge NAME of the certificate NAME.label, .score, .threshold, .accepted, .votes, .failures,
        .cost, .input_tokens, .output_tokens: missing where that judge was not asked.
        """
        return as_frame(item_rows(self), frame_columns(self))

    def votes_frame(self) -> Any:
        """All votes as a pandas DataFrame, a row a vote in the item's frame; a failed one has no label."""
        return as_frame(vote_rows(self), VOTE_COLUMNS)
