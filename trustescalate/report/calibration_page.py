"""Complete the report of a calibration: what a run would release and cost, or what no certificate leaves."""

from dataclasses import replace

from trustescalate.calibration.attainable import Attainable, best_judge
from trustescalate.records import Certificate
from trustescalate.report import figures
from trustescalate.report.attainable import Command, attainable_section, fresh_labels, smallest
from trustescalate.report.certificate_figures import (
    NEVER,
    covered_rows,
    expected_cost,
    predicted_coverage,
    used_tests,
)
from trustescalate.report.drawings.power import reached, round_up
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.pictures import Flow, FlowTier, Picture, Power
from trustescalate.report.sections import Column, KeyFigure, Report, Row, Section, Table, numbers

NO_VOTES = "the votes of this calibration are not in place"
TRIALS = 40
"""Draws of rows for each point of the power curve."""


def complete(
    report: Report, certificate: Certificate, seen: Attainable | None, power: Power | None, command: Command
) -> Report:
    """Add figures, charts and sections to the report of a calibration without a run."""
    *first, provenance = report.sections
    sections: list[Section] = [] if power is None else [power_section(power, certificate)]
    pictures: list[Picture] = [*report.pictures, *([] if power is None else [power])]
    if seen is not None:
        sections.insert(0, attainable_section(seen, certificate, command, power))
    if certificate.status == "none":
        shown = report.key_figures
        if certificate.claim != "expected":
            human = (figure for figure in report.key_figures if figure.name.startswith("Human"))
            shown = (*_without(certificate, seen, power), *human)
        return replace(
            report,
            advice=" ".join(filter(None, [report.advice, _whole_test(certificate, seen, power)])),
            key_figures=shown,
            pictures=tuple(pictures),
            sections=(*sections, *first, provenance),
        )
    expected = expected_section(certificate)
    return replace(
        report,
        pictures=tuple(pictures),
        sections=(*([] if expected is None else [expected]), *sections, *first, provenance),
    )


# ── no certificate ───────────────────────────────────────────────────────────────────────────────


def _without(certificate: Certificate, seen: Attainable | None, power: Power | None) -> tuple[KeyFigure, ...]:
    """What the rows say without a certificate: the best judge, the smallest α, and the labels needed."""
    best = best_judge(certificate)
    judge = KeyFigure("Best single judge", missing("no judge judged a labelled row"), "no labelled row")
    if best is not None:
        detail = f"{best.judge} agrees with human labels; {figures.interval(*best.interval)}; uncertified"
        judge = KeyFigure("Best single judge", share(best.agreements, best.n), detail)
    alpha = figures.setting(certificate.alpha).text
    needed, why = missing(NO_VOTES), NO_VOTES
    if seen is not None:
        needed, why = fresh_labels(seen, certificate, power)
    return judge, _smallest(certificate, seen), KeyFigure(f"Fresh labels for α = {alpha}", needed, why)


def _whole_test(certificate: Certificate, seen: Attainable | None, power: Power | None) -> str:
    """State beside the labels of one policy, which the advice names, those of the whole test."""
    if seen is None or power is None or seen.needed is None:
        return ""
    needed, alpha = fresh_labels(seen, certificate, power)[0], figures.setting(certificate.alpha).text
    if needed.value is None:
        return ""
    rows = reached(power)
    number = f"more than {power.rows[-1]:,}" if rows is None else needed.text
    return (
        f"With the whole test, repeated on these rows, it takes {number} rows for a certificate at "
        f"α = {alpha} with a chance of {figures.setting(power.target).text}."
    )


def _smallest(certificate: Certificate, seen: Attainable | None) -> KeyFigure:
    name = "Smallest α that these rows pass"
    lowest = None if seen is None else smallest(seen, certificate)
    if lowest is None:
        why = NO_VOTES if seen is None else "no α below 50 % would pass"
        return KeyFigure(name, missing(why), why)
    who, level = lowest
    detail = (
        f"{who} releases {share(level.accepted, level.rows).text} of the rows; chosen after looking, so it "
        f"guarantees nothing; asked: {figures.setting(certificate.alpha).text}"
    )
    return KeyFigure(name, figures.setting(level.alpha), detail)


# ── a certificate, and no run yet ────────────────────────────────────────────────────────────────


