"""What every engine must do, and workers in this process that die when they are told to."""

import asyncio
import json
import pickle
import time
import tomllib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.endpoints import CANARY, judges, simulated
from tests.support.projects import comparable, write_project
from tests.support.servers import Body, Canned, FaultServer
from trustescalate.cascade.engines.protocol import Engine
from trustescalate.cascade.engines.workers import Lost, Remote, Worker, Workers
from trustescalate.config import parse_config
from trustescalate.errors import ProviderError
from trustescalate.judges.placement import HERE, Notice, Placement
from trustescalate.judges.registry import open_backend
from trustescalate.project import Project
from trustescalate.records import Message, Reply, Request, Run
from trustescalate.records.progress import Hooks

CONCURRENCY = 6
KEY = "JUDGE_KEY"
TASK = {"kind": "pairwise", "question": "Which is better?"}
T = TypeVar("T")


class Clocked:
    """A plan without faults that notes when each request came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, body: Body, nth: int) -> str | Canned | None:
        self.times.append(time.monotonic())
        return None

    def most_within(self, seconds: float) -> int:
        """The most requests in any stretch of so many seconds."""
        first = most = 0
        for last, now in enumerate(self.times):
            while self.times[first] <= now - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


def repeated(server: FaultServer) -> int:
    """Requests beyond the first with the same body."""
    return sum(times - 1 for times in server.stats.by_body.values())


def reset(server: FaultServer) -> None:
    """Let a server count from nothing."""
    server.stats.by_body.clear()
    server.stats.requests = server.stats.peak = 0


def project(folder: Path, server: FaultServer, judge: dict[str, Any] | None = None, **more: Any) -> Project:
    """A small project with two judges behind the server, a key and a limit of `CONCURRENCY` each.

    Its clock stands still, so that two of them write the same.
    """
    text = judges(server, **{"concurrency": CONCURRENCY, "api_key_env": KEY, **(judge or {})})
    config = write_project(folder, text, **{"labelled": 45, "unlabelled": 20, "alpha": 0.4, **more})
    return Project.open(config, Hooks(clock=lambda: datetime(2026, 1, 2, tzinfo=UTC)))


def certified_run(project: Project, engine: Engine | None) -> Run:
    """Calibrate and run."""

    async def both() -> Run:
        certificate = await project.calibrate(engine=engine)
        assert certificate.status == "certified", certificate.reason
        return await project.run(engine=engine)

    return asyncio.run(both())


# ── the contract ─────────────────────────────────────────────────────────────────────────────────


def decides_as_this_process(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same certificate, votes, decisions and report, with as many calls, within the same limits."""
    monkeypatch.setenv(KEY, CANARY)
    with FaultServer(simulated, latency=0.002) as server:
        here = certified_run(project(folder / "here", server), None)
        calls = server.stats.requests
        reset(server)
        there = certified_run(project(folder / "there", server), engine)
        assert server.stats.requests == calls
    assert there.header.certificate == here.header.certificate
    assert comparable(there) == comparable(here)
    assert 1 < server.stats.peak <= CONCURRENCY
    assert {headers["authorization"] for headers in server.stats.headers} == {f"Bearer {CANARY}"}
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []


