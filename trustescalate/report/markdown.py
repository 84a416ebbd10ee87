"""Render a report as GitHub-flavoured Markdown, for pull requests and step summaries.

Characters with a meaning in Markdown or HTML become character references. Folded tables, and items other
than the first abstentions, are omitted.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

from trustescalate.report.figures import Figure
from trustescalate.report.sections import Report, Row, Section, Table
from trustescalate.report.text import one_line

MAX_ABSTAINED = 50
_MEANINGFUL = re.compile(r"[&<>|`*_~\\\[\]{}!$@#]|(?<=:)//|(?<=www)\.|\A[-+=]", re.IGNORECASE)
_SIGNS = {"certified": "✅", "expected": "ℹ️", "none": "❌", "incomplete": "⚠️", "uncertified": "⚠️"}


def render_markdown(report: Report) -> str:
    """Render the claim, the figures and the first abstentions."""
    parts = [
        f"## {_SIGNS[report.status]} {escape(report.headline)}",
        f"**{escape(report.task.question.strip())}**",
        *(f"> **{escape(banner)}**" for banner in report.banners),
        escape(report.claim),
        *([escape(report.run_claim)] if report.run_claim else []),
        *([f"**What would help.** {escape(report.advice)}"] if report.advice else []),
        *([_assumptions(report.assumptions)] if report.assumptions else []),
        _key_figures(report),
        *(part for section in report.sections for part in _section(section)),
        *_abstained(report),
        f"<sub>{escape(report.subject)}</sub>",
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Make a text inert on one line: no markup, link, mention or table cell.

    >>> print(escape("a|b `c`\n<b> @you"))
    a&#124;b &#96;c&#96;⏎&#60;b&#62; &#64;<!-- -->you
    """
    return _MEANINGFUL.sub(_reference, one_line(text))


def _reference(match: re.Match[str]) -> str:
    references = "".join(f"&#{ord(character)};" for character in match.group())
    return references + "<!-- -->" if match.group() in "@#" else references


def code(text: str) -> str:
    """`escape`, in a fixed-width font.

    >>> code("item_1")
    '<code>item&#95;1</code>'
    """
    return f"<code>{escape(text)}</code>"


def _assumptions(assumptions: Iterable[str]) -> str:
    return "Assumptions:\n\n" + "\n".join(f"* {escape(text)}" for text in assumptions)


def _key_figures(report: Report) -> str:
    keys = report.key_figures
    rows = [(escape(key.name), f"**{escape(key.figure.text)}**", escape(key.detail)) for key in keys]
    return _table(("Figure", "Value", ""), rows)


def _section(section: Section) -> list[str]:
    tables = [f"{escape(table.caption)}\n\n{_facts(table)}" for table in section.tables if not table.folded]
    short = [block for block in section.blocks if "\n" not in block.text]
    blocks = [f"{escape(block.title)}: {code(block.text)}" for block in short]
    return [f"### {escape(section.title)}", *map(escape, section.text), *tables, *blocks]


def _facts(table: Table) -> str:
    titles = [escape(column.title) for column in table.columns]
    return _table(titles, [_row(row) for row in table.rows], [column.numeric for column in table.columns])


def _row(row: Row) -> list[str]:
    cells = [_cell(figure) for figure in row.cells]
    return [f"{cells[0]} ({escape(row.mark)})", *cells[1:]] if row.mark else cells


def _cell(figure: Figure) -> str:
    text = escape(figure.text)
    return f"{text} ({escape(figure.note)})" if figure.note else text


def _abstained(report: Report) -> list[str]:
    queued = takewhile(lambda row: row.disagrees or row.state == "abstained", report.items)
    rows = islice((row for row in queued if row.state == "abstained"), MAX_ABSTAINED)
    shown = [(code(row.id), escape(row.reason), _excerpt(row.prompt[0].text)) for row in rows]
    if not shown:
        return []
    left = max(0, int(report.measures.abstained.value or 0) - len(shown))
    more = [f"{left:,} more are in the other formats of this report."] if left else []
    return ["### Items: human review queue", _table(("Item", "Reason", "Prompt"), shown), *more]


def _excerpt(text: str, limit: int = 80) -> str:
    return code(text if len(text) <= limit else text[:limit] + " …")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    marks = ["--:" if place < len(numeric) and numeric[place] else "---" for place in range(len(titles))]
    lines = [titles, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
