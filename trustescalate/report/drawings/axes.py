"""Scales, axes, ticks and legends of drawings."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from trustescalate.report.drawings.svg import (
    LINE,
    WIDTH,
    Box,
    circle,
    fit,
    line,
    rectangle,
    text,
    width,
)

Key = tuple[Callable[[float, float], str], str]
"""A sample of what a legend explains, drawn at a place, and what it is."""


class Frame(NamedTuple):
    """A plotting area in units, with the range of values of each axis."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Scale a value to a horizontal position, clipped to the range."""
        low, high = self.x
        return self.left + (self.right - self.left) * (min(max(value, low), high) - low) / (high - low)

    def up(self, value: float) -> float:
        """Scale a value to a vertical position, clipped to the range."""
        low, high = self.y
        return self.bottom - (self.bottom - self.top) * (min(max(value, low), high) - low) / (high - low)

    def box(self) -> Box:
        """The plotting area."""
        return Box(self.left, self.top, self.right, self.bottom)


def y_axis(frame: Frame, ticks: Sequence[float]) -> Iterator[str]:
    """Draw lines across and their shares, left of the frame."""
    for tick, words in zip(ticks, numbers(ticks, percent=True), strict=True):
        yield line("grid", frame.left, frame.up(tick), frame.right, frame.up(tick))
        yield text(frame.left - 7, frame.up(tick) + 5, words, "end")


def x_axis(frame: Frame, ticks: Sequence[float], words: Sequence[str], *, grid: bool = True) -> Iterator[str]:
    """Draw the axis, its ticks, and the words of the last and, from the left, of those that have room."""
    halves = [width(label) / 2 for label in words]
    # A number near an edge of the drawing is moved inside.
    places = [
        min(max(frame.across(tick), half), WIDTH - half) for tick, half in zip(ticks, halves, strict=True)
    ]
    free = -math.inf
    for n, (tick, label, place, half) in enumerate(zip(ticks, words, places, halves, strict=True)):
        x = frame.across(tick)
        yield line("grid", x, frame.top if grid else frame.bottom, x, frame.bottom + 4)
        last = n == len(ticks) - 1
        if label and place - half > free and (last or place + half + 8 < places[-1] - halves[-1]):
            yield text(place, frame.bottom + 23, label, "middle")
            free = place + half + 8
    yield line("axis", frame.left, frame.bottom, frame.right, frame.bottom)


def ticks_of(low: float, high: float, most: float = 5.6) -> list[float]:
    """Choose about five round numbers in a range, in steps of 1, 2, 2.5 or 5 times a power of ten.

    >>> ticks_of(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks_of(-2.7, 2.4)
    [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(n * power for n in (1, 2, 2.5, 5, 10, 20) if (high - low) / (n * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) + 0.0 for place in range(first, last + 1)]


def numbers(ticks: Sequence[float], *, percent: bool = False) -> list[str]:
    """Format numbers with a common number of decimals.

    >>> numbers([-0.5, 0.0, 0.5]), numbers([0.0, 0.025], percent=True)
    (['−0.5', '0.0', '0.5'], ['0.0 %', '2.5 %'])
    """
    values = [100 * tick if percent else tick for tick in ticks]
    places = max((len(f"{round(value, 6):f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return [f"{value:,.{places}f}".replace("-", "−") + " %" * percent for value in values]


def legend(keys: Iterable[Key], top: float) -> tuple[list[str], float]:
    """Draw keys in two columns, or over both where one is long; returns also the height."""
    shapes: list[str] = []
    column, row, half = 0, 0, WIDTH / 2
    for sample, words in keys:
        wide = width(words) + 26 > half
        if wide and column:
            column, row = 0, row + 1
        x, y = column * half, top + row * (LINE + 2) + 11
        shapes += [sample(x + 9, y), text(x + 25, y + 5, fit(words, WIDTH - 26))]
        column, row = (0, row + 1) if wide or column else (1, row)
    return shapes, (row + column) * (LINE + 2)


def dot(kind: str, radius: float) -> Callable[[float, float], str]:
    """A circle, as a sample."""
    return lambda x, y: circle(kind, x, y, radius)


def dash(kind: str) -> Callable[[float, float], str]:
    """A line, as a sample."""
    return lambda x, y: line(kind, x - 9, y, x + 9, y)


def swatch(kind: str, fill: str = "") -> Callable[[float, float], str]:
    """A rectangle, as a sample, with a pattern above it."""

    def draw(x: float, y: float) -> str:
        above = rectangle("over", x - 9, y - 6, 18, 12, fill) if fill else ""
        return rectangle(kind, x - 9, y - 6, 18, 12) + above

    return draw


def whisker(x: float, y: float) -> str:
    """A line with a cap, as a sample."""
    return line("whisker", x, y - 6, x, y + 6) + line("whisker", x - 4, y - 6, x + 4, y - 6)
