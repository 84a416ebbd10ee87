"""Draw the risk-coverage curve: every tested policy, α, the limits, and the chosen policy in words."""

from collections.abc import Iterator, Sequence
from itertools import cycle

from trustescalate.report.drawings.axes import (
    Frame,
    Key,
    dash,
    dot,
    legend,
    numbers,
    swatch,
    ticks_of,
    whisker,
    x_axis,
    y_axis,
)
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
    rectangle,
    svg,
    text,
    width,
)
from trustescalate.report.pictures import Point, RiskCoverage

_COVERAGES = (0.0, 0.25, 0.5, 0.75, 1.0)
_TOP, _BOTTOM = 32.0, 244.0
_MOST_LABELS = 3
_ARROW = 26.0
"""How long the arrow to a limit beyond the frame is."""
_PATHS = ("path", "path dashed", "path dotted", "path light")
"""How paths differ where none is chosen."""


def draw_risk_coverage(chart: RiskCoverage) -> str:
    """Draw risk against coverage: only points of one sub-path are joined, and the used one stands out."""
    points = [point for point in chart.points if point.risk is not None]
    frame = _frame(chart, points)
    used = {point.part for point in points if point.chosen} if chart.joined else set()
    used = used or {point.part for point in points}
    level = frame.up(chart.alpha)
    shapes = [
        rectangle("region", frame.left, level, frame.right - frame.left, frame.bottom - level),
        *y_axis(frame, ticks_of(*frame.y)),
        *x_axis(frame, _COVERAGES, numbers(_COVERAGES, percent=True), grid=False),
        text(0, 16, "disagreement among released"),
        text(frame.right, frame.bottom + 43, "coverage", "end"),
    ]
    main, other = ([p for p in points if (p.part in used) is wanted] for wanted in (True, False))
    if not chart.joined or len(used) == 1:
        shapes += _limits(frame, main, joined=chart.joined)
    if chart.joined:
        shapes += [polyline("path faint", _at(frame, line)) for line in _drawn(other)]
        kinds = cycle(_PATHS)
        shapes += [polyline(kind, _at(frame, line)) for kind, line in zip(kinds, _drawn(main), strict=False)]
    on_main = {(point.coverage, point.risk) for point in main}
    for coverage, risk, upper in chart.limits:
        kind = "whisker" if (coverage, risk) in on_main else "whisker faint"
        shapes += _whisker(kind, frame, coverage, risk, upper)
    shapes.append(line("alpha-line", frame.left, level, frame.right, level))
    radius = 3.6 if len(points) <= 40 else 2.6 if len(points) <= 120 else 1.8
    shapes += [_dot(frame, point, "faint", min(radius, 2.6)) for point in other]
    shapes += [_dot(frame, point, "", radius) for point in sorted(main, key=lambda point: point.certified)]
    shapes += _words(chart, frame, points)
    keys, high = legend(_keys(chart, frame, main, other), frame.bottom + 55)
    return svg(frame.bottom + 57 + high, "Risk-coverage curve", chart.alt, [*shapes, *keys])


