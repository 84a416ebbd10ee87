"""The glossary's deny-list over everything that a user reads: help, keys, errors, hints, reports."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.words import KEYS, denied
from trustescalate import errors
from trustescalate.cli import app
from trustescalate.config import json_schema

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trustescalate"
ERRORS = {name for name, thing in vars(errors).items() if isinstance(thing, type)} | {
    "BadParameter",
    "ValueError",
}
MOVED = {"app.py", "moved.py"}
"""These name what was renamed, so that an old name is answered with the new one."""


def commands(command: Any, name: str = "trustescalate") -> Iterator[tuple[str, Any]]:
    """Every command of the application, by its full name."""
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {child}")


def literals(node: ast.AST) -> str:
    """The text of a string expression, what is filled in left out."""
    texts = (
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )
    return " ".join(texts)


@pytest.mark.parametrize(("name", "command"), list(commands(typer.main.get_command(app))))
def test_help_speaks_the_terms_of_the_field(name: str, command: Any) -> None:
    texts = [command.help or "", command.epilog or ""]
    texts += [f"{' '.join(param.opts)} {getattr(param, 'help', '') or ''}" for param in command.params]
    assert list(denied(" ".join(texts))) == []
    if command.params and not getattr(command, "commands", None):
        assert "Example: trustescalate " in (command.epilog or ""), name


def keys_of(schema: dict[str, Any], table: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Each key of a table of the configuration, with its description."""
    for key, value in table.get("properties", {}).items():
        yield f"{path}.{key}".strip("."), f"{key} {value.get('description', '')}"
        inner = [value, *value.get("anyOf", ())]
        for reference in (each["$ref"] for each in inner if "$ref" in each):
            yield from keys_of(schema, schema["$defs"][reference.rpartition("/")[2]], f"{path}.{key}")


def test_config_keys_speak_the_terms_of_the_field() -> None:
    schema = json_schema()
    found = dict(keys_of(schema, schema, ""))
    assert len(found) > 60
    assert not {old for old, _ in KEYS} & found.keys()
    assert [word for text in found.values() for word in denied(text)] == []
    judges = [table for name, table in schema["$defs"].items() if name.endswith("Judge")]
    assert [word for table in judges for _, text in keys_of(schema, table, "") for word in denied(text)] == []


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_errors_and_hints_speak_the_terms_of_the_field(path: Path) -> None:
    calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    raised = [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) in ERRORS]
    texts = [literals(argument) for call in raised for argument in call.args]
    if path.name not in MOVED:
        assert [word for text in texts for word in denied(text)] == []


@pytest.mark.parametrize("name", ["demo", "no-certificate"])
def test_reports_speak_the_terms_of_the_field(name: str) -> None:
    report = json.loads((ROOT / "reports" / f"{name}.json").read_text("utf-8"))
    titles = [section["title"] for section in report["sections"]]
    assert titles
    assert not any(title.endswith("?") for title in titles)
    page = (ROOT / "reports" / f"{name}.md").read_text("utf-8")
    prose = re.sub(r"\n## Items\n.*", "", page, flags=re.DOTALL)
    assert list(denied(" ".join(titles))) == []
    assert sorted(set(denied(" ".join(prose.split())))) == []


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_locals_are_named_for_what_they_hold(path: Path) -> None:
    names = {
        node.id
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert not names & {"said", "told", "held", "found", "made"}
