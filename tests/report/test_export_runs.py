"""Exports for training, batch requests and data frames, and what is refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.exports import exported, relabelled, single
from tests.support.formats import parse
from tests.support.projects import calibrate, run, write_project
from trustescalate.analysis.export_run import Exported, export_run
from trustescalate.cli import app
from trustescalate.errors import NotMeasurable, UsageError
from trustescalate.project import Project
from trustescalate.records import Run, Task, TaskKind
from trustescalate.report.export.frame import to_frame, votes_frame

pytestmark = pytest.mark.slow


def write(project: Project, to: Path, name: str, **more: Any) -> Exported:
    return export_run(project.config, None, name, to, **more)


# ── training, batches, refusals ──────────────────────────────────────────────────────────────────


def test_trl_holds_released_preferences_alone(done: Run, tmp_path: Path) -> None:
    path, export = exported("trl", done, tmp_path)
    rows = {row["item_id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    released = {each.item_id: each for each in done.decisions if each.label in ("A", "B")}
    assert rows.keys() == released.keys()
    assert sum(export.left_out.values()) == len(done.items) - len(rows)
    for item in done.items:
        if item.id in rows:
            row, decision = rows[item.id], released[item.id]
            best = item.responses["AB".index(str(decision.label))]
            assert (row["chosen"], row["confidence"], row["judge"]) == (best, decision.score, decision.judge)
            assert {row["chosen"], row["rejected"]} == set(item.responses)
            assert len(row["certificate"]) == 16


def test_pass_and_fail_become_unpaired_rows(done: Run, tmp_path: Path) -> None:
    binary = single(done, TaskKind.BINARY, ("pass", "fail"))
    path, _ = exported("trl", binary, tmp_path)
    rows = {row["item_id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    for item, decision in zip(binary.items, binary.decisions, strict=True):
        if decision.label is not None:
            assert rows[item.id]["completion"] == item.responses[0]
            assert rows[item.id]["label"] is (decision.label == "pass")
    assert len(rows) == sum(each.label is not None for each in binary.decisions)


@pytest.mark.parametrize("target", ["label_studio", "csv", "jsonl", "parquet"])
def test_single_answers_can_be_labelled_and_tabled(target: str, done: Run, tmp_path: Path) -> None:
    rating = single(done, TaskKind.RATING, ("1", "2", "3"))
    path, _ = exported(target, rating, tmp_path)
    if target == "label_studio":
        assert [task["data"]["response"] for task in json.loads(path.read_bytes())] == [
            item.responses[0] for item in rating.items
        ]
        return
    parsed = parse(tmp_path / "set", path, columns=path.with_name(path.name + ".columns.toml"))
    assert [item.responses for item in parsed.items.values()] == [item.responses for item in rating.items]


def test_what_has_no_meaning_is_refused_by_name(project: Project, done: Run, tmp_path: Path) -> None:
    from trustescalate.report.export.registry import target

    rating = Task(TaskKind.RATING, "How good?", ("1", "2", "3"))
    for name in ("trl", "argilla", "mt_bench", "alpaca_eval"):
        with pytest.raises(UsageError, match=f"a rating task cannot be written as {name}"):
            target(name, rating, blind=False)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"format_name": "xls"}, "unknown format 'xls'"),
        ({"format_name": "trl", "blind": True}, "consists of verdicts of judges"),
        ({"format_name": "openai_batch"}, "has no OpenAI-compatible endpoint"),
        ({"format_name": "openai_batch", "judge": "nobody"}, "no judge 'nobody'"),
        ({"format_name": "openai_batch", "blind": True}, "writes requests to a judge"),
        ({"format_name": "csv", "judge": "small"}, "has no judge"),
    ]
    for options, message in cases:
        with pytest.raises(UsageError, match=message):
            export_run(project.config, None, to=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []
    write(project, tmp_path / "out.csv", "csv")
    with pytest.raises(UsageError, match="exists already"):
        write(project, tmp_path / "out.csv", "csv")


def test_only_what_was_asked_for_goes_out(project: Project, done: Run, tmp_path: Path) -> None:
    counts = {
        only: write(project, tmp_path / f"{only}.csv", "csv", only=only).rows
        for only in ("all", "abstained", "released")
    }
    assert counts["all"] == len(done.items)
    assert counts["abstained"] == sum(each.label is None for each in done.decisions) > 0
    assert counts["released"] == counts["all"] - counts["abstained"]


def test_an_incomplete_run_is_exported_with_a_notice(
    done: Run, tmp_path: Path, tmp_path_factory: Any
) -> None:
    config = write_project(tmp_path / "p")
    calibrate(config)
    finished = run(config)
    folder = Project.open(config).run_path(finished.header.id)
    kept = (folder / "decisions.jsonl").read_bytes().splitlines(keepends=True)[:7]
    (folder / "decisions.jsonl").write_bytes(b"".join(kept))
    written = write(Project.open(config), tmp_path / "out.jsonl", "jsonl")
    assert any("7 of" in notice and "not complete" in notice for notice in written.notices)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(finished.items)
    assert sum(row["reason"] == "open" for row in rows) == len(rows) - 7
    frame = to_frame(Project.open(config).load_run())
    assert (frame["reason"] == "open").sum() == len(rows) - 7
    (folder / "decisions.jsonl").write_bytes(b"")
    with pytest.raises(NotMeasurable, match="no item of the run is"):
        write(Project.open(config), tmp_path / "none.csv", "csv", only="released")


def test_the_next_judge_is_asked_as_the_run_would_ask_it(done: Run, tmp_path: Path) -> None:
    config = write_project(tmp_path / "p")
    calibrate(config)
    finished = run(config)
    text = config.read_text(encoding="utf-8")
    config.write_text(
        f'{text}\n[[judges]]\nname = "best"\nbackend = "openai"\nmodel = "m-1"\nextra = {{ user = "u" }}\n',
        encoding="utf-8",
    )
    project = Project.open(config)
    written = write(project, tmp_path / "batch.jsonl", "openai_batch", judge="best")
    lines = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text(encoding="utf-8").splitlines()]
    abstained = [each.item_id for each in finished.decisions if each.label is None]
    ensemble = project.config.ensemble
    assert len(lines) == len(abstained) * ensemble.members * 2
    assert len({line["custom_id"] for line in lines}) == len(lines)
    assert {line["custom_id"].split("|")[0] for line in lines} == set(abstained)
    texts = {item.id: item.texts for item in finished.items}
    for line in lines:
        body, item_id = line["body"], line["custom_id"].split("|")[0]
        assert (body["model"], body["user"], line["url"]) == ("m-1", "u", "/v1/chat/completions")
        asked = body["messages"][-1]["content"]
        first, second = texts[item_id] if "|AB|" in line["custom_id"] else texts[item_id][::-1]
        assert asked.index(first) < asked.index(second) or first in second or second in first
    assert written.left_out == {}
    assert f"requests: {len(lines):,}" in written.lines()


# ── frames and the command ───────────────────────────────────────────────────────────────────────


def test_a_frame_has_a_row_an_item_and_adds_up(done: Run) -> None:
    frame = to_frame(relabelled(done))
    assert list(frame["id"]) == [item.id for item in done.items]
    assert frame["cost"].sum() == pytest.approx(sum(each.cost for each in done.judgments))
    assert frame["output_tokens"].sum() == sum(each.usage.output_tokens for each in done.judgments)
    assert frame["small.votes"].sum() + frame["large.votes"].sum() == sum(
        len(each.votes) for each in done.judgments
    )
    assert frame["label"].notna().sum() == sum(each.label is not None for each in done.decisions)
    assert frame["large.score"].notna().sum() == sum(len(each.trail) == 2 for each in done.decisions)
    assert list(frame["people"]) == [2] * len(done.items)
    assert list(frame["human_label"][:3].fillna("")) == ["", "B", ""]
    votes = votes_frame(done)
    assert len(votes) == sum(len(each.votes) for each in done.judgments)
    assert votes["label"].isna().sum() == votes["failure"].notna().sum()
    assert list(to_frame(replace(done, items=(), decisions=(), judgments=())).columns) == list(frame.columns)


def test_a_frame_without_pandas_names_the_extra(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError) as caught:
        to_frame(done)
    assert caught.value.hint == "pip install 'trustescalate[frames]'"


def test_the_command_writes_and_says_so(project: Project, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    config = str(project.config.folder / "trustescalate.toml")

    def call(*more: str) -> Any:
        return CliRunner().invoke(app, ["export", "--config", config, *more])

    done = call("--as", "trl", "--to", str(tmp_path / "pairs.jsonl"), "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["format"] == "trl"
    assert (tmp_path / "pairs.jsonl").exists()
    refused = call("--as", "trl", "--to", str(tmp_path / "pairs.jsonl"))
    assert refused.exit_code == 2
