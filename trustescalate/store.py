"""What stays on disk: the response cache, and run folders that survive a kill at any moment."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self
from weakref import WeakValueDictionary

from trustescalate.errors import BudgetReached, DataError, UsageError
from trustescalate.jsonl import (
    decode,
    digest,
    encode,
    read_appended,
    read_rows,
    truncate_torn,
    write_atomically,
    write_rows,
)
from trustescalate.types import (
    Annotation,
    Channel,
    Decision,
    Item,
    Judgment,
    Message,
    Reply,
    Request,
    Run,
    RunHeader,
    Usage,
    Vote,
)
from trustescalate.votes import all_votes, draws_of, may_settle, orders_of

Enough = Callable[[Sequence[Vote], int], bool]

SCHEMA = 1
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


class Budget:
    """What may still be spent: set aside before a call, settled after it, so it is never exceeded."""

    def __init__(self, usd: float | None = None, calls: int | None = None) -> None:
        self._usd = usd
        self._calls = calls
        self._reserved = 0.0
        self.spent = 0.0
        self.calls = 0

    def reserve(self, cost: float) -> None:
        """Set aside one call of at most this cost, or raise BudgetReached."""
        if self._calls is not None and self.calls + 1 > self._calls:
            raise BudgetReached(f"the budget of {self._calls} calls is used up", "resume with a larger one")
        if self._usd is not None and self.spent + self._reserved + cost > self._usd:
            raise BudgetReached(
                f"the budget of {self._usd:g} USD cannot pay the next call (spent {self.spent:.4f})",
                "resume with a larger one",
            )
        self.calls += 1
        self._reserved += cost

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside by what was billed."""
        self._reserved -= reserved
        self.spent += cost


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


