"""Reach models through workers in other processes, which may die.

A `Worker` lives in another process: it sends calls to endpoints or holds a model. It keeps no state that
matters, since each call brings what opens the transport or the model; a new one goes on where a dead one
ended. A `Pool` gives each call to the least busy worker that is alive. How workers are started and reached is
the business of a `Cluster`.
"""

import asyncio
import pickle
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from trustescalate import __version__
from trustescalate.errors import ProviderError, TrustEscalateError
from trustescalate.judges.base import Backend
from trustescalate.judges.completions import Answer
from trustescalate.judges.placement import Load, Notice
from trustescalate.judges.transport import MOST_BYTES, Call, Connect, Transport
from trustescalate.records import Reply, Request, Usage

GRACE = 30.0
"""Seconds beyond the limit of a call after which its worker counts as dead."""
CLOSING = 10.0
"""Seconds to close what is open in the workers, which end anyway."""
SENDER_PATIENCE, MODEL_PATIENCE = 60.0, 1800.0
"""Seconds to wait for a worker while none is alive; a model takes long to load."""
MOST_LOST = 3
"""How often a request may lose the worker that holds its model: the request itself may be what ends it."""
T = TypeVar("T")


class Lost(Exception):
    """A worker ended during a call, or cannot be reached; whether the call was made is unknown."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A `Call` without what stays here; see there."""

    method: str
    path: str
    body: bytes | None
    params: Mapping[str, str]
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True, slots=True)
class Done:
    """What a model's worker returns: a reply, or the error that ends all calls, and its notices so far."""

    reply: Reply | None = None
    error: TrustEscalateError | None = None
    notices: tuple[str, ...] = ()
    identity: Any = None


# ── in another process ───────────────────────────────────────────────────────────────────────────


class Worker:
    """Sends calls and holds models. `opener` is a pickled `Connect` or `Load`; what it opens is kept."""

    def __init__(self) -> None:
        self._transports: dict[bytes, Transport] = {}
        self._models: dict[bytes, Backend] = {}
        self._notices: list[str] = []

    async def version(self) -> str:
        """The version of this package here."""
        return __version__

    async def connect(self, opener: bytes) -> TrustEscalateError | None:
        """Open a transport; return the error that prevents it."""
        try:
            self._transport(opener)
        except TrustEscalateError as error:
            return error
        return None

    async def send(self, opener: bytes, parcel: Parcel, seconds: float) -> Answer:
        """Send a call, and return its answer in a form that travels."""
        body = parcel.body
        call = Call(
            parcel.method,
            parcel.path,
            None if body is None else lambda: body,
            parcel.params,
            most_bytes=parcel.most_bytes,
        )
        return await self._transport(opener).send(call, seconds)

    async def load(self, opener: bytes) -> Done:
        """Load a model."""
        try:
            identity = getattr(self._model(opener), "identity", None)
        except TrustEscalateError as error:
            return Done(error=error, notices=self._told())
        return Done(notices=self._told(), identity=identity)

    async def complete(self, opener: bytes, request: Request) -> Done:
        """Answer a request, together with others that are waiting here."""
        try:
            reply = await self._model(opener).complete(request)
        except TrustEscalateError as error:
            return Done(error=error, notices=self._told())
        return Done(reply, notices=self._told())

    async def close(self, opener: bytes) -> None:
        """Close what was opened."""
        for opened in (self._transports.pop(opener, None), self._models.pop(opener, None)):
            close = getattr(opened, "close", None)
            if close is not None:
                await close()

    def _transport(self, opener: bytes) -> Transport:
        if opener not in self._transports:
            connect: Connect = pickle.loads(opener)
            self._transports[opener] = connect()
        return self._transports[opener]

    def _model(self, opener: bytes) -> Backend:
        if opener not in self._models:
            load: Load = pickle.loads(opener)
            self._models[opener] = load(self._notices.append)
        return self._models[opener]

    def _told(self) -> tuple[str, ...]:
        notices = tuple(self._notices)
        self._notices.clear()
        return notices


