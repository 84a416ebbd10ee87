"""Report the distribution-shift check: each tier's scores in the run against those on the labelled rows."""

from trustescalate.records import Run
from trustescalate.report import figures
from trustescalate.report.figures import count, words
from trustescalate.report.sections import Column, Row, Section, Table, numbers

SCORE_DRIFT = (
    "The scores on these items differ from those on the labelled rows by more than chance explains. The "
    "certificate is about items like the labelled rows; check what changed, and label some of these items."
)


def shift_section(run: Run) -> Section | None:
    """Report whether the scores of the run have drifted; None where nothing was compared."""
    if not run.shift:
        return None
    drifted = any(tier.raised for tier in run.shift)
    verdict = SCORE_DRIFT if drifted else "No tier's scores have drifted by more than chance explains."
    text = (
        f"{verdict} The check compares each tier's scores, by the first prompt of the ensemble, on the "
        "labelled rows that reach the tier and on the items that do (Kolmogorov-Smirnov, false alarm in at "
        "most 1 of 100 runs). It uses no labels. The absence of an alarm proves nothing, since equal scores "
        "may hide unequal risks; the gate ignores this check.",
    )
    rows = tuple(
        Row((
            *(words(tier.judge), count(tier.before), count(tier.after)),
            *(figures.decimal(tier.gap, ""), figures.pvalue(tier.p_value)),
            words("score drift" if tier.raised else "no alarm"),
        ))
        for tier in run.shift
    )  # fmt: skip
    titles = numbers("Labelled rows", "Items", "Largest gap", "p")
    table = Table("Scores per tier", (Column("Judge"), *titles, Column("Result")), rows)
    return Section("distribution-shift-check", "Distribution-shift check", text, tables=(table,))
