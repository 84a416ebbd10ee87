"""Render the comparison of two runs as a section of tables and text."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from trustescalate.analysis.comparison_change import NAMES, Finding, change_table, find_better
from trustescalate.records import Product, Task
from trustescalate.report import figures
from trustescalate.report.figures import count, share, words
from trustescalate.report.sections import Column, Row, Section, Table, numbers
from trustescalate.report.terminal import section_lines

Ends = tuple[float, float]


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
    """Two runs with `matched` items; `kind` is what differs: the answers, or the judges alone.

    `change` of answers whose labels have an order is the gate's, and `by_judges` the difference of the
    predictions, which no label corrects.
    """

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
    change: Product | None
    by_judges: float | None
    task: Task
    uncertified: tuple[str, ...] = ()  # runs without a certificate: nothing of them is released

    @property
    def finding(self) -> Finding | None:
        """Which responses are better; None where no change is estimated."""
        return None if self.change is None else find_better(self.change, self.task)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        finding = self.finding
        return asdict(self) | {"finding": None if finding is None else finding._asdict()}

    def lines(self) -> list[str]:
        """For a terminal."""
        return section_lines(comparison_section(self))


def comparison_section(compared: Comparison) -> Section:
    """Turn a comparison into a section of text and tables."""
    agreement, change, finding = compared.agreement, compared.change, compared.finding
    gave = "gave" if compared.uncertified else "released"
    text = uncertified_note(compared) + ([] if finding is None else [*finding.claims])
    text += [_describe_match(compared), _describe_agreement(agreement, gave)]
    tables = [side_table(compared), verdict_table(compared)]
    if agreement.labelled:
        tables.append(_agreement_table(agreement, gave))
    if change is not None:
        tables.append(change_table(change, compared.task, compared.by_judges))
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
        f"{compared.matched:,} items match by {compared.by}; {compared.only_first:,} items of the "
        f"baseline and {compared.only_second:,} of the candidate have no match and are left out below. "
        f"{subject}"
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
        verdict = f"the {'candidate' if low > 0.5 else 'baseline'} agrees more often with human labels"
    return (
        f"Both runs {gave} a verdict on {agreement.both:,} labelled items; exactly one was right on "
        f"{split:,}: the candidate on {agreement.only_second:,} ({figures.interval(low, high)}, exact at "
        f"95 %), so {verdict}."
    )


def side_table(compared: Comparison) -> Table:
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
    return Table("The runs as a whole", (Column(""), *numbers(*NAMES)), rows)


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
        for name, (right, released) in zip(NAMES, (agreement.first, agreement.second), strict=True)
    )
    titles = ("Verdicts, uncertified" if gave == "gave" else "Released", "Human agreement")
    columns = (Column("Run"), *numbers(*titles))
    return Table(f"{agreement.labelled:,} matched items with human labels in both runs", columns, rows)
