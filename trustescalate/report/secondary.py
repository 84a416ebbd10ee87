"""What stands beside the guarantee: the mean over all items, moved scores, agreement among people."""

from statistics import median

from trustescalate.records import (
    Annotator,
    AnnotatorAgreement,
    Certificate,
    Coefficient,
    Overall,
    Run,
    StandIn,
    Stratum,
    Task,
    TaskKind,
)
from trustescalate.report import certificate_sections, figures
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.sections import Column, Row, Section, Table
from trustescalate.stats.inference import MIN_CLUSTERS, MIN_LABELS, MIN_RARE

MOVED = (
    "The scores on these items differ from those on the labelled rows by more than chance explains. The "
    "certificate is about items like the labelled rows; look at what changed, and label some of these items."
)
GUARD = (
    f"The interval that uses predictions is asymptotic. It is shown from {MIN_LABELS} labels on, of which "
    f"{MIN_RARE} differ from the commonest one, on {MIN_CLUSTERS} items that do not are clustered, where the "
    f"predictions' errors rest on {MIN_RARE} labels or more: there it was measured to miss about as often as "
    "it says. With fewer, read the one from labels alone."
)
BASES = {
    "exact": "From labels alone, exact (Clopper-Pearson)",
    "betting": "From labels alone, exact (betting)",
    "student": "From labels alone (Student's t over groups or labels)",
}
AT_CALIBRATION = (
    "Made at calibration, from the certification rows and the unlabelled rows of the pilot as the last judge "
    "sees them, in the same way whether or not anything is certified."
)
IN_A_RUN = (
    "A run needs a certificate, and the labels that gave it are used here too: the limits miss with 5 % over "
    "all calibrations, not over those alone that gave one. The report of a calibration has such a figure "
    "either way, from the last judge's predictions."
)
MANY = 12
"""A table with more rows than this is folded."""
CLEARLY_LESS = 0.1
"""Fewer points of agreement than this are not worth a remark on a person."""

# ── the mean over all items ──────────────────────────────────────────────────────────────────────


def overall_section(certificate: Certificate, run: Run | None) -> Section | None:
    """The win rate, pass rate or mean rating over all items, which released verdicts alone cannot give.

    Without a run it is the estimate made at calibration, certified or not.
    """
    found, task = certificate.overall if run is None else run.overall, certificate.task
    if found is None or task.kind is TaskKind.CHOICE:
        return None
    name, thing = named(task)
    title = f"{name} over all items"
    if found.estimate is None:
        return Section("overall", title, (f"It could not be measured: {found.reason}.",))
    unit = "groups of items" if found.grouped else "items"
    others = "the other rows" if run is None else "this run's items"
    text = [
        f"{thing}, in the population that the labelled rows and {others} are drawn from. Verdicts on "
        "released items alone are biased, since easy items are released first; so predictions for all "
        f"{found.items:,} {unit} are used, abstained ones too, and {found.labels:,} human labels correct "
        "them (PPI++)."
    ]
    text += [AT_CALIBRATION if run is None else IN_A_RUN, GUARD]
    if not found.usable:
        text.append(
            f"There are few labels ({found.reason}), too few for an interval that uses predictions: read the "
            "one from labels alone."
        )
    if found.verdicts is not None:
        text.append(
            "The last line needs no label beyond the certificate: it allows for the certified share of wrong "
            "verdicts, and lets abstained items go either way."
        )
    if found.strata:
        text.append(_strata_text(found))
    tables = (
        _overall_table(task, found, name),
        *([_strata_table(task, found, name)] if found.strata else []),
    )
    return Section("overall", title, tuple(text), tables=tables)


def _strata_text(found: Overall) -> str:
    pooled = [_kind(each) for each in found.strata if each.pooled]
    told = "The mean over all items is stratified: each kind weighs what it is of all rows"
    if len(pooled) == len(found.strata):
        told = f"No two kinds have {MIN_CLUSTERS} labels each, so the mean over all items is not stratified"
    elif pooled:
        some = f" and {len(pooled) - MANY:,} more" if len(pooled) > MANY else ""
        told += f", and those with few labels are put together ({', '.join(pooled[:MANY])}{some})"
    return (
        f"{told}. The limits of all {len(found.strata):,} kinds hold at once with probability 95 %, so they "
        "are wider than for one kind alone."
    )


def _kind(each: Stratum) -> str:
    return "no kind named" if each.name is None else each.name


def _strata_table(task: Task, found: Overall, name: str) -> Table:
    rows = []
    for each in found.strata:
        point = missing(each.reason) if each.estimate is None else _mean(task, each.estimate)
        using = words(_range(task, each.interval)) if each.usable else missing("")
        alone = words(_range(task, each.label_only)) if each.label_only else missing("")
        rows.append(Row((words(_kind(each)), count(each.items), count(each.labels), point, using, alone)))
    titles = ("Rows", "Labels", name, "95 % limits, all at once", "From labels alone")
    columns = (Column("Kind"), *(Column(title, True) for title in titles))
    return Table(f"{name}, kind by kind", columns, tuple(rows), folded=len(rows) > MANY)


