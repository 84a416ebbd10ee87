"""Render the comparison of two runs as a section of tables and text."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from trustescalate.records import Task, TaskKind
from trustescalate.report import figures
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.overall import PPI_GUARD, mean_name
from trustescalate.report.sections import Column, Row, Section, Table, numbers
from trustescalate.report.terminal import section_lines

Ends = tuple[float, float]
NAMES = ("Baseline", "Candidate")
"""What the first and the second run are called on the page of a comparison."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run, and the number of matched items with a released verdict."""

    run: str
    created: str
    items: int
    released: int
    matched_released: int
    failed_votes: int
    votes: int
    calls: int
    cost: float


@dataclass(frozen=True, slots=True)
class Change:
    """The mean over matched items in the second run minus the first; limits at 95 %.

    `interval` uses predictions and the `labels` items with human labels in both runs, `label_only` these
    labels alone. If `usable` is False, for the given `reason`, `interval` is invalid. `by_judges` is the
    judges' difference, corrected by no label. `verdicts` are limits from released verdicts and certificates
    alone.
    """

    labels: int
    estimate: float | None
    interval: Ends | None
    label_only: Ends | None
    usable: bool
    reason: str
    by_judges: float | None = None
    verdicts: Ends | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Verdicts against human labels on labelled matched items: (right, released) by run, and both released.

    `better` is a 95 % interval for the share of items on which the second run is right, among those on which
    exactly one is; exact unless items are clustered.
    """

    labelled: int
    first: tuple[int, int]
    second: tuple[int, int]
    both: int
    only_first: int
    only_second: int
    better: Ends | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs with `matched` items; `kind` is what differs: the answers, or the judges alone."""

    kind: Literal["answers", "judges"]
    by: str
    first: Side
    second: Side
    matched: int
    only_first: int
    only_second: int
    same: int
    differ: int
    one_released: int
    none_released: int
    agreement: Agreement
    change: Change | None
    task: Task
    uncertified: tuple[str, ...] = ()  # runs without a certificate: nothing of them is released

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        return section_lines(comparison_section(self))


def comparison_section(compared: Comparison) -> Section:
    """Turn a comparison into a section of text and tables."""
    agreement, change = compared.agreement, compared.change
    gave = "gave" if compared.uncertified else "released"
    text = [*uncertified_note(compared), _describe_match(compared), _describe_agreement(agreement, gave)]
    tables = [side_table(compared), verdict_table(compared)]
    if agreement.labelled:
        tables.append(_agreement_table(agreement, gave))
    if change is not None:
        text += _describe_change(change)
        tables.append(change_table(compared.task, change))
    name = f"{compared.first.run} and {compared.second.run}"
    return Section("compare", name, tuple(text), tables=tuple(tables))


def uncertified_note(compared: Comparison) -> list[str]:
    """Say which runs are uncertified, so that none of their verdicts is taken for a released one."""
    if not compared.uncertified:
        return []
    return [
        f"Uncertified: {' and '.join(dict.fromkeys(compared.uncertified))} released nothing. The verdicts "
        "compared are those of the last judge asked about each item; no certificate limits their errors."
    ]


def _describe_match(compared: Comparison) -> str:
    subject = {
        "answers": "Their responses differ, so the responses are compared.",
        "judges": "Their responses are the same, so the judges are compared.",
    }[compared.kind]
    return (
        f"{compared.matched:,} items match by {compared.by}; {compared.only_first:,} items of the first run "
        f"and {compared.only_second:,} of the second have no match and are left out below. {subject}"
    )


def _describe_agreement(agreement: Agreement, gave: str) -> str:
    if not agreement.labelled:
        return (
            "No matched item has a human label in both runs (labels that made a certificate do not count), "
            "so human agreement is not compared."
        )
    split = agreement.only_first + agreement.only_second
    if agreement.better is None:
        return f"Both runs {gave} a verdict on {agreement.both:,} labelled items and were right on the same."
    low, high = agreement.better
    verdict = "these labels cannot tell the two apart"
    if low > 0.5 or high < 0.5:
        verdict = f"the {'second' if low > 0.5 else 'first'} run agrees more often with human labels"
    return (
        f"Both runs {gave} a verdict on {agreement.both:,} labelled items; exactly one was right on "
        f"{split:,}: the second on {agreement.only_second:,} ({figures.interval(low, high)}, exact at 95 %), "
        f"so {verdict}."
    )


