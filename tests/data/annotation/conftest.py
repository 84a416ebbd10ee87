"""A page that is really served, by the command that people type."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Serve = Callable[[Path], tuple[str, subprocess.Popen[str]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts `label serve` on the latest queue of a project: its address, and the process."""
    running: list[subprocess.Popen[str]] = []

    def start(config: Path) -> tuple[str, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), "label", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        running.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
