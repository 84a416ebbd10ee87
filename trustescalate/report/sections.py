"""The shape of a report: frozen records of facts, ready to print. It computes nothing.

Texts inside are as they came, untrusted; each renderer makes them harmless in its own format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trustescalate.records import Label, TaskKind
from trustescalate.records.display import html_table, one_line
from trustescalate.report.figures import Figure

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Measures:
    """What a gate may compare, by name, exactly as printed. No value means not measurable, with the reason.

    Shares are in [0, 1]; money is in US dollars. `…_lower` are bounds, rounded down,
    `…_upper` rounded up. `run_errors_upper` is a number of this run's verdicts; its `counts` say of how many.
    `expected_agreement` is a mean over runs, which no gate may take for a limit.
    """

    certified_agreement: Figure
    expected_agreement: Figure
    confidence: Figure
    observed_agreement: Figure
    predicted_coverage_lower: Figure
    human_agreement: Figure
    coverage: Figure
    abstained: Figure
    failed_votes: Figure
    judged_agreement: Figure
    judged_agreement_lower: Figure
    judged_agreement_upper: Figure
    run_errors_upper: Figure
    cost: Figure
    cost_per_1000: Figure
    cost_share: Figure


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What a gate may compare about one value with a guarantee of its own, as in `Measures`.

    `judged_agreement_upper` holds for all such values at once.
    """

    value: str
    certified_agreement: Figure
    judged_agreement: Figure
    judged_agreement_upper: Figure


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the few figures at the top: its name, the figure, and a line of small print."""

    name: str
    figure: Figure
    detail: str


@dataclass(frozen=True, slots=True)
class Column:
    """A table column. A numeric one is set to the right."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A table row. `mark` is a word that singles it out ("chosen"); it is printed, never only coloured."""

    cells: tuple[Figure, ...]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A captioned table. A `folded` one is long: closed in HTML, left out of Markdown."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A titled piece of verbatim text."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Point:
    """A tested policy: the share of rows that it accepts, and the share of errors among them, if any.

    `part` is the sub-path that it belongs to.
    """

    coverage: float
    risk: float | None
    certified: bool
    chosen: bool
    part: int


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """What the risk-coverage chart shows; `joined` if points are on paths. `alt` says it in words.

    `limits` are whiskers: (coverage, error rate, upper limit on the true one), all at once.
    """

    alpha: float
    points: tuple[Point, ...]
    joined: bool
    alt: str
    limits: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: where, how many verdicts, mean score, share that was right."""

    low: float
    high: float
    count: int
    mean_score: float
    right: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """What one judge's reliability diagram shows; `alt` says it in words."""

    judge: str
    bins: tuple[ReliabilityBin, ...]
    alt: str


@dataclass(frozen=True, slots=True)
class Interval:
    """One bar of an interval chart: a name as it came, the estimate, and its limits where there are any."""

    name: str
    estimate: float
    limits: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Intervals:
    """What an interval chart shows, first at the top; `alt` says it in words. `percent`: these are shares."""

    title: str
    bars: tuple[Interval, ...]
    percent: bool
    alt: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the report, in reading order: sentences, charts, tables, verbatim texts."""

    slug: str
    title: str
    text: tuple[str, ...] = ()
    risk_coverage: RiskCoverage | None = None
    reliability: tuple[Reliability, ...] = ()
    intervals: Intervals | None = None
    tables: tuple[Table, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class TrailRow:
    """What one tier did with one item, ready to print."""

    judge: str
    verdict: Figure
    score: Figure
    threshold: Figure
    outcome: str
    votes: str
    failures: str


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item: what was asked, what came out, and the trail that explains it.

    `people` is what a unique majority of people said, where any were asked.
    """

    id: str
    state: Literal["abstained", "undecided", "released"]
    texts: tuple[Block, ...]
    verdict: Figure
    judge: Figure
    score: Figure
    reason: str
    people: Figure
    trail: tuple[TrailRow, ...]


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """The question, and the answers it allows."""

    kind: TaskKind
    question: str
    labels: tuple[Label, ...]
    ties: str


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything that any renderer prints. `kind` is "calibration" when there is a certificate and no run.

    `complete` is False for a run that has not decided every item. `banners` are what nobody may overlook;
    `clusters` is the one of these on clusters of different sizes, or empty. `claim` is about the population,
    or the batch; `run_claim` limits the errors among this run's verdicts, and is empty where nothing is
    proven of them. `tested` says which test of its labels the certificate is from, if a ledger counts them.
    """

    schema: int
    kind: Literal["run", "calibration"]
    status: Literal["certified", "expected", "none", "incomplete"]
    complete: bool
    task: TaskFacts
    subject: str
    headline: str
    claim: str
    advice: str
    assumptions: tuple[str, ...]
    banners: tuple[str, ...]
    key_figures: tuple[KeyFigure, ...]
    measures: Measures
    sections: tuple[Section, ...]
    items: tuple[ItemRow, ...]
    versions: Mapping[str, str]
    groups: tuple[GroupFacts, ...] = ()
    run_claim: str = ""
    tested: str = ""
    clusters: str = ""

    def _facts(self) -> Mapping[str, object]:
        figures = {figure.name: figure.figure.text for figure in self.key_figures}
        return {"headline": self.headline, "claim": self.claim, **figures}

    def __repr__(self) -> str:
        return one_line("Report", self._facts())

    def _repr_html_(self) -> str:
        return html_table("Report", self._facts())
