"""Collect the requests of judges, send them to a Batch API, and cache the answers for the run.

Judges run as usual, through an endpoint that replies "pending" to requests not in the cache, until nothing is
pending. Each tier judges all items that earlier tiers did not decide, with its whole ensemble: no ensemble
stops early in a batch. This module reaches no verdict and records nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trustescalate.cascade.runner import Cascade, decide_item
from trustescalate.config import ChatTable, LiteLLMJudge
from trustescalate.errors import ProviderError
from trustescalate.judges.base import Ask, Backend, Judge, Tariff, all_done
from trustescalate.judges.batch_api import BatchClient, Line
from trustescalate.judges.budget import Budget
from trustescalate.judges.cache import Cache, Guarded, request_key
from trustescalate.judges.completions import Answer, Dialect
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.registry import worth_keeping
from trustescalate.records import Channel, Item, Judgment, Reply, Request, Usage
from trustescalate.records.votes import Enough, all_votes

PENDING = "pending"
"""The failure of a request without an answer yet; it never leaves this module."""
ROUNDS = 3
"""The number of batches that may leave a request unanswered."""
TRANSFER = 600.0
"""Seconds that one transfer of a file may take."""


@dataclass(slots=True)
class BatchedJudge:
    """A judge whose requests wait for a batch. Its first request probes `live`, its endpoint."""

    name: str
    tariff: Tariff
    live: Guarded
    client: BatchClient
    waiting: dict[str, Request] = field(default_factory=dict)
    probed: bool = False


class BatchQueue:
    """Requests that wait for batches. `finish_live` sends those that the first batch leaves unanswered live.

    The first request of each judge is sent live, so a wrong key, model or parameter shows within seconds.
    `folder` keeps the batches in progress.
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
        self._batched: dict[str, BatchedJudge] = {}
        self._failed: dict[str, Reply] = {}
        self._rounds: Counter[str] = Counter()
        self._collecting = False
        self._backends: dict[str, OpenAIBackend] = {}

    def ask(self, table: ChatTable, endpoint: str, tariff: Tariff, live: Guarded) -> Ask:
        """Replace a judge's `live` endpoint by one that queues requests."""
        client = self._client(table, endpoint)
        batched = self._batched[table.name] = BatchedJudge(table.name, tariff, live, client)

        return Queued(self, batched, endpoint)

    def _client(self, table: ChatTable, endpoint: str) -> BatchClient:
        """The Batch API of a judge's provider."""
        settings: dict[str, Any] = {
            "model": table.model,
            "base_url": table.base_url,
            "api_key_env": table.api_key_env,
            "timeout": max(table.timeout, TRANSFER),
            "attempts": table.attempts,
            "give_up_after": max(table.give_up_after, 2 * TRANSFER),
            "sleep": self._sleep,
        }
        given = (endpoint, self._folder)
        more: dict[str, Any] = {"notice": self._notice, "sleep": self._sleep}
        if isinstance(table, LiteLLMJudge) and table.provider != "openai":
            from trustescalate.judges.provider_batches import open_batches

            return open_batches(table, settings, given, more, self._read_answer(table.name))
        return BatchClient(table.name, Endpoint(**settings), *given, **more)

    def _read_answer(self, judge: str) -> Callable[[Mapping[str, Any], bytes], Awaitable[Answer]]:
        async def read(body: Mapping[str, Any], content: bytes) -> Answer:
            return await self._backends[judge].read_answer(body, content)

        return read

    async def answer(self, judge: BatchedJudge, key: str, request: Request) -> Reply:
        """Answer a request from what is known, or let it wait for a batch."""
        known = self._failed.get(key) or judge.live.cached(key)
        if known is not None:
            return known
        if not self._collecting:
            return await judge.live(request)
        judge.waiting[key] = request
        return Reply("", None, "stop", Usage(), PENDING)

    def forget(self, key: str) -> None:
        """Keep a reply without a verdict for this command only."""
        reply = self._cache.get(key)
        if reply is not None:
            self._failed[key] = reply
            self._cache.forget(key)

    def seated(self, judges: Sequence[Judge], backends: Mapping[str, Backend]) -> list[Judge]:
        """Wrap the batched judges, so that they vote with whole ensembles."""
        self._backends = {
            name: backend for name, backend in backends.items() if isinstance(backend, OpenAIBackend)
        }
        return [WholeJudge(judge) if judge.name in self._batched else judge for judge in judges]

    async def judgments(self, items: Sequence[Item], judges: Sequence[Judge], in_flight: int) -> None:
        """Answer all requests of calibration to batched judges."""
        waiting = [judge for judge in judges if judge.name in self._batched]
        await self._answer_all(lambda: dry_run_judgments(items, waiting, in_flight))

    async def cascade(self, items: Sequence[Item], cascade: Cascade, in_flight: int) -> None:
        """Answer all requests of a run to batched judges, tier by tier."""
        await self._answer_all(lambda: dry_run_cascade(items, cascade, in_flight))

    async def close(self) -> None:
        """Close the connections."""
        for judge in self._batched.values():
            await judge.client.close()

    async def _answer_all(self, dry_run: Callable[[], Awaitable[None]]) -> None:
        """Alternate dry runs and batches until nothing is pending, after batches still in progress.

        Raises BudgetReached before a batch that may exceed the budget, ProviderError if a provider refuses
        one.
        """
        for judge in self._batched.values():
            async for line in judge.client.resumed():
                judge.probed = True
                self._take(judge, line, Dialect(), None)
        while True:
            self._collecting = True
            await dry_run()
            self._collecting = False
            judges = list(self._batched.values())
            if (self._finish_live and self._rounds) or not any(judge.waiting for judge in judges):
                for judge in judges:
                    judge.waiting = {}
                return
            await all_done(map(self._answer, judges))

    async def _answer(self, judge: BatchedJudge) -> None:
        waiting, judge.waiting = judge.waiting, {}
        if waiting and not judge.probed:
            judge.probed = True
            key = next(iter(waiting))
            request = waiting.pop(key)
            reply = await judge.live(request)
            if reply.failure is not None:
                self._failed[key] = reply
            elif request.logprobs and reply.tokens is None:
                return  # draws are collected next, in place of requests whose replies would be read by no one
        if not waiting:
            return
        for key in waiting:
            self._rounds[key] += 1
        late = [key for key in waiting if self._rounds[key] > ROUNDS]
        if late:
            raise ProviderError(
                f"{judge.name}: {len(late):,} requests are unanswered after {ROUNDS} batches",
                "--finish-live sends them to the live API at the full price",
            )
        await self._submit(judge, dict(sorted(waiting.items())))

    async def _submit(self, judge: BatchedJudge, waiting: Mapping[str, Request]) -> None:
        reserved: dict[str, float] = {}
        backend = self._backends[judge.name]
        try:
            for key, request in waiting.items():
                most = judge.live.most_in_batch(request)
                self._budget.begin(most, waits=False)
                reserved[key] = most
            bodies = {key: await backend.batch_body(request) for key, request in waiting.items()}
            dialect = backend.dialect
            async for line in judge.client.answers(bodies):
                request = waiting[line.key]
                kept = backend.counted(worth_keeping(request, line.reply), request)
                self._take(judge, replace(line, reply=kept), dialect, reserved.pop(line.key))
        finally:
            for most in reserved.values():
                self._budget.settle(most, 0.0)

    def _take(self, judge: BatchedJudge, line: Line, dialect: Dialect, reserved: float | None) -> None:
        """Cache an answer; a request that may still be answered stays pending."""
        cost = judge.tariff.cost(line.reply.usage)
        if reserved is None:
            self._budget.bill(cost)
        else:
            self._budget.settle(reserved, cost)
        reply = judge.live.named(line.reply)
        if judge.live.keep(line.key, reply):
            return
        failed = reply.failure is not None
        learnt = failed and line.answer is not None and self._backends[judge.name].learn(line.answer, dialect)
        if not (line.again or learnt):
            self._failed[line.key] = reply


