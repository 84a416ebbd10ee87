"""Items become a row for each criterion, and labels find their rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustescalate.config import Config, parse_config
from trustescalate.data.dataset import load_dataset, load_items
from trustescalate.errors import DataError
from trustescalate.records.criteria import row_id, row_name, split_row_id

CRITERIA = [
    {"name": "clarity", "question": "Clear?"},
    {"name": "accuracy", "question": "Right?", "scale": [0, 3]},
]


def project(
    folder: Path, items: list[dict[str, Any]], notes: list[dict[str, Any]], criteria: Any = None
) -> Config:
    for name, rows in (("items", items), ("annotations", notes)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"version": 1, "task": {"kind": "rating"}, "judges": [{"name": "m", "backend": "mock"}]}
    rows = CRITERIA if criteria is None else criteria
    return parse_config({**given, "criteria": rows} if rows else given, folder / "trustescalate.toml")


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "prompt": f"What of {name}?", "responses": ["So."], **more}


def note(name: str, label: str = "3", criterion: str | None = "clarity") -> dict[str, Any]:
    given = {"item_id": name, "annotator": "ann", "label": label}
    return given if criterion is None else {**given, "criterion": criterion}


def test_an_item_is_a_row_for_each_criterion(tmp_path: Path) -> None:
    config = project(
        tmp_path, [item("q#1"), item("q2", group="g")], [note("q#1"), note("q2", "0", "accuracy")]
    )
    data = load_dataset(config)
    assert [row_name(row) for row in data.items] == [
        ("q#1", "clarity"),
        ("q#1", "accuracy"),
        ("q2", "clarity"),
        ("q2", "accuracy"),
    ]
    assert [row.group for row in data.items] == ["item q#1", "item q#1", "g", "g"]
    assert {row.prompt for row in data.items[:2]} == {"What of q#1?"}
    assert [row_name(row) for row in data.labelled] == [("q#1", "clarity"), ("q2", "accuracy")]
    assert load_items(tmp_path / "items.jsonl", config) == data.items


@given(st.lists(st.tuples(st.text("a#%2356 ", min_size=1), st.text("a#%235 ", min_size=1)), unique=True))
def test_ids_of_rows_differ_and_can_be_read_back(names: list[tuple[str, str]]) -> None:
    ids = [row_id(*name) for name in names]
    assert len(set(ids)) == len(names)
    assert list(map(split_row_id, ids)) == names


@pytest.mark.parametrize(
    ("items", "notes", "message"),
    [
        (
            [item("q")],
            [note("q", criterion=None)],
            "annotations.jsonl:1: item 'q' has no criterion; say which",
        ),
        (
            [item("q")],
            [note("q"), note("q", criterion="claritty")],
            "annotations.jsonl:2: item 'q' has unknown criterion 'claritty': did you mean 'clarity'?",
        ),
        ([item("q")], [note("q", "5", "accuracy")], "label '5' is not one of 0, 1, 2, 3, skip"),
        ([item("q")], [note("q"), note("q")], "was already labelled by 'ann' on line 1"),
        ([item("q", meta={"criterion": "x"})], [], "items.jsonl:1: item 'q' has a criterion in its meta"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, items: Any, notes: Any, message: str) -> None:
    with pytest.raises(DataError) as refused:
        load_dataset(project(tmp_path, items, notes))
    assert any(message in problem for problem in refused.value.problems), refused.value.problems


def test_an_annotator_may_label_every_criterion(tmp_path: Path) -> None:
    notes = [note("q"), note("q", "3", "accuracy"), note("q", "skip", "accuracy") | {"annotator": "bob"}]
    assert len(load_dataset(project(tmp_path, [item("q")], notes)).annotations) == 3


def test_a_criterion_without_criteria_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no \\[\\[criteria\\]\\]"):
        load_dataset(project(tmp_path, [item("q")], [note("q")], criteria=[]))


def test_rows_keep_the_passages_of_their_item(tmp_path: Path) -> None:
    config = project(tmp_path, [item("a", context=["One.", "Two."])], [])
    assert [row.context for row in load_items(tmp_path / "items.jsonl", config)] == [("One.", "Two.")] * 2
