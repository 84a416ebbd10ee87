"""Report the mean over all items: win rate, pass rate or mean rating, by prediction-powered inference."""

from trustescalate.records import Certificate, Overall, Run, Stratum, Task, TaskKind
from trustescalate.report import figures
from trustescalate.report.bars import interval_chart, listed
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.product import excludes_pooled, run_charts, run_tables, run_text
from trustescalate.report.sections import FOLD_ROWS, Column, KeyFigure, Row, Section, Table, numbers
from trustescalate.stats.inference import MIN_CLUSTERS, MIN_LABELS, MIN_RARE

PPI_GUARD = (
    f"The interval that uses predictions is asymptotic. It is shown from {MIN_LABELS} labels on, of which "
    f"{MIN_RARE} differ from the most common one, on {MIN_CLUSTERS} independent items (one per cluster), "
    f"where the errors of the predictions rest on {MIN_RARE} labels or more: under these conditions its "
    "measured failure rate was about the nominal one. With fewer labels, use the interval from labels "
    "alone."
)
_HEADINGS = {TaskKind.PAIRWISE: "Win rate", TaskKind.BINARY: "Pass rate", TaskKind.RATING: "Mean rating"}
_BASES = {
    "exact": "From labels alone, exact (Clopper-Pearson)",
    "betting": "From labels alone, exact (betting)",
    "student": "From labels alone (Student's t over clusters or labels)",
}
_AT_CALIBRATION = (
    "The estimate was made at calibration, from the certification rows and the unlabelled rows of the "
    "pilot as judged by the last judge, in the same way whether or not anything is certified."
)
_IN_A_RUN = (
    "The labels behind the certificate of this run are used here too: the limits have a "
    "failure probability of 5 % over all calibrations, not over those alone that gave a certificate. The "
    "report of a calibration has such an estimate either way, from the last judge's predictions."
)
_UNCERTIFIED = (
    "No certificate is needed: human labels of a sample of the items remove the bias of the last judge asked."
)

WITHHELD = (
    "The mean over the labelled rows and this run's items together is withheld: the distribution-shift "
    "check, or the limits for these items, say that the two differ."
)


def is_withheld(run: Run) -> bool:
    """Whether labelled rows and run differ, so that no mean over both is printed."""
    return any(tier.raised for tier in run.shift) or excludes_pooled(run)


def overall_section(certificate: Certificate, run: Run | None) -> Section | None:
    """Report the mean over all items, which released verdicts alone cannot estimate.

    Without a run it is the estimate made at calibration, certified or not. None where labels have no mean.
    """
    overall, task = certificate.overall if run is None else run.overall, certificate.task
    if overall is None or task.kind is TaskKind.CHOICE:
        return None
    slug, title = "mean-over-all-items", f"{_HEADINGS[task.kind]} over all items"
    here, tables = ([], []) if run is None else (run_text(run), run_tables(run))
    charts = () if run is None else run_charts(run)
    if run is not None and run.uncertified and tables:  # the labelled rows are among its items
        return Section(slug, title, tuple(here), charts, tuple(tables))
    if run is not None and is_withheld(run):
        return Section(slug, title, (*here, WITHHELD), charts, tuple(tables))
    if overall.estimate is None:
        why = f"The mean over labelled rows and other items could not be measured: {overall.reason}."
        return Section(slug, title, (*here, why), charts, tuple(tables))
    name, meaning = mean_name(task)
    unit = "clusters of items" if overall.grouped else "items"
    others = "the other rows" if run is None else "this run's items"
    why = (
        "The mean over released items alone is biased, since easy items are released first. The estimate "
        "therefore uses"
    )
    abstained = "abstained ones included, "
    if run is not None and run.uncertified:
        why, abstained = "The estimate uses", ""
    lead, pooled = _lead(task, overall), _bars(overall)
    if run is not None and run.product is not None and run.product.means:
        known = run.product.means[0].first.basis != "none"
        lead = f"{here[0]} {lead}" if known else f"{lead} {here[0]}"
    text = [
        lead,
        *here[1:],
        f"{meaning}, in the population that the labelled rows and {others} are drawn from. {why} "
        f"predictions for all {overall.items:,} {unit}, {abstained}which {overall.labels:,} human labels "
        "correct (prediction-powered inference, PPI++).",
        _AT_CALIBRATION if run is None else _UNCERTIFIED if run.uncertified else _IN_A_RUN,
        PPI_GUARD,
    ]
    if not overall.usable:
        text.append(
            f"There are too few labels for an interval that uses predictions ({overall.reason}): use the "
            "interval from labels alone."
        )
    if overall.verdicts is not None:
        text.append(
            "The last line of the table needs no labels beyond the certificate: it allows for the certified "
            "share of wrong verdicts, and for any outcome of the abstained items."
        )
    tables.append(_overall_table(task, overall, name))
    charts = (run is not None and run_charts(run, pooled)) or _pooled_chart(task, pooled)
    if overall.strata:
        text.append(_strata_text(overall))
        tables.append(_strata_table(task, overall, name))
        charts += _strata_chart(task, overall)
    return Section(slug, title, tuple(text), charts, tuple(tables))


