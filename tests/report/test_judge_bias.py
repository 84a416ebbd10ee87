"""Position and length bias of judges, from votes and verdicts with known preferences."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
from scipy.stats import binomtest

from tests.support import factory
from trustescalate.records import Annotation, Decision, Item, Judgment, Label, Run, Step, Task, TaskKind, Vote
from trustescalate.report.document import build
from trustescalate.report.judge_bias import bias_section, measure_bias
from trustescalate.report.pictures import Intervals

Verdicts = tuple[Label, Label]
"""The verdict with A shown first, and with B shown first."""


def judged(
    verdicts: Sequence[Verdicts], *, human: Label | None = "A", longer: str = "A", group: bool = False
) -> Run:
    """A run of one judge: each item has these verdicts in both orders, and the first is its verdict."""
    whole, judge = factory.run(len(verdicts), annotated=False), factory.JUDGES[0]
    texts = ("long answer", "short") if longer == "A" else ("short", "long answer")
    rows = [(f"i{place}", pair) for place, pair in enumerate(verdicts)]
    return replace(
        whole,
        items=tuple(
            Item(item_id, "?", texts, group=f"g{place // 10}" if group else None)
            for place, (item_id, _) in enumerate(rows)
        ),
        judgments=tuple(judgment(item_id, judge, pair) for item_id, pair in rows),
        decisions=tuple(
            Decision(item_id, pair[0], judge, 0.9, "", (Step(judge, pair[0], 0.9, 0.9, 0.5, True, 4, 4, ()),))
            for item_id, pair in rows
        ),
        annotations=tuple(Annotation(item_id, "ann", human) for item_id, _ in rows) if human else (),
    )


def judgment(item_id: str, judge: str, pair: Verdicts) -> Judgment:
    """Votes of two prompts: the second one always prefers B, and counts for nothing here."""
    later = [vote(1, "AB", "B"), vote(1, "BA", "B")]
    return Judgment(item_id, judge, "f", (vote(0, "AB", pair[0]), vote(0, "BA", pair[1]), *later), 4)


def vote(prompt: int, order: Literal["AB", "BA"], verdict: Label) -> Vote:
    return Vote(prompt, order, {verdict: 0.8, "A" if verdict != "A" else "B": 0.2})


def test_a_judge_without_position_bias_is_at_one_half() -> None:
    row = measure_bias(judged([("A", "A"), ("B", "B")] * 30))[0]
    assert (row.changed.total, row.changed.items) == (0, 60)
    assert row.first.value == 0.5
    assert row.first.limits is not None
    assert row.first.limits[0] < 0.5 < row.first.limits[1]


def test_a_judge_that_prefers_the_first_response() -> None:
    row = measure_bias(judged([("A", "B")] * 30 + [("A", "A")] * 60 + [("B", "A")] * 10))[0]
    assert row.changed.figure.text == "40.0 %"
    exact = binomtest(40, 100).proportion_ci(0.95, "exact")
    assert row.changed.limits == pytest.approx((exact.low, exact.high))
    assert row.first.value == (30 + 60 * 0.5) / 100
    assert row.first.limits is not None
    assert row.first.limits[0] > 0.5


def test_a_tie_counts_one_half() -> None:
    row = measure_bias(judged([("tie", "tie")] * 20 + [("A", "tie")] * 20))[0]
    assert (row.first.value, row.changed.value) == ((20 * 0.5 + 20 * 0.75) / 40, 0.5)


def test_longer_responses_are_compared_with_human_labels_of_the_same_items() -> None:
    row = measure_bias(judged([("A", "A")] * 45 + [("B", "B")] * 15, human="B", longer="A"))[0]
    assert (row.longer.value, row.human_longer.value, row.human_longer.items) == (0.75, 0.0, 60)
    row = measure_bias(judged([("A", "A")] * 45 + [("B", "B")] * 15, human=None, longer="B"))[0]
    assert (row.longer.value, row.longer.items, row.human_longer.items) == (0.25, 60, 0)


def test_items_of_a_cluster_are_one_draw() -> None:
    verdicts: list[Verdicts] = [("A", "B")] * 60 + [("A", "A")] * 60
    alone, together = measure_bias(judged(verdicts))[0], measure_bias(judged(verdicts, group=True))[0]
    assert alone.changed.value == together.changed.value
    assert alone.changed.limits is not None
    assert together.changed.limits is not None
    assert together.changed.limits[0] < alone.changed.limits[0]


def test_votes_in_one_order_and_failed_votes_measure_nothing() -> None:
    run = judged([("A", "B")] * 20, longer="A", human=None)
    one = tuple(replace(row, votes=row.votes[:1]) for row in run.judgments)
    assert measure_bias(replace(run, judgments=one))[0].changed.items == 0
    failed = tuple(
        replace(row, votes=(replace(row.votes[0], probs={}, failure="timeout"), *row.votes[1:]))
        for row in run.judgments
    )
    assert measure_bias(replace(run, judgments=failed))[0].first.items == 0


def test_the_section_names_the_worst_judge() -> None:
    shown = bias_section(judged([("A", "B")] * 30 + [("A", "A")] * 30, human="B"))
    assert shown is not None
    assert shown.text[0] == (
        "The order of the responses changes 50.0 % of the verdicts of small-7b; it chooses the response "
        "shown first in 75.0 %. small-7b chooses the longer response in 100 % of 60 items, human labels of "
        "these in 0 %."
    )
    position, length = shown.pictures
    assert isinstance(position, Intervals)
    assert isinstance(length, Intervals)
    assert (position.reference, position.reference_name) == (0.5, "no position bias")
    assert [bar.name for bar in length.bars] == ["small-7b", "human labels, same items"]


def test_only_pairs_have_an_order() -> None:
    run = judged([("A", "B")] * 5)
    given = replace(run.header.certificate, task=Task(TaskKind.BINARY, "?", ("A", "B")))
    other = replace(run, header=replace(run.header, certificate=given))
    assert bias_section(other) is None
    assert "judge-bias" not in [section.slug for section in build(other).sections]
