"""Send requests through the Batch API of OpenAI and its imitators: a file, answered within a day, cheaper.

A folder holds the batches in progress: a manifest of requests and a state. Each is written before the step
that it records, and looked up at the provider afterwards, so a kill at any moment loses no batch and uploads
none twice. The module is independent of cache, budget and judges: bodies in, replies out.
"""

import asyncio
import json
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from trustescalate.errors import ProviderError
from trustescalate.judges.batch_files import (
    TAG,
    BatchFolder,
    Spool,
    Ticket,
    numbered_keys,
    read_asked,
    request_of,
)
from trustescalate.judges.completions import Answer, count_of, parse_completion
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.openai import is_empty
from trustescalate.judges.refusals import status_within
from trustescalate.judges.transport import MOST_BYTES as MOST_LINE
from trustescalate.judges.transport import Call
from trustescalate.records import Reply, Request, Usage

MOST_REQUESTS = 50_000
MOST_BYTES = 100_000_000
"""Of one file. OpenAI allows 50,000 requests and 200 MB."""
MOST_RESULTS = 2**33
"""Bytes of one file of results."""
PAGE = {"limit": "100"}
MOST_PAGES = 100
"""Rows of a page of a list, and pages that are read: 10,000 batches."""
Page = tuple[list[dict[str, Any]], Mapping[str, str]]
"""The rows of a page of a list, and the parameters of the next one, if there is one."""
WINDOW = "24h"
FIRST_POLL, LONGEST_POLL = 1.0, 60.0
ENDED = ("completed", "failed", "expired", "cancelled")
PATH = "/v1/chat/completions"
QUEUE_FULL = re.compile(r"enqueued|token_limit_exceeded|too many batch", re.I)
"""A refusal of a batch that ends when other batches have ended."""
HINT = "fix the cause, then resume"
START_ANEW = "or remove .trustescalate/batches, and pay again for what is in progress"
T = TypeVar("T")
ReadAnswer = Callable[[Mapping[str, Any], bytes], Awaitable[Answer]]
"""(a request in OpenAI's form, the provider's answer to it) -> the answer in OpenAI's form."""


@dataclass(frozen=True, slots=True)
class Line:
    """One request's outcome. `answer` holds an error; `again`: another attempt may succeed.

    `batch` is the name of its ticket; `request` has blanks for its texts, and is None for one of an older
    version.
    """

    key: str
    reply: Reply
    answer: Answer | None = None
    again: bool = False
    batch: str = ""
    request: Request | None = None


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is at its provider: `status` in the provider's word, requests answered and failed."""

    status: str
    done: int
    failed: int


