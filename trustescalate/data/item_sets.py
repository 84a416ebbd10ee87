"""Say which of many items are meant, or give each a number, in arrays over their places."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, ValuesView
from math import isnan

import numpy as np
from numpy.typing import NDArray

from trustescalate.records import Item
from trustescalate.records.columns import Place
from trustescalate.records.item_columns import ids_of, places_of


class Chosen(Collection[str]):
    """The ids of some items, in the order of the items; `mask` (n,) says which."""

    def __init__(self, items: Sequence[Item], mask: NDArray[np.bool_]) -> None:
        self.items, self.mask = items, mask
        self._ids, self._places = ids_of(items), places_of(items)

    @classmethod
    def of(cls, items: Sequence[Item], places: Iterable[Place]) -> "Chosen":
        """The items at these places."""
        mask = np.zeros(len(items), np.bool_)
        for place in places:
            mask[place] = True
        return cls(items, mask)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Collection) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, item_id: object) -> bool:
        place = self._places.get(item_id)  # type: ignore[call-overload]
        return place is not None and bool(self.mask[place])

    def __iter__(self) -> Iterator[str]:
        return (self._ids[place] for place in np.flatnonzero(self.mask).tolist())

    def __len__(self) -> int:
        return int(np.count_nonzero(self.mask))


class Numbers(Mapping[str, float]):
    """A number of each item that has one, by its id; the others have NaN in `numbers` (n,)."""

    def __init__(self, items: Sequence[Item], numbers: NDArray[np.float64]) -> None:
        self._items, self._places, self.numbers = items, places_of(items), numbers

    def without(self, ids: Iterable[str]) -> "Numbers":
        """Those of the other items."""
        numbers = self.numbers.copy()
        numbers[[self._places[item_id] for item_id in ids if item_id in self._places]] = np.nan
        return Numbers(self._items, numbers)

    def __getitem__(self, item_id: str) -> float:
        number = float(self.numbers[self._places[item_id]])
        if isnan(number):
            raise KeyError(item_id)
        return number

    def __iter__(self) -> Iterator[str]:
        return iter(Chosen(self._items, ~np.isnan(self.numbers)))

    def values(self) -> ValuesView[float]:
        """The numbers, without looking each up by its id."""
        return _Known(self)

    def __len__(self) -> int:
        return int(np.count_nonzero(~np.isnan(self.numbers)))


class _Known(ValuesView[float]):
    def __init__(self, numbers: Numbers) -> None:
        super().__init__(numbers)
        self._numbers = numbers.numbers

    def __iter__(self) -> Iterator[float]:
        return (number for number in map(float, self._numbers) if not isnan(number))


def mask_of(chosen: Collection[str], items: Sequence[Item]) -> NDArray[np.bool_]:
    """Which items (n,) have one of the chosen ids.

    >>> mask_of({"b"}, [Item("a", "?", ("x",)), Item("b", "?", ("x",))]).tolist()
    [False, True]
    """
    if isinstance(chosen, Chosen) and chosen.items is items:
        return chosen.mask
    places = places_of(items)
    return Chosen.of(items, (places[item_id] for item_id in chosen if item_id in places)).mask


def number_texts(texts: Iterable[str | None]) -> NDArray[np.int32]:
    """A number for each text, the same for equal ones, in the order in which they come; for None its own.

    Two different texts have one number with probability 2**-64.

    >>> number_texts(["b", None, "a", "b", None]).tolist()
    [0, 2, 1, 0, 3]
    """
    alone = bytearray()

    def marks() -> Iterator[int]:
        for text in texts:
            alone.append(text is None)
            yield 0 if text is None else hash(text)

    marked = np.fromiter(marks(), np.int64)
    single = np.frombuffer(alone, np.bool_)
    _, first, same = np.unique(marked[~single], return_index=True, return_inverse=True)
    number, rank = np.empty(len(marked), np.int32), np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    number[~single] = rank[same]
    number[single] = np.arange(len(first), len(first) + np.count_nonzero(single))
    return number
