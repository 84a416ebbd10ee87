"""Report inter-annotator agreement and the alternative-annotator test."""

from collections.abc import Sequence
from statistics import median

from trustescalate.records import Annotator, AnnotatorAgreement, Certificate
from trustescalate.report import figures
from trustescalate.report.agreement import human_rows
from trustescalate.report.certificate_figures import INTERVAL
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.sections import FOLD_ROWS, Column, Row, Section, Table, numbers

CLEARLY_LESS = 0.1
"""A smaller gap in agreement between an annotator and the others is not reported."""


def annotator_section(certificate: Certificate) -> Section | None:
    """Report how annotators agree with one another; None with fewer than two annotators."""
    agreement = certificate.annotator_agreement
    if agreement is None:
        return None
    text = [
        f"{len(agreement.annotators):,} annotators labelled the certification rows. The coefficients are 1 "
        "for full agreement and 0 for agreement by chance. Where one label is far more common than the "
        "others, κ and α are low even if annotators rarely differ; AC1 is not.",
        *_without_interval(agreement),
        *_hasty_text(agreement),
    ]
    tables = [_coefficient_table(certificate, agreement), _annotator_table(agreement)]
    tables += [_pair_table(agreement)] if agreement.pairs else []
    slug = "inter-annotator-agreement"
    return Section(slug, "Inter-annotator agreement", tuple(text), tables=tuple(tables))


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
        (_alternative_text(agreement),),
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
        f"Fast annotators with low agreement: {_listed(hasty)}. They take at most half the usual time per "
        f"annotation, and agree with others at least {100 * CLEARLY_LESS:g} points less than these others "
        "agree among themselves. The reason may be haste, or another understanding of the task."
    ]


def _agrees_less(one: Annotator, agreement: AnnotatorAgreement) -> bool:
    """Whether the others agree among themselves clearly more than with this one. Sums count a pair twice."""
    agreements = sum(each.agreements for each in agreement.annotators) - 2 * one.agreements
    comparisons = sum(each.comparisons for each in agreement.annotators) - 2 * one.comparisons
    if one.comparisons < agreement.min_rows or comparisons < agreement.min_rows:
        return False
    return agreements / comparisons - one.agreements / one.comparisons >= CLEARLY_LESS


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - FOLD_ROWS:,} more" if len(names) > FOLD_ROWS else ""
    return f"{', '.join(names[:FOLD_ROWS])}{more}"


def _alternative_text(agreement: AnnotatorAgreement) -> str:
    if len(agreement.annotators) < 3:
        return "The alternative-annotator test needs three annotators or more."
    if not agreement.stand_ins:
        return (
            "The alternative-annotator test needs an annotator who shares at least "
            f"{agreement.min_rows} rows with others; there is none."
        )
    judges = dict.fromkeys(row.judge for row in agreement.stand_ins)
    results = {name: [row.beaten for row in agreement.stand_ins if row.judge == name] for name in judges}
    passed = [judge for judge, beaten in results.items() if 2 * sum(beaten) >= len(beaten)]
    tested = {row.annotator for row in agreement.stand_ins}
    omitted = [each.name for each in agreement.annotators if each.name not in tested]
    left_out = f" Left out, with fewer than {agreement.min_rows} rows: {_listed(omitted)}." if omitted else ""
    return (
        f"By the alternative-annotator test, {', '.join(passed) or 'no judge'} could replace an annotator. A "
        "judge passes if it agrees with the other annotators about as well as the replaced one does, for at "
        f"least half of the annotators it was compared with (ε = {agreement.epsilon:g}, false discovery rate "
        "5 %). The test is asymptotic, and about a judge on all rows, not about released verdicts."
        f"{left_out}"
    )
