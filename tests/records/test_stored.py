"""Rows on disk and packed decisions are sequences like tuples, and take little memory."""

import gzip
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustescalate.errors import DataError
from trustescalate.records import Decision, Item, Step
from trustescalate.records.decisions import PackedDecisions
from trustescalate.records.item_columns import (
    ItemColumns,
    groups_of,
    ids_of,
    items_of,
    joined_groups,
    places_of,
)
from trustescalate.records.jsonl import write_rows
from trustescalate.records.stored import (
    Lines,
    Stored,
    StoredItems,
    items_digest,
    pick_items,
    read_items,
    select_items,
)

ITEMS = [Item(f"q{n}", f"Why {n}?", ("So.", "Ñö…"), group="g" if n % 3 else None) for n in range(7)]


def stored(path: Path, items: Sequence[Item] = ITEMS) -> StoredItems:
    write_rows(path, items)
    read, problems = read_items(path, lambda line, item: None)
    assert problems == []
    assert isinstance(read, StoredItems)
    return read


def test_items_on_disk_are_a_sequence(tmp_path: Path) -> None:
    read = stored(tmp_path / "items.jsonl")
    assert read == ITEMS
    assert tuple(ITEMS) == read[:]
    assert list(read) == list(read) == ITEMS
    assert (read[0], read[-1], read[1:6:2]) == (ITEMS[0], ITEMS[-1], tuple(ITEMS[1:6:2]))
    assert ITEMS[3] in read
    assert read != ITEMS[:-1]
    assert read != [*ITEMS[:-1], ITEMS[0]]
    assert repr(read) == "<StoredItems: 7>"
    with pytest.raises(IndexError):
        read[7]


def test_a_file_may_be_compressed_and_have_blank_lines_and_a_mark(tmp_path: Path) -> None:
    write_rows(tmp_path / "plain.jsonl", ITEMS)
    text = (tmp_path / "plain.jsonl").read_bytes().replace(b"\n", b"\r\n\n")
    with gzip.open(tmp_path / "items.jsonl.gz", "wb") as file:
        file.write(b"\xef\xbb\xbf" + text)
    lines: list[int] = []
    read, problems = read_items(tmp_path / "items.jsonl.gz", lambda line, item: lines.append(line))
    assert (read, problems, lines) == (ITEMS, [], [1, 3, 5, 7, 9, 11, 13])


def test_bad_lines_are_named_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    write_rows(path, ITEMS)
    rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([rows[0], b"{", *rows[1:]]))
    read, problems = read_items(path, lambda line, item: None)
    assert read == ITEMS
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:2: not valid JSON")
    missing, problems = read_items(tmp_path / "none.jsonl", lambda line, item: None)
    assert (len(missing), problems) == (
        0,
        [f"{tmp_path / 'none.jsonl'}: cannot be read: No such file or directory"],
    )


def test_rows_outlive_a_replaced_file_and_a_cut_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    read = stored(path)
    write_rows(path, ITEMS[:1])
    assert read == ITEMS
    again = stored(path)
    path.write_bytes(path.read_bytes().replace(b"Why", b"How"))
    with pytest.raises(DataError, match=r"items\.jsonl: was changed"):
        again[0]
    lines = Lines(path)
    assert len(list(lines.scan(appended=True))) == len(ITEMS)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"items\.jsonl: ends early"):
        lines.read(0)


