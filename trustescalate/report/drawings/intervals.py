"""Draw estimates with their limits, one below another: a forest plot."""

import math
from collections.abc import Iterator, Sequence

from trustescalate.report.drawings.axes import Frame, numbers, ticks_of, x_axis
from trustescalate.report.drawings.svg import (
    WIDTH,
    circle,
    fit,
    label,
    line,
    svg,
    text,
    width,
)
from trustescalate.report.pictures import Interval, Intervals

_NAMES, _NOTES = 176.0, 150.0
"""The most room of a column of names and of notes; longer ones stand above their bars."""
_ROW, _HIGH_ROW = 26.0, 46.0


def draw_intervals(chart: Intervals) -> str:
    """Draw a row for each bar; names and notes stand beside the bars, or above them if they are long."""
    names = max((width(fit(bar.name, WIDTH)) for bar in chart.bars), default=0.0)
    notes = max((width(fit(bar.note, WIDTH)) for bar in chart.bars), default=0.0)
    beside = names <= _NAMES and notes <= _NOTES and names + notes <= 0.46 * WIDTH
    top = 32.0 if chart.reference is not None else 10.0
    high = (_ROW if beside else _HIGH_ROW) * max(1, len(chart.bars))
    left, right = (names + 14, notes + 12) if beside else (8.0, 8.0)
    frame = Frame(left, top, WIDTH - right, top + high, _range(chart), (0.0, 1.0))
    most = max(1.6, min(5.6, (frame.right - frame.left) / 62))
    ticks = ticks_of(*frame.x, most)
    words = numbers(ticks, percent=chart.percent)
    words = [word.removesuffix(" %") for word in words] if chart.points else words
    shapes = list(x_axis(frame, ticks, words))
    if not chart.bars:
        shapes.append(text((frame.left + frame.right) / 2, frame.top + 18, "nothing was measured", "middle"))
    shapes += _reference(chart, frame)
    if chart.reference is not None:
        x = frame.across(chart.reference)
        rows = (
            [frame.top]
            if beside
            else [frame.top + 23 + place * _HIGH_ROW for place in range(len(chart.bars))]
        )
        shapes += [line("reference", x, y, x, frame.bottom if beside else y + 20) for y in rows]
    for place, bar in enumerate(chart.bars):
        above = frame.top + place * (_ROW if beside else _HIGH_ROW)
        if beside:
            y = above + _ROW / 2
            shapes.append(label(names, y + 5.5, bar.name, _NAMES, "end", "ink"))
            shapes += [label(WIDTH, y + 5.5, bar.note, _NOTES, "end")] if bar.note else []
        else:
            y = above + 33
            shapes += _above(bar, above + 18)
        shapes += _bar(frame, bar, y)
    return svg(frame.bottom + 30, chart.title, chart.alt, shapes)


def _range(chart: Intervals) -> tuple[float, float]:
    ends = [end for bar in chart.bars for end in (bar.limits or ())]
    ends += [bar.estimate for bar in chart.bars if bar.estimate is not None]
    ends += [chart.reference] if chart.reference is not None else []
    ends = [end for end in ends if math.isfinite(end)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    return low - room, high + room


def _above(bar: Interval, y: float) -> Iterator[str]:
    note = fit(bar.note, 0.45 * WIDTH)
    yield label(0, y, bar.name, WIDTH - (width(note) + 12 if note else 0.0), kind="ink halo")
    if note:
        yield label(WIDTH, y, bar.note, 0.45 * WIDTH, "end", "halo")


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
    """The vertical line, and its name above it, inside the drawing."""
    if chart.reference is None:
        return ()
    x = frame.across(chart.reference)
    half = width(fit(chart.reference_name, WIDTH)) / 2
    place = min(max(x, half), WIDTH - half)
    drawn = [line("reference", x, frame.top - 8, x, frame.top)]
    if chart.reference_name:
        drawn.append(label(place, frame.top - 13, chart.reference_name, WIDTH, "middle", "ink"))
    return drawn
