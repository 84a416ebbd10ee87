"""Responses that are turns of a conversation: read, shown, judged and reported as what they are."""

from trustescalate.data.clusters import content_digest
from trustescalate.judges.prompts import conversation, prefix
from trustescalate.records import Item, Task, TaskKind, Turn
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.items import _texts

TASK = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
FIRST = (Turn("assistant", "One."), Turn("user", "And then?"), Turn("assistant", "Two."))
SECOND = (Turn("assistant", "Uno."), Turn("user", "And then?"), Turn("assistant", "Dos."))
ITEM = Item("q", "Count.", (FIRST, SECOND))


def shown_to_judge(*, swapped: bool = False) -> str:
    return conversation(TASK, prefix(TASK, ()), ITEM, swapped=swapped).messages[-1].content


def test_turns_survive_a_file() -> None:
    assert decode(encode(ITEM), Item) == ITEM


def test_a_judge_sees_every_turn_of_each_response_in_its_place() -> None:
    shown = shown_to_judge()
    order = [shown.index(text) for text in ("One.", "And then?", "Two.", "Uno.", "Dos.")]
    assert order == sorted(order)
    assert shown.count("[response A turn 2 user") == 1
    swapped = shown_to_judge(swapped=True)
    assert swapped.index("Uno.") < swapped.index("One.")


def test_texts_are_what_the_assistant_says() -> None:
    assert ITEM.texts == ("One.\n\nTwo.", "Uno.\n\nDos.")


def test_content_does_not_depend_on_which_response_comes_first() -> None:
    assert content_digest(ITEM) == content_digest(Item("other", "Count.", (SECOND, FIRST)))
    assert content_digest(ITEM) != content_digest(Item("q", "Count.", ("One.\n\nTwo.", "Uno.\n\nDos.")))


def test_a_page_shows_each_turn_under_its_role() -> None:
    names = [block.title for block in _texts(ITEM)]
    assert names == ["Prompt"] + [
        f"Response {letter}: {role}" for letter in "AB" for role in ("assistant", "user", "assistant")
    ]
