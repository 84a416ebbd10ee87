"""Read ids and clusters of items without making the items, where they are kept as columns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from trustescalate.records.task import Item

Place = int


class ItemColumns:
    """What is in memory of items on disk: `ids`, `groups`, and whether some are rows of criteria."""

    def __init__(self, ids: Sequence[str], groups: Sequence[str | None], *, several: bool) -> None:
        self.ids, self.groups, self.several = ids, groups, several

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """The place of each id."""
        return {item_id: place for place, item_id in enumerate(self.ids)}

    @cached_property
    def group_of(self) -> Mapping[str, str | None]:
        """The cluster of each id that has one."""
        pairs = zip(self.ids, self.groups, strict=True)
        return {item_id: group for item_id, group in pairs if group is not None}


def columns_of(items: object) -> ItemColumns | None:
    """The columns of items that have them."""
    columns = getattr(items, "columns", None)
    return columns if isinstance(columns, ItemColumns) else None


def ids_of(items: Sequence[Item]) -> Sequence[str]:
    """The ids of items in their order."""
    columns = columns_of(items)
    return [item.id for item in items] if columns is None else columns.ids


def places_of(items: Sequence[Item]) -> Mapping[str, Place]:
    """The place of each item by its id."""
    columns = columns_of(items)
    return {item.id: place for place, item in enumerate(items)} if columns is None else columns.places


def items_of(items: Sequence[Item], ids: Collection[str]) -> Iterator[Item]:
    """Those of the items that have one of these ids, in any order."""
    columns = columns_of(items)
    if columns is None:
        yield from (item for item in items if item.id in ids)
    else:
        yield from (items[columns.places[item_id]] for item_id in ids if item_id in columns.places)


def groups_of(items: Sequence[Item]) -> Mapping[str, str | None]:
    """The cluster of each item that has one, by its id.

    >>> groups_of([Item("a", "?", ("x",)), Item("b", "?", ("x",), group="g")])
    {'b': 'g'}
    """
    columns = columns_of(items)
    if columns is None:
        return {item.id: item.group for item in items if item.group is not None}
    return columns.group_of


def joined_groups(first: Sequence[Item], second: Sequence[Item]) -> Mapping[str, str | None]:
    """The clusters of the items of both; those of `second` count where both have an item."""
    here = places_of(second)
    others = {item_id: group for item_id, group in groups_of(first).items() if item_id not in here}
    return others | dict(groups_of(second)) if others else groups_of(second)