def _lead(task: Task, overall: Overall) -> str:
    """State the mean in the population with its limits."""
    name, plain = mean_name(task)[0], task.kind is TaskKind.RATING
    if overall.usable:
        mean, limits = mean_figure(overall.estimate, plain).text, limits_figure(overall.interval, plain).text
        basis = f"{overall.labels:,} human labels and the judges' predictions"
        return f"{name} in the population: {mean} ({INTERVAL} {limits}), from {basis}."
    limits = limits_figure(overall.label_only, plain).text
    return f"{name} in the population: {limits} ({INTERVAL}), from {overall.labels:,} human labels alone."


def _bars(overall: Overall) -> list[Interval]:
    note, name = f"{overall.labels:,} labels, 95 %", "the population"
    if overall.usable:
        return [Interval(name, overall.estimate, overall.interval, note)]
    return [Interval(name, None, overall.label_only, note)]


def _pooled_chart(task: Task, bars: list[Interval]) -> tuple[Intervals, ...]:
    return interval_chart(
        f"{mean_name(task)[0]} over all items", bars, percent=task.kind is not TaskKind.RATING
    )


def _strata_chart(task: Task, overall: Overall) -> tuple[Intervals, ...]:
    bars = []
    for each in overall.strata:
        limits = each.interval if each.usable else each.label_only
        mean = each.estimate if each.usable else None
        bars.append(Interval(_stratum_name(each), mean, limits, f"{each.labels:,} labels"))
    title = f"{mean_name(task)[0]} per stratum, 95 % simultaneous limits"
    return interval_chart(title, bars, percent=task.kind is not TaskKind.RATING)


def _strata_text(overall: Overall) -> str:
    pooled = [_stratum_name(each) for each in overall.strata if each.pooled]
    text = "The mean over all items is stratified: each stratum has the weight of its share of all rows"
    if len(pooled) == len(overall.strata):
        text = f"No two strata have {MIN_CLUSTERS} labels each, so the mean over all items is not stratified"
    elif pooled:
        text += f", and strata with few labels are pooled ({listed(pooled, FOLD_ROWS)})"
    return (
        f"{text}. The limits of all {len(overall.strata):,} strata hold simultaneously with probability 95 "
        "%, so they are wider than for one stratum alone."
    )


def _stratum_name(each: Stratum) -> str:
    return "no stratum named" if each.name is None else each.name


def _strata_table(task: Task, overall: Overall, name: str) -> Table:
    plain, rows = task.kind is TaskKind.RATING, []
    for each in overall.strata:
        cells = (
            *(words(_stratum_name(each)), count(each.items), count(each.labels)),
            mean_figure(each.estimate, plain, each.reason),
            limits_figure(each.interval if each.usable else None, plain),
            limits_figure(each.label_only, plain),
        )
        rows.append(Row(cells))
    titles = numbers("Rows", "Labels", name, "95 % simultaneous limits", "From labels alone")
    caption = f"{name} per stratum"
    return Table(caption, (Column("Stratum"), *titles), tuple(rows), folded=len(rows) > FOLD_ROWS)


def mean_name(task: Task) -> tuple[str, str]:
    """Name the mean over all items of a task, and state its meaning."""
    if task.kind is TaskKind.PAIRWISE:
        tie = ", a tie counting one half" if len(task.labels) > 2 else ""
        return "Win rate of A", f"How often annotators prefer A{tie}"
    if task.kind is TaskKind.RATING:
        return "Mean rating", "The mean human rating"
    return f"Share of {task.labels[0]!r}", f"How often annotators choose {task.labels[0]!r}"


def _overall_table(task: Task, overall: Overall, name: str) -> Table:
    lines = [("From predictions and labels", overall.estimate, overall.interval)] if overall.usable else []
    lines.append((_BASES[overall.label_basis], None, overall.label_only))
    if overall.verdicts is not None:
        lines.append(("Limits from released verdicts alone", None, overall.verdicts))
    plain = task.kind is TaskKind.RATING
    rows = tuple(
        Row((words(basis), mean_figure(mean, plain), limits_figure(limits, plain)))
        for basis, mean, limits in lines
    )
    columns = (Column(name), *numbers("Estimate", INTERVAL))
    return Table(f"{name}, abstained items included", columns, rows)


def overall_figure(run: Run) -> list[KeyFigure]:
    """Make the key figure of the mean over all items; none where it was not measured."""
    overall, task = run.overall, run.header.certificate.task
    if overall is None or overall.estimate is None or task.kind is TaskKind.CHOICE:
        return []
    plain = task.kind is TaskKind.RATING
    name, limits = mean_name(task)[0], overall.interval if overall.usable else overall.label_only
    used = f"{overall.labels:,} human labels, {overall.items:,} rows"
    figure = mean_figure(overall.estimate if overall.usable else None, plain, "too few labels")
    return [KeyFigure(name, figure, f"{limits_figure(limits, plain).text}; {used}")]


def mean_figure(value: float | None, plain: bool, why: str = "") -> Figure:
    """Print a mean as a `plain` number (ratings, strengths) or as a share."""
    if value is None:
        return missing(why)
    return figures.decimal(value, why, 2) if plain else figures.ratio(value, 1.0)


def limits_figure(limits: tuple[float, float] | None, plain: bool) -> Figure:
    """Print the limits of a mean as `mean_figure` prints the mean."""
    if limits is None:
        return missing("")
    return words(f"{limits[0]:.2f} to {limits[1]:.2f}" if plain else figures.interval(*limits))
