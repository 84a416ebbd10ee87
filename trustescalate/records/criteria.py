"""Name the rows of items that are judged on several criteria, and record means by criterion.

An item is one row for each criterion. The id of a row holds both names, so that it can be read back.
"""

from dataclasses import dataclass
from typing import NamedTuple

from trustescalate.records.task import Item, Label

CRITERION = "criterion"
"""Key of a row's meta that holds the name of its criterion."""
BY_CRITERION = f"meta.{CRITERION}"
_MARK = "#"


class RowName(NamedTuple):
    """The item and the criterion of a row; the criterion is "" for an item that is one row by itself."""

    item_id: str
    criterion: str


def row_id(item_id: str, criterion: str) -> str:
    """The id of a row; different items or criteria give different ids (`row_name`).

    >>> row_id("q1", "clarity"), row_id("q#1", "100 %")
    ('q1#clarity', 'q%231#100 %25')
    """
    return f"{_escaped(item_id)}{_MARK}{_escaped(criterion)}"


def row_name(item: Item) -> RowName:
    """The item and the criterion of a row.

    >>> row = Item(row_id("q#1", "clarity"), "Why?", ("So.",), meta={"criterion": "clarity"})
    >>> row_name(row), row_name(Item("q#1", "Why?", ("So.",)))
    (RowName(item_id='q#1', criterion='clarity'), RowName(item_id='q#1', criterion=''))
    """
    criterion = item.meta.get(CRITERION)
    if isinstance(criterion, str) and item.id.endswith(f"{_MARK}{_escaped(criterion)}"):
        return split_row_id(item.id)
    return RowName(item.id, "")


def split_row_id(name: str) -> RowName:
    """The item and the criterion that the id of a row names.

    >>> split_row_id("q%231#100 %25")
    RowName(item_id='q#1', criterion='100 %')
    """
    item_id, _, criterion = name.partition(_MARK)
    return RowName(_unescaped(item_id), _unescaped(criterion))


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(_MARK, "%23")


def _unescaped(name: str) -> str:
    return name.replace("%23", _MARK).replace("%25", "%")


@dataclass(frozen=True, slots=True)
class AskedCriterion:
    """A criterion in a request: its name, its question, its labels, and the symbols that answer it."""

    name: str
    question: str
    labels: tuple[Label, ...]
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CriterionMean:
    """The mean of one criterion over all items, on its own scale, with a 95 % interval.

    `guarantee` is the alpha at which its verdicts are certified, None where they are not; `released` of `rows`
    verdicts were released. `estimate` is None where there is none, and `reason` says why.
    """

    name: str
    weight: float
    alpha: float
    certified: bool
    rows: int
    released: int
    scale: tuple[float, float] | None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    labels: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Criteria:
    """Means by criterion, and the weighted total over them, from 0 to 1, with a 95 % interval.

    In the total each value is its place between the ends of its scale. An item is one unit in each. `estimate`
    is None where there is no total, and `reason` says why. Intervals of single criteria hold one by one.
    """

    each: tuple[CriterionMean, ...]
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    items: int = 0
    labels: int = 0
    reason: str = ""
