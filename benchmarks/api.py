"""Measure how close to an endpoint's limit judges are called, and what a call costs this machine.

    python -m benchmarks.api [--calls 2000] [--runs 3] [--peer-python PATH]… [--check]

A server in a process of its own answers after 50 ms ± 20 % (then 200 ms), and as many requests as
`concurrency` may be open at once, so no client can be faster than concurrency / latency. Rows:
`trustescalate run`, the whole product with its cache and run log; the openai client as its own documentation
uses it; and the runners of other tools, each by the first PATH whose environment has it; one that is missing
is named and left out; `make peers` makes one with all, .venv-peers. Then judgments are recalled from the
cache, a fifth of them and all.

The speed is taken at the server, from the first request to the last answer; CPU seconds and peak memory are
those of the whole process, start included. Rows take turns, and medians are printed. `--check`: exit code 1
if a limit is missed.
"""

import argparse
import asyncio
import compileall
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.api_clients import CLIENTS
from benchmarks.api_server import BETTER, ROOT, Server, serve, served
from trustescalate.cascade.runner import collect_judgments
from trustescalate.judges.cache import Cache
from trustescalate.judges.prompts import Order
from trustescalate.judges.recall import RecallingJudge
from trustescalate.records import Channel, Item, Judgment, Usage, Vote
from trustescalate.records.votes import Enough

LABELLED, PILOT = 60, 10
MEMBERS = 5
VOTES = 2 * MEMBERS
ORDERS: tuple[Order, ...] = ("AB", "BA")
CHANNEL: Channel = "logprobs"

# ── who asks ─────────────────────────────────────────────────────────────────────────────────────