def _frame(chart: RiskCoverage, points: Sequence[Point]) -> Frame:
    top = max([1.6 * chart.alpha, *(1.1 * (point.risk or 0.0) for point in points)])
    if chart.limits:
        # A limit that is far above the others may leave the frame.
        top = max(top, 1.1 * sorted(upper for _, _, upper in chart.limits)[len(chart.limits) // 2])
    y = (0.0, min(1.0, max(top, 0.01)))
    left = 10 + max(width(words) for words in numbers(ticks_of(*y), percent=True))
    return Frame(left, _TOP, WIDTH - 26, _BOTTOM, (0.0, 1.0), y)


def _parts(points: Sequence[Point]) -> list[list[Point]]:
    return [[p for p in points if p.part == part] for part in sorted({p.part for p in points})]


def _drawn(points: Sequence[Point]) -> list[list[Point]]:
    """The paths that are lines."""
    return [part for part in _parts(points) if len(part) > 1]


def _at(frame: Frame, points: Sequence[Point]) -> list[tuple[float, float]]:
    return [(frame.across(point.coverage), frame.up(point.risk or 0.0)) for point in points]


def _dot(frame: Frame, point: Point, faint: str, radius: float) -> str:
    kind = f"{'dot' if point.certified else 'hollow'} {faint}".strip()
    return circle(kind, frame.across(point.coverage), frame.up(point.risk or 0.0), radius)


def _limits(frame: Frame, points: Sequence[Point], *, joined: bool) -> Iterator[str]:
    """The band from the observed risk to the limit of each test; a bar for a point that lies on no path."""
    limited = [point for point in points if point.upper is not None]
    if not joined:
        for point in limited:
            x, top = frame.across(point.coverage), frame.up(point.upper or 0.0)
            yield rectangle("band", x - 3, top, 6, frame.up(point.risk or 0.0) - top)
        return
    for part in _parts(limited):
        upper = [(frame.across(point.coverage), frame.up(point.upper or 0.0)) for point in part]
        yield polyline("band", [*_at(frame, part), *reversed(upper)], "polygon")


def _whisker(kind: str, frame: Frame, coverage: float, risk: float, upper: float) -> Iterator[str]:
    """A line from an observed risk to its limit; a short arrow upwards where that is beyond the frame."""
    x, y = frame.across(coverage), frame.up(risk)
    if upper > frame.y[1]:
        yield from _arrow(kind, x, y, max(frame.top, y - _ARROW))
        return
    top = frame.up(upper)
    yield line(kind, x, y, x, top)
    yield line(kind, x - 3.5, top, x + 3.5, top)


def _arrow(kind: str, x: float, y: float, top: float) -> Iterator[str]:
    yield line(kind, x, y, x, top)
    yield polyline(kind, [(x - 3.5, top + 5), (x, top), (x + 3.5, top + 5)])


def _words(chart: RiskCoverage, frame: Frame, points: Sequence[Point]) -> Iterator[str]:
    """The name of the α line, and the chosen policy in words, both where they cover no point."""
    level = frame.up(chart.alpha)
    dots = _at(frame, points)
    if chart.joined:
        dots += [spot for part in _parts(points) for spot in between(_at(frame, part))]
    for coverage, risk, upper in chart.limits:
        x, y = frame.across(coverage), frame.up(risk)
        dots += between([(x, y), (x, frame.up(upper) if upper <= frame.y[1] else y - _ARROW)])
    # Dots that are near each other count once.
    dots = sorted({(4.0 * round(x / 4), 4.0 * round(y / 4)) for x, y in dots})
    chosen = [point for point in points if point.chosen]
    rings = [Box(x - 12, y - 12, x + 12, y + 12) for x, y in _at(frame, chosen)]
    name = f"α = {100 * chart.alpha:.3g} %"
    alpha = _alpha_label(name, frame, level, dots, rings)
    yield alpha.draw()
    if not points:
        why = "no policy released a row" if chart.points else "no policy was tested"
        above, below = level - frame.top, frame.bottom - level
        y = level + below / 2 if below > above else level - above / 2
        yield text((frame.left + frame.right) / 2, y + 5, why, "middle")
    for point in chosen:
        x, y = _at(frame, [point])[0]
        yield circle("ring", x, y, 8.5)
    taken = [alpha.box(), *rings, Box(frame.left, level - 2, frame.right, level + 2)]
    inside = frame.box()._replace(left=frame.left + 4)
    for point in chosen[:_MOST_LABELS]:
        words = (
            f"chosen: {percent(point.coverage)} released,",
            f"{percent(point.risk or 0.0, 1)} disagreement",
        )
        x, y = _at(frame, [point])[0]
        labels = free_place(words, (x, y), inside, dots, taken)
        if any(each.box().meets(box) for each in labels for box in taken) and point is not chosen[0]:
            continue
        taken += [each.box() for each in labels]
        yield _leader(labels, x, y)
        yield from (each.draw() for each in labels)


def _alpha_label(
    name: str, frame: Frame, level: float, dots: Sequence[tuple[float, float]], rings: Sequence[Box]
) -> Label:
    """Above or below the line, from the left, where it covers least."""
    half = width(name)
    best: tuple[float, Label] | None = None
    for place in range(int((frame.right - frame.left - half - 8) // 8) + 1):
        for y in (level - 7, level + 18):
            label = Label(frame.left + 5 + 8 * place, y, name, kind="alpha")
            box = label.box()
            if box.top < 19 or box.bottom > frame.bottom:
                continue
            left, top, right, bottom = box.left - 4, box.top - 4, box.right + 4, box.bottom + 4
            cost = 100.0 * sum(left < x < right and top < y < bottom for x, y in dots)
            cost += 300.0 * sum(box.meets(ring) for ring in rings) + place + 3.0 * (y > level)
            if best is None or cost < best[0]:
                best = cost, label
    return best[1] if best else Label(frame.left + 5, level - 7, name, kind="alpha")


def _leader(labels: Sequence[Label], x: float, y: float) -> str:
    """A line from the ring to the nearest edge of its words."""
    boxes = [label.box() for label in labels]
    left, right = min(box.left for box in boxes), max(box.right for box in boxes)
    top, bottom = boxes[0].top, boxes[-1].bottom
    near = (min(max(x, left), right), min(max(y, top - 1), bottom + 1))
    far = ((near[0] - x) ** 2 + (near[1] - y) ** 2) ** 0.5
    share = 8.5 / far if far > 8.5 else 1.0
    return line("leader", near[0], near[1], x + (near[0] - x) * share, y + (near[1] - y) * share)


def _keys(chart: RiskCoverage, frame: Frame, main: Sequence[Point], other: Sequence[Point]) -> Iterator[Key]:
    """Explain every mark that is drawn, and no other."""
    points = [*main, *other]
    if any(point.certified for point in points):
        yield dot("dot", 3.6), "passed its test"
    if any(not point.certified for point in points):
        yield dot("hollow", 3.6), "did not pass"
    if sum(point.chosen for point in points) > _MOST_LABELS:
        yield dot("ring", 7.5), "chosen"
    paths = _drawn(main) if chart.joined else []
    if 1 < len(paths) <= len(_PATHS):
        for place, kind in enumerate(_PATHS[: len(paths)]):
            yield dash(kind), f"path {place + 1}"
    if chart.joined and _drawn(other):
        yield dash("path faint"), "other paths"
    yield swatch("region"), "at most α"
    limited = [point for point in main if point.upper is not None]
    if (_drawn(limited) and len(_parts(main)) == 1) if chart.joined else limited:
        yield swatch("band"), "limit of each test"
    if any(upper <= frame.y[1] for *_, upper in chart.limits):
        yield whisker, "simultaneous limit"
    if any(upper > frame.y[1] for *_, upper in chart.limits):
        yield lambda x, y: "".join(_arrow("whisker", x, y + 7, y - 7)), "limit above the chart"
