"""Limit the number of disagreements with human labels among the verdicts of one run.

The certificate is about a population. Where a limit for the run itself is proven (`stats.this_run`), it is
printed with the probability that is proven for it; otherwise the reason is printed
(`calibration.run_errors`).
"""

from decimal import Decimal

from trustescalate.calibration.run_errors import run_errors
from trustescalate.records import Certificate, Run
from trustescalate.report import figures, run_figures
from trustescalate.report.certificate_figures import human_reference
from trustescalate.report.distribution_shift import conditional
from trustescalate.report.figures import Figure, missing, words
from trustescalate.report.sections import Row


def errors_upper(run: Run) -> Figure:
    """Limit the disagreements among the run's independent verdicts; `counts` holds their number."""
    from trustescalate.stats.this_run import LEVEL

    limit, released, why = run_errors(run, LEVEL)
    if why:
        return missing(why)
    if limit >= released:
        return missing(f"too few verdicts on independent items ({released:,}): all of them may be wrong")
    note = f"of {released:,}, with probability at least {_sure(run.header.certificate).text}"
    return Figure(limit, f"{limit:,}", note, (limit, released))


def sentence(run: Run) -> str:
    """State the limit, with its probability and what it is over; "" where there is none."""
    upper = errors_upper(run)
    if upper.counts is None:
        return ""
    certificate, (limit, released) = run.header.certificate, upper.counts
    total, share = run_figures.released(run), figures.at_most(limit / released).text
    people, sums = human_reference(certificate), certificate.method == "betting"
    verdicts = f"{'Over' if sums else 'Of'} the {total:,} verdicts that this run released"
    if released < total:
        verdicts = (
            f"Of the {total:,} verdicts that this run released, {released:,} are on items that are "
            "independent of one another and of those that the certificate was calibrated on; "
            f"{'over' if sums else 'of'} these"
        )
    most = f"at most {limit:,} ({share}) disagree with {people}"
    if sums:
        most = f"disagreement with {people} adds up to at most {limit:,} ({share})"
    text = (
        f"{verdicts}, {most}, with probability at least {_sure(certificate).text} over the draw of the "
        "labelled rows and of this run's items."
    )
    return conditional(text, run)


def agreement_rows(run: Run) -> list[Row]:
    """Make the line of the agreement table for the run's own verdicts, where there is a limit."""
    upper = errors_upper(run)
    if upper.counts is None:
        return []
    limit, released = upper.counts
    share = figures.at_least((released - limit) / released)
    cells = (
        words("Independent verdicts of this run"),
        words(f"≥ {released - limit:,} of {released:,}"),
        Figure(share.value, f"≥ {share.text}"),
        words(conditional(f"with probability ≥ {_sure(run.header.certificate).text}", run)),
    )
    return [Row(cells)]


def agreement_text(run: Run) -> list[str]:
    """State why there is no limit, or which verdicts it does not count."""
    upper = errors_upper(run)
    if upper.counts is None:
        return [f"There is no limit for the verdicts of this run alone: {upper.note}."]
    left = run_figures.released(run) - upper.counts[1]
    if not left:
        return []
    return [
        f"The limit for this run leaves out {left:,} of its verdicts: those on items that the certificate "
        "was calibrated on, on items of a cluster with such a row, and all but one of every other cluster."
    ]


def _failure_probability(certificate: Certificate) -> Decimal:
    """The failure probability of the limit: that of the certificate plus that of the run's draw."""
    from trustescalate.stats.this_run import LEVEL

    return Decimal(repr(certificate.delta)) + Decimal(repr(LEVEL))


def _sure(certificate: Certificate) -> Figure:
    return figures.complement(float(_failure_probability(certificate)))
