"""What a backend and a judge are, and the few-shot ensemble that turns one into the other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from trustescalate.judges.prompts import Exemplar, prefix, question, swapped_index, symbols
from trustescalate.judges.reading import Reading, read_verdict
from trustescalate.types import Item, Judgment, Message, Reply, Request, Task, TaskKind, Usage, Vote

Ask = Callable[[Request], Awaitable[Reply]]
Enough = Callable[[Sequence[Vote], int], bool]
Channel = Literal["logprobs", "samples", "stated"]
Order = Literal["AB", "BA", ""]
T = TypeVar("T")

MAX_TOKENS = 16
"""Room for a label and its decoration; a reply that needs more is not an answer to the question asked."""


class Backend(Protocol):
    """A way to reach a model. One async method; everything else is configuration.

    A request that fails on its own account comes back as a `Reply` with a `failure`; a condition that dooms
    every request (wrong key, unknown model, no quota) raises `errors.ProviderError` with the fix named.
    """

    async def complete(self, request: Request) -> Reply:
        """Answer one request."""
        ...


class Judge(Protocol):
    """Something that votes on items."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything that can change what it says."""
        ...

    @property
    def channel(self) -> Channel:
        """Where its probabilities come from, as far as it has been seen to answer."""
        ...

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Vote on an item until all votes are in, or `enough(votes so far, all planned)` says so."""
        ...


async def all_done(work: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for everything, then raise the first error if there was one: no paid answer is thrown away."""
    one, *more = work
    if not more:
        return [await one]
    results = await asyncio.gather(one, *more, return_exceptions=True)
    good = [result for result in results if not isinstance(result, BaseException)]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return good


def all_votes(votes: Sequence[Vote], planned: int) -> bool:
    """An `Enough` that is never satisfied early."""
    return len(votes) >= planned


@dataclass(frozen=True, slots=True)
class Tariff:
    """USD per million tokens, and per call."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float = 0.0
    request: float = 0.0

    def cost(self, usage: Usage) -> float:
        """What a provider bills for this usage.

        >>> Tariff(input=2.0, output=8.0, cached_input=0.5).cost(Usage(1, 1000, 400, 10))
        0.00148
        """
        fresh = max(0, usage.input_tokens - usage.cached_tokens)
        tokens = (
            fresh * self.input + usage.cached_tokens * self.cached_input + usage.output_tokens * self.output
        )
        return tokens / 1e6 + usage.calls * self.request


class EnsembleJudge:
    """N few-shot prompts, each in both orders where there are two responses (arXiv 2407.18370, section 2.2).

    Votes come in waves, one prompt at a time with both its orders, so that `enough` can end the ensemble
    between waves. Without log-probabilities `samples` draws, each a vote, stand for one. The channel is found
    out on the first answer, unless it is given; from then on an answer without it is a failed vote.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        task: Task,
        exemplars: Sequence[Sequence[Exemplar]],
        ask: Ask,
        *,
        swap: bool,
        samples: int,
        channel: Channel | None = None,
        tariff: Tariff | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._task = task
        self._prefixes = [prefix(task, shots) for shots in exemplars]
        self._ask = ask
        self._orders: tuple[Order, ...] = ("",)
        if task.kind is TaskKind.PAIRWISE:
            self._orders = ("AB", "BA") if swap else ("AB",)
        self._samples = samples
        self._channel = channel
        self._probed = channel is not None
        self._tariff = tariff or Tariff()
        self._notice = notice
        self._probing = asyncio.Lock()

    @property
    def channel(self) -> Channel:
        """Where the votes come from; log-probabilities until an endpoint has shown that it has none."""
        return self._channel or "logprobs"

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Vote on an item; never raises for what one reply says."""
        votes: list[Vote] = []
        for member in range(len(self._prefixes)):
            orders = [self._votes(item, member, order) for order in self._orders]
            votes += [vote for wave in await all_done(orders) for vote in wave]
            if enough(votes, self._planned):
                break
        return Judgment(item.id, self.name, self.fingerprint, tuple(votes), self._planned)

    @property
    def _planned(self) -> int:
        draws = self._samples if self.channel == "samples" else 1
        return len(self._prefixes) * len(self._orders) * draws

    async def _votes(self, item: Item, member: int, order: Order) -> list[Vote]:
        shown = (*self._prefixes[member], question(self._task, item, swapped=order == "BA"))
        reply = await self._ask_logprobs(self._request(shown, 0))
        if reply is not None:
            return [self._vote(reply, member, order)]
        draws = (self._ask(self._request(shown, sample)) for sample in range(1, self._samples + 1))
        return [self._vote(reply, member, order) for reply in await all_done(draws)]

    async def _ask_logprobs(self, request: Request) -> Reply | None:
        """Ask for log-probabilities; None where it is known, or turns out, that there are none.

        All others wait until the very first answer has come, so that no endpoint is asked in vain twice.
        """
        if not self._probed:
            async with self._probing:
                if not self._probed:
                    reply = self._settled(await self._ask(request))
                    self._probed = True
                    return reply
        return None if self._channel == "samples" else self._settled(await self._ask(request))

    def _settled(self, reply: Reply) -> Reply | None:
        if self._channel is None and reply.failure is None and reply.text:
            self._channel = "samples" if reply.tokens is None else "logprobs"
            if reply.tokens is None:
                self._notice(f"{self.name} gives no log-probabilities: {self._samples} draws a vote instead")
        return None if self._channel == "samples" else reply

    def _request(self, shown: tuple[Message, ...], sample: int) -> Request:
        temperature = 0.0 if sample == 0 else 1.0
        return Request(shown, symbols(self._task), MAX_TOKENS, temperature, sample == 0, sample)

    def _vote(self, reply: Reply, member: int, order: Order) -> Vote:
        reading = self._reading(reply)
        index = swapped_index(self._task) if order == "BA" else range(len(reading.probs))
        return Vote(
            member,
            order,
            {self._task.labels[i]: p for i, p in zip(index, reading.probs, strict=False)},
            reply.text,
            reading.failure,
            self.channel,
            reply.usage,
            self._tariff.cost(reply.usage),
        )

    def _reading(self, reply: Reply) -> Reading:
        if self.channel == "samples":
            return read_verdict(replace(reply, tokens=None), symbols(self._task))
        if reply.tokens is None and reply.failure is None and reply.text:
            return Reading((), "no_logprobs", "logprobs")
        return read_verdict(reply, symbols(self._task))
