"""Collect the requests of judges, send them to a Batch API, and cache the answers for the run.

Judges run as usual, through an endpoint that replies "pending" to requests not in the cache, until nothing is
pending. Each tier judges all items that earlier tiers did not decide, with its whole ensemble: no ensemble
stops early in a batch. This module reaches no verdict and records nothing.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trustescalate.cascade.runner import Cascade, decide_item
from trustescalate.config import ChatTable, LiteLLMJudge
from trustescalate.errors import ProviderError
from trustescalate.judges.base import Ask, Backend, Judge, Tariff, all_done
from trustescalate.judges.batch_api import BatchClient, Line, ReadAnswer
from trustescalate.judges.batch_files import Spool
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
ROUNDS_BEFORE_LIVE = 2
"""The same with `finish_live`, which sends the request to the live API then."""
TRANSFER = 600.0
"""Seconds that one transfer of a file may take."""


@dataclass(slots=True)
class BatchedJudge:
    """A judge whose requests wait for a batch. Its first request probes `live`, its endpoint.

    `waiting` are the requests that are collected; `first` is the one to probe, with its key. `draws`: the
    probe gave no log-probabilities, so that requests for them would be read by no one. `late` counts requests
    that enough batches left unanswered.
    """

    name: str
    tariff: Tariff
    live: Guarded
    client: BatchClient
    waiting: Spool | None = None
    first: tuple[str, Request] | None = None
    probed: bool = False
    draws: bool = False
    late: int = 0


class BatchQueue:
    """Requests that wait for batches. `finish_live` sends those that two batches leave unanswered live.

    The first request of each judge is sent live, so a wrong key, model or parameter shows within seconds.
    `folder` keeps the requests and the batches in progress: none of them is held in memory, but for the keys
    of those that a batch left unanswered.
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
        self._rounds = ROUNDS_BEFORE_LIVE if finish_live else ROUNDS
        self._batched: dict[str, BatchedJudge] = {}
        self._failed: dict[str, Reply] = {}
        self._unanswered: Counter[str] = Counter()
        self._collecting = False
        self._backends: dict[str, OpenAIBackend] = {}

    def ask(self, table: ChatTable, endpoint: str, tariff: Tariff, live: Guarded) -> Ask:
        """Replace a judge's `live` endpoint by one that queues requests."""
        client = batch_client(
            table,
            endpoint,
            self._folder,
            notice=self._notice,
            sleep=self._sleep,
            read=self._read_answer(table.name),
        )
        batched = self._batched[table.name] = BatchedJudge(table.name, tariff, live, client)
        return Queued(self, batched, endpoint)

    def _read_answer(self, judge: str) -> ReadAnswer:
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
        if not judge.probed:
            judge.first = judge.first or (key, request)
        elif self._unanswered[key] >= self._rounds:
            if self._finish_live:
                return await self._answer_live(judge, key, request)
            judge.late += 1
        elif not (judge.draws and request.logprobs):
            await self._collect(judge, key, request)
        return Reply("", None, "stop", Usage(), PENDING)

    async def _answer_live(self, judge: BatchedJudge, key: str, request: Request) -> Reply:
        reply = await judge.live(request)
        if reply.failure is not None:
            self._failed[key] = reply
        return reply

    async def _collect(self, judge: BatchedJudge, key: str, request: Request) -> None:
        """Write a request for the next batch, unless it is there."""
        if judge.waiting is None:
            judge.waiting = judge.client.spool()
        if key in judge.waiting:
            return
        body = await self._backends[judge.name].batch_body(request)
        if key not in judge.waiting:
            most = judge.live.most_in_batch(request)
            judge.waiting.add(key, judge.client.line(key, body), request, most)

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
        await self._answer_all(lambda: dry_run_judgments(items, waiting, in_flight, self._must_probe))

    async def cascade(self, items: Sequence[Item], cascade: Cascade, in_flight: int) -> None:
        """Answer all requests of a run to batched judges, tier by tier."""
        await self._answer_all(lambda: dry_run_cascade(items, cascade, in_flight, self._must_probe))

    async def close(self) -> None:
        """Close the connections."""
        for judge in self._batched.values():
            await judge.client.close()

    def _must_probe(self) -> bool:
        """Whether a judge is asked for the first time; its other requests are collected after that."""
        return any(judge.first is not None for judge in self._batched.values())

    async def _answer_all(self, dry_run: Callable[[], Awaitable[None]]) -> None:
        """Alternate dry runs and batches until nothing is pending, after batches still in progress.

        Raises BudgetReached before batches that may exceed the budget, ProviderError if a provider refuses
        one.
        """
        judges = list(self._batched.values())
        try:
            await all_done(map(self._resume, judges))
            while True:
                self._collecting = True
                try:
                    await dry_run()
                finally:
                    self._collecting = False
                if self._must_probe():
                    await all_done(map(self._probe, judges))
                    continue
                for judge in judges:
                    if judge.late:
                        raise ProviderError(
                            f"{judge.name}: {judge.late:,} requests are unanswered after {ROUNDS} batches",
                            "--finish-live sends them to the live API at the full price",
                        )
                if not any(judge.waiting is not None for judge in judges):
                    return
                await all_done(map(self._submit, judges))
        finally:
            for judge in judges:
                judge.late = 0
                if judge.waiting is not None:
                    judge.waiting.discard()
                    judge.waiting = None

    async def _resume(self, judge: BatchedJudge) -> None:
        """Take the answers of batches that an earlier command left in progress."""
        async with aclosing(judge.client.outcomes(judge.client.left(), resumed=True)) as outcomes:
            async for line in outcomes:
                judge.probed = True
                self._take(judge, line, Dialect(), None)

    async def _probe(self, judge: BatchedJudge) -> None:
        if judge.first is None:
            return
        (key, request), judge.first = judge.first, None
        judge.probed = True
        reply = await self._answer_live(judge, key, request)
        judge.draws = reply.failure is None and request.logprobs and reply.tokens is None

    async def _submit(self, judge: BatchedJudge) -> None:
        """Send what was collected, in as many batches as it fills."""
        if judge.waiting is None:
            return
        spool, dialect = judge.waiting, self._backends[judge.name].dialect
        each = {part.name: part.most / part.requests for part in spool.parts}
        left: dict[str, int] = defaultdict(int)
        try:
            for part in spool.parts:
                for _ in range(part.requests):
                    self._budget.begin(each[part.name], waits=False)
                    left[part.name] += 1
            tickets, judge.waiting = judge.client.sealed(spool), None
            async with aclosing(judge.client.outcomes(tickets, resumed=False)) as outcomes:
                async for line in outcomes:
                    left[line.batch] -= 1
                    self._take(judge, line, dialect, each[line.batch])
        finally:
            for name, requests in left.items():
                for _ in range(requests):
                    self._budget.settle(each[name], 0.0)

    def _take(self, judge: BatchedJudge, line: Line, dialect: Dialect, reserved: float | None) -> None:
        """Cache an answer; a request that may still be answered stays pending."""
        if line.request is not None:
            reply = worth_keeping(line.request, line.reply)
            line = replace(line, reply=self._backends[judge.name].counted(reply, line.request))
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
        if line.again or learnt:
            self._unanswered[line.key] += 1
        else:
            self._failed[line.key] = reply


