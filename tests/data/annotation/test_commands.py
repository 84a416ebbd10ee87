"""The commands: what they say, in text and as JSON, and what they refuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.labelling import answer_all
from tests.support.projects import calibrate, run, write_project
from trustescalate.cli import app
from trustescalate.data.annotation.answers import Answer, AnswerFile
from trustescalate.data.annotation.queue import open_queue
from trustescalate.project import Project

pytestmark = pytest.mark.slow


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["label", *(str(argument) for argument in arguments)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_project(tmp_path, labelled=120, unlabelled=80, alpha=0.22)


def test_abstentions_are_settled_and_the_certificate_is_left_alone(config: Path) -> None:
    calibrate(config)
    result = run(config)
    queued = cli("queue", result.header.id, "--config", config)
    assert queued.exit_code == 0
    assert "never certify" in queued.stdout
    assert f"next: `trustescalate label serve --config {config}`" in queued.stderr
    count = answer_all(config)
    brought = cli("import", "--config", config)
    assert f"added:   {count} labels of 1 annotator (skips 0, ties 0)" in brought.stdout
    assert "the certificate does not change" in brought.stderr
    assert "calibrate" not in brought.stderr
    again = cli("queue", result.header.id, "--config", config)
    assert again.stdout.splitlines()[0] == "to label: 0"
    assert f"left out: {count} with human labels" in again.stdout
    assert "next" not in again.stderr
    released = next(row.item_id for row in result.decisions if row.label is not None)
    named = cli("queue", result.header.id, f"--item={released}", "--config", config, "--json")
    assert (json.loads(named.stdout)["rows"], json.loads(named.stdout)["purpose"]) == (1, "other")
    answer_all(config)
    assert "added:   1 labels of 1 annotator" in cli("import", "--config", config).stdout
    refused = cli("queue", "--for", "calibration", "--rows", 6, "--item", released, "--config", config)
    assert (refused.exit_code, "leave out --item" in refused.stderr) == (2, True)


def test_rows_for_the_certificate_lead_to_calibrate(config: Path) -> None:
    queued = cli("queue", "--for", "calibration", "--rows", 6, "--config", config, "--json")
    found = json.loads(queued.stdout)
    assert (found["rows"], found["purpose"]) == (6, "sample")
    answer_all(config)
    brought = cli("import", "--config", config, "--json")
    assert json.loads(brought.stdout)["sample"] == 126
    assert f"`trustescalate calibrate --config {config}` renews the certificate" in brought.stderr


def test_rows_that_are_still_open_are_counted(config: Path) -> None:
    cli("queue", "--for", "calibration", "--rows", 6, "--config", config)
    queue = open_queue(Project.open(config).config)
    with AnswerFile(queue.folder) as file:
        file.add(Answer(queue.header.id, queue.rows[2].item_id, "ann", "skip"))
    said = cli("import", "--config", config).stdout
    assert "open:    5 drawn rows have no answer" in said
    assert "(skips 1, ties 0)" in said


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["queue"], "nothing to queue is named"),
        (["queue", "--for", "calibration"], "how many rows"),
        (["queue", "latest", "--for", "calibration", "--rows", 5], "not from a run"),
        (["queue", "latest", "--rows", 5], "all abstentions are queued"),
        (["queue", "--for", "audit"], "audit"),
        (["import"], "no answers yet"),
        (["import", "nowhere.csv"], "nowhere.csv"),
        (["serve"], "nothing is queued"),
        (["serve", "--port", 70_000], "65535"),
    ],
)
def test_what_is_refused(config: Path, arguments: list[object], error: str) -> None:
    result = cli(*arguments, "--config", config)
    assert result.exit_code == 2
    assert error in " ".join(result.stderr.split())


def test_without_a_sub_command_there_is_help() -> None:
    result = cli()
    assert result.exit_code == 2
    assert all(name in result.output for name in ("queue", "serve", "import"))
