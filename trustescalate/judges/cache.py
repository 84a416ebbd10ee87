"""Cache good replies by request, and whole judgments, in one SQLite file."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from trustescalate.errors import UsageError
from trustescalate.judges.budget import Budget
from trustescalate.records import Judgment, Message, Reply, Request, Usage
from trustescalate.records.jsonl import decode, digest, encode

CACHE_SCHEMA = 2
T = TypeVar("T")


class Cache:
    """Good replies by request, and whole judgments: one SQLite file, safe across processes and crashes.

    Rows keep their order of insertion, which is mostly the order of reading.
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
        """Turn any error of the file into a UsageError with a hint."""
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

    def _get(self, table: str, key: str, kind: type[T]) -> T | None:
        with self._errors_named():
            row = self._db.execute(f"SELECT record FROM {table} WHERE key = ?", (key,)).fetchone()
            return None if row is None else decode(row[0], kind)

    def _put(self, table: str, key: str, record: Reply | Judgment) -> None:
        with self._errors_named():
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, encode(record)))

    def get(self, key: str) -> Reply | None:
        """The reply stored under a key."""
        return self._get("replies", key, Reply)

    def put(self, key: str, reply: Reply) -> None:
        """Store a good reply; failures are never stored."""
        if reply.failure is None:
            self._put("replies", key, reply)

    def get_judgment(self, key: str) -> Judgment | None:
        """The judgment stored under a key."""
        return self._get("judgments", key, Judgment)

    def put_judgment(self, key: str, judgment: Judgment) -> None:
        """Store a judgment without failed votes; others are requested again."""
        if all(vote.failure is None for vote in judgment.votes):
            self._put("judgments", key, judgment)

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def request_key(endpoint: str, request: Request) -> str:
    """The cache key of a request to an endpoint."""
    *prefix, last = request.messages
    asked = (request.symbols, request.max_tokens, request.temperature, request.logprobs, request.sample)
    how = (request.mode, request.nonce)
    return digest(endpoint, _prefix_digest(tuple(prefix)), last.role, last.content, asked, how)


@lru_cache(maxsize=256)
def _prefix_digest(prefix: tuple[Message, ...]) -> str:
    """The digest of the few-shot examples, shared by all items of a prompt."""
    return digest([(message.role, message.content) for message in prefix])


def most_usage(request: Request) -> Usage:
    """An upper bound on the usage of a request: a token per byte, a chat template, the longest reply."""
    size = 64 + sum(len(message.content.encode()) + 8 for message in request.messages)
    return Usage(calls=1, input_tokens=size, output_tokens=request.max_tokens)


def guard(
    ask: Callable[[Request], Awaitable[Reply]],
    endpoint: str,
    price: Callable[[Usage], float],
    cache: Cache,
    budget: Budget,
) -> Callable[[Request], Awaitable[Reply]]:
    """Put cache and budget around a backend: a cache hit makes no model call and costs nothing.

    A request that is already in flight is awaited, and sent again only if it failed.
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
