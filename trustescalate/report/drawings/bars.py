"""Draw horizontal bars from 0 on, one or several beside each other."""

from trustescalate.report.drawings.axes import legend, swatch
from trustescalate.report.drawings.svg import WIDTH, fit, hatch, label, line, rectangle, svg, width
from trustescalate.report.pictures import Bars

_NAMES, _TEXTS = 176.0, 190.0
_KINDS = (("series-1", False), ("series-2", True), ("series-3", False), ("series-4", True))


def draw_bars(chart: Bars) -> str:
    """Draw bars with their texts at the ends; names stand beside them, or above them if they are long."""
    defs, stripes = hatch(chart)
    series = max(1, len(chart.series))
    names = max((width(fit(bar.name, WIDTH)) for bar in chart.bars), default=0.0)
    beside = names <= _NAMES
    texts = [fit(words, _TEXTS) for bar in chart.bars for words in bar.texts]
    left = names + 12 if beside else 1.0
    right = WIDTH - max(map(width, texts), default=0.0) - 8
    most = max((value for bar in chart.bars for value in bar.values), default=0.0) or 1.0
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
        if not beside:
            shapes.append(label(0, y + 14, bar.name, WIDTH, kind="ink"))
            y += 20
            start = y - 1
        if beside:
            shapes.append(label(names, y + step * series / 2 + 5.5, bar.name, _NAMES, "end", "ink"))
        for place, (value, words) in enumerate(zip(bar.values, bar.texts, strict=True)):
            kind, striped = _KINDS[place % len(_KINDS)]
            above, wide = y + (step - thick) / 2, (right - left) * min(max(value, 0.0) / most, 1.0)
            shapes.append(rectangle(kind, left, above, wide, thick))
            shapes += [rectangle("over", left, above, wide, thick, stripes)] if striped else []
            shapes.append(label(left + wide + 7, above + thick / 2 + 5.5, words, _TEXTS))
            y += step
        if not beside:
            shapes.append(line("axis", left, start, left, y + 1))
        y += 5
    if not chart.bars:
        shapes.append(label(0, top + 14, "nothing was measured", WIDTH))
    elif beside:
        shapes.append(line("axis", left, top, left, y))
    return svg(max(y, top + 20) + 4, chart.title, chart.alt, shapes)
