"""The claim "expected": its sentence, and how to check by hand what a run released.

No figure here limits anything in the run at hand, and no sentence calls it certified.
"""

from trustescalate.calibration.expectation import fully_judged, select_items
from trustescalate.records import Certificate, Judgment, Run
from trustescalate.report import certificate_sections, figures
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.sections import Column, Row, Section, Table
from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.conformal import Released

TITLE = "Guarantee in expectation"
HOW = (
    "Every judge is asked about every item, and what the judges say together gives one score. An item is "
    "released if it scores at least this run's threshold, which depends on all items of the run and on the "
    "labelled rows (conformal selection with the Benjamini-Hochberg procedure)."
)


def sentence(certificate: Certificate) -> str:
    """What is guaranteed, and what is not."""
    alpha = figures.setting(certificate.alpha).text
    return (
        f"In expectation only: over the draw of the {certificate.n:,} labelled rows and of a run's items "
        f"together, the mean share of released verdicts that disagree with {certificate_sections.whom(certificate)} is at "
        f"most {alpha}. In a single run it is often above {alpha}; where it was measured, in up to about "
        "half of the runs. This is no certificate, neither about one run nor about the population"
    )


def agreement(certificate: Certificate) -> Figure:
    """What released verdicts agree at least in the mean over runs; missing with any other claim."""
    if certificate.status != "expected":
        return missing("this claim is not about a mean over runs")
    return figures.complement(certificate.alpha)


def guarantee_section(certificate: Certificate, run: Run | None) -> Section:
    """What is guaranteed in expectation, and the counts with which it is checked by hand."""
    text = [HOW, *([] if run is None or not run.decisions else [_check_line(certificate, run)])]
    return Section("certificate", TITLE, tuple(text), tables=(_terms(certificate),))


def _check_line(certificate: Certificate, run: Run) -> str:
    found = _selected(certificate, run)
    m, n, alpha, selected = found.items, found.rows, certificate.alpha, found.selected
    released = int(selected.released.sum())
    given = f"{m:,} items of the run and {n:,} labelled rows have a verdict"
    if selected.threshold is None:
        return (
            f"To check it by hand: {given}. With R items and N wrong labelled rows at a score or above, "
            f"{m} × (1 + N) ≤ {alpha!r} × R × {n + 1} holds at no score, so nothing is released."
        )
    allowed = int(errors_allowed(released * (n + 1), alpha))
    return (
        f"To check it by hand: {given}. At {selected.threshold!r} or above score {released:,} of these items "
        f"and {selected.accepted:,} of these rows, {selected.wrong:,} of them wrong. That is the least score "
        f"at which {m} × (1 + wrong rows) ≤ {alpha!r} × items × {n + 1}: {m * (1 + selected.wrong):,} ≤ "
        f"{allowed:,}, rounded down. The rows at this score were used to find it, so their agreement "
        "estimates nothing."
    )


def _selected(certificate: Certificate, run: Run) -> Released:
    judged: dict[str, dict[str, Judgment]] = {seal.judge: {} for seal in certificate.judges}
    for row in run.judgments:
        judged[row.judge][row.item_id] = row
    return select_items(certificate, fully_judged(judged), judged)


def _terms(certificate: Certificate) -> Table:
    task, roles = certificate.task, certificate.roles
    terms = [
        ("Question", words(task.question)),
        ("α, the mean share of disagreement among released verdicts", figures.setting(certificate.alpha)),
        ("Claim", words(f"{certificate.claim}: a mean over runs")),
        ("Agreement with", words(certificate_sections.whom(certificate))),
        ("n, labelled rows", count(certificate.n)),
        ("… of these without a majority, counted as disagreement", count(certificate.no_majority)),
        ("Score", words(certificate.estimator)),
        ("Pooled from", words(", ".join(seal.judge for seal in certificate.judges))),
        ("Answers", words(", ".join(task.labels))),
        *([("Ratings agree up to a distance of", count(task.tolerance))] if task.tolerance else []),
        *((f"Rows in the role “{role}”", count(len(ids))) for role, ids in sorted(roles.items())),
    ]
    rows = tuple(Row((words(name), figure)) for name, figure in terms)
    return Table("The terms", (Column("Term"), Column("Value")), rows)
