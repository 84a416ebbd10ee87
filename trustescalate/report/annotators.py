"""Report inter-annotator agreement and the alternative-annotator test."""

from statistics import median

from trustescalate.records import Annotator, AnnotatorAgreement, Certificate, Pair
from trustescalate.report import figures
from trustescalate.report.agreement import human_rows
from trustescalate.report.bars import bar_chart, interval_chart, listed, share_bar, short
from trustescalate.report.certificate_figures import INTERVAL, INTERVAL_DELTA
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.pictures import Bar, Bars, Intervals
from trustescalate.report.sections import FOLD_ROWS, Column, Row, Section, Table, numbers

MOST_PAIRS = 3
CLEARLY_LESS = 0.1
"""A smaller gap in agreement between an annotator and the others is not reported."""


def annotator_section(certificate: Certificate) -> Section | None:
    """Report how annotators agree with one another; None with fewer than two annotators."""
    agreement = certificate.annotator_agreement
    if agreement is None:
        return None
    text = [
        _lead(agreement),
        "The coefficients are 1 for full agreement and 0 for agreement by chance. Where one label is far "
        "more common than the others, κ and α are low even if annotators rarely differ; AC1 is not.",
        *_without_interval(agreement),
        *_hasty_text(agreement),
    ]
    tables = [_coefficient_table(certificate, agreement), _annotator_table(agreement)]
    tables += [_pair_table(agreement)] if agreement.pairs else []
    slug, title = "inter-annotator-agreement", "Inter-annotator agreement"
    return Section(slug, title, tuple(text), _chart(certificate, agreement), tuple(tables))


def _lead(agreement: AnnotatorAgreement) -> str:
    agreed = sum(each.agreements for each in agreement.annotators)
    compared = sum(each.comparisons for each in agreement.annotators)
    lead = f"{len(agreement.annotators):,} annotators labelled the certification rows."
    if compared:  # both sums count a pair on a row twice
        lead += (
            f" Two of them agree on a row in {share(agreed // 2, compared // 2).text} of comparisons, where "
            "each comparison weighs the same."
        )
        best = next((each for each in agreement.coefficients if each.interval is not None), None)
        if best is not None and best.value is not None and best.interval is not None:
            low, high = best.interval
            weighs = "a row weighs by its labels" if "α" in best.name else "each row weighs the same"
            lead += f" {best.name}, where {weighs}, is {best.value:.3f} ({INTERVAL} {low:.3f} to {high:.3f})."
    return lead


def _chart(certificate: Certificate, agreement: AnnotatorAgreement) -> tuple[Intervals, ...]:
    """Draw pairs with exact limits, which independent rows allow; with many, annotators without limits."""
    if 0 < len(agreement.pairs) <= MOST_PAIRS:
        return interval_chart("Agreement of each pair of annotators", [
            share_bar(f"{short(pair.first)} – {short(pair.second)}", share(pair.agreements, pair.comparisons),
                      _pair_limits(certificate, pair))
            for pair in agreement.pairs if pair.comparisons
        ])  # fmt: skip
    ordered = sorted(
        (each for each in agreement.annotators if each.comparisons),
        key=lambda each: (each.agreements / each.comparisons, each.name),
    )
    bars = [share_bar(each.name, share(each.agreements, each.comparisons), None) for each in ordered]
    return interval_chart(
        "Agreement of each annotator with the others, lowest first",
        bars,
        reference=_together(agreement),
        reference_name="all annotators",
    )


def _together(agreement: AnnotatorAgreement) -> float | None:
    """The share of comparisons of two annotators in which they agree."""
    compared = sum(each.comparisons for each in agreement.annotators)
    return sum(each.agreements for each in agreement.annotators) / compared if compared else None


def _pair_limits(certificate: Certificate, pair: Pair) -> tuple[float, float] | None:
    from trustescalate.stats.bounds import clopper_pearson_interval

    if certificate.clusters is not None:
        return None
    return clopper_pearson_interval(pair.agreements, pair.comparisons, INTERVAL_DELTA)


def alternative_annotator_section(certificate: Certificate) -> Section | None:
    """Report whether a judge can replace an annotator; None with fewer than two annotators."""
    agreement = certificate.annotator_agreement
    if agreement is None:
        return None
    rows = tuple(
        Row((
            *(words(row.judge), words(row.annotator), count(row.rows)),
            *(figures.ratio(row.advantage, 1.0), figures.pvalue(row.p_value)),
            words("as good" if row.beaten else "not shown"),
        ))
        for row in agreement.stand_ins
    )  # fmt: skip
    titles = numbers("Rows", "Judge at least as close to the others", "p")
    columns = (Column("Judge"), Column("Annotator"), *titles, Column("Result"))
    table = Table("Each judge in place of each annotator", columns, rows, folded=True)
    return Section(
        "alternative-annotator-test",
        "Alternative-annotator test",
        _alternative_text(agreement),
        _stand_in_chart(agreement),
        tables=(table,) if rows else (),
    )


def _coefficient_table(certificate: Certificate, agreement: AnnotatorAgreement) -> Table:
    rows = []
    for each in agreement.coefficients:
        limits = missing(each.reason or "no two annotators differ")
        if each.interval is not None:
            limits = words(f"{each.interval[0]:.3f} to {each.interval[1]:.3f}")
        value = figures.decimal(each.value, "undefined: no disagreement beyond chance to measure")
        rows.append(Row((words(each.name), value, limits)))
    rows += [Row((words(name), *measured)) for name, *measured in human_rows(certificate, both=True)]
    columns = (Column("Measure"), *numbers("Value", INTERVAL))
    return Table("Inter-annotator agreement on the certification rows", columns, tuple(rows))


