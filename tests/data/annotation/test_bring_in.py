"""Answers on their way back: whose, of what, why; and that abstentions never certify."""

import asyncio
import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, run, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.export_run import export_run
from trustescalate.analysis.queues import queue_abstained, queue_calibration
from trustescalate.calibration.prepare import select_rows
from trustescalate.data.annotation.answers import Answer, AnswerFile, read_answers, standing
from trustescalate.data.annotation.collect import CollectedAnswers, collect_answers
from trustescalate.data.annotation.queue import Queue, open_queue, sample_order
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import DataError, UsageError
from trustescalate.project import Project
from trustescalate.records import Annotation, Item
from trustescalate.records.jsonl import encode, read_rows
from trustescalate.report.document import build
from trustescalate.report.markdown import render_markdown

pytestmark = pytest.mark.slow


def answer(queue: Queue, said: Sequence[tuple[str, str, str | None]]) -> Path:
    """Answers as the page keeps them: (item, annotator, answer)."""
    with AnswerFile(queue.folder) as file:
        for item_id, who, what in said:
            file.add(Answer(queue.header.id, item_id, who, what, 1.5, "2026-01-01T00:00:00Z"))
    return queue.folder / "answers.jsonl"


def notes_of(config: Path) -> dict[tuple[str, str], Annotation]:
    rows, problems = read_rows(config.parent / "annotations.jsonl", Annotation)
    assert not problems
    return {(row.item_id, row.annotator): row for _, row in rows}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Some labels, some items without, and a queue of 8 drawn rows."""
    opened = Project.open(write_project(tmp_path))
    queue_calibration(opened.config, opened.hooks, 8)
    return opened


def config_of(project: Project) -> Path:
    return project.config.folder / "trustescalate.toml"


# ── several people, skips, ties, twice the same ──────────────────────────────────────────────────


def test_answers_of_several_people_come_back_in_the_items_frame(project: Project) -> None:
    queue = open_queue(project.config)
    first, second, third = (row.item_id for row in queue.rows[:3])
    answer(
        queue,
        [
            *((first, who, "first") for who in ("ann", "bob")),
            *((second, who, what) for who, what in (("ann", "second"), ("bob", "tie"))),
            (third, "ann", "skip"),
        ],
    )
    before = notes_of(config_of(project))
    found = collect_answers(project.config)
    assert (found.added, found.merged, found.skips, found.ties, found.annotators) == (5, 0, 1, 1, 2)
    assert (found.unanswered, found.purposes) == (5, {"sample": 5})
    after = notes_of(config_of(project))
    assert {key: note for key, note in after.items() if key in before} == before
    items = {item.id: item for item in load_dataset(project.config).items}
    best = items[first].responses.index(queue.rows[0].responses[0])
    assert after[first, "ann"].label == after[first, "bob"].label == "AB"[best]
    worse = items[second].responses.index(queue.rows[1].responses[1])
    assert (after[second, "ann"].label, after[second, "bob"].label) == ("AB"[worse], "tie")
    skipped = after[third, "ann"]
    assert skipped.content is not None
    assert skipped == Annotation(third, "ann", "skip", 1.5, content=skipped.content)


def test_what_comes_twice_is_merged_and_nothing_is_written_anew(project: Project) -> None:
    queue = open_queue(project.config)
    path = answer(queue, [(row.item_id, "ann", "first") for row in queue.rows])
    copy = project.config.folder / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    found = collect_answers(project.config, [path, copy])
    assert (found.added, found.merged, found.unanswered) == (8, 8, 0)
    written = (project.config.folder / "annotations.jsonl").read_bytes()
    again = collect_answers(project.config)
    assert (again.added, again.merged) == (0, 8)
    assert (project.config.folder / "annotations.jsonl").read_bytes() == written


def test_a_person_who_changed_their_mind_says_the_last_thing(project: Project) -> None:
    queue = open_queue(project.config)
    one, two = (row.item_id for row in queue.rows[:2])
    answer(queue, [(one, "ann", "first"), (two, "ann", "tie"), (one, "ann", "second"), (two, "ann", None)])
    assert collect_answers(project.config).added == 1
    assert notes_of(config_of(project))[one, "ann"].label == queue.label(one, "second")


def test_a_person_who_says_two_things_is_refused_by_name_and_nothing_is_written(project: Project) -> None:
    queue = open_queue(project.config)
    one, two = (row.item_id for row in queue.rows[:2])
    answer(queue, [(one, "ann", "first"), (two, "ann", "first")])
    collect_answers(project.config)
    written = (project.config.folder / "annotations.jsonl").read_bytes()
    answer(queue, [(one, "ann", "tie"), (two, "bob", "first")])
    with pytest.raises(DataError) as caught:
        collect_answers(project.config)
    (problem,) = caught.value.problems
    assert all(part in problem for part in (repr(one), "'ann'", "'tie'", "answers.jsonl"))
    assert (project.config.folder / "annotations.jsonl").read_bytes() == written


def test_all_that_cannot_be_taken_is_named_at_once(project: Project) -> None:
    queue = open_queue(project.config)
    ids = [row.item_id for row in queue.rows]
    answer(queue, [(ids[0], "ann", "better"), ("nowhere", "ann", "first"), (ids[1], " ", "first")])
    with AnswerFile(queue.folder) as file:
        file.add(Answer("another", ids[2], "ann", "first"))
    items = project.config.folder / "items.jsonl"
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    for row in rows:
        if row["id"] == ids[3]:
            row["responses"][0] += " changed"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer(queue, [(ids[3], "ann", "first")])
    with pytest.raises(DataError) as caught:
        collect_answers(project.config)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    for part in ("'better' is not one of", "'nowhere' is not in queue", "name the annotator", "'another'"):
        assert part in text
    assert "texts were changed since it was shown" in text


def test_no_answers_and_damaged_answers(project: Project) -> None:
    with pytest.raises(UsageError, match="no answers yet"):
        collect_answers(project.config)
    queue = open_queue(project.config)
    path = answer(queue, [(queue.rows[0].item_id, "ann", "first")])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"queue":"torn')
    assert collect_answers(project.config).added == 1
    path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(DataError, match=r"answers\.jsonl:1: not valid JSON"):
        collect_answers(project.config)
    with pytest.raises(DataError, match="cannot be read"):
        collect_answers(project.config, [project.config.folder / "missing.jsonl"])


def test_annotations_that_are_packed_stay_packed(tmp_path: Path) -> None:
    config = write_project(tmp_path, more='[data]\nannotations = "notes.jsonl.gz"\n')
    (tmp_path / "notes.jsonl.gz").write_bytes(gzip.compress((tmp_path / "annotations.jsonl").read_bytes()))
    project = Project.open(config)
    queue_calibration(project.config, project.hooks, 3)
    queue = open_queue(project.config)
    answer(queue, [(queue.rows[0].item_id, "ann", "tie")])
    before = len(load_dataset(project.config).annotations)
    collect_answers(project.config)
    assert len(load_dataset(project.config).annotations) == before + 1


# ── tables and other tools ───────────────────────────────────────────────────────────────────────


def table(path: Path, names: Sequence[str], *rows: Sequence[str]) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def test_a_table_of_answers_as_shown_or_of_labels(project: Project, tmp_path: Path) -> None:
    queue = open_queue(project.config)
    one, two, three = (row.item_id for row in queue.rows[:3])
    shown = table(
        tmp_path / "shown.csv",
        ("item_id", "annotator", "answer"),
        (one, "ann", "1"),
        (two, "ann", "SECOND"),
        (three, "ann", ""),
    )
    own = table(tmp_path / "own.csv", ("item_id", "label", "annotator"), (one, "B", "cy"))
    found = collect_answers(project.config, [shown, own])
    assert found.added == 3
    after = notes_of(config_of(project))
    assert after[one, "ann"].label == queue.label(one, "first")
    assert after[two, "ann"].label == queue.label(two, "second")
    assert after[one, "cy"] == Annotation(one, "cy", "B")
    bad = table(tmp_path / "bad.csv", ("item_id", "annotator", "answer"), ("x", "ann", "1"))
    with pytest.raises(DataError, match="in no queue"):
        collect_answers(project.config, [bad])
    (tmp_path / "latin.csv").write_bytes("item_id,annotator,label\nx,Zoë,A\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        collect_answers(project.config, [tmp_path / "latin.csv"])


def test_a_blind_export_that_was_filled_in_comes_back(judged: Project, tmp_path: Path) -> None:
    """`export --as csv --blind --only abstained`, two empty columns filled in by hand."""
    queue_abstained(judged.config, judged.hooks)
    queue = open_queue(judged.config)
    export_run(judged.config, None, "csv", tmp_path / "out.csv", only="abstained", blind=True)
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[1:]:
        row.update(label="B", annotator="ann")
    table(tmp_path / "filled.csv", list(rows[0]), *(list(row.values()) for row in rows))
    found = collect_answers(judged.config, [tmp_path / "filled.csv"])
    assert (found.added, found.purposes) == (len(queue.rows) - 1, {"abstained": len(queue.rows) - 1})
    assert {note.label for note in notes_of(config_of(judged)).values() if note.annotator == "ann"} == {"B"}


def rows_of(items: Sequence[Item], label: str) -> list[dict[str, Any]]:
    """As another tool has them: responses the other way round."""
    return [
        {
            "id": item.id,
            "prompt": item.prompt,
            "response_a": item.responses[1],
            "response_b": item.responses[0],
            "label": label,
            "annotator": "ann",
        }
        for item in items
    ]


def test_other_tools_answers_are_turned_back_by_their_texts(project: Project, tmp_path: Path) -> None:
    """And what no queue asked for is of no known purpose: it does not certify."""
    data = load_dataset(project.config)
    queued = {row.item_id for row in open_queue(project.config).rows}
    asked = [item for item in data.items if item.id in queued][:2]
    other = [item for item in data.unlabelled if item.id not in queued][:2]
    path = tmp_path / "tool.json"
    path.write_text(json.dumps(rows_of([*asked, *other], "A")))
    found = collect_answers(project.config, [path])
    assert (found.added, found.purposes) == (4, {"other": 2, "sample": 2})
    after = notes_of(config_of(project))
    assert {after[item.id, "ann"].label for item in (*asked, *other)} == {"B"}
    sampled = {item.id for item in load_dataset(project.config).labelled}
    assert sampled >= {item.id for item in asked}
    assert not sampled & {item.id for item in other}
    strange = [replace(other[0], responses=("other", "texts"))]
    path.write_text(json.dumps(rows_of(strange, "A")))
    with pytest.raises(DataError, match="texts are not those"):
        collect_answers(project.config, [path])


def test_a_tool_shows_an_empty_response_in_words(project: Project, tmp_path: Path) -> None:
    items, _ = read_rows(config_of(project).parent / "items.jsonl", Item)
    queued = {row.item_id for row in open_queue(project.config).rows}
    silent = next(item for _, item in items if item.id not in queued)
    silent = replace(silent, responses=("", silent.responses[1]))
    lines = [encode(silent if item.id == silent.id else item) for _, item in items]
    (config_of(project).parent / "items.jsonl").write_bytes(b"\n".join(lines))
    path = tmp_path / "tool.json"
    path.write_text(
        json.dumps(rows_of([replace(silent, responses=("(empty response)", silent.responses[1]))], "A"))
    )
    collect_answers(project.config, [path])
    assert notes_of(config_of(project))[silent.id, "ann"].label == "B"


# ── what may certify ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def judged(tmp_path: Path) -> Project:
    """A project whose run abstained on some items."""
    config = write_project(tmp_path, labelled=120, unlabelled=80, alpha=0.22)
    calibrate(config)
    run(config)
    return Project.open(config)


def settle(project: Project) -> tuple[CollectedAnswers, set[str]]:
    """One person answers all that the run abstained on."""
    queue_abstained(project.config, project.hooks)
    queue = open_queue(project.config)
    answer(queue, [(row.item_id, "ann", "first") for row in queue.rows])
    return collect_answers(project.config), {row.item_id for row in queue.rows}


def test_labels_of_abstentions_change_no_role_and_no_certificate(judged: Project) -> None:
    roles = select_rows(judged.config, load_dataset(judged.config)).roles
    certificate = judged.certificate()
    found, settled = settle(judged)
    assert found.purposes == {"abstained": len(settled)}
    assert len(settled) > 2
    data = load_dataset(judged.config)
    assert settled <= data.annotated
    assert not settled & {item.id for item in data.labelled}
    assert select_rows(judged.config, data).roles == roles
    renewed = asyncio.run(judged.calibrate())
    assert replace(renewed, created=certificate.created) == certificate
    said = dict(inspect_project(judged.config).facts)["items"]
    assert said.endswith(f"; {len(settled)} more were selected for annotation and certify nothing")


def test_settled_items_stay_in_the_population_that_is_judged_and_drawn(judged: Project) -> None:
    """Without its hardest items the rest would be another population than the one that was certified."""
    data = load_dataset(judged.config)
    order = sample_order(data, 0)
    assert order
    unlabelled = data.unlabelled
    settle(judged)
    data = load_dataset(judged.config)
    assert data.unlabelled == unlabelled
    assert sample_order(data, 0) == order
    assert {item.id for item in run(config_of(judged)).items} == {item.id for item in unlabelled}


def test_agreement_is_not_measured_on_what_was_picked(judged: Project) -> None:
    """Another certificate may release what the last one abstained on: no sample of what is released."""
    _, settled = settle(judged)
    result = judged.load_run()
    assert {note.item_id for note in result.annotations} <= settled
    released = replace(
        result,
        decisions=tuple(
            replace(row, label=row.label or "A", judge=row.judge or "small") for row in result.decisions
        ),
    )
    sampled = replace(
        released, annotations=tuple(replace(note, purpose="sample") for note in released.annotations)
    )
    assert _measured(sampled) is not None
    assert _measured(released) is None
    assert "labelled because a cascade abstained on them; they are not compared" in render_markdown(
        build(released).page()
    )


def _measured(result: Any) -> Any:
    from trustescalate.report.agreement import judged_agreement

    return judged_agreement(result)[0].value


def test_a_settled_item_that_is_drawn_later_joins_the_sample_when_the_draw_reaches_it(
    judged: Project,
) -> None:
    _, settled = settle(judged)
    found = queue_calibration(judged.config, judged.hooks, 80)
    queue = open_queue(judged.config)
    known = [n for n, row in enumerate(queue.rows) if row.known]
    assert found.known == len(known) >= 3
    until = next(n for n in range(known[1] + 1, len(queue.rows)) if n not in known)
    ids = [row.item_id for row in queue.rows[: until + 1] if not row.known]
    answer(queue, [(item_id, "bob", "first") for item_id in ids])
    reached = [n for n in known if n < until]
    result = collect_answers(judged.config)
    assert (result.promoted, result.added) == (len(reached), len(ids))
    sampled = {item.id for item in load_dataset(judged.config).labelled}
    assert sampled & settled == {queue.rows[n].item_id for n in reached}
    answer(queue, [(row.item_id, "bob", "first") for row in queue.asked if row.item_id not in ids])
    assert collect_answers(judged.config).promoted == len(known) - len(reached)
    assert settled & sampled < settled


def test_fresh_rows_renew_the_certificate(judged: Project) -> None:
    before = judged.certificate()
    queue_calibration(judged.config, judged.hooks, 20)
    queue = open_queue(judged.config)
    answer(queue, [(row.item_id, "ann", "tie") for row in queue.rows])
    collect_answers(judged.config)
    renewed = asyncio.run(judged.calibrate())
    assert {row.item_id for row in queue.rows} <= set(renewed.roles["certify"]) | set(
        renewed.roles["exemplars"]
    )
    assert renewed.n > before.n


# ── the file that only grows ─────────────────────────────────────────────────────────────────────


def test_a_line_that_could_not_be_written_whole_leaves_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trustescalate.data.annotation import answers

    queue, whole = open_queue(project.config), answers.append
    rows = [Answer(queue.header.id, row.item_id, "ann", "first") for row in queue.rows]

    def full(file: int, data: bytes) -> None:
        whole(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with AnswerFile(queue.folder) as file:
        file.add(rows[0])
        monkeypatch.setattr(answers, "append", full)
        with pytest.raises(OSError, match="No space"):
            file.add(rows[1])
        monkeypatch.setattr(answers, "append", whole)
        assert list(file.standing) == [("ann", rows[0].item_id)]
        file.add(rows[2])
    assert read_answers(queue.folder / "answers.jsonl") == [rows[0], rows[2]]


def test_one_process_holds_the_answers_and_a_torn_line_is_cut(project: Project) -> None:
    queue = open_queue(project.config)
    path = answer(queue, [(queue.rows[0].item_id, "ann", "first")])
    path.write_bytes(path.read_bytes() + b'{"queue":"x","item')
    with AnswerFile(queue.folder) as file:
        assert list(file.standing) == [("ann", queue.rows[0].item_id)]
        with pytest.raises(UsageError, match="another process"):
            AnswerFile(queue.folder)
        file.add(Answer(queue.header.id, queue.rows[1].item_id, "ann", "tie"))
    assert len(standing(read_answers(path))) == 2
    assert encode(read_answers(path)[0]).startswith(b'{"queue":')
