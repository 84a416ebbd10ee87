"""How fast an endpoint is asked: limits of a minute, what it admits at once, and whose turn it is."""

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.servers import Canned, FaultServer
from trustescalate.judges.completions import Answer
from trustescalate.judges.openai import TOGETHER, OpenAIBackend
from trustescalate.judges.rate_limits import MINUTE, Bucket, Lane, Lanes, Pace, Turns
from trustescalate.judges.transport import Call, Route
from trustescalate.records import Message, Reply, Request


def ask(text: str, prefix: str = "") -> Request:
    before = (Message("system", prefix),) if prefix else ()
    return Request((*before, Message("user", text)), ("A", "B"), 16, 0.0, logprobs=True)


# ── limits of a minute ───────────────────────────────────────────────────────────────────────────


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 20_000), st.data())
def test_no_minute_ever_sees_more_than_the_limit(limit: int, data: st.DataObject) -> None:
    """Amounts come at random moments, as soon as they may; what was guessed too high is given back late."""
    bucket, now = Bucket(limit), 0.0
    rng = random.Random(data.draw(st.integers()))
    most = max(1, limit // 2)
    starts: list[tuple[float, int]] = []
    for _ in range(300):
        guess = rng.randint(1, most)
        now += bucket.wait(now, guess)
        assert bucket.wait(now, guess) <= 1e-6
        bucket.take(now, guess)
        used = rng.randint(0, guess)
        bucket.settle(guess, used)
        starts.append((now, used))
        now += rng.choice((0.0, rng.expovariate(1 / 5.0)))
    for place, (begin, _) in enumerate(starts):
        # A hair less than a minute: what starts a minute later to the last bit is in the next one.
        seen = sum(used for when, used in starts[place:] if when < begin + MINUTE - 1e-6)
        assert seen <= limit


@pytest.mark.parametrize("limit", [1, 3, 60, 5_000, 100_000])
def test_a_limit_of_requests_is_used_up_to_the_last(limit: int) -> None:
    bucket, now, done = Bucket(limit), 0.0, 0
    while now < 3 * MINUTE:
        bucket.take(now, 1)
        done += 1
        now += bucket.wait(now, 1) or 1e-9
    assert 0.98 * 3 * limit <= done <= 3 * limit + 1


def test_tokens_are_given_back_when_they_are_counted() -> None:
    pace = Pace(tokens_per_minute=6000)
    pace.take(0.0, 3000)
    before = pace.wait(0.0, 3000)
    pace.settle(3000, 300)
    assert before > 30
    assert pace.wait(0.0, 3000) == pytest.approx(before / 10, rel=0.02)


def test_an_amount_above_the_limit_is_let_through_in_the_end() -> None:
    bucket = Bucket(10)
    bucket.take(0.0, 50)
    assert 60 < bucket.wait(0.0, 50) < math.inf


def test_a_pause_holds_back_and_ends() -> None:
    async def main() -> tuple[float, float]:
        turns = Lane(clock=lambda: 0.0).join(1, Pace())
        ticket = await turns.start(0)
        turns.pause(ticket, 7.0)
        turns.pause(ticket, 3.0)
        turns.end(ticket, None)
        queued = asyncio.create_task(turns.start(0))
        await asyncio.sleep(0)
        waits = turns.places[0].wait(5.0), turns.places[0].wait(8.0)
        queued.cancel()
        return waits

    assert asyncio.run(main()) == (2.0, 0.0)


# ── what may be open at once ─────────────────────────────────────────────────────────────────────


async def window(turns: Turns, requests: int, crowded: Callable[[int], bool | None]) -> None:
    """Open so many requests at once, and end them all."""
    tickets = [await turns.start(0) for _ in range(requests)]
    for place, ticket in enumerate(tickets):
        turns.end(ticket, crowded(place))


def test_a_window_of_refusals_halves_once_and_successes_climb_back() -> None:
    async def main() -> list[float]:
        lane = Lane()
        turns = lane.join(32, Pace())
        seen = [lane.limit]
        await window(turns, 32, lambda place: True)
        seen.append(lane.limit)
        await window(turns, 16, lambda place: place % 2 == 0)
        seen.append(lane.limit)
        for _ in range(40):
            await window(turns, int(lane.limit), lambda place: False)
        seen.append(lane.limit)
        return seen

    assert asyncio.run(main()) == [32, 16, 12.5, 32]


def test_requests_begun_before_a_change_do_not_change_it_again() -> None:
    async def main() -> float:
        lane = Lane()
        turns = lane.join(8, Pace())
        old = [await turns.start(0) for _ in range(8)]
        for ticket in old[:7]:
            turns.end(ticket, True)
        late = [await turns.start(0) for _ in range(7)]
        turns.end(old[7], True)  # the eighth ends the window: halved
        for ticket in late:
            turns.end(ticket, True)  # begun before that
        return lane.limit

    assert asyncio.run(main()) == 4.0


def test_the_limit_never_falls_below_one_and_what_was_cancelled_does_not_count() -> None:
    async def main() -> list[float]:
        lane = Lane()
        turns = lane.join(4, Pace())
        for _ in range(20):
            await window(turns, int(lane.limit), lambda place: True)
        low = lane.limit
        for _ in range(5):
            await window(turns, 1, lambda place: None)
        return [low, lane.limit]

    assert asyncio.run(main()) == [1.0, 1.0]


def test_two_judges_take_turns_and_neither_passes_its_own_limit() -> None:
    async def main() -> tuple[str, int]:
        lane = Lane()
        big, small = lane.join(4, Pace()), lane.join(2, Pace())
        order: list[str] = []
        peak = held = 0

        async def one(name: str, turns: Turns) -> None:
            nonlocal peak, held
            ticket = await turns.start(0)
            order.append(name)
            held += name == "s"
            peak = max(peak, held)
            await asyncio.sleep(0.001)
            held -= name == "s"
            turns.end(ticket, False)

        work = [one("b", big) for _ in range(40)] + [one("s", small) for _ in range(20)]
        await asyncio.gather(*work)
        return "".join(order), peak

    order, peak = asyncio.run(main())
    assert peak == 2
    shares = Counter(order[4:40])  # the first four slots were taken before the other judge came
    assert 0.7 < shares["b"] / shares["s"] < 1.5, order


def test_a_judge_that_waits_for_its_minute_holds_no_slot() -> None:
    async def main() -> list[str]:
        lane = Lane()
        slow, quick = lane.join(1, Pace(requests_per_minute=600)), lane.join(1, Pace())
        order: list[str] = []

        async def one(name: str, turns: Turns) -> None:
            ticket = await turns.start(0)
            order.append(name)
            await asyncio.sleep(0)
            turns.end(ticket, False)

        await asyncio.gather(*(one("slow", slow) for _ in range(2)), *(one("quick", quick) for _ in range(9)))
        return order

    order = asyncio.run(main())
    assert order.index("slow") == 0
    assert order[-1] == "slow"


def test_who_is_cancelled_in_the_queue_or_at_its_turn_takes_nothing_along() -> None:
    async def main() -> bool:
        turns = Lane().join(1, Pace())
        ticket = await turns.start(0)
        queued = [asyncio.create_task(turns.start(0)) for _ in range(3)]
        await asyncio.sleep(0)
        queued[0].cancel()
        turns.end(ticket, False)  # the second has its turn now, and is cancelled before it knows
        queued[1].cancel()
        assert isinstance((await asyncio.gather(*queued, return_exceptions=True))[1], asyncio.CancelledError)
        return queued[2].done()

    assert asyncio.run(asyncio.wait_for(main(), 5))


def test_a_lane_belongs_to_an_endpoint_and_a_key() -> None:
    lanes = Lanes()
    assert lanes.lane("here", "k") is lanes.lane("here", "k")
    assert len({id(lanes.lane(place, key)) for place in ("here", "there") for key in ("k", "l")}) == 4


# ── through the backend ──────────────────────────────────────────────────────────────────────────


def use(
    server: FaultServer, work: Callable[[list[OpenAIBackend]], Awaitable[Any]], *judges: dict[str, Any]
) -> Any:
    """Use backends that share their lanes."""

    async def main() -> Any:
        lanes = Lanes()
        backends = [
            OpenAIBackend(base_url=server.url, lanes=lanes, **{"model": "m", **more}) for more in judges
        ]
        try:
            return await work(backends)
        finally:
            for backend in backends:
                await backend.close()

    return asyncio.run(main())


def test_two_judges_on_one_endpoint_share_what_it_admits() -> None:
    async def work(backends: list[OpenAIBackend]) -> list[Reply]:
        asked = [backend.complete(ask(f"{n}")) for n in range(40) for backend in backends]
        return await asyncio.gather(*asked)

    with FaultServer(latency=0.005) as server:
        replies = use(server, work, {"model": "x", "concurrency": 4}, {"model": "y", "concurrency": 4})
    assert all(reply.failure is None for reply in replies)
    assert server.stats.peak == 4
    halves = [Counter(body["model"] for body in server.stats.bodies[from_:][:40]) for from_ in (0, 40)]
    assert all(15 <= half["x"] <= 25 for half in halves)


class Door:
    """A server that admits so many requests at once, and refuses all others with 429 at no delay."""

    def __init__(self, server: FaultServer, places: int) -> None:
        self.server, self.places = server, places
        self.refused = 0

    def plan(self, body: dict[str, Any], nth: int) -> Canned | None:
        if self.server.stats.active <= self.places:
            return None
        self.refused += 1
        return Canned(429, {"error": {"message": "busy"}}, {"retry-after-ms": "30"})


def test_concurrency_falls_to_what_the_server_admits() -> None:
    async def work(backends: list[OpenAIBackend]) -> list[Reply]:
        return await asyncio.gather(*(backends[0].complete(ask(f"{n}")) for n in range(400)))

    server = FaultServer(latency=0.01)
    door = Door(server, 6)
    server._plan = door.plan
    with server:
        replies = use(server, work, {"concurrency": 48, "attempts": 60})
    assert all(reply.failure is None for reply in replies)
    assert server.stats.requests - door.refused == 400
    assert door.refused < 400, "refused more often than answered"


def test_no_request_beyond_the_limits_is_sent() -> None:
    """The server counts as strictly as a limit can be meant: in every span, not only in a minute."""
    limit, tokens = 3000, 90_000  # a minute: 50 requests and 1,500 tokens a second

    async def work(backends: list[OpenAIBackend]) -> list[Reply]:
        return await asyncio.gather(*(backends[0].complete(ask(f"{n:04} " + "x" * 95)) for n in range(60)))

    moments: list[tuple[float, int]] = []

    def plan(body: dict[str, Any], nth: int) -> None:
        moments.append((asyncio.get_running_loop().time(), len(body["messages"][0]["content"]) // 4 + 1))

    with FaultServer(plan=plan) as server:
        replies = use(server, work, {"requests_per_minute": limit, "tokens_per_minute": tokens})
    assert all(reply.failure is None for reply in replies)
    assert server.stats.requests == 60
    for place, (begin, _) in enumerate(moments):
        for span in (0.2, 0.5, 1.0):
            seen = [used for when, used in moments[place:] if when < begin + span]
            assert len(seen) <= limit / 60 * (span + 0.1) + 1
            assert sum(seen) <= tokens / 60 * (span + 0.1) + 26
    took = moments[-1][0] - moments[0][0]
    assert 1.0 < took < 2.5, "26 tokens a request: a little more than a second in all"


def test_a_used_up_budget_pauses_until_it_is_full_again() -> None:
    """The judge that was told pauses, another one on the same endpoint does not."""
    empty = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "400ms"}
    moments: list[tuple[str, float]] = []

    def plan(body: dict[str, Any], nth: int) -> Canned | None:
        moments.append((body["model"], asyncio.get_running_loop().time()))
        told = body["messages"][0]["content"] == "first"
        return Canned(200, {"choices": [{"message": {"content": "A"}}]}, empty) if told else None

    async def work(backends: list[OpenAIBackend]) -> None:
        await backends[0].complete(ask("first"))
        await asyncio.gather(*(backend.complete(ask("then")) for backend in backends))

    with FaultServer(plan=plan) as server:
        use(server, work, {"model": "x"}, {"model": "y"})
    (_, told), *later = moments
    waited = {model: when - told for model, when in later}
    assert 0.4 <= waited["x"] < 1.5
    assert waited["y"] < 0.3


def test_two_of_a_long_prefix_go_before_the_others() -> None:
    active: list[tuple[str, int]] = []

    def plan(body: dict[str, Any], nth: int) -> None:
        active.append((body["messages"][0]["content"][:1], server.stats.active))

    async def work(backends: list[OpenAIBackend]) -> None:
        asked = [backends[0].complete(ask(f"{n}", letter * size)) for letter, size in LONG for n in range(8)]
        await asyncio.gather(*asked)

    server = FaultServer(plan=plan, latency=0.02)
    with server:
        use(server, work, {"concurrency": 32})
    first = [letter for letter, _ in active[:12]]
    assert sorted(first) == [*"aabb", *"c" * 8], "two of each long prefix, and all of the short one"
    assert len(active) == 24


LONG = (("a", 5000), ("b", 5000), ("c", 100))


def test_a_prefix_whose_first_requests_fail_is_asked_all_the_same() -> None:
    async def work(backends: list[OpenAIBackend]) -> list[Reply]:
        return await asyncio.gather(*(backends[0].complete(ask(f"{n}", "a" * 5000)) for n in range(3)))

    with FaultServer(
        plan=lambda body, nth: Canned(400, "no") if server.stats.requests <= 2 else None
    ) as server:
        replies = use(server, work, {})
    assert [reply.failure for reply in replies] == ["bad_request", "bad_request", None]


class Wire:
    """A transport that takes a moment between writing a request and sending it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def send(self, call: Call, seconds: float) -> Answer:
        assert call.body is not None
        assert seconds > 0
        call.body()
        self.events.append("written")
        await asyncio.sleep(0)
        self.events.append("sent")
        body = {"choices": [{"message": {"content": "A"}}]}
        return Answer(200, {}, json.dumps(body).encode())

    async def close(self) -> None:
        pass


def test_the_first_are_sent_before_the_last_that_waited_for_a_prefix_are_written() -> None:
    async def work() -> tuple[list[str], int]:
        wire = Wire()
        way = Route("here", "here", "", "", (), lambda: wire, "here")
        backend = OpenAIBackend(model="m", concurrency=64, routes=[way])
        tasks = [asyncio.create_task(backend.complete(ask(f"{n}", "a" * 5000))) for n in range(50)]
        await asyncio.sleep(0)
        tasks[10].cancel()  # one that waits
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        return wire.events, sum(isinstance(reply, Reply) and reply.text == "A" for reply in replies)

    events, answered = asyncio.run(work())
    assert events[:4] == ["written", "written", "sent", "sent"]
    assert answered == 49
    assert Counter(events) == {"written": 49, "sent": 49}
    assert "sent" in events[4 : 4 + 3 * TOGETHER]