def _annotator_table(agreement: AnnotatorAgreement) -> Table:
    timed = any(each.timed for each in agreement.annotators)
    rows = []
    for each in agreement.annotators:
        cells = (
            *(words(each.name), count(each.opinions), count(each.ties), count(each.skips)),
            count(each.comparisons),
            share(each.agreements, each.comparisons, "no other annotator labelled these rows"),
        )
        seconds = figures.decimal(each.seconds, "no time was recorded", 1)
        rows.append(Row((*cells, seconds) if timed else cells))
    titles = ["Annotations", "Ties", "Skips", "Compared with others", "Agreed"]
    titles += ["Median seconds"] if timed else []
    columns = (Column("Annotator"), *numbers(*titles))
    return Table("Agreement per annotator", columns, tuple(rows), folded=len(rows) > FOLD_ROWS)


def _pair_table(agreement: AnnotatorAgreement) -> Table:
    rows = tuple(
        Row((
            *(words(pair.first), words(pair.second), count(pair.comparisons)),
            share(pair.agreements, pair.comparisons),
        ))
        for pair in agreement.pairs
    )  # fmt: skip
    columns = (Column("First"), Column("Second"), *numbers("Rows of both", "Agreed"))
    return Table("Agreement per pair of annotators", columns, rows, folded=True)


def _without_interval(agreement: AnnotatorAgreement) -> list[str]:
    """Name the measures that have a value and no interval, with the reason."""
    bare: dict[str, list[str]] = {}
    for each in agreement.coefficients:
        if each.value is not None and each.interval is None and each.reason:
            bare.setdefault(each.reason, []).append(each.name)
    lines = [f"No interval for {', '.join(names)}: {reason}." for reason, names in bare.items()]
    return [" ".join(lines)] if lines else []


def _hasty_text(agreement: AnnotatorAgreement) -> list[str]:
    """Name annotators who take at most half the usual time and agree clearly less than the others do."""
    seconds = [each.seconds for each in agreement.annotators if each.seconds is not None]
    if len(seconds) < 2:
        return []
    usual = median(seconds)
    hasty = [
        each.name
        for each in agreement.annotators
        if each.seconds is not None and each.seconds <= usual / 2 and _agrees_less(each, agreement)
    ]
    if not hasty:
        return []
    return [
        f"Fast annotators with low agreement: {listed(hasty, FOLD_ROWS)}. They take at most half the usual "
        f"time per annotation, and agree with others at least {100 * CLEARLY_LESS:g} points less than these "
        "others agree among themselves. The reason may be haste, or another understanding of the task."
    ]


def _agrees_less(one: Annotator, agreement: AnnotatorAgreement) -> bool:
    """Whether the others agree among themselves clearly more than with this one. Sums count a pair twice."""
    agreements = sum(each.agreements for each in agreement.annotators) - 2 * one.agreements
    comparisons = sum(each.comparisons for each in agreement.annotators) - 2 * one.comparisons
    if one.comparisons < agreement.min_rows or comparisons < agreement.min_rows:
        return False
    return agreements / comparisons - one.agreements / one.comparisons >= CLEARLY_LESS


def _stand_in_chart(agreement: AnnotatorAgreement) -> tuple[Bars, ...]:
    judges = dict.fromkeys(row.judge for row in agreement.stand_ins)
    bars = []
    for name in judges:
        beaten = [row.beaten for row in agreement.stand_ins if row.judge == name]
        counts = sum(beaten), len(beaten)
        bars.append(Bar(name, tuple(map(float, counts)), tuple(f"{number:,}" for number in counts)))
    title = "Annotators that each judge is shown to be as good as"
    return bar_chart(title, bars, ("as good as", "compared with"))


def _alternative_text(agreement: AnnotatorAgreement) -> tuple[str, ...]:
    if len(agreement.annotators) < 3:
        return ("The alternative-annotator test needs three annotators or more.",)
    if not agreement.stand_ins:
        return (
            "The alternative-annotator test needs an annotator who shares at least "
            f"{agreement.min_rows} rows with others; there is none.",
        )
    judges = dict.fromkeys(row.judge for row in agreement.stand_ins)
    results = {name: [row.beaten for row in agreement.stand_ins if row.judge == name] for name in judges}
    passed = [judge for judge, beaten in results.items() if 2 * sum(beaten) >= len(beaten)]
    tested = {row.annotator for row in agreement.stand_ins}
    omitted = [each.name for each in agreement.annotators if each.name not in tested]
    left_out = (
        f" Left out, with fewer than {agreement.min_rows} rows: {listed(omitted, FOLD_ROWS)}."
        if omitted
        else ""
    )
    lead = "By the alternative-annotator test, no judge is shown to be as good as half of the annotators."
    if passed:
        lead = (
            f"By the alternative-annotator test, {listed(passed, FOLD_ROWS)} could replace an annotator "
            f"({len(passed):,} of {len(judges):,} judges)."
        )
    return (
        lead,
        "A judge passes if it agrees with the other annotators about as well as the replaced one does, for "
        f"at least half of the annotators it was compared with (ε = {agreement.epsilon:g}, false discovery "
        "rate 5 %). The test is asymptotic, and about a judge on all rows, not about released verdicts."
        f"{left_out}",
    )
