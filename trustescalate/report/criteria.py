"""Report each criterion with its guarantee and its mean, and the weighted total."""

from trustescalate.records import Overall, Run
from trustescalate.records.criteria import Criteria, CriterionMean
from trustescalate.report import figures
from trustescalate.report.bars import interval_chart, listed
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.overall import PPI_GUARD, WITHHELD, limits_figure, mean_figure
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.product import run_tables, run_text
from trustescalate.report.sections import FOLD_ROWS, Column, Row, Section, Table, numbers

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
    method = (
        "Judges answer all criteria of an item in one request. "
        + ("" if run.uncertified else GUARANTEES)
        + "Means are over all items, abstained ones included, each on the scale of its criterion; intervals "
        "of means over labelled rows and run hold one by one."
    )
    columns = (
        Column("Criterion"),
        *numbers("Weight", "Certified agreement", "Released", "Labels", "Scale", "Mean", INTERVAL),
    )
    rows = [Row(_cells(each)) for each in criteria.each]
    here, tables, lead = run_text(run), run_tables(run), _lead(run, criteria)
    withheld = any(tier.raised for tier in run.shift) or _exclude_each_other(run, criteria)
    charts = _chart(run, criteria, withheld=withheld)
    if withheld:
        return Section("criteria", "Criteria", (lead, *here, WITHHELD, method), charts, tuple(tables))
    tables.append(Table("Means over labelled rows and run", columns, tuple(rows)))
    if criteria.total.estimate is not None:
        tables.append(_total_table(criteria))
    text = (lead, *here, method, _total_text(criteria), PPI_GUARD)
    return Section("criteria", "Criteria", text, charts, tuple(tables))


def _lead(run: Run, criteria: Criteria) -> str:
    names = [each.name for each in criteria.each]
    lead = f"{len(names):,} criteria: {listed(names, FOLD_ROWS)}."
    if run.uncertified:
        return f"{lead} None is certified."
    certified = [each for each in criteria.each if each.certified]
    parts = [f"{each.name} at least {figures.complement(each.alpha).text}" for each in certified]
    if not parts:
        return f"{lead} None is certified."
    return f"{lead} Certified agreement with human labels: {listed(parts, FOLD_ROWS)}."


def _chart(run: Run, criteria: Criteria, *, withheld: bool) -> tuple[Intervals, ...]:
    """Draw each mean as its place between the ends of its scale, as the weighted total takes it.

    Limits are those for this run's items where there are any, else those over labelled rows and run.
    """
    here = {mean.group: mean.first for mean in run.product.means} if run.product else {}
    bars = []
    for each in criteria.each:
        if each.scale is None or each.scale[0] == each.scale[1]:
            continue
        low, high = each.scale
        first = here.get(each.name)
        mean, limits = each.mean.estimate if each.mean.usable else None, each.mean.label_only
        limits = each.mean.interval if each.mean.usable else limits
        if first is not None and first.basis != "none":
            mean, limits = first.estimate, (first.low, first.high)
        elif withheld:
            continue
        value = "" if mean is None else f"{mean:.2f} on "
        place = None if mean is None else (mean - low) / (high - low)
        ends = None if limits is None else _places(limits, low, high)
        bars.append(Interval(each.name, place, ends, f"{value}{low:g} to {high:g}"))
    return interval_chart("Mean of each criterion, as a place on its scale from lowest to highest", bars)


def _places(limits: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    return (limits[0] - low) / (high - low), (limits[1] - low) / (high - low)


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
