"""What verdicts say of labels, for every kind of task: ratings, ties, several annotators, a batch."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trustescalate.calibration.run_errors import run_errors
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Limits, Run
from trustescalate.records.jsonl import Row, read_rows, write_rows
from trustescalate.stats.batch import errors_allowed

pytestmark = pytest.mark.slow
LABELLED, REST = 300, 200
GRADES = ("1", "2", "3", "4", "5")


def certified(
    folder: Path, task: Mapping[str, Any], labels: tuple[str, ...], **more: Any
) -> tuple[Project, list[str]]:
    """A project whose judge is right on 95 of a hundred, and the true labels; the first have human labels."""
    people, labelled = more.pop("people", 1), more.pop("labelled", LABELLED)
    rng = np.random.default_rng(3)
    truth = [labels[k] for k in rng.integers(len(labels), size=LABELLED + REST)]
    items, notes, votes = [], [], {}
    for k, label in enumerate(truth):
        texts = (f"a {k}", f"b {k}") if task["kind"] == "pairwise" else (f"a {k}",)
        items.append(Item(f"i{k}", f"Question {k}?", texts))
        verdict = label if rng.random() < 0.95 else labels[rng.integers(len(labels))]
        votes[f"i{k}"] = {each: 0.9 if each == verdict else 0.1 / (len(labels) - 1) for each in labels}
        for person in range(people if k < labelled else 0):
            other = label if rng.random() < 0.97 or people == 1 else labels[rng.integers(len(labels))]
            notes.append(Annotation(f"i{k}", f"person {person}", other))
    config = {
        "task": {"question": "Which?", **task},
        "ensemble": {"annotators": 1, "shots": 0, **({"swap": False} if task["kind"] == "pairwise" else {})},
        "guarantee": {"pilot": 0, **more},
    }
    project = Project.from_records(
        items, notes, config, judges=[ReplayJudge.from_labels(votes, name="judge")], folder=folder
    )
    assert asyncio.run(project.calibrate()).status == "certified"
    return project, truth


def judged(
    folder: Path, task: Mapping[str, Any], labels: tuple[str, ...], **more: Any
) -> tuple[Run, list[str]]:
    """A run over the 200 items without human labels, and their true ones."""
    project, truth = certified(folder, task, labels, **more)
    return asyncio.run(project.run()), truth[LABELLED:]


def first(run: Run) -> Limits:
    assert run.product is not None
    return run.product.means[0].first


def test_a_rating_that_is_right_may_be_off_by_the_tolerance(tmp_path: Path) -> None:
    run, truth = judged(tmp_path, {"kind": "rating", "tolerance": 1}, GRADES)
    limit = run_errors(run, 0.05).limit
    verdicts = np.array([float(row.label or 0) for row in run.decisions])
    assert (verdicts > 0).all()
    low, high = np.maximum(1, verdicts - 1), np.minimum(5, verdicts + 1)
    falls, rises = np.sort(low - 1)[::-1], np.sort(5 - high)[::-1]
    assert first(run).low == pytest.approx((low.sum() - falls[:limit].sum()) / REST)
    assert first(run).high == pytest.approx((high.sum() + rises[:limit].sum()) / REST)
    assert first(run).low <= np.mean([float(label) for label in truth]) <= first(run).high


def test_the_mean_of_several_ratings_is_not_the_grade_of_the_majority(tmp_path: Path) -> None:
    run, _ = judged(tmp_path / "majority", {"kind": "rating"}, GRADES, people=3)
    assert (first(run).basis, first(run).low, first(run).high) == ("none", 1, 5)
    assert "rate some items differently" in first(run).reason
    run, truth = judged(tmp_path / "anybody", {"kind": "rating"}, GRADES, people=3, reference="annotator")
    assert first(run).basis == "verdicts"
    assert first(run).low <= np.mean([float(label) for label in truth]) <= first(run).high


def test_a_loss_of_one_moves_a_tie_that_counts_one_half_twice(tmp_path: Path) -> None:
    run, truth = judged(tmp_path, {"kind": "pairwise", "ties": "half"}, ("A", "B", "tie"))
    limit = run_errors(run, 0.05).limit
    worth = {"A": 1.0, "B": 0.0, "tie": 0.5}
    mean = np.mean([worth[row.label or ""] for row in run.decisions])
    assert first(run).low == pytest.approx(mean - limit / REST)
    assert first(run).high == pytest.approx(mean + limit / REST)
    assert first(run).low <= np.mean([worth[label] for label in truth]) <= first(run).high


def test_labels_without_an_order_have_no_mean(tmp_path: Path) -> None:
    run, _ = judged(tmp_path, {"kind": "choice", "labels": ("x", "y", "z")}, ("x", "y", "z"))
    assert (first(run).basis, first(run).estimate) == ("none", None)
    assert run.product is not None
    assert run.product.reason == "labels without an order have no mean"


@pytest.mark.parametrize("human", [False, True])
def test_the_rows_of_a_batch_are_a_draw_of_its_items(tmp_path: Path, human: bool) -> None:
    """The judges' verdicts on drawn rows count among the errors unless people's labels replace them."""
    project, truth = certified(
        tmp_path,
        {"kind": "binary"},
        ("pass", "fail"),
        labelled=LABELLED + REST,
        claim="batch",
        label_budget=100,
        release_human_labels=human,
    )
    certificate = project.certificate()
    assert certificate.chosen is not None
    kept = set(certificate.roles["certify"])
    rows: list[Row[Annotation]] = read_rows(tmp_path / "annotations.jsonl", Annotation)[0]
    write_rows(tmp_path / "annotations.jsonl", [row.record for row in rows if row.record.item_id in kept])
    result = asyncio.run(project.run())
    assert result.product is not None
    mean, size = result.product.means[0], len(result.items)
    assert mean.second is not None
    assert (mean.first.labels, mean.second.labels) == (100, 100)
    assert (mean.first.confidence, mean.second.confidence) == (0.95, 0.9)
    true = truth.count("pass") / size
    assert mean.first.low <= true <= mean.first.high
    assert mean.second.low <= true <= mean.second.high
    # All abstained items without a label, and the errors that the certificate allows beyond those known.
    unknown = sum(row.label is None and row.item_id not in kept for row in result.decisions)
    test = certificate.tests[certificate.chosen]
    allowed = int(errors_allowed(test.accepted, certificate.alpha)) - (0 if human else test.errors)
    assert (mean.second.high - mean.second.low) * size == pytest.approx(unknown + 2 * allowed)
