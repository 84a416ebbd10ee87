"""The grammar of a drawing: measured text, shapes, patterns, and a free place for a label.

A drawing is WIDTH units wide, and text is laid out at SIZE units. chart.css shows text at that size where the
drawing is narrow (320 px) and makes it smaller where there is more room, so what has room here has room
everywhere. Coordinates have one decimal: equal charts give equal bytes.
"""

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import Literal, NamedTuple

from trustescalate.report.text import one_line, visible

WIDTH = 440.0
SIZE = 16.0
LINE = 20.0
"""From one line of text to the next."""
Anchor = Literal["start", "middle", "end"]
_BOLD = 1.13
_ADVANCES = {
    0.32: "ijlIJ' ,.·",
    0.41: "/:;\\|f-()[]t!r⟨⟩",
    0.53: '"*_`szc?',
    0.61: "LFkvxyPTYaoe",
    0.64: "ESbdghnpqu$0123456789{}",
    0.72: "KABVRXZCU",
    0.79: "HNDG&OQ",
    0.84: "w#+<=>^~−",
    1.0: "Mm%W@…",
}
"""Widths of characters in ems in DejaVu Sans, one of the widest of the fonts that pages fall back on."""
_WIDTHS = {character: width for width, characters in _ADVANCES.items() for character in characters}
_WIDEST = {"\ufdfd": 12.0}


