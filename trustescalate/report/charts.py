"""Draw charts as SVG: risk-coverage curve, reliability diagram, intervals, power.

Colours are CSS variables of the page, for light and dark schemes. Shapes repeat what colours show: a filled
point is certified, a ring marks the chosen policy. Coordinates have one decimal, so output is reproducible.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

from trustescalate.report.pictures import (
    Bars,
    Flow,
    Intervals,
    Picture,
    Point,
    Power,
    Reliability,
    RiskCoverage,
)
from trustescalate.report.text import one_line, visible

MOST_STEPS = 5.6
LONGEST_NAME = 28
CHARACTER = 7.0
"""The width of a character in pixels; twice as wide from Hangul on (wide scripts)."""
LIGHT = {
    "--ink": "#1c2733",
    "--muted": "#566370",
    "--line": "#dde2e7",
    "--link": "#1f5a99",
    "--bad": "#9c3315",
    "--card": "#ffffff",
}
"""The colours of a drawing in its own file, where there are no CSS variables."""


class Frame(NamedTuple):
    """A plotting area in pixels, with the value range of each axis."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: float) -> float:
        """Scale a value to a horizontal position."""
        low, high = self.x
        return self.left + (self.right - self.left) * (value - low) / (high - low)

    def up(self, value: float) -> float:
        """Scale a value to a vertical position, clipped to the range."""
        low, high = self.y
        return self.bottom - (self.bottom - self.top) * (min(max(value, low), high) - low) / (high - low)


def draw(picture: Picture) -> str:
    """Draw a chart as SVG."""
    match picture:
        case RiskCoverage():
            return draw_risk_coverage(picture)
        case Reliability():
            return draw_reliability(picture)
        case Intervals():
            return draw_intervals(picture)
        case Power():
            return draw_power(picture.rows, picture.power, picture.limits)
        case Flow():
            return _svg(440, 30, picture.title, picture.alt, [_text(4, 16, picture.alt)])
        case Bars():
            return _svg(440, 30, picture.title, picture.alt, [_text(4, 16, picture.alt)])


def draw_share(share: float) -> str:
    """Draw a share of 1 as a bar."""
    size = 'viewBox="0 0 100 6" preserveAspectRatio="none"'
    shapes = (_rectangle("rest", 0, 0, 100, 6), _rectangle("part", 0, 0, 100 * min(max(share, 0), 1), 6))
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="share" {size}>{"".join(shapes)}</svg>'


