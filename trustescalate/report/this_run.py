"""Limit the number of disagreements with human labels among the verdicts of one run.

The certificate is about a population. Where a limit for the run itself is proven (`stats.this_run`), it is
printed with the probability that is proven for it; otherwise the reason is printed.
"""

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from trustescalate.records import Certificate, Run
from trustescalate.records.item_fields import values_of
from trustescalate.records.policies import certified_groups
from trustescalate.report import figures, run_figures
from trustescalate.report.certificate_figures import NO_POLICY, human_reference, is_tierwise
from trustescalate.report.figures import Figure, missing, words
from trustescalate.report.sections import Row


def errors_upper(run: Run) -> Figure:
    """Limit the disagreements among the run's independent verdicts; `counts` holds their number."""
    certificate = run.header.certificate
    why = _why_none(run)
    if why:
        return missing(why)
    guarantees = _released_by_alpha(run)
    limit, released = _limit(certificate, guarantees), sum(guarantees.values())
    if limit >= released:
        return missing(f"too few verdicts on independent items ({released:,}): all of them may be wrong")
    note = f"of {released:,}, with probability at least {_sure(certificate).text}"
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
    return (
        f"{verdicts}, {most}, with probability at least {_sure(certificate).text} over the draw of the "
        "labelled rows and of this run's items."
    )


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
        words(f"with probability ≥ {_sure(run.header.certificate).text}"),
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


def _why_none(run: Run) -> str:
    """State why nothing is proven of this run alone; "" where a limit is proven."""
    certificate = run.header.certificate
    weights = certificate.weighting
    reasons = (
        (certificate.status == "none", NO_POLICY),
        (
            certificate.status == "expected",
            "the claim is a mean over runs, and no statement about a single run",
        ),
        (certificate.batch is not None, "the certificate is about the items of the run themselves"),
        (
            certificate.method == "clusters",
            "the certificate is about whole clusters, whose verdicts depend on one another",
        ),
        (
            weights is not None and weights.source == "estimated",
            "the weights of the labelled rows were estimated",
        ),
        (
            not run_figures.is_complete(run),
            "not every item was decided, and the decided ones are no random sample of all",
        ),
        (_failure_probability(certificate) >= 1, "δ leaves no probability for it"),
        (
            not _released_by_alpha(run),
            "no verdict was released on an item that is independent of those that the certificate was "
            "calibrated on",
        ),
    )
    return next((why for holds, why in reasons if holds), "")


def _failure_probability(certificate: Certificate) -> Decimal:
    """The failure probability of the limit: that of the certificate plus that of the run's draw."""
    from trustescalate.stats.this_run import LEVEL

    return Decimal(repr(certificate.delta)) + Decimal(repr(LEVEL))


def _sure(certificate: Certificate) -> Figure:
    return figures.complement(float(_failure_probability(certificate)))


def _released_by_alpha(run: Run) -> Mapping[float, int]:
    """Count the released verdicts on independent items by the α of their guarantee."""
    certificate, free = run.header.certificate, set(run.independent)
    released = [row.item_id for row in run.decisions if row.judge is not None and row.item_id in free]
    if certificate.group_by is None:
        return {certificate.alpha: len(released)} if released else {}
    alphas = {guarantee.value: guarantee.alpha for guarantee in certified_groups(certificate)}
    values = values_of(run.items, certificate.group_by)
    return Counter(alphas[values[item_id]] for item_id in released)


def _limit(certificate: Certificate, guarantees: Mapping[float, int]) -> int:
    from trustescalate.stats.this_run import LEVEL, policy_weights, run_errors_upper, two_step_loss_upper

    released, alpha = list(guarantees.values()), list(guarantees)
    if certificate.method == "betting":
        return two_step_loss_upper(sum(released), certificate.alpha, LEVEL)
    repeated = certificate.attempt is not None and certificate.attempt.number > 1
    if certificate.chosen is None or is_tierwise(certificate) or repeated:
        return run_errors_upper(released, alpha)  # which policies are tested may depend on these labels
    test = certificate.tests[certificate.chosen]
    analyses = 1 if certificate.interim is None else len(certificate.interim.sizes)
    weight = policy_weights([test.part for test in certificate.tests])[certificate.chosen] / analyses
    return run_errors_upper(released, alpha, labelled=(test.errors, test.accepted), weight=float(weight))
