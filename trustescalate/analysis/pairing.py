"""Match the items of two runs."""

from collections.abc import Mapping

from trustescalate.errors import UsageError
from trustescalate.records import Item, Run
from trustescalate.records.item_fields import value_of

Pairs = list[tuple[Item, Item]]


def match_items(first: Run, second: Run, by: str | None = None, *, judged: bool = False, hint: str) -> Pairs:
    """Return the items that both runs have, in the order of the first: by id, or by `by`, "meta.<key>".

    `judged`: only items that a judge judged in both. Raises UsageError, with the hint, for different tasks
    and where no item matches, and for a key that two items of a run share.
    """
    if first.header.certificate.task != second.header.certificate.task:
        raise UsageError("the two runs have different tasks", "compare runs of the same [task]")
    one, other = (_by_key(run, by, judged) for run in (first, second))
    pairs = [(item, other[key]) for key, item in one.items() if key in other]
    if not pairs:
        raise UsageError("no item of one run matches an item of the other", hint)
    return pairs


def _by_key(run: Run, by: str | None, judged: bool) -> Mapping[str, Item]:
    taken = {row.item_id for row in run.decisions if row.trail}
    keyed: dict[str, Item] = {}
    for item in run.items:
        key = item.id if by is None else value_of(item, by)
        if key is None or (judged and item.id not in taken):
            continue
        if key in keyed:
            raise UsageError(
                f"run {run.header.id}: {keyed[key].id!r} and {item.id!r} both have {by} {key!r}",
                "match by a key with a distinct value for each item",
            )
        keyed[key] = item
    return keyed
