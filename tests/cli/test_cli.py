"""The command line: help, JSON, environment, exit codes, messages. stdout is data, stderr is talk."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.command_line import cli
from tests.support.projects import calibrate, edit, run, shuffled, write_project
from tests.support.words import denied
from trustescalate.cli import app
from trustescalate.cli.app import MOVED_COMMANDS, MOVED_OPTIONS, PANELS
from trustescalate.cli.display import lines
from trustescalate.project import Project
from trustescalate.records.progress import Progress

pytestmark = pytest.mark.slow
COMMANDS = {
    *("init", "import", "check", "demo"),
    *("plan", "tune", "calibrate"),
    *("run", "report", "gate", "compare", "monitor"),
    *("label queue", "label serve", "label import", "export"),
    *("judges list", "judges bench", "judges probe", "judges reparse"),
}
HEAVY = ("numpy", "openai", "pandas", "pydantic", "scipy", "sklearn", "torch", "transformers")


def process(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    code = "from trustescalate.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a certificate and a run, for commands that only read."""
    config = write_project(tmp_path_factory.mktemp("done") / "with a space")
    calibrate(config)
    run(config)
    return config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_project(tmp_path)


# ── help and JSON ────────────────────────────────────────────────────────────────────────────────


def commands() -> Mapping[str, Any]:
    """Every command by what is typed for it."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {key}": inner[key] for key in inner}
    return found


def test_these_are_the_commands() -> None:
    assert set(commands()) == COMMANDS
    assert {name.split()[0] for name in COMMANDS} == {name for panel in PANELS.values() for name in panel}


def test_help_lists_every_command_in_its_panel_on_one_line() -> None:
    shown = cli("--help").stdout
    for panel, names in PANELS.items():
        (lines,) = re.findall(rf"^{panel}:\n((?:  .+\n)+)", shown, re.MULTILINE)
        assert [line.split()[0] for line in lines.splitlines()] == list(names)
    assert "..." not in shown.partition("Start:")[2]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_help_ends_with_an_example_that_parses(name: str) -> None:
    command = commands()[name]
    shown = " ".join(cli(*name.split(), "--help").stdout.split())
    program, *typed = shlex.split(command.epilog.removeprefix("Example: "))
    assert shown.endswith(command.epilog)
    assert (program, typed[: len(name.split())]) == ("trustescalate", name.split())
    given = typed[len(name.split()) :]
    assert command.make_context(name, given, auto_envvar_prefix="TRUSTESCALATE").params


@pytest.mark.parametrize("old", sorted(MOVED_COMMANDS))
def test_an_old_command_names_the_new_one(old: str) -> None:
    result = cli(old, "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (f"error: the command {old!r} was removed\nhint: use `{MOVED_COMMANDS[old]}`\n")
    program, *words = shlex.split(MOVED_COMMANDS[old])
    if program == "trustescalate":
        name = " ".join(words[:2]) if words[0] == "judges" else words[0]
        commands()[name].make_context(name, words[len(name.split()) :], auto_envvar_prefix="TRUSTESCALATE")
    else:
        assert find_spec(words[1]) is not None


@pytest.mark.parametrize(("command", "option"), sorted(MOVED_OPTIONS))
def test_an_old_option_names_the_new_one(command: str, option: str) -> None:
    result = cli(command, option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: No such option: {option}")
    assert result.stderr.endswith(f"\nhint: {MOVED_OPTIONS[command, option]}\n")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_each_of_its_flags_is_explained(name: str) -> None:
    command = commands()[name]
    assert command.help
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    assert all(option.help for option in options)
    assert "--json" in {flag for option in options for flag in option.opts}
    shown = cli(*name.split(), "--help")
    assert shown.exit_code == 0
    assert all(flag in shown.stdout for option in options for flag in option.opts)
    assert cli(*name.split(), "-h").stdout == shown.stdout


@pytest.mark.parametrize("name", ["", *sorted(COMMANDS)])
def test_help_uses_the_terms_of_the_glossary(name: str) -> None:
    assert list(denied(" ".join(cli(*name.split(), "--help").stdout.split()))) == []


def test_the_exit_codes_are_in_the_help() -> None:
    shown = " ".join(cli("--help").stdout.split())
    codes = ("0 passed", "1 measured breach", "2 usage", "3 not measurable", "4 budget", "70 internal", "130")
    assert [text for text in codes if text not in shown] == []


PRINTED = [
    "check", "calibrate", "run", "report", "gate", "plan", "plan from votes", "tune", "init", "roles", "list",
    "dry calibrate", "dry run", "draw", "report alpha", "reparse", "probe", "prompts", "bench",
]  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_json_is_all_there_is_on_stdout(name: str, done: Path, tmp_path: Path) -> None:
    arguments: dict[str, list[object]] = {
        "plan": ["plan"], "init": ["init", tmp_path / "new"],
        "roles": ["check", "--write-roles", "--config", write_project(tmp_path / "roles")],
        "dry calibrate": ["calibrate", "--dry-run", "--config", done],
        "dry run": ["run", "--dry-run", "--config", done],
        "probe": ["judges", "probe", "--items", 1, "--config", done],
        "prompts": ["init", tmp_path, "--prompts"],
        "plan from votes": ["plan", "--trials", 2, "--config", done],
        "report alpha": ["report", "--alpha", 0.4, "--config", done],
        "reparse": ["judges", "reparse", "--config", done],
        "list": ["judges", "list", "--config", done],
        "bench": ["judges", "bench", "--rows", "certify", "--config", done],
        "draw": ["monitor", "--draw", 3, "--config", done],
    }  # fmt: skip
    result = cli(*arguments.get(name, [name, "--config", done]), "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert isinstance(value, dict)
    assert result.stdout.isascii()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_has_a_twin_of_its_own_name_in_the_environment(name: str) -> None:
    shown = cli(*name.split(), "--help").stdout
    twins = set(re.findall(r"env\s+var:\s+(\w+)", shown))
    options = [option for option in commands()[name].params if option.param_type_name == "option"]
    flags = {max(option.opts, key=len).removeprefix("--") for option in options}
    assert twins == {
        f"TRUSTESCALATE_{name} {flag}".upper().replace(" ", "_").replace("-", "_") for flag in flags
    }
    command, inside = commands()[name], {"auto_envvar_prefix": "TRUSTESCALATE"}
    assert command.make_context(name.rsplit(maxsplit=1)[-1], [], resilient_parsing=True, **inside)


def test_the_environment_is_read(done: Path, tmp_path: Path) -> None:
    twins = {"TRUSTESCALATE_GATE_CONFIG": str(done), "TRUSTESCALATE_GATE_JSON": "1"}
    assert json.loads(cli("gate", **twins).stdout)["status"] == "pass"
    assert json.loads(cli("plan", "--json", TRUSTESCALATE_PLAN_ALPHA="0.05").stdout)["alpha"] == 0.05
    given = json.loads(cli("plan", "--json", "--alpha", 0.2, TRUSTESCALATE_PLAN_ALPHA="0.05").stdout)
    assert given["alpha"] == 0.2
    wrong = cli("plan", TRUSTESCALATE_PLAN_ALPHA="2")
    assert (wrong.exit_code, "TRUSTESCALATE_PLAN_ALPHA" in wrong.stderr or "--alpha" in wrong.stderr) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("monitor", "RUN", "latest", "says which run was audited"),
        ("label queue", "FOR", "nonsense", "--for"),
        ("import", "FORMAT", "nonsense", "nonsense"),
        ("export", "AS", "nonsense", "nonsense"),
        ("check", "SET", "guarantee.alpha=7", "guarantee.alpha"),
    ],
)
def test_a_twin_is_read_whatever_its_parameter_is_called(
    done: Path, tmp_path: Path, name: str, option: str, value: str, message: str
) -> None:
    given = {
        "import": [done.with_name("items.jsonl"), "--to", tmp_path / "new"],
        "export": ["--to", tmp_path / "new"],
    }.get(name, [])
    config = [] if name == "import" else ["--config", done]
    twin = {f"TRUSTESCALATE_{name.upper().replace(' ', '_')}_{option}": value}
    result = cli(*name.split(), *given, *config, **twin)
    assert result.exit_code == 2, result.output
    assert message in result.stderr


# ── --set ────────────────────────────────────────────────────────────────────────────────────────

SET = [name for name in sorted(COMMANDS) if name not in ("init", "import", "demo")]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_that_reads_a_configuration_overrides_it(name: str) -> None:
    flags = {flag for option in commands()[name].params for flag in option.opts}
    assert ("--set" in flags) == ("--config" in flags) == (name in SET)


def test_what_is_set_is_used_and_recorded(config: Path) -> None:
    given = ("--config", config, "--set", "guarantee.alpha=0.25", "--set", "judges.small.price.input=0.5")
    assert json.loads(cli("calibrate", *given, "--json").stdout)["alpha"] == 0.25
    done = cli("run", *given)
    assert done.exit_code == 0, done.output
    header = json.loads(next(config.parent.glob("runs/*/run.json")).read_text())
    assert header["config"]["guarantee"]["alpha"] == 0.25
    assert header["config"]["judges"][0]["price"]["input"] == 0.5
    assert "--set guarantee.alpha=0.25 --set judges.small.price.input=0.5" in header["command"]
    assert f"gate --config {shlex.quote(str(config))} --set guarantee.alpha=0.25" in done.stderr
    assert cli("gate", *given).exit_code == 0
    assert cli("gate", "--config", config).exit_code == 3, "another alpha than the run's"
    stopped = cli("run", *given, "--no-cache", "--budget-calls", 3)
    on = re.search(r"resume with `trustescalate (.+)`", stopped.stderr)
    assert on is not None
    assert "--set guarantee.alpha=0.25" in on[1]
    assert cli(*shlex.split(on[1])).exit_code == 0


def test_several_keys_are_set_in_the_environment(config: Path) -> None:
    twins = {"TRUSTESCALATE_CHECK_SET": "guarantee.alpha=0.2 guarantee.delta=0.05"}
    facts = json.loads(cli("check", "--config", config, "--json", **twins).stdout)["facts"]
    assert "alpha 0.2, delta 0.05" in str(facts)


def test_what_cannot_be_set_names_its_key(config: Path) -> None:
    result = cli("check", "--config", config, "--set", "guarantee.alfa=0.2")
    assert result.exit_code == 2
    assert f"error: {config} with --set guarantee.alfa:\n  unknown key guarantee.alfa" in result.stderr


def test_a_version_in_the_environment_means_nothing() -> None:
    assert cli("plan", TRUSTESCALATE_VERSION="1.2.3").exit_code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", cli("--version").stdout)


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────


def test_0_and_1_are_for_the_gate_alone(config: Path) -> None:
    assert cli("calibrate", "--config", config).exit_code == 0
    assert cli("run", "--config", config).exit_code == 0
    assert cli("gate", "--config", config).exit_code == 0
    edit(config, "min_coverage = 0.3", "min_coverage = 1.0")
    result = cli("gate", "--config", config)
    assert result.exit_code == 1
    assert "fail       coverage: " in result.stdout
    assert "gate: fail" in result.stdout
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
    "dry and resume": ["run", "--dry-run", "--resume", "latest"],
    "no level": ["tune", "--dev-share", "0"],
    "not empty": ["demo", "/"],
}


@pytest.mark.parametrize("case", USAGE)
def test_2_is_usage_with_error_then_hint(case: str, done: Path) -> None:
    given = USAGE[case]
    if given[0] in ("report", "run", "monitor") and "--config" not in given:
        given = [*given, "--config", str(done)]
    result = cli(*given)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    if case not in ("a folder",):
        assert "\nhint: " in result.stderr


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
    assert result.stdout.startswith("No certificate: none of")
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
    done: Path, monkeypatch: pytest.MonkeyPatch, name: str, debug: bool
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("\x1b[31mdivision\n")

    for home in ("project", "cascade.certification", "cascade.run", "analysis.checks"):
        monkeypatch.setattr(f"trustescalate.{home}.load_dataset", broken)
    result = cli(*(["--debug"] if debug else []), name, "--config", done)
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

    monkeypatch.setattr("trustescalate.cascade.run_folder.append", full)
    result = cli("run", "--config", config)
    assert (result.exit_code, "error: No space left on device\nhint: " in result.stderr) == (2, True)
    monkeypatch.undo()
    assert cli("run", "--config", config, "--resume", "latest").exit_code == 0


def test_a_terminal_without_unicode_is_no_reason_to_fail(done: Path) -> None:
    ended = process("gate", "--config", done, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert ended.returncode == 0
    assert "\\u2265" in ended.stdout


# ── from anywhere ────────────────────────────────────────────────────────────────────────────────


def test_from_another_folder_by_a_path_with_spaces(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(done, tmp_path)
    for path in (done, relative):
        assert cli("gate", "--config", path).exit_code == 0
        assert cli("check", "--config", path).exit_code == 0
    assert list(tmp_path.iterdir()) == []
    missing = cli("check")
    assert "error: trustescalate.toml: there is no such file" in missing.stderr
    assert "`trustescalate init` writes one; --config names another" in missing.stderr


def test_in_the_folder_no_path_is_needed_and_none_is_recorded(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    assert cli("calibrate").exit_code == 0
    made = cli("run", "--json")
    assert "written" not in made.stdout
    run_id = json.loads(made.stdout)["run"]
    header = json.loads((Path("runs") / run_id / "run.json").read_text())
    assert header["command"] == "trustescalate run"
    assert cli("report", Path("runs") / run_id).stdout.strip() == str(Path("runs") / run_id / "report.html")
    again = cli("run")
    assert "next: `trustescalate report`, `trustescalate gate`" in again.stderr


def test_init_starts_a_project_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new one"
    first = cli("init", folder)
    path = folder / "trustescalate.toml"
    assert (first.exit_code, first.stdout) == (0, f"{path}\n")
    path.write_text(path.read_text() + "# mine\n")
    second = cli("init", folder)
    assert second.exit_code == 2
    assert path.read_text().endswith("# mine\n")
    checked = cli("check", "--config", path)
    assert checked.exit_code == 2
    assert f"{folder / 'items.jsonl'}: cannot be read: No such file" in checked.stderr


def test_the_demo_goes_the_whole_way_once(tmp_path: Path) -> None:
    result = cli("demo", tmp_path / "demo", "--json")
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert (made["gate"], Path(made["report"]).is_file()) == ("pass", True)
    again = cli("demo", tmp_path / "demo")
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)


# ── progress and colour ──────────────────────────────────────────────────────────────────────────


def test_progress_is_plain_lines_where_there_is_no_terminal(config: Path) -> None:
    result = cli("calibrate", "--config", config)
    assert re.search(r"^calibrating: (\d+) of \1, [\d,]+ calls, \d\.\d{4} USD$", result.stderr, re.MULTILINE)
    assert "\x1b" not in result.output


def test_a_line_comes_every_ten_seconds_and_at_the_end() -> None:
    said: list[str] = []
    now = [0.0]
    with lines(said.append, lambda: now[0]) as show:
        for done in range(1, 101):
            now[0] = done * 0.5
            show(Progress("judging", done, 100, 3, 1, 0.5, 1234))
    assert len(said) == 5
    assert said[-1] == "judging: 100 of 100, 3 escalated, 1 abstained, 1,234 calls, 0.5000 USD"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_heeded_on_a_terminal(config: Path, no_color: str) -> None:
    import pty

    controller, terminal = pty.openpty()
    code = "from trustescalate.cli import main; main()"
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    child = subprocess.Popen(
        [sys.executable, "-c", code, "calibrate", "--config", str(config)],
        stdout=subprocess.DEVNULL, stderr=terminal, env=environment,
    )  # fmt: skip
    os.close(terminal)
    shown = _drained(controller)
    assert child.wait(30) == 0
    assert "calibrating" in shown
    colours = re.search(r"\x1b\[[0-9;]*(3[0-8]|9[0-7])[;m]", shown)
    assert (colours is None) == bool(no_color)


def _drained(controller: int) -> str:
    parts, end = [], time.monotonic() + 30
    while time.monotonic() < end:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    return b"".join(parts).decode(errors="replace")


# ── lightness ────────────────────────────────────────────────────────────────────────────────────


LOADED = """
import atexit, sys
atexit.register(lambda: print(*sorted({%r} & sys.modules.keys()), file=sys.stderr))
sys.argv = ["trustescalate", *%r]
"""
BARE = """
import typer
app = typer.Typer(rich_markup_mode=None)
app.callback()(lambda: None)
app.command("run")(lambda items: None)
app()
"""


def loaded(code: str, arguments: list[str]) -> set[str]:
    watched = LOADED % ({*HEAVY, "rich"}, arguments)
    ended = subprocess.run(
        [sys.executable, "-c", watched + code], capture_output=True, text=True, check=False
    )
    return set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["nonsense"]])
def test_help_loads_nothing_heavy_but_what_the_parser_itself_loads(arguments: list[str]) -> None:
    ours = loaded("from trustescalate.cli import main\nmain()", arguments)
    assert ours <= loaded(BARE, ["run", "--help"])
    assert not ours & {"numpy", "openai", "pandas", "scipy", "sklearn", "torch"}


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert loaded("import trustescalate.cli", []) <= loaded("import typer", [])
