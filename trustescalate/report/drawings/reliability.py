"""Draw the reliability of a judge's scores, above the histogram of the scores."""

from collections.abc import Iterator

from trustescalate.report.drawings.axes import Frame, numbers, ticks_of, x_axis, y_axis
from trustescalate.report.drawings.svg import (
    WIDTH,
    Box,
    between,
    circle,
    free_place,
    line,
    polyline,
    rectangle,
    svg,
    text,
    width,
)
from trustescalate.report.pictures import Reliability, ReliabilityBin


def draw_reliability(chart: Reliability) -> str:
    """Draw the share correct against the mean score of each bin, and below it the verdicts of each bin."""
    lowest = min((bin.low for bin in chart.bins), default=0.0)
    if chart.threshold is not None:
        lowest = min(lowest, chart.threshold)
    span = (0.0 if lowest < 0.3 else max(0.0, lowest - 0.03), 1.02)
    most = max((bin.count for bin in chart.bins), default=1) or 1
    above = Frame(64, 30, WIDTH - 14, 202, span, (0.0, 1.0))
    below = Frame(64, 246, WIDTH - 14, 302, span, (0.0, float(most)))
    spots = [(above.across(bin.mean_score), above.up(bin.right)) for bin in chart.bins]
    ticks = ticks_of(*span)
    corner = (above.across(1.0), above.up(1.0))
    diagonal = [(above.left, above.up(span[0])), corner]
    shapes = [
        *y_axis(above, (0.0, 0.25, 0.5, 0.75, 1.0)),
        *x_axis(above, ticks, [""] * len(ticks)),
        text(0, 16, "share correct"),
        *([polyline("diagonal", diagonal)] if chart.bins else []),
        *x_axis(below, ticks, numbers(ticks), grid=False),
        text(below.right, below.bottom + 43, "score", "end"),
        *_threshold(chart, above, below, [*between(spots), *between(diagonal)]),
        *_histogram(chart.bins, below),
        *([polyline("path", spots)] if len(spots) > 1 else []),
        *(circle("dot", x, y, 4.2) for x, y in spots),
    ]
    if not chart.bins:
        shapes.append(text((above.left + above.right) / 2, 120, "no verdict has a score", "middle"))
    return svg(below.bottom + 50, f"Reliability diagram of {chart.judge}", chart.alt, shapes)


def _histogram(bins: tuple[ReliabilityBin, ...], frame: Frame) -> Iterator[str]:
    """Bars with their counts; with the highest count alone where there is no room for all."""
    rooms = [frame.across(bin.high) - frame.across(bin.low) for bin in bins]
    fits = all(width(f"{bin.count:,}") <= room - 2 for bin, room in zip(bins, rooms, strict=True))
    for bin, room in zip(bins, rooms, strict=True):
        top = frame.up(bin.count)
        left = frame.across(bin.low)
        yield rectangle("bar", left + 0.07 * room, top, 0.86 * room, frame.bottom - top)
        if fits:
            yield text(left + room / 2, top - 5, f"{bin.count:,}", "middle", "halo")
    yield text(0, frame.top - 18, "verdicts")
    if bins and not fits:
        yield text(frame.left - 7, frame.top + 10, f"{int(frame.y[1]):,}", "end")


def _threshold(
    chart: Reliability, above: Frame, below: Frame, dots: list[tuple[float, float]]
) -> Iterator[str]:
    if chart.threshold is None:
        return
    x = above.across(chart.threshold)
    yield line("threshold", x, above.top, x, below.bottom)
    words = (f"threshold {chart.threshold:.3f}".rstrip("0").rstrip("."),)
    ahead = Box(x - 4, above.top, x + 4, above.bottom)
    middle = (above.top + above.bottom) / 2
    yield from (each.draw() for each in free_place(words, (x, middle), above.box(), dots, [ahead], "ink"))
