"""Report each judge alone: agreement with human labels, and the calibration of its scores."""

from collections.abc import Sequence

from trustescalate.calibration.judge_findings import findings
from trustescalate.calibration.uncertified import rests_on_tests
from trustescalate.records import Certificate, JudgeDiagnostics, Label
from trustescalate.records.criteria import BY_CRITERION, shown_row
from trustescalate.report import figures
from trustescalate.report.bars import listed, short
from trustescalate.report.certificate_figures import INTERVAL, thresholds
from trustescalate.report.figures import count, decimal, missing, share, words
from trustescalate.report.pictures import Reliability, ReliabilityBin
from trustescalate.report.sections import FOLD_ROWS, Column, Row, Section, Table, numbers

NO_GRADES = "it gives no graded score"
SPREAD = 1e-9
"""Scores whose spread changes the Brier score by less are one score."""
_METHOD_TEXT = {
    "betting": " Here, unlike in the guarantee, a verdict is correct if it is the majority label.",
    "clusters": " Rows of one cluster are not independent, so the intervals treat whole clusters as drawn.",
}


def judges_section(certificate: Certificate) -> Section | None:
    """Report the diagnostics of every judge, with a reliability diagram; None without any."""
    if not certificate.diagnostics or not rests_on_tests(certificate):
        return None
    judged, which = "every certification row", "all certification rows"
    if certificate.batch is not None:
        judged = (
            "the certification rows on which some policy would call it, so expensive judges judged hard rows"
        )
        which = "the certification rows that it judged"
    text = (
        " ".join([_lead(certificate), *_ungraded(certificate), *judge_findings(certificate)]),
        f"Each judge judged {judged}. No guarantee rests on these figures: they show which judges are worth "
        "their cost, and whether the scores are calibrated, so that a score of 0.9 means being correct nine "
        f"times in ten (ECE is the mean gap).{_METHOD_TEXT.get(certificate.method, '')}",
    )
    titles = numbers(
        "Agreement", INTERVAL, "κ", "ECE", "Brier", "AUROC", "Votes", "Failed votes", "Cost per row"
    )
    rows = tuple(map(_judge_row, certificate.diagnostics))
    table = Table(f"Each judge on {which}", (Column("Judge"), *titles), rows)
    binned = [judge for judge in certificate.diagnostics if judge.bins and _is_graded(judge)]
    known = {} if certificate.stack is not None else thresholds(certificate)  # of pooled scores otherwise
    charts = tuple(_reliability(judge, known.get(judge.judge)) for judge in binned)
    several = certificate.group_by == BY_CRITERION
    labels = certificate.task.labels
    confused = [_confusion_table(judge, labels) for judge in certificate.diagnostics if judge.confusion]
    surest = [_surest_table(judge, several) for judge in certificate.diagnostics if judge.surest]
    tables = (table, *confused, *surest, *map(_bins_table, binned))
    return Section("judges", "Judges: calibration of scores", text, charts, tables)


def _lead(certificate: Certificate) -> str:
    """State how far the scores of the best and of the worst calibrated judge are off."""
    spoke = [judge for judge in certificate.diagnostics if judge.ece is not None]
    if not spoke:
        return "No judge gave a verdict on a certification row."
    scored = [judge for judge in spoke if _is_graded(judge)]
    if not scored:
        return (
            "No judge gives a graded score: all verdicts of a judge have one score, so that there is no "
            "calibration of scores to measure."
        )
    best, worst = (pick(scored, key=lambda judge: judge.ece or 0.0) for pick in (min, max))
    lead = f"The scores of {short(best.judge)} differ from the share correct by {_off(best)} on average"
    if len(scored) > 1:
        lead += (
            f", the least of {len(scored):,} judges; those of {short(worst.judge)} by {_off(worst)}, the most"
        )
    return f"{lead}."


def _is_graded(judge: JudgeDiagnostics) -> bool:
    """Whether the verdicts of a judge have different scores, as far as two verdicts or more tell.

    With one score the Brier score has no part from the spread of scores in the one bin that is not empty.
    """
    filled = [each for each in judge.bins if each.count]
    if len(filled) != 1 or filled[0].count < 2 or judge.brier is None:
        return True
    score, right = filled[0].mean_score, filled[0].correct / filled[0].count
    without_spread = right * (1 - score) ** 2 + (1 - right) * score**2
    return abs(judge.brier - without_spread) > SPREAD


