"""Lay out the first screen of a page, report sections and tables as text for a terminal.

Every text is on lines of its own and inert; what data wrote is indented, so that no line looks like ours.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import wrap

from trustescalate.report.pictures import Flow
from trustescalate.report.sections import Check, KeyFigure, Page, Release, Section, Status, Table
from trustescalate.report.text import cells, narrowed, one_line, widened

WIDTH = 100
"""A wider terminal leaves the rest of its lines free."""
LEAST = 14
"""Narrower columns are hard to read."""
MAX_CELL = 60
"""A longer cell is cut, so that a long name leaves the figures on the screen."""


TIERS, TIERS_ASCII = "█▓▒▚▞", "#=+x%"
"""Characters of a bar by tier that has items."""
NUMBERS = "123456789abcdefghijklmnopqrstuvwxyz"
"""Characters of a bar of more tiers."""
OTHERS, OTHERS_ASCII = (
    {"labels": "▄", "people": "░", "open": "·"},
    {"labels": "o", "people": ".", "open": "?"},
)
SIGNS = {"good": "✓", "pass": "✓", "warning": "!", "undecided": "!", "bad": "✗", "fail": "✗"}
STYLES = {"✓": "1;32", "!": "1;33", "✗": "1;31", "strong": "1", "mute": "2"}
PLAIN = str.maketrans(
    dict(
        zip("✓✗−×·—–…“”’\u00a0", ("+", "x", "-", "x", "-", "-", "-", "...", '"', '"', "'", " "), strict=True)
    )
    | {"≥": ">=", "≤": "<=", "→": "->", "α": "alpha", "δ": "delta", "κ": "kappa"}
)
"""What stands for our own signs where an encoding lacks them."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What a terminal shows: its columns, whether in colour, and the characters of its encoding."""

    width: int = 80
    colour: bool = False
    encoding: str = "utf-8"

    @property
    def columns(self) -> int:
        """The columns to use: at least 40, at most `WIDTH`."""
        return max(40, min(self.width, WIDTH))

    def shows(self, text: str) -> bool:
        """Whether the encoding has all characters of a text."""
        try:
            text.encode(self.encoding)
        except (UnicodeError, LookupError):
            return False
        return True

    def paint(self, text: str, style: str) -> str:
        """Set a line in colour or bold, where there is colour; the words alone say the same."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self.colour else text

    def plain(self, text: str) -> str:
        """Replace our own signs where the encoding lacks them."""
        return text if self.shows(text) else text.translate(PLAIN)

    def fitted(self, line: str) -> list[str]:
        """`plain`, wrapped again where a sign took more columns than the one that it stands for."""
        text = self.plain(line)
        if text == line or self.colour or len(text) <= self.columns:
            return [text]
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        return wrap(text, self.columns, subsequent_indent=indent)


def page_lines(page: Page, screen: Screen = Screen()) -> list[str]:
    """Lay out the first screen of a page, without its next commands."""
    width, gate = screen.columns, [] if page.release is None else _release_lines(page.release, screen)
    product_first = page.release is not None and page.release.about_product
    lines = [*gate, ""] if product_first else []
    sign, (first, *rest) = SIGNS[page.tone], page.claims or ("",)
    head = first if first.startswith(page.headline) else page.headline
    lines += [screen.paint(text, sign) for text in _wrapped(f"{sign} {head}", width, "  ", first="")]
    lines += _wrapped(_cut(page.title.strip(), 3 * width), width, "  ")
    facts = " · ".join(fact.replace(" ", "\u00a0") for fact in page.facts)
    lines += [screen.paint(text, "mute") for text in _wrapped(facts, width, "  ")]
    if head != first:
        lines += ["", *(screen.paint(text, "strong") for text in _wrapped(first, width, "  "))]
    for claim in rest:
        lines += ["", *_wrapped(claim, width, "  ")]
    if page.advice:
        lines += ["", *_wrapped(f"What would help: {page.advice}", width, "  ")]
    lines += ["", *_figure_lines(page.figures, screen)] if page.figures else []
    for picture in page.pictures:
        lines += ["", *_flow_lines(picture, screen)] if isinstance(picture, Flow) else []
    lines += ["", *gate] if gate and not product_first else []
    lines += [""] if page.banners else []
    for banner in page.banners:
        lines += [screen.paint(text, "!") for text in _wrapped(f"! {banner}", width, "  ", first="")]
    return [piece for line in lines for piece in screen.fitted(line)]


def _release_lines(release: Release, screen: Screen) -> list[str]:
    lines = [screen.paint(f"Release gate: {release.status}", SIGNS[release.status])]
    for check in release.shown:
        text = f"{check.status}: {check.name}: {check.observed}; required: {check.required}"
        lines += _wrapped(text, screen.columns, "    ", first="  ")
    text = " ".join(filter(None, (release.mean, release.summary, release.note)))
    return [*lines, *_wrapped(text, screen.columns, "  ")]


def next_lines(page: Page) -> list[str]:
    """Name the next commands, each on a line to copy."""
    return [f"next: `{one_line(command)}`" for command in page.follow]


def gate_lines(status: Status, checks: Sequence[Check], screen: Screen = Screen()) -> list[str]:
    """Lay out a gate: the outcome, a table of the checks with reasons, and what is stated."""
    stated = [check for check in checks if check.required == "stated"]
    rows = [check for check in checks if check.required != "stated"]
    scope = "; ".join(check.observed.partition(":")[0] for check in stated[:1])
    head = _wrapped(f"gate: {status} (checked: {scope})", screen.columns, "  ", first="")
    lines = [*(screen.paint(text, SIGNS[status]) for text in head), ""]
    titles = ("", "check", "observed", "required")
    cells = [
        tuple(map(screen.plain, (check.status, check.name, check.observed, check.required))) for check in rows
    ]
    columns = _fitted([titles, *cells], screen.columns - 2)
    if columns:
        lines += (screen.paint(text, "mute") for text in _row(titles, columns))
    for check, row in zip(rows, cells, strict=True):
        first, *more = _row(row, columns) if columns else _stacked(row, screen.columns)
        end = 2 + len(check.status)
        lines += [f"  {screen.paint(first[2:end], SIGNS[check.status])}{first[end:]}", *more]
        if check.status != "pass":
            lines += _wrapped(check.message, screen.columns, " " * (4 + columns[0] if columns else 4))
    lines.append("")
    for check in stated:
        lines += _wrapped(f"{check.name}: {check.observed}", screen.columns, "    ", first="  ")
    return list(map(screen.plain, lines))


def _fitted(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The widths of columns, the widest narrowed until all fit; [] where that is too narrow."""
    widths = [max(cells(one_line(cell)) for cell in column) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widths[widths.index(max(widths))] -= 1
        if max(widths) < LEAST:
            return []
    return widths


def _stacked(cells: Sequence[str], width: int) -> list[str]:
    status, name, observed, required = cells
    more = _wrapped(f"{observed}; required: {required}", width, "    ")
    return [*_wrapped(f"{status}: {name}", width, "    ", first="  "), *more]


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Lay out one row, its cells wrapped."""
    wrapped = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    tall = range(max(map(len, wrapped)))
    lines = [[cell[at] if at < len(cell) else "" for cell in wrapped] for at in tall]
    return [
        "  " + "  ".join(_padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _wrapped(text: str, width: int, indent: str = "", *, first: str | None = None) -> list[str]:
    """Wrap a text; a number stays with its unit."""
    bound = one_line(text).replace(" %", "\u00a0%").replace("USD ", "USD\u00a0")
    begin = indent if first is None else first
    lines = wrap(widened(bound), max(width, 1), initial_indent=begin, subsequent_indent=indent) or [""]
    return [narrowed(line).replace("\u00a0", " ") for line in lines]


def _figure_lines(figures: Sequence[KeyFigure], screen: Screen) -> Iterator[str]:
    """Align names and values; the details stand beside them, or below on a narrow screen."""
    heads = [(one_line(key.name), screen.plain(one_line(key.figure.text))) for key in figures]
    name, value = (max(map(cells, column)) for column in zip(*heads, strict=True))
    name = min(name, max(screen.columns - value - 4, 12))
    beside = screen.columns - name - value - 6
    for key, (title, text) in zip(figures, heads, strict=True):
        head = f"  {_padded(_cut(title, name), name)}  {text:<{value}}"
        detail = key.detail or key.figure.note
        if beside < 30:
            yield screen.paint(head.rstrip(), "strong")
            yield from _wrapped(detail, screen.columns, "      ") if detail else []
            continue
        first, *rest = _wrapped(detail, beside)
        yield f"{screen.paint(head, 'strong')}  {first}".rstrip()
        yield from (f"{'':<{name + value + 6}}{line}" for line in rest)


def _flow_lines(flow: Flow, screen: Screen) -> list[str]:
    """Draw a bar of where the items went, and a line for each part of it."""
    blocks = screen.shows(TIERS + "".join(OTHERS.values()))
    signs, others = (TIERS, OTHERS) if blocks else (TIERS_ASCII, OTHERS_ASCII)
    ended = sum(tier.ended > 0 for tier in flow.tiers)
    free = cycle(signs if ended <= len(signs) else NUMBERS)
    parts = [(next(free) if tier.ended else " ", tier.ended) for tier in flow.tiers]
    rows = [
        (f"{sign} {tier.name}", f"{tier.asked:,} asked", f"{tier.ended:,} {flow.ended}", tier.note)
        for (sign, _), tier in zip(parts, flow.tiers, strict=True)
    ]
    rest = (("labels", flow.labelled, "human labels"), ("people", flow.review, "human review"))
    for kind, items, name in (*rest, ("open", flow.undecided, "not decided yet")):
        if items:
            parts.append((others[kind], items))
            rows.append((f"{others[kind]} {name}", "", f"{items:,} items", ""))
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    kept = 4 if sum(widths[1:]) + 28 <= screen.columns else 3
    widths[0] = min(widths[0], screen.columns - sum(width + 2 for width in widths[1:kept]) - 2)
    lines = [f"  {flow.title}", f"  {_bar(parts, screen.columns - 2)}"]
    for name, *counts in rows:
        line = [_padded(_cut(name, widths[0]), widths[0])]
        line += (count.rjust(width) for count, width in zip(counts[: kept - 1], widths[1:], strict=False))
        lines.append("  " + "  ".join(line).rstrip())
    return lines


def _bar(parts: Sequence[tuple[str, int]], width: int) -> str:
    """Divide the cells of a bar by counts; each part that has items has a cell.

    >>> _bar([("#", 143), ("=", 86), ("+", 0), (".", 1)], 10)
    '######===.'
    """
    total = sum(items for _, items in parts) or 1
    cells = [max(items * width // total, items > 0) for _, items in parts]
    while any(cells) and sum(cells) != width:
        step = 1 if sum(cells) < width else -1
        off = [
            (items * width / total - own) * step if own > (step < 0) else -width
            for own, (_, items) in zip(cells, parts, strict=True)
        ]
        cells[off.index(max(off))] += step
    return "".join(sign * own for (sign, _), own in zip(parts, cells, strict=True))


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


def _cut(text: str, most: int = MAX_CELL) -> str:
    whole = one_line(text)
    return whole if cells(whole) <= most else narrowed(widened(whole)[: most - 1]) + "…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
