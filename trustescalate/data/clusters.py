"""Find items that are not independent of one another."""

from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from dataclasses import replace

from trustescalate.config import Config
from trustescalate.records import Item
from trustescalate.records.criteria import row_name
from trustescalate.records.item_fields import value_of
from trustescalate.records.jsonl import canonical, digest

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
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for item in items:
        if item.group is not None:
            parent[find(f"group {item.group}")] = find(f"content {content_digest(item)}")
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[find(f"content {content_digest(item)}")].append(item)
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
    here = {item.id for item in items}
    used = [item for item in known if item.id in taken and item.id not in here]
    free = [rows for rows in clusters([*items, *used]) if taken.isdisjoint(item.id for item in rows)]
    return tuple(min((item.id for item in rows), key=lambda each: digest("one", seed, each)) for rows in free)


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


def with_clusters(items: Sequence[Item], by: str | None) -> tuple[Item, ...]:
    """Items with the group that [data] cluster gives them; without it, items with one prompt share one."""
    if by == "group":
        return tuple(items)
    if by is None:
        repeated = {prompt for prompt, count in Counter(item.asked for item in items).items() if count > 1}
        return tuple(
            with_cluster(item, digest(item.asked)) if item.group is None and item.asked in repeated else item
            for item in items
        )
    if by == "prompt":
        return tuple(with_cluster(item, digest(item.asked)) for item in items)
    return tuple(with_cluster(item, None if by == ITEM else value_of(item, by)) for item in items)


def with_cluster(item: Item, group: str | None) -> Item:
    return replace(item, group=group)