def item(number: int, size: int) -> dict[str, object]:
    """A pair of which one response is marked; six of these and the wording make a prompt of about 6 KB."""
    rng = random.Random(number)
    words = " ".join(rng.choice(WORDS) for _ in range(size // 6))
    half = len(words) // 2
    pair = [words[:half], words[half:]]
    pair[number % 2] += f" {BETTER}"
    return {"id": f"item {number}", "prompt": f"Question {number}: which of these?", "responses": pair}


WORDS = ("alpha", "bravo", "delta", "gamma", "kappa", "sigma", "theta", "omega", "north", "south")
CONFIG = """\
version = 1

[guarantee]
alpha = 0.2
delta = 0.2
path = "common"
pilot = {pilot}

[ensemble]
annotators = {members}
shots = 5

[[judges]]
name = "loopback"
backend = "openai"
model = "m"
base_url = "{url}/v1"
concurrency = {concurrency}
price = {{ input = 1.0, output = 1.0, cached_input = 0.1 }}
"""


def write_project(folder: Path, calls: int, scenario: "Scenario", url: str, size: int = 750) -> list[str]:
    """A project of that many votes, certified on a few rows; gives the command to be timed."""
    folder.mkdir(parents=True)
    rows = [item(n, size) for n in range(LABELLED + PILOT + calls // (2 * scenario.members))]
    notes = [{"item_id": rows[n]["id"], "annotator": "ann", "label": "AB"[n % 2]} for n in range(LABELLED)]
    for name, lines in (("items.jsonl", rows), ("annotations.jsonl", notes)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    config = folder / "trustescalate.toml"
    config.write_text(
        CONFIG.format(members=scenario.members, pilot=PILOT, url=url, concurrency=scenario.concurrency),
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "trustescalate"]
    calibrate = [*command, "calibrate", "--config", str(config)]
    done = subprocess.run(calibrate, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"the benchmark's own project was not certified: {done.stderr.decode()}")
    return [*command, "run", "--config", str(config)]


# ── a re-run ─────────────────────────────────────────────────────────────────────────────────────

RERUN = 30_000
"""Judgments a second that a re-run must recall."""
GROWTH = 1.1
"""Limit on the growth of memory with five times as many judgments."""


def rerun(judgments: int) -> list[str]:
    """Recall a fifth of the judgments and then all, each from a cache and in a process of its own."""
    print(f"\n{'a re-run from the cache':<26} {'a CPU-s':>9} {'a second':>9} {'MB':>6}")
    missed, memory, speed = [], [], 0.0
    with tempfile.TemporaryDirectory() as name:
        for count in (judgments // 5, judgments):
            where = ["--again", str(Path(name) / str(count)), str(count)]
            command = [sys.executable, "-m", "benchmarks.api", *where]
            subprocess.run([*command, "--fill"], cwd=ROOT, check=True)
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            speed, wall, megabytes = map(float, done.stdout.split())
            what = f"{count:,} of {VOTES} votes"
            print(f"{what:<26} {speed:>9,.0f} {wall:>9,.0f} {megabytes:>6.0f}", flush=True)
            memory.append(megabytes)
    if speed < RERUN:
        missed.append(f"{speed:,.0f} judgments a CPU second from the cache, not {RERUN:,}")
    if memory[1] > GROWTH * memory[0]:
        missed.append(f"{memory[1]:.0f} MB for {judgments:,} judgments, {memory[0]:.0f} for a fifth of them")
    return missed


class Stream(Sequence[Item]):
    """Items that are made when they are asked for, so that memory shows the judges' part alone."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if place >= self._count:
            raise IndexError(place)
        text = f"{place} " + BETTER * 20
        return Item(str(place), f"Question {place}?", (text, text[::-1]))


class Ready:
    """A judge that has its votes at hand, to fill a cache with."""

    name, fingerprint, channel = "m", "print", CHANNEL

    async def judge(self, item: Item, _: Enough) -> Judgment:
        """A full ensemble."""
        votes = (
            Vote(member, order, {"A": 0.9, "B": 0.05, "tie": 0.01}, "A", usage=Usage(1, 1500, 1024, 1))
            for member in range(MEMBERS)
            for order in ORDERS
        )
        return Judgment(item.id, self.name, self.fingerprint, tuple(votes), VOTES)


class Never(Ready):
    """The same judge when nothing may be asked."""

    async def judge(self, item: Item, _: Enough) -> Judgment:
        raise AssertionError(f"{item.id} was not recalled")


def again(folder: Path, count: int, *, fill: bool) -> int:
    """Full ensembles on that many items, as `calibrate` asks them; prints judgments a second and peak MB.

    One thread does all the work, so judgments a CPU second are what a machine with nothing else to do shows.
    """
    cache, seen = Cache(folder / "cache.sqlite"), 0

    def collect(judgment: Judgment) -> None:
        nonlocal seen
        seen += len(judgment.votes) == VOTES

    judge = RecallingJudge(Ready() if fill else Never(), cache, None, ("A", "B", "tie"))
    began, used = time.perf_counter(), time.process_time()
    asyncio.run(collect_judgments(Stream(count), [judge], collect=collect, in_flight=64))
    used, took = time.process_time() - used, time.perf_counter() - began
    cache.close()
    if seen != count:
        raise AssertionError(f"{seen} of {count} judgments are whole")
    if not fill:
        print(count / used, count / took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return 0


# ── measuring ────────────────────────────────────────────────────────────────────────────────────


class Scenario(NamedTuple):
    """The latency of the server, and the targets of `trustescalate run`: share of the limit, CPU per 1,000.

    The votes of an item are asked one after the other where one may decide, so items fill the places, and
    must be more than these: with `members` exemplar sets, 2,000 calls are 1,000 / members items.
    """

    latency: float
    concurrency: int
    members: int
    share: float
    cpu: float | None

    @property
    def limit(self) -> float:
        """Calls a second that nobody can pass."""
        return self.concurrency / self.latency


SCENARIOS = (Scenario(0.05, 64, MEMBERS, 0.90, 1.2), Scenario(0.2, 256, 2, 0.80, None))


class Measured(NamedTuple):
    """One process: calls it made, seconds between the first request and the last answer, CPU, memory."""

    calls: int
    seconds: float
    cpu: float
    megabytes: float
    wall: float

    @property
    def speed(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def cpu_per_thousand(self) -> float:
        """CPU seconds of the whole process per 1,000 calls."""
        return 1000 * self.cpu / self.calls


def measure(command: list[str], server: Server) -> Measured:
    """Run a process to its end."""
    server.stats()
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    if status:
        raise SystemExit(f"{command[:3]} failed: {said.decode()[-800:]}")
    seen = server.stats()
    took, cpu = seen["last"] - seen["first"], used.ru_utime + used.ru_stime
    return Measured(int(seen["requests"]), took, cpu, used.ru_maxrss / 1024, wall)


def medians(each: list[Measured]) -> Measured:
    """The middle of each figure."""
    return Measured(
        each[0].calls, *(statistics.median(column) for column in list(zip(*each, strict=True))[1:])
    )


def commands(room: Path, calls: int, scenario: Scenario, url: str, peers: list[str]) -> dict[str, list[str]]:
    """The commands to run, by the name of the row."""
    prompts = room / "prompts.json"
    texts = [
        f"{n} " + " ".join(str(item(6 * n + k, 900)["responses"]) for k in range(6)) for n in range(calls)
    ]
    prompts.write_text(json.dumps(texts), encoding="utf-8")
    found = {}
    for name in peers:
        script = room / f"ask_{CLIENTS[name][0]}.py"
        script.write_text(CLIENTS[name][1], encoding="utf-8")
        found[name] = [str(script), str(prompts), url, str(scenario.concurrency)]
    return found


def compare(scenario: Scenario, calls: int, runs: int, pythons: dict[str, str]) -> dict[str, Measured]:
    """All rows, in turns. Each of our runs has a fresh project and an empty cache."""
    found: dict[str, list[Measured]] = {}
    with tempfile.TemporaryDirectory() as name, served(scenario.latency) as server:
        room = Path(name)
        others = commands(room, calls, scenario, server.url, list(pythons))
        for turn in range(runs):
            command = write_project(room / str(turn), calls, scenario, server.url)
            found.setdefault("trustescalate run", []).append(measure(command, server))
            for other, arguments in others.items():
                found.setdefault(other, []).append(measure([pythons[other], *arguments], server))
    return {name: medians(each) for name, each in found.items()}


def row(name: str, measured: Measured, scenario: Scenario) -> str:
    """One line of the table."""
    return (
        f"{name:<26} {measured.calls:>6} {measured.speed:>8.0f} {measured.speed / scenario.limit:>8.2f}"
        f" {measured.cpu_per_thousand:>9.2f} {measured.megabytes:>6.0f} {measured.wall:>7.1f}"
    )


def misses(scenario: Scenario, ours: Measured) -> list[str]:
    """The targets that `trustescalate run` missed."""
    found = []
    if ours.speed < scenario.share * scenario.limit:
        found.append(f"{ours.speed / scenario.limit:.2f} of the limit, not {scenario.share}")
    if scenario.cpu is not None and ours.cpu_per_thousand > scenario.cpu:
        found.append(f"{ours.cpu_per_thousand:.2f} CPU-s per 1,000 calls, not {scenario.cpu}")
    return found


def find_peers(interpreters: list[str]) -> dict[str, str]:
    """For each client an interpreter that has it. Says which are not installed."""
    pythons = {}
    for name, (package, _) in CLIENTS.items():
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        for python in interpreters:
            if subprocess.run([python, "-c", probe], check=False).returncode == 0:
                pythons[name] = python
                break
        else:
            print(f"{name}: {package} is not installed")
    return pythons


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time the way to an endpoint, beside other ways.")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer-python", action="append", default=[], help="one that has other tools")
    parser.add_argument("--judgments", type=int, default=100_000, help="of the re-run; 0 leaves it out")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a limit is missed")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--again", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return 0
    if options.again is not None:
        return again(Path(options.again[0]), int(options.again[1]), fill=options.fill)
    missed = []
    compileall.compile_dir(ROOT / "trustescalate", quiet=1)  # as an installer does
    pythons = find_peers([sys.executable, *options.peer_python])
    for scenario in SCENARIOS:
        at_once = f"{scenario.concurrency} at once"
        print(f"\n{scenario.latency * 1000:.0f} ms, {at_once}: at most {scenario.limit:.0f} calls/s")
        print(f"{'':<26} {'calls':>6} {'calls/s':>8} {'of limit':>8} {'CPU-s/1k':>9} {'MB':>6} {'wall s':>7}")
        found = compare(scenario, options.calls, options.runs, pythons)
        for name, measured in found.items():
            print(row(name, measured, scenario), flush=True)
        missed += misses(scenario, found["trustescalate run"])
    if options.judgments:
        missed += rerun(options.judgments)
    print(*(f"MISSED: {miss}" for miss in missed), sep="\n")
    return int(bool(missed) and options.check)


if __name__ == "__main__":
    sys.exit(main())