def fails_as_this_process(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused key ends a command with the same words, and leaves no certificate."""
    monkeypatch.setenv(KEY, CANARY)
    refusal = Canned(401, {"error": {"message": f"the key {CANARY} is unknown"}})
    texts = []
    with FaultServer(plan=lambda body, nth: refusal) as server:
        for name, used in (("here", None), ("there", engine)):
            with pytest.raises(ProviderError) as raised:
                certified_run(project(folder / name, server), used)
            texts.append((raised.value.message, raised.value.hint))
            assert not (folder / name / "certificate.json").exists()
    assert texts[0] == texts[1]
    assert CANARY not in str(texts)


def keeps_to_the_rate(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more requests a second than the judges may send, for all workers together."""
    monkeypatch.setenv(KEY, CANARY)
    clocked, per_second, judged = Clocked(), 200, 2
    with FaultServer(simulated, clocked) as server:
        limited = {"requests_per_minute": 60.0 * per_second}
        asyncio.run(project(folder, server, limited).calibrate(engine=engine))
    most = judged * per_second
    assert len(clocked.times) > most
    assert clocked.most_within(1.0) <= 1.2 * most, "of both judges, as they arrive"
    assert clocked.times[-1] - clocked.times[0] > 0.95 * len(clocked.times) / most


def answers_as_this_process(engine: Engine, tables: str) -> None:
    """Local models give the same replies, down to the last bit."""
    asked = [
        Request((Message("user", f"{text}\nVerdict:"),), ("A", "B"), 1, 0.0, True)
        for text in ("Is 7 even?", "Is 8 even? Say A.", "A long one: " + "word " * 200)
    ]
    config = parse_config({"version": 1, "task": TASK, **tomllib.loads(tables)}, Path("t.toml"))

    async def replies(placement: Placement) -> list[Reply]:
        models = [open_backend(table, lambda _: None, placement=placement) for table in config.judges]  # type: ignore[arg-type]
        answers = await asyncio.gather(*(model.complete(each) for model in models for each in asked))
        for model in models:
            await model.close()  # type: ignore[attr-defined]
        return answers

    async def placed() -> list[Reply]:
        with engine.open(len(config.judges), lambda _: None) as placement:
            return await replies(placement)

    here, there = asyncio.run(replies(HERE)), asyncio.run(placed())
    assert there == here
    assert len({f"{reply.text} {reply.tokens}" for reply in here}) == len(here)
    assert not any(reply.failure for reply in here)


def holds_models_as_this_process(engine: Engine, folder: Path, tables: str) -> None:
    """A run with local models has the same votes, down to the last bit."""
    runs = []
    for name, used in (("here", None), ("there", engine)):
        config = write_project(folder / name, tables, labelled=8, unlabelled=4, pilot=0)
        runs.append(asyncio.run(Project.open(config).run(engine=used, uncertified=True)))
    rows = [
        {(row.judge, row.item_id): (row.fingerprint, row.planned, row.votes) for row in run.judgments}
        for run in runs
    ]
    assert rows[0] == rows[1]
    votes = [vote for row in runs[0].judgments for vote in row.votes]
    assert len({str(vote.probs) for vote in votes}) > 10
    assert not any(vote.failure for vote in votes)


# ── workers in this process ──────────────────────────────────────────────────────────────────────

Fate = Callable[[int], str | None]
"""What happens in the n-th call of all: "before" it or "after" it the worker ends, or it "hang"s."""


class Mortal:
    """A worker whose calls and results are pickled, as between processes, and that may end."""

    def __init__(self, cluster: "Mortals") -> None:
        self._cluster = cluster
        self._worker, self._lives = Worker(), 0

    def wait(self, method: str, *given: Any) -> Any:
        """Call a method that waits for nothing."""
        try:
            self._begun(method, given).send(None)
        except StopIteration as done:
            return pickle.loads(pickle.dumps(done.value))
        raise AssertionError(f"{method} waits")

    async def call(self, method: str, *given: Any) -> Any:
        """Call a method, unless the worker ends."""
        if method == "close":
            return await self._begun(method, given)
        self._cluster.calls += 1
        fate = self._cluster.fate(self._cluster.calls)
        if fate == "before":
            self._end()
        if fate == "hang":
            await asyncio.Event().wait()
        life = self._lives
        result = await self._begun(method, given)
        if fate == "after":
            self._end()
        if life != self._lives:  # ended by another call
            raise Lost
        return pickle.loads(pickle.dumps(result))

    async def revive(self) -> None:
        """Start again, with nothing in memory."""
        await asyncio.sleep(self._cluster.pause)
        self._cluster.revived += 1
        for opener in (*self._worker._transports, *self._worker._models):
            await self._worker.close(opener)
        self._worker = Worker()

    def _end(self) -> None:
        self._lives += 1
        raise Lost

    def _begun(self, method: str, given: tuple[Any, ...]) -> Any:
        return getattr(self._worker, method)(*pickle.loads(pickle.dumps(given)))


class Mortals:
    """A cluster of such workers, and the engine that opens it."""

    def __init__(self, fate: Fate = lambda n: None, *, workers: int = 2, pause: float = 0.0) -> None:
        self.fate, self.workers, self.pause = fate, workers, pause
        self.calls = self.revived = 0
        self.notices: list[str] = []

    @contextmanager
    def open(self, models: int, notice: Notice) -> Iterator[Placement]:
        """A placement in these workers."""
        workers = Workers(self, lambda text: (self.notices.append(text), notice(text))[1])
        yield workers
        workers.end()

    def senders(self) -> Sequence[Remote]:
        """Workers that send calls."""
        return [Mortal(self) for _ in range(self.workers)]

    def holders(self, judge: str, gpus: int | None) -> Sequence[Remote]:
        """Workers that hold a model."""
        return self.senders()

    def wait(self, remotes: Sequence[Remote], method: str, *given: Any) -> list[Any]:
        """Call a method of several workers."""
        return [remote.wait(method, *given) for remote in remotes if isinstance(remote, Mortal)]


def tiny_models(folder: Path, **more: Any) -> str:
    """Two tiny models in a folder, and the tables of their judges: one reads verdicts, one scores."""
    from tests.support.tiny_models import TEMPLATE, save_model, save_speaking_model

    long = {"max_position_embeddings": 4096}
    save_speaking_model(folder / "causal")
    save_model(folder / "reward", TEMPLATE, head="ForSequenceClassification", num_labels=1, **long)
    kinds = (("local", "causal"), ("reward", "reward"))
    tables = []
    for backend, name in kinds:
        fields = {"name": name, "backend": backend, "model": str(folder / name), "batch_size": 1, **more}
        tables.append("".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
    return "".join(f"[[judges]]\n{table}" for table in tables)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)
