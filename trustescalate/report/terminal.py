"""A section of a report for a terminal: sentences, then tables in columns. No charts, no single items."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from trustescalate.report.sections import Section, Table
from trustescalate.report.text import one_line

WIDTH = 100
MAX_CELL = 60
"""A longer cell is cut: a name of a thousand letters shall not push the figures off the screen."""


def section_lines(section: Section) -> list[str]:
    """Print title, sentences and tables, folded ones too. Every text is on one line and harmless."""
    lines = [one_line(section.title)]
    for text in section.text:
        lines += ["", *wrap(one_line(text), WIDTH)]
    for table in section.tables:
        lines += ["", f"{one_line(table.caption)}:", *_table_lines(table)]
    return lines


def _table_lines(table: Table) -> Iterator[str]:
    titles = [one_line(column.title) for column in table.columns]
    rows = [[_cell(figure.text, figure.note) for figure in row.cells] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for cells in (titles, *rows):
        yield "  " + "  ".join(_set(cells, widths, table)).rstrip()


def _set(cells: Sequence[str], widths: Sequence[int], table: Table) -> Iterator[str]:
    for cell, width, column in zip(cells, widths, table.columns, strict=True):
        yield cell.rjust(width) if column.numeric else cell.ljust(width)


def _cell(text: str, note: str) -> str:
    whole = one_line(f"{text} ({note})" if note else text)
    return whole if len(whole) <= MAX_CELL else whole[: MAX_CELL - 1] + "…"
