"""Draw estimates with their limits, one below another: a forest plot."""

import math
from collections.abc import Iterator, Sequence

from trustescalate.report.drawings.axes import Frame, numbers, ticks_of, x_axis
from trustescalate.report.drawings.svg import (
    LINE,
    WIDTH,
    circle,
    fit,
    label,
    line,
    svg,
    text,
    width,
    wrapped,
)
from trustescalate.report.pictures import Interval, Intervals

_NAMES, _NOTES = 176.0, 150.0
"""The most room of a column of names, longer ones stand above their bars, and of one of notes."""
_ROW, _HIGH_ROW = 26.0, 46.0
_PLOT = 170.0
"""The least room of the bars beside names and notes."""


def draw_intervals(chart: Intervals) -> str:
    """Draw a row for each bar: its name before it, or above it if names are long, and its note after it."""
    names = max((width(fit(bar.name, WIDTH)) for bar in chart.bars), default=0.0)
    notes = max((width(fit(bar.note, WIDTH)) for bar in chart.bars), default=0.0)
    column = min(notes, _NOTES) + 12 if notes else 0.0
    beside = names <= _NAMES and notes <= _NOTES and WIDTH - names - 14 - column >= _PLOT
    row = _ROW if beside else _HIGH_ROW
    left = names + 14 if beside else 8.0
    values = _range(chart)
    ticks = ticks_of(*values, max(1.6, min(5.6, (WIDTH - left - column) / 62)))
    words = numbers(ticks, percent=chart.percent)
    words = [word.removesuffix(" %") for word in words] if chart.points else words
    # A number at the end of the axis has room on both sides of its line.
    half = max(map(width, words), default=0.0) / 2
    top = 32.0 if chart.reference is not None else 10.0
    bottom = top + row * max(1, len(chart.bars))
    frame = Frame(max(left, half), top, WIDTH - max(column, half, 8.0), bottom, values, (0.0, 1.0))
    shapes = [*x_axis(frame, ticks, words), *_reference(chart, frame)]
    if not chart.bars:
        shapes.append(text((frame.left + frame.right) / 2, frame.top + 18, "nothing was measured", "middle"))
    for place, bar in enumerate(chart.bars):
        above = frame.top + place * row
        y = above + (_ROW / 2 if beside else 33.0)
        if beside:
            shapes.append(label(names, y + 5.5, bar.name, _NAMES, "end", "ink halo"))
        else:
            room = WIDTH - column if notes > _NOTES else WIDTH
            shapes.append(label(0, above + 18, bar.name, room, kind="ink halo"))
        lines = wrapped(bar.note, _NOTES, 1 if beside else 2) if bar.note else []
        first = y + 5.5 - LINE * (len(lines) - 1)
        shapes += [
            text(WIDTH, first + LINE * at, note, "end", "halo") for at, note in enumerate(lines) if note
        ]
        shapes += _bar(frame, bar, y)
    return svg(frame.bottom + 30, chart.title, chart.alt, shapes)


def _range(chart: Intervals) -> tuple[float, float]:
    """The values of the axis; shares without any limits are not enlarged, since noise would look large."""
    ends = [end for bar in chart.bars for end in (bar.limits or ())]
    limited = bool(ends)
    ends += [bar.estimate for bar in chart.bars if bar.estimate is not None]
    ends += [chart.reference] if chart.reference is not None else []
    ends = [end for end in ends if math.isfinite(end)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    if chart.percent and not limited and low >= 0 and high <= 1:
        return (0.5 if low >= 0.5 else 0.0), 1.0
    if chart.percent and not limited and low >= -1 and high <= 1:
        most = max(0.1, 1.06 * -low, 1.06 * high)
        return -most, most
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _bar(frame: Frame, bar: Interval, y: float) -> Iterator[str]:
    if bar.limits is not None:
        ends = [frame.across(end) for end in bar.limits]
        yield line("limits", ends[0], y, ends[1], y)
        for end, x in zip(bar.limits, ends, strict=True):
            if frame.x[0] <= end <= frame.x[1]:
                yield line("limits", x, y - 4, x, y + 4)
    if bar.estimate is not None:
        yield circle("hollow" if bar.limits is None else "dot", frame.across(bar.estimate), y, 4.5)
    elif bar.limits is None:
        yield text(frame.left + 2, y + 5.5, "not measured", kind="halo")


def _reference(chart: Intervals, frame: Frame) -> Sequence[str]:
    """The line from top to bottom, behind all texts, and its name above it, inside the drawing."""
    if chart.reference is None:
        return ()
    x = frame.across(chart.reference)
    half = width(fit(chart.reference_name, WIDTH)) / 2
    place = min(max(x, half), WIDTH - half)
    drawn = [line("reference", x, frame.top - 8, x, frame.bottom)]
    if chart.reference_name:
        drawn.append(label(place, frame.top - 13, chart.reference_name, WIDTH, "middle", "ink"))
    return drawn
