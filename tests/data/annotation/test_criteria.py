"""Annotators see the question and the labels of a criterion, and their answers come back with its name."""

import json
from pathlib import Path

import pytest

from tests.support.criteria import openai_judge, write_criteria
from trustescalate.config import load_config
from trustescalate.data.annotation.answers import AnswerFile
from trustescalate.data.annotation.collect import collect_answers
from trustescalate.data.annotation.queue import Queue, load_labels, open_queue, queue_sample
from trustescalate.data.annotation.session import AnnotationSession
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import DataError, UsageError
from trustescalate.records.criteria import row_name, split_row_id
from trustescalate.records.progress import Hooks


def queued(folder: Path, rows: int = 6) -> Queue:
    config = load_config(
        write_criteria(folder, openai_judge("http://127.0.0.1:9/v1"), labelled=4, unlabelled=6)
    )
    queue_sample(config, Hooks(), load_labels(config), rows, None)
    return open_queue(config)


def test_whole_items_are_drawn(tmp_path: Path) -> None:
    queue = queued(tmp_path, rows=5)
    names = [split_row_id(row.item_id) for row in queue.rows]
    assert len({name.item_id for name in names}) == 2
    assert [name.criterion for name in names] == ["clarity", "accuracy", "tone"] * 2


def test_a_row_is_shown_with_its_own_question_and_labels(tmp_path: Path) -> None:
    queue = queued(tmp_path)
    with AnswerFile(queue.folder) as answers:
        session = AnnotationSession(queue, answers)
        rows = [session.row(place) for place in range(3)]
        assert [row["question"] for row in rows] == [
            "clarity: Is it easy to follow?",
            "accuracy: Is it right?",
            "tone: Is it polite?",
        ]
        shown = [[option["answer"] for option in row["options"]] for row in rows]
        assert shown == [[*"12345", "skip"], [*"0123", "skip"], [*"123", "skip"]]
        with pytest.raises(UsageError, match="no answer here"):
            session.answer("ann", 2, "5", None)
        for place, answer in enumerate(("5", "0", "3", "1", "2", "skip")):
            session.answer("ann", place, answer, 1.0)
    config = load_config(tmp_path / "trustescalate.toml")
    assert collect_answers(config).added == 6
    lines = [json.loads(line) for line in (tmp_path / "annotations.jsonl").read_text().splitlines()]
    first = split_row_id(queue.rows[0].item_id)
    assert lines[-6] == {
        "item_id": first.item_id,
        "annotator": "ann",
        "label": "5",
        "seconds": 1.0,
        "criterion": "clarity",
    }
    assert len(lines) == 4 * 3 + 6
    data = load_dataset(config)
    assert {row_name(row).item_id for row in data.labelled} == {line["item_id"] for line in lines}


def test_a_table_of_labels_names_the_criterion(tmp_path: Path) -> None:
    queue = queued(tmp_path)
    config, item = load_config(tmp_path / "trustescalate.toml"), split_row_id(queue.rows[0].item_id).item_id
    table = tmp_path / "more.csv"
    table.write_text(f"item_id,criterion,annotator,label\n{item},accuracy,bob,3\n")
    assert collect_answers(config, [table]).added == 1
    table.write_text(f"item_id,annotator,label\n{item},bob,3\n")
    with pytest.raises(DataError) as refused:
        collect_answers(config, [table])
    assert "has no criterion; a column criterion says which" in refused.value.problems[0]


def test_a_problem_names_the_item_and_the_criterion(tmp_path: Path) -> None:
    queue = queued(tmp_path)
    config, item = load_config(tmp_path / "trustescalate.toml"), split_row_id(queue.rows[0].item_id).item_id
    table = tmp_path / "more.csv"
    table.write_text(f"item_id,criterion,annotator,label\n{item},accuracy,bob,9\n")
    with pytest.raises(DataError) as refused:
        collect_answers(config, [table])
    assert f"item '{item}' on 'accuracy': '9' is not one of 0, 1, 2, 3" in refused.value.problems[0]
