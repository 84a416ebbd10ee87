"""Judges of several criteria: what they are shown, their fingerprints, and how functions are called."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from trustescalate.config import Config, parse_config
from trustescalate.data.criteria import rows_by_criterion
from trustescalate.data.dataset import Dataset, check_item
from trustescalate.errors import DataError
from trustescalate.judges.base import no_model
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import ensemble_judge, fingerprint, open_judges
from trustescalate.records import Annotation, Item, Judgment
from trustescalate.records.criteria import row_id
from trustescalate.records.votes import all_votes

CLEAR = {"name": "clarity", "question": "Is it clear?", "labels": ["yes", "no"]}
TONE = {"name": "tone", "question": "How is the tone?", "labels": ["good", "gruff", "rude"]}
ITEMS = tuple(Item(f"q{n}", f"Question {n}?", (f"Answer {n}.",)) for n in range(6))


def parsed(*criteria: dict[str, Any], mode: str = "direct", shots: int = 0, **judge: Any) -> Config:
    table = {"name": "m", "backend": "mock", "mode": mode} if not judge else {"name": "m", **judge}
    given = {
        "version": 1,
        "task": {"kind": "choice", "labels": ["x", "y"]},
        "criteria": list(criteria or (CLEAR, TONE)),
        "ensemble": {"annotators": 1, "shots": shots},
        "judges": [table],
    }
    return parse_config(given, Path("trustescalate.toml"))


def marked(config: Config) -> str:
    (table,) = config.judges
    return fingerprint(config, table, ((),))  # type: ignore[arg-type]


def test_a_fingerprint_covers_all_criteria_in_their_order() -> None:
    base = marked(parsed(CLEAR, TONE))
    assert base == marked(parsed({**CLEAR, "weight": 3.0}, TONE))
    others = [
        parsed(TONE, CLEAR),
        parsed(CLEAR),
        parsed({**CLEAR, "question": "Is it really clear?"}, TONE),
        parsed({**CLEAR, "name": "clearness"}, TONE),
        parsed({**CLEAR, "labels": ["yes", "never"]}, TONE),
        parsed(CLEAR, TONE, mode="structured"),
    ]
    assert len({base, *map(marked, others)}) == len(others) + 1


@pytest.mark.parametrize("mode", ["direct", "structured", "reason"])
def test_rows_of_an_item_make_one_and_the_same_request(mode: str) -> None:
    config = parsed(mode=mode)
    (table,) = config.judges
    judge = ensemble_judge(config, table, ((),), no_model)  # type: ignore[arg-type]
    first, second = rows_by_criterion(ITEMS[:1], config)
    (asked,) = judge.requests(first)
    assert [asked] == list(judge.requests(second))
    system = asked[2].messages[0].content
    assert "1. clarity: Is it clear? Answer with yes or no." in system
    assert "2. tone: How is the tone? Answer with A, B or C. A means good. B means gruff." in system
    assert [each.symbols for each in asked[2].criteria] == [("yes", "no"), ("A", "B", "C")]


def test_examples_are_items_with_a_label_on_every_criterion() -> None:
    config = parsed(shots=2)
    rows = rows_by_criterion(ITEMS, config)
    labels = {"clarity": "no", "tone": "rude"}
    notes = tuple(
        Annotation(row_id(item.id, name), "ann", label, criterion=name)
        for item in ITEMS[:4]
        for name, label in labels.items()
        if (item.id, name) != ("q0", "tone")
    )
    data = Dataset(rows, notes)
    (shots,) = exemplars_of(config, data, [row.id for row in rows])
    assert [shot.labels for shot in shots] == [("no", "rude")] * 2
    assert "q0" not in {shot.item.id.partition("#")[0] for shot in shots}
    (table,) = config.judges
    judge = ensemble_judge(config, table, (shots,), no_model)  # type: ignore[arg-type]
    ((_, _, request),) = judge.requests(rows[-1])
    assert [m.content for m in request.messages if m.role == "assistant"] == ["1: no\n2: C"] * 2
    few = Dataset(rows, tuple(note for note in notes if note.criterion == "tone"))
    with pytest.raises(DataError, match="a label on each criterion, there are 0"):
        exemplars_of(config, few, [row.id for row in rows])


def test_a_function_is_called_for_each_criterion_and_held_to_its_labels() -> None:
    config = parsed(backend="callable", function="mine:judge", version="1")
    answers = {"clarity": "no", "tone": "yes"}  # "yes" is a label of the other criterion

    def function(item: dict[str, Any]) -> str:
        return answers[item["meta"]["criterion"]]

    judges, _ = open_judges(config, ((),), wrap=lambda ask, *_: ask, notice=print, functions={"m": function})
    rows = rows_by_criterion(ITEMS[:1], config)

    async def judged() -> list[Judgment]:
        return [await judges[0].judge(row, all_votes) for row in rows]

    first, second = (judgment.votes[0] for judgment in asyncio.run(judged()))
    assert first.probs == {"yes": 0.0, "no": 1.0}
    assert second.failure == "bad_return"


def test_a_single_item_names_the_criterion_that_is_asked() -> None:
    config = parsed()
    asked = Item("q9", "Why?", ("So.",), meta={"criterion": "tone", "language": "de"})
    row = check_item(asked, config)
    assert (row.id, row.meta) == ("q9#tone", {"language": "de", "criterion": "tone"})
    with pytest.raises(DataError, match="must name the criterion that is asked: clarity, tone"):
        check_item(Item("q9", "Why?", ("So.",)), config)
