"""Workers that die, hang, or are of another version; workers in this process stand for those of Ray."""

import asyncio
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.endpoints import CANARY, simulated
from tests.support.engines import (
    KEY,
    Fate,
    Mortals,
    project,
    repeated,
    reset,
    wait,
)
from tests.support.litellm_stand_in import use_stand_in
from tests.support.projects import comparable
from tests.support.servers import Body, FaultServer
from trustescalate.cascade.engines import workers
from trustescalate.cascade.engines.protocol import engine_of
from trustescalate.cascade.engines.ray import RayCluster, RayEngine
from trustescalate.cascade.engines.workers import MOST_LOST, Pool
from trustescalate.errors import ConfigError, ProviderError, UsageError
from trustescalate.judges.base import Backend
from trustescalate.judges.completions import Answer
from trustescalate.judges.endpoint import MOST_LOST as MOST_SENT_AGAIN
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.litellm import LiteLLMBackend
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.placement import Notice, Placement
from trustescalate.judges.transport import Call
from trustescalate.records import Message, Reply, Request, Usage

ASKED = Request((Message("user", "A or B?"),), ("A", "B"), 1, 0.0, True)


def seeded(rate: float, seed: int) -> Fate:
    """Workers that end in so many of their calls, before or after the call was made."""
    draw = random.Random(seed)
    return lambda n: draw.choice(["before", "after"]) if draw.random() < rate else None


