"""Write projects whose items have a field of groups."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.certificates import World
from tests.support.projects import write_project
from trustescalate.calibration.protocol import GroupRule
from trustescalate.report.sections import Report, Table

GROUPS = '[groups]\nby = "meta.language"\nmin_rows = 20\n'


def languages(*values: Any) -> Callable[[list[Any], list[Any]], None]:
    """Give the items these values in turn; None leaves one without."""

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for place, item in enumerate(items):
            value = values[place % len(values)]
            item["meta"] = {} if value is None else {"language": value}

    return change


def write_groups(folder: Path, *values: Any, more: str = GROUPS, **settings: Any) -> Path:
    """400 labelled items and 100 others, in languages that have nothing to do with what is asked."""
    given = {"labelled": 400, "unlabelled": 100, "change": languages(*values), **settings}
    return write_project(folder, more=more, **given)


def table(report: Report, slug: str, place: int = 0) -> Table:
    (result,) = [section for section in report.sections if section.slug == slug]
    return result.tables[place]


def texts(result: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in result.rows]


def rule(world: World, *values: str, **more: Any) -> dict[str, Any]:
    """The last value has every item that is left over."""
    given = {item: values[min(place // 30, len(values) - 1)] for place, item in enumerate(world.ids)}
    defaults = {"alpha": {}, "weights": {}, "target_coverage": 1.0, "min_rows": 10}
    return {"groups": GroupRule("meta.k", given, **{**defaults, **more})}
