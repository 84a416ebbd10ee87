"""Report a run without a certificate: what its verdicts are, and how each judge agrees with human labels."""

from collections import Counter
from collections.abc import Iterable, Sequence

from trustescalate.calibration.losses import losses
from trustescalate.data.labels import sampled
from trustescalate.records import Label, Run, Step
from trustescalate.records.criteria import count_in_words
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.item_columns import groups_of, ids_of
from trustescalate.report import figures, run_figures
from trustescalate.report.agreement import Limits
from trustescalate.report.bars import bar_chart, interval_chart, share_bar, short
from trustescalate.report.certificate_figures import (
    INTERVAL,
    INTERVAL_DELTA,
    human_reference,
    interval_figure,
)
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.pictures import Bar, Bars, Picture
from trustescalate.report.sections import Column, KeyFigure, Row, Section, Table, numbers

BANNER = "Uncertified: no certificate covers these verdicts, and none of them is released."
NOTHING = "the run is uncertified: nothing is released"
ON_RUN = "on the labelled items of this run"
NO_LABELS = "no item of the run has a human label that was drawn as a sample"


def sentence(run: Run) -> str:
    """State what the verdicts are, and why nothing is certified."""
    judges, named = [seal.judge for seal in run.header.certificate.judges], run.header.uncertified or {}
    how = f"every judge judged every item, and the verdicts are those of {judges[-1]}"
    if named:
        ends = ", ".join(f"{name} from {named[name]:g} on" for name in judges if name in named)
        how = f"an item ends at the first judge whose score reaches the threshold that you named ({ends})"
    if len(judges) == 1 and not named:
        how = f"the verdicts are those of {judges[0]}"
    return f"Uncertified: {how}. Nothing is released. There is no certificate: {_reason(run)}."


def _reason(run: Run) -> str:
    return run.header.certificate.reason.rstrip(".")


def judge_agreement(run: Run, judge: str | None = None) -> tuple[Figure, Limits]:
    """Compare a judge's verdicts with the human labels of a sample of the run's items, or the run's verdicts.

    No verdict counts as a disagreement, and so does an item without a majority.
    """
    from trustescalate.calibration.population import agreement_limits, unit_of

    certificate = run.header.certificate
    known = losses(certificate.task, certificate.label_policy, sampled(run.annotations))
    groups = groups_of(run.items)
    lost = [
        (item_id, 1.0 if label is None else known[item_id][label])
        for item_id, label in _labels(run, judge)
        if item_id in known
    ]
    if not lost:
        return missing(NO_LABELS if not known else "it judged no item with a human label"), None
    values = [loss for _, loss in lost]
    whole = sum(values)
    agreed = len(values) - (int(whole) if set(values) <= {0, 1} else float(whole))
    units = [unit_of(item_id, groups) for item_id, _ in lost]
    return share(agreed, len(values)), agreement_limits(values, units, INTERVAL_DELTA)


def _labels(run: Run, judge: str | None) -> Iterable[tuple[str, Label | None]]:
    """The item and verdict of each decision: of one judge where it was asked, or of the run."""
    ids = ids_of(run.items)
    for place, row in placed_decisions(run):
        asked: Iterable[Step] = row.trail if judge is not None else row.trail[-1:]
        for step in asked:
            if judge in (None, step.judge):
                yield ids[place], step.label


def key_figures(run: Run) -> list[KeyFigure]:
    """Give the agreement of the run's verdicts with human labels, and what is released: nothing."""
    figure, limits = judge_agreement(run)
    detail = figure.note
    if limits is not None:
        known = [figures.interval(*limits)]
        known += [] if figure.counts is None else [f"{figure.counts[1]:,} labelled items of this run"]
        known += ["not drawn at random"] if _picked(run) else []
        detail = "; ".join([*known, "uncertified"])
    return [
        KeyFigure("Agreement with human labels", figure, detail),
        KeyFigure("Coverage", missing(NOTHING), f"{count_in_words(run.items)} judged; nothing is released"),
    ]


