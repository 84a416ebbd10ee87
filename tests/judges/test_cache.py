"""The cache, the budget and recalled judgments."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from trustescalate.errors import BudgetReached, ProviderError, UsageError
from trustescalate.judges.base import forget
from trustescalate.judges.budget import Budget, Spending, admission
from trustescalate.judges.cache import CACHE_SCHEMA, Cache, Guarded, request_key
from trustescalate.judges.recall import RecallingJudge
from trustescalate.records import (
    Item,
    Judgment,
    Message,
    Reply,
    Request,
    Token,
    Usage,
    Vote,
)
from trustescalate.records.jsonl import encode
from trustescalate.records.votes import may_settle

pytestmark = pytest.mark.slow
REPLY = Reply("A", (Token("A", (("A", -0.1), ("B", float("-inf")))),), "stop", Usage(1, 100, 0, 1))


def request(text: str = "hello", sample: int = 0) -> Request:
    return Request((Message("user", text),), ("A", "B"), 16, 0.0, logprobs=True, sample=sample)


# ── the cache ────────────────────────────────────────────────────────────────────────────────────


def test_a_good_reply_is_kept_and_a_failure_is_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    cache = Cache(path)
    assert cache.get("k") is None
    cache.put("k", REPLY)
    cache.put("f", replace(REPLY, failure="timeout"))
    cache.close()
    again = Cache(path)
    assert again.get("k") == REPLY
    assert again.get("f") is None
    again.close()


def test_a_key_is_the_whole_request_and_the_endpoint() -> None:
    keys = {
        request_key(endpoint, asked)
        for endpoint in ("here", "there")
        for asked in (request(), request("hi"), request(sample=1), replace(request(), temperature=1.0))
    }
    assert len(keys) == 8
    assert request_key("here", request()) == request_key("here", request())


def test_a_file_that_is_no_cache_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"this is no database, however long it is" * 100)
    with pytest.raises(UsageError, match=r"cache\.sqlite: not a usable cache") as caught:
        Cache(path)
    assert "remove the file" in caught.value.hint
    with pytest.raises(UsageError, match="not a usable cache"):
        Cache(tmp_path)
    with pytest.raises(UsageError, match="not a usable cache"):
        Cache(path / "below" / "cache.sqlite")


def test_a_cache_of_another_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version={CACHE_SCHEMA + 1}")
    database.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match=f"a cache of schema {CACHE_SCHEMA + 1}"):
        Cache(path)
    assert path.read_bytes() == before


NAN = b'{"text":"A","tokens":[{"text":"A","top":[["A",NaN]]}],"finish":"stop","usage":{"calls":1}}'


@pytest.mark.parametrize(
    "row", ["{", b"\xff\xfe", 5, None, "[]", NAN, encode(Vote(0, "", {"A": 1.0})), encode(REPLY)[:40]]
)
def test_a_row_that_cannot_be_read_is_none_and_is_replaced(tmp_path: Path, row: object) -> None:
    path = tmp_path / "cache.sqlite"
    cache = Cache(path)
    cache.put("k", REPLY)
    cache.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE replies SET record = ?", (row,))
    database.commit()
    database.close()
    cache = Cache(path)
    assert cache.get("k") is None
    cache.put("k", REPLY)
    assert cache.get("k") == REPLY
    cache.close()


def test_a_damaged_page_holds_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    cache = Cache(path)
    for n in range(200):
        cache.put(f"k{n}", replace(REPLY, text="x" * 200))
    cache.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    cache = Cache(path)
    assert cache.get("k8") is None
    cache.put("k8", REPLY)
    assert cache.failed is not None
    assert "remove the file" in cache.failed.hint
    cache.close()


WRITER = """
import sys
from pathlib import Path
from trustescalate.judges.cache import Cache
from trustescalate.records import Reply, Usage
cache = Cache(Path(sys.argv[1]))
for n in range(100):
    cache.put(f"{sys.argv[2]} {n}", Reply(str(n), None, "stop", Usage(1)))
    cache.put(f"all {n}", Reply(str(n), None, "stop", Usage(1)))
