"""Report each criterion with its guarantee and its mean, and the weighted total."""

from trustescalate.records import Overall, Run
from trustescalate.records.criteria import Criteria, CriterionMean
from trustescalate.report import figures
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.overall import PPI_GUARD, WITHHELD, limits_figure, mean_figure
from trustescalate.report.product import run_tables, run_text
from trustescalate.report.sections import Column, Row, Section, Table, numbers

NOT_CERTIFIED = "nothing is certified for this criterion"
GUARANTEES = (
    "Each criterion has a guarantee of its own, and all of them hold together with the probability that the "
    "claim states. "
)
NO_ORDER = "labels without an order have no mean"


def criteria_section(run: Run) -> Section | None:
    """Report the criteria of a run; None where it has none."""
    criteria = run.criteria
    if criteria is None:
        return None
    text = [
        "Judges answer all criteria of an item in one request. "
        + ("" if run.uncertified else GUARANTEES)
        + "Means are over all items, abstained ones included, each on the scale of its criterion; intervals "
        "of means over labelled rows and run hold one by one.",
        _total_text(criteria),
        PPI_GUARD,
    ]
    columns = (
        Column("Criterion"),
        *numbers("Weight", "Certified agreement", "Released", "Labels", "Scale", "Mean", INTERVAL),
    )
    rows = [Row(_cells(each)) for each in criteria.each]
    here, tables = run_text(run), run_tables(run)
    if any(tier.raised for tier in run.shift) or _exclude_each_other(run, criteria):
        return Section("criteria", "Criteria", (*text[:1], *here, WITHHELD), tables=tuple(tables))
    tables.append(Table("Means over labelled rows and run", columns, tuple(rows)))
    if criteria.total.estimate is not None:
        tables.append(_total_table(criteria))
    return Section("criteria", "Criteria", (*text[:1], *here, *text[1:]), tables=tuple(tables))


def _exclude_each_other(run: Run, criteria: Criteria) -> bool:
    """Whether the limits of a mean over this run's items and of one over labelled rows too are disjoint."""
    pooled: dict[str | None, Overall] = {each.name: each.mean for each in criteria.each}
    pooled[None] = criteria.total
    for mean in () if run.product is None else run.product.means:
        known, first = pooled[mean.group], mean.first
        interval = known.interval if known.usable else known.label_only
        if first.basis != "none" and interval and (interval[1] < first.low or first.high < interval[0]):
            return True
    return False


def _cells(each: CriterionMean) -> tuple[figures.Figure, ...]:
    certified = figures.complement(each.alpha) if each.certified else missing(NOT_CERTIFIED)
    mean = each.mean
    return (
        words(each.name),
        figures.decimal(each.weight, "", 2),
        certified,
        share(each.released, each.rows),
        count(mean.labels),
        missing(NO_ORDER) if each.scale is None else words(f"{each.scale[0]:g} to {each.scale[1]:g}"),
        mean_figure(mean.estimate if mean.usable else None, plain=True, why=mean.reason),
        limits_figure(mean.interval if mean.usable else mean.label_only, plain=True),
    )


def _total_text(criteria: Criteria) -> str:
    if criteria.total.estimate is None:
        return f"There is no weighted total: {criteria.total.reason}."
    weights = ", ".join(f"{each.name} {each.weight:g}" for each in criteria.each)
    return (
        "The weighted total is the mean over items of the weighted mean of their values, each taken as its "
        f"place between the ends of its scale, from 0 to 1 (weights: {weights}). An item is one unit."
    )


def _total_table(criteria: Criteria) -> Table:
    total = criteria.total
    plain = True
    lines = [("From predictions and labels", total.estimate, total.interval)] if total.usable else []
    lines.append(("From labels alone", None, total.label_only))
    rows = tuple(
        Row((words(basis), mean_figure(mean, plain, total.reason), limits_figure(limits, plain)))
        for basis, mean, limits in lines
    )
    columns = (Column("Weighted total, from 0 to 1"), *numbers("Estimate", INTERVAL))
    return Table("Weighted total over all criteria", columns, rows)
