"""Aggregation of annotations: majorities, ties, skips."""

from dataclasses import replace

import pytest

from trustescalate.data.labels import (
    contested_ties,
    dropped_ties,
    majority,
    plurality,
    reference_annotations,
    skipped,
    stated_labels,
)
from trustescalate.records import Annotation, Task, TaskKind

CLASS = Task(TaskKind.PAIRWISE, "?", ("A", "B", "tie"))
DROP = Task(TaskKind.PAIRWISE, "?", ("A", "B"), "drop")


def said(*labels: str, item: str = "x") -> list[Annotation]:
    return [Annotation(item, f"person {i}", label) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "as_class", "as_drop"),
    [
        (["A"], {"x": "A"}, {"x": "A"}),
        (["A", "A", "B"], {"x": "A"}, {"x": "A"}),
        (["A", "B"], {"x": None}, {"x": None}),
        (["A", "B", "tie"], {"x": None}, {"x": None}),
        (["tie", "tie", "A"], {"x": "tie"}, {}),
        (["tie", "tie", "A", "A", "B"], {"x": None}, {"x": "A"}),
        (["tie", "tie", "A", "B"], {"x": "tie"}, {}),
        (["tie"], {"x": "tie"}, {}),
        (["tie", "A"], {"x": None}, {"x": "A"}),
        (["skip", "skip", "B"], {"x": "B"}, {"x": "B"}),
        (["skip", "skip"], {}, {}),
        (["skip", "tie"], {"x": "tie"}, {}),
        (["A", "A", "B", "B"], {"x": None}, {"x": None}),
    ],
)
def test_the_majority(labels: list[str], as_class: object, as_drop: object) -> None:
    for rows in (said(*labels), said(*reversed(labels))):
        assert majority(CLASS, rows) == as_class
        assert majority(DROP, rows) == as_drop


def test_dropped_ties_are_items_that_most_call_a_tie() -> None:
    rows = [
        *said("tie", "tie", item="only ties"),
        *said("tie", "skip", item="tie and skip"),
        *said("tie", "A", item="contested"),
        *said("skip", item="skipped"),
        *said("A", item="decided"),
    ]
    rows += said("tie", "tie", "A", "skip", item="mostly a tie")
    assert dropped_ties(DROP, iter(rows)) == 3
    assert contested_ties(DROP, iter(rows)) == 1
    assert dropped_ties(CLASS, rows) == contested_ties(CLASS, rows) == 0
    assert skipped(iter(rows)) == 1
    inside = {item: len(stated) for item, stated in reference_annotations(DROP, iter(rows)).items()}
    assert inside == {"contested": 1, "skipped": 0, "decided": 1}
    assert set(reference_annotations(replace(DROP, skips="outside"), rows)) == {"contested", "decided"}


def test_opinions_keep_who_said_what() -> None:
    rows = said("A", "skip", "tie")
    assert stated_labels(CLASS, rows) == {"x": (rows[0], rows[2])}
    assert stated_labels(DROP, rows) == {"x": (rows[0],)}
    assert stated_labels(CLASS, []) == {}


def test_plurality_does_not_depend_on_order() -> None:
    assert plurality(["b", "a", "a", "c"]) == plurality(["a", "c", "b", "a"]) == "a"
    assert plurality(["b", "a"]) is None
