"""Charts: well-formed, named, escaped, inside their frame, and with no text over another."""

import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest

from tests.support import factory, pictures
from trustescalate.report.charts import draw, draw_file, draw_share
from trustescalate.report.drawings.svg import Box, Label, fit, width
from trustescalate.report.pictures import (
    Bar,
    Bars,
    Flow,
    Interval,
    Intervals,
    Picture,
    Point,
    Reliability,
    RiskCoverage,
)
from trustescalate.report.text import visible

SVG = "{http://www.w3.org/2000/svg}"
TAGS = {"svg", "title", "desc", "text", "line", "circle", "rect", "path", "polyline", "polygon"}
SEEDS = range(12)


def parse(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.encode())


def texts(drawing: str) -> list[str]:
    return [str(text.text) for text in parse(drawing).iter(f"{SVG}text")]


def shapes(drawing: str, kind: str) -> list[ElementTree.Element]:
    return [shape for shape in parse(drawing).iter() if shape.get("class") == kind]


def number(shape: ElementTree.Element, name: str) -> float:
    return float(str(shape.get(name)))


def boxes(root: ElementTree.Element) -> list[tuple[str, Box]]:
    """The room of every text."""
    labels = (
        Label(number(text, "x"), number(text, "y"), text.text or "", anchor, text.get("class") or "")
        for text in root.iter(f"{SVG}text")
        for anchor in ("start", "middle", "end")
        if anchor == text.get("text-anchor", "start")
    )
    return [(label.words, label.box()) for label in labels]


def check(picture: Picture) -> None:
    """A drawing is named, stays in its frame, has no text over another, and nothing that runs."""
    drawing = draw(picture)
    assert drawing == draw(picture)
    root = parse(drawing)
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert root[1].text == visible(picture.alt)
    wide, high = map(float, str(root.get("viewBox")).split()[2:])
    for shape in root.iter():
        across = [shape.get(name) for name in ("x", "x1", "x2", "cx")]
        down = [shape.get(name) for name in ("y", "y1", "y2", "cy")]
        assert all(0 <= float(place) <= wide for place in across if place is not None)
        assert all(0 <= float(place) <= high for place in down if place is not None)
        for place in (shape.get("points") or "").split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= wide
            assert 0 <= y <= high
    placed = boxes(root)
    for words, box in placed:
        assert box.left >= -0.2, words
        assert box.right <= wide + 0.2, words
        assert box.top >= -0.2, words
        assert box.bottom <= high + 0.2, words
    for (one, first), (other, second) in combinations(placed, 2):
        assert not first.meets(second, -0.2), (one, other)
    assert not re.search(r"nan|inf\b|<script|style=|href|<[a-z]+ [^>]*on[a-z]+=", drawing)
    assert {shape.tag.removeprefix(SVG) for shape in root.iter()} <= {*TAGS, "defs", "pattern"}


@pytest.mark.parametrize("picture", pictures.CASES.values(), ids=list(pictures.CASES))
def test_a_drawing_is_named_and_its_texts_stay_apart(picture: Picture) -> None:
    check(picture)


@pytest.mark.parametrize("seed", SEEDS)
def test_texts_of_any_chart_stay_apart(seed: int) -> None:
    for picture in pictures.random_pictures(seed):
        check(picture)


def test_hostile_texts_are_text() -> None:
    bars = tuple(Interval(name, 0.5, None, name) for name in pictures.NAMES)
    check(Intervals(factory.HOSTILE, bars, True, factory.HOSTILE, 0.5, factory.HOSTILE))
    check(Reliability(factory.HOSTILE, pictures.BINS, factory.HOSTILE))
    drawing = draw(Reliability(factory.HOSTILE, pictures.BINS, "Alt."))
    assert parse(drawing)[0].text == f"Reliability diagram of {visible(factory.HOSTILE)}"


def test_a_long_name_keeps_both_ends() -> None:
    names = [f"meta-llama/Llama-3.1-{size}-Instruct-Turbo-of-the-provider" for size in ("8B", "70B")]
    drawing = draw(Intervals("Title", tuple(Interval(name, 0.5, None) for name in names), True, "Alt."))
    shown = [text for text in texts(drawing) if "…" in text]
    assert len(shown) == 2
    assert all(text.startswith("meta-llama/") and text.endswith("provider") for text in shown)
    assert width(fit("W" * 10_000, 100)) <= 100
    assert len(fit("e" + "\u0301" * 10_000, 100)) < 9


