"""Split the items of a run into shards that processes judge apart, without talking to one another.

`merge_shards` makes one run of them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trustescalate.cascade.run_folder import RunFolder, find_run, run_ids, run_path
from trustescalate.errors import UsageError
from trustescalate.records import Certificate, Item
from trustescalate.records.columns import Column, Places, Texts
from trustescalate.records.criteria import ask_several, row_name
from trustescalate.records.run import Shard
from trustescalate.records.stored import items_digest, take_items

MOST = 100_000
"""Shards of one run."""
Range = tuple[int, int]


def read_shard(text: str) -> tuple[int, int]:
    """The number of a shard and how many there are. Raises UsageError for anything but i/n.

    >>> read_shard("2/4")
    (2, 4)
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text)
    number, of = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= of <= MOST:
        raise UsageError(f"--shard {text!r} is no shard", "give i/n with 1 ≤ i ≤ n, such as 1/4 to 4/4")
    return number, of


def must_be_decided_apart(certificate: Certificate) -> None:
    """Raise UsageError for a claim that decides all items of a run together."""
    if certificate.status == "expected" or certificate.batch is not None:
        claim = "expected" if certificate.status == "expected" else "batch"
        message = f'the claim "{claim}" decides all items of a run together, so that there are no shards'
        raise UsageError(message, 'leave out --shard, or calibrate with claim = "population"')


def part_of(items: Sequence[Item], number: int, of: int) -> tuple[Sequence[Item], Shard]:
    """The items of a shard: consecutive ones, as many as in any other shard or one more or fewer.

    The rows of an item of [[criteria]] are one, and stay together wherever they stand. Raises UsageError
    where a shard would have no item.
    """
    places = tuple(_ranges(items, number, of))
    shard = Shard(number, of, len(items), items_digest(items), places)
    if len(places) == 1:
        return take_items(items, range(*places[0])), shard
    return take_items(items, [place for start, end in places for place in range(start, end)]), shard


def _ranges(items: Sequence[Item], number: int, of: int) -> Iterator[Range]:
    """The places of the items of a shard."""
    if not ask_several(items):
        _must_suffice(len(items), of)
        first, last = (-(-len(items) * before // of) for before in (number - 1, number))
        yield first, last
        return
    starts, names, before_it = Column("I"), Texts(), ""
    for at, item in enumerate(items):
        name = row_name(item).item_id
        if not starts or name != before_it:
            starts.append(at)
            names.append(name)
            before_it = name
    first_of = dict(Places(names).repeated())  # of rows that stand apart from the first ones of their item
    count, shards = len(names) - len(first_of), dict.fromkeys(first_of.values(), 0)
    _must_suffice(count, of)
    begun, before, open_range = 0, 0, (0, 0)
    for row, start in enumerate(starts):
        if row in first_of:
            own = shards[first_of[row]]
        else:
            own, begun = begun * of // count + 1, begun + 1
            if row in shards:
                shards[row] = own
        end = starts[row + 1] if row + 1 < len(starts) else len(items)
        if own == number:
            if before != number and open_range[1]:
                yield open_range
            open_range = (open_range[0] if before == number else start, end)
        before = own
    yield open_range


def _must_suffice(count: int, of: int) -> None:
    if count < of:
        items = f"{count:,} item{'' if count == 1 else 's'}"
        raise UsageError(f"{items} cannot be split into {of:,} shards", f"use at most {count:,}")


def begun_shard(
    folder: Path, part: tuple[int, int], resume: str, items_file: str | None = None
) -> RunFolder | None:
    """The run of a shard to resume, by its id; of "latest" the last one of this shard, None without any.

    Raises UsageError for a run of something else: another shard, or items of another file.
    """
    opened = _begun(folder, *part, resume)
    if opened is not None and items_file is not None and opened.header.items_file != items_file:
        judges = opened.header.items_file or "[data]"
        raise UsageError(
            f"run {opened.header.id} judges the items of {judges}", "leave out --items or --resume"
        )
    return opened


def _begun(folder: Path, number: int, of: int, resume: str) -> RunFolder | None:
    if resume != "latest":
        opened = find_run(folder, resume)
        recorded = opened.header.shard
        if recorded is None or (recorded.number, recorded.of) != (number, of):
            what = "a whole run" if recorded is None else str(recorded)
            raise UsageError(
                f"run {opened.header.id} is {what}, and not shard {number} of {of}", "leave out --shard"
            )
        return opened
    for name in reversed(run_ids(folder)):
        opened = RunFolder.open(run_path(folder, name))
        recorded = opened.header.shard
        if recorded is not None and (recorded.number, recorded.of) == (number, of):
            return opened
    return None
