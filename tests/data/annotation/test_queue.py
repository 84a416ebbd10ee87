"""What is queued, why, and what a queue does not tell."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.analysis.queues import queue_abstained, queue_calibration
from trustescalate.calibration.prepare import draw_batch
from trustescalate.config import load_config
from trustescalate.data.annotation import queue
from trustescalate.data.annotation.queue import FIRST, SECOND, open_queue, read_queue, swapped
from trustescalate.data.dataset import Dataset, load_dataset
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.judges.simulated import generate
from trustescalate.project import Project
from trustescalate.records import SKIP, TIE, Annotation, Item
from trustescalate.records.jsonl import encode, write_rows
from trustescalate.records.progress import Hooks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run that abstained on some items."""
    config = write_project(tmp_path_factory.mktemp("done"), change=secrets)
    calibrate(config)
    run(config)
    return config


def secrets(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    for item in items:
        item["meta"] = {"model_a": "gpt-secret", "model_b": "llama-secret"}


def abstained(config: Path) -> list[str]:
    return [row.item_id for row in Project.open(config).load_run().decisions if row.label is None]


def sample_order(data: Dataset, seed: int) -> list[Item]:
    return [rows[0] for rows in queue.sample_order(data, seed)]


def labelled(data: Dataset, ids: list[str], purpose: Any) -> Dataset:
    notes = tuple(Annotation(item_id, "ann", "A", purpose=purpose) for item_id in ids)
    return Dataset(data.items, (*data.annotations, *notes))


# ── abstentions ──────────────────────────────────────────────────────────────────────────────────


def test_a_queue_holds_all_abstentions_and_nothing_about_judges(done: Path) -> None:
    project = Project.open(done)
    found = queue_abstained(project.config, project.hooks)
    ids = abstained(done)
    assert (found.rows, found.purpose, found.known, found.labelled) == (len(ids), "abstained", 0, 0)
    assert ids
    assert "never certify" in found.why
    made = open_queue(project.config)
    assert sorted(row.item_id for row in made.rows) == sorted(ids)
    assert [row.item_id for row in made.rows] != ids, "the order of the run shows through"
    text = (made.folder / "queue.jsonl").read_text()
    shown = [json.loads(line) for line in text.splitlines()[1:]]
    assert all(row.keys() <= {"item_id", "content", "prompt", "responses", "reference"} for row in shown)
    for hidden in ("secret", "small", "large", "judge", "group", "score", "certif"):
        assert hidden not in text


def test_sides_are_a_fair_coin_and_are_undone(done: Path) -> None:
    project = Project.open(done)
    queue_abstained(project.config, project.hooks)
    made = open_queue(project.config)
    by_id = {item.id: item for item in load_dataset(project.config).items}
    assert made.rows
    for row in made.rows:
        item = by_id[row.item_id]
        best = item.responses.index(row.responses[0])
        assert made.label(row.item_id, FIRST) == "AB"[best]
        assert made.label(row.item_id, SECOND) == "BA"[best]
        assert made.label(row.item_id, TIE) == TIE
        assert made.label(row.item_id, SKIP) == SKIP
    for seed in range(3):  # 4,000 coins: 2,000 ± 6 sd
        assert abs(sum(swapped(seed, f"item {n}") for n in range(4000)) - 2000) < 6 * 4000**0.5 / 2


def test_named_items_are_queued_whatever_became_of_them(done: Path) -> None:
    project = Project.open(done)
    decisions = project.load_run().decisions
    released = next(row.item_id for row in decisions if row.label is not None)
    left_open = next(row.item_id for row in decisions if row.label is None)
    for ids, purpose in (([released, left_open, released], "other"), ([left_open], "abstained")):
        found = queue_abstained(project.config, project.hooks, None, ids)
        made = read_queue(Path(found.folder))
        assert [row.item_id for row in made.rows] == list(dict.fromkeys(ids))
        assert (made.header.purpose, found.rows, found.labelled) == (purpose, len(set(ids)), 0)
        assert "never certify" in found.why
    with pytest.raises(UsageError, match="has no item 'nowhere'"):
        queue_abstained(project.config, project.hooks, None, ["nowhere"])


def test_what_people_labelled_is_not_queued_again(done: Path, tmp_path: Path) -> None:
    project = Project.open(done)
    notes = done.parent / "annotations.jsonl"
    before = notes.read_bytes()
    one, *rest = abstained(done)
    try:
        notes.write_bytes(before + encode(Annotation(one, "ann", "A", purpose="abstained")) + b"\n")
        found = queue_abstained(project.config, project.hooks)
        assert (found.rows, found.labelled) == (len(rest), 1)
        rows = [Annotation(item_id, "ann", "A", purpose="abstained") for item_id in (one, *rest)]
        notes.write_bytes(before + b"".join(encode(row) + b"\n" for row in rows))
        assert (
            queue_abstained(project.config, project.hooks).rows,
            queue_abstained(project.config, project.hooks).folder,
        ) == (0, "")
    finally:
        notes.write_bytes(before)


def test_items_of_another_file_are_refused_before_anybody_labels_them(done: Path, tmp_path: Path) -> None:
    config = write_project(tmp_path / "other")
    calibrate(config)
    fresh = [replace(item, id=f"fresh-{item.id}") for item in generate(9, 30).items]
    write_rows(tmp_path / "fresh.jsonl", fresh)
    result = run(config, items=tmp_path / "fresh.jsonl")
    with pytest.raises(UsageError, match="are not in") as caught:
        queue_abstained(Project.open(config).config, Hooks(), result.header.id)
    assert "fresh-" in caught.value.message
    assert "add them there" in caught.value.hint


# ── rows for the certificate ─────────────────────────────────────────────────────────────────────


def test_every_row_is_drawn_equally_often() -> None:
    """2,000 seeds, 10 of 40 items: each 500 ± 6 sd; what a cascade abstained on no more and no less."""
    items = tuple(replace(item, prompt=item.id, group=None) for item in generate(0, 40).items)
    data = labelled(Dataset(items, ()), ["sim-0003", "sim-0007"], "abstained")
    assert len(sample_order(data, 0)) == 40, "the world of this test has groups of one"
    counts = Counter(item.id for seed in range(2000) for item in sample_order(data, seed)[:10])
    assert len(counts) == 40
    assert all(abs(count - 500) < 6 * (2000 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_the_draw_goes_on_where_it_was_left_and_looks_at_no_picked_label() -> None:
    data = Dataset(generate(1, 60).items, ())
    order = sample_order(data, 5)
    picked = labelled(data, [item.id for item in order[3:40:2]], "abstained")
    assert sample_order(picked, 5) == order
    started = labelled(picked, [item.id for item in order[:10]], "sample")
    assert sample_order(started, 5) == order[10:]


def test_one_row_of_a_group_is_drawn_and_none_of_a_group_in_the_sample() -> None:
    items = tuple(replace(item, group=f"g{n // 3}") for n, item in enumerate(generate(2, 30).items))
    data = Dataset(items, ())
    groups = [item.group for item in sample_order(data, 0)]
    assert sorted(groups) == sorted({f"g{n}" for n in range(10)})
    rest = sample_order(labelled(data, [items[0].id, items[4].id], "sample"), 0)
    assert {item.group for item in rest} == set(groups) - {"g0", "g1"}


def test_whole_groups_are_drawn_where_whole_groups_are_tested(tmp_path: Path) -> None:
    def grouped(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for n, item in enumerate(items):
            item["group"] = f"g{n // 4}"

    more = 'path = "common"\ncluster_test = "betting"\nlargest_cluster = 4'
    config = write_project(tmp_path, labelled=20, unlabelled=40, guarantee=more, change=grouped)
    found = queue_calibration(Project.open(config).config, Hooks(), 10)
    made = read_queue(Path(found.folder))
    group = {item.id: item.group for item in load_dataset(Project.open(config).config).items}
    counts = Counter(group[row.item_id] for row in made.rows)
    assert sorted(counts.values()) == [4, 4, 4]
    assert "whole groups" in found.why


def test_weighted_rows_come_from_elsewhere(tmp_path: Path) -> None:
    more = 'path = "common"\nweight = "meta.w"\nweight_bound = 2.0\nweight_source = "known"'

    def weighted(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for item in items:
            item["meta"] = {"w": 1.0}

    with pytest.raises(UsageError, match="rows from elsewhere"):
        queue_calibration(
            Project.open(write_project(tmp_path, guarantee=more, change=weighted)).config, Hooks(), 5
        )


def test_a_queue_for_calibration_without_one_label(tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=0)
    project = Project.open(config)
    found = queue_calibration(project.config, project.hooks, 10)
    assert (found.rows, found.purpose) == (10, "sample")
    assert "uniformly at random" in found.why
    (tmp_path / "annotations.jsonl").unlink()
    assert queue_calibration(project.config, project.hooks, 10).rows == 10
    drawn = [row.item_id for row in open_queue(project.config).rows]
    everything = sample_order(Dataset(load_config_items(config), ()), 0)
    assert drawn == [item.id for item in everything[:10]]
    assert queue_calibration(project.config, project.hooks, 10_000).rows == len(everything)


def load_config_items(config: Path) -> Any:
    from trustescalate.data.dataset import load_items

    loaded = load_config(config)
    return load_items(loaded.path(loaded.data.items), loaded)


def test_drawn_rows_that_have_labels_are_known_and_not_asked(done: Path) -> None:
    project = Project.open(done)
    notes = done.parent / "annotations.jsonl"
    before = notes.read_bytes()
    order = sample_order(load_dataset(project.config), 0)
    try:
        notes.write_bytes(before + encode(Annotation(order[2].id, "ann", "A", purpose="abstained")) + b"\n")
        found = queue_calibration(project.config, project.hooks, 5)
        assert (found.rows, found.known) == (4, 1)
        made = read_queue(Path(found.folder))
        assert [row.item_id for row in made.rows] == [item.id for item in order[:5]]
        assert order[2].id not in {row.item_id for row in made.asked}
    finally:
        notes.write_bytes(before)


def test_a_batch_has_its_own_draw(tmp_path: Path) -> None:
    claim = 'path = "common"\nclaim = "batch"\nlabel_budget = 30'
    config = write_project(tmp_path, labelled=20, unlabelled=80, guarantee=claim)
    project = Project.open(config)
    data = load_dataset(project.config)
    drawn = draw_batch(project.config, data)
    assert drawn is not None
    found = queue_calibration(project.config, project.hooks)
    made = read_queue(Path(found.folder))
    assert {row.item_id for row in made.rows} == drawn.drawn - data.annotated
    assert (found.rows, found.labelled) == (len(made.rows), len(drawn.drawn & data.annotated))
    with pytest.raises(UsageError, match="label_budget says how many"):
        queue_calibration(project.config, project.hooks, 5)


def test_what_cannot_be_queued(done: Path, tmp_path: Path) -> None:
    project = Project.open(done)
    with pytest.raises(UsageError, match="how many rows"):
        queue_calibration(project.config, project.hooks)
    full = write_project(tmp_path / "full", unlabelled=0)
    with pytest.raises(NotMeasurable, match="in the sample already"):
        queue_calibration(Project.open(full).config, Hooks(), 5)
    with pytest.raises(UsageError, match="nothing is queued"):
        open_queue(Project.open(full).config)
    queue_abstained(project.config, project.hooks)
    with pytest.raises(UsageError, match="there is no queue"):
        open_queue(project.config, "../elsewhere")


def test_a_queue_that_was_edited_or_is_of_another_schema_is_refused(done: Path) -> None:
    folder = Path(queue_abstained(Project.open(done).config, Hooks()).folder)
    edit(folder / "queue.jsonl", '"schema":1', '"schema":2')
    with pytest.raises(UsageError, match="schema 2"):
        read_queue(folder)
    (folder / "queue.jsonl").write_text("nothing\n")
    with pytest.raises(DataError, match="not valid JSON"):
        read_queue(folder)
    (folder / "queue.jsonl").unlink()
    with pytest.raises(UsageError, match="no queue here"):
        read_queue(folder)
