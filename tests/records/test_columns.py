"""Columns hold what lists hold, also where they lie in a temporary file."""

import pickle
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.records import columns
from trustescalate.records.columns import Codes, Column, Picked, Places, Texts

TEXTS = st.text(st.characters(codec=None), max_size=6)


@pytest.fixture(autouse=True, scope="module")
def tiny() -> object:
    """Columns of a few bytes in memory, so that nearly all of them is in a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "IN_MEMORY", 32)
        patch.setattr(columns, "BLOCK", 16)
        patch.setattr(columns, "FEW", 1)
        patch.setattr(columns, "NEAR", 2)
        yield


@given(st.lists(st.integers(0, 2**32 - 1), max_size=60), st.data())
def test_a_column_is_the_list_that_was_appended(numbers: list[int], data: st.DataObject) -> None:
    column = Column("I", numbers)
    assert list(column) == numbers
    assert column == numbers
    assert len(column) == len(numbers)
    assert column.numpy().tolist() == numbers
    assert column[::-1] == tuple(numbers[::-1])
    for _ in range(5):
        start = data.draw(st.integers(0, len(numbers)))
        stop = data.draw(st.integers(start, len(numbers)))
        assert list(column.between(start, stop)) == numbers[start:stop]
    for place in data.draw(st.permutations(range(len(numbers)))):
        assert column[place] == numbers[place]
        assert column[place - len(numbers)] == numbers[place]


@pytest.mark.parametrize("place", [0, 9, -1, -9])
def test_a_place_out_of_range_is_an_index_error(place: int) -> None:
    column = Column("d", [0.5] * 8) if abs(place) == 9 else Column("d")
    with pytest.raises(IndexError):
        column[place]


def test_a_column_is_made_of_an_array_and_of_bytes() -> None:
    numbers = np.arange(50, dtype=np.int64)
    assert list(Column("I", numbers)) == numbers.tolist()
    column = Column("q")
    column.add_bytes(array("q", range(30)).tobytes())
    column.append(-1)
    column.pop()
    column.append(30)
    assert list(column) == list(range(31))


@given(st.lists(TEXTS, max_size=30))
def test_texts_come_back_as_they_were(texts: list[str]) -> None:
    assert list(Texts(texts)) == texts
    assert list(Codes(texts)) == texts
    assert list(Codes([None, *texts, None, *texts])) == [None, *texts, None, *texts]
    assert pickle.loads(pickle.dumps(Texts(texts))) == tuple(texts)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=30, unique=True), TEXTS)
def test_each_text_has_its_place_and_no_other_text_has_one(texts: list[str], other: str) -> None:
    places = Places(Texts(texts))
    assert dict(places) == {text: place for place, text in enumerate(texts)}
    assert (other in places) == (other in texts)
    assert places.get(other, -1) == (texts.index(other) if other in texts else -1)
    if other not in texts:
        with pytest.raises(KeyError):
            places[other]
    assert list(places.repeated()) == []


def test_texts_with_one_hash_have_places_of_their_own() -> None:
    class Same(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

    texts = [Same(f"t{number}") for number in range(9)]
    places = Places(texts)
    assert [places[text] for text in texts] == list(range(9))
    assert Same("none") not in places


@given(st.lists(st.sampled_from("abcdef"), max_size=20))
def test_a_repeated_text_is_named_with_its_first_place(texts: list[str]) -> None:
    expected = {place: texts.index(text) for place, text in enumerate(texts) if texts.index(text) != place}
    assert dict(Places(Texts(texts)).repeated()) == expected


def test_picked_rows_are_those_of_their_places() -> None:
    picked = Picked(Texts("abcde"), Column("I", [4, 0, 0]))
    assert picked == ("e", "a", "a")
    assert picked[1:] == ("a", "a")
    assert repr(picked) == "<Picked: 3>"
    assert picked.__add__(["f"]) == ("e", "a", "a", "f")
    assert picked.__radd__(("f",)) == ("f", "e", "a", "a")
