"""Compare verdicts with human labels: certified, observed and measured agreement, and human agreement."""

from collections.abc import Mapping

from trustescalate.calibration.losses import losses
from trustescalate.calibration.uncertified import rests_on_tests
from trustescalate.data import labels
from trustescalate.records import Certificate, HumanAgreement, Label, Run
from trustescalate.records.item_columns import groups_of
from trustescalate.records.jsonl import digest
from trustescalate.records.policies import largest_alpha
from trustescalate.report import figures, this_run
from trustescalate.report.bars import interval_chart, share_bar, short
from trustescalate.report.certificate_figures import (
    INTERVAL,
    INTERVAL_DELTA,
    human_reference,
    interval_figure,
    observed_agreement,
)
from trustescalate.report.clusters import counts_clusters_once
from trustescalate.report.figures import Figure, missing, share, words
from trustescalate.report.pictures import Interval, Intervals
from trustescalate.report.sections import Column, Row, Section, Table, numbers

Limits = tuple[float, float] | None
_AFTER_CHOICE = (
    "The agreement observed on accepted certification rows has no interval: these rows chose the policy, "
    "which the certificate accounts for. The last judge was fixed before the labels were read, so its figure "
    "is shown whatever the result of the test."
)
_HUMAN_AGREEMENT = (
    "Human agreement is leave-one-out: how often one annotator agrees with the majority of the others. It "
    "states how hard the task is for annotators. It is no limit for a judge, which may agree with a majority "
    "more often than one of its members does; the upper limit for any verdicts is in the line below it."
)
_ONE_ANNOTATOR = "one annotator per row: human agreement cannot be measured"


def agreement_section(certificate: Certificate, run: Run | None) -> Section | None:
    """Compare every measured or certified agreement with human labels, and with the human ceiling.

    None for an uncertified run of judges that were never calibrated: its own section has the agreement.
    """
    if not rests_on_tests(certificate):
        return None
    rows = _certificate_rows(certificate)
    text = [_lead(certificate, run)]
    text += [_HUMAN_AGREEMENT if certificate.human_agreement else f"There is {_ONE_ANNOTATOR}."]
    text += [_AFTER_CHOICE] if certificate.status == "certified" else []
    if run is not None and not run.uncertified:
        rows += this_run.agreement_rows(run)
        text += this_run.agreement_text(run)
    if run is not None and run.annotations and not run.uncertified:
        figure, limits = judged_agreement(run)
        rows.append(_row("Measured on judged items", figure, interval_figure(limits)))
        text.append(_measured_text(run))
    columns = (Column("Agreement with human labels"), *numbers("Counts", "Share", INTERVAL))
    caption = f"Agreement with {human_reference(certificate)} {_rows_compared(run)}"
    table = Table(caption, columns, tuple(rows))
    slug, title = "agreement-with-human-labels", "Agreement with human labels"
    return Section(slug, title, tuple(text), _chart(certificate, run), (table,))


def _lead(certificate: Certificate, run: Run | None) -> str:
    """State the cascade's agreement, the highest of one judge alone, and that of annotators."""
    parts = []
    observed = observed_agreement(certificate)
    if observed.value is not None:
        of = "" if observed.counts is None else " ({:,} of {:,})".format(*observed.counts)
        parts.append(f"the cascade on {observed.text} of the certification rows that it accepts{of}")
    if run is not None and run.annotations and not run.uncertified:
        fresh, limits = judged_agreement(run)
        if limits is not None:
            of = "" if fresh.counts is None else f"{fresh.counts[1]:,} "
            shown = f"{fresh.text} ({figures.interval(*limits)}) of {of}labelled verdicts of this run"
            parts.append(f"the cascade on {shown}" if not parts else f"on {shown}")
    alone = [one for one in certificate.diagnostics if one.n]
    if alone and certificate.batch is None:
        best = max(alone, key=lambda one: one.agreements / one.n)
        rate = share(best.agreements, best.n).text
        alone_of = f"{short(best.judge)} alone on {rate} of the certification rows"
        most = f", the highest observed of {len(alone):,} judges" if len(alone) > 1 else ""
        parts.append(f"{alone_of}{most}")
    lead = f"Agreement with {human_reference(certificate)}: {'; '.join(parts)}." if parts else ""
    human = leave_one_out(certificate.human_agreement)
    if human.value is not None:
        lead += f" One annotator agrees with the majority of the others on {human.text}"
        upper = [limit for _, limit, _ in human_rows(certificate)[1:] if limit.value != 1]
        lead += f"; no verdicts could agree on more than {upper[0].text} of these rows." if upper else "."
    return lead.strip() or f"Agreement was not measured: {observed.note}."


