"""Measure what the Ray engine costs beside the local one, on the same work.

    python -m benchmarks.engines [--calls 2000] [--runs 3] [--check]

Needs `ray` in this environment. The work is that of `benchmarks.api`: `trustescalate run` against a server
that answers after 50 ms ± 20 %, 64 requests at once. Ray runs on this machine, with two workers. The speed is
taken at the server, from the first request to the last answer, so the seconds in which Ray starts and ends
are in `wall s` alone. CPU and memory are those of the process that decides, without Ray's. Rows take turns,
and medians are printed. `--check`: exit code 1 if a limit is missed.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from benchmarks.api import SCENARIOS, Measured, measure, medians, row, write_project
from benchmarks.api_server import served

ENGINES = ("local", "ray")
LEAST_SPEED = 0.5
"""Of the local engine's, on two cores that all processes of Ray share with the server."""


def compare(calls: int, runs: int) -> dict[str, Measured]:
    """Both engines, in turns, each time with a fresh project and an empty cache."""
    scenario = SCENARIOS[0]
    timed: dict[str, list[Measured]] = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory() as room, served(scenario.latency) as server:
        for turn in range(runs):
            for name in ENGINES:
                command = write_project(Path(room) / f"{turn} {name}", calls, scenario, server.url)
                timed[name].append(measure([*command, "--engine", name], server))
    return {name: medians(each) for name, each in timed.items()}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time the Ray engine beside the local one.")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a limit is missed")
    options = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("ray is not installed: pip install 'trustescalate[ray]'")
        return 2
    timed = compare(options.calls, options.runs)
    print(f"{'':<26} {'calls':>6} {'calls/s':>8} {'of limit':>8} {'CPU-s/1k':>9} {'MB':>6} {'wall s':>7}")
    for name, measured in timed.items():
        print(row(name, measured, SCENARIOS[0]))
    local, ray = timed["local"], timed["ray"]
    ratios = {
        "speed": ray.speed / local.speed,
        "CPU of the process that decides": ray.cpu / local.cpu,
        "the whole command, Ray's start included": ray.wall / local.wall,
    }
    print("Ray ÷ local:", ", ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items()))
    missed = ray.speed < LEAST_SPEED * local.speed
    if missed:
        print(f"MISSED: {ray.speed / local.speed:.2f} of the local engine's speed, not {LEAST_SPEED}")
    return int(missed and options.check)


if __name__ == "__main__":
    sys.exit(main())