def batch_client(
    table: ChatTable,
    endpoint: str,
    folder: Path,
    *,
    notice: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    read: ReadAnswer | None = None,
) -> BatchClient:
    """The Batch API of a judge's provider; `read` reads an answer in its own form."""
    (address,) = table.addresses or (None,)
    settings: dict[str, Any] = {
        "model": table.model,
        "base_url": address,
        "api_key_env": table.api_key_env,
        "timeout": max(table.timeout, TRANSFER),
        "attempts": table.attempts,
        "give_up_after": max(table.give_up_after, 2 * TRANSFER),
        "sleep": sleep,
    }
    given = (endpoint, folder)
    more: dict[str, Any] = {"notice": notice, "sleep": sleep, "in_flight": table.batches_in_flight}
    if isinstance(table, LiteLLMJudge) and table.provider != "openai":
        from trustescalate.judges.provider_batches import open_batches

        return open_batches(table, settings, given, more, read)
    return BatchClient(table.name, Endpoint(**settings), *given, **more)


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


async def dry_run_judgments(
    items: Sequence[Item], judges: Sequence[Judge], in_flight: int, stop: Callable[[], bool]
) -> None:
    """Run the judges as calibration does, on the answers so far, until `stop`."""

    async def one(item: Item) -> None:
        for judge in judges:
            try:
                await judge.judge(item, all_votes)
            except Waiting:
                continue

    await _all(items, one, in_flight, stop)


async def dry_run_cascade(
    items: Sequence[Item], cascade: Cascade, in_flight: int, stop: Callable[[], bool]
) -> None:
    """Run each item through the cascade as far as the answers allow, until `stop`."""

    async def one(item: Item) -> None:
        try:
            await decide_item(item, cascade)
        except Waiting:
            return

    await _all(items, one, in_flight, stop)


async def _all(
    items: Iterable[Item],
    work: Callable[[Item], Awaitable[None]],
    in_flight: int,
    stop: Callable[[], bool],
) -> None:
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)
            if stop():
                return

    await asyncio.gather(*(worker() for _ in range(in_flight)))
