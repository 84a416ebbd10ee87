"""Measure position bias and length bias of each judge from the votes and verdicts of a run."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from trustescalate.calibration.population import unit_codes
from trustescalate.data import labels
from trustescalate.records import Judgment, Label, Run, TaskKind, columns
from trustescalate.records.item_columns import groups_of, ids_of, places_of
from trustescalate.records.stored import placed_judgments
from trustescalate.report.bars import interval_chart, short
from trustescalate.report.certificate_figures import INTERVAL, INTERVAL_DELTA, interval_figure, thresholds
from trustescalate.report.figures import Figure, count, share, words
from trustescalate.report.pictures import Interval
from trustescalate.report.run_figures import verdicts_by_item
from trustescalate.report.sections import Column, Row, Section, Table, numbers

if TYPE_CHECKING:
    from trustescalate.stats.bounds import CodeArray

_METHOD = (
    "Position bias is measured on the first prompt of each judge, which is always asked in both orders: the "
    "share of items whose verdict changes with the order, and how often the verdict is the response shown "
    "first (a tie counts one half). Without position bias the latter is 50 %. Length bias compares the share "
    "of verdicts for the longer response, in characters, with that of human labels of the same items, where "
    "there are some: the longer response may be the better one. Items are those that reach the judge. Items "
    "with a failed vote on that prompt are left out of position bias, and ties and responses of one length "
    "out of length bias, so each count is given."
)


FEWEST_LABELS = 30
"""With fewer human labels the verdicts on all items are shown, and no comparison with labels."""


class Share(NamedTuple):
    """A mean over `items` of values in [0, 1] that sum to `total`, with 95 % limits; None without items."""

    items: int
    total: float
    limits: tuple[float, float] | None

    @property
    def value(self) -> float:
        """The mean; 0 without items."""
        return self.total / self.items if self.items else 0.0

    @property
    def figure(self) -> Figure:
        """The mean as printed."""
        return share(self.total, self.items, "no such item")

    def bar(self, name: str) -> Interval:
        """The mean as a bar."""
        return Interval(name, self.value, self.limits, f"{self.items:,} items")


class JudgeBias(NamedTuple):
    """What a judge's verdicts depend on: `changed` with the order, `first` and `longer` response chosen.

    `human_longer` is how often human labels of the items of `longer` are the longer response; with too few
    such labels it has no items, and `longer` is over all items with a verdict.
    """

    judge: str
    changed: Share
    first: Share
    longer: Share
    human_longer: Share


def bias_section(run: Run) -> Section | None:
    """Report both biases of each judge; None where neither can be measured."""
    rows = measure_bias(run)
    if not any(row.first.items or row.longer.items for row in rows):
        return None
    charts = (
        *interval_chart(
            f"Verdicts for the response shown first, {INTERVAL}s",
            [row.first.bar(row.judge) for row in rows if row.first.items],
            reference=0.5,
            reference_name="no position bias",
        ),
        *interval_chart(f"Verdicts for the longer response, {INTERVAL}s", _length_bars(rows)),
    )
    text = (_lead(rows), _METHOD, "These are measurements, one by one; no guarantee rests on them.")
    return Section("judge-bias", "Judges: position and length bias", text, charts, (_table(rows),))


def measure_bias(run: Run) -> tuple[JudgeBias, ...]:
    """Measure each judge of a pairwise run; empty for any other task.

    An item is one unit, and items of a cluster are treated as drawn together (`stats.intervals`).
    """
    task = run.header.certificate.task
    if task.kind is not TaskKind.PAIRWISE:
        return ()
    first, second = task.labels[:2]
    here, longer = places_of(run.items), bytearray(len(run.items))
    for place, item in enumerate(run.items):
        lengths = [len(text) for text in item.texts]
        if len(lengths) == 2 and lengths[0] != lengths[1]:
            longer[place] = 1 if lengths[0] > lengths[1] else 2
    better = {first: 1, second: 2}
    orders = _orders(run, task.labels)
    known = labels.majority(task, labels.sampled(run.annotations))
    human = {
        here[item_id]: better[label]
        for item_id, label in known.items()
        if label in better and item_id in here and longer[here[item_id]]
    }
    rows = []
    for judge in thresholds(run.header.certificate):
        places, changed, chosen = orders[judge]
        given, agrees = columns.Column("I"), array("b")
        for place, label in verdicts_by_item(run, judge):
            if label in better and longer[place]:
                given.append(place)
                agrees.append(4 * (better[label] == longer[place]))
        both = [(k, place) for k, place in enumerate(given) if place in human]
        by_people = array("b", (4 * (human[place] == longer[place]) for _, place in both))
        if len(both) < FEWEST_LABELS:
            by_people, compared = array("b"), given
        else:
            agrees, compared = (
                array("b", (agrees[k] for k, _ in both)),
                columns.Column("I", (p for _, p in both)),
            )
        units = _units(run, compared)
        rows.append(
            JudgeBias(
                judge,
                _mean(changed, _units(run, places)),
                _mean(chosen, _units(run, places)),
                _mean(agrees, units),
                _mean(by_people, units),
            )
        )
    return tuple(rows)


def _units(run: Run, places: Iterable[int]) -> "CodeArray | None":
    """The clusters of the items at these places; None where every item is one by itself."""
    groups, ids = groups_of(run.items), ids_of(run.items)
    return unit_codes((ids[place] for place in places), groups) if groups else None


class Orders(NamedTuple):
    """The items with both orders; in quarters, whether the verdict changes, and the points of the first."""

    places: columns.Column
    changed: "array[int]"
    chosen: "array[int]"


def _orders(run: Run, names: Sequence[Label]) -> Mapping[str, Orders]:
    first, second = names[:2]
    orders: dict[str, Orders] = defaultdict(lambda: Orders(columns.Column("I"), array("b"), array("b")))
    for place, row in placed_judgments(run):
        pair = _both_orders(row, names)
        if pair is not None:
            places, changed, chosen = orders[row.judge]
            places.append(place)
            changed.append(4 * (pair[0] != pair[1]))
            chosen.append(_quarters(pair[0], first, second) + _quarters(pair[1], second, first))
    return orders


def _both_orders(row: Judgment, names: Sequence[Label]) -> tuple[Label, Label] | None:
    """The verdicts of the first prompt with A shown first and with B shown first; None without both."""
    sums: dict[str, dict[Label, float]] = {}
    for vote in row.votes:
        if vote.exemplar_set != row.votes[0].exemplar_set:
            continue
        if vote.failure is not None:
            return None
        shares = sums.setdefault(vote.order, dict.fromkeys(names, 0.0))
        for label, value in vote.probs.items():
            shares[label] += value
    if not {"AB", "BA"} <= sums.keys():
        return None
    return _largest(sums["AB"]), _largest(sums["BA"])


def _largest(shares: dict[Label, float]) -> Label:
    pick: Callable[[Label], float] = shares.__getitem__
    return max(shares, key=pick)


def _quarters(verdict: Label, shown_first: Label, shown_second: Label) -> int:
    """The points of the response that was shown first, in quarters of those of both orders."""
    return 2 if verdict == shown_first else 0 if verdict == shown_second else 1


def _mean(quarters: "array[int]", units: "CodeArray | None") -> Share:
    import numpy as np

    from trustescalate.stats.intervals import mean_interval

    if not quarters:
        return Share(0, 0.0, None)
    values = np.frombuffer(quarters, np.int8) / 4
    low, high, _ = mean_interval(values, INTERVAL_DELTA, cluster=units)
    return Share(len(values), float(values.sum()), (low, high))


def _length_bars(rows: Sequence[JudgeBias]) -> list[Interval]:
    bars = []
    for row in rows:
        bars += [row.longer.bar(row.judge)] if row.longer.items else []
        bars += [row.human_longer.bar("human labels, same items")] if row.human_longer.items else []
    return bars


def _lead(rows: Sequence[JudgeBias]) -> str:
    parts = []
    ordered = [row for row in rows if row.changed.items]
    worst = max(ordered, key=lambda row: row.changed.value, default=None)
    if worst is not None and not worst.changed.total:
        parts.append("The order of the responses changes no verdict of any judge's first prompt.")
    elif worst is not None:
        parts.append(
            f"The order of the responses changes {worst.changed.figure.text} of the verdicts of "
            f"{short(worst.judge)}{', the most of any judge' if len(ordered) > 1 else ''}; it chooses the "
            f"response shown first in {worst.first.figure.text}."
        )
    sized = [row for row in rows if row.human_longer.items]
    if sized:
        most = max(sized, key=lambda row: abs(row.longer.value - row.human_longer.value))
        parts.append(
            f"{short(most.judge)} chooses the longer response in {most.longer.figure.text} of "
            f"{most.longer.items:,} items, human labels of these in {most.human_longer.figure.text}."
        )
    elif any(row.longer.items for row in rows):
        most = max(rows, key=lambda row: row.longer.value)
        parts.append(
            f"{short(most.judge)} chooses the longer response in {most.longer.figure.text} of "
            f"{most.longer.items:,} items; there are too few human labels to compare this with."
        )
    return " ".join(parts)


def _table(rows: Sequence[JudgeBias]) -> Table:
    lines = tuple(
        Row((words(row.judge), *(cell for each in row[1:] for cell in _cells(each)))) for row in rows
    )
    names = ("Changes with the order", "Shown first", "Longer response", "Human labels: longer")
    titles = [title for name in names for title in (name, INTERVAL, "Items")]
    return Table("Position and length bias", (Column("Judge"), *numbers(*titles)), lines)


def _cells(each: Share) -> tuple[Figure, ...]:
    return each.figure, interval_figure(each.limits), count(each.items)
