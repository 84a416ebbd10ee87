"""Report the mean over this run's items, and its change against a baseline."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from trustescalate.records import ItemsMean, Limits, Product, Run, TaskKind
from trustescalate.records.criteria import BY_CRITERION
from trustescalate.records.product import PICKED
from trustescalate.report.bars import interval_chart
from trustescalate.report.distribution_shift import conditional
from trustescalate.report.figures import Figure, count, missing, setting, words
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.sections import FOLD_ROWS, Column, KeyFigure, Row, Table, numbers

RATES = {TaskKind.PAIRWISE: "win rate of A", TaskKind.BINARY: "pass rate", TaskKind.RATING: "mean rating"}
TOTAL = "weighted total"
"""The mean over items where each has several criteria: from 0 to 1."""
BASES = {
    "all labelled": "human labels of all items",
    "equal": "equal responses in both runs",
    "predictions": "human labels and the judges' predictions (PPI++)",
    "exact": "human labels alone (Clopper-Pearson)",
    "betting": "human labels alone (betting)",
    "student": "human labels alone (Student's t)",
    "verdicts": "the certified limit on wrong verdicts",
    "none": "nothing",
}
DISJOINT = (
    "The limits from human labels and those from the certificate have no value in common: one of the two "
    "does not hold for these items. Neither decides anything; label more of these items."
)


def rate_name(kind: TaskKind, label: str) -> str:
    """Name the mean over items of a task: `label` is the first of its labels.

    >>> rate_name(TaskKind.BINARY, "pass"), rate_name(TaskKind.BINARY, "safe")
    ('pass rate', "share of 'safe'")
    """
    if kind is TaskKind.BINARY and label != "pass":
        return f"share of {label!r}"
    return RATES.get(kind, "mean")


def run_text(run: Run) -> list[str]:
    """State the mean over the run's items and its change, then what limits them."""
    product = run.product
    if product is None or not product.means:
        return [f"The mean over this run's items has no limits: {product.reason}."] if product else []
    first = product.means[0].first
    if first.basis == "none":
        return [f"The mean over this run's items has no limits: {first.reason}."]
    kind, labels = run.header.certificate.task.kind, run.header.certificate.task.labels
    name, plain = _name(run, product), kind is TaskKind.RATING
    lead = f"{name} over these {first.items:,} items: {estimate_figure(first, plain).text}"
    if first.basis == "verdicts":
        lead = conditional(lead, run)
    lead += "." if first.basis == "all labelled" else f", from {BASES[first.basis]}."
    if product.changes:
        change = product.changes[0].first
        moved = estimate_figure(change, plain, signed=True).text
        lead += f" Change against {product.baseline}: {moved}"
        lead += f" ({change.reason})." if change.basis == "none" else "."
    what = "every one of them has a human label"
    if first.basis == "verdicts":
        what = (
            "the limits allow for as many wrong verdicts among the released ones as the certificate does, "
            "and for any outcome of the abstained items"
        )
    elif first.basis != "all labelled":
        what = f"they rest on human labels of {first.labels:,} of these items"
        if first.basis == "predictions":
            what += ", which correct the judges' predictions for all of them (PPI++)"
    text = f"{rate_name(kind, labels[0])} of these items: {what}."
    if product.by == BY_CRITERION:
        text = f"{TOTAL} of these items: {what}."
    text = f"{text[0].upper()}{text[1:]}"
    if first.reason:
        text += f" A narrower interval is not shown: {first.reason}."
    return [lead, text, *([DISJOINT] if is_disjoint(product) else [])]


def _name(run: Run, product: Product) -> str:
    task = run.header.certificate.task
    name = TOTAL if product.by == BY_CRITERION else rate_name(task.kind, task.labels[0])
    return f"{name[0].upper()}{name[1:]}"


def run_charts(run: Run, pooled: Sequence[Interval] = ()) -> tuple[Intervals, ...]:
    """Draw the means over the run's items, with those of `pooled` rows, and the changes."""
    product, plain = run.product, run.header.certificate.task.kind is TaskKind.RATING
    if product is None or not product.means:
        return ()
    least = _required(product, "min_rate")
    charts = interval_chart(
        f"{_name(run, product)}: this run's items" + (" and the population" if pooled else ""),
        [*(_bar(mean, "this run's items") for mean in product.means), *pooled],
        percent=not plain,
        reference=least,
        reference_name="" if least is None else "required",
    )
    if not product.changes:
        return charts
    drop, gain = _required(product, "max_drop"), _required(product, "min_gain")
    line, named = (0.0, "no change")
    if drop is not None or gain is not None:
        line, named = (
            (gain, "required gain") if gain is not None else (-(drop or 0.0), "largest drop allowed")
        )
    return charts + interval_chart(
        f"{_name(run, product)}: change against {product.baseline}",
        [_bar(change, "all matched items") for change in product.changes],
        percent=not plain,
        signed=True,
        reference=line,
        reference_name=named,
    )


def _required(product: Product, key: str) -> float | None:
    return next((each.required for each in product.requirements if each.key == key and not each.about), None)


def _bar(mean: ItemsMean, whole: str) -> Interval:
    limits = mean.first
    name = whole if mean.group is None else mean.group
    if limits.basis == "none":
        return Interval(name, None, None, "not measured")
    sure = setting(round(limits.confidence, 6)).text
    note = f"{limits.labels:,} labels, {sure}" if limits.labels else f"from verdicts, {sure}"
    return Interval(name, limits.estimate, (limits.low, limits.high), note)


