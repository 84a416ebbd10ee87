"""The benchmarks, which are part of the checkout and not of the package."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
"""Recorded votes on real sets, which a clone does not hold: only tests marked `shared` read them."""


def run_benchmark(module: str, *arguments: object) -> str:
    """What a benchmark prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
