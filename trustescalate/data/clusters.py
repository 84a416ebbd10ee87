"""Find items that are not independent of one another."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import chain, groupby

import numpy as np
from numpy.typing import NDArray

from trustescalate.config import Config
from trustescalate.data.item_sets import Chosen
from trustescalate.records import Item
from trustescalate.records.columns import Column, Place
from trustescalate.records.criteria import cluster_of_rows, row_name
from trustescalate.records.item_columns import clusters_of, ids_of, items_of, places_of
from trustescalate.records.item_fields import value_of
from trustescalate.records.jsonl import canonical, digest
from trustescalate.records.stored import StoredItems

ITEM = "item"
"""[data] cluster = "item": every item is a cluster of its own, even with repeated prompts."""


def content_of(item: Item) -> str:
    """A hash of prompt, reference and responses in their order."""
    return digest(item.asked, item.reference, item.responses)


def content_digest(item: Item) -> str:
    """A hash of prompt, passages, reference and responses, independent of the order of the responses."""
    order = sorted(item.responses, key=lambda each: each if isinstance(each, str) else canonical(each))
    return digest(item.asked, item.reference, order)


def clusters(items: Sequence[Item]) -> list[list[Item]]:
    """Items that must stay together: same group, or same content. The smallest sets closed under both."""
    members: dict[int, list[Item]] = defaultdict(list)
    for item, number in zip(items, cluster_numbers(items).tolist(), strict=True):
        members[number].append(item)
    return list(members.values())


def clustered_with(items: Sequence[Item], ids: Collection[str]) -> set[str]:
    """The ids of all items in a cluster with one of these.

    >>> items = [Item("a", "1", ("x",)), Item("b", "1", ("x",)), Item("c", "2", ("x",))]
    >>> sorted(clustered_with(items, {"b"}))
    ['a', 'b']
    """
    here, known = places_of(items), ids_of(items)
    number = cluster_numbers(items)
    chosen = number[[here[item_id] for item_id in ids if item_id in here]]
    return {known[place] for place in np.flatnonzero(np.isin(number, chosen)).tolist()}


def independent_items(items: Sequence[Item], known: Sequence[Item], taken: Set[str], seed: int) -> Chosen:
    """One of `items` from each cluster without a row in `taken`: the first by a seeded hash of its id.

    `taken` are ids of items that a certificate was made from, looked up in `known` where they are not among
    `items`. No verdict is looked at.

    >>> items = [Item("a", "1", ("x",)), Item("b", "2", ("x",), group="g"), Item("c", "3", ("x",))]
    >>> list(independent_items(items, [Item("d", "4", ("x",), group="g")], {"c", "d"}, seed=0))
    ['a']
    """
    ids = ids_of(items)
    return Chosen(
        items, first_of_clusters(items, known, taken, lambda place: digest("one", seed, ids[place]))[0]
    )


def first_of_clusters(
    items: Sequence[Item], known: Sequence[Item], taken: Set[str], key: Callable[[Place], str]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which items (n,) are the first, by a key of their place, of a cluster without a row in `taken`.

    Also which are in such a cluster (n,). `taken` are looked up in `known` where they are not among `items`.
    """
    here = places_of(items)
    number = cluster_numbers(chain(items, (item for item in items_of(known, taken) if item.id not in here)))
    rows = [*(here[item_id] for item_id in taken if item_id in here), *range(len(items), len(number))]
    size = np.bincount(number)
    size[number[rows]] = 0  # a cluster with a row that is taken
    own = size[number[: len(items)]]
    free, several = own == 1, np.flatnonzero(own > 1)
    by_cluster = several[np.argsort(number[several], kind="stable")]
    for _, members in groupby(map(int, by_cluster), key=number.__getitem__):
        free[min(members, key=lambda place: (key(place), place))] = True
    return free, own > 0


