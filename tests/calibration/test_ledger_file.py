"""What breaks, hides or repeats a line of the ledger is noticed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.ledgers import COMMON, HEDGED, attempts, world
from tests.support.projects import calibrate, edit, run
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.tune import tune
from trustescalate.calibration.ledger import LEDGER, Line, labels_of, read_ledger, row_digest
from trustescalate.cascade import certification
from trustescalate.cli import app
from trustescalate.errors import CertificateMismatch, DataError, UsageError
from trustescalate.project import Project
from trustescalate.records import Annotation, Item
from trustescalate.records.jsonl import encode

pytestmark = pytest.mark.slow


# ── what nobody can hide ─────────────────────────────────────────────────────────────────────────


def test_a_test_that_was_killed_before_its_outcome_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world(tmp_path, 120)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(certification, "calibrate", killed)
        with pytest.raises(KeyboardInterrupt):
            calibrate(config)
    assert attempts(tmp_path) == [(1, 0.9, "")]
    assert not (tmp_path / "certificate.json").exists()
    edit(config, COMMON, HEDGED)
    certificate = calibrate(config)
    assert certificate.attempt is not None
    assert certificate.attempt.number == 2
    edit(config, HEDGED, COMMON)
    again = calibrate(config)
    assert attempts(tmp_path) == [(1, 0.9, again.status), (2, 0.05, certificate.status)]


def test_a_torn_last_line_was_never_entered(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    certificate = calibrate(config)
    path = tmp_path / LEDGER
    kept = path.read_bytes()
    path.write_bytes(kept + b'{"previous":"abc","event":"te')
    assert read_ledger(tmp_path).lines[-1].event == "outcome"
    edit(config, COMMON, HEDGED)
    other = calibrate(config)
    assert path.read_bytes().startswith(kept)
    assert [number for number, *_ in attempts(tmp_path)] == [1, 2]
    assert other.attempt != certificate.attempt


def test_a_ledger_that_is_gone_is_noticed(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    path, kept = tmp_path / LEDGER, (tmp_path / LEDGER).read_bytes()
    path.unlink()
    edit(config, COMMON, HEDGED)
    for again in (lambda: calibrate(config), lambda: tune(Project.open(config).config)):
        with pytest.raises(
            CertificateMismatch, match="the number of tests of these labels is unknown"
        ) as caught:
            again()
        assert caught.value.hint.startswith("restore the file")
    assert CliRunner().invoke(app, ["calibrate", "--config", str(config)]).exit_code == 3
    assert any("is unknown" in text for text in inspect_project(Project.open(config).config).warnings)
    path.write_bytes(kept)
    calibrate(config)


def test_an_older_ledger_does_not_hold_a_newer_certificate(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    kept = (tmp_path / LEDGER).read_bytes()
    edit(config, COMMON, HEDGED)
    calibrate(config)
    (tmp_path / LEDGER).write_bytes(kept)
    with pytest.raises(CertificateMismatch, match="does not hold the test"):
        calibrate(config)


@pytest.mark.parametrize("removed", [0, 1])
def test_a_line_that_was_removed_or_changed_is_noticed(tmp_path: Path, removed: int) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    edit(config, COMMON, HEDGED)
    calibrate(config)
    path = tmp_path / LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for place, line in enumerate(lines) if place != removed))
    with pytest.raises(DataError, match="does not follow the line before it") as caught:
        calibrate(config)
    assert caught.value.hint.startswith("restore the file")
    path.write_bytes(b"".join(lines).replace(b'"number":1', b'"number":9'))
    with pytest.raises(DataError, match="does not follow the line before it"):
        calibrate(config)
    path.write_bytes(lines[0] + b'{"previous":"","event":"perhaps"}\n')
    with pytest.raises(DataError, match="event"):
        calibrate(config)


def test_a_certificate_from_before_the_ledger_had_all_of_delta(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    certificate = calibrate(config)
    (tmp_path / LEDGER).unlink()
    (tmp_path / "certificate.json").write_bytes(encode(replace(certificate, attempt=None)))
    with pytest.raises(CertificateMismatch, match="made without a ledger"):
        calibrate(config)


def test_two_processes_do_not_enter_the_same_test(tmp_path: Path) -> None:
    ledger = read_ledger(tmp_path)
    line = Line(previous="", event="choice", rows=(("a", "b"),), command="tune")
    assert ledger.add(line) == read_ledger(tmp_path)
    with pytest.raises(UsageError, match="another process writes to it"):
        ledger.add(line)


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(previous="", event="choice", rows=(("a", "b"),), command="tune")

    def full(file: int, data: bytes) -> None:
        os.write(file, data[:9])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("trustescalate.calibration.ledger.append", full)
        with pytest.raises(OSError, match="No space"):
            read_ledger(tmp_path).add(line)
    assert (tmp_path / LEDGER).read_bytes() == b""
    assert read_ledger(tmp_path).add(line).lines == (line,)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────


def test_check_says_how_often_labels_were_tested(tmp_path: Path) -> None:
    config = world(tmp_path, 100)
    facts = dict(inspect_project(Project.open(config).config).facts)
    assert facts["tested before"] == "none of the certification labels"
    calibrate(config)
    config = world(tmp_path, 150)
    calibrate(config)
    facts = dict(inspect_project(Project.open(config).config).facts)
    assert facts["tested before"] == (
        "150 of 150 certification labels, at most 2 times; 0.95 of delta is spent"
    )


def test_the_gate_says_which_test_it_was(tmp_path: Path) -> None:
    calibrate(world(tmp_path, 100))
    config = world(tmp_path, 200)
    certificate = calibrate(config)
    assert certificate.status == "certified"
    run(config, items=config.parent / "items.jsonl")
    verdict, _ = Project.open(config).gate()
    observed = {check.name: check.observed for check in verdict.checks}
    assert observed["certificate"] == "certified, test 2 of these labels"
    assert verdict.status == "pass"


def test_rows_are_known_by_what_is_labelled() -> None:
    item = Item("a", "prompt", ("x", "y"))
    same = [replace(item, id="b"), replace(item, responses=("y", "x")), replace(item, reference="z")]
    assert {row_digest(other) for other in same} == {row_digest(item)}
    assert row_digest(replace(item, prompt="other")) != row_digest(item)
    note = Annotation("a", "p", "A")
    one, other = (labels_of([item], [replace(note, label=label)]) for label in "AB")
    assert one.keys == other.keys
    assert one != other
