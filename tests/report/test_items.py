"""The items of a report: their order, their votes, and that they are laid out one at a time."""

from dataclasses import replace

from tests.support import factory
from trustescalate.records import Annotation, Run
from trustescalate.report.document import build
from trustescalate.report.items import ItemRows
from trustescalate.report.sections import ItemRow


def rows(run: Run) -> dict[str, ItemRow]:
    return {row.id: row for row in ItemRows(run)}


def test_disagreements_come_first_then_abstentions_then_the_least_confident() -> None:
    listed = list(ItemRows(factory.run(300)))
    kinds = [0 if row.disagrees else 1 if row.state == "abstained" else 2 for row in listed]
    assert kinds == sorted(kinds)
    assert [kinds.count(kind) for kind in range(3)] == [4, 30, 266]
    for kind in range(3):
        scores = [row.trail[-1].low for row, its in zip(listed, kinds, strict=True) if its == kind]
        assert scores == sorted(scores)


def test_undecided_items_come_before_released_ones() -> None:
    states = [row.state for row in ItemRows(factory.incomplete_run()) if not row.disagrees]
    assert list(dict.fromkeys(states)) == ["abstained", "undecided", "released"]
    assert states.count("undecided") == 120
    assert states == sorted(states, key=["abstained", "undecided", "released"].index)


def test_a_verdict_disagrees_with_the_majority_only() -> None:
    run = factory.run(10, annotated=False)
    verdict = run.decisions[1].label
    other = "A" if verdict == "B" else "B"
    notes = [
        Annotation("item-0001", name, label)
        for name, label in zip("xyz", (other, other, verdict), strict=True)
    ]
    row = rows(replace(run, annotations=tuple(notes)))["item-0001"]
    assert (row.disagrees, row.people.value) == (True, other)
    assert row.labels == (("x", other), ("y", other), ("z", verdict))
    assert not rows(replace(run, annotations=tuple(notes[1:])))["item-0001"].disagrees  # no majority


def test_every_vote_is_in_the_trail() -> None:
    row = rows(factory.run(20))["item-0009"]
    assert [len(step.cast) for step in row.trail] == [10, 10, 10]
    first, second = row.trail[2].cast[0], row.trail[2].cast[2]
    assert (first.failure, first.label, first.probability.text, first.cost.text) == (
        "timeout",
        None,
        "—",
        "USD 0",
    )
    assert (second.order, second.examples, second.label) == ("A first", 2, "A")
    assert (second.probability.text, second.cost.text, row.failed) == ("0.900", "USD 0.00300", 2)
    assert row.trail[2].cast[3].order == "B first"


def test_items_are_laid_out_when_they_are_asked_for() -> None:
    run = factory.run(300)
    listed = build(run).items
    assert len(listed) == 300
    assert listed[0] is not listed[0]
    assert [row.id for row in listed[2:4]] == [listed[2].id, listed[3].id]
    assert listed[-1].id == list(listed)[-1].id


def test_a_group_is_that_of_the_guarantee() -> None:
    assert {row.group for row in ItemRows(factory.grouped_run())} == {"de", "fi", None}
    run = factory.run(10)
    grouped = replace(run, items=tuple(replace(item, group="g") for item in run.items))
    assert {row.group for row in ItemRows(grouped)} == {"g"}