def _ungraded(certificate: Certificate) -> list[str]:
    """Name the judges that give no graded score, where others do."""
    names = [judge.judge for judge in certificate.diagnostics if not _is_graded(judge)]
    if not names or not any(judge.ece is not None and _is_graded(judge) for judge in certificate.diagnostics):
        return []
    if len(names) == 1:
        return [f"{short(names[0])} gives no graded score: all its verdicts have one score."]
    return [f"{listed(names, FOLD_ROWS)} give no graded score: all verdicts of each have one score."]


def _off(judge: JudgeDiagnostics) -> str:
    return f"{100 * (judge.ece or 0.0):.1f} points"


def judge_findings(certificate: Certificate) -> list[str]:
    """Say of each judge what the certification rows show to be wrong with it."""
    labels = certificate.task.labels
    return [
        f"{judge.judge} {sentence}."
        for judge in certificate.diagnostics
        for sentence in findings(labels, judge.confusion, judge.auroc, judge.drawn, judge.alike)
    ]


def _confusion_table(judge: JudgeDiagnostics, labels: Sequence[Label]) -> Table:
    rows = zip((*labels, "no majority"), judge.confusion, strict=True)
    return Table(
        f"Confusion matrix of {judge.judge}",
        (Column("Human label"), *numbers(*(f"Verdict {label}" for label in labels), "No verdict")),
        tuple(Row((words(name), *map(count, counts))) for name, counts in rows if any(counts)),
        folded=True,
    )


def _surest_table(judge: JudgeDiagnostics, several: bool) -> Table:
    rows = tuple(
        Row(
            (
                words(shown_row(one.item_id, several=several)),
                words(one.verdict),
                words(one.human or "no majority"),
                decimal(one.score, ""),
            )
        )
        for one in judge.surest
    )
    columns = (Column("Item"), Column("Verdict"), Column("Human label"), Column("Score", True))
    return Table(f"Surest disagreements of {judge.judge}", columns, rows, folded=True)


def _judge_row(judge: JudgeDiagnostics) -> Row:
    no_verdict = "no row has a verdict" if judge.n else "no row was judged"
    spoke, graded = judge.ece is not None, _is_graded(judge)
    ranked = "all or no verdicts are correct"
    of_scores = (judge.ece, no_verdict), (judge.brier, no_verdict), (judge.auroc, ranked)
    cells = (
        words(judge.judge),
        share(judge.agreements, judge.n, "no row was judged") if spoke else missing(no_verdict),
        words(figures.interval(*judge.interval)) if spoke else missing(no_verdict),
        decimal(judge.kappa, "undefined: nothing beyond chance to measure"),
        *(decimal(value, why) if graded else missing(NO_GRADES) for value, why in of_scores),
        count(judge.votes),
        count(sum(judge.failures.values()), figures.failures_text(judge.failures)),
        figures.usd(judge.cost) if judge.cost else missing("no cost was recorded: free, or without a price"),
    )
    return Row(cells)


def _reliability(judge: JudgeDiagnostics, threshold: float | None) -> Reliability:
    bins = tuple(
        ReliabilityBin(bin.low, bin.high, bin.count, bin.mean_score, bin.correct / bin.count)
        for bin in judge.bins
        if bin.count
    )
    alt = (
        f"Reliability diagram of {judge.judge}: mean score against share correct in {len(bins)} bins, "
        f"{sum(bin.count for bin in bins)} verdicts; expected calibration error "
        f"{decimal(judge.ece, 'no row has a verdict').text}."
    )
    alt += "".join(
        f" Mean score {each.mean_score:.2f}: {share(round(each.right * each.count), each.count).text} of "
        f"{each.count:,} correct."
        for each in bins
    )
    if threshold is not None:
        alt += f" Accepts from score {threshold:.3f} on."
    return Reliability(judge.judge, bins, alt, threshold)


def _bins_table(judge: JudgeDiagnostics) -> Table:
    no_verdict = "no verdict in this bin"
    rows = tuple(
        Row((
            *(decimal(bin.low, ""), decimal(bin.high, ""), count(bin.count)),
            decimal(bin.mean_score if bin.count else None, no_verdict),
            *(count(bin.correct), share(bin.correct, bin.count, no_verdict)),
        ))
        for bin in judge.bins
    )  # fmt: skip
    columns = numbers("Scores from", "to", "Verdicts", "Mean score", "Correct", "Share correct")
    return Table(f"Reliability of {judge.judge}", columns, rows, folded=True)
