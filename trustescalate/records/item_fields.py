"""Read a field of an item as text.

A value is data: it is compared, counted and shown, and never a path, a pattern or a key of ours."""

from collections.abc import Mapping, Sequence

from trustescalate.records import Item
from trustescalate.records.item_columns import value_by_id


def value_of(item: Item, by: str) -> str | None:
    """The value of the field `by`, "meta.<key>", as text; None where it has none, an empty one, or a list.

    >>> value_of(Item("q", "Why?", ("So.",), meta={"language": "de", "turn": 2}), "meta.turn")
    '2'
    """
    value = item.meta.get(by.removeprefix("meta."))
    return None if value in (None, "") or isinstance(value, dict | list) else str(value)


def values_of(items: Sequence[Item], by: str) -> Mapping[str, str]:
    """The value of each item that has one, by id."""
    return value_by_id(items, (value_of(item, by) for item in items))
