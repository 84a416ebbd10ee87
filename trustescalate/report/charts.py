"""Charts as SVG text: risk against coverage, reliability, power. Matplotlib without its global figures.

Equal facts give equal bytes. Shape says what colour says: filled is certified, a ring is the chosen one.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trustescalate.report.sections import Intervals, Point, Reliability, RiskCoverage
from trustescalate.report.text import one_line

_FONT = "DejaVu Sans"
_PAGE_FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one scheme: text, secondary text, grid, data, limit, and the page behind."""

    ink: str
    muted: str
    grid: str
    data: str
    limit: str
    page: str


LIGHT = Palette("#1c2733", "#5b6875", "#e2e6ea", "#1f5a99", "#a8431a", "#ffffff")
DARK = Palette("#e7ebef", "#a3afbb", "#333d48", "#84b9f2", "#f2a477", "#1a2028")


def draw_risk_coverage(chart: RiskCoverage, palette: Palette) -> str:
    """Draw error rate against coverage for every tested policy, the α line, and the chosen policy."""
    return _svg((5.0, 3.3), palette, lambda figure: _draw_risk(figure, chart, palette))


def draw_reliability(chart: Reliability, palette: Palette) -> str:
    """Draw share right against mean score for one judge, with the number of verdicts below."""
    return _svg((3.2, 3.5), palette, lambda figure: _draw_reliability(figure, chart, palette))


def draw_intervals(chart: Intervals, palette: Palette) -> str:
    """Draw estimates with their limits, one bar under another."""
    height = 1.0 + 0.3 * max(3, len(chart.bars))
    return _svg((5.6, height), palette, lambda figure: _draw_intervals(figure, chart, palette))


def draw_power(
    rows: Sequence[int], power: Sequence[float], limits: Sequence[tuple[float, float]], palette: Palette
) -> str:
    """Draw the chance of a certificate against labelled rows, with limits and the line at 0.8."""
    return _svg((5.0, 3.3), palette, lambda figure: _draw_power(figure, rows, power, limits, palette))


