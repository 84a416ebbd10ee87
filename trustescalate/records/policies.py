"""Read from a certificate which thresholds hold for which item."""

from collections.abc import Iterable
from typing import NamedTuple

from trustescalate.records import Certificate, GroupGuarantee

Thresholds = tuple[float | None, ...]


class Policy(NamedTuple):
    """Thresholds that were certified, and whether they are held against pooled scores."""

    thresholds: Thresholds
    pooled: bool


def policy_of(given: Certificate | GroupGuarantee) -> Policy | None:
    """The policy that a certificate, or its part for one value, allows; None where it allows none."""
    if given.thresholds is None:
        return None
    return Policy(given.thresholds, given.chosen is not None and given.tests[given.chosen].pooled)


def certified_groups(certificate: Certificate) -> tuple[GroupGuarantee, ...]:
    """The guarantees for single values that were certified."""
    return tuple(guarantee for guarantee in certificate.groups if guarantee.thresholds is not None)


def largest_alpha(certificate: Certificate) -> float:
    """The largest certified risk level, which bounds the risk over all released verdicts.

    With a guarantee for each value, the released verdicts are a mixture of theirs.
    """
    return max((guarantee.alpha for guarantee in certified_groups(certificate)), default=certificate.alpha)


def policies_of_rows(certificate: Certificate, rows: Iterable[str]) -> list[Policy | None]:
    """The policy that holds for each of these certification rows; None where nothing is certified."""
    if certificate.group_by is None:
        return [policy_of(certificate) for _ in rows]
    known = {
        item_id: policy_of(guarantee)
        for guarantee in certified_groups(certificate)
        for item_id in guarantee.rows
    }
    return [known.get(item_id) for item_id in rows]