def named(task: Task) -> tuple[str, str]:
    """What a mean over all items is called in this task, and what it says."""
    if task.kind is TaskKind.PAIRWISE:
        tie = ", a tie counting one half" if len(task.labels) > 2 else ""
        return "Win rate of A", f"How often people prefer A{tie}"
    if task.kind is TaskKind.RATING:
        return "Mean rating", "The mean rating by people"
    return f"Share of {task.labels[0]!r}", f"How often people say {task.labels[0]!r}"


def _overall_table(task: Task, found: Overall, name: str) -> Table:
    lines = []
    if found.usable:
        lines.append(("From predictions and labels", found.estimate, found.interval))
    lines.append((BASES[found.label_basis], None, found.label_only))
    if found.verdicts is not None:
        lines.append(("Limits from released verdicts alone", None, found.verdicts))
    rows = []
    for basis, estimate, limits in lines:
        point = missing("") if estimate is None else _mean(task, estimate)
        rows.append(Row((words(basis), point, words(_range(task, limits)))))
    columns = (Column(name), Column("Estimate", True), Column(certificate_sections.INTERVAL, True))
    return Table(f"{name}, abstained items included", columns, tuple(rows))


def _mean(task: Task, value: float) -> Figure:
    return figures.decimal(value, "", 2) if task.kind is TaskKind.RATING else figures.ratio(value, 1.0)


def _range(task: Task, limits: tuple[float, float] | None) -> str:
    if limits is None:
        return figures.MISSING
    if task.kind is TaskKind.RATING:
        return f"{limits[0]:.2f} to {limits[1]:.2f}"
    return figures.interval(*limits)


# ── moved scores ─────────────────────────────────────────────────────────────────────────────────


def shift_section(run: Run) -> Section | None:
    """Whether the scores of the run look like those of the labelled rows."""
    if not run.shift:
        return None
    raised = [tier.judge for tier in run.shift if tier.raised]
    verdict = MOVED if raised else "No tier's scores have moved by more than chance explains."
    text = (
        f"{verdict} Each tier's scores, by the first prompt of the ensemble, on the labelled rows that reach "
        "it against those on the items that do (Kolmogorov-Smirnov, false alarm in at most 1 of 100 runs). "
        "No label is used. It is a smoke detector: silence proves nothing, since equal scores may hide "
        "unequal risks, and the gate does not look at it.",
    )
    rows = tuple(
        Row(
            (
                words(tier.judge),
                count(tier.before),
                count(tier.after),
                figures.decimal(tier.gap, ""),
                figures.pvalue(tier.p_value),
                words("moved" if tier.raised else "no alarm"),
            )
        )
        for tier in run.shift
    )
    titles = ("Labelled rows", "Items", "Largest gap", "p")
    columns = (Column("Judge"), *(Column(title, True) for title in titles), Column("Scores"))
    table = Table("Scores on both sides, tier by tier", columns, rows)
    return Section("shift", "Are these items like the labelled ones?", text, tables=(table,))


# ── people ───────────────────────────────────────────────────────────────────────────────────────


def annotator_section(certificate: Certificate) -> Section | None:
    """How people agree with one another. None where fewer than two labelled: then nothing can be said."""
    found = certificate.annotator_agreement
    if found is None:
        return None
    text = [
        f"{len(found.annotators):,} people labelled the certification rows. The coefficients are 1 for full "
        "agreement and 0 for what chance would give; where one label is far more common than the others, κ "
        "and α are low even if people hardly ever differ, and AC1 is not.",
        *([without] if (without := _without_text(found)) else []),
        *([hasty] if (hasty := _hasty_text(found)) else []),
        _stand_in_text(found),
    ]
    tables = [_coefficient_table(certificate, found), _annotator_table(found)]
    tables += [_pair_table(found)] if found.pairs else []
    tables += [_stand_in_table(found)] if found.stand_ins else []
    return Section("people", "How people agree with one another", tuple(text), tables=tuple(tables))


def _coefficient_table(certificate: Certificate, found: AnnotatorAgreement) -> Table:
    rows = []
    for each in found.coefficients:
        value = figures.decimal(each.value, "nothing beyond chance to measure")
        rows.append(Row((words(each.name), value, _limits(each))))
    rows += [
        Row((words(name), figure, around))
        for name, figure, around in certificate_sections.human_rows(certificate, both=True)
    ]
    columns = (Column("Measure"), Column("Value", True), Column(certificate_sections.INTERVAL, True))
    return Table("Agreement among people, on the certification rows", columns, tuple(rows))


def _limits(found: Coefficient) -> Figure:
    if found.interval is None:
        return missing(found.reason or "no two people differ")
    return words(f"{found.interval[0]:.3f} to {found.interval[1]:.3f}")