def expected_section(certificate: Certificate) -> Section | None:
    """Report what a run would release and cost by the certification rows; None for a batch, or by region."""
    if certificate.status != "certified" or certificate.batch is not None or certificate.region is not None:
        return None
    lower, cost = predicted_coverage(certificate), expected_cost(certificate)
    last = certificate.diagnostics[-1].cost if certificate.diagnostics else 0.0
    money = ""
    if cost is not None and last:
        amounts = figures.usd(1000 * cost).text, figures.usd(1000 * last).text
        money = f" 1,000 items cost about {amounts[0]}, against {amounts[1]} with the last judge alone."
    lead = (
        f"A run is expected to release a verdict for at least {lower.text} of such items, and to send the "
        f"rest to human review.{money}"
    )
    more = (
        "Coverage is a lower bound from the certification rows. Cost is their mean with full ensembles; a "
        "run stops votes early where the others cannot change the outcome, and pays less. `trustescalate run "
        "--dry-run` estimates the calls and the cost for the items at hand."
    )
    if certificate.group_by is not None:
        return Section("expected-run", "What a run would release and cost", (lead, more))
    flow, table = _flow(certificate)
    return Section("expected-run", "What a run would release and cost", (lead, more), (flow,), (table,))


def _flow(certificate: Certificate) -> tuple[Flow, Table]:
    """The certification rows from tier to tier, as the certified policy decides them."""
    ended = [sum(parts) for parts in zip(*(test.by_tier for test in used_tests(certificate)), strict=True)]
    total = left = covered_rows(certificate)
    tiers, rows, costs = [], [], {judge.judge: judge.cost for judge in certificate.diagnostics}
    thresholds = certificate.thresholds or ()
    for seal, threshold, number in zip(certificate.judges, thresholds, ended, strict=True):
        released = share(number, total)
        cost = costs.get(seal.judge, 0.0) * left
        tiers.append(FlowTier(seal.judge, left, number, figures.usd(cost).text))
        cells = words(seal.judge), figures.exact(threshold, NEVER), count(left), count(number), released
        rows.append(Row(cells))
        left -= number
    alt = "; ".join(f"{tier.name} judges {tier.asked:,} and releases {tier.ended:,}" for tier in tiers)
    alt = f"Of {total:,} certification rows: {alt}; {left:,} need human review."
    flow = Flow("Where the certification rows go", tuple(tiers), total, left, 0, "released", alt)
    titles = numbers("Threshold", "Reach it", "Released", "Share of the rows")
    table = Table("Certification rows by tier", (Column("Judge"), *titles), tuple(rows))
    return flow, table


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def power_section(power: Power, certificate: Certificate) -> Section:
    """Report the chance of a certificate against the number of labelled rows."""
    alpha = figures.setting(certificate.alpha).text
    target = figures.setting(power.target).text
    shown = [share(round(chance * TRIALS), TRIALS) for chance in power.power]
    enough = reached(power)
    if enough is None:
        lead = f"stays below {target} up to {power.rows[-1]:,} rows."
    elif enough <= power.rows[0]:
        lead = f"is {shown[0].text} with {power.rows[0]:,} rows."
    else:
        place = next(k for k, number in enumerate(power.rows) if number >= enough)
        below, above = (f"{shown[k].text} with {power.rows[k]:,}" for k in (place - 1, place))
        lead = f"reaches {target} with about {round_up(enough):,} rows ({below}, {above})."
    lead = f"At α = {alpha} the chance of a certificate {lead}"
    lead += "" if power.now is None else f" {power.now:,} rows were tested."
    more = (
        f"Rows are drawn with replacement from the ones that were tested, {TRIALS} times for each number of "
        "rows, and each draw is certified as a first test of fresh labels would be. The limits allow for the "
        "number of draws, not for the few rows that stand for the population. It plans, and guarantees "
        "nothing; labels that were tested once need fresh ones for a first test."
    )
    rows = tuple(
        Row((count(number), chance, words(figures.interval(*limits))))
        for number, chance, limits in zip(power.rows, shown, power.limits, strict=True)
    )
    columns = numbers("Labelled rows", "Chance of a certificate", "95 % limits")
    table = Table("Power of a calibration", columns, rows, folded=True)
    return Section("power", "Labels needed", (lead, more), tables=(table,))
