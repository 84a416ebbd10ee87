"""Lay out tables and report sections as columns of text for a terminal."""

from collections.abc import Iterable, Sequence
from textwrap import wrap

from trustescalate.report.sections import Section, Table
from trustescalate.report.text import one_line

WIDTH = 100
MAX_CELL = 60
"""A longer cell is cut, so that a long name leaves the figures on the screen."""


def section_lines(section: Section) -> list[str]:
    """Lay out title, sentences and tables, folded ones included. Every text is on one line and inert."""
    lines = [one_line(section.title)]
    for text in section.text:
        lines += ["", *wrap(one_line(text), WIDTH)]
    for table in section.tables:
        lines += ["", f"{one_line(table.caption)}:", *_table_lines(table)]
    return lines


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """Lay out a table in columns as wide as their longest cell; `align` holds "<" or ">" for each column.

    >>> table_lines(("judge", "calls"), [("small", "1,200"), ("large", "80")], "<>")
    ['  judge  calls', '  small  1,200', '  large     80']
    """
    cells = [[_cut(text) for text in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = (zip(row, align, widths, strict=True) for row in cells)
    return ["  " + "  ".join(f"{text:{side}{width}}" for text, side, width in row).rstrip() for row in padded]


def _table_lines(table: Table) -> list[str]:
    rows = [
        [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row.cells] for row in table.rows
    ]
    align = "".join(">" if column.numeric else "<" for column in table.columns)
    return table_lines([column.title for column in table.columns], rows, align)


def _cut(text: str) -> str:
    whole = one_line(text)
    return whole if len(whole) <= MAX_CELL else whole[: MAX_CELL - 1] + "…"