cache.close()
"""


@pytest.mark.parametrize("vfs", ["unix", "unix-dotfile"])  # the second as on a disk without shared memory
def test_what_one_process_writes_another_that_is_reading_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vfs: str
) -> None:
    path, connect = tmp_path / "cache.sqlite", sqlite3.connect

    def opened(file: Path, **how: object) -> sqlite3.Connection:
        return connect(f"{file.as_uri()}?vfs={vfs}", uri=True, **{**how, "timeout": 0})  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(sqlite3, "connect", opened)
    one, other = Cache(path), Cache(path)
    for reader, writer in ((one, other), (other, one)):
        writer.put(f"{vfs} first", REPLY)
        assert reader.get(f"{vfs} first") == REPLY
        for key in ("a", "b", "a"):
            writer.put(key, replace(REPLY, text=key))
            assert reader.get(key) == replace(REPLY, text=key)
            writer.forget(key)
        assert (one.failed, other.failed) == (None, None)
    one.close()
    other.close()


def test_processes_share_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stderr=subprocess.PIPE)
        for name in "abcd"
    ]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [b""] * 4
    cache = Cache(path)
    for name in ("a", "b", "c", "d", "all"):
        assert all((cache.get(f"{name} {n}") or REPLY).text == str(n) for n in range(100))
    cache.close()


# ── the budget ───────────────────────────────────────────────────────────────────────────────────


def price(usage: Usage) -> float:
    return usage.input_tokens / 1e6 + usage.output_tokens / 1e6


class Model:
    """Answers when it is let to, and counts."""

    def __init__(self, reply: Reply = REPLY, error: Exception | None = None) -> None:
        self.reply, self.error, self.calls = reply, error, 0

    async def __call__(self, request: Request) -> Reply:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return self.reply


def guarded(
    folder: Path,
    model: Model,
    budget: Budget,
    work: Callable[[Callable[[Request], Awaitable[Reply]]], Awaitable[object]],
) -> object:
    cache = Cache(folder / "cache.sqlite")
    try:
        return asyncio.run(_run(Guarded(model, "here", price, cache, budget), work))
    finally:
        cache.close()


async def _run(
    ask: Callable[[Request], Awaitable[Reply]],
    work: Callable[[Callable[[Request], Awaitable[Reply]]], Awaitable[object]],
) -> object:
    return await work(ask)


def test_spending_passes_the_budget_by_no_more_than_calls_in_flight_cost_above_their_estimate(
    tmp_path: Path,
) -> None:
    billed = Usage(1, 300, 0, 1)
    for usd in (0.0, 0.0005, 0.0031, 0.03):
        model, budget = Model(replace(REPLY, usage=billed)), Budget(usd=usd)
        results = guarded(
            tmp_path / str(usd),
            model,
            budget,
            lambda ask: asyncio.gather(
                *(ask(request(f"{n:03}" * 300)) for n in range(100)), return_exceptions=True
            ),
        )
        assert all(isinstance(result, Reply | BudgetReached) for result in results)  # type: ignore[attr-defined]
        assert model.calls == min(100, int(usd / price(billed) + 1e-9))
        assert budget.spent <= usd


def test_a_call_that_cannot_be_paid_waits_for_those_in_flight(tmp_path: Path) -> None:
    """Estimates of 4,000 tokens would let three calls begin; ten tokens each come, so all can be paid."""
    budget, model = Budget(usd=0.01), Model(replace(REPLY, usage=Usage(1, 10, 0, 10)))
    long = replace(request(), max_tokens=4000)
    asked = [replace(long, messages=(Message("user", f"{n}" * 3000),)) for n in range(100)]
    guarded(tmp_path, model, budget, lambda ask: asyncio.gather(*map(ask, asked)))
    assert model.calls == 100
    assert budget.spent == pytest.approx(100 * 20e-6)


def test_output_is_estimated_by_what_a_judge_wrote() -> None:
    spending = Spending()
    assert spending.expected(3000, 16).output_tokens == 16
    assert spending.expected(3000, 10**6).output_tokens < 1000
    spending.learn(3000, Usage(1, 900, 0, 1200))
    assert spending.expected(3000, 16) == Usage(1, 900, 0, 1200)


def test_nothing_is_set_aside_for_a_call_without_a_slot(tmp_path: Path) -> None:
    """One call fits the budget; 20 wait for the one slot, and are told so when none is left."""
    budget, slot = Budget(usd=5 * 0.000301), asyncio.Lock()
    largest = 0

    async def backend(asked: Request) -> Reply:
        nonlocal largest
        async with slot:
            own = admission.get()
            assert own is not None
            assert own.begin()
            largest = max(largest, budget._in_flight)
            await asyncio.sleep(0)
            return replace(REPLY, usage=Usage(1, 300, 0, 1))

    cache = Cache(tmp_path / "cache.sqlite")

    async def work() -> list[object]:
        ask = Guarded(backend, "here", price, cache, budget, has_slots=True)
        return await asyncio.gather(
            *(ask(request(f"{n:02}" * 400)) for n in range(20)), return_exceptions=True
        )

    results = asyncio.run(work())
    cache.close()
    assert [type(result) for result in results] == [Reply] * 5 + [BudgetReached] * 15
    assert largest == 1


def test_after_an_answer_that_cannot_be_stored_nothing_more_is_asked(tmp_path: Path) -> None:
    cache, model, budget = Cache(tmp_path / "cache.sqlite"), Model(), Budget()
    cache._db.execute("PRAGMA query_only=ON")

    async def work() -> list[object]:
        ask = Guarded(model, "here", price, cache, budget)
        first = await asyncio.gather(*(ask(request(f"{n}")) for n in range(3)))
        then = await asyncio.gather(*(ask(request(f"new {n}")) for n in range(3)), return_exceptions=True)
        return [*first, *then]

    results = asyncio.run(work())
    cache.close()
    assert [type(result) for result in results] == [Reply] * 3 + [UsageError] * 3
    assert model.calls == 3
    assert "not a usable cache" in str(results[-1])


def test_a_reply_without_a_verdict_is_kept_for_this_command_only(tmp_path: Path) -> None:
    model = Model()

    async def work(ask: Callable[[Request], Awaitable[Reply]]) -> None:
        for _ in range(3):
            await ask(request())
            forget(ask, request())

    for calls in (1, 2):
        guarded(tmp_path, model, Budget(), work)
        assert model.calls == calls


def test_the_budget_of_calls_is_exact_and_the_cache_is_free(tmp_path: Path) -> None:
    model, budget = Model(), Budget(calls=7)

    async def work(ask: Callable[[Request], Awaitable[Reply]]) -> list[object]:
        first = await asyncio.gather(*(ask(request(f"{n}")) for n in range(7)))
        again = await asyncio.gather(*(ask(request(f"{n}")) for n in range(8)), return_exceptions=True)
        return [*first, *again]

    results = guarded(tmp_path, model, budget, work)
    assert [type(result) for result in results] == [Reply] * 14 + [BudgetReached]  # type: ignore[attr-defined]
    assert (model.calls, budget.calls) == (7, 7)
    assert budget.spent == pytest.approx(7 * price(REPLY.usage))


def test_a_request_is_paid_once_also_when_asked_at_the_same_time(tmp_path: Path) -> None:
    model, budget = Model(), Budget()
    guarded(tmp_path, model, budget, lambda ask: asyncio.gather(*(ask(request()) for _ in range(20))))
    guarded(tmp_path, model, budget, lambda ask: ask(request()))
    assert (model.calls, budget.calls) == (1, 1)


def test_a_failure_is_paid_and_asked_again(tmp_path: Path) -> None:
    model, budget = Model(replace(REPLY, failure="refused")), Budget()
    for _ in range(2):
        guarded(tmp_path, model, budget, lambda ask: ask(request()))
    assert model.calls == 2
    assert budget.spent == pytest.approx(2 * price(REPLY.usage))


def test_what_was_set_aside_is_released_when_a_call_raises(tmp_path: Path) -> None:
    budget = Budget(usd=0.0001)
    for n in range(20):
        model = Model(error=ProviderError("down"))
        with pytest.raises(ProviderError):
            guarded(tmp_path, model, budget, lambda ask, n=n: ask(request(f"{n:02}")))
    assert budget.spent == 0
    guarded(tmp_path, Model(), budget, lambda ask: ask(request("xx")))


# ── judgments that are recalled ──────────────────────────────────────────────────────────────────


class Voter:
    """A judge with the votes it is given, three sets of two orders; counts how often it is asked."""

    name, fingerprint = "voter", "print"

    def __init__(self, *votes: Vote) -> None:
        self.votes, self.calls = votes, 0
        self.channel: Literal["logprobs", "samples"] = votes[0].channel

    async def judge(self, item: Item, enough: Callable[[Sequence[Vote], int], bool]) -> Judgment:
        self.calls += 1
        seen: tuple[Vote, ...] = ()
        planned = len(self.votes)
        while not (seen and enough(seen, planned)) and len(seen) < planned:
            left = 2 - len(seen) % 2
            alone = seen and left > 1 and may_settle(seen, planned, 1, enough)
            seen = self.votes[: len(seen) + (1 if alone else left)]
        return Judgment(item.id, self.name, self.fingerprint, seen, len(self.votes))


def votes(*, failure: str | None = None, cost: float = 0.25) -> tuple[Vote, ...]:
    """A full ensemble of three sets; the last vote may have failed."""
    orders: tuple[Literal["AB", "BA"], ...] = ("AB", "BA")
    good = [
        Vote(member, order, {"A": 0.5 + member / 10}, usage=Usage(1), cost=cost)
        for member in range(3)
        for order in orders
    ]
    last = good.pop()
    return (*good, last if failure is None else replace(last, probs={}, failure=failure))


def judged(folder: Path, judge: Voter, item: Item, most: int = 6, price: object = None) -> Judgment:
    """What a recalling judge says when so many votes are enough."""
    cache = Cache(folder / "cache.sqlite")
    try:
        recalling = RecallingJudge(judge, cache, price, ("A", "B"))
        assert (recalling.name, recalling.fingerprint, recalling.channel) == ("voter", "print", judge.channel)
        return asyncio.run(recalling.judge(item, lambda seen, planned: len(seen) >= most))
    finally:
        cache.close()


ITEM = Item("q", "2 + 2?", ("4", "5"), "four", "group", {"k": 1})


@pytest.mark.parametrize("first", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("then", [1, 2, 3, 4, 6])
def test_what_is_recalled_is_what_the_judge_would_say(tmp_path: Path, first: int, then: int) -> None:
    judge = Voter(*votes())
    judged(tmp_path, judge, ITEM, first)
    again = judged(tmp_path, judge, replace(ITEM, id="other name", group="other"), then)
    asked_again = judge.calls - 1
    assert again == asyncio.run(judge.judge(replace(ITEM, id="other name"), lambda s, _: len(s) >= then))
    assert asked_again == (max(then, 2) > max(first, 2))


@pytest.mark.parametrize(
    "change", [{"prompt": "2 + 3?"}, {"responses": ("5", "4")}, {"reference": None}, {"meta": {"k": 2}}]
)
def test_another_text_is_judged_anew(tmp_path: Path, change: dict[str, object]) -> None:
    judge = Voter(*votes())
    judged(tmp_path, judge, ITEM)
    judged(tmp_path, judge, replace(ITEM, **change))  # type: ignore[arg-type]
    assert judge.calls == 2


def test_another_judge_price_or_channel_is_not_recalled(tmp_path: Path) -> None:
    judge = Voter(*votes())
    assert judged(tmp_path, judge, ITEM, price={"input": 1}).cost == 1.5
    other = Voter(*votes(cost=1.0))
    assert judged(tmp_path, other, ITEM, price={"input": 4}).cost == 6.0
    sampling = Voter(*(replace(vote, channel="samples") for vote in votes()))
    assert judged(tmp_path, sampling, ITEM, price={"input": 1}).votes[0].channel == "samples"
    assert (judge.calls, other.calls, sampling.calls) == (1, 1, 1)


def test_a_judgment_with_a_failed_vote_is_asked_again(tmp_path: Path) -> None:
    judge = Voter(*votes(failure="timeout"))
    for _ in range(2):
        assert judged(tmp_path, judge, ITEM).votes[-1].failure == "timeout"
    assert judge.calls == 2


@pytest.mark.parametrize(
    "damage",
    [
        {"votes": ()},
        {"planned": 3},
        {"votes": (Vote(0, "AB", {"A": 0.5, "B": 0.75}),)},
        {"votes": (Vote(0, "AB", {"Z": 1.0}),)},
        {"votes": (Vote(0, "AB", {}),)},
    ],
)
def test_a_judgment_with_votes_that_are_none_is_asked_again(
    tmp_path: Path, damage: dict[str, object]
) -> None:
    judge = Voter(*votes())
    good = judged(tmp_path, judge, ITEM)
    cache = Cache(tmp_path / "cache.sqlite")
    (key,) = cache._db.execute("SELECT key FROM judgments").fetchone()
    cache.put_judgment(key, replace(good, **damage))  # type: ignore[arg-type]
    cache.close()
    assert judged(tmp_path, judge, ITEM) == good
    assert judge.calls == 2
