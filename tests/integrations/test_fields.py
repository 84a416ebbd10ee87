"""The fields of a host's example become an item, or an error that names them."""

from typing import Any

import pytest

from tests.support.documents import ROOT
from trustescalate.errors import UsageError
from trustescalate.integrations.fields import Fields, context_of, messages_or_text, text_of
from trustescalate.integrations.shared import SharedCascade, passing_value
from trustescalate.records import Task, TaskKind, Turn

HI = [{"role": "user", "content": "Hi"}]


def test_an_item_is_made_of_named_fields() -> None:
    pairs = SharedCascade(ROOT / "calibration_sets" / "demo" / "trustescalate.toml")
    fields = Fields(prompt="q", baseline="old", reference="ideal", context="docs", item_id="id")
    inputs = {"q": "2 + 2?", "id": 7, "docs": [{"page_content": "Four."}, "2 + 2 = 4"]}
    item = fields.item(pairs, inputs, {"answer": "4"}, {"old": "5", "ideal": "4"})
    assert (item.id, item.prompt, item.responses) == ("7", "2 + 2?", ("4", "5"))
    assert (item.reference, item.context) == ("4", ("Four.", "2 + 2 = 4"))


def test_a_field_that_is_not_named_is_left_out() -> None:
    graded = SharedCascade(ROOT / "examples" / "pass-fail" / "trustescalate.toml")
    item = Fields().item(graded, {"messages": HI, "user": "u"}, "Hello", {"ideal": "Hey"})
    assert (item.prompt, item.reference, item.context) == ((Turn("user", "Hi"),), None, ())


@pytest.mark.parametrize(
    ("value", "key", "message"),
    [
        ({"a": "1", "b": "2"}, None, "inputs has several fields: a, b"),
        ({"a": "1"}, "b", "inputs has no field 'b'; it has a"),
        ({}, None, "inputs has several fields: none"),
        ({"a": {"b": "1"}}, "a", "a field of inputs is an object"),
        (None, None, "inputs is null, not text"),
        (3, None, "inputs is a number, not text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], None, "an image"),
        ([1], None, "inputs"),
    ],
)
def test_what_is_no_text_is_an_error_that_names_it(value: Any, key: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        text_of(value, "inputs", key)


def test_only_chat_messages_as_json_become_turns() -> None:
    assert messages_or_text('[{"role": "user", "content": "Hi"}]') == (Turn("user", "Hi"),)
    for text in ("[1, 2]", "[]", "4", "{}", '{"role": "user"}', "Hi", '[{"role": "boss", "content": "Hi"}]'):
        assert messages_or_text(text) == text


def test_passages_are_texts() -> None:
    assert context_of(None, "docs") == context_of([], "docs") == ()
    assert context_of("One.", "docs") == ("One.",)
    with pytest.raises(UsageError, match="docs holds no list of texts"):
        context_of([3], "docs")


def test_a_verdict_passes_from_a_value_on() -> None:
    rating = Task(TaskKind.RATING, "How good?", ("1", "2", "3"))
    assert passing_value(rating, 2) == 2
    assert passing_value(Task(TaskKind.PAIRWISE, "Which?", ("A", "B", "tie"))) == 0.5
    with pytest.raises(UsageError, match="a rating passes from a threshold on"):
        passing_value(rating)
    with pytest.raises(UsageError, match="have no order"):
        passing_value(Task(TaskKind.CHOICE, "Which?", ("a", "b")), 0.5)
