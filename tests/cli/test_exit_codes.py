"""Exit codes, error messages, and files that cannot be used."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.projects import calibrate, edit, shuffled, write_project
from trustescalate.project import Project

pytestmark = pytest.mark.slow


def process(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    code = "from trustescalate.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────


def test_0_and_1_are_for_the_gate_alone(config: Path) -> None:
    assert cli("calibrate", "--config", config).exit_code == 0
    assert cli("run", "--config", config).exit_code == 0
    assert cli("gate", "--config", config).exit_code == 0
    edit(config, "min_coverage = 0.3", "min_coverage = 1.0")
    result = cli("gate", "--config", config)
    assert result.exit_code == 1
    assert result.stdout.startswith("gate: fail (checked: the judges only)\n")
    assert re.search(r"^  fail  +coverage  ", result.stdout, re.MULTILINE)
    stored = json.loads(
        (config.parent / "runs" / Project.open(config).run_ids()[-1] / "decision.json").read_text()
    )
    assert stored["status"] == "fail"


USAGE = {
    "no command": ["--nope"],
    "unknown command": ["calibrat"],
    "unknown flag": ["run", "--resum"],
    "no number": ["plan", "--alpha", "x"],
    "no configuration": ["check", "--config", "/nowhere/trustescalate.toml"],
    "a folder": ["check", "--config", "/"],
    "no run": ["report", "nope"],
    "no items": ["run", "--items", "/nowhere.jsonl"],
    "both": ["run", "--items", "items.jsonl", "--resume", "latest"],
    "a plot of guesses": ["plan", "--plot", "power.svg"],
    "a draw and an audit": ["monitor", "--draw", "9", "--audit", "audit.jsonl"],
    "nothing audited": ["monitor", "--run", "latest"],
    "an empty run": ["gate", ""],
    "nothing to resume": ["run", "--resume", ""],
    "dry and resume": ["run", "--dry-run", "--resume", "latest"],
    "no level": ["tune", "--dev-share", "0"],
    "not empty": ["demo", "/"],
}


@pytest.mark.parametrize("case", USAGE)
def test_2_is_usage_with_error_then_hint(case: str, copied: Path) -> None:
    given = USAGE[case]
    if given[0] in ("report", "run", "monitor", "gate") and "--config" not in given:
        given = [*given, "--config", str(copied)]
    result = cli(*given)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    if case not in ("a folder",):
        assert "\nhint: " in result.stderr


def test_3_is_a_gate_after_a_run_that_could_not_begin(copied: Path) -> None:
    good = Project.open(copied).run_ids()[-1]
    for wrong in (["--set", "judges.small.modell=XS"], ["--items", "nowhere.jsonl"], ["--resume", "nothing"]):
        assert cli("run", "--config", copied, *wrong).exit_code == 2
        result = cli("gate", "--config", copied)
        assert result.exit_code == 3, result.output
        assert "error: the last attempt to run, at " in result.stderr
        assert cli("gate", good, "--config", copied).exit_code == 0
        assert cli("run", "--config", copied).exit_code == 0
        assert cli("gate", "--config", copied).exit_code == 0


UNPARSED = [
    ["--budget-usd", "abc"],
    ["--budget-usd", "-1"],
    ["--itms"],
    ["stray"],
    ["--finish-live"],
    ["--items"],
]


def test_3_is_a_gate_after_a_run_that_could_not_be_parsed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.parent)
    assert copied.name == "trustescalate.toml"
    for wrong in (*UNPARSED, [f"--config={copied}", "--itms"], ["--config", copied, "--itms"]):
        assert cli("run", *wrong).exit_code == 2
        result = cli("gate")
        assert result.exit_code == 3, result.output
        assert "error: the last attempt to run, at " in result.stderr
        assert cli("run").exit_code == 0
        assert cli("gate").exit_code == 0
    assert cli("run", TRUSTESCALATE_RUN_BUDGET_USD="").exit_code == 2
    assert cli("gate").exit_code == 3
    assert cli("run").exit_code == 0
    for harmless in (["--dry-run", "--itms"], ["--help"], ["--config", "nowhere.toml", "--itms"]):
        assert cli("run", *harmless).exit_code in (0, 2)
        assert cli("gate").exit_code == 0


def test_2_is_a_variable_that_is_empty(copied: Path) -> None:
    for name, value in (("RUN_RESUME", ""), ("RUN_BUDGET_USD", ""), ("RUN_RESUME", " ")):
        result = cli("run", "--config", copied, **{f"TRUSTESCALATE_{name}": value})
        assert result.exit_code == 2, result.output
        assert f"TRUSTESCALATE_{name} is empty" in result.stderr or "the run's id is empty" in result.stderr
    assert len(Project.open(copied).run_ids()) == 1


RANGES = [
    ("plan", "--alpha", "2"), ("plan", "--alpha", "nan"), ("plan", "--delta", "0"),
    ("plan", "--coverage", "0"), ("plan", "--disagreement", "-1"), ("plan", "--overall", "1.5"),
    ("plan", "--trials", "0"), ("tune", "--dev-share", "0"), ("tune", "--seed", "-1"),
    ("report", "--alpha", "1"),
    ("monitor", "--draw", "0"), ("monitor", "--level", "1"), ("run", "--budget-usd", "-1"),
    ("run", "--budget-usd", "nan"), ("run", "--budget-calls", "0"), ("calibrate", "--budget-usd", "0"),
]  # fmt: skip


@pytest.mark.parametrize("given", RANGES, ids=" ".join)
def test_what_is_out_of_range_names_its_option(given: tuple[str, ...]) -> None:
    result = cli(*given)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: Invalid value for '{given[1]}'")
    assert f"hint: `trustescalate {given[0]} --help`" in result.stderr.replace("root", "trustescalate")


def test_3_is_no_certificate(tmp_path: Path) -> None:
    config = write_project(tmp_path, change=shuffled)
    result = cli("calibrate", "--config", config)
    assert result.exit_code == 3
    assert result.stdout.startswith("✗ No certificate: none of")
    assert "What would help" in result.stdout
    refused = cli("run", "--config", config)
    assert refused.exit_code == 3
    assert refused.stderr.startswith("error: there is no certificate: none of")
    printed = cli("calibrate", "--json", "--config", config)
    assert (printed.exit_code, json.loads(printed.stdout)["thresholds"]) == (3, None)
    assert cli("report", "--config", config).exit_code == 0
    assert cli("gate", "--config", config).exit_code == 3


def test_4_is_a_budget_and_the_way_on_is_named(config: Path) -> None:
    result = cli("calibrate", "--config", config, "--budget-calls", 9)
    assert result.exit_code == 4
    assert "error: the budget of 9 calls is used up" in result.stderr
    assert f"then resume with `trustescalate calibrate --config {config}`" in result.stderr
    cli("calibrate", "--config", config)
    (config.parent / ".trustescalate/cache.sqlite").unlink()
    result = cli("run", "--config", config, "--budget-calls", 9)
    assert result.exit_code == 4
    on = re.search(r"resume with `trustescalate (.+)`", result.stderr)
    assert on is not None
    assert cli("gate", "--config", config).exit_code == 3
    assert cli(*on[1].split()).exit_code == 0
    assert cli("gate", "--config", config).exit_code == 0


@pytest.mark.parametrize("name", ["check", "run", "gate", "report", "calibrate"])
@pytest.mark.parametrize("debug", [False, True])
def test_70_is_a_bug_and_never_a_breach(
    copied: Path, monkeypatch: pytest.MonkeyPatch, name: str, debug: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("\x1b[31mdivision\n")

    for home in ("project", "cascade.certification", "cascade.run", "analysis.checks"):
        monkeypatch.setattr(f"trustescalate.{home}.load_dataset", broken)
    result = cli(*(["--debug"] if debug else []), name, "--config", copied)
    assert result.exit_code == 70
    assert result.stdout == ""
    assert "error: internal error: ZeroDivisionError: ␛[31mdivision" in result.stderr
    assert "hint: this is a bug" in result.stderr
    assert ("Traceback" in result.stderr) == debug


def test_debug_keeps_the_exit_code(config: Path) -> None:
    result = cli("--debug", "run", "--config", config)
    assert result.exit_code == 3
    assert "NoCertificate" in result.stderr
    assert "Traceback" in result.stderr
    assert cli("run", "--config", config, TRUSTESCALATE_DEBUG="1").stderr.count("Traceback") == 1


def test_an_interrupt_anywhere_is_130(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trustescalate.project.load_dataset", interrupted)
    result = cli("gate", "--config", done)
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize("what", ["report", "help", "gate"])
def test_a_broken_pipe_does_not_look_like_a_breach(done: Path, what: str) -> None:
    arguments = {
        "report": ["report", "--json", "--config", str(done)],
        "help": ["--help"],
        "gate": ["gate", "--config", str(done)],
    }[what]
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from trustescalate.cli import main; main()", *arguments]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert ended.returncode == 70
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


# ── files that cannot be used ────────────────────────────────────────────────────────────────────


def test_a_folder_that_cannot_be_written_is_an_error_not_a_bug(config: Path) -> None:
    (config.parent / ".trustescalate").write_text("a file where a folder should be")
    result = cli("calibrate", "--config", config)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {config.parent / '.trustescalate'}")
    assert "\nhint: " in result.stderr
    assert cli("init", "/proc/nowhere").exit_code == 2


def test_a_full_disk_is_an_error_not_a_breach(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate(config)

    def full(file: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trustescalate.cascade.run_writer.append", full)
    result = cli("run", "--config", config)
    assert (result.exit_code, "error: No space left on device\nhint: " in result.stderr) == (2, True)
    monkeypatch.undo()
    assert cli("run", "--config", config, "--resume", "latest").exit_code == 0


def test_a_terminal_without_unicode_is_no_reason_to_fail(done: Path) -> None:
    ended = process("gate", "--config", done, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert ended.returncode == 0
    assert "certified >= " in ended.stdout
