"""Define the records that a report consists of: measures, sections, tables, charts and items.

Texts are stored unescaped and untrusted; each renderer escapes them for its own format.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trustescalate.records import Label, Product, TaskKind
from trustescalate.records.display import html_table, one_line
from trustescalate.report.figures import Figure, words
from trustescalate.report.pictures import Intervals, Picture

SCHEMA = 2
Status = Literal["pass", "fail", "undecided"]
Tone = Literal["good", "warning", "bad"]
FOLD_ROWS = 12
"""A longer table is folded; a sentence names at most half as many values."""


@dataclass(frozen=True, slots=True)
class Measures:
    """The figures that a gate may compare, as printed. A figure without a value has the reason in its note.

    Shares are in [0, 1]; money is in USD. `…_lower` is rounded down, `…_upper` up. `run_errors_upper` counts
    verdicts of this run; its `counts` hold the total. `expected_agreement` is a mean over runs, not a limit.
    `shift_alarms` counts tiers; its value is a text where the check does not apply.
    """

    certified_agreement: Figure
    expected_agreement: Figure
    confidence: Figure
    observed_agreement: Figure
    predicted_coverage_lower: Figure
    human_agreement: Figure
    coverage: Figure
    coverage_without_failures: Figure
    abstained: Figure
    abstention: Figure
    abstention_without_failures: Figure
    shift_alarms: Figure
    failed_votes: Figure
    excess_failures: Figure
    judged_agreement: Figure
    judged_agreement_lower: Figure
    judged_agreement_upper: Figure
    run_errors_upper: Figure
    cost: Figure
    cost_per_1000: Figure
    cost_share: Figure


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement of the gate and its outcome; `required` and `observed` are as printed in the report."""

    name: str
    status: Status
    required: str
    observed: str
    message: str


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """`Measures` of a group with its own guarantee; `judged_agreement_upper` is simultaneous over groups."""

    value: str
    certified_agreement: Figure
    judged_agreement: Figure
    judged_agreement_upper: Figure


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A figure at the top of the report, with a line of detail, and drawn as a `share` of a bar if given."""

    name: str
    figure: Figure
    detail: str
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A table column. A numeric one is right-aligned."""

    title: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A table row. `mark` ("chosen") is printed, never shown by colour alone."""

    cells: tuple[Figure, ...]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A captioned table. A `folded` one is collapsed in HTML and omitted from Markdown."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    folded: bool = False


def numbers(*titles: str) -> tuple[Column, ...]:
    """Make numeric columns."""
    return tuple(Column(title, True) for title in titles)


def pairs_table(
    caption: str, titles: tuple[str, str], lines: Iterable[tuple[str, Figure]], *, numeric: bool = False
) -> Table:
    """Make a table of names and their figures."""
    rows = tuple(Row((words(name), figure)) for name, figure in lines)
    return Table(caption, (Column(titles[0]), Column(titles[1], numeric)), rows)


@dataclass(frozen=True, slots=True)
class Block:
    """A titled piece of verbatim text."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its anchor (`slug`), heading, sentences, charts, tables and verbatim blocks.

    The first sentence and the charts are read first; the rest of the text, tables and blocks are details.
    """

    slug: str
    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class VoteRow:
    """One vote: the order of the responses as shown, the label of most probability, or why it failed."""

    order: str
    examples: int
    label: Label | None
    probability: Figure
    failure: str
    cost: Figure


@dataclass(frozen=True, slots=True)
class TrailRow:
    """The result of one tier for one item. `low` and `high` bound its score; they may be equal."""

    judge: str
    verdict: Figure
    score: Figure
    threshold: Figure
    low: float
    high: float
    outcome: str
    votes: str
    failures: str
    cast: tuple[VoteRow, ...]


State = Literal["abstained", "undecided", "released", "uncertified"]


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item of a run: its texts, verdict and trail.

    `people` is the unique majority of its human `labels`, (annotator, label), if any; `disagrees` is whether
    the verdict is another. `failed` counts failed votes. `prompt` includes passages. On the page of a
    comparison, `baseline` is the verdict of the baseline, `changed` whether both runs have one and they
    differ, and `pairs` are places of `responses`: (of the baseline, of the candidate).
    """

    run: str
    id: str
    state: State
    group: str | None
    verdict: Figure
    judge: Figure
    score: Figure
    people: Figure
    disagrees: bool
    failed: int
    reason: str
    prompt: tuple[Block, ...]
    responses: tuple[tuple[Block, ...], ...]
    reference: str | None
    labels: tuple[tuple[str, Label], ...]
    trail: tuple[TrailRow, ...]
    baseline: Figure | None = None
    changed: bool = False
    pairs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """The question and its labels."""

    kind: TaskKind
    question: str
    labels: tuple[Label, ...]
    ties: str


