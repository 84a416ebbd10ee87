"""Draw the power of a calibration: the probability of a certificate against labelled rows."""

import math
from collections.abc import Iterator

from trustescalate.report.drawings.axes import Frame, x_axis, y_axis
from trustescalate.report.drawings.svg import (
    WIDTH,
    Box,
    Label,
    between,
    circle,
    free_place,
    line,
    percent,
    polyline,
    svg,
    text,
    width,
)
from trustescalate.report.pictures import Power


def draw_power(chart: Power) -> str:
    """Draw the power with its limits, the target, where it is reached, and the rows that there are now."""
    if not chart.rows:
        return svg(30, chart.title, chart.alt, [text(0, 18, "nothing was measured")])
    sizes = [*chart.rows, *([chart.now] if chart.now else [])]
    first, last = math.log(min(sizes)), math.log(max(sizes))
    top = 52 if chart.now else 32
    frame = Frame(64, top, WIDTH - 22, top + 204, (first, last if last > first else first + 1), (0.0, 1.0))
    across = [frame.across(math.log(count)) for count in chart.rows]
    lows = [(x, frame.up(low)) for x, (low, _) in zip(across, chart.limits, strict=True)]
    highs = [(x, frame.up(high)) for x, (_, high) in zip(across, chart.limits, strict=True)]
    spots = [(x, frame.up(chance)) for x, chance in zip(across, chart.power, strict=True)]
    level = frame.up(chart.target)
    shapes = [
        *y_axis(frame, (0.0, 0.25, 0.5, 0.75, 1.0)),
        *x_axis(frame, [math.log(count) for count in chart.rows], [f"{n:,}" for n in chart.rows], grid=False),
        text(0, 16, "probability of a certificate"),
        text(frame.right, frame.bottom + 43, "labelled certification rows", "end"),
        polyline("band", [*lows, *reversed(highs)], "polygon"),
        line("target", frame.left, level, frame.right, level),
        *([polyline("path", spots)] if len(spots) > 1 else []),
        *(circle("dot", x, y, 3.8) for x, y in spots),
        *_words(chart, frame, spots),
    ]
    return svg(frame.bottom + 50, chart.title, chart.alt, shapes)


def reached(chart: Power) -> float | None:
    """The rows from which on the power stays at the target, between two sizes by their logarithms.

    >>> chart = Power("", (100, 400), (0.6, 1.0), ((0.5, 0.7), (0.9, 1.0)), "")
    >>> round(reached(chart))
    200
    """
    weak = [place for place, chance in enumerate(chart.power) if chance < chart.target]
    first = weak[-1] + 1 if weak else 0
    if first == len(chart.rows):
        return None
    if first == 0:
        return float(chart.rows[0])
    (low, high), (below, above) = chart.rows[first - 1 : first + 1], chart.power[first - 1 : first + 1]
    share = (chart.target - below) / (above - below)
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))


def _words(chart: Power, frame: Frame, spots: list[tuple[float, float]]) -> Iterator[str]:
    """The target and where it is reached, and the rows that there are now, where they cover no point."""
    dots, boxes = between(spots), []
    level, rows = frame.up(chart.target), reached(chart)
    boxes.append(Box(frame.left, level - 2, frame.right, level + 2))
    near = ((frame.left + frame.right) / 2, level)
    if rows is None:
        words = (f"{percent(chart.target)} is not reached", f"with {chart.rows[-1]:,} rows")
    else:
        x = frame.across(math.log(rows))
        near = (x, level)
        words = (f"{percent(chart.target)} with", f"about {round_up(rows):,} rows")
        if rows <= chart.rows[0]:
            words = (f"{percent(chart.target)} with", f"{chart.rows[0]:,} rows or fewer")
        else:
            yield line("leader", x, level, x, frame.bottom)
            yield circle("ring", x, level, 7)
            dots += between([(x, level), (x, frame.bottom)])
            boxes.append(Box(x - 9, level - 9, x + 9, level + 9))
    if chart.now:
        x = frame.across(math.log(chart.now))
        yield line("now", x, frame.top, x, frame.bottom)
        name = f"now: {chart.now:,}"
        half = width(name) / 2
        label = Label(min(max(x, frame.left + half), WIDTH - half), frame.top - 6, name, "middle", "ink")
        yield label.draw()
        dots += between([(x, frame.top), (x, frame.bottom)])
        boxes.append(label.box())
    yield from (each.draw() for each in free_place(words, near, frame.box(), dots, boxes))


def round_up(rows: float) -> int:
    """Two significant digits."""
    step: int = 10 ** max(0, math.floor(math.log10(rows)) - 1)
    return math.ceil(rows / step - 1e-9) * step