# ── in this process ──────────────────────────────────────────────────────────────────────────────


class Remote(Protocol):
    """A `Worker` in another process."""

    async def call(self, method: str, *given: Any) -> Any:
        """Call a method. Raises `Lost`; a call that is cancelled here is cancelled there."""
        ...

    async def revive(self) -> None:
        """Return when the worker, or one in its place, answers again."""
        ...


class Cluster(Protocol):
    """Starts workers."""

    def senders(self) -> Sequence[Remote]:
        """Workers that send calls."""
        ...

    def holders(self, judge: str, gpus: int | None) -> Sequence[Remote]:
        """Workers that can each hold the model of a judge."""
        ...

    def wait(self, remotes: Sequence[Remote], method: str, *given: Any) -> list[Any]:
        """Call a method of several workers at once, before any other work. Raises ProviderError."""
        ...


@dataclass(slots=True, eq=False)
class _Member:
    """A worker of a pool: its calls in flight, and how often it was lost."""

    remote: Remote
    busy: int = 0
    lost: int = 0


@dataclass(slots=True)
class Pool:
    """Workers that can stand in for one another. `notice` receives each loss."""

    remotes: Sequence[Remote]
    notice: Notice
    patience: float
    _alive: list[_Member] = field(init=False)
    _back: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _reviving: set[asyncio.Task[None]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._alive = [_Member(remote) for remote in self.remotes]

    async def call(self, method: str, *given: Any, seconds: float | None = None) -> Any:
        """Call a method of the least busy worker. Raises `Lost`, and TimeoutError after `seconds`.

        One that is lost, or does not answer in time, is set aside until it answers again. Where none is left
        and none comes back, ProviderError ends all calls.
        """
        member = await self._least_busy()
        member.busy, before = member.busy + 1, member.lost
        try:
            async with asyncio.timeout(seconds):
                return await member.remote.call(method, *given)
        except (Lost, TimeoutError):
            if member.lost == before:
                self._set_aside(member)
            raise
        finally:
            member.busy -= 1

    async def close(self, opener: bytes) -> None:
        """Close what this opened in the workers that are alive."""
        with suppress(Lost, TimeoutError):
            async with asyncio.timeout(CLOSING):
                await asyncio.gather(*(member.remote.call("close", opener) for member in self._alive))

    def end(self) -> None:
        """Wait for no worker any longer."""
        for task in self._reviving:
            task.cancel()

    async def _least_busy(self) -> _Member:
        if not self._alive:
            try:
                async with asyncio.timeout(self.patience):
                    while not self._alive:
                        await self._back.wait()
            except TimeoutError:
                raise ProviderError(
                    f"all workers were lost, and none came back within {self.patience:g} s",
                    "fix the cluster",
                ) from None
        member = min(self._alive, key=lambda each: each.busy)
        self._alive.remove(member)  # of equally busy ones, the one that was asked longest ago
        self._alive.append(member)
        return member

    def _set_aside(self, member: _Member) -> None:
        member.lost += 1
        self._alive.remove(member)
        self._back.clear()
        calls = "1 call" if member.busy == 1 else f"{member.busy} calls"
        self.notice(f"a worker was lost, with {calls} in flight")
        task = asyncio.get_running_loop().create_task(self._revived(member))
        self._reviving.add(task)
        task.add_done_callback(self._reviving.discard)

    async def _revived(self, member: _Member) -> None:
        await member.remote.revive()
        self._alive.append(member)
        self._back.set()


class PlacedTransport:
    """Sends calls through workers; what goes into a file is fetched by this process, which has the file.

    The endpoint may still be at work on a call whose worker ended, so the call keeps its slot for as long as
    the slowest answer so far has taken, and `concurrency` holds for the endpoint too.
    """

    def __init__(self, pool: Pool, connect: Connect, opener: bytes) -> None:
        self._pool, self._connect, self._opener = pool, connect, opener
        self._own: Transport | None = None
        self._slowest = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close(self._opener)
        if self._own is not None:
            await self._own.close()

    async def send(self, call: Call, seconds: float) -> Answer:
        """Send a call and read its answer within so many seconds. Raises ProviderError without workers."""
        if call.into is not None or call.form:  # files are here
            self._own = self._own or self._connect()
            return await self._own.send(call, seconds)
        try:
            body = None if call.body is None else call.body()
        except UnicodeEncodeError:
            return Answer(failed="bad_request", why="the text holds half of a surrogate pair")
        parcel = Parcel(call.method, call.path, body, call.params, call.most_bytes)
        began = time.monotonic()
        try:
            answer: Answer = await self._pool.call(
                "send", self._opener, parcel, seconds, seconds=seconds + GRACE
            )
        except Lost:
            await asyncio.sleep(min(self._slowest, seconds) - (time.monotonic() - began))
            return Answer(failed="unreachable", why="the worker that sent the call ended", lost=True)
        except TimeoutError:
            return Answer(failed="timeout", why=f"no answer within {seconds:.3g} s")
        self._slowest = max(self._slowest, time.monotonic() - began)
        return answer


class PlacedModel:
    """A model that workers hold, each a copy; `loaded` is what they say of it.

    `identity` is that of the model's backend.
    """

    def __init__(self, pool: Pool, opener: bytes, loaded: Sequence[Done], notice: Notice) -> None:
        self._pool, self._opener = pool, opener
        self._notice, self._noticed = notice, set[str]()
        identities = [self._heard(done).identity for done in loaded]
        self.identity = identities[0]

    async def complete(self, request: Request) -> Reply:
        """Answer one request; raises what ends all."""
        for _ in range(MOST_LOST):
            try:
                done = self._heard(await self._pool.call("complete", self._opener, request))
            except Lost:
                continue
            assert done.reply is not None, "it has no error"
            return done.reply
        why = f"the worker that holds the model ended {MOST_LOST} times during this request"
        return Reply(why, None, "stop", Usage(1), "unreachable")

    async def close(self) -> None:
        """Finish the current pass and drop the rest."""
        await self._pool.close(self._opener)

    def _heard(self, done: Done) -> Done:
        """Pass notices on, each once for all copies. Raises the error."""
        for text in done.notices:
            if text not in self._noticed:
                self._noticed.add(text)
                self._notice(text)
        if done.error is not None:
            raise done.error
        return done


class Workers:
    """The placement of a cluster: all transports share some workers, and each model has its own."""

    def __init__(self, cluster: Cluster, notice: Notice) -> None:
        self._cluster, self._notice = cluster, notice
        self._senders: Pool | None = None
        self._pools: list[Pool] = []

    def transport(self, connect: Connect) -> Transport:
        """What sends the calls to an endpoint."""
        if self._senders is None:
            self._senders = self._pool(self._cluster.senders(), SENDER_PATIENCE)
        opener = pickle.dumps(connect)
        for error in self._cluster.wait(self._senders.remotes, "connect", opener):
            if error is not None:
                raise error
        return PlacedTransport(self._senders, connect, opener)

    def model(self, judge: str, load: Load, notice: Notice, gpus: int | None) -> Backend:
        """A judge's model, loaded by each of its workers."""
        pool = self._pool(self._cluster.holders(judge, gpus), MODEL_PATIENCE)
        opener = pickle.dumps(load)
        return PlacedModel(pool, opener, self._cluster.wait(pool.remotes, "load", opener), notice)

    def end(self) -> None:
        """Wait for no worker any longer."""
        for pool in self._pools:
            pool.end()

    def _pool(self, remotes: Sequence[Remote], patience: float) -> Pool:
        for version in self._cluster.wait(remotes, "version"):
            must_be_ours(version)
        pool = Pool(remotes, self._notice, patience)
        self._pools.append(pool)
        return pool


def must_be_ours(version: str) -> None:
    """Raise ProviderError for workers with another version of this package."""
    if version != __version__:
        raise ProviderError(
            f"a worker has trustescalate {version}, and this is {__version__}",
            f"install trustescalate=={__version__} on every node",
        )
