"""Render a page as one HTML file: no network access, and a content policy for its own style and scripts.

Jinja applies `visible` and autoescaping to every value.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import islice

import jinja2
from markupsafe import Markup, escape

from trustescalate.records.failures import failure_in_words, reason_in_words
from trustescalate.report import charts
from trustescalate.report.items_data import ITEMS, Packed, cut, pack
from trustescalate.report.pictures import Picture, Reliability
from trustescalate.report.sections import ItemRow, Page, Section, Table
from trustescalate.report.text import one_line, visible

MAX_BYTES = 5_000_000
"""Of a page. What is left out of it is in report.json and report.items.jsonl."""
FIRST_ITEMS, FIRST_BYTES, FIRST_TEXT = 50, 600_000, 2_000
"""Items that are readable without JavaScript, the bytes of all and the characters of one of their texts."""
MAX_BLOCK = 20_000
_DATA = "<!-- items -->"
_STYLES = ("page.css", "chart.css", "items.css")
_SCRIPTS = ("page.js", "items.js")
_SHARE = re.compile(r"\d+(?:\.\d+)? %")


def render_html(page: Page) -> str:
    """Render a self-contained file, readable without JavaScript. Equal pages give equal bytes."""
    style, scripts = "".join(map(_asset, _STYLES)), [_word_diff(), *map(_asset, _SCRIPTS)]
    first = _first(page.items)
    text = (
        _template()
        .render(
            page=page,
            rows=first,
            people=any(row.people.value is not None for row in first),
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            policy=_policy([style], scripts),
            footer="The tables hold the counts behind the figures. Made with trustescalate.",
            items_file=ITEMS,
        )
        .lstrip()
    )
    if not page.items:
        return text
    packed = pack(page.items, MAX_BYTES - len(text.encode()), page.options)
    before, after = text.split(_DATA)  # no text of others holds it: "<" is escaped
    return "".join((before, _data("items-index", packed.table), *_chunks(packed), after))


def _first(items: Sequence[ItemRow]) -> list[ItemRow]:
    rows, size = list[ItemRow](), 0
    for row in islice(items, FIRST_ITEMS):
        texts = (block.text for blocks in (row.prompt, *row.responses) for block in blocks)
        size += sum(len(escape(text[:FIRST_TEXT]).encode("utf-8", "replace")) for text in (row.id, *texts))
        size += 300 * sum(len(step.cast) + 1 for step in row.trail)
        if size > FIRST_BYTES:
            break
        rows.append(row)
    return rows


def _chunks(packed: Packed) -> Iterator[str]:
    for number, chunk in enumerate(packed.chunks):
        yield _data(f"items-{number}", chunk)


def _data(name: str, text: str) -> str:
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    def allow(texts: Sequence[str]) -> str:
        return " ".join(f"'{_hash(text)}'" for text in texts)

    return (
        f"default-src 'none'; style-src {allow(styles)}; script-src {allow(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _word_diff() -> str:
    """The word diff of the labelling page, as an object of this page."""
    module = resources.files("trustescalate.data.annotation").joinpath("diff.js").read_text("utf-8")
    body = module.replace("export ", "")
    return f'"use strict";\nconst wordDiff = (() => {{\n{body}\nreturn {{ words, compare }};\n}})();\n'


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
        cut=lambda text: cut(text, FIRST_TEXT),
        block=_block,
        line=_line,
        reason=reason_in_words,
        failure=failure_in_words,
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


def _block(text: str) -> str:
    if len(text) <= MAX_BLOCK:
        return text
    return f"{text[:MAX_BLOCK]}\n… {len(text) - MAX_BLOCK:,} more characters: report.json has the whole text."
