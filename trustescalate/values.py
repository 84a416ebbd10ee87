"""What an item says in one of its fields, as text, and what a certificate promises for it.

A value is data: it is compared, counted and shown, and never a path, a pattern or a key of ours.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from trustescalate.types import Certificate, GroupPromise, Item

Thresholds = tuple[float | None, ...]


class Policy(NamedTuple):
    """Thresholds that were certified, and whether they are held against pooled scores."""

    thresholds: Thresholds
    pooled: bool


def policy_of(given: Certificate | GroupPromise) -> Policy | None:
    """The policy that a certificate, or its part for one value, allows; None where it allows none."""
    if given.thresholds is None:
        return None
    return Policy(given.thresholds, given.chosen is not None and given.tests[given.chosen].pooled)


def value_of(item: Item, by: str) -> str | None:
    """The value of the field `by`, "meta.<key>", as text; None where it has none, an empty one, or a list.

    >>> value_of(Item("q", "Why?", ("So.",), meta={"language": "de", "turn": 2}), "meta.turn")
    '2'
    """
    value = item.meta.get(by.removeprefix("meta."))
    return None if value in (None, "") or isinstance(value, dict | list) else str(value)


def values_of(items: Iterable[Item], by: str) -> Mapping[str, str]:
    """The value of each item that has one, by id."""
    found = {item.id: value_of(item, by) for item in items}
    return {item_id: value for item_id, value in found.items() if value is not None}


def certified_groups(certificate: Certificate) -> tuple[GroupPromise, ...]:
    """The promises for single values that were certified."""
    return tuple(promise for promise in certificate.groups if promise.thresholds is not None)


def largest_alpha(certificate: Certificate) -> float:
    """The share of released verdicts that may be wrong, over all: the largest that was certified.

    Where promises are for each value, the released verdicts are a mixture of theirs.
    """
    return max((promise.alpha for promise in certified_groups(certificate)), default=certificate.alpha)


def policies_of_rows(certificate: Certificate, rows: Iterable[str]) -> list[Policy | None]:
    """The policy that holds for each of these certification rows; None where nothing is certified."""
    if certificate.group_by is None:
        return [policy_of(certificate) for _ in rows]
    known = {
        item_id: policy_of(promise) for promise in certified_groups(certificate) for item_id in promise.rows
    }
    return [known.get(item_id) for item_id in rows]
