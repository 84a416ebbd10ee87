"""Define backends and judges, and the few-shot ensemble that makes a judge of a backend."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from trustescalate.judges.criteria_replies import read_criterion
from trustescalate.judges.placeholders import copied_placeholder
from trustescalate.judges.prompts import (
    Asking,
    Conversation,
    Exemplar,
    Order,
    conversation,
    orders,
    prefix,
    swapped_index,
    symbols,
)
from trustescalate.judges.reply_parsing import Reading, Renormalized, condensed, read_verdict
from trustescalate.records import Channel, Item, Judgment, Mode, Reply, Request, Task, Token, Usage, Vote
from trustescalate.records.criteria import row_name
from trustescalate.records.votes import Enough, next_wave

Ask = Callable[[Request], Awaitable[Reply]]
"""Answers a request. One that keeps replies also has `forget`, for a request whose reply has no verdict."""
T = TypeVar("T")

MAX_TOKENS: Mapping[Mode, int] = {"direct": 16, "reason": 1024, "structured": 1024, "stated": 64}
"""Room for a label and its decoration, or for reasoning; a longer reply is cut, verdict or not."""

NO_REPLY = frozenset(
    {"refused", "timeout", "unreachable", "server_error", "rate_limited", "bad_reply", "bad_request"}
    | {"empty", "not_recorded", "no_logprobs"}
)
"""Failures without a reply to parse."""

MASS_SLACK = 1e-6
KEPT_TOKENS = 16
"""Last tokens kept of a reply without a verdict: verdicts stand at the end."""


class Backend(Protocol):
    """Access to a model: one async method; everything else is configuration.

    A request that fails by itself returns a `Reply` with a `failure`; a condition under which every request
    fails (wrong key, unknown model, no quota) raises `errors.ProviderError` with the fix.
    """

    async def complete(self, request: Request) -> Reply:
        """Answer one request."""
        ...


async def no_model(request: Request) -> Reply:
    """Stand in for a model that is never called, such as where prompts are only written or parsed."""
    raise AssertionError(f"no model is to be called, and certainly not with {len(request.messages)} messages")


def most_tokens(asking: Asking) -> int:
    """Room for a reply: with several criteria for a line of each."""
    return MAX_TOKENS[asking.mode] + MAX_TOKENS["direct"] * max(0, len(asking.each) - 1)


class Judge(Protocol):
    """Something that votes on items."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of everything that can change its votes."""
        ...

    @property
    def channel(self) -> Channel:
        """Where its probabilities come from, as observed so far."""
        ...

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Vote on an item until all votes are in, or `enough(votes so far, all planned)` is true.

        `enough` is a pure function, which is also called with hypothetical votes (`may_settle`).
        """
        ...


async def all_done(work: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for everything, then raise the first error, if any: no paid reply is lost."""
    one, *more = work
    if not more:
        return [await one]
    results: list[T] = []
    for result in await asyncio.gather(one, *more, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results


def forget(ask: Ask, request: Request) -> None:
    """Let a request whose reply holds no verdict be asked again by the next command."""
    drop = getattr(ask, "forget", None)
    if drop is not None:
        drop(request)


def names_of(replies: Iterable[Reply]) -> tuple[str, ...]:
    """The models that answered, each once (`Judgment.served`)."""
    return tuple(dict.fromkeys(reply.served for reply in replies if reply.served))


def are_probabilities(values: Collection[float]) -> bool:
    """Whether these are probabilities of labels: not negative, with a sum in (0, 1] up to rounding."""
    return 0 < sum(values) <= 1 + MASS_SLACK and min(values) >= 0


def are_log_probabilities(tokens: Sequence[Token]) -> bool:
    """Whether all alternatives have log-probabilities: no NaN, none above 0."""
    return all(logprob <= 0 for token in tokens for _, logprob in token.top)


@dataclass(frozen=True, slots=True)
class Tariff:
    """USD per million tokens, and per call; a call through a Batch API costs the share `batch`."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float = 0.0
    request: float = 0.0
    batch: float = 1.0

    def cost(self, usage: Usage) -> float:
        """Return what a provider bills for this usage, in USD.

        >>> Tariff(input=2.0, output=8.0, cached_input=0.5).cost(Usage(1, 1000, 400, 10))
        0.00148
        >>> Tariff(request=0.5, batch=0.5).cost(Usage(calls=1, batched=1))
        0.25
        """
        uncached = max(0, usage.input_tokens - usage.cached_tokens)
        tokens = uncached * self.input + usage.cached_tokens * self.cached_input
        full = (tokens + usage.output_tokens * self.output) / 1e6 + usage.calls * self.request
        return full * (1 - (1 - self.batch) * usage.batched / usage.calls) if usage.batched else full


class Asked(NamedTuple):
    """One request, its reply, and the vote that is read from it."""

    request: Request
    reply: Reply
    vote: Vote


class EnsembleJudge:
    """N few-shot prompts, each in both orders where there are two responses (arXiv 2407.18370, section 2.2).

    Both orders of one prompt come first, then those of the next. They are requested concurrently unless one
    of them may be enough, so early stopping saves as many votes as it would one at a time; only the first
    prompt is always sent in all its orders, since estimators and reports read it alone. Without
    log-probabilities, `samples` draws, each a vote, replace one. The channel is detected on the first reply
    unless it is given; later replies without it are failed votes. `asking` is the mode and its wording; the
    mode "stated" is a channel of its own.
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
        asking: Asking | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._task = task
        self._asking = asking or Asking()
        self._prefixes = [prefix(task, shots, self._asking) for shots in exemplars]
        self._ask = ask
        self._orders = orders(task, swap=swap)
        self._samples = samples
        self._channel: Channel | None = "stated" if self._asking.mode == "stated" else channel
        self._probed = self._channel is not None
        self._tariff = tariff or Tariff()
        self._notice, self._noticed = notice, set[str]()
        self._max_tokens = max_tokens or most_tokens(self._asking)
        each = self._asking.each
        self._symbols = tuple(dict.fromkeys(word for one in each for word in one.symbols)) or symbols(task)
        self._probing = asyncio.Lock()

    @property
    def channel(self) -> Channel:
        """Where the votes come from; log-probabilities until an endpoint turns out to have none."""
        return self._channel or "logprobs"

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Vote on an item; never raises for the content of a reply."""
        left = [(member, order) for member in range(len(self._prefixes)) for order in self._orders]
        votes: list[Vote] = []
        replies: list[Reply] = []
        while left:
            lacking = sum(member == left[0][0] for member, _ in left)
            wave = next_wave(votes, lacking, self._draws, self._planned, enough)
            if not wave:
                break
            now, left = left[:wave], left[wave:]
            for asked in await all_done(self._votes(item, member, order) for member, order in now):
                votes += [vote for _, vote in asked]
                replies += [reply for reply, _ in asked]
        return Judgment(item.id, self.name, self.fingerprint, tuple(votes), self._planned, names_of(replies))

    def requests(self, item: Item) -> Iterator[tuple[int, Order, Request]]:
        """Yield every request of the full ensemble for an item, with its prompt and order; makes no calls.

        Where the channel is not known yet, the requests are for log-probabilities.
        """
        samples = range(1, self._samples + 1) if self.channel == "samples" else range(1)
        for member in range(len(self._prefixes)):
            for order in self._orders:
                asked = self._conversation(item, member, order)
                for sample in samples:
                    yield member, order, self._request(asked, sample)

    async def ask_once(self, rows: Sequence[Item], order: Order) -> list[Asked]:
        """Ask the first prompt once in this order: greedily, or one draw of a judge by samples.

        `rows` are those of one item, which one request asks about; there is one answer for each.
        """
        asked = [self._conversation(row, 0, order) for row in rows]
        request = self._request(asked[0], int(self._channel == "samples"))
        reply = await self._ask(request)
        self._settled(reply, asked[0])
        return [Asked(request, reply, self._vote(reply, 0, order, each, request.sample)) for each in asked]

    def reread(self, item: Item, vote: Vote) -> Vote:
        """Parse a stored reply again with the current parser; its probabilities stay.

        A vote without a whole reply (not stored, cut, timeout, …) stays as it is. Log-probabilities are
        stored only for failed votes, so only those are weighed again.
        """
        if vote.failure in NO_REPLY or vote.failure == "truncated" or not vote.raw:
            return vote
        if vote.exemplar_set >= len(self._prefixes) or vote.order not in self._orders:
            return vote
        asked = self._conversation(item, vote.exemplar_set, vote.order)
        kept = None if vote.channel != "logprobs" or not vote.tokens else vote.tokens
        reading = self._read(Reply(vote.raw, kept, "stop", vote.usage), asked)
        if vote.failure is None and reading.failure is not None:
            # Whether a valid reply was cut is not kept; if it was, its verdict may be the head of a symbol.
            cut = self._read(Reply(vote.raw, kept, "length", vote.usage), asked)
            reading = cut if cut.failure is None else reading
        probs = self._in_frame(reading, vote.order, asked)
        if reading.failure is None and vote.channel == "logprobs" and kept is None:
            label = max(probs, key=lambda name: probs[name])
            if vote.probs.get(label, 0.0) > 0:
                return vote
            reading, probs = Reading((), "no_logprobs", "logprobs"), {}
        if (reading.failure, probs) == (vote.failure, dict(vote.probs)):
            return vote
        tokens = vote.tokens if reading.failure is not None else ()
        return replace(vote, probs=probs, failure=reading.failure, tokens=tokens)

    @property
    def _planned(self) -> int:
        return len(self._prefixes) * len(self._orders) * self._draws

    @property
    def _draws(self) -> int:
        return self._samples if self.channel == "samples" else 1

    async def _votes(self, item: Item, member: int, order: Order) -> list[tuple[Reply, Vote]]:
        asked = self._conversation(item, member, order)
        reply = await self._ask_first(asked)
        if reply is not None:
            return [(reply, self._vote(reply, member, order, asked, 0))]
        draws = (self._ask(self._request(asked, sample)) for sample in range(1, self._samples + 1))
        replies = enumerate(await all_done(draws), 1)
        return [(reply, self._vote(reply, member, order, asked, sample)) for sample, reply in replies]

    def _conversation(self, item: Item, member: int, order: str) -> Conversation:
        before, each = self._prefixes[member], self._asking.each
        asked = conversation(self._task, before, item, swapped=order == "BA", asking=self._asking)
        if not each:
            return asked
        return replace(asked, row=[one.name for one in each].index(row_name(item).criterion))

    async def _ask_first(self, asked: Conversation) -> Reply | None:
        """Request a greedy reply with log-probabilities; None where the endpoint has none.

        All other requests wait for the very first reply, so that no endpoint is probed twice.
        """
        request = self._request(asked, 0)
        if not self._probed:
            async with self._probing:
                if not self._probed:
                    reply = self._settled(await self._ask(request), asked)
                    self._probed = True
                    return reply
        return None if self._channel == "samples" else self._settled(await self._ask(request), asked)

    def _settled(self, reply: Reply, asked: Conversation) -> Reply | None:
        if self._channel is None and reply.failure is None and reply.text:
            why = (
                "gives no log-probabilities" if reply.tokens is None else self._why_unweighable(reply, asked)
            )
            self._channel = "samples" if why else "logprobs"
            if why:
                self._notice(f"{self.name} {why}: {self._samples} draws a vote instead")
        return None if self._channel == "samples" else reply

    def _why_unweighable(self, reply: Reply, asked: Conversation) -> str:
        """Why the log-probabilities of a good reply say nothing about its verdict; "" where they do."""
        if self._asking.mode != "structured" or self._read(reply, asked).failure != "low_mass":
            return ""
        return "gives log-probabilities from before its schema, without the labels"

    def _notice_once(self, text: str) -> None:
        if text not in self._noticed:
            self._noticed.add(text)
            self._notice(f"{self.name} {text}")

    def _request(self, asked: Conversation, sample: int) -> Request:
        mode = self._asking.mode
        return Request(
            asked.messages,
            self._symbols,
            self._max_tokens,
            0.0 if sample == 0 else 1.0,
            sample == 0 and mode != "stated",
            sample,
            mode,
            asked.nonce,
            self._asking.each,
        )

    def _vote(self, reply: Reply, member: int, order: Order, asked: Conversation, sample: int) -> Vote:
        reading = self._reading(reply, asked)
        if reading.failure is not None and reply.failure is None:
            forget(self._ask, self._request(asked, sample))
        if isinstance(reading, Renormalized):
            self._notice_once(
                "gives log-probabilities from before its schema: they are renormalized over the labels"
            )
        if (
            self._asking.mode != "direct"
            and reply.failure is None
            and (copied := copied_placeholder(reply.text))
        ):
            self._notice_once(f"repeats a placeholder where its own words belong: {copied[:40]}")
        unread = reply.tokens if reading.failure is not None and self.channel == "logprobs" else None
        return Vote(
            member,
            order,
            self._in_frame(reading, order, asked),
            reply.text,
            reading.failure,
            self.channel,
            reply.usage,
            self._tariff.cost(reply.usage),
            condensed(unread, self._symbols)[-KEPT_TOKENS:] if unread else (),
            reply.paid,
        )

    def _in_frame(self, reading: Reading, order: str, asked: Conversation) -> dict[str, float]:
        labels = self._asking.each[asked.row].labels if self._asking.each else self._task.labels
        index = swapped_index(self._task) if order == "BA" else range(len(reading.probs))
        probs = {labels[i]: p for i, p in zip(index, reading.probs, strict=False)}
        return {label: p for label, p in probs.items() if p > 0} if reading.channel == "stated" else probs

    def _reading(self, reply: Reply, asked: Conversation) -> Reading:
        if self.channel != "logprobs":
            return self._read(replace(reply, tokens=None), asked)
        if reply.tokens is None and reply.failure is None and reply.text:
            return Reading((), "no_logprobs", "logprobs")
        return self._read(reply, asked)

    def _read(self, reply: Reply, asked: Conversation) -> Reading:
        if self._asking.each:
            return read_criterion(
                reply,
                self._asking.each,
                asked.row,
                mode=self._asking.mode,
                nonce=asked.nonce,
                material=asked.material,
            )
        return read_verdict(
            reply, symbols(self._task), mode=self._asking.mode, nonce=asked.nonce, material=asked.material
        )
