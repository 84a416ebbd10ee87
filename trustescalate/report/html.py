"""Render a report as one HTML file: no network access, and a content policy for its own style and script.

Jinja applies `visible` and autoescaping to every value.
"""

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from trustescalate.report import charts
from trustescalate.report.sections import Report
from trustescalate.report.text import one_line, visible

MAX_ITEMS = 2_000
"""The page shows at most so many items, abstained ones first."""
MAX_TEXT = 20_000
"""A longer text is cut, with a note."""


def render_html(report: Report) -> str:
    """Render a self-contained page, readable without JavaScript. Equal reports give equal bytes."""
    style, script = _asset("report.css") + _asset("chart.css"), _asset("report.js")
    items, left = report.items[:MAX_ITEMS], len(report.items) - MAX_ITEMS
    return _template().render(
        report=report,
        items=items,
        left_out=f"{left:,} more rows are not shown here; report.json has all of them." if left > 0 else "",
        people=any(row.people.value is not None for row in report.items),
        states=list(dict.fromkeys(row.state for row in items)),
        judges=sorted({row.judge.text for row in items if row.judge.value is not None}),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return resources.files("trustescalate.report").joinpath(name).read_text("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        prose=_prose,
        cut=_cut,
        line=_line,
        risk=lambda chart: Markup(charts.draw_risk_coverage(chart)),
        reliability=lambda chart: Markup(charts.draw_reliability(chart)),
        intervals=lambda chart: Markup(charts.draw_intervals(chart)),
    )
    return environment.get_template("template.html")


def _shown(value: object) -> object:
    return value if isinstance(value, Markup) else visible(str(value))


def _prose(text: str) -> str:
    return text.replace(" %", "\u00a0%").replace("USD ", "USD\u00a0").replace(" × ", "\u00a0×\u00a0")


def _line(text: str, limit: int = 160) -> str:
    flat = one_line(text[: 2 * limit]).replace("⏎", " ").strip()
    return flat if len(flat) <= limit and len(text) <= 2 * limit else flat[:limit].rstrip() + " …"


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT:,} more characters: report.json has the whole text."