def _annotator_table(found: AnnotatorAgreement) -> Table:
    timed = any(each.timed for each in found.annotators)
    rows = []
    for each in found.annotators:
        cells = (
            words(each.name),
            count(each.opinions),
            count(each.ties),
            count(each.skips),
            count(each.comparisons),
            share(each.agreements, each.comparisons, "nobody else labelled these rows"),
        )
        took = figures.decimal(each.seconds, "no time was recorded", 1)
        rows.append(Row((*cells, took) if timed else cells))
    titles = ("Opinions", "Ties", "Skips", "Compared with others", "Agreed")
    clock = (Column("Median seconds", True),) if timed else ()
    columns = (Column("Person"), *(Column(title, True) for title in titles), *clock)
    return Table("Person by person", columns, tuple(rows), folded=len(rows) > MANY)


def _without_text(found: AnnotatorAgreement) -> str:
    """Name the measures that have a value and no interval, with the reason."""
    bare: dict[str, list[str]] = {}
    for each in found.coefficients:
        if each.value is not None and each.interval is None and each.reason:
            bare.setdefault(each.reason, []).append(each.name)
    return " ".join(f"No interval for {', '.join(names)}: {reason}." for reason, names in bare.items())


def _hasty_text(found: AnnotatorAgreement) -> str:
    """Name those who take at most half the usual time and agree clearly less than the others do."""
    clocks = [each.seconds for each in found.annotators if each.seconds is not None]
    if len(clocks) < 2:
        return ""
    usual = median(clocks)
    hasty = [
        each.name
        for each in found.annotators
        if each.seconds is not None and each.seconds <= usual / 2 and _differs(each, found)
    ]
    if not hasty:
        return ""
    more = f" and {len(hasty) - MANY:,} more" if len(hasty) > MANY else ""
    return (
        f"Fast, and of another opinion: {', '.join(hasty[:MANY])}{more}. At most half the usual time an "
        f"answer, and agreement with others at least {100 * CLEARLY_LESS:g} points below what these "
        "others reach among themselves. That may be haste, or another understanding of the task."
    )


def _differs(one: Annotator, found: AnnotatorAgreement) -> bool:
    """Whether others agree among themselves clearly more than with this person. Sums count a pair twice."""
    agreements = sum(each.agreements for each in found.annotators) - 2 * one.agreements
    comparisons = sum(each.comparisons for each in found.annotators) - 2 * one.comparisons
    if one.comparisons < found.min_rows or comparisons < found.min_rows:
        return False
    return agreements / comparisons - one.agreements / one.comparisons >= CLEARLY_LESS


def _pair_table(found: AnnotatorAgreement) -> Table:
    rows = tuple(
        Row(
            (
                words(pair.first),
                words(pair.second),
                count(pair.comparisons),
                share(pair.agreements, pair.comparisons),
            )
        )
        for pair in found.pairs
    )
    columns = (Column("One"), Column("Other"), Column("Rows of both", True), Column("Agreed", True))
    return Table("Who agrees with whom", columns, rows, folded=True)


def _stand_in_text(found: AnnotatorAgreement) -> str:
    if len(found.annotators) < 3:
        return "Whether a judge could stand in for a person takes three people or more."
    if not found.stand_ins:
        return (
            "Whether a judge could stand in for a person takes someone who shares at least "
            f"{found.min_rows} rows with others; here there is no one."
        )
    passed = [judge for judge, rows in _by_judge(found) if 2 * sum(row.beaten for row in rows) >= len(rows)]
    told = f"By the alternative-annotator test, {', '.join(passed) or 'no judge'} could stand in for a person"
    tested = {row.annotator for row in found.stand_ins}
    left = [each.name for each in found.annotators if each.name not in tested]
    dropped = f" Left out, with fewer than {found.min_rows} rows: {', '.join(left[:MANY])}." if left else ""
    more = f" And {len(left) - MANY:,} more." if len(left) > MANY else ""
    return (
        f"{told}. A judge passes if it agrees with the other people about as well as that person does, for "
        f"at least half of the people it was held against (ε = {found.epsilon:g}, false discovery rate 5 %). "
        f"The test is asymptotic, and about a judge on all rows, not about released verdicts.{dropped}{more}"
    )


def _by_judge(found: AnnotatorAgreement) -> list[tuple[str, list[StandIn]]]:
    judges = dict.fromkeys(row.judge for row in found.stand_ins)
    return [(judge, [row for row in found.stand_ins if row.judge == judge]) for judge in judges]


def _stand_in_table(found: AnnotatorAgreement) -> Table:
    rows = tuple(
        Row(
            (
                words(row.judge),
                words(row.annotator),
                count(row.rows),
                figures.ratio(row.advantage, 1.0),
                figures.pvalue(row.p_value),
                words("as good" if row.beaten else "not shown"),
            )
        )
        for row in found.stand_ins
    )
    titles = ("Rows", "Judge at least as close to the others", "p")
    columns = (
        Column("Judge"),
        Column("Held against"),
        *(Column(title, True) for title in titles),
        Column("Result"),
    )
    return Table("Each judge in the place of each person", columns, rows, folded=True)
