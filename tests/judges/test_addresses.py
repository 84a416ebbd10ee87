"""Several addresses of one judge: the least busy first, a dead one set aside, one model at all of them."""

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.decision_server import decide, first_of
from tests.support.litellm_stand_in import use_stand_in
from tests.support.servers import Body, Canned, FaultServer, coin, completion
from trustescalate.errors import ProviderError
from trustescalate.judges.decision_endpoint import DecisionsBackend
from trustescalate.judges.decisions import decision_request
from trustescalate.judges.litellm import LiteLLMBackend
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.rate_limits import FIRST_PAUSE, LONGEST_PAUSE, Lane, Pace, Turns
from trustescalate.judges.score import ScoreBackend
from trustescalate.records import Item, Message, Reply, Request, Task, TaskKind


def ask(text: str) -> Request:
    return Request((Message("user", text),), ("A", "B"), 16, 0.0, logprobs=True)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def use(urls: list[str], work: Callable[[OpenAIBackend], Awaitable[Any]], **settings: Any) -> Any:
    async def main() -> Any:
        given: dict[str, Any] = {"model": "m", "attempts": 2, "timeout": 5.0, "rng": random.Random(0)}
        backend = OpenAIBackend(base_url=urls, **{**given, **settings})
        try:
            return await work(backend)
        finally:
            await backend.close()

    return asyncio.run(main())


async def ask_all(backend: OpenAIBackend, count: int) -> list[Reply]:
    return await asyncio.gather(*(backend.complete(ask(f"{n}")) for n in range(count)))


def failures(replies: list[Reply]) -> Counter[str | None]:
    return Counter(reply.failure for reply in replies)


# ── the least busy first ─────────────────────────────────────────────────────────────────────────


def test_concurrency_holds_at_each_address_and_both_are_used() -> None:
    with FaultServer(latency=0.01) as one, FaultServer(latency=0.01) as other:
        replies = use([one.url, other.url], lambda backend: ask_all(backend, 80), concurrency=4)
    assert failures(replies) == {None: 80}
    assert (one.stats.peak, other.stats.peak) == (4, 4)
    assert 30 <= one.stats.requests <= 50


def test_the_quicker_address_answers_more() -> None:
    with FaultServer(latency=0.005) as quick, FaultServer(latency=0.05) as slow:
        use([slow.url, quick.url], lambda backend: ask_all(backend, 100), concurrency=4)
    assert quick.stats.requests > 3 * slow.stats.requests > 0


def test_requests_per_minute_hold_over_all_addresses_together() -> None:
    moments: list[float] = []

    def plan(body: Body, nth: int) -> None:
        moments.append(asyncio.get_running_loop().time())

    with FaultServer(plan=plan, latency=0.1) as one, FaultServer(plan=plan, latency=0.1) as other:
        urls = [one.url, other.url]
        use(urls, lambda backend: ask_all(backend, 40), requests_per_minute=3000)
    moments.sort()
    for place, begin in enumerate(moments):
        assert len([when for when in moments[place:] if when < begin + 0.4]) <= 50 * 0.5 + 1
    assert min(one.stats.requests, other.stats.requests) >= 10


# ── a dead address ───────────────────────────────────────────────────────────────────────────────


def test_an_address_that_is_dead_from_the_start_costs_no_request() -> None:
    notices: list[str] = []
    dead = closed_port()
    with FaultServer(latency=0.002) as alive:
        urls = [url_of(dead), alive.url]
        replies = use(
            urls, lambda backend: ask_all(backend, 60), attempts=1, concurrency=8, notice=notices.append
        )
    assert failures(replies) == {None: 60}
    (notice,) = [text for text in notices if "set aside" in text]
    assert url_of(dead) in notice
    assert "refused" in notice


@pytest.mark.parametrize("fault", ["error_500", "html_502", "html_200", "drop", "hang"])
def test_an_address_that_answers_nothing_usable_costs_no_request(fault: str) -> None:
    with FaultServer(plan=lambda body, nth: fault) as broken, FaultServer(latency=0.002) as alive:
        urls = [broken.url, alive.url]
        replies = use(
            urls,
            lambda backend: ask_all(backend, 60),
            attempts=1,
            concurrency=6,
            timeout=0.3,
            give_up_after=0.4,
        )
    assert failures(replies) == {None: 60}
    assert broken.stats.requests < 12, "set aside, and tried again now and then"


def test_an_address_that_dies_with_requests_in_flight_costs_none_and_is_used_again_when_it_is_back() -> None:
    port = closed_port()

    async def work(backend: OpenAIBackend) -> list[Reply]:
        first = FaultServer(latency=0.05, port=port)
        first.__enter__()
        asked = [asyncio.create_task(backend.complete(ask(f"{n}"))) for n in range(200)]
        while not first.stats.active:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(first.__exit__)
        replies = await asyncio.gather(*asked)
        await asyncio.sleep(FIRST_PAUSE)
        with FaultServer(port=port) as second:
            replies += await ask_all(backend, 20)
            assert second.stats.requests > 5
        assert first.stats.requests < 200
        return replies

    with FaultServer(latency=0.01) as alive:
        replies = use([url_of(port), alive.url], work, attempts=1, concurrency=8)
    assert failures(replies) == {None: 220}


