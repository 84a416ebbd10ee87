"""The examples run offline, as their pages say, on data that their script writes."""

import ast
import asyncio
import importlib.util
import inspect
import json
import shutil
from pathlib import Path

import pytest

from tests.support.documents import ROOT, run_blocks

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/trustescalate.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_runs_as_its_page_says(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLES / name, tmp_path / name)
    run_blocks(folder / "README.md", folder, tmp_path / "tools")
    assert list(folder.glob("runs/*/decision.json"))


def test_the_page_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in FOLDERS if f"[{name}]({name}/README.md)" not in text] == []


def test_the_data_is_what_the_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_data", EXAMPLES / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, rows in script.files().items():
        lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == rows, name


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code cells, in order and in one namespace, inside a running event loop as in Jupyter."""
    monkeypatch.chdir(shutil.copytree(EXAMPLES, tmp_path / "examples"))
    notebook = json.loads(Path("notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]

    async def execute() -> None:
        namespace: dict[str, object] = {}
        for place, source in enumerate(cells):
            code = compile(source, f"cell {place}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, namespace)
            if inspect.isawaitable(result):
                await result

    asyncio.run(execute())
