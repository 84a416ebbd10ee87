"""Read ids and clusters of items without making the items, where they are kept as columns."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

from trustescalate.records.columns import Codes, Picked, Place, Places
from trustescalate.records.task import Item

T = TypeVar("T")


class ItemColumns:
    """What is known of items on disk: `ids`, `groups`, and whether some are rows of criteria."""

    def __init__(self, ids: Sequence[str], groups: Sequence[str | None], *, several: bool) -> None:
        self.ids, self.groups, self.several = ids, groups, several

    @cached_property
    def places(self) -> Places:
        """The place of each id."""
        return Places(self.ids)

    @cached_property
    def group_of(self) -> Mapping[str, str]:
        """The cluster of each id that has one."""
        return _ValueById(self.places, self.groups)

    def select(self, places: Sequence[Place]) -> "ItemColumns":
        """Those of some places."""
        return ItemColumns(Picked(self.ids, places), Picked(self.groups, places), several=self.several)


class _ValueById(Mapping[str, T]):
    """A value of each item that has one, by its id, and of other ids that of `others`."""

    def __init__(
        self, places: Mapping[str, Place], values: Sequence[T | None], others: Mapping[str, T] | None = None
    ) -> None:
        self._places, self._values, self._others = places, values, others or {}
        self._none: bool = getattr(values, "none", False)

    def __getitem__(self, item_id: str) -> T:
        if self._none and not self._others:
            raise KeyError(item_id)
        place = self._places.get(item_id)
        value = self._others.get(item_id) if place is None else self._values[place]
        if value is None:
            raise KeyError(item_id)
        return value

    def __iter__(self) -> Iterator[str]:
        if not self._none:
            pairs = zip(self._places, self._values, strict=True)
            yield from (item_id for item_id, value in pairs if value is not None)
        yield from (item_id for item_id in self._others if item_id not in self._places)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return any(True for _ in self)


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
    """Those of the items that have one of these few ids, in their order."""
    columns = columns_of(items)
    if columns is None:
        yield from (item for item in items if item.id in ids)
    else:
        places = sorted(columns.places[item_id] for item_id in ids if item_id in columns.places)
        yield from (items[place] for place in places)


def items_by_id(items: Sequence[Item]) -> Mapping[str, Item]:
    """The items by their ids; those on disk are read when they are asked for.

    >>> items_by_id([Item("a", "?", ("x",))])["a"].prompt
    '?'
    """
    return _ById(items) if columns_of(items) else {item.id: item for item in items}


class _ById(Mapping[str, Item]):
    def __init__(self, items: Sequence[Item]) -> None:
        self._items, self._places = items, places_of(items)

    def __getitem__(self, item_id: str) -> Item:
        return self._items[self._places[item_id]]

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._items)


def groups_of(items: Sequence[Item]) -> Mapping[str, str]:
    """The cluster of each item that has one, by its id.

    >>> groups_of([Item("a", "?", ("x",)), Item("b", "?", ("x",), group="g")])
    {'b': 'g'}
    """
    columns = columns_of(items)
    if columns is None:
        return {item.id: item.group for item in items if item.group is not None}
    return columns.group_of


def joined_groups(first: Sequence[Item], second: Sequence[Item]) -> Mapping[str, str]:
    """The clusters of the items of both; those of `second` count where both have an item.

    >>> one, other = Item("a", "?", ("x",), group="g"), Item("a", "?", ("x",))
    >>> dict(joined_groups([one], [other])), dict(joined_groups([other], [one]))
    ({}, {'a': 'g'})
    """
    return joined_values(groups_of(first), second, clusters_of(second))


def clusters_of(items: Sequence[Item]) -> Sequence[str | None]:
    """The cluster of each item, in their order."""
    columns = columns_of(items)
    return [item.group for item in items] if columns is None else columns.groups


def joined_values(
    first: Mapping[str, T], items: Sequence[Item], values: Sequence[T | None]
) -> Mapping[str, T]:
    """The value of each of these items that has one, by id, and of other ids that of `first`."""
    return _ValueById(places_of(items), values, first)


def value_by_id(items: Sequence[Item], values: Iterable[str | None]) -> Mapping[str, str]:
    """The value of each item that has one, by its id; `values` are in the order of the items."""
    columns = columns_of(items)
    if columns is None:
        pairs = zip(items, values, strict=True)
        return {item.id: value for item, value in pairs if value is not None}
    return _ValueById(columns.places, Codes(values))
