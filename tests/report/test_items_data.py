"""What a page holds of its items: inert, of bounded size, and nothing is lost without a word."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support import factory
from tests.support.hostile_run import hostile_run
from trustescalate.records import Run
from trustescalate.report.items import ItemRows
from trustescalate.report.items_data import CODES, Packed, inert, pack


def unpacked(packed: Packed) -> tuple[dict[str, Any], list[Any]]:
    return json.loads(packed.table), [row for chunk in packed.chunks for row in json.loads(chunk)]


def values(index: dict[str, Any], name: str) -> list[str | None]:
    column = index[name]
    codes = (
        [CODES.index(code) for code in column["codes"]]
        if isinstance(column["codes"], str)
        else column["codes"]
    )
    return [[None, *column["values"]][code] for code in codes]


def size(packed: Packed) -> int:
    return len(packed.table.encode()) + sum(len(chunk.encode()) for chunk in packed.chunks)


def test_the_index_holds_every_item() -> None:
    items = ItemRows(factory.run(300))
    packed = pack(items, 5_000_000)
    index, details = unpacked(packed)
    assert index["ids"] == [row.id for row in items]
    assert len(details) == packed.detailed == 300
    assert values(index, "state") == [row.state for row in items]
    assert values(index, "verdict") == [row.verdict.value for row in items]
    assert values(index, "judge") == [row.judge.value for row in items]
    assert index["scores"] == [row.score.value and round(row.score.value * 10_000) for row in items]
    cast = details[0][5][0][10]
    assert [index["words"][code] for code in cast[1:6]] == ["A first", "A", "0.900", "", "USD 0.0000200"]


def test_more_values_than_codes_are_numbers() -> None:
    run = factory.run(100)
    grouped = replace(run, items=tuple(replace(item, group=item.id) for item in run.items))
    items = ItemRows(grouped)
    index, _ = unpacked(pack(items, 5_000_000))
    assert isinstance(index["group"]["codes"], list)
    assert values(index, "group") == [row.id for row in items]


@pytest.mark.parametrize("limit", [3_000, 20_000, 60_000, 400_000])
@pytest.mark.parametrize("make", [lambda: factory.run(600), hostile_run], ids=["plain", "hostile"])
def test_the_size_is_bounded_and_the_index_goes_first(limit: int, make: Any) -> None:
    items = ItemRows(make())
    packed = pack(items, limit)
    index, details = unpacked(packed)
    assert size(packed) <= limit
    assert (len(index["ids"]), len(details)) == (packed.indexed, packed.detailed)
    assert index["total"] == len(items)
    assert packed.detailed <= packed.indexed
    if packed.detailed < len(items) and limit > 50_000:
        assert size(packed) > limit * 0.8


def test_nothing_in_the_data_ends_its_element() -> None:
    run: Run = hostile_run()
    odd = [
        f"{mark}-{place}"
        for place, mark in enumerate(("</script>", "<!--", "\u2028", "\ud800", "\x00", "a" * 10_000))
    ]
    items = tuple(replace(item, id=odd[place % 6] + str(place)) for place, item in enumerate(run.items))
    packed = pack(ItemRows(replace(run, items=items)), 5_000_000)
    text = "".join((packed.table, *packed.chunks))
    assert "<" not in text
    assert text.encode()
    assert set(json.loads(packed.table)["ids"]) == {item.id for item in items}


def test_inert_json_is_the_same_json() -> None:
    for value in ("</script>", "\ud800<", {"<!--": ["\u2029", 0.1, None]}):
        assert json.loads(inert(value)) == value