class Queued:
    """The endpoint of a batched judge; see `BatchQueue.ask`."""

    def __init__(self, queue: BatchQueue, judge: BatchedJudge, endpoint: str) -> None:
        self._queue, self._judge, self._endpoint = queue, judge, endpoint

    async def __call__(self, request: Request) -> Reply:
        """Answer a request, or reply that it is pending."""
        return await self._queue.answer(self._judge, request_key(self._endpoint, request), request)

    def forget(self, request: Request) -> None:
        """Let the next command ask a request again."""
        self._queue.forget(request_key(self._endpoint, request))


class Waiting(Exception):
    """An item waits for answers."""


class WholeJudge:
    """A judge that votes with its whole ensemble, which its batch has paid for."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """The channel of the judge."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:  # noqa: ARG002
        """Return all votes. Raises Waiting while one of them is pending."""
        judgment = await self._judge.judge(item, all_votes)
        if any(vote.failure == PENDING for vote in judgment.votes):
            raise Waiting
        return judgment


async def dry_run_judgments(items: Sequence[Item], judges: Sequence[Judge], in_flight: int) -> None:
    """Run the judges as calibration does, on the answers so far."""

    async def one(item: Item) -> None:
        for judge in judges:
            try:
                await judge.judge(item, all_votes)
            except Waiting:
                continue

    await _all(items, one, in_flight)


async def dry_run_cascade(items: Sequence[Item], cascade: Cascade, in_flight: int) -> None:
    """Run each item through the cascade as far as the answers allow."""

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
