"""Find items that are not independent of one another."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from trustescalate.config import Config
from trustescalate.records import Item
from trustescalate.records.criteria import row_name
from trustescalate.records.item_columns import ids_of, items_of, places_of
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
    for item, number in zip(items, _cluster_numbers(items), strict=True):
        members[number].append(item)
    return list(members.values())


def independent_items(
    items: Sequence[Item], known: Sequence[Item], taken: Set[str], seed: int
) -> tuple[str, ...]:
    """One of `items` from each cluster without a row in `taken`: the first by a seeded hash of its id.

    `taken` are ids of items that a certificate was made from, looked up in `known` where they are not among
    `items`. No verdict is looked at.

    >>> items = [Item("a", "1", ("x",)), Item("b", "2", ("x",), group="g"), Item("c", "3", ("x",))]
    >>> independent_items(items, [Item("d", "4", ("x",), group="g")], {"c", "d"}, seed=0)
    ('a',)
    """
    here = places_of(items)
    used = [item for item in items_of(known, taken) if item.id not in here]
    ids = [*ids_of(items), *(item.id for item in used)]
    # Of each cluster the item with the smallest hash; None where one is taken.
    free: dict[int, str | None] = {}
    for item_id, cluster in zip(ids, _cluster_numbers(chain(items, used)), strict=True):
        best = free.setdefault(cluster, item_id)
        if item_id in taken:
            free[cluster] = None
        elif best is not None and best != item_id:
            free[cluster] = min(best, item_id, key=lambda each: digest("one", seed, each))
    return tuple(item_id for item_id in free.values() if item_id is not None)


def _cluster_numbers(items: Iterable[Item]) -> list[int]:
    """A number for each item, the same for items that must stay together (`clusters`)."""
    groups, contents = list[str | None](), list[bytes]()
    for item in items:
        groups.append(item.group)
        contents.append(_short(content_digest(item)))
    number = _codes(contents).tolist()
    parent: dict[int, int] = {}

    def find(key: int) -> int:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    first: dict[str, int] = {}
    for group, content in zip(groups, number, strict=True):
        if group is not None:
            parent[find(content)] = find(first.setdefault(group, content))
    return [find(content) if parent else content for content in number]


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
    return f"item {name.item_id}" if name.criterion else None


def duplicates(items: Sequence[Item]) -> list[tuple[str, ...]]:
    """Ids of items with the same prompt and no common group, for a warning."""
    same: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        same[digest(item.asked)].append(item)
    return [
        tuple(item.id for item in rows)
        for rows in same.values()
        if len(rows) > 1 and (len({item.group for item in rows}) > 1 or rows[0].group is None)
    ]


def with_clusters(items: Sequence[Item], by: str | None) -> Sequence[Item]:
    """Items with the group that [data] cluster gives them; without it, items with one prompt share one."""
    if by == "group":
        return items
    groups = list(_groups(items, by))
    if isinstance(items, StoredItems):
        return items.clustered(groups)
    return tuple(replace(item, group=group) for item, group in zip(items, groups, strict=True))


def _groups(items: Sequence[Item], by: str | None) -> Iterator[str | None]:
    if by is None:
        code = _codes(_short(digest(item.asked)) for item in items)
        alone = (np.bincount(code)[code] == 1).tolist() if len(code) else []
        for item, one in zip(items, alone, strict=True):
            yield item.group if one or item.group is not None else digest(item.asked)
    elif by == "prompt":
        yield from (digest(item.asked) for item in items)
    else:
        yield from (None if by == ITEM else value_of(item, by) for item in items)


def _short(hexadecimal: str) -> bytes:
    """The first half of a digest: equal for different texts in one of 2**64 pairs of a billion texts."""
    return bytes.fromhex(hexadecimal)[:16]


def _codes(digests: Iterable[bytes]) -> NDArray[np.int64]:
    """A number for each digest of 16 bytes, the same for equal ones."""
    return np.unique(np.frombuffer(b"".join(digests), dtype="V16"), return_inverse=True)[1]