@pytest.mark.slow
def test_deaths_change_no_decision_and_repeat_only_what_was_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt a request: a call whose worker ended is sent again, and is no attempt."""
    monkeypatch.setenv(KEY, CANARY)
    fates: list[str | None] = []
    fate = seeded(0.1, 3)
    mortals = Mortals(lambda n: fates.append(fate(n)) or fates[-1], pause=0.001)
    runs = []
    with FaultServer(simulated, latency=0.001) as server:
        for name, engine in (("here", None), ("there", mortals)):
            reset(server)
            small = project(tmp_path / name, server, {"attempts": 1}, labelled=20, unlabelled=10, pilot=0)
            runs.append(wait(small.run(engine=engine, uncertified=True)))
    here, there = runs
    assert comparable(there) == comparable(here)
    lost = sum(int(re.findall(r"with (\d+) call", text)[0]) for text in mortals.notices)
    assert min(fates.count("before"), fates.count("after")) > 5
    assert fates.count("after") <= repeated(server) <= lost
    assert set(server.stats.by_body.values()) > {1}


def test_a_lost_call_keeps_its_slot_while_the_endpoint_may_work_on_it() -> None:
    times: list[float] = []

    def plan(body: Body, nth: int) -> None:
        times.append(time.monotonic())

    async def use(placement: Placement, server: FaultServer) -> None:
        backend = OpenAIBackend(model="m", base_url=server.url, place=placement.transport, concurrency=1)
        server._plan, server._latency = plan, 0.2
        await backend.complete(ASKED)
        server._latency = 0.0
        await backend.complete(ASKED)
        await backend.close()

    asked(Mortals(lambda n: "after" if n == 2 else None), use)
    assert len(times) == 3
    assert times[2] - times[1] > 0.15, "as long as the first one took"


def asked(mortals: Mortals, use: Callable[[Placement, FaultServer], Awaitable[Any]]) -> Any:
    """Use a placement, and a server."""

    async def main() -> Any:
        with mortals.open(0, lambda _: None) as placement:
            return await use(placement, server)

    with FaultServer() as server:
        return wait(main())


def reply_of(mortals: Mortals, server_requests: list[int], **settings: Any) -> Reply:
    async def use(placement: Placement, server: FaultServer) -> Reply:
        async def at_once(_: float) -> None:
            await asyncio.sleep(0)

        backend = OpenAIBackend(
            model="m", base_url=server.url, place=placement.transport, sleep=at_once, **settings
        )
        reply = await backend.complete(ASKED)
        await backend.close()
        server_requests.append(server.stats.requests)
        return reply

    reply: Reply = asked(mortals, use)
    return reply


def test_a_call_whose_workers_always_end_fails_in_the_end() -> None:
    mortals, requests = Mortals(lambda n: "before"), list[int]()
    reply = reply_of(mortals, requests, attempts=3)
    assert (reply.failure, reply.text) == ("unreachable", "the worker that sent the call ended")
    assert mortals.calls == 3 + MOST_SENT_AGAIN
    assert requests == [0]


def test_a_call_waits_for_a_worker_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Mortals(lambda n: "before" if n <= 2 else None, pause=0.05)
    assert reply_of(late, []).failure is None
    monkeypatch.setattr(workers, "SENDER_PATIENCE", 0.02)
    never = Mortals(lambda n: "before", pause=60.0)
    with pytest.raises(ProviderError, match=r"none came back within 0\.02 s"):
        reply_of(never, [], attempts=2)


def test_a_worker_that_hangs_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE", 0.05)
    monkeypatch.setattr(workers, "CLOSING", 0.05)
    mortals = Mortals(lambda n: "hang" if n == 1 else None)
    assert reply_of(mortals, [], timeout=0.1).failure is None
    assert (mortals.calls, mortals.revived) == (2, 1)


def test_calls_go_to_the_least_busy_worker() -> None:
    asked: list[int] = []

    class Slow:
        def __init__(self, number: int) -> None:
            self.number = number

        async def call(self, method: str, *given: Any) -> Any:
            asked.append(self.number)
            await asyncio.sleep(0.05 if len(asked) == 1 else 0)

        async def revive(self) -> None: ...

    async def main() -> None:
        pool = Pool([Slow(0), Slow(1), Slow(2)], lambda _: None, 1.0)
        slow = asyncio.create_task(pool.call("m"))
        await asyncio.sleep(0)
        for _ in range(4):
            await pool.call("m")
        await slow
        for _ in range(3):
            await pool.call("m")

    wait(main())
    assert asked == [0, 1, 2, 1, 2, 0, 1, 2]


def test_litellm_is_reached_through_workers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_in(monkeypatch)
    monkeypatch.setenv(KEY, CANARY)
    mortals = Mortals(lambda n: "before" if n == 1 else None)

    async def use(placement: Placement, server: FaultServer) -> Reply:
        backend = LiteLLMBackend(
            model="openai/m", base_url=server.url, api_key_env=KEY, place=placement.transport
        )
        reply = await backend.complete(ASKED)
        await backend.close()
        assert server.stats.headers[0]["authorization"] == f"Bearer {CANARY}"
        return reply

    assert asked(mortals, use).failure is None
    assert mortals.calls == 2


def test_what_cannot_be_written_is_not_sent() -> None:
    async def use(placement: Placement, server: FaultServer) -> tuple[Answer, int]:
        endpoint = Endpoint(model="m", base_url=server.url, place=placement.transport)
        call = Call("POST", "/chat/completions", "\ud800".encode)
        _, answer = await endpoint.exchange(call, lambda _: None)
        await endpoint.close()
        return answer, server.stats.requests

    answer, requests = asked(Mortals(), use)
    assert (answer.failure, requests) == ("bad_request", 0)


def test_what_goes_into_a_file_is_fetched_by_this_process(tmp_path: Path) -> None:
    mortals, into = Mortals(lambda n: "before"), tmp_path / "results"

    async def use(placement: Placement, server: FaultServer) -> None:
        endpoint = Endpoint(model="m", base_url=server.url, place=placement.transport)
        body = b'{"messages": [{"role": "user", "content": "x"}]}'
        call = Call("POST", "/chat/completions", lambda: body, into=into)
        await endpoint.exchange(call, lambda _: ("read", 0))
        await endpoint.close()

    asked(mortals, use)
    assert b"choices" in into.read_bytes()


# ── models ───────────────────────────────────────────────────────────────────────────────────────


class Model:
    """A model that says what it is asked, and that it was loaded."""

    identity = "weights 1"

    def __init__(self, notice: Notice) -> None:
        notice("loaded")

    async def complete(self, request: Request) -> Reply:
        if request.max_tokens == 13:
            raise ProviderError("it broke", "mend it")
        return Reply(request.messages[0].content, None, "stop", Usage(1))


def broken(notice: Notice) -> Backend:
    raise ConfigError("no such model", "name another")


def test_a_model_is_held_by_each_worker_and_loaded_again_after_a_death() -> None:
    heard: list[str] = []
    mortals = Mortals(lambda n: "before" if n % 2 else None, workers=3)

    async def use(placement: Placement, _: FaultServer) -> None:
        model = placement.model("j", Model, heard.append, 1)
        assert model.identity == Model.identity  # type: ignore[attr-defined]
        for _ in range(5):
            assert (await model.complete(ASKED)).text == "A or B?"

    asked(mortals, use)
    assert len(mortals.notices) == 5
    assert heard == ["loaded"], "once for all copies"


def test_a_request_that_ends_each_of_its_workers_fails_alone() -> None:
    mortals = Mortals(lambda n: "before" if n <= MOST_LOST else None)

    async def use(placement: Placement, _: FaultServer) -> None:
        model = placement.model("j", Model, lambda _: None, 1)
        reply = await model.complete(ASKED)
        assert (reply.failure, str(MOST_LOST) in reply.text) == ("unreachable", True)
        assert (await model.complete(ASKED)).failure is None

    asked(mortals, use)


def test_errors_of_a_model_are_raised_here() -> None:
    async def use(placement: Placement, _: FaultServer) -> None:
        with pytest.raises(ConfigError, match="no such model") as raised:
            placement.model("j", broken, lambda _: None, 1)
        assert raised.value.hint == "name another"
        model = placement.model("j", Model, lambda _: None, 1)
        with pytest.raises(ProviderError, match="it broke") as later:
            await model.complete(Request(ASKED.messages, (), 13, 0.0, False))
        assert later.value.hint == "mend it"

    asked(Mortals(), use)


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(placement: Placement, server: FaultServer) -> None:
        Endpoint(model="m", base_url=server.url, place=placement.transport)

    monkeypatch.setattr(workers.Worker, "version", _old)
    with pytest.raises(ProviderError, match=r"a worker has trustescalate 0\.0\.1") as raised:
        asked(Mortals(), use)
    assert "on every node" in raised.value.hint


async def _old(_: Any) -> str:
    return "0.0.1"


# ── engines by name ──────────────────────────────────────────────────────────────────────────────


def test_engines_are_named_or_refused() -> None:
    with pytest.raises(UsageError, match="unknown engine 'spark'"):
        engine_of("spark")
    with pytest.raises(UsageError, match="is that of a Ray cluster"):
        engine_of("local", "auto")
    with pytest.raises(UsageError, match="is no address"):
        engine_of("ray", "ray://head:10001")
    assert isinstance(engine_of("ray", "10.0.0.1:6379"), RayEngine)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as raised, engine_of("ray").open(0, lambda _: None):
        pass
    assert raised.value.hint == "pip install 'trustescalate[ray]'"


class FakeRay:
    """Ray, as far as workers are placed: it notes with which options."""

    exceptions = SimpleNamespace(
        **dict.fromkeys(("ActorDiedError", "ActorUnschedulableError", "RayActorError"), OSError),
        **dict.fromkeys(("WorkerCrashedError", "NodeDiedError", "ObjectLostError"), OSError),
    )

    def __init__(self, *nodes: dict[str, float]) -> None:
        self._nodes, self.options_given = nodes, list[dict[str, Any]]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "NodeID": f"{n}", "Resources": each} for n, each in enumerate(self._nodes)]

    def remote(self, of: type) -> Any:
        return self

    def options(self, **given: Any) -> Any:
        self.options_given.append(given)
        return SimpleNamespace(remote=lambda: None)


@pytest.mark.parametrize(
    ("nodes", "models", "gpus", "wanted"),
    [
        ([8.0], 1, 1, [1.0] * 8),  # a copy on each GPU
        ([8.0], 3, 1, [1.0] * 2),  # the share of each of three judges
        ([4.0, 4.0], 1, 4, [4, 4]),  # four GPUs a copy
        ([4.0, 4.0], 1, None, [4, 4]),  # all GPUs of a machine a copy
        ([1.0], 2, 1, [0.5]),  # two judges share one GPU
        ([2.0], 3, 1, [0.666]),
    ],
)
def test_models_share_the_gpus(
    nodes: list[float], models: int, gpus: int | None, wanted: list[float]
) -> None:
    ray = FakeRay(*({"CPU": 16.0, "GPU": each} for each in nodes))
    RayCluster(ray, models).holders("j", gpus)
    assert [given["num_gpus"] for given in ray.options_given] == wanted
    assert all(given["max_restarts"] == -1 for given in ray.options_given)