def test_risk_and_coverage_say_what_was_tested() -> None:
    drawing = draw(pictures.RISK)
    said = texts(drawing)
    assert {"α = 15 %", "passed its test", "did not pass", "other paths", "simultaneous limit"} <= set(said)
    assert said[said.index("chosen: 80 % released,") + 1] == "10.0 % disagreement"
    assert [len(shapes(drawing, kind)) for kind in ("dot", "hollow", "ring")] == [2 + 1, 1 + 1, 1]
    assert [len(shapes(drawing, kind)) for kind in ("dot faint", "hollow faint")] == [1, 1]
    # Two whiskers have a cap; the limit of 90 % has an arrow instead. Each has two shapes in the key.
    assert len(shapes(drawing, "whisker")) == 2 * 3 + 2 * 2
    assert "limit above the chart" in said
    assert "simultaneous limit" not in texts(draw(replace(pictures.RISK, limits=())))


def test_only_points_of_one_part_are_joined() -> None:
    drawing = draw(pictures.RISK)
    (main,), (faint,) = shapes(drawing, "path"), [*shapes(drawing, "path faint")][:1]
    assert [len(str(line.get("points")).split()) for line in (main, faint)] == [3, 2]
    assert shapes(draw(replace(pictures.RISK, joined=False)), "path") == []
    (band, _key) = shapes(drawing, "band")
    assert len(str(band.get("points")).split()) == 2 * 3


def test_the_chosen_policy_is_named_beside_the_points() -> None:
    curve = tuple(Point(n / 24, 0.2 * (n / 24) ** 3, n < 20, n == 19, 0, None) for n in range(1, 25))
    for alpha in (0.02, 0.15, 0.5):
        root = parse(draw(RiskCoverage("Risk", alpha, curve, True, "Alt.")))
        words = [box for text, box in boxes(root) if "chosen" in text or "disagreement" in text]
        assert len(words) == 3
        dots = [shape for shape in root.iter() if shape.get("class") in ("dot", "hollow")][:24]
        for x, y in ((number(dot, "cx"), number(dot, "cy")) for dot in dots):
            assert not any(box.meets(Box(x - 3, y - 3, x + 3, y + 3)) for box in words)


def test_a_flow_is_to_scale_and_says_what_was_never_asked() -> None:
    drawing = draw(pictures.FLOW)
    said = texts(drawing)
    assert {"300 items", "released", "143", "48 %", "300 asked · USD 0.08", "never asked", "9", "40"} <= set(
        said
    )
    small, large = (
        max(number(bar, "height") for bar in shapes(drawing, kind)) for kind in ("tier-1", "tier-3")
    )
    assert small == pytest.approx(large * 300 / 157, rel=0.01)
    ends = {kind: shapes(drawing, kind)[-1] for kind in ("people", "open")}
    assert number(ends["people"], "height") == pytest.approx(small * 40 / 300, abs=0.1)
    assert number(ends["open"], "height") == pytest.approx(small * 12 / 300, abs=0.1)
    assert "Undecided" not in texts(draw(replace(pictures.FLOW, undecided=0)))


def test_patterns_repeat_what_colours_show_and_do_not_clash() -> None:
    names = []
    for picture in (pictures.FLOW, replace(pictures.FLOW, review=39), pictures.BARS):
        drawing = draw(picture)
        (pattern,) = parse(drawing).iter(f"{SVG}pattern")
        used = {shape.get("fill") for shape in parse(drawing).iter() if shape.get("class") == "over"}
        assert used == {f"url(#{pattern.get('id')})"}
        names.append(pattern.get("id"))
    assert len(set(names)) == 3
    assert isinstance(pictures.FLOW, Flow)


def test_reliability_counts_its_bins() -> None:
    drawing = draw(pictures.CASES["reliability"])
    assert {"40", "160", "0.5", "1.0", "threshold 0.83"} <= set(texts(drawing))
    low, high = (number(bar, "height") for bar in shapes(drawing, "bar"))
    assert low == pytest.approx(high / 4, abs=0.1)


def test_intervals_are_to_scale() -> None:
    drawing = draw(pictures.INTERVALS)
    (line, *_), (dot,), (hollow,) = (shapes(drawing, kind) for kind in ("limits", "dot", "hollow"))
    ends = number(line, "x1"), number(line, "x2")
    assert number(dot, "cx") == pytest.approx(sum(ends) / 2, abs=0.1)
    assert ends[0] - number(hollow, "cx") == pytest.approx((ends[1] - ends[0]) / 2, abs=0.1)
    assert {number(line, "x1") for line in shapes(drawing, "reference")} == {ends[0]}
    assert {"no difference", "not measured", "0 rows"} <= set(texts(drawing))


