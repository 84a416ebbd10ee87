"""Lay out the gate for the first screen: what it checks, its outcome, and the product as charts."""

from collections.abc import Sequence
from dataclasses import replace

from trustescalate.config import GateTable
from trustescalate.records import ItemsMean, Product, Requirement, TaskKind
from trustescalate.records.criteria import BY_CRITERION
from trustescalate.report.distribution_shift import IF_ALIKE, is_doubted
from trustescalate.report.figures import setting, words
from trustescalate.report.gate import Verdict
from trustescalate.report.gate_product import product_checks
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.product import TOTAL, estimate_figure, rate_name
from trustescalate.report.sections import Column, Release, Report, Row, Section, Table

MOST_SHOWN = 3
_ORDER = ("fail", "undecided")


def with_release(report: Report, verdict: Verdict, policy: GateTable) -> Report:
    """The report with the gate's verdict: on the first screen, and with every check as the first section."""
    given = release(report, verdict, policy)
    return replace(report, release=given, sections=(gate_section(given, report), *report.sections))


def release(report: Report, verdict: Verdict, policy: GateTable) -> Release:
    """Lay out the verdict of a gate on this report: the product first, then what did not pass."""
    checks = [check for check in verdict.checks if check.required != "stated"]
    scope = next(check.observed for check in verdict.checks if check.name == "what is checked")
    checked, _, why = scope.partition(": ")
    passed = sum(check.status == "pass" for check in checks)
    product = product_checks(report, policy)
    lost = sorted(
        (check for check in checks if check.status != "pass" and check not in product),
        key=lambda check: _ORDER.index(check.status),
    )
    return Release(
        status=verdict.status,
        about_product=bool(product),
        shown=(*product, *lost)[:MOST_SHOWN],
        summary=f"{passed} of {len(checks)} checks passed. Checked: {checked}.",
        checks=tuple(checks),
        note=f"{why[:1].upper()}{why[1:]}." if why else "",
        mean="" if product else _mean(report),
        pictures=() if report.product is None else product_pictures(report, report.product),
    )


def _mean(report: Report) -> str:
    product = report.product
    if product is None or not product.means or product.means[0].first.basis == "none":
        return ""
    text = estimate_figure(product.means[0].first, report.task.kind is TaskKind.RATING).text
    if product.means[0].first.basis == "verdicts" and is_doubted(report.measures.shift_alarms):
        text = f"{text}, {IF_ALIKE}"
    return f"{_rate(report, product)} of these items: {text}."


def product_pictures(report: Report, product: Product) -> tuple[Intervals, ...]:
    """Draw the means of baseline and candidate, and the change, where [gate] requires something of them."""
    required = product.requirements
    pictures = []
    rates = [each for each in required if each.key == "min_rate"]
    moves = [each for each in required if each.key != "min_rate"]
    name = _rate(report, product)
    if product.baseline_mean is not None and moves:
        pair = [("baseline", product.baseline_mean), ("this run", product.means[0])]
        pictures.append(_chart(report, f"{name}: baseline against this run", pair, rates))
    elif rates:
        means = [(_group(product, mean), mean) for mean in product.means]
        pictures.append(_chart(report, f"{name} of these items", means, rates))
    if moves and product.changes:
        changes = [(_group(product, change), change) for change in product.changes]
        pictures.append(
            _chart(report, f"Change of the {name[0].lower()}{name[1:]}", changes, moves, signed=True)
        )
    return tuple(pictures)


def _rate(report: Report, product: Product) -> str:
    rate = TOTAL if product.by == BY_CRITERION else rate_name(report.task.kind, report.task.labels[0])
    return f"{rate[0].upper()}{rate[1:]}"


def _group(product: Product, mean: ItemsMean) -> str:
    return "all items" if mean.group is None else f"{product.by} = {mean.group}"


def _chart(
    report: Report,
    title: str,
    rows: Sequence[tuple[str, ItemsMean]],
    required: Sequence[Requirement],
    *,
    signed: bool = False,
) -> Intervals:
    plain = report.task.kind is TaskKind.RATING
    bars, texts = [], []
    for name, mean in rows:
        limits = mean.first
        text = estimate_figure(limits, plain, signed=signed).text
        texts.append(f"{name}: {text}")
        span = None if limits.basis == "none" else (limits.low, limits.high)
        bars.append(Interval(name, limits.estimate, span))
    reference, label = _reference(required, signed)
    alt = f"{title}. {'; '.join(texts)}.{f' The line is {label}.' if label else ''}"
    points = signed and not plain
    title += (", in points" if points else "") + _level(rows)
    return Intervals(title, tuple(bars), not plain, alt, reference, label, points)


def _level(rows: Sequence[tuple[str, ItemsMean]]) -> str:
    """The probability that each interval of a chart holds with, or at least does."""
    sure = [row.first.confidence for _, row in rows if row.first.basis != "none"]
    return f" (limits with probability ≥ {setting(round(min(sure), 6)).text})" if sure else ""


def _reference(required: Sequence[Requirement], signed: bool) -> tuple[float | None, str]:
    """The requirement on all items as a line; without one, no change."""
    for each in required:
        if each.about is None:
            value = -each.required if each.key == "max_drop" else each.required
            names = {"max_drop": "the largest drop allowed", "min_gain": "the least gain required"}
            return value, names.get(each.key, "the least rate required")
    return (0.0, "no change") if signed else (None, "")


def gate_section(given: Release, report: Report) -> Section:
    """List every check of the gate with what it requires; the claim is not repeated."""
    rows = tuple(
        Row(
            (
                words(check.name),
                words(check.status),
                words(check.required),
                words(check.observed, "" if check.message.startswith(report.claim) else check.message),
            )
        )
        for check in given.checks
    )
    columns = (Column("Check"), Column("Outcome"), Column("Required"), Column("Seen"))
    text = f"{given.status.capitalize()}: {given.summary}"
    return Section(
        "release-gate",
        "Release gate: every check",
        (text, *([given.note] if given.note else [])),
        tables=(Table("Checks of [gate]", columns, rows),),
    )
