"""Match the items of two runs."""

from collections.abc import Iterator, Mapping, Sequence

from trustescalate.data.item_sets import Chosen
from trustescalate.errors import UsageError
from trustescalate.records import Item, Run
from trustescalate.records.columns import Codes, Column, Lazy, Picked, Places
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.item_columns import ids_of
from trustescalate.records.item_fields import value_of


class Pairs(Lazy[tuple[Item, Item]]):
    """Matched items of two runs; `places` are those in the items of each."""

    def __init__(self, first: Sequence[Item], second: Sequence[Item], places: tuple[Column, Column]) -> None:
        self._items, self.places = (first, second), places

    def __len__(self) -> int:
        return len(self.places[0])

    def _at(self, place: int) -> tuple[Item, Item]:
        (first, second), (here, there) = self._items, self.places
        return first[here[place]], second[there[place]]


NO_PAIRS = Pairs((), (), (Column("I"), Column("I")))


def match_items(first: Run, second: Run, by: str | None = None, *, judged: bool = False, hint: str) -> Pairs:
    """Return the items that both runs have, in the order of the first: by id, or by `by`, "meta.<key>".

    `judged`: only items that a judge judged in both. Raises UsageError, with the hint, for different tasks
    and where no item matches, and for a key that two items of a run share.
    """
    if first.header.certificate.task != second.header.certificate.task:
        raise UsageError("the two runs have different tasks", "compare runs of the same [task]")
    one, other = (_by_key(run, by, judged) for run in (first, second))
    here, there = Column("I"), Column("I")
    for key, place in one.items():
        matched = other.get(key)
        if matched is not None:
            here.append(place)
            there.append(matched)
    pairs = Pairs(first.items, second.items, (here, there))
    if not pairs:
        raise UsageError("no item of one run matches an item of the other", hint)
    return pairs


def _by_key(run: Run, by: str | None, judged: bool) -> Mapping[str, int]:
    """The place of the item of each key."""
    ids = ids_of(run.items)
    keys: Sequence[str | None] = ids if by is None else Codes(value_of(item, by) for item in run.items)
    rows = Column("I", (place for place, key in enumerate(keys) if key is not None))
    if judged:
        taken = Chosen.of(run.items, (place for place, row in placed_decisions(run) if row.trail))
        rows = Column("I", (place for place in rows if taken.mask[place]))
    places = Places(Picked(keys, rows))  # type: ignore[arg-type]
    for again, before in places.repeated():
        raise UsageError(
            f"run {run.header.id}: {ids[rows[before]]!r} and {ids[rows[again]]!r} both have {by} "
            f"{keys[rows[again]]!r}",
            "match by a key with a distinct value for each item",
        )
    return _PlacesAmong(places, rows)


class _PlacesAmong(Mapping[str, int]):
    """The places of keys among all items, where some items have none."""

    def __init__(self, places: Places, rows: Column) -> None:
        self._places, self._rows = places, rows

    def __getitem__(self, key: str) -> int:
        return int(self._rows[self._places[key]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._rows)