def _chart(certificate: Certificate, run: Run | None) -> tuple[Intervals, ...]:
    judges = [] if certificate.batch is not None else [one for one in certificate.diagnostics if one.n]
    bars = [share_bar(one.judge, share(one.agreements, one.n), one.interval) for one in judges]
    observed = observed_agreement(certificate)
    if observed.value is not None:
        bars.append(share_bar("Cascade, accepted rows", observed, None))
    if run is not None and run.annotations and not run.uncertified:
        figure, limits = judged_agreement(run)
        bars += [share_bar("Cascade, labels of this run", figure, limits)] if limits is not None else []
    bars += _human_bars(certificate)
    names = {"certified": "certified for the cascade", "expected": "guaranteed in expectation"}
    name = names.get(certificate.status, "required")
    alpha = largest_alpha(certificate) if certificate.status == "certified" else certificate.alpha
    title = f"Agreement with {human_reference(certificate)} {_rows_compared(run)}, {INTERVAL}s"
    return interval_chart(title, bars, reference=1 - alpha, reference_name=name)


def _rows_compared(run: Run | None) -> str:
    """Name the rows of the chart and of the table."""
    of_run = run is not None and not run.uncertified and bool(run.annotations)
    return f"on the certification rows{' and on this run' if of_run else ''}"


def _human_bars(certificate: Certificate) -> list[Interval]:
    human, policy = certificate.human_agreement, certificate.label_policy
    if human is None:
        return []
    bars = []
    if human.comparisons:
        bars.append(share_bar("Human leave-one-out", leave_one_out(human), human.interval))
    if human.rows and policy == "majority":
        limits = human.decidable_interval
        bars.append(share_bar("Largest attainable", share(human.decidable, human.rows), limits))
    if human.rows and policy == "annotator":
        note, limits = f"{human.rows:,} rows", human.largest_share_interval
        bars.append(Interval("Largest attainable", min(human.largest_share, 1.0), limits, note))
    return bars


def judged_agreement(run: Run, delta: float = INTERVAL_DELTA) -> tuple[Figure, Limits]:
    """Compare released verdicts with human labels of the run's items, by the certificate's losses.

    Items labelled because a cascade abstained on them are left out: they are no sample of released items.
    Where each cluster counts once in the claim, one labelled item of each is compared, drawn at random; else
    all are, and the interval, with failure probability `delta`, treats whole clusters as drawn.
    """
    from trustescalate.calibration.population import agreement_limits, unit_of

    if not run.annotations:
        return missing("the judged items have no human labels"), None
    certificate = run.header.certificate
    known = losses(certificate.task, certificate.label_policy, labels.sampled(run.annotations))
    groups = groups_of(run.items)
    drawn = set(known)
    if counts_clusters_once(certificate):
        lots = sorted(known, key=lambda item_id: digest("lot", certificate.seed, item_id))
        drawn = set({unit_of(item_id, groups): item_id for item_id in reversed(lots)}.values())
    judged = [row for row in run.decisions if row.judge is not None and row.item_id in drawn]
    lost = [(row.item_id, known[row.item_id][row.label]) for row in judged if row.label is not None]
    if not lost:
        return missing("no item with a released verdict has a human label"), None
    values, units = [loss for _, loss in lost], [unit_of(item_id, groups) for item_id, _ in lost]
    whole = sum(values)
    agreed = len(values) - (int(whole) if set(values) <= {0, 1} else float(whole))
    return share(agreed, len(values)), agreement_limits(values, units, delta)


