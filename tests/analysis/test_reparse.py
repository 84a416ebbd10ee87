"""Stored replies read again: nothing changes without a reason, and what changes is said."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.projects import calibrate, edit, run, simulated, write_project
from trustescalate.analysis.reparse import Reparsed, reparse
from trustescalate.cli import app
from trustescalate.errors import DataError, NotMeasurable, UsageError
from trustescalate.judges import conclusions, reply_parsing
from trustescalate.judges.replay import load_votes
from trustescalate.project import Project
from trustescalate.records import MODES, Mode

pytestmark = pytest.mark.slow


def again(config: Path, *given: object) -> Reparsed:
    return reparse(Project.open(config).config, *given)  # type: ignore[arg-type]


def moded(mode: Mode) -> str:
    return simulated("small", "XS", mode=f'"{mode}"') + simulated("large", "M", mode=f'"{mode}"')


@pytest.mark.parametrize("mode", MODES)
def test_the_same_reader_reads_the_same(tmp_path: Path, mode: Mode) -> None:
    config = write_project(tmp_path, moded(mode), alpha=0.45)
    if mode == "stated":
        edit(config, "[ensemble]", '[ensemble]\nestimator = "verbalized"')
    calibrate(config)
    found = again(config)
    assert (found.source, found.unread, found.changes, found.notes) == ("certificate", 0, (), ())
    assert found.votes > 200
    made = run(config)
    assert again(config).source == f"run {made.header.id}"
    assert again(config, "latest").votes == sum(len(row.votes) for row in made.judgments)
    assert again(config, "certificate") == found


def test_a_stricter_reader_shows_what_it_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    before = (tmp_path / "certificate.votes.jsonl").read_bytes()
    honest = conclusions.find_verdict
    monkeypatch.setattr(
        reply_parsing,
        "find_verdict",
        lambda text, mode, asked: "none" if text == "A" else honest(text, mode, asked),
    )
    monkeypatch.setattr(reply_parsing, "cut_verdict", lambda text, asked: None)
    new = tmp_path / "again.jsonl"
    found = again(config, "certificate", new)
    assert {change.after for change in found.changes} == {"none"}
    assert 0 < len(found.changes) < found.votes
    assert all(change.before[0] in "AB" for change in found.changes)
    assert (tmp_path / "certificate.votes.jsonl").read_bytes() == before
    task = Project.open(config).config.task.task()
    rows = load_votes(new, task, "small") + load_votes(new, task, "large")
    failed = [vote for row in rows for vote in row.votes if vote.failure == "none"]
    assert len(failed) == len(found.changes)
    assert len(rows) * 4 == found.votes
    with pytest.raises(UsageError, match=r"again\.jsonl exists already"):
        again(config, "certificate", new)
    lines = "\n".join(found.lines())
    assert f"{len(found.changes):,} would change" in lines
    assert "→ none" in lines


def test_what_was_asked_differently_is_said(tmp_path: Path) -> None:
    config = write_project(tmp_path, moded("reason"), alpha=0.45)
    calibrate(config)
    edit(config, "annotators = 2", "annotators = 2\nsamples = 5")
    found = again(config)
    assert found.votes == 0 < found.unread
    assert all("the codes of its verdicts are not known" in note for note in found.notes)
    config = write_project(tmp_path / "direct")
    calibrate(config)
    edit(config, "annotators = 2", "annotators = 2\nsamples = 5")
    found = again(config)
    assert found.unread == 0
    assert found.changes == ()
    assert all("parsed as replies to the present prompt" in note for note in found.notes)


def test_recorded_judges_and_missing_votes(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    text = config.read_text(encoding="utf-8")
    replayed = text.replace('backend = "simulated"\nmodel = "XS"', 'backend = "replay"\nvotes = "x.jsonl"')
    config.write_text(replayed, encoding="utf-8")
    found = again(config)
    assert found.notes == ("small is replayed: parse its votes again in the project that recorded them",)
    assert found.unread == found.votes
    votes = tmp_path / "certificate.votes.jsonl"
    votes.write_bytes(votes.read_bytes() + b"{")
    with pytest.raises(DataError):
        again(config)
    votes.unlink()
    with pytest.raises(NotMeasurable, match="no recorded votes"):
        again(config)


def test_the_command(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    out = tmp_path / "new.jsonl"
    done = CliRunner().invoke(
        app, ["judges", "reparse", "certificate", "--config", str(config), "--write", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["changes"], found["written"]) == ([], str(out))
    assert len(out.read_bytes().splitlines()) == len(
        (tmp_path / "certificate.votes.jsonl").read_bytes().splitlines()
    )
    nothing = CliRunner().invoke(app, ["judges", "reparse", "nowhere", "--config", str(config)])
    assert nothing.exit_code == 3
