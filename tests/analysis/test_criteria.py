"""Means by criterion, and a weighted total with the item as its unit."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Run
from trustescalate.records.criteria import Criteria, row_id, row_name
from trustescalate.report.document import build
from trustescalate.report.gate import Verdict

LABELLED, FRESH = 150, 150
Grades = Mapping[str, int]
SCALE = [1, 5]


def judged(
    folder: Path, grades: Callable[[random.Random], Grades], weights: Mapping[str, float], noise: float = 0.25
) -> tuple[Project, Run, dict[str, float]]:
    """A run on fresh items, and the true mean of each criterion over these."""
    rng = random.Random(0)
    items, notes, votes = [], [], {}
    sums = dict.fromkeys(weights, 0.0)
    for number in range(LABELLED + FRESH):
        item = Item(f"q{number}", f"Question {number}?", (f"Answer {number}.",))
        items.append(item)
        drawn = grades(rng)
        for name in weights:
            grade, wrong = drawn[name], rng.random() < noise
            votes[row_id(item.id, name)] = str(grade % 5 + 1 if wrong else grade)
            if number < LABELLED:
                notes.append(Annotation(item.id, "ann", str(grade), criterion=name))
            else:
                sums[name] += grade / FRESH
    config = {
        "task": {"kind": "rating", "question": "How good is it?"},
        "criteria": [
            {"name": name, "question": f"How is {name}?", "weight": weight, "scale": SCALE}
            for name, weight in weights.items()
        ],
        "guarantee": {"alpha": 0.4, "pilot": 30},
        "ensemble": {"annotators": 1, "shots": 0},
    }
    judge = ReplayJudge.from_labels(votes, name="recorded")
    project = Project.from_records(items, notes, config, judges=[judge], folder=folder)
    asyncio.run(project.calibrate())
    return project, asyncio.run(project.run()), sums


def alone(rng: random.Random) -> Grades:
    return {name: rng.randint(1, 5) for name in ("a", "b", "c")}


def alike(rng: random.Random) -> Grades:
    grade = rng.randint(1, 5)
    return dict.fromkeys(("a", "b", "c"), grade)


def criteria_of(run: Run) -> Criteria:
    assert run.criteria is not None
    return run.criteria


def test_each_criterion_and_the_total_are_near_the_truth(tmp_path: Path) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 1.0}
    _, run, truth = judged(tmp_path, alone, weights)
    criteria = criteria_of(run)
    assert run.overall is None  # a mean over all criteria alike means nothing
    for each in criteria.each:
        assert (each.certified, each.rows, each.released, each.scale) == (True, FRESH, FRESH, (1.0, 5.0))
        assert each.mean.usable
        assert each.mean.interval is not None
        assert each.mean.interval[0] < truth[each.name] < each.mean.interval[1]
    wanted = sum(weights[name] * (mean - 1) / 4 for name, mean in truth.items()) / 4
    total = criteria.total
    assert total.interval is not None
    assert total.interval[0] < wanted < total.interval[1]
    assert (total.items, total.labels) == (LABELLED + FRESH, LABELLED)
    by_weight = sum(each.weight * ((each.mean.estimate or 0) - 1) / 4 for each in criteria.each) / 4
    assert total.estimate == pytest.approx(by_weight, abs=0.01)


def test_an_item_is_one_unit_of_the_total(tmp_path: Path) -> None:
    """Where all criteria say the same, three of them tell no more than one."""
    _, run, _ = judged(tmp_path / "alike", alike, {"a": 1.0, "b": 1.0, "c": 1.0}, noise=0.0)
    criteria = criteria_of(run)
    single, total = criteria.each[0].mean, criteria.total
    assert single.label_only is not None
    assert total.label_only is not None
    placed = [(limit - 1) / 4 for limit in single.label_only]
    assert total.label_only == pytest.approx(placed, abs=1e-6)


def test_a_report_names_each_criterion(tmp_path: Path) -> None:
    _, run, _ = judged(tmp_path, alone, {"a": 1.0, "b": 2.0})
    (section,) = (section for section in build(run).sections if section.slug == "criteria")
    rows = [[cell.text for cell in row.cells] for row in section.tables[1].rows]
    assert [row[:6] for row in rows] == [
        ["a", "1.00", "60 %", "100 %", "150", "1 to 5"],
        ["b", "2.00", "60 %", "100 %", "150", "1 to 5"],
    ]
    assert any("a 1, b 2" in text for text in section.text)
    whole = section.tables[0].rows[0].cells[1].text  # limits of the total, of all criteria together
    assert whole.endswith("with probability ≥ 85 %)")


def test_the_gate_holds_each_criterion_and_the_total_against_its_limit(tmp_path: Path) -> None:
    """With every item of the run labelled the means are known: each check is a matter of arithmetic."""
    weights = {"a": 1.0, "b": 2.0, "c": 1.0}
    project, run, _ = judged(tmp_path, alone, weights)
    grades = {name: random.Random(1) for name in weights}
    rows = {name: {item.id: str(rng.randint(1, 5)) for item in run.items} for name, rng in grades.items()}
    notes = tmp_path / "annotations.jsonl"
    names = {row_name(item) for item in run.items}
    labels = {name: rows[name.criterion][row_id(*name)] for name in sorted(names) if name.item_id != "q299"}
    lines = [
        json.dumps({"item_id": name.item_id, "criterion": name.criterion, "annotator": "ann", "label": label})
        for name, label in labels.items()
    ]
    notes.write_text(notes.read_text() + "".join(f"{line}\n" for line in lines))
    product = project.load_run().product
    assert product is not None
    assert [mean.group for mean in product.means] == [None, "a", "b", "c"]
    for mean, name in zip(product.means[1:], weights, strict=True):
        known = [int(label) for row, label in labels.items() if row.criterion == name]
        low = (sum(known) + 1) / FRESH
        assert mean.first.low <= low + 4 / FRESH
        assert mean.first.high >= low
    ends = [(mean.first.low, mean.first.high) for mean in product.means]
    for side in (0, 1):
        placed = [(end[side] - 1) / 4 for end in ends[1:]]
        assert ends[0][side] == pytest.approx((placed[0] + 2 * placed[1] + placed[2]) / 4)
    passing = {"a": ends[1][0] - 0.02, "b": 5.0}
    tables = tuple(
        table.model_copy(update={"min_rate": passing.get(table.name)}) for table in project.config.criteria
    )
    gate = project.config.gate.model_copy(update={"min_rate": ends[0][0] - 0.01})
    project.config = project.config.model_copy(update={"criteria": tables, "gate": gate})
    verdict, _ = project.gate()
    checks = {check.name: check.status for check in verdict.checks if "rating" in check.name}
    assert checks == {
        "mean rating, meta.criterion = 'a'": "pass",
        "mean rating, meta.criterion = 'b'": "fail",
    }
    assert [check.status for check in verdict.checks if check.name == "weighted total"] == ["pass"]


def test_the_gate_compares_one_criterion_with_a_baseline(tmp_path: Path) -> None:
    project, baseline, _ = judged(tmp_path, alone, {"a": 1.0, "b": 1.0})
    asyncio.run(project.run())
    verdict, _ = project.gate()
    assert verdict.checks[0].observed.startswith("the judges only: [gate] and [[criteria]] have no min_rate")
    first, other = project.config.criteria
    tables = (first.model_copy(update={"max_drop": 4.0}), other)
    project.config = project.config.model_copy(update={"criteria": tables})
    alone_named = project.config.gate.model_copy(update={"baseline": baseline.header.id})
    assert project.gate()[0].checks[0].observed == "the product and the judges"
    assert drops(project.gate()[0]) == {"mean rating, drop, meta.criterion = 'a'": "undecided"}
    assert drops(project.gate(baseline=baseline.header.id)[0]) == {
        "mean rating, drop, meta.criterion = 'a'": "pass"
    }
    project.config = project.config.model_copy(update={"gate": alone_named})
    assert set(drops(project.gate()[0]).values()) == {"pass"}


def drops(verdict: Verdict) -> dict[str, str]:
    """The checks of drops, and how each ended."""
    return {check.name: check.status for check in verdict.checks if "drop" in check.name}
