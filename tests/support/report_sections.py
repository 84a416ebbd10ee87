"""Find a section of a report, and read its tables as text."""

from trustescalate.report.sections import Report, Section, Table


def section(report: Report, slug: str) -> Section:
    return next(section for section in report.sections if section.slug == slug)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in table.rows]
