"""Cache good replies by request, and whole judgments, in one SQLite file."""

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from trustescalate.errors import UsageError
from trustescalate.judges.base import are_log_probabilities
from trustescalate.judges.budget import Admission, Budget, Spending, admission
from trustescalate.records import Judgment, Message, Reply, Request, Usage
from trustescalate.records.jsonl import decode, digest, encode

CACHE_SCHEMA = 2
T = TypeVar("T")


class Cache:
    """Good replies by request, and whole judgments: one SQLite file, safe across processes and crashes.

    Rows keep their order of insertion, which is mostly the order of reading. A row that cannot be read is
    none. After a row that could not be written, `failed` holds the error and nothing more is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failed: UsageError | None = None
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
        (journal,) = self._db.execute("PRAGMA journal_mode=WAL").fetchone()
        self._reads_freely = journal == "wal"  # elsewhere a reader keeps all others from writing
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
        try:
            row = self._row(table, key)
            return decode(row[0], kind) if row is not None and isinstance(row[0], bytes) else None
        except (
            ValueError,
            OSError,
            OverflowError,
            sqlite3.Error,
        ):  # a damaged row or page is asked for again
            return None

    def _row(self, table: str, key: str) -> tuple[object] | None:
        """Find a row. Those found one after the other are read in one transaction, without a lock for each;
        it ends before a row is missing, which another process may have written since."""
        look = f"SELECT record FROM {table} WHERE key = ?"
        row: tuple[object] | None = self._db.execute(look, (key,)).fetchone()
        if row is None and self._db.in_transaction:
            self._end_reading()
            row = self._db.execute(look, (key,)).fetchone()
        elif row is not None and self._reads_freely and not self._db.in_transaction:
            self._db.execute("BEGIN")
        return row

    def _end_reading(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def _put(self, table: str, key: str, record: Reply | Judgment) -> None:
        self._write(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, encode(record)))

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        if self.failed is not None:
            return
        try:
            with self._errors_named():
                self._end_reading()
                self._db.execute(statement, values)
        except UsageError as error:
            self.failed = error

    def get(self, key: str) -> Reply | None:
        """The reply stored under a key."""
        reply = self._get("replies", key, Reply)
        if reply is None or reply.failure is not None:
            return None
        return reply if are_log_probabilities(reply.tokens or ()) else None

    def put(self, key: str, reply: Reply) -> None:
        """Store a good reply; failures are never stored."""
        if reply.failure is None:
            self._put("replies", key, reply)

    def forget(self, key: str) -> None:
        """Remove a reply that holds no verdict, so that it is asked for again."""
        self._write("DELETE FROM replies WHERE key = ?", (key,))

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
    asked: tuple[object, ...] = (
        request.symbols,
        request.max_tokens,
        request.temperature,
        request.logprobs,
        request.sample,
    )
    how: tuple[object, ...] = (request.mode, request.nonce)
    if request.criteria:
        how = (*how, request.criteria)
    return digest(endpoint, _prefix_digest(tuple(prefix)), last.role, last.content, asked, how)


@lru_cache(maxsize=256)
def _prefix_digest(prefix: tuple[Message, ...]) -> str:
    """The digest of the few-shot examples, shared by all items of a prompt."""
    return digest([(message.role, message.content) for message in prefix])


def size_of(request: Request) -> int:
    """The bytes of a request, with room for a chat template."""
    return 64 + sum(len(message.content.encode("utf-8", "replace")) + 8 for message in request.messages)


class Guarded:
    """A backend behind cache and budget: a cache hit makes no model call and costs nothing.

    A request that is already in flight is awaited, and sent again only if it failed. `has_slots` backends
    call `admission.begin` when a request has its slot, so nothing is set aside for requests that wait for
    one. A failed reply that `is_shared` by several rows is theirs too. With `served` no reply of a model of
    another name is kept, or taken from the cache. When an answer cannot be stored,
    it is returned, and no further call begins.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        endpoint: str,
        price: Callable[[Usage], float],
        cache: Cache,
        budget: Budget,
        *,
        has_slots: bool = False,
        is_shared: bool = False,
        served: Collection[str] | None = None,
    ) -> None:
        self._ask, self._endpoint, self._price = ask, endpoint, price
        self._cache, self._budget, self._has_slots = cache, budget, has_slots
        self._is_shared, self._served = is_shared, served
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unread: dict[str, Reply] = {}
        self._spending = Spending()

    async def __call__(self, request: Request) -> Reply:
        """Answer a request from the cache, or ask the backend."""
        key = request_key(self._endpoint, request)
        async with self._under_way.setdefault(key, asyncio.Lock()):
            reply = self._unread.get(key) or self.cached(key) or await self._paid(key, request)
            if self._is_shared and reply.failure is not None:
                self._unread[key] = reply  # the other rows of the item do not ask again
            return reply

    def cached(self, key: str) -> Reply | None:
        """The reply stored under a key, of a model that may answer."""
        reply = self._cache.get(key)
        return reply if reply is not None and self._may_answer(reply) else None

    def keep(self, key: str, reply: Reply) -> bool:
        """Store a good reply of a model that may answer, and return whether it is one."""
        kept = reply.failure is None and self._may_answer(reply)
        if kept:
            self._cache.put(key, reply)
        return kept

    def _may_answer(self, reply: Reply) -> bool:
        return self._served is None or reply.served in self._served

    def most_in_batch(self, request: Request) -> float:
        """The cost of a request in a batch if its reply is as long as it may be."""
        usage = self._expected(request)
        longest = max(usage.output_tokens, request.max_tokens)
        return self._price(replace(usage, output_tokens=longest, batched=1))

    def _expected(self, request: Request) -> Usage:
        return self._spending.expected(size_of(request), request.max_tokens)

    def named(self, reply: Reply) -> Reply:
        """A reply just paid, with a name of its own where it is shared: the next may have the same text."""
        return replace(reply, paid=secrets.token_hex(8)) if self._is_shared else reply

    def forget(self, request: Request) -> None:
        """Keep a reply without a verdict for this command only: the next one asks again."""
        key = request_key(self._endpoint, request)
        reply = self.cached(key)
        if reply is not None:
            self._unread[key] = reply
            self._cache.forget(key)

    async def _paid(self, key: str, request: Request) -> Reply:
        own = Admission(self._budget, lambda: self._price(self._expected(request)))
        while not self._has_slots and not own.begin():
            await own.freed()
        cost, outer = 0.0, admission.set(own)
        try:
            reply = await self._ask(request)
            cost = self._price(reply.usage)
        finally:
            admission.reset(outer)
            own.end(cost)
        if reply.failure is None:
            self._spending.learn(size_of(request), reply.usage)
        reply = self.named(reply)
        if not self.keep(key, reply) and reply.failure is None:
            self._unread[key] = reply
        if self._cache.failed is not None:
            self._budget.stop(self._cache.failed)
        return reply
