"""Draw any chart as SVG, for a page or as a file of its own.

Colours are CSS variables of the page, for light and dark schemes. Shapes and patterns repeat them.
"""

import re
from importlib import resources

from trustescalate.report.drawings.bars import draw_bars
from trustescalate.report.drawings.flow import draw_flow
from trustescalate.report.drawings.intervals import draw_intervals
from trustescalate.report.drawings.power import draw_power
from trustescalate.report.drawings.reliability import draw_reliability
from trustescalate.report.drawings.risk import draw_risk_coverage
from trustescalate.report.drawings.svg import rectangle
from trustescalate.report.pictures import (
    Bars,
    Flow,
    Intervals,
    Picture,
    Power,
    Reliability,
    RiskCoverage,
)


def draw(picture: Picture) -> str:
    """Draw a chart as SVG. Equal charts give equal bytes."""
    match picture:
        case Flow():
            return draw_flow(picture)
        case RiskCoverage():
            return draw_risk_coverage(picture)
        case Reliability():
            return draw_reliability(picture)
        case Intervals():
            return draw_intervals(picture)
        case Bars():
            return draw_bars(picture)
        case Power():
            return draw_power(picture)


def draw_file(picture: Picture) -> str:
    """Draw a chart as an SVG file, which brings its style, in the light colours of a page."""
    colours = dict(re.findall(r"(--[\w-]+): (#\w+)", _asset("page.css").partition("}")[0]))
    rules = re.findall(r"^\.plot[^\n]*$", _asset("chart.css"), re.MULTILINE)
    style = re.sub(r"var\((--[\w-]+)\)", lambda name: colours[name[1]], "\n".join(rules))
    head, end, shapes = draw(picture).partition("</desc>\n")
    paper = '<rect class="paper" width="100%" height="100%"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{end}<style>{style}</style>\n{paper}\n{shapes}\n'


def draw_share(share: float) -> str:
    """Draw a share of 1 as a bar."""
    size = 'viewBox="0 0 100 6" preserveAspectRatio="none"'
    shapes = rectangle("rest", 0, 0, 100, 6) + rectangle("part", 0, 0, 100 * min(max(share, 0), 1), 6)
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="share" {size}>{shapes}</svg>'


def _asset(name: str) -> str:
    return resources.files("trustescalate.report").joinpath("assets", name).read_text("utf-8")