class Box(NamedTuple):
    """A rectangle in units."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box", room: float = 0.0) -> bool:
        """Whether less than `room` units lie between two boxes."""
        return (
            self.left < other.right + room
            and other.left < self.right + room
            and self.top < other.bottom + room
            and other.top < self.bottom + room
        )


class Label(NamedTuple):
    """A line of text: `y` is its baseline."""

    x: float
    y: float
    words: str
    anchor: Anchor = "start"
    kind: str = ""

    def box(self) -> Box:
        """The room that the text takes at most."""
        wide = width(self.words, bold="strong" in self.kind)
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Box(left, self.y - 0.8 * SIZE, left + wide, self.y + 0.25 * SIZE)

    def draw(self) -> str:
        """As an element."""
        kind = f' class="{self.kind}"' if self.kind else ""
        anchor = f' text-anchor="{self.anchor}"' if self.anchor != "start" else ""
        words = escape(visible(self.words))
        return f'<text x="{at(self.x)}" y="{at(self.y)}"{kind}{anchor}>{words}</text>'


# ── text ─────────────────────────────────────────────────────────────────────────────────────────


def width(words: str, *, bold: bool = False) -> float:
    """How many units a text takes at most.

    >>> width("il") < width("mm") < width("判判判")
    True
    """
    return SIZE * (_BOLD if bold else 1.0) * sum(map(_advance, words))


def fit(words: str, room: float, *, bold: bool = False) -> str:
    """A text on one line, shortened in its middle to `room` units; marks upon marks are left out.

    >>> fit("a-model-with-a-long-name-8b", 130)
    'a-model…e-8b'
    """
    cut = words if len(words) <= 600 else f"{words[:400]}…{words[-200:]}"
    shown = "".join(_calm(one_line(cut)))
    if width(shown, bold=bold) <= room:
        return shown
    left = room - width("…", bold=bold)
    head = _start(shown, 0.6 * left, bold=bold)
    tail = _start(shown[::-1], left - width(head, bold=bold), bold=bold)[::-1]
    while tail and _advance(tail[0]) == 0:
        tail = tail[1:]
    return f"{head.rstrip()}…{tail.lstrip()}"


def wrapped(words: str, room: float, most: int, *, bold: bool = False) -> list[str]:
    """A text on at most `most` lines of `room` units, broken between words; the last is shortened.

    >>> wrapped("below threshold at every tier", 150, 2)
    ['below threshold', 'at every tier']
    """
    lines = list[str]()
    rest = fit(words, most * room, bold=bold)
    while len(lines) < most - 1 and width(rest, bold=bold) > room:
        head = _start(rest, room, bold=bold)
        cut = len(head) if rest[len(head) : len(head) + 1] == " " else head.rfind(" ")
        if cut <= 0:
            break
        lines, rest = [*lines, rest[:cut]], rest[cut:].strip()
    return [*lines, fit(rest, room, bold=bold)]


def label(x: float, y: float, words: str, room: float, anchor: Anchor = "start", kind: str = "") -> str:
    """Draw any text in `room` units."""
    return Label(x, y, fit(words, room, bold="strong" in kind), anchor, kind).draw()


def text(x: float, y: float, words: str, anchor: Anchor = "start", kind: str = "") -> str:
    """Draw words of ours, which are short enough."""
    return Label(x, y, words, anchor, kind).draw()


def percent(share: float, places: int = 0) -> str:
    """A share as text; no share but 0 is rounded to 0 %, none but 1 to 100 %.

    >>> percent(0.843), percent(0.999), percent(0.0004, 1)
    ('84 %', '>99 %', '<0.1 %')
    """
    shown, least = f"{100 * share:.{places}f}", 10.0**-places
    if share > 0 and float(shown) == 0:
        return f"<{least:.{places}f} %"
    if share < 1 and float(shown) == 100:
        return f">{100 - least:.{places}f} %"
    return f"{shown} %"


def _advance(character: str) -> float:
    known = _WIDTHS.get(character)
    if known is not None:
        return known
    code = ord(character)
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0.0
    if code >= 0x10000:
        return 2.0
    return _WIDEST.get(character, 1.1 if code >= 0x590 else 0.75)


def _calm(words: str) -> Iterator[str]:
    marks = 0
    for character in words:
        marks = marks + 1 if _advance(character) == 0 else 0
        if marks <= 2:
            yield character


def _start(words: str, room: float, *, bold: bool) -> str:
    for place, character in enumerate(words):
        room -= width(character, bold=bold)
        if room < 0:
            return words[:place]
    return words


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


def svg(height: float, title: str, alt: str, shapes: Iterable[str]) -> str:
    """Put shapes into a drawing with a title and a text alternative."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" '
        f'viewBox="0 0 {at(WIDTH)} {at(math.ceil(height))}">\n'
        f"<title>{escape(visible(title))}</title>\n<desc>{escape(visible(alt))}</desc>\n"
        + "\n".join(shapes)
        + "\n</svg>"
    )


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return _shape("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)


def circle(kind: str, x: float, y: float, radius: float) -> str:
    """A circle."""
    return _shape("circle", kind, cx=x, cy=y, r=radius)


def rectangle(kind: str, x: float, y: float, wide: float, high: float, fill: str = "") -> str:
    """A rectangle; `fill` is that of a pattern."""
    return _shape("rect", kind, fill, x=x, y=y, width=max(wide, 0), height=max(high, 0))


def polyline(kind: str, places: Iterable[tuple[float, float]], tag: str = "polyline") -> str:
    """A line through places, or a polygon."""
    points = " ".join(f"{at(x)},{at(y)}" for x, y in places)
    return f'<{tag} class="{kind}" points="{points}"/>'


def ribbon(
    kind: str, start: tuple[float, float], bend: float, end: tuple[float, float], high: float, fill: str = ""
) -> str:
    """A band of a height: straight from `start` (x, top) to `bend`, then curved to `end` (x, top)."""
    (x, y), (right, top), middle = start, end, (bend + end[0]) / 2
    curve = f"C{at(middle)} {at(y)} {at(middle)} {at(top)} {at(right)} {at(top)}"
    back = f"C{at(middle)} {at(top + high)} {at(middle)} {at(y + high)} {at(bend)} {at(y + high)}"
    path = f"M{at(x)} {at(y)}H{at(bend)}{curve}V{at(top + high)}{back}H{at(x)}Z"
    return f'<path class="{kind}"{_fill(fill)} d="{path}"/>'


def hatch(picture: object) -> tuple[str, str]:
    """A pattern of stripes and the fill that uses it; its name is unique to the chart."""
    name = "hatch-" + hashlib.sha256(ascii(picture).encode()).hexdigest()[:10]
    pattern = (
        f'<pattern id="{name}" width="5" height="5" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path class="stripe" d="M0 0V5"/></pattern>'
    )
    return f"<defs>{pattern}</defs>", f"url(#{name})"


def at(place: float) -> str:
    """A coordinate with one decimal."""
    return f"{round(place, 1) + 0.0:g}"


def _shape(tag: str, kind: str, fill: str = "", **places: float) -> str:
    numbers = " ".join(f'{name}="{at(place)}"' for name, place in places.items())
    return f'<{tag} class="{kind}"{_fill(fill)} {numbers}/>'


def _fill(fill: str) -> str:
    return f' fill="{fill}"' if fill else ""


# ── where a label is free ────────────────────────────────────────────────────────────────────────


def free_place(
    lines: Sequence[str],
    near: tuple[float, float],
    inside: Box,
    dots: Sequence[tuple[float, float]],
    boxes: Sequence[Box],
    kind: str = "strong",
) -> list[Label]:
    """Place lines of text inside a box near a place, where they cover the fewest dots and no box.

    Of equally free places the nearest is taken, above before below.
    """
    wide = max(width(words, bold="strong" in kind) for words in lines)
    high = LINE * len(lines)
    best: tuple[float, float, float] | None = None
    top = inside.top
    while top + high <= inside.bottom + 0.1:
        left = inside.left
        while left + wide <= inside.right + 0.1:
            box = Box(left, top, left + wide, top + high)
            covered = sum(
                box.left - 6 < x < box.right + 6 and box.top - 5 < y < box.bottom + 5 for x, y in dots
            )
            across = max(box.left - near[0], near[0] - box.right, 0.0)
            down = max(box.top - near[1], near[1] - box.bottom, 0.0)
            far = math.hypot(across, down)
            cost = 100.0 * covered + 1e6 * sum(box.meets(other, 2.0) for other in boxes)
            cost += far + (8.0 if top > near[1] else 0.0) + 400.0 * (far < 14.0)
            if best is None or cost < best[0] - 1e-9:
                best = cost, left, top
            left += 8.0
        top += 8.0
    _, left, top = best or (0.0, inside.left, inside.top)
    on_left = left + wide / 2 < near[0]
    x, anchor = (left + wide, "end") if on_left else (left, "start")
    return [
        Label(x, top + LINE * place + 0.78 * LINE, words, "end" if anchor == "end" else "start", kind)
        for place, words in enumerate(lines)
    ]


def between(places: Sequence[tuple[float, float]], step: float = 7.0) -> list[tuple[float, float]]:
    """Places along a line through places, at most `step` units apart."""
    dots = list(places[:1])
    for (x1, y1), (x2, y2) in pairwise(places):
        parts = max(1, math.ceil(math.hypot(x2 - x1, y2 - y1) / step))
        dots += [(x1 + (x2 - x1) * n / parts, y1 + (y2 - y1) * n / parts) for n in range(1, parts + 1)]
    return dots
