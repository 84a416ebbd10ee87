"""Charts: well-formed, named, escaped, and inside their frame."""

import re
from xml.etree import ElementTree

import pytest

from tests.support import factory
from trustescalate.report.charts import draw_intervals, draw_power, draw_reliability, draw_risk_coverage
from trustescalate.report.pictures import (
    Interval,
    Intervals,
    Point,
    Reliability,
    ReliabilityBin,
    RiskCoverage,
)
from trustescalate.report.text import visible

SVG = "{http://www.w3.org/2000/svg}"
RISK = RiskCoverage(
    "Risk and coverage",
    0.15,
    (
        Point(0.0, None, False, False, 0),
        Point(0.4, 0.05, True, False, 0),
        Point(0.8, 0.1, True, True, 0),
        Point(1.0, 0.2, False, False, 0),
    ),
    True,
    "Error rate against coverage.",
    ((0.4, 0.05, 0.12), (0.8, 0.1, 0.9), (1.0, 0.2, 0.25)),
)
BINS = (ReliabilityBin(0.5, 0.75, 40, 0.6, 0.5), ReliabilityBin(0.75, 1.0, 160, 0.9, 0.95))
RELIABILITY = Reliability("judge", BINS, "Reliability of judge.")
INTERVALS = Intervals(
    "win rate", (Interval("one", 0.6, (0.5, 0.7)), Interval("two", 0.4, None)), True, "Win rates."
)
DRAWINGS = {
    "risk": draw_risk_coverage(RISK),
    "no limits": draw_risk_coverage(RiskCoverage("Risk", 0.15, RISK.points, False, "No limits.")),
    "nothing tested": draw_risk_coverage(RiskCoverage("Risk", 0.1, (), False, "Nothing was tested.")),
    "reliability": draw_reliability(RELIABILITY),
    "no bins": draw_reliability(Reliability("judge", (), "No verdict.")),
    "intervals": draw_intervals(INTERVALS),
    "one estimate": draw_intervals(Intervals("rate", (Interval("one", 0.5, None),), True, "One.")),
    "no bars": draw_intervals(Intervals("rate", (), False, "None.")),
    "power": draw_power((50, 100, 1600), (0.1, 0.5, 0.99), ((0.0, 0.2), (0.4, 0.6), (0.97, 1.0))),
    "one size": draw_power((50,), (0.1,), ((0.0, 0.2),)),
}


def parse(drawing: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.encode())


def texts(drawing: str) -> list[str]:
    return [str(text.text) for text in parse(drawing).iter(f"{SVG}text")]


def shapes(drawing: str, kind: str) -> list[ElementTree.Element]:
    return [shape for shape in parse(drawing).iter() if shape.get("class") == kind]


@pytest.mark.parametrize("drawing", DRAWINGS.values(), ids=list(DRAWINGS))
def test_a_drawing_is_named_and_stays_in_its_frame(drawing: str) -> None:
    root = parse(drawing)
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert all(child.text for child in root[:2])
    width, height = map(float, str(root.get("viewBox")).split()[2:])
    for shape in root.iter():
        across = [shape.get(name) for name in ("x", "x1", "x2", "cx")]
        down = [shape.get(name) for name in ("y", "y1", "y2", "cy")]
        assert all(0 <= float(place) <= width for place in across if place is not None)
        assert all(0 <= float(place) <= height for place in down if place is not None)
        for place in (shape.get("points") or "").split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert not re.search(r"nan|inf|script|style=|url\(|href|#(?![0-9a-f]{6};)", drawing)


def test_risk_and_coverage_say_what_was_tested() -> None:
    drawing = DRAWINGS["risk"]
    assert [len(shapes(drawing, kind)) for kind in ("hollow", "dot", "ring")] == [1 + 1, 2 + 1, 1 + 1]
    assert {"α = 0.15", "certified", "tested, not certified", "chosen", "upper limit"} <= set(texts(drawing))
    assert "upper limit" not in texts(DRAWINGS["no limits"])
    (certified, chosen, _key) = shapes(drawing, "dot")
    assert float(str(certified.get("cx"))) < float(str(chosen.get("cx")))
    assert float(str(certified.get("cy"))) > float(str(chosen.get("cy")))
    # Two whiskers have a cap; that of the limit at 90 % leaves the frame; one more line is in the key.
    assert len(shapes(drawing, "whisker")) == 3 + 2 + 1


def test_reliability_counts_its_bins() -> None:
    drawing = DRAWINGS["reliability"]
    assert {"40", "160", "0.5", "1.0"} <= set(texts(drawing))
    low, high = (float(str(bar.get("height"))) for bar in shapes(drawing, "bar"))
    assert low == pytest.approx(high / 4, abs=0.1)


def test_intervals_are_to_scale() -> None:
    (line, *_) = shapes(DRAWINGS["intervals"], "line")
    (dot,) = shapes(DRAWINGS["intervals"], "dot")
    (open_one,) = shapes(DRAWINGS["intervals"], "hollow")
    ends = float(str(line.get("x1"))), float(str(line.get("x2")))
    assert float(str(dot.get("cx"))) == pytest.approx(sum(ends) / 2, abs=0.1)
    assert ends[0] - float(str(open_one.get("cx"))) == pytest.approx((ends[1] - ends[0]) / 2, abs=0.1)


def test_hostile_names_are_text() -> None:
    bars = (Interval(factory.HOSTILE, 0.5, None), Interval("判" * 60, 0.6, (0.5, 0.7)))
    drawing = draw_intervals(Intervals(factory.HOSTILE, bars, True, factory.HOSTILE))
    root = parse(drawing)
    assert root[1].text == visible(factory.HOSTILE)
    assert {shape.tag.removeprefix(SVG) for shape in root.iter()} == {
        *("svg", "title", "desc", "text", "line", "circle")
    }
    names = [text for text in texts(drawing) if text.endswith("…")]
    assert [len(name) for name in names] == [28, 28]


def test_a_file_brings_its_colours() -> None:
    assert "fill: #1f5a99" in DRAWINGS["power"]
    assert "var(" not in DRAWINGS["power"]
    assert DRAWINGS["power"].startswith("<?xml")
    assert "<style>" not in "".join(DRAWINGS[name] for name in DRAWINGS if name not in ("power", "one size"))
