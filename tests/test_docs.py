"""What the documentation shows is what happens: every example is executed."""

import ast
import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trustescalate.data.importers.registry import FORMATS

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "trustescalate").rglob("*.py")
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_HERE = ("git clone", "pip install", "make demo", "make test")
"""Commands that .ci/run itself is, or that need a fresh machine: a README line that starts so is not run."""


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    results = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    """bash and python blocks of a page share one folder; `expect=N` marks one that ends with exit code N."""
    (tmp_path / "calibration_sets").symlink_to(ROOT / "calibration_sets")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{_tools(tmp_path)}:{os.environ['PATH']}"}
    for language, marks, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language not in ("bash", "python") or "no-run" in marks:
            continue
        code = _runnable(text) if language == "bash" else text
        command = (
            ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
        )
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        wanted = re.search(r"expect=(\d+)", marks)
        assert done.returncode == (int(wanted[1]) if wanted else 0), f"{text}\n{done.stdout}\n{done.stderr}"


def test_the_readme_names_every_command_and_exit_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    from trustescalate.cli import app

    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        assert f"`{name}`" in text
    for group in app.registered_groups:
        assert f"`{group.name}`" in text
    for code in (0, 1, 2, 3, 4, 70, 130):
        assert re.search(rf"^\| {code} \|", text, re.MULTILINE), code


def test_the_page_on_imports_names_every_format() -> None:
    text = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    for name, found in FORMATS.items():
        assert f"| `{name}` | {found.about} |" in text


def _runnable(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(NOT_HERE))


def _tools(folder: Path) -> Path:
    tools = folder / "bin"
    tools.mkdir()
    script = tools / "trustescalate"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "cli.py"}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    assert shutil.which("trustescalate", path=str(tools))
    return tools


@pytest.mark.parametrize(
    "path", sorted((ROOT / "trustescalate/stats").glob("*.py")), ids=lambda path: path.stem
)
def test_each_public_function_of_stats_has_an_example(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            said = ast.get_docstring(node) or ""
            assert ">>> " in said, f"{path.name}: {node.name} has no example"
