"""The guide for coding agents: its front matter, and that each command, option and file in it exists."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.command_line import cli
from tests.support.words import denied
from trustescalate.cli import app
from trustescalate.config.trust import OWN_FILES

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "trustescalate/cli/skill.md").read_text(encoding="utf-8")
FRONT, BODY = re.fullmatch(r"---\n(.*?)\n---\n(.*)", GUIDE, re.DOTALL).groups()  # type: ignore[union-attr]
FENCED = re.findall(r"^```sh\n(.*?)^```", BODY, re.MULTILINE | re.DOTALL)
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", BODY, flags=re.MULTILINE | re.DOTALL))
LINES = [shlex.split(line, comments=True) for block in FENCED for line in block.splitlines()]
WRITTEN = [*LINES, *(shlex.split(code) for code in CODE if code.startswith("trustescalate "))]
ROOT_COMMAND: Any = typer.main.get_command(app)


def leaf(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the rest of the words."""
    command, rest = ROOT_COMMAND, words
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def test_it_is_printed_as_it_lies_in_the_package() -> None:
    assert cli("skill").stdout == GUIDE
    assert json.loads(cli("skill", "--json").stdout) == {"skill": GUIDE}


def test_the_front_matter_is_that_of_a_skill_file() -> None:
    fields = dict(line.split(": ", 1) for line in FRONT.splitlines())
    assert set(fields) == {"name", "description"}
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fields["name"])
    assert 40 < len(fields["description"]) <= 1024
    assert not re.search(r'^["\'\[{>|*&!%@`#]|: | #|<', fields["description"]), "plain YAML, without tags"
    assert len(GUIDE.splitlines()) < 110


def test_it_speaks_the_terms_of_the_field() -> None:
    assert list(denied(" ".join(BODY.split()))) == []


@pytest.mark.parametrize("words", WRITTEN, ids=" ".join)
def test_each_command_line_parses(words: list[str]) -> None:
    program, *rest = ["gate" if word == "COMMAND" else word for word in words]
    assert program == "trustescalate"
    if rest[0].startswith("--"):
        assert rest.pop(0) in {flag for option in ROOT_COMMAND.params for flag in option.opts}
    command, given = leaf(rest)
    if given == ["--help"]:
        assert cli(*rest).exit_code == 0
        return
    assert command.make_context("x", given, auto_envvar_prefix="TRUSTESCALATE").params


@pytest.mark.parametrize("code", sorted({code for code in CODE if not code.startswith("trustescalate ")}))
def test_whatever_else_it_names_exists(code: str) -> None:
    first, *rest = code.split()
    commands = [command for _, command in flat(ROOT_COMMAND)]
    flags = {flag for command in commands for option in command.params for flag in option.opts}
    if first in ROOT_COMMAND.commands:
        command, given = leaf(code.split())
        assert set(given) <= {flag for option in command.params for flag in option.opts}
    elif first.startswith("--"):
        assert {first, *rest} <= flags
    else:
        names = {*OWN_FILES, "runs/", "report.html", "api_key_env", "[gate]", "reason", "advice"}
        assert code in names | {"error:", "hint:"}


def flat(command: Any, name: str = "") -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(name, command)]
    return [row for key, sub in inner.items() for row in flat(sub, f"{name} {key}".strip())]


def test_it_has_every_exit_code() -> None:
    page = (ROOT / "docs/ci-gate.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| (\d+) \|", re.MULTILINE)
    assert row.findall(BODY) == row.findall(page)


@pytest.mark.slow
def test_the_order_of_work_is_done_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples/pass-fail", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for words in LINES:
        done = cli(*words[1:])
        assert done.exit_code == 0, (words, done.stderr)
        if "--json" in words:
            assert isinstance(json.loads(done.stdout), dict)
        else:
            assert Path(done.stdout.strip()).name == "report.html"


def test_a_no_certificate_has_the_fields_that_the_guide_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples/pass-fail", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    done = cli("calibrate", "--json", "--set", "guarantee.alpha=0.02")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["status"]) == (3, "none")
    assert answer["reason"]
    assert answer["advice"]
