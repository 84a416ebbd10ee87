"""Render a page as one HTML file: no network access, and a content policy for its own style and scripts.

Jinja applies `visible` and autoescaping to every value.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup, escape

from trustescalate.report import charts
from trustescalate.report.pictures import Picture, Reliability
from trustescalate.report.sections import Page, Section, Table
from trustescalate.report.text import one_line, visible

MAX_ITEMS = 2_000
"""The page shows at most so many items, abstained ones first."""
MAX_TEXT = 20_000
"""A longer text is cut, with a note."""
_STYLES = ("page.css", "chart.css", "items.css")
_SCRIPTS = ("page.js", "items.js")
_SHARE = re.compile(r"\d+(?:\.\d+)? %")


def render_html(page: Page) -> str:
    """Render a self-contained file, readable without JavaScript. Equal pages give equal bytes."""
    style, scripts = "".join(map(_asset, _STYLES)), [_asset(name) for name in _SCRIPTS]
    items, left = page.items[:MAX_ITEMS], len(page.items) - MAX_ITEMS
    return _template().render(
        page=page,
        rows=items,
        left_out=f"{left:,} more rows are not shown here; report.json has all of them." if left > 0 else "",
        people=any(row.people.value is not None for row in page.items),
        states=list(dict.fromkeys(row.state for row in items)),
        judges=sorted({row.judge.text for row in items if row.judge.value is not None}),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        policy=_policy([style], scripts),
        footer="Every figure on this page is computed from the counts on it. Made with trustescalate.",
    )


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    def allow(texts: Sequence[str]) -> str:
        return " ".join(f"'{_hash(text)}'" for text in texts)

    return (
        f"default-src 'none'; style-src {allow(styles)}; script-src {allow(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    return resources.files("trustescalate.report").joinpath("assets", name).read_text("utf-8")


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
        emphasised=_emphasised,
        cut=_cut,
        line=_line,
        details=_details,
        caption=_caption,
        kind=lambda picture: type(picture).__name__.lower(),
        draw=lambda picture: Markup(charts.draw(picture)),
        bar=lambda share: Markup(charts.draw_share(share)),
    )
    return environment.get_template("page.html")


def _shown(value: object) -> object:
    return value if isinstance(value, Markup) else visible(str(value))


def _prose(text: str) -> str:
    return text.replace(" %", "\u00a0%").replace("USD ", "USD\u00a0").replace(" × ", "\u00a0×\u00a0")


def _emphasised(text: str) -> Markup:
    """The claim, with its shares in bold."""
    strong = _SHARE.sub(lambda match: f"<b>{match.group()}</b>", str(escape(visible(text))))
    return Markup(_prose(strong))


def _caption(picture: Picture) -> str:
    return picture.judge if isinstance(picture, Reliability) else picture.title


def _details(section: Section, tables: Sequence[Table]) -> str:
    """Name what is folded: "Details: method, 2 tables"."""
    parts = ["method"] if len(section.text) > 1 else []
    parts += [f"{len(tables)} tables" if len(tables) > 1 else "table"] if tables else []
    parts += [block.title.lower() for block in section.blocks]
    return f"Details: {', '.join(parts)}"


def _line(text: str, limit: int = 160) -> str:
    flat = one_line(text[: 2 * limit]).replace("⏎", " ").strip()
    return flat if len(flat) <= limit and len(text) <= 2 * limit else flat[:limit].rstrip() + " …"


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n… {len(text) - MAX_TEXT:,} more characters: report.json has the whole text."
