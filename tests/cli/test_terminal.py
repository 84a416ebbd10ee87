"""Progress, colour, and the import time of the command line."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command_line import cli
from trustescalate.cli.display import lines
from trustescalate.records.progress import Progress

pytestmark = pytest.mark.slow
HEAVY = ("numpy", "openai", "pandas", "pydantic", "scipy", "sklearn", "torch", "transformers")


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
