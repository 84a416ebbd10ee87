"""List failed votes by reason, with sample replies, for the report and for a terminal."""

from collections.abc import Iterable, Mapping, Sequence

from trustescalate.records import FAILURES, SampleReply
from trustescalate.records.criteria import shown_row
from trustescalate.report.figures import Figure, count, missing, words
from trustescalate.report.sections import Column, Row, Table, numbers
from trustescalate.report.text import one_line

Samples = Mapping[str, Sequence[SampleReply]]


def failed_votes_table(
    judges: Iterable[tuple[str, Mapping[str, int], Samples]], *, several: bool = False
) -> Table:
    """Make a table of (judge, votes by failure, sample replies by failure).

    `several`: the items are rows of several criteria.
    """
    rows = tuple(
        Row((
            *(words(judge), words(reason), words(FAILURES.get(reason, "")), count(number)),
            _quoted(samples.get(reason, ()), several),
        ))
        for judge, failures, samples in judges
        for reason, number in sorted(failures.items())
    )  # fmt: skip
    named = (Column("Judge"), Column("Failure"), Column("Meaning"))
    columns = (*named, *numbers("Votes"), Column("Sample replies"))
    return Table("Failed votes, by reason", columns, rows)


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
