"""Define the charts of a page as data: `charts.draw` makes SVG of them, and report.json holds them.

Every chart has an `alt`, its text alternative: what a reader of the picture learns, with the figures.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class FlowTier:
    """A tier of the flow: `asked` items reach it, and `ended` of them stop there. `note` is its cost."""

    name: str
    asked: int
    ended: int
    note: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Where the items of a run went: from tier to tier, and the rest to people.

    `total` items; `labelled` of them were released with human labels, `review` need human review, and
    `undecided` are not decided yet. `ended` says what becomes of an item that ends at a tier ("released").
    """

    title: str
    tiers: tuple[FlowTier, ...]
    total: int
    review: int
    undecided: int
    ended: str
    alt: str
    labelled: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """A tested policy: its coverage, its observed selective risk (None: no accepted row), its sub-path.

    `upper` is the limit on its true risk at the level of its own test, so that a policy passed exactly where
    it is at most α; None where the test has no such limit.
    """

    coverage: float
    risk: float | None
    certified: bool
    chosen: bool
    part: int
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The risk-coverage chart; `joined` if points of one `part` lie on a path.

    `limits` are simultaneous: (coverage, observed selective risk, upper limit on the true one).
    """

    title: str
    alpha: float
    points: tuple[Point, ...]
    joined: bool
    alt: str
    limits: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """A bin of a reliability diagram: its range, count of verdicts, mean score, share correct."""

    low: float
    high: float
    count: int
    mean_score: float
    right: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """A judge's reliability diagram over the histogram of its scores, with its threshold, if it has one."""

    judge: str
    bins: tuple[ReliabilityBin, ...]
    alt: str
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A bar of an interval chart. `limits` is None where there is no interval; `note` stands at its end."""

    name: str
    estimate: float | None
    limits: tuple[float, float] | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Intervals:
    """An interval chart (a forest plot), first bar on top; `percent`: values are shares.

    With `points` too, they are differences of shares: the axis is in percentage points, without "%".
    `reference` is a vertical line, named by `reference_name`: a requirement, a guarantee, or no difference.
    """

    title: str
    bars: tuple[Interval, ...]
    percent: bool
    alt: str
    reference: float | None = None
    reference_name: str = ""
    points: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar for each series of a bar chart, and what is printed at the end of each."""

    name: str
    values: tuple[float, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar chart of counts, shares or amounts from 0 on, first bar on top; `series` name bars side by side.

    One series needs no name: ("",).
    """

    title: str
    series: tuple[str, ...]
    bars: tuple[Bar, ...]
    alt: str


@dataclass(frozen=True, slots=True)
class Power:
    """The power of a calibration: the probability of a certificate against labelled rows, with limits.

    `target` is a horizontal line; `now` the labelled rows that there are.
    """

    title: str
    rows: tuple[int, ...]
    power: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]
    alt: str
    target: float = 0.8
    now: int | None = None


Picture: TypeAlias = Flow | RiskCoverage | Reliability | Intervals | Bars | Power
