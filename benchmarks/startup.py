"""Measure `trustescalate --help` against a bare typer program. Limit: 1.3 times.

    python -m benchmarks.startup [--runs 15]

Whole processes, in turn, medians of wall time. `import trustescalate` is compared with an empty interpreter.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.3
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
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def medians(commands: dict[str, list[str]], runs: int) -> dict[str, float]:
    """Run the commands in turn, so that a change of the machine's speed hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            took = seconds(command)
            if run:
                times[name].append(took)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        bare = Path(room) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        found = medians(
            {
                "trustescalate --help": [sys.executable, "-m", "trustescalate", "--help"],
                "bare typer --help": [sys.executable, str(bare), "--help"],
                "import trustescalate": [sys.executable, "-c", "import trustescalate"],
                "empty interpreter": [sys.executable, "-c", "pass"],
            },
            options.runs,
        )
    for name, took in found.items():
        print(f"{name:<24} {took * 1000:8.0f} ms")
    ratio = found["trustescalate --help"] / found["bare typer --help"]
    print(f"ratio {ratio:.2f}, limit {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