def test_all_dead_is_todays_error_with_every_address() -> None:
    urls = [url_of(closed_port()), url_of(closed_port())]
    (reply,) = use(urls, lambda backend: ask_all(backend, 1))
    assert reply.failure == "unreachable"
    assert all(f"connection refused: nothing listens at {url}" in reply.text for url in urls)


def test_a_refused_key_is_named_with_its_address() -> None:
    refusal = Canned(401, {"error": {"message": "who are you?"}})
    with (
        FaultServer(plan=lambda body, nth: refusal) as closed,
        FaultServer(latency=0.02) as alive,
        pytest.raises(ProviderError, match="key is missing or refused") as error,
    ):
        use([alive.url, closed.url], lambda backend: ask_all(backend, 20))
    assert closed.url in error.value.message
    assert alive.url not in error.value.message


def test_a_rate_limited_address_is_not_dead_and_its_pause_is_its_own() -> None:
    empty = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s"}

    def plan(body: Body, nth: int) -> Canned:
        return Canned(200, completion(body, coin(body)), empty)

    with FaultServer(plan=plan) as limited, FaultServer() as free:
        replies = use([limited.url, free.url], lambda backend: ask_all(backend, 40), concurrency=2)
    assert failures(replies) == {None: 40}
    assert limited.stats.requests <= 2


def test_pauses_grow_and_one_request_at_a_time_tries_a_place_that_is_aside() -> None:
    now = 0.0

    async def main() -> tuple[list[float], int]:
        nonlocal now
        turns = Turns([Lane(clock=lambda: now), Lane(clock=lambda: now)], 4, Pace())
        for _ in range(3):
            ticket = await turns.start(0, avoid=(1,))
            turns.report(ticket, False)
            turns.end(ticket, None)
        seen = []
        for _ in range(9):
            seen.append(turns.places[0].aside_until - now)
            now = turns.places[0].aside_until
            ticket = await turns.start(0, avoid=(1,))
            assert ticket.place == 0
            turns.report(ticket, False)
            turns.end(ticket, None)
        now = turns.places[0].aside_until
        tickets = [await turns.start(0) for _ in range(5)]
        return seen, sum(ticket.place == 0 for ticket in tickets)

    seen, trials = asyncio.run(main())
    assert seen == [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(9)]
    assert trials == 1


def kind_of(name: str) -> tuple[Callable[..., Any], dict[str, Any], Request]:
    """A backend, its settings, and a request to it."""
    if name == "litellm":
        return LiteLLMBackend, {"model": "openai/m"}, ask("A?")
    if name == "score":
        pair = (Message("user", "Hi?"), Message("assistant", "Yes."))
        return ScoreBackend, {"model": "m"}, Request(pair, (), 1, 0.0, False)
    task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    item = Item("q", "2 + 2?", ("4", "5"))
    return DecisionsBackend, {"model": "m"}, decision_request([task], item, ("AB",))


@pytest.mark.parametrize("name", ["litellm", "score", "decisions"])
def test_each_kind_of_endpoint_takes_several_addresses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_stand_in(monkeypatch)
    kind, settings, request = kind_of(name)

    def plan(body: Body, nth: int) -> Canned | None:
        if name == "score":
            return Canned(200, {"data": [{"index": 0, "score": 0.5}]})
        return None if name == "litellm" else Canned(200, decide(body, first_of))

    async def main(urls: list[str]) -> list[Reply]:
        backend = kind(base_url=urls, attempts=1, **settings)
        try:
            return await asyncio.gather(*(backend.complete(request) for _ in range(8)))
        finally:
            await backend.close()

    with FaultServer(plan=plan) as alive:
        replies = asyncio.run(main([url_of(closed_port()), alive.url]))
        assert alive.stats.requests == 8
    assert failures(replies) == {None: 8}


# ── one model ────────────────────────────────────────────────────────────────────────────────────


def served(model: str, fingerprint: str = "fp") -> Callable[[Body, int], Canned]:
    def plan(body: Body, nth: int) -> Canned:
        named = {"model": model, "system_fingerprint": fingerprint}
        return Canned(200, {**completion(body, coin(body)), **named})

    return plan


def test_addresses_that_name_different_models_are_an_error() -> None:
    with (
        FaultServer(plan=served("m-1")) as one,
        FaultServer(plan=served("m-2"), latency=0.01) as other,
        pytest.raises(ProviderError, match=r"answers as 'm-1'.* as 'm-2'") as error,
    ):
        use([one.url, other.url], lambda backend: ask_all(backend, 40), concurrency=2)
    assert one.url in error.value.message
    assert other.url in error.value.message
    assert "one model" in (error.value.hint or "")


def test_system_fingerprints_may_differ_and_are_recorded() -> None:
    with FaultServer(plan=served("m", "f1")) as one, FaultServer(plan=served("m", "f2")) as other:
        replies = use([one.url, other.url], lambda backend: ask_all(backend, 40), concurrency=2)
    assert {reply.served for reply in replies} == {"m f1", "m f2"}