class BatchClient:
    """Batches of one judge, in OpenAI's API; another API overrides what it asks of the provider.

    `endpoint_id` separates its tickets from those of other models in the folder. `sleep` waits between polls,
    `notice` receives the state of a batch. Raises ProviderError where the provider refuses a batch as a
    whole, or has no Batch API.
    """

    most_requests, most_bytes = MOST_REQUESTS, MOST_BYTES

    def __init__(
        self,
        judge: str,
        endpoint: Endpoint,
        endpoint_id: str,
        folder: Path,
        *,
        in_flight: int,
        notice: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._judge, self._endpoint, self._id = judge, endpoint, endpoint_id
        self._files, self._in_flight = BatchFolder(folder), in_flight
        self._notice, self._sleep = notice, sleep
        self._open, self._sending = 0, asyncio.Lock()

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    def spool(self) -> Spool:
        """Manifests for further requests."""
        return Spool(self._files, self.most_requests, self.most_bytes)

    def line(self, key: str, body: Mapping[str, Any]) -> bytes:
        """One line of a manifest."""
        return json.dumps(self._row(key, body), separators=(",", ":")).encode() + b"\n"

    def sealed(self, spool: Spool) -> list[Ticket]:
        """The batches of the requests that were spooled."""
        return spool.sealed(self._judge, self._id)

    def left(self) -> list[Ticket]:
        """The batches that an earlier process left in progress."""
        return [
            each for each in self._files.tickets() if (each.endpoint, each.judge) == (self._id, self._judge)
        ]

    async def outcomes(self, tickets: Sequence[Ticket], *, resumed: bool) -> AsyncGenerator[Line, None]:
        """Yield the outcomes of the requests of batches as they end, so many in flight at a time.

        Requests that an expired batch left out are "not_answered".
        """
        slots = asyncio.Semaphore(self._in_flight)
        tasks = [asyncio.create_task(self._run(ticket, slots, resumed=resumed)) for ticket in tickets]
        try:
            for ended in asyncio.as_completed(tasks):
                ticket, batch = await ended
                async for line in self._collect(ticket, batch):
                    yield line
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def state(self, ticket: Ticket) -> BatchState:
        """How far a batch is, as the provider says."""
        batch = await self._state(ticket)
        done, failed = self._read_counts(batch)
        return BatchState(batch["status"], done, failed)

    # ── start ──

    def _row(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"custom_id": key, "method": "POST", "url": PATH, "body": body}

    async def _run(
        self, ticket: Ticket, slots: asyncio.Semaphore, *, resumed: bool
    ) -> tuple[Ticket, dict[str, Any]]:
        """Send a batch, and wait until it has ended; again where the provider's queue was full."""
        async with slots:
            while True:
                async with self._sending:  # one body in memory at a time
                    ticket = await self._begin(ticket, resumed=resumed)
                self._open += 1
                try:
                    batch = await self._await_end(ticket)
                finally:
                    self._open -= 1
                others, is_full = self._open, QUEUE_FULL.search(json.dumps(batch.get("errors")))
                if batch["status"] != "failed" or not (is_full and others):
                    return ticket, batch
                self._notice(f"{self._judge}: batch {ticket.batch_id} waits until another one has ended")
                ticket, resumed = replace(ticket, batch_id=None), False
                self._files.save(ticket)
                wait = FIRST_POLL
                while self._open >= others:
                    await self._sleep(wait)
                    wait = min(2 * wait, LONGEST_POLL)

    async def _begin(self, ticket: Ticket, *, resumed: bool) -> Ticket:
        """Upload the file and start the batch, unless that is done. Each id is saved before the next step."""
        if ticket.file_id is None and ticket.batch_id is None:
            path = self._files.manifest(ticket.name)
            file_id = await self._create(
                "file",
                Call("POST", "/files", form={"purpose": "batch", "file": path}),
                ("/files", {"purpose": "batch", **PAGE}),
                lambda row: row.get("filename") == path.name,
                resumed,
            )
            ticket = replace(ticket, file_id=file_id)
            self._files.save(ticket)
        if ticket.batch_id is None:
            body = {"input_file_id": ticket.file_id, "endpoint": PATH, "completion_window": WINDOW}
            content = json.dumps({**body, "metadata": {TAG: ticket.name}}).encode()
            batch_id = await self._create(
                "batch",
                Call("POST", "/batches", lambda: content),
                ("/batches", PAGE),
                lambda row: (row.get("metadata") or {}).get(TAG) == ticket.name,
                resumed,
            )
            ticket = self._started(ticket, batch_id)
        return ticket

    def _started(self, ticket: Ticket, batch_id: str) -> Ticket:
        """Keep the id of a batch that was made."""
        ticket = replace(ticket, batch_id=batch_id)
        self._files.save(ticket)
        self._notice(f"{self._judge}: batch {batch_id} of {ticket.requests:,} requests is in progress")
        return ticket

    async def _create(
        self,
        what: str,
        make: Call,
        listed: tuple[str, Mapping[str, str]],
        is_ours: Callable[[dict[str, Any]], bool],
        resumed: bool,
    ) -> str:
        """Create a file or batch and return its id; look first if an earlier attempt may have succeeded."""

        async def find() -> str | None:
            async for row in self._listed(*listed):
                if is_ours(row):
                    return str(row["id"])
            return None

        return await self._find_or_make(what, make, find, _read_id, resumed)

    async def _listed(self, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """The rows of a list, page by page, newest first. Raises ProviderError for one that cannot be read:
        what it holds would be made and paid again."""
        more: Mapping[str, str] = {}
        for _ in range(MOST_PAGES):
            call = Call("GET", path, params={**params, **more})
            rows, more = await self._exchange(f"the list at {path}", call, self._read_page)
            for row in rows:
                yield row
            if not more:
                return
        raise ProviderError(f"{self._judge}: the list at {path} has too many pages", HINT)

    def _read_page(self, content: bytes) -> tuple[Page, int] | None:
        """A page of a list."""
        return read_page(content, "after")

    async def _find_or_make(
        self,
        what: str,
        make: Call,
        find: Callable[[], Awaitable[str | None]],
        read: Callable[[bytes], tuple[str, int] | None],
        resumed: bool,
    ) -> str:
        identity = await find() if resumed else None
        if identity is None:
            identity, answer = await self._endpoint.exchange(make, read, find)
        if identity is None:
            refusal = self._endpoint.failed(answer)
            why = refusal.text[:300] or refusal.failure
            raise ProviderError(f"{self._judge}: the {what} could not be created: {why}", HINT)
        return identity

    # ── end ──

    async def _collect(self, ticket: Ticket, batch: Mapping[str, Any]) -> AsyncIterator[Line]:
        if batch["status"] == "failed":
            self._files.forget(ticket)
            raise ProviderError(f"{self._judge}: the batch was refused: {self._read_reason(batch)}", HINT)
        numbers, size = numbered_keys(self._files.manifest(ticket.name)), ticket.requests
        asked = read_asked(self._files.asked(ticket.name))
        async for line in self._results(ticket, batch):
            number = numbers.pop(line.key, None)
            if number is None:
                continue
            reply = line.reply
            if reply.failure is not None:
                reply = replace(reply, text=self._endpoint.shown(reply.text))
            request = None if asked is None else request_of(asked.read(number))
            cleaned = self._endpoint.cleaned(reply)
            yield replace(line, reply=cleaned, batch=ticket.name, request=request)
        for key in numbers:
            left_out = Reply("", None, "stop", Usage(), "not_answered")
            yield Line(key, left_out, again=True, batch=ticket.name)
        came = f"{size - len(numbers):,} of {size:,} came back"
        self._notice(f"{self._judge}: batch {ticket.batch_id} {batch['status']}: {came}")
        self._files.forget(ticket)

    async def _results(self, ticket: Ticket, batch: Mapping[str, Any]) -> AsyncIterator[Line]:
        """The outcomes of a batch that has ended, in any order."""
        for name in ("output_file_id", "error_file_id"):
            if isinstance(batch.get(name), str):
                results = self._files.path / f"{TAG}-{ticket.name}.{name}"
                try:
                    await self._download(ticket, f"/files/{batch[name]}/content", results)
                    for line in read_lines(bounded_lines(results)):
                        yield line
                finally:
                    results.unlink(missing_ok=True)

    async def _state(self, ticket: Ticket) -> dict[str, Any]:
        """The state of a batch, with a `status` that is one of `ENDED` in the end."""
        return await self._get(f"batch {ticket.batch_id}", f"/batches/{ticket.batch_id}", _read_batch)

    def _read_counts(self, batch: Mapping[str, Any]) -> tuple[int, int]:
        """The requests of a batch that are answered and failed so far."""
        counts = batch.get("request_counts")
        named = counts if isinstance(counts, dict) else {}
        return count_of(named.get("completed")), count_of(named.get("failed"))

    async def _await_end(self, ticket: Ticket) -> dict[str, Any]:
        wait = FIRST_POLL
        while True:
            batch = await self._state(ticket)
            if batch["status"] in ENDED:
                return batch
            await self._sleep(wait)
            wait = min(2 * wait, LONGEST_POLL)

    async def _download(self, ticket: Ticket, path: str, results: Path) -> None:
        most = min(ticket.requests * MOST_LINE, MOST_RESULTS)
        call = Call("GET", path, into=results, most_bytes=most)
        await self._exchange(f"the file at {path}", call, lambda content: (content, 0))

    async def _get(self, what: str, path: str, read: Callable[[bytes], tuple[T, int] | None]) -> T:
        return await self._exchange(what, Call("GET", path), read)

    async def _exchange(self, what: str, call: Call, read: Callable[[bytes], tuple[T, int] | None]) -> T:
        value, answer = await self._endpoint.exchange(call, read)
        if value is None:
            why = self._endpoint.shown(answer.message) or answer.failure
            hint = "try again later" if answer.retryable else f"{HINT}; {START_ANEW}"
            raise ProviderError(f"{self._judge}: {what} cannot be read: {why}", hint)
        return value

    def _read_reason(self, batch: Mapping[str, Any]) -> str:
        errors = batch.get("errors")
        rows = errors.get("data") if isinstance(errors, dict) else None
        messages = [str(row.get("message")) for row in rows or () if isinstance(row, dict)]
        return self._endpoint.clean("; ".join(messages[:3]))[:300] or "no reason is given"


# ── files ──────────────────────────────────────────────────────────────────────────────────────────


def bounded_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each up to its limit and one byte."""
    with path.open("rb") as file:
        while line := file.readline(MOST_LINE + 1):
            rest = line
            while len(rest) > MOST_LINE and not rest.endswith(b"\n"):
                rest = file.readline(MOST_LINE + 1)
            yield line


def read_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """Parse an output or error file; an invalid line is left out, and so counts as unanswered.

    >>> good = b'{"custom_id": "k", "response": {"status_code": 200, "body": {"choices": [{"message": '
    >>> (line,) = read_lines([good + b'{"content": "A"}, "finish_reason": "stop"}]}}, "error": null}'])
    >>> line.key, line.reply.text, line.reply.usage.batched
    ('k', 'A', 1)
    >>> (line,) = read_lines([b'{"custom_id": "k", "response": null, "error": {"code": "batch_expired"}}'])
    >>> line.reply.failure, line.again
    ('not_answered', True)
    """
    for text in lines:
        if len(text) > MOST_LINE:
            key = re.search(rb'"custom_id"\s*:\s*"([\w.-]{1,100})"', text)
            if key is not None:
                why = f"the reply is larger than {MOST_LINE / 2**20:.0f} MiB"
                yield Line(key[1].decode(), Reply(why, None, "stop", Usage(1, batched=1), "bad_reply"))
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
            yield _read_line(row["custom_id"], row.get("response"), row.get("error"))


def _read_line(key: str, response: Any, error: Any) -> Line:
    if not isinstance(response, dict):
        code = error.get("code") if isinstance(error, dict) else None
        failure = "not_answered" if code in ("batch_expired", "batch_cancelled") else "server_error"
        return Line(key, Reply("", None, "stop", Usage(), failure), again=True)
    status = response.get("status_code")
    body = json.dumps(response.get("body")).encode()
    return read_outcome(key, Answer(status if isinstance(status, int) else 500, {}, body))


def read_outcome(key: str, answer: Answer) -> Line:
    """The outcome of one request, from its answer in the form of a chat completion or an error."""
    body = answer.content
    reply = parse_completion(body) if answer.status == 200 else None
    if reply is None and answer.status == 200:
        answer = replace(answer, status=status_within(body) or 502)
    elif reply is not None:
        if is_empty(reply):
            reply = replace(reply, failure="empty")
        return Line(key, replace(reply, usage=replace(reply.usage, batched=1)))
    failed = Reply(answer.message, None, "stop", Usage(1, batched=1), answer.failure)
    return Line(key, failed, answer, again=answer.retryable)


# ── answers ────────────────────────────────────────────────────────────────────────────────────────


def _read_fields(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _read_id(content: bytes) -> tuple[str, int] | None:
    identity = _read_fields(content).get("id")
    return (identity, 0) if isinstance(identity, str) else None


def _read_batch(content: bytes) -> tuple[dict[str, Any], int] | None:
    fields = _read_fields(content)
    return (fields, 0) if isinstance(fields.get("status"), str) else None


def read_page(content: bytes, after: str) -> tuple[Page, int] | None:
    """A page of a list; `after` is the parameter that names the last row before the next page."""
    fields = _read_fields(content)
    rows = fields.get("data")
    if not isinstance(rows, list):
        return None
    named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if fields.get("has_more") is not True:
        return (named, {}), 0
    return ((named, {after: named[-1]["id"]}), 0) if named else None
