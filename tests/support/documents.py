"""Execute the code blocks of a Markdown page, in order, in one folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(?:<!-- (.*) -->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("pip install", "make ")
"""Commands that need a fresh machine: a line that starts so is not run."""


def run_blocks(page: Path, folder: Path, tools: Path) -> None:
    """Run the bash and python blocks of `page`; each starts in `folder`, with `trustescalate` from `tools`.

    `<!-- expect=N -->` above a block: it ends with exit code N. `<!-- no-run -->`: it is not run.
    """
    path = f"{_install(tools)}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    for marks, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language not in ("bash", "python") or "no-run" in marks:
            continue
        code = "\n".join(line for line in text.splitlines() if not line.startswith(ELSEWHERE))
        shell = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*shell, code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        wanted = re.search(r"expect=(\d+)", marks)
        assert done.returncode == (int(wanted[1]) if wanted else 0), f"{text}\n{done.stdout}\n{done.stderr}"


def _install(tools: Path) -> Path:
    """A folder with `trustescalate` and `python`, to be searched first."""
    tools.mkdir()
    script = tools / "trustescalate"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "cli.py"}" "$@"\n', encoding="utf-8")
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    for file in tools.iterdir():
        file.chmod(0o755)
    assert shutil.which("trustescalate", path=str(tools))
    return tools