def majority_labels(run: Run) -> Mapping[str, Label | None]:
    """Map each labelled item of a run to its majority label; None where there is no majority."""
    return labels.majority(run.header.certificate.task, run.annotations)


def _measured_text(run: Run) -> str:
    known, sampled = majority_labels(run), {note.item_id for note in labels.sampled(run.annotations)}
    rows = [row for row in run.decisions if row.item_id in known]
    abstained = sum(row.label is None for row in rows)
    released = [row.item_id for row in rows if row.label is not None]
    picked = len(set(released) - sampled)
    no_majority = sum(known[item_id] is None for item_id in released if item_id in sampled)
    left_out = f"{picked:,} more were labelled because a cascade abstained on them; they are not compared. "
    counts = f"Of the others, those without a majority ({no_majority:,}) count as disagreement. "
    if run.header.certificate.label_policy == "annotator":
        counts = "Each of the others counts the share of its annotators who disagree. "
    return (
        f"{len(known):,} of the items have human labels; on {abstained:,} of them the cascade abstained. "
        f"{left_out if picked else ''}{counts}This comparison is a measurement; it certifies nothing."
    )


def leave_one_out(human: HumanAgreement | None) -> Figure:
    """Give the share of comparisons in which one annotator agrees with the majority of the others."""
    if human is None:
        return missing(_ONE_ANNOTATOR)
    return share(human.agreements, human.comparisons, "no row has a majority without that annotator")


def human_rows(certificate: Certificate, *, both: bool = False) -> list[tuple[str, Figure, Figure]]:
    """Name and give human agreement, and the upper limit for any verdicts, with intervals.

    The upper limit is that of the certificate's human reference, or of `both` kinds.
    """
    human, policy = certificate.human_agreement, certificate.label_policy
    around = interval_figure(None if human is None else human.interval)
    rows = [
        ("Human leave-one-out: one annotator with the majority of the others", leave_one_out(human), around)
    ]
    if human is None or not human.rows:
        return rows
    if both or policy == "majority":
        limits = interval_figure(human.decidable_interval)
        rows.append(("Upper limit: rows that have a majority", share(human.decidable, human.rows), limits))
    if both or policy == "annotator":
        limits, mean = interval_figure(human.largest_share_interval), human.largest_share * human.rows
        name = "Upper limit: the largest share of a row's annotators that one verdict agrees with, on average"
        rows.append((name, share(min(mean, human.rows), human.rows), limits))
    return rows


def _certificate_rows(certificate: Certificate) -> list[Row]:
    rows: list[Row] = []
    if certificate.status == "certified":
        rates = (largest_alpha(certificate), certificate.delta)
        guarantee, sure = (figures.complement(rate).text for rate in rates)
        name = (
            "Certified"
            if certificate.group_by is None
            else "Certified for all groups: the smallest guarantee"
        )
        cells = (words(name), missing(""), words(f"≥ {guarantee}"), words(f"with probability ≥ {sure}"))
        rows.append(Row(cells))
    if certificate.status == "expected":
        limit = words(f"≥ {figures.complement(certificate.alpha).text}")
        rows.append(Row((words("In expectation"), missing(""), limit, words("a mean over runs"))))
    else:
        name = "Observed on accepted certification rows"
        rows.append(_row(name, observed_agreement(certificate), missing("")))
    last = certificate.diagnostics[-1] if certificate.diagnostics else None
    if certificate.batch is None and last is not None and last.n:
        name = "The last judge alone, on every certification row"
        rows.append(_row(name, share(last.agreements, last.n), interval_figure(last.interval)))
    return [*rows, *(_row(*each) for each in human_rows(certificate))]


def _row(name: str, figure: Figure, limits: Figure) -> Row:
    counts = missing("") if figure.counts is None else words("{:,} of {:,}".format(*figure.counts))
    return Row((words(name), counts, figure, limits))