def cluster_numbers(items: Iterable[Item]) -> NDArray[np.int32]:
    """A number for each item, the same for items that must stay together (`clusters`)."""
    contents, groups, grouped = Column("Q"), Column("Q"), Column("I")
    for place, item in enumerate(items):
        contents.add_bytes(_short(content_digest(item)))
        if item.group is not None:
            groups.add_bytes(_short(digest(item.group)))
            grouped.append(place)
    number = _codes(contents)
    if not len(grouped):
        return number
    # A content in one group belongs to it; those in several, which are few, join their groups.
    content, group = number[grouped.numpy()], _codes(groups)
    none, contents_in_all = int(group.max()) + 1, int(number.max()) + 1
    lowest = np.full(contents_in_all, none, np.int32)
    np.minimum.at(lowest, content, group)
    across = np.flatnonzero(lowest[content] < group)
    joined: NDArray[np.int32] = np.arange(none, dtype=np.int32)
    if len(across):
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        edges = lowest[content[across]], group[across]
        graph = coo_array((np.ones(len(across), np.int8), edges), (none, none))
        joined = connected_components(graph, directed=False)[1]
    own = lowest[number]
    return np.where(own < none, joined[np.minimum(own, none - 1)], none + number).astype(np.int32)


def cluster_source(config: Config, items: Sequence[Item]) -> str:
    """Return what clusters items: the field that [data] cluster names, the field group, or the prompt.

    Without a named field or groups, items with the same prompt are one cluster.
    """
    if config.data.cluster is not None:
        return config.data.cluster
    own = any(item.group not in (None, digest(item.asked), own_group(item)) for item in items)
    return "group" if own else "prompt"


def own_group(item: Item) -> str | None:
    """The group of a row by criterion of an item without a group; None for other items."""
    name = row_name(item)
    return cluster_of_rows(name.item_id, None) if name.criterion else None


def duplicates(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """Ids of items with the same prompt and no common group, for a warning."""
    code = _codes(_shorts(digest(item.asked) for item in items))
    same: dict[int, list[Item]] = defaultdict(list)
    for place in np.flatnonzero(np.bincount(code)[code] > 1).tolist():
        same[int(code[place])].append(items[place])
    return [
        tuple(item.id for item in rows)
        for rows in same.values()
        if len({item.group for item in rows}) > 1 or rows[0].group is None
    ]


def with_clusters(items: Sequence[Item], by: str | None) -> Sequence[Item]:
    """Items with the group that [data] cluster gives them; without it, items with one prompt share one."""
    if by == "group":
        return items
    groups = _groups(items, by)
    if isinstance(items, StoredItems):
        return items.clustered(groups)
    return tuple(replace(item, group=group) for item, group in zip(items, groups, strict=True))


def _groups(items: Sequence[Item], by: str | None) -> Iterator[str | None]:
    if by is None:
        code = _codes(_shorts(digest(item.asked) for item in items))
        alone = (np.bincount(code)[code] == 1).tobytes()
        for place, (group, one) in enumerate(zip(clusters_of(items), alone, strict=True)):
            yield group if one or group is not None else digest(items[place].asked)
    elif by == "prompt":
        yield from (digest(item.asked) for item in items)
    else:
        yield from (None if by == ITEM else value_of(item, by) for item in items)


def _short(hexadecimal: str) -> bytes:
    """Eight bytes of a digest, equal for two different texts with probability 2**-64.

    Then two items would count as one cluster, which weakens no guarantee.
    """
    return bytes.fromhex(hexadecimal[:16])


def _shorts(digests: Iterable[str]) -> Column:
    column = Column("Q")
    for each in digests:
        column.add_bytes(_short(each))
    return column


def _codes(column: Column) -> NDArray[np.int32]:
    """A number for each element, the same for equal ones."""
    if not len(column):
        return np.zeros(0, np.int32)
    values = column.numpy()
    order = np.argsort(values, kind="stable")
    values = values[order]
    codes = np.empty(len(order), np.int32)
    codes[order] = np.cumsum(np.append(False, values[1:] != values[:-1]), dtype=np.int32)
    return codes
