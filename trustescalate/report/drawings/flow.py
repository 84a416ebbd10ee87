"""Draw where the items went: a band that thins from tier to tier, and fans out to a list of its ends."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trustescalate.report.drawings.svg import (
    LINE,
    WIDTH,
    fit,
    hatch,
    label,
    percent,
    rectangle,
    ribbon,
    svg,
    text,
    width,
)
from trustescalate.report.pictures import Flow

_TOP, _HIGH = 30.0, 196.0
"""Where the band begins, and how high it is with every item."""
_SLOT, _GAP = 42.0, 8.0
"""The room of an end, which takes two lines of text, and the room below it."""
_WIDEST, _NARROWEST = 240.0, 152.0
"""The most and the least room of the band; texts have the rest."""
_FIRST, _NODE, _BLOCK = 12.0, 6.0, 9.0
"""Where the first tier stands, and the widths of a tier and of an end."""
_COLOURS = 4


class _End(NamedTuple):
    """Where items end: a tier, or people; `part` is its share of all items, `tier` its place among tiers."""

    kind: str
    name: str
    note: str
    cost: str
    items: int
    part: str
    hatched: bool
    tier: int | None = None

    def never(self) -> bool:
        """Whether this is a tier that no item reached."""
        return not self.part

    def lines(self, room: float) -> list[str]:
        """The note and the cost, on one line where it has room beside the share."""
        whole = f"{self.note} · {self.cost}" if self.cost else self.note
        if not self.cost or width(whole) + 10 + width(self.part) <= room:
            return [whole]
        return [self.note, self.cost]

    def room(self) -> float:
        """How much room the texts would like."""
        name = width(fit(self.name, WIDTH, bold=True), bold=True) + width(f"{self.items:,}", bold=True)
        return max(name, width(f"{self.note} · {self.cost}") + width(self.part)) + 12


class _Places(NamedTuple):
    """Where things stand: tiers that were asked, by place; the fan; the ends; the texts."""

    tiers: dict[int, float]
    bend: float
    ends: float
    texts: float


def draw_flow(chart: Flow) -> str:
    """Draw the flow of items; a tier that was never asked stays in the list."""
    defs, stripes = hatch(chart)
    whole = max(chart.total, 1, _parts(chart))
    unit = _HIGH / whole
    ends = list(_ends(chart, whole))
    places = _places(chart, ends)
    room = WIDTH - places.texts
    slots = [max(end.items * unit, _SLOT + LINE * (len(end.lines(room)) - 1)) for end in ends]
    high = sum(slots) + _GAP * (len(slots) - 1)
    start = _TOP + max(0.0, (high - _HIGH) / 2)
    total = f"{chart.total:,} item{'' if chart.total == 1 else 's'}"
    shapes = [defs, text(0, 16, total, kind="strong")]
    shapes.append(label(WIDTH, 16, chart.ended, room, "end"))
    shapes += _stem(chart, places, start, unit)
    slot, y = _TOP, start
    last = max(places.tiers.values(), default=0.0)
    for end, size_of_slot in zip(ends, slots, strict=True):
        size = end.items * unit
        top = slot + (size_of_slot - size) / 2
        begin = last if end.tier is None else places.tiers.get(end.tier, 0.0)
        if end.items:
            shapes.append(ribbon(f"flow {end.kind}", (begin, y), places.bend, (places.ends, top), size))
            if end.hatched:
                shapes.append(ribbon("over", (begin, y), places.bend, (places.ends, top), size, stripes))
        shapes += _block(end, places.ends, top, size, stripes)
        shapes += _texts(end, places.texts, slot + size_of_slot / 2)
        slot, y = slot + size_of_slot + _GAP, y + size
    shapes += _nodes(chart, places, start, unit)
    return svg(_TOP + max(high, _HIGH) + 4, chart.title, chart.alt, shapes)


def tier_kind(place: int, tiers: int) -> tuple[str, bool]:
    """The class of a tier's colour, from light to dark, and whether stripes tell it from the tier before.

    >>> [tier_kind(place, 6) for place in range(3)]
    [('tier-1', False), ('tier-1', True), ('tier-2', False)]
    """
    if tiers <= _COLOURS:
        return f"tier-{place + 1}", False
    colour = place * _COLOURS // tiers
    return f"tier-{colour + 1}", place > 0 and (place - 1) * _COLOURS // tiers == colour


def _parts(chart: Flow) -> int:
    return sum(tier.ended for tier in chart.tiers) + chart.labelled + chart.review + chart.undecided


def _ends(chart: Flow, whole: int) -> Iterator[_End]:
    for place, tier in enumerate(chart.tiers):
        kind, hatched = tier_kind(place, len(chart.tiers))
        if tier.asked or tier.ended:
            part = percent(tier.ended / whole)
            yield _End(kind, tier.name, f"{tier.asked:,} asked", tier.note, tier.ended, part, hatched, place)
        else:
            yield _End(kind, tier.name, "never asked", "", 0, "", hatched, place)
    people = (
        ("people", "Human labels", f"{chart.ended} by people", chart.labelled, False),
        ("people", "Human review", "left to people", chart.review, True),
        ("open", "Undecided", "not decided yet", chart.undecided, False),
    )
    for kind, name, note, count, hatched in people:
        if count or (kind == "people" and hatched):
            yield _End(kind, name, note, "", count, percent(count / whole), hatched)


def _places(chart: Flow, ends: Sequence[_End]) -> _Places:
    texts = min(max(WIDTH - max(end.room() for end in ends), _NARROWEST), _WIDEST)
    bar = texts - 14 - _BLOCK
    bend = bar - 0.36 * texts
    asked = [place for place, tier in enumerate(chart.tiers) if tier.asked > 0]
    tiers = {place: _FIRST + (bend - _FIRST) * n / len(asked) for n, place in enumerate(asked)}
    return _Places(tiers, bend, bar, texts)


def _stem(chart: Flow, places: _Places, start: float, unit: float) -> Iterator[str]:
    """The items that go on, in grey, from the source to the last tier."""
    left, rest = 3.0, float(chart.total)
    for place, tier in enumerate(chart.tiers):
        if place in places.tiers:
            top = start + (chart.total - rest) * unit
            yield rectangle("onward", left, top, places.tiers[place] - left, rest * unit)
            left, rest = places.tiers[place], max(0.0, rest - tier.ended)


def _nodes(chart: Flow, places: _Places, start: float, unit: float) -> Iterator[str]:
    yield rectangle("source", 0, start, 3, max(chart.total * unit, 1.0))
    before, end = 0, start + max(chart.total, 1) * unit
    for place, tier in enumerate(chart.tiers):
        if place in places.tiers:
            top = min(start + before * unit, end)
            high = min(max(tier.asked * unit, 1.0), max(end - top, 1.0))
            yield rectangle(tier_kind(place, len(chart.tiers))[0], places.tiers[place], top, _NODE, high)
        before += tier.ended


def _block(end: _End, left: float, top: float, size: float, stripes: str) -> Iterator[str]:
    high = max(size, 1.5)
    kind = end.kind if end.items else f"{end.kind} none"
    yield rectangle(kind, left, top - (high - size) / 2, _BLOCK, high)
    if end.hatched and end.items:
        yield rectangle("over", left, top - (high - size) / 2, _BLOCK, high, stripes)


def _texts(end: _End, left: float, middle: float) -> Iterator[str]:
    room = WIDTH - left - 10
    lines = end.lines(WIDTH - left)
    y = middle - 4 - LINE * (len(lines) - 1) / 2
    count = f"{end.items:,}"
    kind = "" if end.never() else "strong"
    yield label(left, y, end.name, room - width(count, bold=True), kind=kind)
    for place, words in enumerate(lines):
        yield label(left, y + 19 + LINE * place, words, room - (width(end.part) if place == 0 else 0))
    if not end.never():
        yield text(WIDTH, y, count, "end", "strong")
        yield text(WIDTH, y + 19, end.part, "end")
