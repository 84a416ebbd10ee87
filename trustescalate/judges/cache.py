"""Cache good replies by request, and whole judgments, in one SQLite file."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

from trustescalate.errors import UsageError
from trustescalate.judges.budget import Budget
from trustescalate.records import Judgment, Message, Reply, Request, Usage
from trustescalate.records.jsonl import decode, digest, encode

CACHE_SCHEMA = 2


class Cache:
    """Good replies by request, and whole judgments: one SQLite file, safe between processes and crashes.

    JSON, no pickle. Rows lie in the order in which they were written, in which they are mostly read again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors_named():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            with self._errors_named():
                self._prepare()
        except UsageError:
            self.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, CACHE_SCHEMA):
            raise UsageError(
                f"{self._path}: a cache of schema {version}, this version writes {CACHE_SCHEMA}", "remove it"
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA wal_autocheckpoint=10000")  # pages: the disk is waited for once in 40 MB
        for table in ("replies", "judgments"):
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, record BLOB)")
        self._db.execute(f"PRAGMA user_version={CACHE_SCHEMA}")

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Any way in which the file can be wrong, as an error that says what to do."""
        try:
            yield
        except (OSError, ValueError, sqlite3.Error) as error:
            busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            hint = (
                "another process holds it; try again"
                if busy
                else "is the disk full? if not, remove the file: it is rebuilt"
            )
            raise UsageError(f"{self._path}: not a usable cache ({error})", hint) from None

    def get(self, key: str) -> Reply | None:
        """The reply stored under a key."""
        with self._errors_named():
            row = self._db.execute("SELECT record FROM replies WHERE key = ?", (key,)).fetchone()
            return None if row is None else decode(row[0], Reply)

    def put(self, key: str, reply: Reply) -> None:
        """Store a good reply; failures are never stored."""
        if reply.failure is None:
            with self._errors_named():
                self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, encode(reply)))

    def get_judgment(self, key: str) -> Judgment | None:
        """The judgment stored under a key."""
        with self._errors_named():
            row = self._db.execute("SELECT record FROM judgments WHERE key = ?", (key,)).fetchone()
            return None if row is None else decode(row[0], Judgment)

    def put_judgment(self, key: str, judgment: Judgment) -> None:
        """Store a judgment without a failed vote; one that has any is asked again."""
        if all(vote.failure is None for vote in judgment.votes):
            with self._errors_named():
                self._db.execute("INSERT OR REPLACE INTO judgments VALUES (?, ?)", (key, encode(judgment)))

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


def request_key(endpoint: str, request: Request) -> str:
    """The cache key of a request to an endpoint."""
    *prefix, last = request.messages
    asked = (request.symbols, request.max_tokens, request.temperature, request.logprobs, request.sample)
    how = (request.mode, request.nonce)
    return digest(endpoint, _prefix_digest(tuple(prefix)), last.role, last.content, asked, how)


@lru_cache(maxsize=256)
def _prefix_digest(prefix: tuple[Message, ...]) -> str:
    """All items of an ensemble's member share their examples, so those are digested once."""
    return digest([(message.role, message.content) for message in prefix])


def most_usage(request: Request) -> Usage:
    """More than a request can use: a token a byte of text, room for a chat template, the whole reply."""
    size = 64 + sum(len(message.content.encode()) + 8 for message in request.messages)
    return Usage(calls=1, input_tokens=size, output_tokens=request.max_tokens)


def guard(
    ask: Callable[[Request], Awaitable[Reply]],
    endpoint: str,
    price: Callable[[Usage], float],
    cache: Cache,
    budget: Budget,
) -> Callable[[Request], Awaitable[Reply]]:
    """Put cache and budget around a backend: what was answered before is neither asked nor paid again.

    A request that is already under way is waited for, and asked again only if it failed.
    """
    under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def asked(request: Request) -> Reply:
        key = request_key(endpoint, request)
        async with under_way.setdefault(key, asyncio.Lock()):
            return cache.get(key) or await paid(key, request)

    async def paid(key: str, request: Request) -> Reply:
        reserved = price(most_usage(request))
        budget.reserve(reserved)
        cost = 0.0
        try:
            reply = await ask(request)
            cost = price(reply.usage)
        finally:
            budget.settle(reserved, cost)
        cache.put(key, reply)
        return reply

    return asked