@dataclass(frozen=True, slots=True)
class Release:
    """The gate on the first screen: its status, the checks that are shown first, and the product as charts.

    `summary` counts the `checks`, and `note` says what is not checked. `mean` states the mean over the run's
    items where nothing is required of the product.
    """

    status: Status
    about_product: bool
    shown: tuple[Check, ...]
    summary: str
    checks: tuple[Check, ...]
    note: str = ""
    mean: str = ""
    pictures: tuple[Intervals, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What every page has, as HTML, Markdown or text: a first screen, sections, and items.

    `title` is the question; `facts` are short ("300 items"). `tone` goes with the `headline`. The first of
    the `claims` is the largest. There are at most four `figures`. `follow` are the next commands, and
    `options` the words that name the configuration in a command.
    """

    kind: Literal["run", "calibration", "comparison"]
    title: str
    facts: tuple[str, ...]
    tone: Tone
    headline: str
    claims: tuple[str, ...]
    figures: tuple[KeyFigure, ...]
    pictures: tuple[Picture, ...] = ()
    sections: tuple[Section, ...] = ()
    advice: str = ""
    assumptions: tuple[str, ...] = ()
    banners: tuple[str, ...] = ()
    release: Release | None = None
    items: Sequence[ItemRow] = ()
    follow: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything that a renderer prints. `kind` is "calibration" for a certificate without a run.

    `complete` is False for a run with undecided items. `banners` are warnings; `clusters` is the warning on
    cluster sizes, or empty. `claim` is about the population or the batch; `run_claim` limits the errors among
    this run's verdicts, and is empty where no limit is proven. `tested` numbers the test of these labels, if
    a ledger counts them. `product` holds the means over this run's items that a gate compares. `items` are
    laid out one at a time, and are in report.items.jsonl instead of report.json.
    """

    schema: int
    kind: Literal["run", "calibration"]
    status: Literal["certified", "expected", "none", "incomplete", "uncertified"]
    complete: bool
    task: TaskFacts
    headline: str
    claim: str
    advice: str
    assumptions: tuple[str, ...]
    banners: tuple[str, ...]
    key_figures: tuple[KeyFigure, ...]
    measures: Measures
    sections: tuple[Section, ...]
    versions: Mapping[str, str]
    groups: tuple[GroupFacts, ...] = ()
    run_claim: str = ""
    tested: str = ""
    clusters: str = ""
    product: Product | None = None
    facts: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    release: Release | None = None
    follow: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    items: Sequence[ItemRow] = ()

    def page(self) -> Page:
        """The report as a page."""
        first, _, rest = self.claim.partition(". ")
        tones: dict[str, Tone] = {"certified": "good", "none": "bad"}
        alarms = self.measures.shift_alarms.value  # a text where a shift breaks nothing
        if isinstance(alarms, int) and alarms:
            tones["certified"] = "warning"
        return Page(
            kind=self.kind,
            title=self.task.question,
            facts=self.facts,
            tone=tones.get(self.status, "warning"),
            headline=self.headline,
            claims=tuple(filter(None, (f"{first}{'.' * bool(rest)}", self.run_claim, rest))),
            figures=self.key_figures,
            pictures=self.pictures,
            sections=self.sections,
            advice=self.advice,
            assumptions=self.assumptions,
            banners=self.banners,
            release=self.release,
            items=self.items,
            follow=self.follow,
            options=self.options,
        )

    def _facts(self) -> Mapping[str, object]:
        figures = {figure.name: figure.figure.text for figure in self.key_figures}
        return {"headline": self.headline, "claim": self.claim, **figures}

    def __repr__(self) -> str:
        return one_line("Report", self._facts())

    def _repr_html_(self) -> str:
        return html_table("Report", self._facts())