class RunFolder:
    """One run: a header written first, then rows that are only ever appended.

    The judgments of an item are written before its decision, so an item with a decision is complete, and
    after a crash all others are asked again (from the cache, as far as they were answered).
    """

    def __init__(self, path: Path, header: RunHeader) -> None:
        self.path = path
        self.header = header

    @classmethod
    def create(cls, path: Path, header: RunHeader, items: Sequence[Item]) -> Self:
        """Start a run: items and header first, both atomically."""
        path.mkdir(parents=True)
        write_rows(path / "items.jsonl", items)
        folder = cls(path, header)
        folder._write_header()
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run that exists. Raises DataError when its header is missing or damaged."""
        try:
            header = decode((path / "run.json").read_bytes(), RunHeader)
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no run here", "`trustescalate run` makes one") from None
        except ValueError as error:
            raise DataError([f"{path / 'run.json'}: {error}"], "start a new run") from None
        if header.schema != SCHEMA:
            raise UsageError(f"{path}: a run of schema {header.schema}, this version reads {SCHEMA}")
        return cls(path, header)

    def finish(self, status: Literal["running", "complete", "budget", "stopped"]) -> None:
        """Record how the run stands."""
        self.header = replace(self.header, status=status)
        self._write_header()

    def _write_header(self) -> None:
        write_atomically(self.path / "run.json", encode(self.header) + b"\n")

    def decided(self) -> set[str]:
        """The ids of items that need no more work."""
        decisions, _ = read_appended(self.path / "decisions.jsonl", Decision)
        return {decision.item_id for decision in decisions}

    def judgments(self) -> list[Judgment]:
        """All judgments that are recorded, also of items that are not decided yet."""
        judgments, _ = read_appended(self.path / "judgments.jsonl", Judgment)
        return judgments

    def load(self, annotations: Iterable[Annotation] = ()) -> Run:
        """The run as a value, rows in the order of its items, whatever the order they were written in."""
        rows, problems = read_rows(self.path / "items.jsonl", Item)
        if problems:
            raise DataError(problems, "the run folder was edited or damaged; start a new run")
        items = tuple(row.record for row in rows)
        decisions, _ = read_appended(self.path / "decisions.jsonl", Decision)
        judgments = self.judgments()
        by_item = {decision.item_id: decision for decision in decisions}
        asked = {(row.item_id, row.judge): row for row in judgments}
        decided = tuple(by_item[item.id] for item in items if item.id in by_item)
        steps = [(decision.item_id, step.judge) for decision in decided for step in decision.trail]
        if len(decided) < len(by_item) or not asked.keys() >= set(steps):
            problem = f"{self.path}: items.jsonl, judgments.jsonl and decisions.jsonl do not belong together"
            raise DataError([problem], "the run folder was edited or damaged; start a new run")
        known = {item.id for item in items}
        # In expectation items are decided last, together: what was asked until then is part of the run too.
        whole = list(asked) if self.header.certificate.status == "expected" else steps
        return Run(
            self.header,
            items,
            tuple(asked[step] for step in whole),
            decided,
            tuple(row for row in annotations if row.item_id in known),
        )

    def writer(self) -> "RunWriter":
        """Append to this run; only one process may."""
        return RunWriter(self.path)


class RunWriter:
    """Appends whole rows, judgments before their decision, and holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._judgments = os.open(path / "judgments.jsonl", flags, 0o644)
        self._decisions = os.open(path / "decisions.jsonl", flags, 0o644)
        if not lock(self._decisions):
            self.close()
            raise UsageError(
                f"{path}: another process is writing this run", "wait for it, or start a new run"
            )
        for name in ("judgments.jsonl", "decisions.jsonl"):
            truncate_torn(path / name)

    def record(self, judgments: Sequence[Judgment], decision: Decision) -> None:
        """Write one item."""
        append(self._judgments, b"".join(encode(judgment) + b"\n" for judgment in judgments))
        append(self._decisions, encode(decision) + b"\n")

    def record_judgment(self, judgment: Judgment) -> None:
        """Write what one judge says of an item that is decided later."""
        append(self._judgments, encode(judgment) + b"\n")

    def record_decisions(self, decisions: Sequence[Decision]) -> None:
        """Write the decisions on items whose judgments are written."""
        append(self._decisions, b"".join(encode(decision) + b"\n" for decision in decisions))

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._judgments)
        os.close(self._decisions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def append(file: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(file, data) :]


def lock(file: int) -> bool:
    """Take a file for this process alone; False where another one holds it."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


class _Judge(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def channel(self) -> Channel: ...
    async def judge(self, item: Item, enough: Enough) -> Judgment: ...


class RecallingJudge:
    """A judge whose judgments are recalled whole, with no prompt rendered and no reply read again.

    What is recalled is what the judge would say with all its replies in the cache: votes wave by wave, one
    exemplar set at a time, until `enough` of them are in; too few, and the judge is asked. `price` is
    whatever the costs of the votes depend on.
    """

    def __init__(self, judge: _Judge, cache: Cache, price: object) -> None:
        self._judge, self._cache = judge, cache
        self._identity = digest(judge.fingerprint, price)
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """Where the votes come from."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Recall the votes on an item, or ask for them."""
        key = digest(self._identity, item.prompt, item.responses, item.reference, item.meta)
        kept = self._cache.get_judgment(key)
        votes = None if kept is None else self._recalled(kept, enough)
        if kept is None or votes is None:
            judgment = await self._judge.judge(item, enough)
            self._cache.put_judgment(key, judgment)
            return judgment
        return Judgment(item.id, self.name, self.fingerprint, votes, kept.planned)

    def _recalled(self, kept: Judgment, enough: Enough) -> tuple[Vote, ...] | None:
        """The votes up to the wave that is enough. A judge that gave no answer yet has an unknown channel."""
        votes, seen = kept.votes, 0
        if votes[0].channel != self._judge.channel:
            return None
        if enough is all_votes and len(votes) == kept.planned:
            return votes  # nothing ends it early: the waves below would only cost time
        each, draws = orders_of(votes), draws_of(votes)
        while seen < len(votes):
            wave = each - seen % each
            if seen and wave > draws and may_settle(votes[:seen], kept.planned, draws, enough):
                wave = draws
            seen += wave
            if seen > len(votes):
                return None
            if seen == kept.planned or enough(votes[:seen], kept.planned):
                return votes[:seen]
        return None
