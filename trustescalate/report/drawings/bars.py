"""Draw horizontal bars from 0 on, one or several beside each other."""

from trustescalate.report.drawings.axes import legend, swatch
from trustescalate.report.drawings.svg import (
    LINE,
    WIDTH,
    fit,
    hatch,
    label,
    line,
    rectangle,
    svg,
    text,
    width,
    wrapped,
)
from trustescalate.report.pictures import Bars

_NAMES = 176.0
"""The most room of a column of names; longer ones stand above their bars, on at most `_LINES` lines."""
_LINES = 3
_LONGEST, _GAP = 110.0, 7.0
"""The least length of the longest bar; and the room between a bar and its text."""
_KINDS = (("series-1", False), ("series-2", True), ("series-3", False), ("series-4", True))


def draw_bars(chart: Bars) -> str:
    """Draw bars with their texts at the ends; names stand beside them, or above them if they are long."""
    defs, stripes = hatch(chart)
    series = max(1, len(chart.series))
    names = max((width(fit(bar.name, WIDTH)) for bar in chart.bars), default=0.0)
    beside = names <= _NAMES and _longest(chart, names + 12) >= _LONGEST
    left = names + 12 if beside else 1.0
    longest = max(_longest(chart, left), _LONGEST)
    most = _most(chart)
    shapes = [defs]
    y = 4.0
    if any(chart.series):
        keys = [
            (swatch(kind, stripes if striped else ""), name)
            for name, (kind, striped) in zip(chart.series, _KINDS * len(chart.series), strict=False)
        ]
        drawn, high = legend(keys, y)
        shapes, y = [*shapes, *drawn], y + high + 6
    thick = 18.0 if series == 1 else 15.0
    step = 20.0 if series > 1 else thick
    top, start = y, y
    for bar in chart.bars:
        y += 3
        if beside:
            shapes.append(label(names, y + step * series / 2 + 5.5, bar.name, _NAMES, "end", "ink"))
        else:
            for words in wrapped(bar.name, WIDTH, _LINES):
                shapes.append(text(0, y + 14, words, kind="ink"))
                y += LINE
            start = y - 1
        for place, (value, words) in enumerate(zip(bar.values, bar.texts, strict=True)):
            kind, striped = _KINDS[place % len(_KINDS)]
            above, wide = y + (step - thick) / 2, longest * min(max(value, 0.0) / most, 1.0)
            shapes.append(rectangle(kind, left, above, wide, thick))
            shapes += [rectangle("over", left, above, wide, thick, stripes)] if striped else []
            end = left + wide + _GAP
            shapes.append(label(end, above + thick / 2 + 5.5, words, WIDTH - end))
            y += step
        if not beside:
            shapes.append(line("axis", left, start, left, y + 1))
        y += 5
    if not chart.bars:
        shapes.append(label(0, top + 14, "nothing was measured", WIDTH))
    elif beside:
        shapes.append(line("axis", left, top, left, y))
    return svg(max(y, top + 20) + 4, chart.title, chart.alt, shapes)


def _most(chart: Bars) -> float:
    return max((value for bar in chart.bars for value in bar.values), default=0.0) or 1.0


def _longest(chart: Bars, left: float) -> float:
    """How long the longest bar may be, so that each text has room after its own bar."""
    room, most = WIDTH - left - _GAP - 1, _most(chart)
    ends = [
        (value / most, room - width(fit(words, WIDTH)))
        for bar in chart.bars
        for value, words in zip(bar.values, bar.texts, strict=True)
    ]
    if any(free < 0 for _, free in ends):
        return 0.0
    return min([free / share for share, free in ends if share > 0], default=room)
