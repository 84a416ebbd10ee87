"""The Ray engine on a cluster of two nodes on this machine: contract, deaths, limits, and what is left."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray.cluster_utils import Cluster

from tests.support import engines
from tests.support.benchmarks import run_benchmark
from tests.support.endpoints import CANARY, judges, simulated
from tests.support.engines import CONCURRENCY, KEY, Clocked, project, repeated, reset
from tests.support.projects import comparable, write_project
from tests.support.servers import FaultServer
from trustescalate.cascade.engines.protocol import engine_of
from trustescalate.cascade.engines.ray import RayEngine
from trustescalate.errors import UsageError
from trustescalate.project import Project
from trustescalate.records import Run

pytestmark = pytest.mark.filterwarnings("ignore")
KILLS = 10
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """No telemetry, and one key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv(KEY, CANARY)
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes, each a process of its own; this process is not connected to them."""
    two = Cluster(initialize_head=True, head_node_args=NODE)
    two.add_node(**NODE)
    yield two
    two.shutdown()


def raylets_of(nodes: Iterable[Any]) -> list[int]:
    """The process of each node that starts its workers."""
    return [info.process.pid for node in nodes for info in node.all_processes.get("raylet", ())]


def workers_of(raylets: Collection[int]) -> list[int]:
    """The processes of the workers that these started, and that send calls or hold models."""
    return sorted(pid for pid, parent, name in processes() if parent in raylets and "ray::Worker" in name)


def processes() -> Iterator[tuple[int, int, str]]:
    """All processes of this machine: id, parent, and the first word of the command line."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = re.split(r"[\0 ]", (path / "cmdline").read_text("utf-8", "replace"))[0]
            yield int(path.name), int((path / "stat").read_text().rpartition(")")[2].split()[1]), name


def end(node: Any) -> None:
    """End a node with all its workers at once, as when a machine fails."""
    raylets = raylets_of([node])
    for pid in (*raylets, *workers_of(raylets)):
        os.kill(pid, signal.SIGKILL)


def figures(text: str) -> None:
    """Show what was counted; pytest -s prints it."""
    sys.stderr.write(f"\n{text}\n")


def lost_in(text: str) -> int:
    """The calls in flight at all losses that a command speaks of."""
    return sum(map(int, re.findall(r"a worker was lost, with (\d+) calls? in flight", text)))


class Bench:
    """A certified project behind a server that takes its time, and its run in this process."""

    def __init__(self, folder: Path, server: FaultServer) -> None:
        self.folder, self.server = folder, server
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "_latency", 0.0)
            fresh = project(folder / "fresh", server, unlabelled=120, pilot=0)
            engines.wait(fresh.calibrate())
            shutil.copytree(folder / "fresh", folder / "here")
            reset(server)
            self.here = engines.wait(Project.open(folder / "here" / "trustescalate.toml").run())
        self.calls = server.stats.requests
        assert self.calls > 200

    def begin(self, name: str, *options: str) -> "Running":
        """Run the project once more, in a process of its own."""
        shutil.copytree(self.folder / "fresh", self.folder / name)
        reset(self.server)
        return Running(self.folder / name / "trustescalate.toml", "run", *options)

    def run_of(self, name: str) -> Run:
        return Project.open(self.folder / name / "trustescalate.toml").load_run()

    def when(self, requests: int, act: Callable[[], None], running: "Running") -> None:
        """Do something when so many requests have come."""
        while self.server.stats.requests < requests:
            assert running.process.poll() is None, running.ended()
            time.sleep(0.001)
        act()


