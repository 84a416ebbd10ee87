"""Report the distribution-shift check: each tier's verdicts and scores, labelled rows against the run."""

from trustescalate.records import Run, TierShift
from trustescalate.report import figures
from trustescalate.report.bars import bar_chart, short
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.pictures import Bar, Bars
from trustescalate.report.sections import Column, Row, Section, Table, numbers

SHIFT = (
    "The verdicts or scores on these items differ from those on the labelled rows by more than chance "
    "explains. The certificate is about items like the labelled rows; check what changed, and label some of "
    "these items."
)

IF_ALIKE = "if these items come from the same population, which the shift check doubts"
"""The condition of what the certificate says of a run with an alarm."""


def conditional(text: str, run: Run) -> str:
    """A sentence that rests on the certificate, under its condition where the check raises an alarm."""
    if not text or not any(tier.raised for tier in run.shift):
        return text
    return f"{IF_ALIKE[0].upper()}{IF_ALIKE[1:]}: {text[0].lower()}{text[1:]}"


def is_doubted(alarms: Figure) -> bool:
    """Whether the check raises an alarm; its figure may be a text, or missing."""
    return isinstance(alarms.value, int) and alarms.value > 0


def shift_alarms(run: Run) -> Figure:
    """Count the tiers with an alarm, and say in the note what moved.

    Missing where nothing was compared; a text where no guarantee speaks of other items.
    """
    certificate = run.header.certificate
    if certificate.status == "none" or certificate.batch is not None:
        return words("not applicable")
    if not run.shift:
        return missing(
            "verdicts and scores were not compared with those on the labelled rows, which takes "
            "certificate.votes.jsonl"
        )
    raised = [tier for tier in run.shift if tier.raised]
    return Figure(len(raised), f"{len(raised):,} of {len(run.shift):,} tiers", "; ".join(map(_moved, raised)))


def _moved(tier: TierShift) -> str:
    before, after = _shares(tier)
    return f"{tier.judge}: {before.text} of its verdicts were {tier.label!r}, here {after.text}"


def _shares(tier: TierShift) -> tuple[Figure, Figure]:
    rows = (tier.before, tier.after)
    before, after = (
        figures.share(round(part * whole), whole, "no row reached it")
        for part, whole in zip(tier.share, rows, strict=True)
    )
    return before, after


def shift_section(run: Run) -> Section | None:
    """Report whether verdicts or scores of the run have shifted; None where nothing was compared."""
    if not run.shift:
        return None
    text = (
        _lead(run),
        "The check compares each tier's verdicts and their scores, by the first prompt of the "
        "ensemble, on the labelled rows that reach the tier and on the items that do: the share of each "
        "label among the verdicts (Fisher), and the distribution of its probability (Kolmogorov-Smirnov); "
        "false alarm in at most 1 of 100 runs. It uses no labels, and "
        "equal verdicts may hide unequal risks.",
    )
    rows = tuple(
        Row((
            *(words(tier.judge), count(tier.before), count(tier.after), words(tier.label)),
            *(*_shares(tier), figures.decimal(tier.gap, ""), figures.pvalue(tier.p_value)),
            words("shifted" if tier.raised else "no alarm"),
        ))
        for tier in run.shift
    )  # fmt: skip
    columns = (
        Column("Judge"),
        *numbers("Labelled rows", "Items"),
        Column("Label that moved most"),
        *numbers("Before", "Here", "Largest gap", "p"),
        Column("Result"),
    )
    table = Table("Verdicts and scores per tier", columns, rows)
    return Section("distribution-shift-check", "Distribution-shift check", text, _chart(run), (table,))


def _lead(run: Run) -> str:
    raised = [tier for tier in run.shift if tier.raised]
    if raised:
        return f"{'; '.join(map(_moved, raised))}. {SHIFT}"
    least = min(run.shift, key=lambda tier: tier.p_value)
    return (
        f"No shift was detected (smallest p-value {figures.pvalue(least.p_value).text}, "
        f"{short(least.judge)}); this does not prove that there is none."
    )


def _chart(run: Run) -> tuple[Bars, ...]:
    bars = []
    for tier in run.shift:
        if not (tier.before and tier.after):
            continue
        before, after = _shares(tier)
        name = f"{tier.judge}: {tier.label}{' (shifted)' if tier.raised else ''}"
        bars.append(Bar(name, tier.share, (before.text, after.text)))
    title = "Share of each tier's verdicts with the label that moved most"
    return bar_chart(title, bars, ("labelled rows", "this run"))
