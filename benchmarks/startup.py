"""Measure `trustescalate --help` against a bare typer program. Limit: 1.5 times.

    python -m benchmarks.startup [--runs 12]

CPU seconds of whole processes, in turn, the least of all runs: a busy machine raises the others. On a quiet
one the ratio is below 1.3.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 1.5
BARE = """\
import typer

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def one(name: str = "x") -> None:
    '''One command.'''


@app.command()
def two(name: str = "x") -> None:
    '''Another.'''


app()
"""


def seconds(command: list[str]) -> float:
    """The CPU seconds of one process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


def least(commands: dict[str, list[str]], runs: int) -> dict[str, float]:
    """Run the commands in turn, so that a change of the machine's speed hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    return {name: min(each) for name, each in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        bare = Path(room) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        measured = least(
            {
                "trustescalate --help": [sys.executable, "-m", "trustescalate", "--help"],
                "bare typer --help": [sys.executable, str(bare), "--help"],
            },
            options.runs,
        )
    for name, took in measured.items():
        print(f"{name:<24} {took * 1000:8.0f} ms")
    ratio = measured["trustescalate --help"] / measured["bare typer --help"]
    print(f"ratio {ratio:.2f}, limit {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