def uncertified_section(run: Run) -> Section | None:
    """Report how often each judge agrees with human labels and gives which verdict; None if certified."""
    if not run.uncertified:
        return None
    judges = [seal.judge for seal in run.header.certificate.judges]
    known = {note.item_id for note in sampled(run.annotations)}
    text = [
        _lead(run, judges),
        "No certificate covers these verdicts: they are not released, and the gate counts none of them. "
        + (
            f"{len(known):,} of the {len(run.items):,} items have human labels{_how_drawn(run)}. "
            "The agreement on them is a measurement; it certifies nothing, and each interval holds by "
            "itself, not for the highest of several judges."
            if known
            else f"How often they agree with people was not measured: {NO_LABELS}."
        ),
    ]
    if run.header.uncertified:
        text.append(
            "A judge is asked where no judge before it ended the item, so later judges see harder items."
        )
    tables = [_agreement_table(run, judges)] if known else []
    return Section(
        "uncertified-verdicts", "Verdicts without a certificate", tuple(text), _charts(run, judges),
        (*tables, _verdict_table(run, judges)),
    )  # fmt: skip


def _picked(run: Run) -> bool:
    return run.product is not None and run.product.picked


def _how_drawn(run: Run) -> str:
    if not _picked(run):
        return " that were drawn as a sample"
    return (
        "; these items are judged differently from the rest, so they were selected, not drawn at random: "
        "they say nothing of the others"
    )


def _lead(run: Run, judges: Sequence[str]) -> str:
    """Name the judge with the highest observed agreement with human labels, with its interval."""
    measured = [(judge, *judge_agreement(run, judge)) for judge in judges]
    known = [row for row in measured if row[2] is not None]
    if not known:
        return f"No verdict is certified, and none was compared with human labels: {measured[-1][1].note}."
    judge, figure, limits = max(known, key=lambda row: float(row[1].value or 0))
    of = "" if figure.counts is None else f" of the {figure.counts[1]:,} labelled items of this run"
    between = "" if limits is None else f" ({INTERVAL} {figures.interval(*limits)})"
    most = f", the highest observed of {len(known):,} judges" if len(known) > 1 else ""
    agrees = f"{short(judge)} agrees with human labels on {figure.text}{of}{between}{most}"
    return f"No verdict is certified; {agrees}."


def _charts(run: Run, judges: Sequence[str]) -> tuple[Picture, ...]:
    bars = [share_bar(judge, *judge_agreement(run, judge)) for judge in judges]
    if run.header.uncertified:
        bars.append(share_bar("the verdicts of this run", *judge_agreement(run, None)))
    title = f"Agreement with {human_reference(run.header.certificate)} {ON_RUN}, {INTERVAL}s"
    charts = interval_chart(title, [bar for bar in bars if bar.limits is not None])
    return charts or _verdict_chart(run, judges)


def _verdicts(run: Run, judge: str) -> Counter[Label | None]:
    """Count the verdicts of a judge on the items that it was asked about."""
    given = Counter[Label | None]()
    for step, number in run_figures.steps(run, judge):
        given[step.label] += number
    return given


def _verdict_chart(run: Run, judges: Sequence[str]) -> tuple[Bars, ...]:
    """Draw how often each judge gives each verdict, where no label tells how often it is right."""
    labels = run.header.certificate.task.labels
    bars = []
    for judge in judges:
        given = _verdicts(run, judge)
        if asked := given.total():
            values = tuple(given[label] / asked for label in labels)
            bars.append(Bar(judge, values, tuple(share(given[label], asked).text for label in labels)))
    return bar_chart("Verdicts of each judge", bars, labels)


def _agreement_table(run: Run, judges: Sequence[str]) -> Table:
    lines: list[tuple[str, str | None]] = [(judge, judge) for judge in judges]
    if run.header.uncertified:
        lines.append(("the verdicts of this run", None))
    rows = []
    for name, judge in lines:
        figure, limits = judge_agreement(run, judge)
        counts = missing("") if figure.counts is None else words("{:,} of {:,}".format(*figure.counts))
        rows.append(Row((words(name), counts, figure, interval_figure(limits)), mark="uncertified"))
    columns = (Column("Judge"), *numbers("Agrees", "Share", INTERVAL))
    reference = human_reference(run.header.certificate)
    caption = f"Agreement of each judge with {reference} {ON_RUN}, uncertified"
    return Table(caption, columns, tuple(rows))


def _verdict_table(run: Run, judges: Sequence[str]) -> Table:
    labels = run.header.certificate.task.labels
    rows = []
    for judge in judges:
        given = _verdicts(run, judge)
        asked = given.total()
        cells = (share(given[label], asked, "it was not asked") for label in (*labels, None))
        rows.append(Row((words(judge), count(asked), *cells)))
    columns = (Column("Judge"), *numbers("Judged", *labels, "No verdict"))
    return Table("Verdicts of each judge, uncertified", columns, tuple(rows))
