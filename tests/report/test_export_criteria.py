"""Exports of a run that judged several criteria: each row names its own, or the format is refused."""

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest

from trustescalate.analysis.export_run import export_run
from trustescalate.data.annotation.collect import collect_answers
from trustescalate.errors import UsageError
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item
from trustescalate.records.criteria import row_id

LABELS = {"a#1": tuple("12345"), "be, kind": ("0", "1", "2")}
ONE_VERDICT = ("alpaca_eval", "argilla", "mt_bench", "trl")


def judged(folder: Path, kind: str = "rating") -> Project:
    """A run on ten items with two criteria; other items have labels."""
    items = [Item(f"q#{n}", f"Question {n}?", ("Yes.", "No.")[: 1 + (kind == "pairwise")]) for n in range(40)]
    rated = kind == "rating"
    labels = {name: own[1] if rated else "A" for name, own in LABELS.items()}
    notes = [
        Annotation(item.id, "ann", label, criterion=name)
        for item in items[:30]
        for name, label in labels.items()
    ]
    votes = {row_id(item.id, name): label for item in items for name, label in labels.items()}
    config = {
        "task": {"kind": kind},
        "criteria": [
            {
                "name": name,
                "question": f"How is {name}?",
                **({"scale": [int(own[0]), int(own[-1])]} if rated else {}),
            }
            for name, own in LABELS.items()
        ],
        "guarantee": {"alpha": 0.4, "pilot": 5},
        "ensemble": {"annotators": 1, "shots": 0, "swap": False},
    }
    judge = ReplayJudge.from_labels(votes, name="recorded")
    project = Project.from_records(items, notes, config, judges=[judge], folder=folder)
    asyncio.run(project.calibrate())
    asyncio.run(project.run())
    return project


def notes_of(project: Project) -> set[tuple[str, str, str]]:
    """The item, the criterion and the label of each annotation by bob."""
    rows = map(
        json.loads, (project.config.folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines()
    )
    return {(row["item_id"], row["criterion"], row["label"]) for row in rows if row["annotator"] == "bob"}


def as_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    page = io.StringIO(newline="")
    table = csv.DictWriter(page, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    path.write_text(page.getvalue(), encoding="utf-8")
    return path


def test_a_label_studio_task_has_the_question_and_the_labels_of_its_criterion(tmp_path: Path) -> None:
    project = judged(tmp_path / "p")
    export_run(project.config, None, "label_studio", tmp_path / "tasks.json", blind=True)
    tasks = [task["data"] for task in json.loads((tmp_path / "tasks.json").read_bytes())]
    assert len(tasks) == 20
    for name, own in LABELS.items():
        chosen = [task for task in tasks if task["asked"] == f"{name}: How is {name}?"]
        assert len(chosen) == 10
        assert all(task["options"] == [{"value": label} for label in own] for task in chosen)
    view = (tmp_path / "tasks.json.config.xml").read_text(encoding="utf-8")
    assert 'value="$asked"' in view
    assert 'value="$options"' in view
    assert "<Choice " not in view
    # Label Studio writes the fields of the task beside the choice
    rows = [
        {
            "annotation_id": str(n),
            "annotator": "bob",
            "asked": task["asked"],
            "item_id": task["item_id"],
            "label": "1",
        }
        for n, task in enumerate(tasks)
    ]
    collect_answers(project.config, [as_csv(tmp_path / "labelled.csv", rows)])
    assert notes_of(project) == {(f"q#{n}", name, "1") for n in range(30, 40) for name in LABELS}


def test_a_table_names_item_and_criterion_and_its_labels_come_back(tmp_path: Path) -> None:
    project = judged(tmp_path / "p")
    written = export_run(project.config, None, "csv", tmp_path / "run.csv", blind=True)
    assert written.files == (str(tmp_path / "run.csv"),)
    assert "label import" in " ".join(written.notices)
    with (tmp_path / "run.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["item_id"], row["criterion"]) for row in rows} == {
        (f"q#{n}", name) for n in range(30, 40) for name in LABELS
    }
    filled = [{**row, "annotator": "bob", "label": LABELS[row["criterion"]][-1]} for row in rows]
    collect_answers(project.config, [as_csv(tmp_path / "filled.csv", filled)])
    assert notes_of(project) == {
        (f"q#{n}", name, own[-1]) for n in range(30, 40) for name, own in LABELS.items()
    }
    export_run(project.config, None, "jsonl", tmp_path / "run.jsonl")
    row = json.loads((tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (row["item_id"], row["criterion"], row["verdict"], row["judge:recorded"]) == (
        "q#30",
        "a#1",
        "2",
        "2",
    )


def test_a_format_with_one_verdict_for_an_item_is_refused(tmp_path: Path) -> None:
    project = judged(tmp_path / "p", "pairwise")
    for name in ONE_VERDICT:
        with pytest.raises(UsageError, match=f"several criteria cannot be written as {name}"):
            export_run(project.config, None, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
