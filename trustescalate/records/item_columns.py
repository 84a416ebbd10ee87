"""Read ids and clusters of items without making the items, where they are kept as columns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from trustescalate.records.columns import Codes, Place, Places, Texts
from trustescalate.records.task import Item


class ItemColumns:
    """What is known of items on disk: `ids`, `groups`, and whether some are rows of criteria."""

    def __init__(self, ids: Texts, groups: Codes[str | None], *, several: bool) -> None:
        self.ids, self.groups, self.several = ids, groups, several

    @cached_property
    def places(self) -> Places:
        """The place of each id."""
        return Places(self.ids)

    @cached_property
    def group_of(self) -> Mapping[str, str | None]:
        """The cluster of each id that has one."""
        return _Groups(self)

    def select(self, places: Sequence[Place]) -> "ItemColumns":
        """Those of some places."""
        ids, groups = (self.ids[place] for place in places), (self.groups[place] for place in places)
        return ItemColumns(Texts(ids), Codes(groups), several=self.several)


class _Groups(Mapping[str, str | None]):
    def __init__(self, columns: ItemColumns) -> None:
        self._columns = columns

    def __getitem__(self, item_id: str) -> str:
        group = self._columns.groups[self._columns.places[item_id]]
        if group is None:
            raise KeyError(item_id)
        return group

    def get(self, item_id: str, default: Any = None) -> Any:
        place = self._columns.places.get(item_id)
        group = None if place is None else self._columns.groups[place]
        return default if group is None else group

    def __iter__(self) -> Iterator[str]:
        pairs = zip(self._columns.ids, self._columns.groups, strict=True)
        return (item_id for item_id, group in pairs if group is not None)

    def __len__(self) -> int:
        return sum(group is not None for group in self._columns.groups)


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
