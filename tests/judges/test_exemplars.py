"""Which rows a prompt shows, under whose labels, and in which order."""

from collections import Counter

import pytest

from trustescalate.errors import DataError
from trustescalate.judges.exemplars import exemplar_sets
from trustescalate.records import Annotation, Item, Task, TaskKind

PAIR = Task(TaskKind.PAIRWISE, "?", ("A", "B", "tie"))
BINARY = Task(TaskKind.BINARY, "?", ("pass", "fail"))


def rows(count: int) -> list[Item]:
    return [Item(f"i{n}", f"prompt {n}", ("x", "y")) for n in range(count)]


def notes(items: list[Item], annotator: str = "ann", label: str = "A") -> list[Annotation]:
    return [Annotation(item.id, annotator, label) for item in items]


def test_each_prompt_takes_one_annotators_labels_in_turn() -> None:
    items = rows(20)
    said = [*notes(items, "bob", "B"), *notes(items, "ann", "A"), *notes(items[:2], "cy", "tie")]
    sets = exemplar_sets(PAIR, items, said, members=5, shots=3, seed=0)
    assert [{shot.label for shot in shots} for shots in sets] == [{"A"}, {"B"}, {"A"}, {"B"}, {"A"}]


def test_the_majority_speaks_where_fewer_than_two_annotators_have_enough_rows() -> None:
    items = rows(9)
    said = [
        *notes(items, "ann", "A"),
        *notes(items[:2], "bob", "B"),
        *notes(items[:2], "cy", "B"),
        *notes(items[2:4], "dee", "tie"),
    ]
    sets = exemplar_sets(PAIR, items, said, members=3, shots=3, seed=0)
    shown = {shot.item.id: shot.label for shots in sets for shot in shots}
    assert shown == {**dict.fromkeys(("i0", "i1"), "B"), **dict.fromkeys((f"i{n}" for n in range(4, 9)), "A")}


def test_only_rows_that_are_given_count() -> None:
    items, others = rows(6), [Item(f"o{n}", "other", ("x", "y")) for n in range(9)]
    said = [*notes(items, "ann"), *notes(others, "bob", "B"), *notes(items[:1], "bob", "B")]
    sets = exemplar_sets(PAIR, items, said, members=2, shots=3, seed=0)
    assert {shot.item.id for shots in sets for shot in shots} <= {item.id for item in items}
    assert all(shot.label == "A" or shot.item.id == "i0" for shots in sets for shot in shots)


@pytest.mark.parametrize("annotators", [1, 2, 3])
def test_prompts_share_rows_only_when_there_are_too_few(annotators: int) -> None:
    names = ("ann", "bob", "cy")[:annotators]
    items = rows(20)
    said = [note for name in names for note in notes(items, name)]
    sets = exemplar_sets(PAIR, items, said, members=4, shots=5, seed=3)
    assert Counter(shot.item.id for shots in sets for shot in shots) == Counter(item.id for item in items)
    few = exemplar_sets(PAIR, items[:12], [note for note in said if int(note.item_id[1:]) < 12], 4, 5, 3)
    assert max(Counter(shot.item.id for shots in few for shot in shots).values()) == 2
    assert all(len({shot.item.id for shot in shots}) == 5 for shots in few)


def test_skips_and_labels_outside_the_task_are_not_shown() -> None:
    items = rows(6)
    drop = Task(TaskKind.PAIRWISE, "?", ("A", "B"), "drop")
    said = [*notes(items[:3], label="tie"), *notes(items[3:], label="A")]
    (shots,) = exemplar_sets(drop, items, said, members=1, shots=3, seed=0)
    assert {shot.item.id for shot in shots} == {"i3", "i4", "i5"}
    with pytest.raises(DataError, match="there are 3"):
        exemplar_sets(PAIR, items, [*notes(items[:3], label="skip"), *notes(items[3:])], 1, 4, 0)


def test_the_right_answer_stands_first_as_often_as_second() -> None:
    items = rows(60)
    for seed in range(20):
        for label in ("A", "B"):
            for shots in exemplar_sets(PAIR, items, notes(items, label=label), members=6, shots=5, seed=seed):
                first = sum((shot.label == "A") != shot.swapped for shot in shots)
                assert first in (2, 3)
    sets = exemplar_sets(PAIR, items, notes(items), members=12, shots=5, seed=0)
    firsts = [tuple((shot.label == "A") != shot.swapped for shot in shots) for shots in sets]
    assert len(set(firsts)) > 3
    ties = exemplar_sets(PAIR, items, notes(items, label="tie"), members=12, shots=5, seed=0)
    assert 10 < sum(shot.swapped for shots in ties for shot in shots) < 50


def test_a_single_response_is_never_swapped() -> None:
    items = [Item(f"i{n}", "p", ("x",)) for n in range(9)]
    sets = exemplar_sets(BINARY, items, notes(items, label="pass"), members=3, shots=3, seed=0)
    assert not any(shot.swapped for shots in sets for shot in shots)


def test_the_seed_decides_and_nothing_else() -> None:
    items = rows(30)
    said = [*notes(items), *notes(items, "bob", "B")]
    first = exemplar_sets(PAIR, items, said, members=5, shots=5, seed=1)
    assert exemplar_sets(PAIR, items, list(reversed(said)), members=5, shots=5, seed=1) == first
    assert exemplar_sets(PAIR, items, said, members=5, shots=5, seed=2) != first


def test_no_examples_is_zero_shot_and_needs_no_rows() -> None:
    assert exemplar_sets(PAIR, [], [], members=1, shots=0, seed=0) == ((),)


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_rows_say_what_to_do(count: int) -> None:
    items = rows(count)
    with pytest.raises(DataError, match=f"needs 3 usable exemplar rows, there are {count}") as caught:
        exemplar_sets(PAIR, items, notes(items), members=5, shots=3, seed=0)
    assert "exemplars" in caught.value.hint
    assert "shots" in caught.value.hint
