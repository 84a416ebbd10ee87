"""How each judge did alone, and how honest its scores are. No guarantee rests on it."""

from trustescalate.records import Bin, Certificate, JudgeDiagnostics
from trustescalate.report import certificate_sections, figures
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.sections import Column, Reliability, ReliabilityBin, Row, Section, Table


def judges_section(certificate: Certificate) -> Section | None:
    """How each judge did alone, and how honest its scores are."""
    if not certificate.diagnostics:
        return None
    asked = "every certification row"
    if certificate.batch is not None:
        asked = "the certification rows where some policy would ask it, so dear judges about hard rows"
    held = _held(certificate)
    text = (
        f"Each judge was asked about {asked}. No guarantee rests on these figures: they say "
        f"which judge earns its place, and whether a score of 0.9 means being right nine times in ten.{held}",
    )
    binned = [judge for judge in certificate.diagnostics if judge.bins]
    charts = tuple(_reliability(judge) for judge in binned)
    bins = (_bins_table(judge) for judge in binned)
    tables = (_judges_table(certificate), *bins)
    return Section("judges", "The judges, one by one", text, reliability=charts, tables=tables)


def _held(certificate: Certificate) -> str:
    if certificate.method == "betting":
        return " Here, other than in the guarantee, a verdict is right if it is the majority's own label."
    if certificate.method == "clusters":
        return " Rows of one group are clustered, so the intervals take whole groups for what was drawn."
    return ""


def _judges_table(certificate: Certificate) -> Table:
    titles = (
        "Agreement",
        certificate_sections.INTERVAL,
        "κ",
        "ECE",
        "Brier",
        "AUROC",
        "Votes",
        "Failed votes",
        "Cost per row",
    )
    columns = (Column("Judge"), *(Column(title, True) for title in titles))
    rows = tuple(_judge_row(judge) for judge in certificate.diagnostics)
    which = "all certification rows" if certificate.batch is None else "the certification rows it was asked"
    return Table(f"Each judge on {which}", columns, rows)


def _judge_row(judge: JudgeDiagnostics) -> Row:
    no_verdict = "no row has a verdict"
    cells = (
        words(judge.judge),
        share(judge.agreements, judge.n, "no row was judged"),
        words(figures.interval(*judge.interval)) if judge.n else missing("no row was judged"),
        figures.decimal(judge.kappa, "nothing beyond chance to measure"),
        figures.decimal(judge.ece, no_verdict),
        figures.decimal(judge.brier, no_verdict),
        figures.decimal(judge.auroc, "all or no verdicts are right"),
        count(judge.votes),
        count(sum(judge.failures.values()), figures.failures_text(judge.failures)),
        figures.usd(judge.cost),
    )
    return Row(cells)


def _reliability(judge: JudgeDiagnostics) -> Reliability:
    ece = figures.decimal(judge.ece, "no row has a verdict")
    filled = [bin for bin in judge.bins if bin.count]
    alt = (
        f"Reliability of {judge.judge}: mean score against share right in {len(filled)} bins, "
        f"{sum(bin.count for bin in filled)} verdicts; expected calibration error {ece.text}."
    )
    return Reliability(judge.judge, tuple(_bin(bin) for bin in filled), alt)


def _bin(bin: Bin) -> ReliabilityBin:
    return ReliabilityBin(bin.low, bin.high, bin.count, bin.mean_score, bin.correct / bin.count)


def _bins_table(judge: JudgeDiagnostics) -> Table:
    titles = ("Scores from", "to", "Verdicts", "Mean score", "Right", "Share right")
    rows = tuple(
        Row(
            (
                figures.decimal(bin.low, ""),
                figures.decimal(bin.high, ""),
                count(bin.count),
                figures.decimal(bin.mean_score if bin.count else None, "no verdict in this bin"),
                count(bin.correct),
                share(bin.correct, bin.count, "no verdict in this bin"),
            )
        )
        for bin in judge.bins
    )
    columns = tuple(Column(title, True) for title in titles)
    return Table(f"Reliability of {judge.judge}", columns, rows, folded=True)
