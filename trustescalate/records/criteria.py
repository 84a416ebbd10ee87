"""Name the rows of items that are judged on several criteria, and record means by criterion.

An item is one row for each criterion. The id of a row holds both names, so that it can be read back.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from trustescalate.records.columns import count_different
from trustescalate.records.item_columns import columns_of, ids_of
from trustescalate.records.overall import Overall
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


def criterion_row(item: Item, criterion: str) -> Item:
    """The row of an item for a criterion: its texts, in the cluster of all its rows.

    >>> row = criterion_row(Item("q", "Why?", ("So.",)), "clarity")
    >>> row.id, row.group, dict(row.meta)
    ('q#clarity', 'item q', {'criterion': 'clarity'})
    """
    return replace(
        item,
        id=row_id(item.id, criterion),
        group=cluster_of_rows(item.id, item.group),
        meta={**item.meta, CRITERION: criterion},
    )


def cluster_of_rows(item_id: str, group: str | None) -> str:
    """The cluster of the rows of an item: its own group, or the item."""
    return f"item {item_id}" if group is None else group


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


def ask_several(items: Iterable[Item]) -> bool:
    """Whether these items are rows of several criteria."""
    columns = columns_of(items)
    return any(row_name(item).criterion for item in items) if columns is None else columns.several


def count_in_words(items: Sequence[Item]) -> str:
    """The number of items; of rows of several criteria also what they are rows of.

    >>> rows = [Item(row_id(q, c), "?", ("x",), meta={"criterion": c}) for q in "ab" for c in ("x", "y")]
    >>> count_in_words(rows), count_in_words(rows[:3]), count_in_words([Item("q", "?", ("x",))] * 2)
    ('4 rows (2 items × 2 criteria)', '3 rows of 2 items', '2 items')
    """
    if not ask_several(items):
        return f"{len(items):,} item{'' if len(items) == 1 else 's'}"
    asked = set[str]()

    def names() -> Iterator[str]:
        for name in map(split_row_id, ids_of(items)):
            asked.add(name.criterion)
            yield name.item_id

    apart, rows = count_different(names()), len(items)
    if rows < apart * len(asked):
        return f"{rows:,} rows of {apart:,} items"
    return f"{rows:,} rows ({apart:,} items × {len(asked)} criteria)"


def split_row_id(name: str) -> RowName:
    """The item and the criterion that the id of a row names.

    >>> split_row_id("q%231#100 %25")
    RowName(item_id='q#1', criterion='100 %')
    """
    item_id, _, criterion = name.partition(_MARK)
    return RowName(_unescaped(item_id), _unescaped(criterion))


def shown_row(name: str, *, several: bool) -> str:
    """How the id of a row is shown; `several`: it is a row of several criteria.

    >>> shown_row("q%231#100 %25", several=True), shown_row("q%231", several=False)
    ('q#1 on 100 %', 'q%231')
    """
    return " on ".join(split_row_id(name)) if several else name


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
    """One criterion in a run, and its mean over all items, on the `scale` of its own.

    `scale` is None where labels have no order; then there is no mean. `alpha` is its risk level, and
    `certified` says whether its verdicts are certified at it; of `rows` verdicts `released` were released.
    """

    name: str
    weight: float
    scale: tuple[float, float] | None
    alpha: float
    certified: bool
    rows: int
    released: int
    mean: Overall


@dataclass(frozen=True, slots=True)
class Criteria:
    """The criteria of a run, and their weighted total over all items, from 0 to 1.

    In the total each value is its place between the ends of its scale, and an item counts once. The interval
    of a mean holds for that mean alone.
    """

    each: tuple[CriterionMean, ...]
    total: Overall
