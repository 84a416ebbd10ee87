"""Scores for Inspect AI: values, abstentions, samples and epochs, and the file's name."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.exports import exported, single
from trustescalate.analysis.export_run import export_run
from trustescalate.data.importers.inspect_ai import LETTERS
from trustescalate.errors import UsageError
from trustescalate.project import Project
from trustescalate.records import Run, Task, TaskKind
from trustescalate.report.export.inspect_scores import score_value
from trustescalate.report.verdict import explain_decision

pytestmark = pytest.mark.slow
NUMBERS = {"A": 1.0, "B": 0.0, "tie": 0.5}


def test_each_item_is_a_record_and_an_abstention_is_nan(done: Run, tmp_path: Path) -> None:
    path, _ = exported("inspect_scores", done, tmp_path)
    records = {row["id"]: row for row in map(json.loads, path.read_text("utf-8").splitlines())}
    assert list(records) == [item.id for item in done.items]
    labels = {decision.label for decision in done.decisions}
    assert None in labels
    for decision in done.decisions:
        record = records[decision.item_id]
        value = NUMBERS.get(str(decision.label), math.nan)
        assert record["value"] == value or (math.isnan(value) and math.isnan(record["value"]))
        assert record["metadata"]["certificate"] == done.header.certificate.id
        assert record["metadata"]["judge"] == decision.judge
        assert record["metadata"]["abstained"] is (decision.label is None)
        assert record["explanation"].startswith("Abstained (" if decision.label is None else "'")
        assert "epoch" not in record


def test_an_imported_sample_has_its_epoch_and_an_open_item_is_left_out(done: Run, tmp_path: Path) -> None:
    first, second, *_ = done.items
    names = {first.id: "7|epoch2", second.id: "a|epoch0"}
    run = replace(
        done,
        items=tuple(replace(item, id=names.get(item.id, item.id)) for item in done.items),
        decisions=tuple(
            replace(row, item_id=names.get(row.item_id, row.item_id)) for row in done.decisions[:-1]
        ),
    )
    path, export = exported("inspect_scores", run, tmp_path)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert (records[0]["id"], records[0]["epoch"]) == ("7", 2)
    assert records[1]["id"] == "a|epoch0"
    assert export.left_out == {"not judged yet": 1}
    assert len(records) == len(done.items) - 1


def test_values_by_task(done: Run, tmp_path: Path) -> None:
    binary = Task(TaskKind.BINARY, "Is it right?", ("pass", "fail"))
    assert [score_value(binary, label) for label in binary.labels] == ["C", "I"]
    grades = Task(TaskKind.CHOICE, "Is it right?", tuple(LETTERS.values()))
    assert [score_value(grades, label) for label in grades.labels] == list(LETTERS)
    letters = Task(TaskKind.CHOICE, "Which one?", ("A", "C", "I"))  # no letter of Inspect's
    assert score_value(letters, "C") == {"A": 0, "C": 1, "I": 0}
    rating = single(done, TaskKind.RATING, ("3", "1"))
    path, _ = exported("inspect_scores", rating, tmp_path)
    values = {json.loads(line)["value"] for line in path.read_text("utf-8").splitlines()}
    assert {value for value in values if not math.isnan(value)} == {3.0, 1.0}


def test_a_decision_without_tiers_is_explained(done: Run) -> None:
    decision = next(each for each in done.decisions if each.label is not None)
    bare = explain_decision(replace(decision, trail=()), done.header.certificate)
    assert bare.startswith(f"{decision.label!r} by judge {decision.judge!r}, score ")
    assert "threshold" not in bare


def test_the_file_has_the_name_that_inspect_reads_line_by_line(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"inspect_scores is read from a \.jsonl file"):
        export_run(project.config, None, "inspect_scores", tmp_path / "scores.json")
    assert list(tmp_path.iterdir()) == []
