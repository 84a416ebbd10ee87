"""`--batch`: what judges would ask is collected, answered by a Batch API, and found by the usual run.

The judges themselves say what they ask: they are put before an endpoint that answers "pending" to what is
not in the cache, until nothing is pending. A tier asks about all items that the tiers before it did not
decide, and for its whole ensemble: nothing ends early in a batch. No verdict is made here, and nothing is
recorded.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trustescalate.cascade.runner import Cascade, decide_item
from trustescalate.config import OpenAIJudge
from trustescalate.errors import ProviderError
from trustescalate.judges.base import Ask, Backend, Judge, Tariff, all_done
from trustescalate.judges.batch_api import BatchClient, Line
from trustescalate.judges.budget import Budget
from trustescalate.judges.cache import Cache, most_usage, request_key
from trustescalate.judges.completions import Dialect
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.registry import worth_keeping
from trustescalate.records import Channel, Item, Judgment, Reply, Request, Usage
from trustescalate.records.votes import Enough, all_votes

PENDING = "pending"
"""The failure of what is still to be answered. It never leaves this file."""
ROUNDS = 3
"""So many batches may leave one request unanswered."""
TRANSFER = 600.0
"""Seconds that a file may take."""


@dataclass(frozen=True, slots=True)
class Desk:
    """One judge whose questions wait for a batch."""

    name: str
    endpoint: str
    tariff: Tariff
    live: Ask
    client: BatchClient


class Deferred:
    """Questions that wait. `finish_live`: what the first batch leaves unanswered is asked at once.

    The first question to each judge is asked live: it finds a wrong key or model, and what parameters the
    endpoint takes, in seconds and not in a day. What is under way is kept in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        cache: Cache,
        budget: Budget,
        *,
        finish_live: bool,
        notice: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._folder, self._cache, self._budget = folder, cache, budget
        self._finish_live, self._notice, self._sleep = finish_live, notice, sleep
        self._desks: dict[str, Desk] = {}
        self._waiting: dict[str, dict[str, Request]] = {}
        self._failed: dict[str, Reply] = {}
        self._rounds: Counter[str] = Counter()
        self._greeted: set[str] = set()
        self._collecting = False
        self._backends: dict[str, OpenAIBackend] = {}

    def ask(self, table: OpenAIJudge, endpoint: str, tariff: Tariff, live: Ask) -> Ask:
        """What a judge asks in the place of its endpoint, which is `live`, with cache and budget."""
        reached = Endpoint(
            model=table.model,
            base_url=table.base_url,
            api_key_env=table.api_key_env,
            timeout=max(table.timeout, TRANSFER),
            attempts=table.attempts,
            give_up_after=table.give_up_after,
            sleep=self._sleep,
        )
        client = BatchClient(
            table.name, reached, endpoint, self._folder, notice=self._notice, sleep=self._sleep
        )
        self._desks[table.name] = Desk(table.name, endpoint, tariff, live, client)
        self._waiting[table.name] = {}

        async def ask(request: Request) -> Reply:
            key = request_key(endpoint, request)
            known = self._failed.get(key) or self._cache.get(key)
            if known is not None:
                return known
            if not self._collecting:
                return await live(request)
            self._waiting[table.name][key] = request
            return Reply("", None, "stop", Usage(), PENDING)

        return ask

    def seated(self, judges: Sequence[Judge], backends: Mapping[str, Backend]) -> list[Judge]:
        """Judges, those that wait for batches to be asked for whole ensembles, before their backends."""
        self._backends = {
            name: backend for name, backend in backends.items() if isinstance(backend, OpenAIBackend)
        }
        return [WholeJudge(judge) if judge.name in self._desks else judge for judge in judges]

    async def judgments(self, items: Sequence[Item], judges: Sequence[Judge], in_flight: int) -> None:
        """Have answered all that calibration asks of the judges that wait for batches."""
        waiting = [judge for judge in judges if judge.name in self._desks]
        await self._answer_all(lambda: rehearse_judgments(items, waiting, in_flight))

    async def cascade(self, items: Sequence[Item], cascade: Cascade, in_flight: int) -> None:
        """Have answered all that a run asks of them, tier after tier."""
        await self._answer_all(lambda: rehearse_cascade(items, cascade, in_flight))

    async def close(self) -> None:
        """Close the connections."""
        for desk in self._desks.values():
            await desk.client.close()

    async def _answer_all(self, rehearse: Callable[[], Awaitable[None]]) -> None:
        """Rehearse and have answered what was asked, until nothing is pending.

        Batches that were left under way are waited for first. Raises BudgetReached before a batch that may
        cost more than is left, ProviderError where a provider refuses one.
        """
        for desk in self._desks.values():
            async for line in desk.client.resumed():
                self._greeted.add(desk.name)
                self._take(desk, line, Dialect(), 0.0)
        while True:
            self._collecting = True
            await rehearse()
            self._collecting = False
            left_to_live = self._finish_live and self._rounds
            if left_to_live or not any(self._waiting.values()):
                self._waiting = {name: {} for name in self._desks}
                return
            await all_done(self._answer(desk) for desk in self._desks.values())

    async def _answer(self, desk: Desk) -> None:
        waiting, self._waiting[desk.name] = self._waiting[desk.name], {}
        if waiting and desk.name not in self._greeted:
            self._greeted.add(desk.name)
            key = next(iter(waiting))
            reply = await desk.live(waiting.pop(key))
            if reply.failure is not None:
                self._failed[key] = reply
        if not waiting:
            return
        for key in waiting:
            self._rounds[key] += 1
        late = [key for key in waiting if self._rounds[key] > ROUNDS]
        if late:
            raise ProviderError(
                f"{desk.name}: {len(late):,} requests are unanswered after {ROUNDS} batches",
                "--finish-live asks what is left at once, at the full price",
            )
        await self._submit(desk, dict(sorted(waiting.items())))

    async def _submit(self, desk: Desk, waiting: Mapping[str, Request]) -> None:
        reserved: dict[str, float] = {}
        backend = self._backends[desk.name]
        dialect = backend.dialect
        try:
            for key, request in waiting.items():
                most = desk.tariff.cost(replace(most_usage(request), batched=1))
                self._budget.reserve(most)
                reserved[key] = most
            bodies = {key: backend.body(request) for key, request in waiting.items()}
            async for line in desk.client.answers(bodies):
                kept = worth_keeping(waiting[line.key], line.reply)
                self._take(desk, replace(line, reply=kept), dialect, reserved.pop(line.key, 0.0))
        finally:
            for most in reserved.values():
                self._budget.settle(most, 0.0)

    def _take(self, desk: Desk, line: Line, dialect: Dialect, reserved: float) -> None:
        """Put an answer where the run will find it; one that may yet come is left pending."""
        self._budget.settle(reserved, desk.tariff.cost(line.reply.usage))
        if line.reply.failure is None:
            self._cache.put(line.key, line.reply)
            return
        taught = line.answer is not None and self._backends[desk.name].learn(line.answer, dialect)
        if not (line.again or taught):
            self._failed[line.key] = line.reply


class Waiting(Exception):
    """An item cannot go on before its questions are answered."""


class WholeJudge:
    """A judge that is asked for its whole ensemble: a batch was paid for all of it."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """As the judge's."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:  # noqa: ARG002
        """All votes. Raises Waiting while one of them is pending."""
        judgment = await self._judge.judge(item, all_votes)
        if any(vote.failure == PENDING for vote in judgment.votes):
            raise Waiting
        return judgment


async def rehearse_judgments(items: Sequence[Item], judges: Sequence[Judge], in_flight: int) -> None:
    """Let judges ask all that calibration takes of them."""

    async def one(item: Item) -> None:
        for judge in judges:
            try:
                await judge.judge(item, all_votes)
            except Waiting:
                continue

    await _all(items, one, in_flight)


async def rehearse_cascade(items: Sequence[Item], cascade: Cascade, in_flight: int) -> None:
    """Let each item go as far as the answers so far carry it."""

    async def one(item: Item) -> None:
        try:
            await decide_item(item, cascade)
        except Waiting:
            return

    await _all(items, one, in_flight)


async def _all(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], in_flight: int) -> None:
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
