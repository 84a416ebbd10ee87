"""Report a guarantee in expectation: its sentence, and how to check by hand what a run released.

No figure here limits anything in the run at hand, and no sentence calls it certified.
"""

from trustescalate.calibration.expectation import RunVotes
from trustescalate.records import Certificate, Run
from trustescalate.records.stored import placed_judgments
from trustescalate.report import figures
from trustescalate.report.certificate_figures import human_reference
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.sections import Section, Table, pairs_table
from trustescalate.stats.batch import errors_allowed

_METHOD = (
    "Every judge judges every item, and their votes together give one score. An item is released if its "
    "score is at least this run's threshold, which depends on all items of the run and on the labelled rows "
    "(conformal selection with the Benjamini-Hochberg procedure)."
)


def sentence(certificate: Certificate) -> str:
    """State what is guaranteed, and what is not."""
    alpha = figures.setting(certificate.alpha).text
    return (
        f"In expectation only: over the draw of the {certificate.n:,} labelled rows and of a run's items "
        f"together, the mean share of released verdicts that disagree with {human_reference(certificate)} "
        f"is at most {alpha}. In a single run it is often above {alpha}; where it was measured, in up to "
        "about half of the runs. This is no certificate, neither of one run nor of the population"
    )


def agreement(certificate: Certificate) -> Figure:
    """Give the mean agreement over runs that is guaranteed; missing with any other claim."""
    if certificate.status != "expected":
        return missing("this claim is not about a mean over runs")
    return figures.complement(certificate.alpha)


def guarantee_section(certificate: Certificate, run: Run | None) -> Section:
    """Report the method, its terms, and the counts to check a run by hand."""
    text = [_METHOD]
    if run is not None and run.decisions:
        text.insert(0, _check_text(certificate, run))
    return Section("certificate", "Guarantee in expectation", tuple(text), tables=(_terms(certificate),))


def _check_text(certificate: Certificate, run: Run) -> str:
    votes = RunVotes(certificate, len(run.items))
    for place, judgment in placed_judgments(run):
        votes.add(place, judgment)
    result = votes.select()
    m, n, alpha, selected = result.items, result.rows, certificate.alpha, result.selected
    released = int(selected.released.sum())
    judged_counts = f"{m:,} items of the run and {n:,} labelled rows have a verdict"
    if selected.threshold is None:
        return (
            f"To check it by hand: {judged_counts}. With R items and N wrong labelled rows at a score or "
            f"above, {m} × (1 + N) ≤ {alpha!r} × R × {n + 1} holds at no score, so nothing is released."
        )
    allowed = int(errors_allowed(released * (n + 1), alpha))
    return (
        f"To check it by hand: {judged_counts}. {released:,} of these items and {selected.accepted:,} of "
        f"these rows, {selected.wrong:,} of them wrong, score {selected.threshold!r} or above. That is the "
        f"lowest score at which {m} × (1 + wrong rows) ≤ {alpha!r} × items × {n + 1}: "
        f"{m * (1 + selected.wrong):,} ≤ {allowed:,}, rounded down. The labelled rows were used to find "
        "this score, so their agreement estimates nothing."
    )


def _terms(certificate: Certificate) -> Table:
    task, roles = certificate.task, certificate.roles
    terms = [
        ("Question", words(task.question)),
        ("α, the mean share of disagreement among released verdicts", figures.setting(certificate.alpha)),
        ("Claim", words(f"{certificate.claim}: a mean over runs")),
        ("Agreement with", words(human_reference(certificate))),
        ("n, labelled rows", count(certificate.n)),
        ("Labelled rows without a majority, counted as disagreement", count(certificate.no_majority)),
        ("Score", words(certificate.estimator)),
        ("Pooled from", words(", ".join(one.judge for one in certificate.judges))),
        ("Labels", words(", ".join(task.labels))),
        *([("Ratings agree up to a distance of", count(task.tolerance))] if task.tolerance else []),
        *((f"Rows in the role “{role}”", count(len(ids))) for role, ids in sorted(roles.items())),
    ]
    return pairs_table("Terms of the guarantee", ("Term", "Value"), terms)