def is_disjoint(product: Product) -> bool:
    """Whether limits of two kinds exclude each other anywhere."""
    return any(mean.disjoint for mean in (*product.means, *product.changes))


def excludes_pooled(run: Run) -> bool:
    """Whether the 95 % interval of the mean over labelled rows and run excludes that of the run's items."""
    overall, product = run.overall, run.product
    if overall is None or product is None or not product.means or product.means[0].first.basis == "none":
        return False
    pooled = overall.interval if overall.usable else overall.label_only
    first = product.means[0].first
    return pooled is not None and (pooled[1] < first.low or first.high < pooled[0])


def product_figure(run: Run) -> list[KeyFigure]:
    """Make the key figure of the mean over the run's items; none where nothing limits it.

    An uncertified run then has one without a value: its labelled rows are among its items.
    """
    product, task = run.product, run.header.certificate.task
    if product is None or not product.means:
        return []
    first = product.means[0].first
    if first.basis == "none":
        why = PICKED if product.picked else first.reason
        return [KeyFigure(_name(run, product), missing(first.reason), why)] if run.uncertified else []
    made = mean_figure(_name(run, product), first, task.kind is TaskKind.RATING)
    if first.basis == "verdicts":
        made = replace(made, detail=conditional(made.detail, run))
    return [made]


def mean_figure(
    name: str, first: Limits, plain: bool, *, signed: bool = False, items: str = "items"
) -> KeyFigure:
    """Make the key figure of a mean over items, or of a change: the estimate, then limits and basis."""
    whole = estimate_figure(first, plain, signed=signed)
    figure, _, interval = whole.text.partition(" (")
    detail = f"these {first.items:,} {items}, from {BASES[first.basis]}"
    if interval:
        detail = f"{interval.removesuffix(')')}; {detail}"
    else:
        figure, _, sure = figure.partition(", ")
        detail = f"{sure}; {detail}"
    return KeyFigure(name, Figure(whole.value, figure), detail)


def run_tables(run: Run) -> list[Table]:
    """Make the tables of the means over the run's items and of the changes against the baseline."""
    product, task = run.product, run.header.certificate.task
    if product is None or not product.means:
        return []
    name, plain = rate_name(task.kind, task.labels[0]), task.kind is TaskKind.RATING
    tables = [_table(f"{name[0].upper()}{name[1:]} of this run's items", product, product.means, plain)]
    if product.changes:
        matched = product.changes[0]
        caption = (
            f"Change of the {name} against {product.baseline}, on {matched.matched:,} matched items "
            f"({matched.same:,} with equal responses)"
        )
        tables.append(_table(caption, product, product.changes, plain, signed=True))
    return tables


def _table(
    caption: str,
    product: Product,
    means: Sequence[ItemsMean],
    plain: bool,
    *,
    signed: bool = False,
) -> Table:
    rows = []
    for mean in means:
        group = "all" if mean.group is None else f"{product.by} = {mean.group}"
        if mean.group is None and product.by == BY_CRITERION:
            group = TOTAL
        for limits in filter(None, (mean.first, mean.second)):
            figure = estimate_figure(limits, plain, signed=signed)
            rows.append(
                Row((
                    words(group),
                    figure,
                    words(BASES[limits.basis], limits.reason),
                    count(limits.items),
                    count(limits.labels),
                ))
            )  # fmt: skip
    columns = (
        Column("Items"),
        Column("Estimate and limits"),
        Column("Rests on"),
        *numbers("Items", "Labels"),
    )
    return Table(caption, columns, tuple(rows), folded=len(rows) > FOLD_ROWS)


def estimate_figure(limits: Limits, plain: bool, *, signed: bool = False) -> Figure:
    """Print an estimate with its limits, rounded outwards, and their confidence.

    A rating is `plain`; other means are percentages, and `signed` differences of these are points.

    >>> estimate_figure(Limits(0.0512, 0.0401, 0.0621, 0.95, "exact", 300, 100), False).text
    '5.1 % (4.0 to 6.3 %, with probability ≥ 95 %)'
    >>> estimate_figure(Limits(None, -0.05, 0.01, 0.85, "verdicts", 300), False, signed=True).text
    '-5.0 to +1.0 points, with probability ≥ 85 %'
    """
    if limits.basis == "none":
        return Figure(None, "not measured", limits.reason)
    unit = "" if plain else " points" if signed else " %"
    low = _shown(rounded(limits.low, plain, ROUND_FLOOR), plain, signed)
    high = _shown(rounded(limits.high, plain, ROUND_CEILING), plain, signed)
    if limits.low == limits.high:
        interval = "every item is labelled" if limits.basis == "all labelled" else "the responses are equal"
    else:
        sure = setting(round(limits.confidence, 6)).text
        interval = f"{low} to {high}{unit}, with probability ≥ {sure}"
    if limits.estimate is None:
        return Figure(interval, interval)
    estimate = Decimal(repr(limits.estimate)).quantize(_places(plain))
    return Figure(float(estimate), f"{_shown(estimate, plain, signed)}{unit} ({interval})")


def rounded(value: float, plain: bool, rounding: str) -> Decimal:
    """Round a limit as it is printed; the last bits of a sum are no reason to lose a step."""
    return Decimal(repr(round(value, 9))).quantize(_places(plain), rounding)


def _places(plain: bool) -> Decimal:
    return Decimal("0.01") if plain else Decimal("0.001")


def _shown(value: Decimal, plain: bool, signed: bool) -> str:
    sign = "+" if signed and value else ""
    return f"{value:{sign}.2f}" if plain else f"{value * 100:{sign}.1f}"
