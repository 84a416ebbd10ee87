"""Labels count for the texts that people saw, and a skipped label may be any."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trustescalate.data.clusters import content_of
from trustescalate.data.dataset import CONTENT
from trustescalate.errors import DataError
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Product
from trustescalate.records.jsonl import write_rows

N = 80
ITEMS = [Item(f"q{k}", f"Question {k}?", (f"answer {k}",), f"reference {k}") for k in range(N)]


def project_of(folder: Path, notes: list[Annotation], passed: int = N, **task: Any) -> Project:
    """A project whose judge says "pass" of the first items, with [gate] min_rate."""
    config: Mapping[str, Any] = {
        "task": {"kind": "binary", "question": "Is it right?", **task},
        "ensemble": {"annotators": 1, "shots": 0},
        "gate": {"min_rate": 0.9},
    }
    folder.mkdir(exist_ok=True)
    judge = ReplayJudge.from_labels(
        {item.id: "pass" if k < passed else "fail" for k, item in enumerate(ITEMS)}, name="judge"
    )
    return Project.from_records(ITEMS, notes, config, judges=[judge], folder=folder)


def noted(labels: list[str]) -> list[Annotation]:
    return [Annotation(f"q{k}", "ann", label) for k, label in enumerate(labels)]


def with_content(notes: list[Annotation], items: list[Item]) -> list[Annotation]:
    """The labels with digests of the texts that people saw."""
    digests = {item.id: content_of(item)[:CONTENT] for item in items}
    return [replace(note, content=digests[note.item_id]) for note in notes]


def product_of(project: Project, items: list[Item] = ITEMS) -> Product:
    """The product of an uncertified run over a file of items."""
    write_rows(project.config.folder / "new.jsonl", items)
    run = asyncio.run(project.run(items=project.config.folder / "new.jsonl", uncertified=True))
    assert run.product is not None
    return run.product


# ── other texts ──────────────────────────────────────────────────────────────────────────────────


def test_labels_of_replaced_responses_are_refused_after_a_test(tmp_path: Path) -> None:
    project = project_of(tmp_path, noted(["pass"] * 60))
    asyncio.run(project.calibrate())
    before = asyncio.run(project.run(uncertified=True))
    assert before.product is not None
    assert before.product.means[0].first.low > 0.8
    changed = [replace(item, responses=(f"new {item.id}",)) for item in ITEMS]
    write_rows(tmp_path / "items.jsonl", changed)
    for asked in (
        lambda: asyncio.run(project.run(uncertified=True)),
        lambda: asyncio.run(project.run()),
        lambda: asyncio.run(project.calibrate()),
        lambda: project.gate(before.header.id),
    ):
        with pytest.raises(DataError, match=r"60 items \('q0' first\) have labels .* other texts"):
            asked()
    # A label that says which texts were shown is of those.
    shown = [
        replace(note, content=content_of(changed[k])[:CONTENT]) for k, note in enumerate(noted(["fail"] * 60))
    ]
    write_rows(tmp_path / "annotations.jsonl", shown)
    after = asyncio.run(project.run(uncertified=True))
    assert after.product is not None
    assert after.product.means[0].first.high < 0.4


def test_a_label_of_other_texts_than_were_shown_is_refused(tmp_path: Path) -> None:
    notes = [
        replace(note, content=content_of(ITEMS[k])[:CONTENT]) for k, note in enumerate(noted(["pass"] * 60))
    ]
    project = project_of(tmp_path, notes)
    assert product_of(project).means[0].first.estimate == pytest.approx(1.0)
    for changed in (replace(ITEMS[3], responses=("new",)), replace(ITEMS[3], reference="new")):
        write_rows(tmp_path / "items.jsonl", [*ITEMS[:3], changed, *ITEMS[4:]])
        with pytest.raises(DataError, match="'q3' was labelled with other texts than those of now"):
            product_of(project)


def test_labels_count_for_the_reference_that_they_were_given_with(tmp_path: Path) -> None:
    project = project_of(tmp_path, noted(["pass"] * 60))
    assert product_of(project).means[0].first.estimate == pytest.approx(1.0)
    other = product_of(project, [replace(item, reference="another") for item in ITEMS])
    assert other.means[0].first.basis == "none"


def test_labels_of_the_unchanged_are_no_draw_of_the_changed(tmp_path: Path) -> None:
    """Half of the responses are new, and all labels of the others are good."""
    project = project_of(tmp_path, noted(["pass"] * 60))
    half = [replace(item, responses=("new",)) if k % 2 else item for k, item in enumerate(ITEMS)]
    assert product_of(project, half).means[0].first.basis == "none"


# ── skipped ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("labelled", [60, N])
def test_a_skipped_label_may_be_any(tmp_path: Path, labelled: int) -> None:
    """A fifth of the drawn items is skipped: the limits hold if all of these are bad, and if all are good."""
    skips = labelled // 5
    labels = ["skip" if k % 5 == 4 else "pass" if k % 5 else "fail" for k in range(labelled)]
    limits = product_of(project_of(tmp_path / "a", noted(labels))).means[0].first
    for k, other in enumerate(("fail", "pass")):
        filled = [other if label == "skip" else label for label in labels]
        whole = product_of(project_of(tmp_path / other, noted(filled))).means[0].first
        assert (limits.low, limits.high)[k] == pytest.approx((whole.low, whole.high)[k])
    assert limits.labels == labelled - skips
    assert f"{skips} of these items were skipped by every annotator" in limits.reason


def test_no_mean_where_skips_lie_outside_the_claim(tmp_path: Path) -> None:
    product = product_of(project_of(tmp_path, noted(["pass"] * 59 + ["skip"]), skips="outside"))
    assert product.means[0].first.basis == "none"
    assert "annotators skip some items" in product.means[0].first.reason


def test_no_number_of_labels_decides_where_they_are_picked(tmp_path: Path) -> None:
    product = product_of(project_of(tmp_path, noted(["pass"] * 40), passed=40))
    assert "selected" in product.means[0].first.reason
    assert product.requirements[0].needed is None