class Running:
    """A command of the command line in a process of its own."""

    begun: ClassVar[list["Running"]] = []

    def __init__(self, config: Path, command: str, *options: str) -> None:
        words = [sys.executable, "-m", "trustescalate", command, "--config", str(config), *options]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.begun.append(self)

    def ended(self, seconds: float = 120.0) -> tuple[int, str]:
        """Its exit code and what it printed."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out + err


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with FaultServer(simulated, latency=0.02) as server:
        yield Bench(tmp_path_factory.mktemp("bench"), server)


@pytest.fixture(autouse=True)
def _none_goes_on() -> Iterator[None]:
    """End what a failed test left."""
    yield
    for running in Running.begun:
        if running.process.poll() is None:
            running.process.kill()
            running.ended()
    Running.begun.clear()


# ── the contract ─────────────────────────────────────────────────────────────────────────────────


def test_the_decisions_are_those_of_this_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.decides_as_this_process(engine_of("ray", cluster.address), tmp_path, monkeypatch)


def test_errors_are_those_of_this_process(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.fails_as_this_process(engine_of("ray", cluster.address), tmp_path, monkeypatch)


def test_the_rate_is_kept(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engines.keeps_to_the_rate(engine_of("ray", cluster.address), tmp_path, monkeypatch)


def test_local_models_vote_as_in_this_process(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("torch").set_num_threads(1)
    tables = engines.tiny_models(tmp_path)
    engines.holds_models_as_this_process(engine_of("ray", cluster.address), tmp_path, tables)


# ── deaths ───────────────────────────────────────────────────────────────────────────────────────


def test_workers_that_are_killed_at_random_moments_change_nothing(cluster: Cluster, bench: Bench) -> None:
    draw = random.Random(15)
    moments = sorted(draw.sample(range(5, bench.calls - 5), KILLS))
    running = bench.begin("killed", "--engine", "ray", "--address", cluster.address)
    in_flight: list[int] = []

    def kill() -> None:
        while not (alive := workers_of(raylets_of(cluster.list_all_nodes()))):
            time.sleep(0.001)
        in_flight.append(bench.server.stats.active)
        os.kill(draw.choice(alive), signal.SIGKILL)

    for moment in moments:
        bench.when(moment, kill, running)
    code, text = running.ended()
    assert code == 0, text
    assert len(in_flight) == KILLS
    assert comparable(bench.run_of("killed")) == comparable(bench.here)
    figures(f"{KILLS} kills: {lost_in(text)} calls in flight, {sum(in_flight)} at the server,")
    figures(f"{repeated(bench.server)} of {bench.calls} repeated, {bench.server.stats.peak} at one time")
    assert repeated(bench.server) <= lost_in(text) <= KILLS * CONCURRENCY
    assert bench.server.stats.requests == bench.calls + repeated(bench.server)
    assert bench.server.stats.peak <= CONCURRENCY


def test_a_node_that_ends_changes_nothing(bench: Bench) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        other = cluster.add_node(**NODE)
        running = bench.begin("node", "--engine", "ray", "--address", cluster.address)
        own: list[list[int]] = []

        def fail() -> None:
            own.extend(workers_of(raylets_of([node])) for node in cluster.list_all_nodes())
            end(other)

        bench.when(bench.calls // 3, fail, running)
        code, text = running.ended()
    finally:
        cluster.shutdown()
    assert code == 0, text
    assert "2 nodes" in text
    assert [len(workers) for workers in own] == [1, 1], "a worker a node"
    assert comparable(bench.run_of("node")) == comparable(bench.here)
    figures(f"a node ended: {lost_in(text)} calls in flight, {repeated(bench.server)} repeated")
    assert 0 < lost_in(text) <= CONCURRENCY
    assert repeated(bench.server) <= lost_in(text)
    assert bench.server.stats.peak <= CONCURRENCY


def test_no_minute_has_more_requests_than_the_limit(cluster: Cluster, tmp_path: Path) -> None:
    """Over more than a minute, and with a worker killed in between: calls sent again count as well."""
    clocked, limit = Clocked(), 240
    with FaultServer(simulated, clocked, latency=0.05) as server:
        limited = {"requests_per_minute": float(limit), "concurrency": CONCURRENCY}
        tables = judges(server, **limited).rpartition("[[judges]]")[0]  # one judge has one limit
        config = write_project(tmp_path, tables, labelled=30, unlabelled=50, pilot=0)
        running = Running(config, "run", "--uncertified", "--engine", "ray", "--address", cluster.address)
        for moment in (60, 150):
            while len(clocked.times) < moment:
                assert running.process.poll() is None, running.ended()
                time.sleep(0.01)
            alive = workers_of(raylets_of(cluster.list_all_nodes()))
            os.kill(alive[moment % len(alive)], signal.SIGKILL)
        code, text = running.ended()
    assert code == 0, text
    assert clocked.times[-1] - clocked.times[0] > 60
    most = clocked.most_within(60)
    figures(f"{len(clocked.times)} requests, at most {most} in a minute, limit {limit}")
    assert 0.9 * limit < most <= limit


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_resumes_and_pays_nothing_twice(
    cluster: Cluster, bench: Bench, sign: signal.Signals
) -> None:
    where = ("--engine", "ray", "--address", cluster.address)
    running = bench.begin(sign.name, *where)
    bench.when(bench.calls // 2, lambda: os.killpg(running.process.pid, sign), running)
    code, text = running.ended()
    assert code == (130 if sign == signal.SIGINT else -sign)
    if sign == signal.SIGINT:
        assert f"--engine ray --address {cluster.address} --resume" in text.replace("\n", " ")
    (decided,) = (bench.folder / sign.name / "runs").glob("*/decisions.jsonl")
    assert 0 < len(decided.read_text("utf-8").splitlines()) < 120
    before = bench.server.stats.requests
    code, text = Running(
        bench.folder / sign.name / "trustescalate.toml", "run", "--resume", "latest", *where
    ).ended()
    assert code == 0, text
    assert comparable(bench.run_of(sign.name)) == comparable(bench.here)
    figures(f"{sign.name} after {before} of {bench.calls} calls: {repeated(bench.server)} calls repeated")
    assert repeated(bench.server) <= CONCURRENCY


# ── a cluster for one command ────────────────────────────────────────────────────────────────────


def of_ray() -> set[int]:
    """The processes of Ray on this machine, but for its agents, which end a minute after their node."""
    return {
        pid
        for pid, _, name in processes()
        if (name.startswith("ray::") or name.endswith(("raylet", "gcs_server"))) and "Agent" not in name
    }


@pytest.mark.parametrize("sign", [None, signal.SIGKILL])
def test_a_cluster_of_its_own_is_for_this_machine_alone_and_ends(
    bench: Bench, sign: signal.Signals | None, tmp_path: Path
) -> None:
    """It listens at the loopback interface, keeps no key and prints one line."""
    before = of_ray()
    running = bench.begin(f"own-{sign}", "--engine", "ray")
    listening: list[str] = []

    def look() -> None:
        own = of_ray() - before
        lines = subprocess.run(
            ["ss", "-ltnpH"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        of_own = [line for line in lines if own & set(map(int, re.findall(r"pid=(\d+)", line)))]
        listening.extend(line.split()[3] for line in of_own)
        if sign is not None:
            os.kill(running.process.pid, sign)

    bench.when(bench.calls // 3, look, running)
    code, text = running.ended()
    assert code == (0 if sign is None else -sign), text
    assert len(listening) > 3
    assert {place.rpartition(":")[0].strip("[]").removeprefix("::ffff:") for place in listening} <= {
        "127.0.0.1",
        "::1",
    }
    end = time.monotonic() + 20
    while of_ray() - before:
        assert time.monotonic() < end, "its processes go on"
        time.sleep(0.1)
    if sign is None:
        notes = [
            line for line in text.splitlines() if "ray" in line.casefold() and "trustescalate" not in line
        ]
        assert notes == [f"note: Ray: 1 node, {os.cpu_count()} CPUs"]
        assert comparable(bench.run_of("own-None")) == comparable(bench.here)
    newest = max(Path("/tmp/ray").glob("session_2*"), key=lambda path: path.stat().st_mtime)
    files = [path for path in newest.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, bench: Bench) -> None:
    started = time.monotonic()
    code, text = bench.begin("nobody", "--engine", "ray", "--address", "127.0.0.1:9").ended()
    assert code == 3, text
    assert "there is no Ray cluster at 127.0.0.1:9" in text
    assert "Traceback" not in text
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", "user:password@host:6379", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        RayEngine(address)


def test_the_benchmark_gives_the_cost_beside_the_local_engine() -> None:
    text = run_benchmark("engines", "--calls", 100, "--runs", 1)
    figures(text)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith(("local", "ray"))}
    assert [rows[name][1] for name in ("local", "ray")] == ["100", "100"]
    ratio = re.search(r"Ray ÷ local: speed (\d\.\d\d)", text)
    assert ratio
    assert 0.1 < float(ratio[1]) < 3
