"""A run that is killed, interrupted, out of budget or contended, and what is left of it afterwards.

Processes are forked from one that has imported everything, so that twenty of them take seconds.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import Forks
from tests.support.endpoints import judges, simulated
from tests.support.projects import comparable, write_project
from tests.support.servers import Body, FaultServer, canonical
from trustescalate.cascade.run_writer import to_ask_again
from trustescalate.errors import UsageError
from trustescalate.project import Project

pytestmark = pytest.mark.slow
CONCURRENCY = 3
KILLS = 20


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks") / "said.txt") as started:
        yield started


class World:
    """A calibrated project behind a server that takes its time, and the same run uninterrupted."""

    def __init__(self, folder: Path, server: FaultServer) -> None:
        self.server, self.fresh = server, folder / "fresh"
        text = judges(server, concurrency=CONCURRENCY)
        write_project(self.fresh, text, pilot=0, unlabelled=60, min_coverage=0.2)
        asyncio.run(Project.open(self.fresh / "trustescalate.toml").calibrate())
        self.other = self.copy(folder / "whole")
        self.whole = asyncio.run(Project.open(self.other).run())
        self.calls = server.stats.requests
        assert self.calls > 150
        assert self.repeated == 0
        self.config = self.other

    def copy(self, folder: Path) -> Path:
        """The calibrated project once more, and a server that has counted nothing."""
        shutil.copytree(self.fresh, folder)
        self.server._latency = 0.005
        self.server.stats.by_body.clear()
        self.server.stats.bodies.clear()
        self.server.stats.requests = 0
        return folder / "trustescalate.toml"

    @property
    def repeated(self) -> int:
        """Requests beyond the first with the same body."""
        return sum(times - 1 for times in self.server.stats.by_body.values())

    def until(self, requests: int, seconds: float = 20.0) -> None:
        """Wait until so many requests have come."""
        end = time.monotonic() + seconds
        while self.server.stats.requests < requests:
            assert time.monotonic() < end, "the run made no progress"
            time.sleep(0.001)

    def last(self) -> str:
        return Project.open(self.config).run_ids()[-1]

    def must_equal(self, forks: Forks) -> None:
        """The resumed run is the uninterrupted one, but for its name, its time and its command."""
        resumed = Project.open(self.config).load_run()
        assert comparable(resumed) == comparable(self.whole)
        codes = [forks("gate", "--json", "--config", config)[0] for config in (self.config, self.other)]
        assert codes[0] == codes[1] == 0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with FaultServer(simulated) as server:
        yield World(tmp_path_factory.mktemp("resume"), server)


@pytest.fixture
def world(base: World, tmp_path: Path) -> World:
    base.config = base.copy(tmp_path / "project")
    return base


def test_twenty_kills_repeat_at_most_what_was_in_flight(world: World, forks: Forks) -> None:
    rng = random.Random(20)
    moments = sorted(rng.sample(range(5, world.calls - 10), KILLS))
    decided, target = 0, "latest"
    for place, moment in enumerate(moments):
        known = world.repeated
        begin = ["run", "--config", world.config]
        process = forks.start(*begin, *(["--resume", target] if place else []))
        world.until(moment + known)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process, signal.SIGKILL)
        assert forks.end()[0] == -signal.SIGKILL
        assert world.repeated <= place * 2 * CONCURRENCY, "more was repeated than was in flight"
        run = Project.open(world.config).load_run()
        assert len(run.decisions) >= decided
        decided = len(run.decisions)
        assert run.header.status == "running"
    code, said = forks("run", "--config", world.config, "--resume", "latest")
    assert code == 0, said
    assert len(Project.open(world.config).run_ids()) == 1
    assert world.repeated <= KILLS * 2 * CONCURRENCY
    assert len(world.server.stats.by_body) == world.calls
    world.must_equal(forks)


def test_kills_of_runs_that_ask_again_what_got_no_answer(world: World, forks: Forks) -> None:
    """The first answers to every fourth request are no completion; what is resumed is killed."""
    world.server._plan = lambda body, nth: "html_200" if hash(canonical(body)) % 4 == 0 and nth < 4 else None
    try:
        for place in range(5):
            process = forks.start("run", "--config", world.config, *(["--resume", "latest"] if place else []))
            world.until(world.server.stats.requests + 30)
            os.kill(process, signal.SIGKILL)
            assert forks.end()[0] == -signal.SIGKILL
            assert Project.open(world.config).load_run().header.status == "running"
            assert forks("gate", "--config", world.config)[0] == 3
    finally:
        world.server._plan = lambda body, nth: None
    code, said = forks("run", "--config", world.config, "--resume", "latest")
    assert code == 0, said
    resumed = Project.open(world.config).load_run()
    assert len(resumed.decisions) == len(world.whole.decisions)
    assert not to_ask_again(resumed)
    assert forks("gate", "--config", world.config)[0] == 0


def test_kills_of_an_uncertified_run_lose_nothing(world: World, forks: Forks) -> None:
    begin = ["run", "--uncertified", "--threshold", "small=0.8", "--config"]
    for place in range(3):
        asked = world.server.stats.requests
        process = forks.start(*begin, world.config, *(["--resume", "latest"] if place else []))
        world.until(asked + 30)
        os.kill(process, signal.SIGKILL)
        assert forks.end()[0] == -signal.SIGKILL
        stopped = Project.open(world.config).load_run()
        assert (stopped.header.status, stopped.uncertified) == ("running", True)
    code, said = forks("run", "--config", world.config, "--resume", "latest")
    assert code == 0, said
    assert world.repeated <= 3 * 2 * CONCURRENCY
    apart = world.config.parent / "apart"
    shutil.copytree(world.fresh, apart)
    assert forks(*begin, apart / "trustescalate.toml")[0] == 0
    resumed, whole = (
        Project.open(config).load_run() for config in (world.config, apart / "trustescalate.toml")
    )
    assert comparable(resumed) == comparable(whole)


def test_a_folder_that_cannot_be_written_is_exit_2_and_asks_nothing(world: World, forks: Forks) -> None:
    runs = world.config.parent / "runs"
    runs.write_text("no folder")
    code, said = forks("run", "--config", world.config)
    assert (code, "error: " in said, world.server.stats.requests) == (2, True, 0), said
    runs.unlink()
    assert forks("run", "--config", world.config)[0] == 0
    world.must_equal(forks)


def test_ctrl_c_is_130_and_says_how_to_go_on(world: World, forks: Forks) -> None:
    process = forks.start("run", "--config", world.config)
    world.until(40)
    os.kill(process, signal.SIGINT)
    code, said = forks.end()
    assert code == 130, said
    assert "error: interrupted; all answers so far are kept" in said
    assert f"hint: resume with `trustescalate run --config {world.config} --resume {world.last()}`" in said
    assert Project.open(world.config).load_run().header.status == "stopped"
    assert forks("gate", "--config", world.config)[0] == 3
    assert forks("run", "--config", world.config, "--resume", world.last())[0] == 0
    assert world.repeated <= 2 * CONCURRENCY
    world.must_equal(forks)


def test_ctrl_c_during_calibration_goes_on_too(world: World, forks: Forks) -> None:
    (world.config.parent / "certificate.json").unlink()
    (world.config.parent / ".trustescalate/cache.sqlite").unlink()
    process = forks.start("calibrate", "--config", world.config)
    world.until(30)
    os.kill(process, signal.SIGINT)
    code, said = forks.end()
    assert code == 130, said
    assert f"hint: resume with `trustescalate calibrate --config {world.config}`" in said
    assert not (world.config.parent / "certificate.json").exists()
    assert forks("calibrate", "--config", world.config)[0] == 0
    assert world.repeated <= 2 * CONCURRENCY


@pytest.mark.parametrize("flag", ["--budget-calls=110", "--budget-usd=0.1"])
def test_a_budget_is_exit_4_never_exceeded_and_resumable(world: World, forks: Forks, flag: str) -> None:
    code, said = forks("run", "--config", world.config, flag)
    assert code == 4, said
    assert f"resume with `trustescalate run --config {world.config} --resume {world.last()}`" in said
    spent = sum(map(_price, world.server.stats.bodies))
    assert world.server.stats.requests <= 110 if "calls" in flag else spent <= 0.1
    assert world.server.stats.requests > 20
    for _ in range(60):
        code, said = forks("run", "--config", world.config, "--resume", world.last(), flag)
        if code != 4:
            break
    assert code == 0, said
    assert world.repeated == 0
    world.must_equal(forks)


def _price(body: Body) -> float:
    """What the server bills for a body."""
    tokens = sum(len(message["content"]) for message in body["messages"]) // 4 + 1
    return tokens * (0.05 if body["model"] == "XS" else 5.0) / 1e6


def test_two_processes_on_one_run(world: World, forks: Forks) -> None:
    world.server._latency = 0.05
    process = forks.start("run", "--config", world.config)
    world.until(10)
    with pytest.raises(UsageError, match="another process is writing this run"):
        asyncio.run(Project.open(world.config).run(resume="latest"))
    os.kill(process, signal.SIGKILL)
    forks.end()
    world.server._latency = 0.0
    assert forks("run", "--config", world.config, "--resume", "latest")[0] == 0
    world.must_equal(forks)


def test_a_torn_line_is_mended_by_the_next_process(world: World, forks: Forks) -> None:
    process = forks.start("run", "--config", world.config)
    world.until(100)
    os.kill(process, signal.SIGKILL)
    forks.end()
    folder = world.config.parent / "runs" / world.last()
    for name in ("decisions.jsonl", "judgments.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b'{"item_id": "torn \xe2')
    code, said = forks("gate", "--json", "--config", world.config)
    assert code == 3, said
    assert forks("run", "--config", world.config, "--resume", "latest")[0] == 0
    assert b"torn" not in (folder / "decisions.jsonl").read_bytes()
    world.must_equal(forks)