def _draw_risk(figure: Any, chart: RiskCoverage, palette: Palette) -> None:
    axes = figure.add_subplot()
    points = [point for point in chart.points if point.risk is not None]
    top = min(1.0, 1.25 * max([1.6 * chart.alpha, *(point.risk or 0.0 for point in points)]))
    if chart.limits:
        top = min(1.0, max(top, 1.15 * sorted(upper for _, _, upper in chart.limits)[len(chart.limits) // 2]))
    _whiskers(axes, chart, palette)
    for part in {point.part for point in points} if chart.joined else ():
        line = [point for point in points if point.part == part]
        axes.plot([p.coverage for p in line], [p.risk for p in line], color=palette.grid, zorder=1)
    axes.axhline(chart.alpha, color=palette.limit, lw=1.5, ls=(0, (5, 3)), zorder=2)
    axes.text(1.04, chart.alpha, f"α = {chart.alpha:g}", color=palette.limit, va="center")
    open_points = [point for point in points if not point.certified]
    _scatter(axes, open_points, "tested, not certified", edgecolors=palette.muted, facecolors=palette.page)
    _scatter(axes, [p for p in points if p.certified], "certified", color=palette.data)
    ring = {"s": 170, "edgecolors": palette.ink, "facecolors": "none", "linewidths": 1.6, "zorder": 5}
    _scatter(axes, [p for p in points if p.chosen], "chosen", **ring)
    axes.set(xlim=(0, 1.02), ylim=(0, top), xlabel="coverage of the certification rows")
    axes.set_title("error rate among accepted rows", loc="left", color=palette.muted, fontsize=10, pad=10)
    _per_cent(axes.xaxis)
    _per_cent(axes.yaxis)
    if points:
        figure.legend(
            loc="outside lower left",
            ncols=4,
            frameon=False,
            handletextpad=0.3,
            columnspacing=1.2,
            handlelength=1.2,
            fontsize=9,
        )


def _whiskers(axes: Any, chart: RiskCoverage, palette: Palette) -> None:
    """From each observed error rate up to its limit. Whiskers, no area: nothing is said in between."""
    if chart.limits:
        coverage, low, high = zip(*chart.limits, strict=True)
        style = {"colors": palette.muted, "linewidths": 1.1, "alpha": 0.75, "zorder": 3}
        axes.vlines(coverage, low, high, label="up to its limit", **style)
        cap = {"marker": "_", "s": 42, "color": palette.muted, "linewidths": 1.3, "zorder": 3}
        axes.scatter(coverage, high, **cap)


def _scatter(axes: Any, points: list[Point], label: str, **style: Any) -> None:
    if points:
        style = {"s": 26, "linewidths": 1.3, "zorder": 4, **style}
        axes.scatter([p.coverage for p in points], [p.risk for p in points], label=label, **style)


def _draw_reliability(figure: Any, chart: Reliability, palette: Palette) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    upper.plot([0, 1], [0, 1], color=palette.muted, lw=1.2, ls=(0, (2, 3)), zorder=1)
    scores, right = [b.mean_score for b in chart.bins], [b.right for b in chart.bins]
    upper.plot(scores, right, color=palette.data, lw=1.6, marker="o", ms=5, zorder=3)
    upper.set(xlim=(_left(chart), 1.02), ylim=(0, 1.04))
    upper.set_title("share right", loc="left", color=palette.muted, fontsize=10, pad=8)
    _per_cent(upper.yaxis)
    widths = [0.86 * (b.high - b.low) for b in chart.bins]
    centres = [(b.low + b.high) / 2 for b in chart.bins]
    counts = [b.count for b in chart.bins]
    lower.bar(centres, counts, widths, color=palette.data, alpha=0.55, zorder=2)
    lower.set_ylim(0, 1.5 * max(counts, default=1))
    lower.set_yticks([])
    lower.grid(False)
    for centre, count in zip(centres, counts, strict=True):
        place = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
        lower.annotate(str(count), (centre, count), fontsize=8, color=palette.ink, **place)
    lower.set_xlabel("mean score; verdicts in each bin")


def _draw_intervals(figure: Any, chart: Intervals, palette: Palette) -> None:
    axes = figure.add_subplot()
    for place, bar in enumerate(chart.bars):
        if bar.limits is not None:
            axes.plot(bar.limits, (place, place), color=palette.data, lw=2, solid_capstyle="butt", zorder=3)
        filled = palette.page if bar.limits is None else palette.data
        axes.scatter([bar.estimate], [place], s=34, facecolors=filled, edgecolors=palette.data, zorder=4)
    axes.set_yticks(range(len(chart.bars)), [_short(bar.name) for bar in chart.bars])
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)
    axes.set_title(chart.title, loc="left", color=palette.muted, fontsize=10, pad=10)
    if chart.percent:
        _per_cent(axes.xaxis)


def _short(name: str, limit: int = 28) -> str:
    shown = one_line(name)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _draw_power(
    figure: Any,
    rows: Sequence[int],
    power: Sequence[float],
    limits: Sequence[tuple[float, float]],
    palette: Palette,
) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    axes = figure.add_subplot()
    axes.axhline(0.8, color=palette.limit, lw=1.5, ls=(0, (5, 3)), zorder=2)
    axes.fill_between(rows, *zip(*limits, strict=True), color=palette.data, alpha=0.2, lw=0, zorder=1)
    axes.plot(rows, power, color=palette.data, lw=1.6, marker="o", ms=5, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(rows))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{n:,}" for n in rows], fontsize=8)
    axes.set(ylim=(0, 1.02), xlabel="labelled certification rows")
    axes.set_title("chance of the wanted certificate", loc="left", color=palette.muted, fontsize=10, pad=10)
    _per_cent(axes.yaxis)


def _left(chart: Reliability) -> float:
    lowest = min((bin.low for bin in chart.bins), default=0.0)
    return 0.0 if lowest < 0.3 else max(0.0, lowest - 0.03)


def _per_cent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * share, 6):g} %"))


def _svg(size: tuple[float, float], palette: Palette, draw: Callable[[Any], None]) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style(palette)), warnings.catch_warnings():
        # A name in a script that this font lacks is drawn by the reader's own fonts: only widths are guessed.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue().replace(f"'{_FONT}'", _PAGE_FONT)


def _style(palette: Palette) -> dict[str, Any]:
    return {
        "svg.hashsalt": "trustescalate",
        "svg.fonttype": "none",
        "font.family": [_FONT],
        "font.size": 10,
        "text.color": palette.ink,
        "text.parse_math": False,
        "axes.edgecolor": palette.muted,
        "axes.labelcolor": palette.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.8,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.major.size": 0,
        "xtick.major.pad": 6,
        "ytick.major.size": 0,
    }
