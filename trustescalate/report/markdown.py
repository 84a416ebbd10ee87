"""Render a page as GitHub-flavoured Markdown, for pull requests and step summaries.

Characters with a meaning in Markdown or HTML become character references. Folded tables, and items other
than the first abstentions, are omitted.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile

from trustescalate.records.failures import reason_in_words
from trustescalate.report.figures import Figure
from trustescalate.report.pictures import Flow, Picture
from trustescalate.report.sections import KeyFigure, Page, Release, Row, Section, Table
from trustescalate.report.text import one_line

MAX_ABSTAINED = 50
_MEANINGFUL = re.compile(r"[&<>|`*_~\\\[\]{}!$@#]|(?<=:)//|(?<=www)\.|\A[-+=]", re.IGNORECASE)
_TONES = {"good": "✅", "warning": "⚠️", "bad": "❌"}
_OUTCOMES = {"pass": "✅", "undecided": "⚠️", "fail": "❌"}


def render_markdown(page: Page) -> str:
    """Render the first screen, the sections in short, and the first abstentions."""
    sections = (part for section in page.sections for part in section_parts(section))
    return "\n\n".join([*first_screen(page), *sections, *_abstained(page)]) + "\n"


def first_screen(page: Page) -> list[str]:
    """Render what stands before the sections, a paragraph or table each."""
    gate = [] if page.release is None else list(_release(page.release))
    product_first = page.release is not None and page.release.about_product
    return [
        *(gate if product_first else []),
        f"## {_TONES[page.tone]} {escape(page.headline)}",
        f"**{escape(page.title.strip())}**",
        f"<sub>{' · '.join(map(escape, page.facts))}</sub>",
        *(f"> **{escape(banner)}**" for banner in page.banners),
        *map(escape, page.claims),
        *([f"**What would help.** {escape(page.advice)}"] if page.advice else []),
        *([] if product_first else gate),
        *([listed("Assumptions", map(escape, page.assumptions))] if page.assumptions else []),
        figures_table(page.figures),
        *(_picture(picture) for picture in page.pictures),
        *([listed("Next", map(code, page.follow))] if page.follow else []),
    ]


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


def listed(title: str, lines: Iterable[str]) -> str:
    """Render a list below its title; the lines are Markdown already."""
    return f"{title}:\n\n" + "\n".join(f"* {text}" for text in lines)


def _release(release: Release) -> Iterator[str]:
    yield f"## {_OUTCOMES[release.status]} Release gate: {release.status}"
    if release.shown:
        rows = [
            (escape(check.name), check.status, escape(check.observed), escape(check.required))
            for check in release.shown
        ]
        yield _table(("Check", "Outcome", "Seen", "Required"), rows)
    yield from (escape(picture.alt) for picture in release.pictures)
    yield escape(" ".join(filter(None, (release.mean, release.summary, release.note))))


def figures_table(figures: Sequence[KeyFigure]) -> str:
    """Render key figures as a table."""
    rows = [(escape(key.name), f"**{escape(key.figure.text)}**", escape(key.detail)) for key in figures]
    return _table(("Figure", "Value", ""), rows)


def _picture(picture: Picture) -> str:
    """The flow as a table; of any other chart its text alternative."""
    if not isinstance(picture, Flow):
        return escape(picture.alt)
    rows = [
        (code(tier.name), f"{tier.asked:,}", f"{tier.ended:,}", escape(tier.note)) for tier in picture.tiers
    ]
    rest = (("human labels", picture.labelled), ("human review", picture.review))
    for name, items in (*rest, ("not decided yet", picture.undecided)):
        rows += [(name, "", f"{items:,}", "")] if items else []
    titles = ("Tier", "Asked", picture.ended.capitalize(), "Cost")
    return f"{escape(picture.title)}:\n\n{_table(titles, rows, (False, True, True, True))}"


def section_parts(section: Section) -> list[str]:
    """Render a section in short: no folded table, and no block of several lines."""
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


def _abstained(page: Page) -> list[str]:
    queued = takewhile(lambda row: row.disagrees or row.state == "abstained", page.items)
    rows = islice((row for row in queued if row.state == "abstained"), MAX_ABSTAINED)
    shown = [
        (code(row.id), escape(reason_in_words(row.reason)), _excerpt(row.prompt[0].text)) for row in rows
    ]
    if not shown:
        return []
    review = sum(picture.review for picture in page.pictures if isinstance(picture, Flow))
    left = max(0, review - len(shown))
    more = [f"{left:,} more are in the other formats of this report."] if left else []
    return ["### Items: human review queue", _table(("Item", "Reason", "Prompt"), shown), *more]


def _excerpt(text: str, limit: int = 80) -> str:
    return code(text if len(text) <= limit else text[:limit] + " …")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool] = ()) -> str:
    marks = ["--:" if place < len(numeric) and numeric[place] else "---" for place in range(len(titles))]
    lines = [titles, marks, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
