"""Make interval charts and bar charts, with text alternatives that hold their figures."""

from collections.abc import Iterable, Sequence

from trustescalate.report import figures
from trustescalate.report.figures import Figure
from trustescalate.report.pictures import Bar, Bars, Interval, Intervals
from trustescalate.report.text import one_line

MOST_BARS = 40
LONGEST = 40
"""A longer name is cut, in a chart and in a sentence."""
Limits = tuple[float, float] | None


def short(name: str) -> str:
    """Cut a name to `LONGEST` characters on one line.

    >>> short("small\\n7b"), len(short("x" * 10_000))
    ('small⏎7b', 41)
    """
    shown = one_line(name[: 2 * LONGEST])
    return shown if len(shown) <= LONGEST and len(name) <= 2 * LONGEST else shown[:LONGEST] + "…"


def listed(names: Sequence[str], most: int) -> str:
    """List the first names, and count the others.

    >>> listed(["a", "b"], 3), listed(["a", "b", "c", "d"], 2)
    ('a and b', 'a, b and 2 more')
    """
    shown = [short(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def share_bar(name: str, figure: Figure, limits: Limits, note: str = "") -> Interval:
    """Make the bar of a share; with counts these are its note, unless there is another.

    >>> share_bar("small", figures.share(3, 4), (0.19, 1.0))
    Interval(name='small', estimate=0.75, limits=(0.19, 1.0), note='3 of 4')
    """
    if figure.counts is None:
        value = figure.value
        return Interval(name, float(value) if isinstance(value, int | float) else None, limits, note)
    part, whole = figure.counts
    return Interval(name, part / whole, limits, note or f"{part:,} of {whole:,}")


def interval_chart(
    title: str,
    bars: Sequence[Interval],
    *,
    percent: bool = True,
    signed: bool = False,
    reference: float | None = None,
    reference_name: str = "",
) -> tuple[Intervals, ...]:
    """Draw bars, at most `MOST_BARS`; nothing where no bar has a value.

    >>> bars = [share_bar("small", figures.share(3, 4), (0.1941, 0.9937))]
    >>> interval_chart("Agreement", bars, reference=0.9, reference_name="required")[0].alt
    'Agreement. small: 75.0 % (19.4 to 99.4 %), 3 of 4. Line: required, 90.0 %.'
    """
    if all(bar.estimate is None and bar.limits is None for bar in bars):
        return ()
    if len(bars) > MOST_BARS:
        title = f"{title}: the first {MOST_BARS} of {len(bars):,}"
    kept = tuple(bars[:MOST_BARS])
    shown = "; ".join(_described(bar, percent, signed) for bar in kept)
    line = "" if reference is None else f" Line: {reference_name}, {_value(reference, percent, signed)}."
    alt, points = f"{title}. {shown}.{line}", percent and signed
    title += ", in points" if points else ""
    return (Intervals(title, kept, percent, alt, reference, reference_name, points),)


def bar_chart(title: str, bars: Iterable[Bar], series: Sequence[str] = ("",)) -> tuple[Bars, ...]:
    """Draw bars of amounts, at most `MOST_BARS`; nothing without any.

    >>> bar_chart("Votes", [Bar("small", (3.0, 4.0), ("3", "4"))], ("cast", "planned"))[0].alt
    'Votes. small: cast 3, planned 4.'
    """
    rows = tuple(bars)
    if not rows:
        return ()
    if len(rows) > MOST_BARS:
        title = f"{title}: the first {MOST_BARS} of {len(rows):,}"
    kept = rows[:MOST_BARS]
    shown = "; ".join(
        f"{short(bar.name)}: "
        + ", ".join(f"{name} {text}".strip() for name, text in zip(series, bar.texts, strict=True))
        for bar in kept
    )
    return (Bars(title, tuple(series), kept, f"{title}. {shown}."),)


def _described(bar: Interval, percent: bool, signed: bool) -> str:
    value = "no estimate" if bar.estimate is None else _value(bar.estimate, percent, signed)
    if bar.limits is not None:
        low, high = (_value(end, percent, signed) for end in bar.limits)
        value += f" ({figures.interval(*bar.limits) if percent and not signed else f'{low} to {high}'})"
    return f"{short(bar.name)}: {value}{f', {bar.note}' if bar.note else ''}"


def _value(value: float, percent: bool, signed: bool) -> str:
    if percent:
        return f"{100 * value:+.1f} points".replace("-", "−") if signed else f"{100 * value:.1f} %"
    return f"{value:{'+' if signed else ''}.2f}".replace("-", "−")