def _describe_change(change: Change) -> list[str]:
    if change.estimate is None or change.interval is None or change.label_only is None:
        return [
            f"Labels cannot show whether the second run's responses are better: {change.reason}. No label "
            "corrects the judges' own difference."
        ]
    limits = change.interval if change.usable else change.label_only
    verdict = "These labels cannot tell the two apart."
    if limits[0] > 0 or limits[1] < 0:
        verdict = f"The second run's responses are {'better' if limits[0] > 0 else 'worse'}."
    few = "" if change.usable else f" Few labels ({change.reason}): read the limits from labels alone."
    return [
        f"{verdict} The difference is taken item by item, with predictions for all matched items, corrected "
        f"by {change.labels:,} items with human labels in both runs. These items must have been drawn at "
        f"random.{few} {PPI_GUARD}"
    ]


def side_table(compared: Comparison, names: tuple[str, str] = ("First", "Second")) -> Table:
    """List items, released verdicts, failed votes, calls and cost of both runs."""
    sides = compared.first, compared.second
    lines = [
        ("Items", [count(side.items) for side in sides]),
        ("Released", [share(side.released, side.items) for side in sides]),
        ("Released, of the matched", [share(side.matched_released, compared.matched) for side in sides]),
        ("Failed votes", [share(side.failed_votes, side.votes, "no vote") for side in sides]),
        ("Calls", [count(side.calls) for side in sides]),
        ("Cost", [figures.usd(side.cost) for side in sides]),
        ("Cost per 1,000 items", [figures.usd(1000 * side.cost / max(1, side.items)) for side in sides]),
    ]
    rows = tuple(Row((words(name), *cells)) for name, cells in lines)
    return Table("The runs as a whole", (Column(""), *numbers(*names)), rows)


def verdict_table(compared: Comparison) -> Table:
    """Count matched items by what the runs gave: the same verdict, different ones, one or none."""
    gave = "gave one, uncertified" if compared.uncertified else "released"
    lines = [
        (f"Both {gave}: the same verdict", compared.same),
        (f"Both {gave}: different verdicts", compared.differ),
        (f"One of them {gave}", compared.one_released),
        (f"Neither {gave}", compared.none_released),
    ]
    rows = tuple(Row((words(name), count(n), share(n, compared.matched))) for name, n in lines)
    columns = (Column(""), Column("Items", True), Column("Share", True))
    return Table("Verdicts on matched items", columns, rows)


def _agreement_table(agreement: Agreement, gave: str) -> Table:
    rows = tuple(
        Row((words(name), count(released), share(right, released, f"no verdict was {gave}")))
        for name, (right, released) in (("First", agreement.first), ("Second", agreement.second))
    )
    titles = ("Verdicts, uncertified" if gave == "gave" else "Released", "Human agreement")
    columns = (Column("Run"), *numbers(*titles))
    return Table(f"{agreement.labelled:,} matched items with human labels in both runs", columns, rows)


def change_table(task: Task, change: Change, minus: str = "Second minus first") -> Table:
    """List the difference on each basis, with its limits."""
    rows: list[tuple[str, float | None, Ends | None]] = []
    if change.usable:
        rows.append(("From predictions and labels", change.estimate, change.interval))
    if change.label_only is not None:
        rows.append(("From labels alone", None, change.label_only))
    if change.verdicts is not None:
        rows.append(("Limits from released verdicts and certificates", None, change.verdicts))
    rows.append(("From the judges alone", change.by_judges, None))
    columns = (Column(minus), Column("Estimate", True), Column("95 % limits", True))
    cells = tuple(
        Row(
            (
                words(name),
                points_figure(task, value),
                words(points_range(task, limits)) if limits else missing(""),
            )
        )
        for name, value, limits in rows
    )
    return Table(f"{mean_name(task)[0]}, {minus[0].lower()}{minus[1:]}", columns, cells)


def points_figure(task: Task, value: float | None) -> figures.Figure:
    """Print a difference of means in points; one of ratings as it is."""
    if value is None:
        return missing("")
    return words(f"{value:+.2f}" if task.kind is TaskKind.RATING else f"{100 * value:+.1f} points")


def points_range(task: Task, limits: Ends) -> str:
    """Print limits on a difference, rounded outwards."""
    if task.kind is TaskKind.RATING:
        return f"{limits[0]:+.2f} to {limits[1]:+.2f}"
    return f"{math.floor(1000 * limits[0]) / 10:+.1f} to {math.ceil(1000 * limits[1]) / 10:+.1f} points"
