"""Define a run: its header, its decisions, and statistics derived from them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from trustescalate.records.certificate import Certificate
from trustescalate.records.criteria import Criteria
from trustescalate.records.display import html_table, one_line
from trustescalate.records.judging import Judgment
from trustescalate.records.overall import Overall
from trustescalate.records.product import Product
from trustescalate.records.standings import Standings
from trustescalate.records.task import STRICT, Annotation, Item, Json, Label


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one tier on one item.

    `score` and `score_upper` bound the full ensemble's score; they are equal without early stopping.
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
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of the cascade on one item. `label` is None on abstention; `reason` says why."""

    item_id: str
    label: Label | None
    judge: str | None
    score: float | None
    reason: str
    trail: tuple[Step, ...]
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


UNCERTIFIED = "uncertified"
"""The reason of every decision of an uncertified run."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of the `of` parts of a list of `items` items, which has the digest `items_digest`.

    `places` are those of its items in the list, in ranges: [[0, 250]] are the first 250.
    """

    number: int
    of: int
    items: int
    items_digest: str
    places: tuple[tuple[int, int], ...]
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT

    def __str__(self) -> str:
        return f"shard {self.number} of {self.of}"


@dataclass(frozen=True, slots=True)
class RunHeader:
    """run.json. `config` never holds an API key, only the names of their variables.

    `id` ends with a digest of all other fields but `status` and `rows`, which change while the run is made.
    With `uncertified`, the thresholds that the user named by judge, nothing is released: `certificate` then
    says why nothing is certified, and only its judges and few-shot examples are used.
    """

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
    number: int = 0  # of the attempt that created the run; rises from run to run
    items_file: str | None = None  # the file of `--items`, relative to the configuration
    basis: Mapping[str, str] = field(default_factory=dict)
    """A digest of each file that the configuration points to, and the fingerprint of each judge."""
    rows: str = ""  # of a complete run: a digest of judgments.jsonl and decisions.jsonl
    uncertified: Mapping[str, float] | None = None  # None: the run is certified
    shard: Shard | None = None  # None: a whole run
    merged: tuple[str, ...] = ()  # the ids of the shards that it was made of
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(frozen=True, slots=True)
class TierShift:
    """Verdicts and scores of the rows that reach a tier: `before` certification rows, `after` items.

    `label` is the one that moved most: `share` of the verdicts before and after, and `gap`, the largest
    difference of the two distribution functions of its probability. `raised` is after Holm's correction.
    """

    judge: str
    before: int
    after: int
    label: Label
    share: tuple[float, float]
    gap: float
    p_value: float
    raised: bool


def least_confident_first(run: "Run") -> list[str]:
    """The ids of the decided items, those first whose last judge gave no verdict or the lowest score."""
    last = {row.item_id: row.trail[-1] for row in run.decisions if row.trail}
    return sorted(last, key=lambda item_id: (last[item_id].label is not None, last[item_id].score))


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A run as read back from its folder. Rows are in the order of `items`, one a decided item, and judgments
    of an item in that of the tiers. Those of a folder are made when they are asked for (`records.stored`).

    `annotations` are those on judged items, if there are any: they measure, and certify nothing.
    `overall`, `product`, `shift` and `standings` are derived from the rows and from the certificate's votes,
    never stored; `standings` is None where no models are named, `criteria` where there are none. So is
    `independent`: the ids of items that are independent of one another and of all that the certificate was
    made from, one of each cluster.
    """

    header: RunHeader
    items: Sequence[Item]
    judgments: Sequence[Judgment]
    decisions: Sequence[Decision]
    annotations: tuple[Annotation, ...] = ()
    overall: Overall | None = None
    shift: tuple[TierShift, ...] = ()
    standings: Standings | None = None
    independent: Collection[str] = ()
    product: Product | None = None
    criteria: Criteria | None = None

    @property
    def uncertified(self) -> bool:
        """Whether no certificate covers the verdicts of the run, so that it releases none."""
        return self.header.uncertified is not None

    def verdict(self, decision: Decision) -> Label | None:
        """The verdict on an item: the released label, in an uncertified run that of the last judge asked."""
        if not self.uncertified:
            return decision.label
        return decision.trail[-1].label if decision.trail else None

    def _facts(self) -> Mapping[str, object]:
        from trustescalate.records.decisions import alike  # which needs this module

        released = sum(number for decision, number in alike(self.decisions) if decision.label is not None)
        return {
            "id": self.header.id,
            "status": self.header.status,
            "decided": f"{len(self.decisions):,} of {len(self.items):,}",
            "released": f"{released:,}",
            "abstained": f"{len(self.decisions) - released:,}",
        }

    def __repr__(self) -> str:
        return one_line("Run", self._facts())

    def _repr_html_(self) -> str:
        return html_table("Run", self._facts())
