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


ADAPTERS = """
import atexit, sys
atexit.register(lambda: print(*[name for name in sys.modules if "trustescalate.integrations" in name]))
sys.argv = ["trustescalate", "--help"]
import trustescalate
[getattr(trustescalate, name) for name in trustescalate.__all__]
from trustescalate.cli import main
main()
"""


def test_neither_help_nor_any_public_name_loads_an_adapter() -> None:
    """So none loads a host: only the adapters import hosts (tests/test_architecture.py)."""
    ended = subprocess.run([sys.executable, "-c", ADAPTERS], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1].split() == []