def test_a_torn_last_line_of_an_appended_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, ITEMS)
    with path.open("ab") as file:
        file.write(b'{"id":"q7","prom')
    lines = Lines(path)
    numbers = [number for number, _ in lines.scan(appended=True)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    assert Stored(Item, lines) == ITEMS
    assert [lines.number(row) for row in range(7)] == numbers
    assert list(Lines(tmp_path / "none", missing=True).scan()) == []


def test_parts_of_items_are_those_of_a_tuple(tmp_path: Path) -> None:
    read, plain = stored(tmp_path / "items.jsonl"), tuple(ITEMS)
    odd = {"q1", "q3", "q5", "none"}
    for items in (read, plain, read.select(range(7))):
        assert list(ids_of(items)) == [item.id for item in ITEMS]
        assert places_of(items)["q4"] == 4
        assert groups_of(items) == {item.id: "g" for item in ITEMS if item.group}
        assert list(select_items(items, odd.__contains__)) == [ITEMS[1], ITEMS[3], ITEMS[5]]
        assert sorted(item.id for item in items_of(items, odd)) == ["q1", "q3", "q5"]
        assert list(pick_items(items, ["q5", "q0"])) == [ITEMS[5], ITEMS[0]]
        assert items_digest(items) == items_digest(ITEMS)
    none = read.clustered([None] * 7)
    assert [item.group for item in none.select([2, 1])] == [None, None]
    assert joined_groups(plain, none) == {}
    assert joined_groups(plain, none.select([0, 1])) == {item.id: "g" for item in ITEMS[2:] if item.group}


SCORES = st.floats(0, 1)
STEPS = st.builds(
    Step,
    st.sampled_from(("small", "large")),
    st.sampled_from(("A", "B", None)),
    SCORES,
    SCORES,
    st.one_of(st.none(), SCORES),
    st.booleans(),
    st.integers(0, 9),
    st.just(9),
    st.lists(st.sampled_from(("none", "refused")), max_size=2).map(tuple),
)


@given(
    st.lists(
        st.builds(
            Decision,
            st.just(""),
            st.sampled_from(("A", "B", None)),
            st.sampled_from(("small", None)),
            st.one_of(st.none(), SCORES),
            st.text(max_size=3),
            st.lists(STEPS, max_size=3).map(tuple),
        ),
        max_size=8,
    ),
    st.randoms(),
)
def test_packed_decisions_are_the_same_decisions(given_rows: list[Decision], rng: object) -> None:
    ids = [f"item {place}" for place in range(len(given_rows))]
    packed = PackedDecisions(ItemColumns(ids, [None] * len(ids), several=False))
    rows = []
    for place, row in enumerate(given_rows):
        packed.add(place, row)
        rows.append(Decision(ids[place], row.label, row.judge, row.score, row.reason, row.trail))
    assert packed == rows
    backwards = packed.ordered(range(len(rows) - 1, -1, -1))
    assert backwards == rows[::-1]
    placed = list(backwards.placed())
    assert [place for place, _ in placed] == list(range(len(rows)))[::-1]
    assert [_form(row) for _, row in placed] == [_form(row) for row in rows[::-1]]
    assert dict(backwards.alike()) == Counter(map(_form, rows))


def _form(row: Decision) -> Decision:
    """The decision without its item and scores."""
    trail = tuple(replace(step, score=nan, score_upper=nan) for step in row.trail)
    return replace(row, item_id="", score=None if row.score is None else nan, trail=trail)


def test_a_thousand_items_and_decisions_take_little_memory(tmp_path: Path) -> None:
    many = [Item(f"q{n:04}", "Why? " * 100, ("So. " * 100, "No. " * 100)) for n in range(1000)]
    write_rows(tmp_path / "items.jsonl", many)
    step = Step("small", "A", 0.5, 0.7, 0.5, True, 4, 8, ())
    tracemalloc.start()
    try:
        read, _ = read_items(tmp_path / "items.jsonl", lambda line, item: None)
        assert isinstance(read, StoredItems)
        packed = PackedDecisions(read.columns)
        for place in range(1000):
            packed.add(place, Decision("", "A", "small", 0.5 + place / 3000, "accepted", (step, step)))
        whole = sum(len(item.prompt) for item in read) + sum(len(row.trail) for row in packed)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert whole == 502_000
    assert kept < 400_000  # as objects they take two million bytes
    assert peak < 700_000