def test_bars_are_to_scale() -> None:
    drawing = draw(pictures.BARS)
    lengths = {
        kind: [number(bar, "width") for bar in shapes(drawing, kind)[1:]] for kind in ("series-1", "series-2")
    }
    half, whole = lengths["series-1"]
    assert [half, *lengths["series-2"]] == pytest.approx([whole / 2, whole / 4, 0], abs=0.1)
    assert {"first response", "second response", "25 %"} <= set(texts(drawing))


def test_a_text_of_a_bar_is_whole_where_there_is_room() -> None:
    name = "below threshold at every tier, with failed votes: the reply holds no verdict"
    words = ("128 (48.1 %), threshold 0.865 of 266", "42 (15.8 %), threshold 0.8650")
    chart = Bars("Policy", ("",), (Bar(name, (128.0,), words[:1]), Bar("b", (42.0,), words[1:])), "Alt.")
    check(chart)
    drawn = texts(draw(chart))
    assert set(words) <= set(drawn)
    assert " ".join(drawn[:2]) == name


def test_a_reference_is_one_line_behind_the_texts_and_notes_stand_beside_the_axis() -> None:
    for names in (("one", "two"), ("a rather long name of a model", "another long name of one")):
        bars = tuple(Interval(name, 0.9, (0.8, 1.0), "188 of 249") for name in names)
        chart = Intervals("Rate", bars, True, "Alt.", 0.85, "guaranteed")
        check(chart)
        order = list(parse(draw(chart)))
        kinds = [shape.get("class") or "" for shape in order]
        assert kinds.count("reference") == 1
        assert kinds.index("reference") < min(n for n, kind in enumerate(kinds) if "halo" in kind)
        axis, reference = order[kinds.index("axis")], order[kinds.index("reference")]
        assert number(reference, "y2") == number(axis, "y2")
        notes = [box for words, box in boxes(parse(draw(chart))) if words == "188 of 249"]
        assert all(box.left >= number(axis, "x2") for box in notes)
        grid = {number(shape, "x1") for shape in order if shape.get("class") == "grid"}
        ticks = {number(shape, "x") for shape in order if (shape.text or "").endswith(" %")}
        assert ticks
        assert ticks <= grid


@pytest.mark.parametrize(
    ("values", "range_of_axis"), [((0.82, 0.85), ("50 %", "100 %")), ((0.3, 0.9), ("0 %", "100 %"))]
)
def test_shares_without_limits_are_not_enlarged(
    values: tuple[float, ...], range_of_axis: tuple[str, str]
) -> None:
    bars = tuple(Interval(f"judge {value}", value, None) for value in values)
    ticks = [words for words in texts(draw(Intervals("Rate", bars, True, "Alt."))) if words.endswith(" %")]
    assert (ticks[0], ticks[-1]) == range_of_axis
    limited = (*bars, Interval("c", 0.84, (0.8, 0.88)))
    assert "100 %" not in texts(draw(Intervals("Rate", limited[1:], True, "Alt.")))


def test_a_key_is_of_a_mark_that_is_drawn() -> None:
    single = replace(pictures.RISK, points=pictures.RISK.points[:5], limits=((0.8, 0.1, 0.12),))
    assert not {"other paths", "limit above the chart"} & set(texts(draw(single)))
    undecided = tuple(replace(point, chosen=False) for point in pictures.RISK.points)
    drawing = draw(replace(pictures.RISK, points=undecided))
    assert {"path 1", "path 2"} <= set(texts(drawing))
    assert [len(shapes(drawing, kind)) for kind in ("path", "path dashed", "path faint")] == [2, 2, 0]


def test_power_says_where_the_target_is_reached() -> None:
    said = texts(draw(pictures.POWER))
    # A share of (0.8 - 0.5) / 0.49 of the way from 100 to 1600 on a log scale: 546.
    assert said[-2:] == ["80 % with", "about 550 rows"]
    assert "now: 266" in said
    assert texts(draw(pictures.CASES["power not reached"]))[-2:] == ["80 % is not reached", "with 100 rows"]
    assert texts(draw(pictures.CASES["one size"]))[-1] == "50 rows or fewer"


def test_a_file_brings_its_colours() -> None:
    drawing = draw_file(pictures.POWER)
    assert drawing.startswith("<?xml")
    assert "stroke: #2459a6" in drawing
    assert "var(" not in drawing
    assert parse(drawing)[1].text == pictures.POWER.alt
    assert "<style>" not in draw(pictures.POWER)


def test_a_share_is_a_bar() -> None:
    (part,) = shapes(draw_share(0.843), "part")
    assert number(part, "width") == 84.3
