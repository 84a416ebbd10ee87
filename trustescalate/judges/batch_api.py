"""Send requests through the Batch API of OpenAI and its imitators: a file, answered within a day, cheaper.

A folder holds the batches in progress: a manifest of requests and a state. Each is written before the step
that it records, and looked up at the provider afterwards, so a kill at any moment loses no batch and uploads
none twice. The module is independent of cache, budget and judges: bodies in, replies out.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from trustescalate.errors import ProviderError, UsageError
from trustescalate.judges.completions import Answer, parse_completion
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.openai import is_empty
from trustescalate.judges.refusals import status_within
from trustescalate.judges.transport import MOST_BYTES as MOST_LINE
from trustescalate.judges.transport import Call
from trustescalate.records import Reply, Usage
from trustescalate.records.jsonl import decode, encode, write_atomically

MOST_REQUESTS = 50_000
MOST_BYTES = 150_000_000
"""Of one file. OpenAI allows 50,000 requests and 200 MB."""
MOST_RESULTS = 2**33
"""Bytes of one file of results."""
WINDOW = "24h"
FIRST_POLL, LONGEST_POLL = 1.0, 60.0
ENDED = ("completed", "failed", "expired", "cancelled")
PATH = "/v1/chat/completions"
TAG = "trustescalate"
HINT = "fix the cause, then resume"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ticket:
    """A batch in progress. `name` is the mark by which its file and batch are recognised at the provider."""

    name: str
    judge: str
    endpoint: str
    requests: int
    file_id: str | None = None
    batch_id: str | None = None
    begun: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """One request's outcome. `answer` holds an error; `again`: another attempt may succeed."""

    key: str
    reply: Reply
    answer: Answer | None = None
    again: bool = False


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
        notice: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._judge, self._endpoint, self._id, self._folder = judge, endpoint, endpoint_id, folder
        self._notice, self._sleep = notice, sleep

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def resumed(self) -> AsyncIterator[Line]:
        """Yield the outcomes of batches that an earlier process left in progress, when they have ended."""
        for ticket in self._load_tickets():
            async for line in self._collect(await self._begin(ticket, resumed=True)):
                yield line

    async def answers(self, bodies: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Line]:
        """Yield the outcomes of these requests; those that an expired batch left out are "not_answered"."""
        parts = _split_parts(bodies, self._row, self.most_requests, self.most_bytes)
        tickets = [self._open_ticket(part) for part in parts]
        begun = [await self._begin(ticket, resumed=False) for ticket in tickets]
        for ticket in begun:
            async for line in self._collect(ticket):
                yield line

    # ── start ──

    def _row(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One line of a manifest."""
        return {"custom_id": key, "method": "POST", "url": PATH, "body": body}

    def _load_tickets(self) -> list[Ticket]:
        tickets = [_read_ticket(path) for path in sorted(self._folder.glob("*.json"))]
        return [each for each in tickets if (each.endpoint, each.judge) == (self._id, self._judge)]

    def _open_ticket(self, lines: Mapping[str, bytes]) -> Ticket:
        self._folder.mkdir(parents=True, exist_ok=True)
        ticket = Ticket(secrets.token_hex(12), self._judge, self._id, len(lines), begun=time.time())
        write_atomically(self._manifest_path(ticket), b"".join(lines.values()))
        self._save(ticket)
        return ticket

    def _manifest_path(self, ticket: Ticket) -> Path:
        return self._folder / f"{TAG}-{ticket.name}.jsonl"

    def _save(self, ticket: Ticket) -> None:
        write_atomically(self._folder / f"{ticket.name}.json", encode(ticket) + b"\n")

    def _forget(self, ticket: Ticket) -> None:
        (self._folder / f"{ticket.name}.json").unlink(missing_ok=True)
        self._manifest_path(ticket).unlink(missing_ok=True)

    async def _begin(self, ticket: Ticket, *, resumed: bool) -> Ticket:
        """Upload the file and start the batch, unless that is done. Each id is saved before the next step."""
        if ticket.file_id is None and ticket.batch_id is None:
            path = self._manifest_path(ticket)
            file = (path.name, path.read_bytes(), "application/jsonl")
            file_id = await self._create(
                "file",
                Call("POST", "/files", more={"data": {"purpose": "batch"}, "files": {"file": file}}),
                Call("GET", "/files", more={"params": {"purpose": "batch", "limit": 100}}),
                lambda row: row.get("filename") == path.name,
                resumed,
            )
            ticket = replace(ticket, file_id=file_id)
            self._save(ticket)
        if ticket.batch_id is None:
            body = {"input_file_id": ticket.file_id, "endpoint": PATH, "completion_window": WINDOW}
            content = json.dumps({**body, "metadata": {TAG: ticket.name}}).encode()
            batch_id = await self._create(
                "batch",
                Call("POST", "/batches", lambda: content),
                Call("GET", "/batches", more={"params": {"limit": 100}}),
                lambda row: (row.get("metadata") or {}).get(TAG) == ticket.name,
                resumed,
            )
            ticket = self._started(ticket, batch_id)
        return ticket

    def _started(self, ticket: Ticket, batch_id: str) -> Ticket:
        """Keep the id of a batch that was made."""
        ticket = replace(ticket, batch_id=batch_id)
        self._save(ticket)
        self._notice(f"{self._judge}: batch {batch_id} of {ticket.requests:,} requests is in progress")
        return ticket

    async def _create(
        self, what: str, make: Call, listed: Call, is_ours: Callable[[dict[str, Any]], bool], resumed: bool
    ) -> str:
        """Create a file or batch and return its id; look first if an earlier attempt may have succeeded."""

        async def find() -> str | None:
            rows, _ = await self._endpoint.exchange(listed, _read_rows)
            return next((row["id"] for row in rows or () if is_ours(row)), None)

        return await self._find_or_make(what, make, find, _read_id, resumed)

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

    async def _collect(self, ticket: Ticket) -> AsyncIterator[Line]:
        batch = await self._await_end(ticket)
        if batch["status"] == "failed":
            self._forget(ticket)
            raise ProviderError(f"{self._judge}: the batch was refused: {self._read_reason(batch)}", HINT)
        asked, seen = set(_read_keys(self._manifest_path(ticket))), set[str]()
        async for line in self._results(ticket, batch):
            if line.key in asked and line.key not in seen:
                seen.add(line.key)
                reply = line.reply
                if reply.failure is not None:
                    reply = replace(reply, text=self._endpoint.shown(reply.text))
                yield replace(line, reply=self._endpoint.cleaned(reply))
        for key in sorted(asked - seen):
            yield Line(key, Reply("", None, "stop", Usage(), "not_answered"), again=True)
        came = f"{len(seen):,} of {len(asked):,} came back"
        self._notice(f"{self._judge}: batch {ticket.batch_id} {batch['status']}: {came}")
        self._forget(ticket)

    async def _results(self, ticket: Ticket, batch: Mapping[str, Any]) -> AsyncIterator[Line]:
        """The outcomes of a batch that has ended, in any order."""
        for name in ("output_file_id", "error_file_id"):
            if isinstance(batch.get(name), str):
                results = self._folder / f"{TAG}-{ticket.name}.{name}"
                try:
                    await self._download(ticket, f"/files/{batch[name]}/content", results)
                    for line in read_lines(bounded_lines(results)):
                        yield line
                finally:
                    results.unlink(missing_ok=True)

    async def _state(self, ticket: Ticket) -> dict[str, Any]:
        """The state of a batch, with a `status` that is one of `ENDED` in the end."""
        return await self._get(f"batch {ticket.batch_id}", f"/batches/{ticket.batch_id}", _read_batch)

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
            why = answer.why or answer.failure
            raise ProviderError(f"{self._judge}: {what} cannot be read: {why}", "try again later")
        return value

    def _read_reason(self, batch: Mapping[str, Any]) -> str:
        errors = batch.get("errors")
        rows = errors.get("data") if isinstance(errors, dict) else None
        messages = [str(row.get("message")) for row in rows or () if isinstance(row, dict)]
        return self._endpoint.clean("; ".join(messages[:3]))[:300] or "no reason is given"


# ── files ──────────────────────────────────────────────────────────────────────────────────────────


def _split_parts(
    bodies: Mapping[str, Mapping[str, Any]],
    row: Callable[[str, Mapping[str, Any]], dict[str, Any]],
    most_requests: int,
    most_bytes: int,
) -> Iterator[dict[str, bytes]]:
    """Yield manifest lines, in files of a size that is accepted."""
    part: dict[str, bytes] = {}
    size = 0
    for key, body in bodies.items():
        line = json.dumps(row(key, body), separators=(",", ":")).encode() + b"\n"
        if part and (len(part) >= most_requests or size + len(line) > most_bytes):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line)
    if part:
        yield part


def _read_keys(manifest: Path) -> Iterator[str]:
    with manifest.open("rb") as lines:
        for line in lines:
            yield json.loads(line)["custom_id"]


def _read_ticket(path: Path) -> Ticket:
    try:
        return decode(path.read_bytes(), Ticket)
    except (ValueError, OSError) as error:
        hint = "remove it: its requests are sent again"
        raise UsageError(f"{path}: not the record of a batch ({error})", hint) from None


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


def _read_rows(content: bytes) -> tuple[list[dict[str, Any]], int] | None:
    rows = _read_fields(content).get("data")
    if not isinstance(rows, list):
        return None
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)], 0
