"""What the command line imports."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
HEAVY = ("numpy", "openai", "pandas", "pydantic", "scipy", "sklearn", "torch", "transformers")


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
