"""The command line: help, JSON, environment, --set and folders; stdout is data, stderr messages."""

import gc
import json
import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.command_line import cli
from tests.support.projects import write_project
from tests.support.words import denied
from trustescalate.cli import app
from trustescalate.cli.app import GARBAGE, MOVED_COMMANDS, MOVED_OPTIONS, PANELS, freeze_objects

pytestmark = pytest.mark.slow
COMMANDS = {
    *("init", "import", "check", "demo", "skill"),
    *("plan", "tune", "calibrate"),
    *("run", "merge", "report", "gate", "compare", "monitor"),
    *("label queue", "label serve", "label import", "export"),
    *("judges list", "judges try", "judges bench", "judges probe", "judges reparse"),
}


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
    "dry calibrate", "dry run", "draw", "report alpha", "reparse", "probe", "prompts", "bench", "ci", "skill",
]  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_json_is_all_there_is_on_stdout(name: str, done: Path, tmp_path: Path) -> None:
    arguments: dict[str, list[object]] = {
        "plan": ["plan"], "skill": ["skill"], "init": ["init", tmp_path / "new"],
        "roles": ["check", "--write-roles", "--config", write_project(tmp_path / "roles")],
        "dry calibrate": ["calibrate", "--dry-run", "--config", done],
        "dry run": ["run", "--dry-run", "--config", done],
        "probe": ["judges", "probe", "--items", 1, "--config", done],
        "prompts": ["init", tmp_path, "--prompts"], "ci": ["init", tmp_path, "--ci", "gitlab"],
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
    own = {f"{name} {flag}" if flag != "trust" else flag for flag in flags}
    assert twins == {f"TRUSTESCALATE_{flag}".upper().replace(" ", "_").replace("-", "_") for flag in own}
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
        ("monitor", "RUN", "latest", "names the audited run"),
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


# ── rubrics ──────────────────────────────────────────────────────────────────────────────────────


def test_a_rubric_goes_to_stdout_or_to_a_file(tmp_path: Path) -> None:
    rubric, to = tmp_path / "rubric.json", tmp_path / "criteria.toml"
    rubric.write_text(json.dumps([{"name": "tone", "weight": 2, "requirement": "Is it polite?"}]))
    shown = cli("import", rubric)
    assert tomllib.loads(shown.stdout)["criteria"][0]["name"] == "tone"
    assert 'kind = "binary"' in shown.stderr
    assert cli("import", rubric, "--to", to).exit_code == 0
    assert to.read_text(encoding="utf-8") == shown.stdout
    assert json.loads(cli("import", rubric, "--json").stdout)["toml"] == shown.stdout
    again = cli("import", rubric, "--to", to)
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)


def test_a_set_without_a_folder_says_what_is_missing(tmp_path: Path) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text("prompt,response_a,response_b,winner\nQ,x,y,model_a\n")
    refused = cli("import", votes)
    assert refused.exit_code == 2
    assert "--to set" in refused.stderr


# ── --set ────────────────────────────────────────────────────────────────────────────────────────

SET = [name for name in sorted(COMMANDS) if name not in ("init", "import", "demo", "skill")]


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
    assert "next: `trustescalate report`\nnext: `trustescalate gate`\n" in again.stderr


def test_init_starts_a_project_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new one"
    first = cli("init", folder)
    path = folder / "trustescalate.toml"
    assert (first.exit_code, first.stdout) == (0, f"{path}\n")
    assert "label queue --for calibration" in first.stderr
    path.write_text(path.read_text() + "# mine\n")
    second = cli("init", folder)
    assert second.exit_code == 2
    assert path.read_text().endswith("# mine\n")
    checked = cli("check", "--config", path)
    assert checked.exit_code == 2
    assert f"{folder / 'items.jsonl'}: cannot be read: No such file" in checked.stderr
    assert "hint: write one item a line into it" in checked.stderr
    for arguments in (("import", path, "--to", folder), ("demo", folder)):
        refused = cli(*arguments)
        assert refused.exit_code == 2
        assert f"name a new folder: trustescalate {arguments[0]} " in refused.stderr


def test_the_demo_goes_the_whole_way_once(tmp_path: Path) -> None:
    result = cli("demo", tmp_path / "demo", "--json")
    assert result.exit_code == 0
    made = json.loads(result.stdout)
    assert (made["gate"], Path(made["report"]).is_file()) == ("pass", True)
    again = cli("demo", tmp_path / "demo")
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)


def test_objects_are_left_out_of_garbage_collections_in_the_console_script_alone() -> None:
    usual = gc.get_threshold()
    try:
        freeze_objects()
        assert gc.get_freeze_count() == 0
        gc.set_threshold(GARBAGE)
        freeze_objects()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*usual)
