"""Write the files of a report: a page, Markdown and JSON, and the items of a run."""

from pathlib import Path

from trustescalate.records.jsonl import write_atomically
from trustescalate.report.html import render_html
from trustescalate.report.items_data import ITEMS
from trustescalate.report.machine import render_items, render_json
from trustescalate.report.markdown import render_markdown
from trustescalate.report.sections import Report


def write_report(folder: Path, report: Report) -> Path:
    """Write report.html, .md and .json, and report.items.jsonl of a run; return the path of the page."""
    page = report.page()
    rendered = {"html": render_html(page), "md": render_markdown(page), "json": render_json(report)}
    for name, text in rendered.items():
        write_atomically(folder / f"report.{name}", text.encode())
    if report.kind == "run":
        write_atomically(folder / ITEMS, render_items(report.items))
    return folder / "report.html"