def draw_risk_coverage(chart: RiskCoverage) -> str:
    """Draw selective risk against coverage for every tested policy, the α line, and the chosen policy."""
    points = [point for point in chart.points if point.risk is not None]
    top = min(1.0, 1.25 * max([1.6 * chart.alpha, *(point.risk or 0.0 for point in points)]))
    if chart.limits:
        top = min(1.0, max(top, 1.15 * sorted(upper for _, _, upper in chart.limits)[len(chart.limits) // 2]))
    frame = Frame(46, 30, 372, 234, (0.0, 1.02), (0.0, top))
    level = frame.up(chart.alpha)
    shapes = [
        *_y_axis(frame),
        *_x_axis(frame, ticks := _ticks(0.0, 1.0), _labels(ticks, percent=True)),
        _text(frame.left, 16, "selective risk (errors among accepted items)"),
        _text((frame.left + frame.right) / 2, frame.bottom + 38, "coverage of the calibration set", "middle"),
        *(_path(frame, points, part) for part in sorted({p.part for p in points}) if chart.joined),
        *_whiskers(frame, chart.limits),
        _line("alpha-line", frame.left, level, frame.right, level),
        _text(frame.right + 6, level + 4, f"α = {chart.alpha:g}", kind="alpha"),
    ]
    groups = (
        ("hollow", 3.4, "tested, not certified", [p for p in points if not p.certified]),
        ("dot", 3.4, "certified", [p for p in points if p.certified]),
        ("ring", 8.0, "chosen", [p for p in points if p.chosen]),
    )
    for kind, radius, _, group in groups:
        shapes += [_circle(kind, frame.across(p.coverage), frame.up(p.risk or 0.0), radius) for p in group]
    keys = [("whisker", 7.0, "upper limit")] * bool(chart.limits)
    keys += [(kind, radius, label) for kind, radius, label, group in groups if group]
    shapes += _legend(keys, frame.bottom + 62)
    return _svg(440, 308, "Risk-coverage curve", chart.alt, shapes)


def draw_reliability(chart: Reliability) -> str:
    """Draw the share correct against the mean score of a judge, with the number of verdicts below."""
    lowest = min((bin.low for bin in chart.bins), default=0.0)
    span = (0.0 if lowest < 0.3 else max(0.0, lowest - 0.03), 1.02)
    most = max((bin.count for bin in chart.bins), default=1)
    upper = Frame(44, 26, 268, 190, span, (0.0, 1.04))
    lower = Frame(44, 204, 268, 254, span, (0.0, 1.5 * most))
    places = [(upper.across(bin.mean_score), upper.up(bin.right)) for bin in chart.bins]
    ticks = _ticks(*span)
    shapes = [
        *_y_axis(upper),
        *_x_axis(upper, ticks, [""] * len(ticks)),
        _text(upper.left, 12, "share correct"),
        _line("diagonal", upper.left, upper.up(span[0]), upper.across(1.0), upper.up(1.0)),
        _polyline("line", places),
        *(_circle("dot", x, y, 3.4) for x, y in places),
    ]
    for bin in chart.bins:
        middle, width = lower.across((bin.low + bin.high) / 2), lower.across(bin.high) - lower.across(bin.low)
        height = lower.bottom - lower.up(bin.count)
        shapes.append(_rectangle("bar", middle - 0.43 * width, lower.up(bin.count), 0.86 * width, height))
        shapes.append(_text(middle, lower.up(bin.count) - 3, str(bin.count), "middle", "small name"))
    shapes += _x_axis(lower, ticks, _labels(ticks), grid=False)
    label = "mean score; verdicts per bin"
    shapes.append(_text((lower.left + lower.right) / 2, lower.bottom + 36, label, "middle"))
    return _svg(280, 300, f"Reliability diagram of {chart.judge}", chart.alt, shapes)


def draw_intervals(chart: Intervals) -> str:
    """Draw estimates with their limits, one bar below another."""
    names = [_short(bar.name) for bar in chart.bars]
    left = 16 + max(map(_width, names), default=0.0)
    ends = [end for bar in chart.bars for end in (bar.limits or (bar.estimate or 0.0,))]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.05 * (high - low) or 0.5
    rows = max(3, len(names))
    frame = Frame(left, 28, 430, 30 + 24 * rows, (low - room, high + room), (0.0, 1.0))
    ticks = _ticks(*frame.x)
    shapes = [_text(10, 14, chart.title), *_x_axis(frame, ticks, _labels(ticks, percent=chart.percent))]
    for place, (name, bar) in enumerate(zip(names, chart.bars, strict=True)):
        y = frame.top + 24 * place + 13
        shapes.append(_line("grid", frame.left, y, frame.right, y))
        shapes.append(_text(frame.left - 8, y + 4, name, "end", "name"))
        if bar.limits is not None:
            shapes.append(_line("line", frame.across(bar.limits[0]), y, frame.across(bar.limits[1]), y))
        shapes.append(
            _circle("hollow" if bar.limits is None else "dot", frame.across(bar.estimate or 0.0), y, 4)
        )
    return _svg(440, frame.bottom + 28, chart.title, chart.alt, shapes)


def draw_power(rows: Sequence[int], power: Sequence[float], limits: Sequence[tuple[float, float]]) -> str:
    """Draw the power of a calibration against labelled rows, with limits and a line at 0.8, as a file."""
    first, last = math.log(rows[0]), math.log(rows[-1])
    frame = Frame(46, 30, 414, 250, (first, last if last > first else first + 1), (0.0, 1.02))
    across = [frame.across(math.log(count)) for count in rows]
    limits_area = [
        *((x, frame.up(low)) for x, (low, _) in zip(across, limits, strict=True)),
        *((x, frame.up(high)) for x, (_, high) in reversed(list(zip(across, limits, strict=True)))),
    ]
    places = [(x, frame.up(chance)) for x, chance in zip(across, power, strict=True)]
    shapes = [
        _rectangle("paper", 0, 0, 440, 300),
        *_y_axis(frame),
        *_x_axis(frame, [math.log(count) for count in rows], [f"{count:,}" for count in rows]),
        _text(frame.left, 16, "power: probability of the certificate"),
        _text((frame.left + frame.right) / 2, frame.bottom + 38, "labelled certification rows", "middle"),
        _polyline("limits", limits_area, "polygon"),
        _line("alpha-line", frame.left, frame.up(0.8), frame.right, frame.up(0.8)),
        _polyline("line", places),
        *(_circle("dot", x, y, 3.6) for x, y in places),
    ]
    reached = ", ".join(f"{chance:.0%} with {count:,}" for count, chance in zip(rows, power, strict=True))
    alt = f"Probability of the certificate: {reached} rows."
    rules = resources.files("trustescalate.report").joinpath("assets", "chart.css").read_text("utf-8")
    for name, colour in LIGHT.items():
        rules = rules.replace(f"var({name})", colour)
    drawn = _svg(440, 300, "Power of the calibration", alt, [f"<style>{rules}</style>", *shapes])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n'


# ── axes and keys ────────────────────────────────────────────────────────────────────────────────


def _y_axis(frame: Frame) -> Iterator[str]:
    ticks = _ticks(*frame.y)
    for tick, label in zip(ticks, _labels(ticks, percent=True), strict=True):
        yield _line("grid", frame.left, frame.up(tick), frame.right, frame.up(tick))
        yield _text(frame.left - 6, frame.up(tick) + 4, label, "end")


def _x_axis(
    frame: Frame, ticks: Sequence[float], labels: Sequence[str], *, grid: bool = True
) -> Iterator[str]:
    for tick, label in zip(ticks, labels, strict=True):
        if grid:
            yield _line("grid", frame.across(tick), frame.top, frame.across(tick), frame.bottom)
        if label:
            yield _text(frame.across(tick), frame.bottom + 17, label, "middle")
    yield _line("axis", frame.left, frame.bottom, frame.right, frame.bottom)


def _ticks(low: float, high: float) -> list[float]:
    """Choose about five round numbers in a range, in steps of 1, 2, 2.5 or 5 times a power of ten.

    >>> _ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> _ticks(-2.7, 2.4)
    [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / MOST_STEPS))
    step = next(n * power for n in (1, 2, 2.5, 5, 10, 20) if (high - low) / (n * power) <= MOST_STEPS)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) + 0.0 for place in range(first, last + 1)]


def _whiskers(frame: Frame, limits: Iterable[tuple[float, float, float]]) -> Iterator[str]:
    """Draw a line from each observed risk to its upper limit; without a cap beyond the frame."""
    for coverage, risk, upper in limits:
        x, top = frame.across(coverage), frame.up(upper)
        yield _line("whisker", x, frame.up(risk), x, top)
        if upper <= frame.y[1]:
            yield _line("whisker", x - 3.5, top, x + 3.5, top)


def _path(frame: Frame, points: Iterable[Point], part: int) -> str:
    line = [(frame.across(p.coverage), frame.up(p.risk or 0.0)) for p in points if p.part == part]
    return _polyline("path", line)


def _legend(keys: Iterable[tuple[str, float, str]], y: float) -> Iterator[str]:
    x = 12.0
    for kind, radius, label in keys:
        if kind == "whisker":
            yield _line(kind, x, y, x + 14, y)
        else:
            yield _circle(kind, x + 7, y, radius)
        yield _text(x + 12 + radius, y + 4, label)
        x += 36 + 5.8 * len(label)


def _labels(ticks: Sequence[float], *, percent: bool = False) -> list[str]:
    """Format numbers with a common number of decimals.

    >>> _labels([-0.5, 0.0, 0.5]), _labels([0.0, 0.025], percent=True)
    (['−0.5', '0.0', '0.5'], ['0.0 %', '2.5 %'])
    """
    values = [100 * tick if percent else tick for tick in ticks]
    places = max((len(f"{round(value, 6):f}".rstrip("0").partition(".")[2]) for value in values), default=0)
    return [f"{value:.{places}f}".replace("-", "−") + " %" * percent for value in values]


def _short(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"


def _width(name: str) -> float:
    return sum(2 * CHARACTER if character >= "\u1100" else CHARACTER for character in name)


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────


def _svg(width: float, height: float, title: str, alt: str, shapes: Iterable[str]) -> str:
    size = f"0 0 {_at(width)} {_at(height)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" viewBox="{size}">\n'
        f"<title>{escape(visible(title))}</title>\n<desc>{escape(visible(alt))}</desc>\n"
        + "\n".join(shapes)
        + "\n</svg>"
    )


def _shape(tag: str, kind: str, **places: float) -> str:
    return (
        f'<{tag} class="{kind}" '
        + " ".join(f'{name}="{_at(place)}"' for name, place in places.items())
        + "/>"
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return _shape("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)


def _circle(kind: str, x: float, y: float, radius: float) -> str:
    return _shape("circle", kind, cx=x, cy=y, r=radius)


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    return _shape("rect", kind, x=x, y=y, width=width, height=height)


def _polyline(kind: str, places: Iterable[tuple[float, float]], tag: str = "polyline") -> str:
    points = " ".join(f"{_at(x)},{_at(y)}" for x, y in places)
    return f'<{tag} class="{kind}" points="{points}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    given = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text x="{_at(x)}" y="{_at(y)}"{given}>{escape(visible(words))}</text>'


def _at(place: float) -> str:
    return f"{round(place, 1) + 0.0:g}"
