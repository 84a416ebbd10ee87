"""Report failed votes by reason, with sample replies, in the report and on a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from trustescalate.records import FAILURES, Certificate, Run, SampleReply
from trustescalate.records.criteria import BY_CRITERION, ask_several, shown_row
from trustescalate.records.failures import failure_in_words
from trustescalate.records.judge_counts import count_votes
from trustescalate.report import run_figures
from trustescalate.report.bars import bar_chart, short
from trustescalate.report.figures import Figure, count, failures_text, missing, share, words
from trustescalate.report.pictures import Bar
from trustescalate.report.sections import Column, Row, Section, Table, numbers
from trustescalate.report.text import one_line

Samples = Mapping[str, Sequence[SampleReply]]


class Failed(NamedTuple):
    """The failed votes of a judge by reason, of all its `votes`, with sample replies."""

    judge: str
    votes: int
    failures: Mapping[str, int]
    samples: Samples


def failed_votes_section(certificate: Certificate, run: Run | None) -> Section | None:
    """Report why votes failed, in the run and at calibration; None where no vote failed."""
    before = [
        Failed(judge.judge, judge.votes, judge.failures, judge.samples) for judge in certificate.diagnostics
    ]
    now = [] if run is None else _of_run(run)
    several = certificate.group_by == BY_CRITERION or (run is not None and ask_several(run.items))
    tables = [
        _table(caption, rows, several)
        for caption, rows in (("Failed votes of this run", now), ("Failed votes at calibration", before))
        if any(judge.failures for judge in rows)
    ]
    if not tables:
        return None
    shown, where = (before, "at calibration") if run is None else (now, "in this run")
    text = [_lead(shown, where)]
    if run is not None:
        text[0] += f" At calibration, {_counted(before)}." if before else ""
        oftener = run_figures.excess_failures(run)
        text += [f"More failures than at calibration: {oftener.text}."] if oftener.value else []
    text.append(
        "A failed vote stays in every denominator and gives no label any weight, so its item is more likely "
        "to escalate."
    )
    bars = [
        Bar(f"{judge.judge}: {failure_in_words(reason)}", (float(number),), (_part(number, judge.votes),))
        for judge in (shown if any(judge.failures for judge in shown) else before)
        for reason, number in sorted(judge.failures.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    if not any(judge.failures for judge in shown):
        where = "at calibration"
    charts = bar_chart(f"Failed votes {where}, by judge and reason", bars)
    return Section("failed-votes", "Failed votes by reason", tuple(text), charts, tuple(tables))


def _of_run(run: Run) -> list[Failed]:
    return [
        Failed(name, counts.votes, counts.failures, counts.samples.replies)
        for name, counts in sorted(count_votes(run.judgments).each.items())
    ]


def _lead(judges: Sequence[Failed], where: str) -> str:
    worst = max(judges, key=lambda judge: sum(judge.failures.values()), default=None)
    lead = f"{_counted(judges)} {where}"
    if worst is not None and worst.failures:
        name, reasons = short(worst.judge), failures_text(worst.failures)
        several = sum(bool(judge.failures) for judge in judges) > 1
        lead += f"; {name} has the most ({reasons})" if several else f", all of {name} ({reasons})"
    return f"{lead[0].upper()}{lead[1:]}."


def _counted(judges: Sequence[Failed]) -> str:
    failed, votes = (
        sum(sum(judge.failures.values()) for judge in judges),
        sum(judge.votes for judge in judges),
    )
    if not failed:
        return f"none of {votes:,} votes failed"
    return f"{failed:,} of {votes:,} votes failed ({share(failed, votes).text})"


def _part(number: int, votes: int) -> str:
    return f"{number:,} ({share(number, votes).text} of its votes)"


def _table(caption: str, judges: Iterable[Failed], several: bool) -> Table:
    rows = tuple(
        Row((
            *(words(judge), words(failure_in_words(reason)), words(reason), count(number)),
            _quoted(samples.get(reason, ()), several),
        ))
        for judge, _, failures, samples in judges
        for reason, number in sorted(failures.items())
    )  # fmt: skip
    named = (Column("Judge"), Column("Failure"), Column("Code"))
    columns = (*named, *numbers("Votes"), Column("Sample replies"))
    return Table(caption, columns, rows)


def failed_votes_lines(
    judge: str, votes: int, failures: Mapping[str, int], samples: Samples, *, several: bool = False
) -> list[str]:
    """Describe the failed votes of one judge, with sample replies, each on one inert line.

    >>> failed_votes_lines("small", 4, {"none": 2}, {"none": (SampleReply("q1", "Both\\nare fine."),)})
    ['  small: 2 of 4 votes failed: none (the reply holds no verdict)', '    q1: Both⏎are fine.']
    """
    lines = list[str]()
    for reason, number in failures.items():
        meaning = f" ({FAILURES[reason]})" if reason in FAILURES else ""
        lines.append(f"  {one_line(judge)}: {number:,} of {votes:,} votes failed: {reason}{meaning}")
        for each in samples.get(reason, ()):
            lines.append(f"    {one_line(shown_row(each.item_id, several=several))}: {one_line(each.reply)}")
    return lines


def _quoted(samples: Sequence[SampleReply], several: bool) -> Figure:
    if not samples:
        return missing("no reply has a text")
    return words("; ".join(f"{shown_row(each.item_id, several=several)}: “{each.reply}”" for each in samples))
