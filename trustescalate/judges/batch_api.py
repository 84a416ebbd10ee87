"""The Batch API of OpenAI and of those who speak like it: a file of requests, answered within a day, cheaper.

What is under way lies in a folder: a manifest of requests and a state. Each is written before the step that
it stands for is taken, and looked for at the provider afterwards, so a kill at any moment loses no batch and
uploads none twice. This file knows no cache, no budget and no judge: bodies in, replies out.
"""

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer, backoff, parse_completion
from trustescalate.judges.endpoint import Endpoint
from trustescalate.records import Reply, Usage
from trustescalate.records.jsonl import decode, encode, write_atomically

MOST_REQUESTS = 50_000
MOST_BYTES = 150_000_000
"""Of one file. OpenAI allows 50,000 requests and 200 MB."""
WINDOW = "24h"
FIRST_POLL, LONGEST_POLL = 1.0, 60.0
ENDED = ("completed", "failed", "expired", "cancelled")
PATH = "/v1/chat/completions"
TAG = "trustescalate"
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Ticket:
    """A batch under way. `name` is a mark of our own, by which file and batch are found at the provider."""

    name: str
    judge: str
    endpoint: str
    requests: int
    file_id: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One request's outcome. `answer` holds a refusal; `again`: asking may help."""

    key: str
    reply: Reply
    answer: Answer | None = None
    again: bool = False


class BatchClient:
    """Batches of one judge. `endpoint_id` tells its tickets from those of other models in the same folder.

    `sleep` waits between polls, `notice` is told how a batch stands. Raises ProviderError where the provider
    refuses a batch as a whole, or has no Batch API.
    """

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
        self._notice, self._sleep, self._rng = notice, sleep, random.Random()

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def resumed(self) -> AsyncIterator[Line]:
        """The outcomes of batches that an earlier process left under way, when they have ended."""
        for ticket in self._tickets():
            async for line in self._outcome(await self._begun(ticket, resumed=True)):
                yield line

    async def answers(self, bodies: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Line]:
        """The outcomes of these requests, by key. What a batch that expired left undone is said as such."""
        tickets = [self._ticket(part) for part in _parts(bodies)]
        begun = [await self._begun(ticket, resumed=False) for ticket in tickets]
        for ticket in begun:
            async for line in self._outcome(ticket):
                yield line

    # ── under way ──

    def _tickets(self) -> list[Ticket]:
        found = []
        for path in sorted(self._folder.glob("*.json")):
            ticket = decode(path.read_bytes(), Ticket)
            if ticket.endpoint == self._id and ticket.judge == self._judge:
                found.append(ticket)
        return found

    def _ticket(self, lines: Mapping[str, bytes]) -> Ticket:
        self._folder.mkdir(parents=True, exist_ok=True)
        ticket = Ticket(secrets.token_hex(12), self._judge, self._id, len(lines))
        write_atomically(self._manifest(ticket), b"".join(lines.values()))
        self._save(ticket)
        return ticket

    def _manifest(self, ticket: Ticket) -> Path:
        return self._folder / f"{TAG}-{ticket.name}.jsonl"

    def _save(self, ticket: Ticket) -> None:
        write_atomically(self._folder / f"{ticket.name}.json", encode(ticket) + b"\n")

    def _forget(self, ticket: Ticket) -> None:
        (self._folder / f"{ticket.name}.json").unlink(missing_ok=True)
        self._manifest(ticket).unlink(missing_ok=True)

    async def _begun(self, ticket: Ticket, *, resumed: bool) -> Ticket:
        """Upload and start what is not yet. Each id is written down before anything is waited for."""
        if ticket.file_id is None and ticket.batch_id is None:
            file_id = await self._made("file", ticket, self._upload, self._find_file, resumed)
            ticket = replace(ticket, file_id=file_id)
            self._save(ticket)
        if ticket.batch_id is None:
            batch_id = await self._made("batch", ticket, self._start, self._find_batch, resumed)
            ticket = replace(ticket, batch_id=batch_id)
            self._save(ticket)
            self._notice(f"{self._judge}: batch {batch_id} of {ticket.requests:,} requests is under way")
        return ticket

    async def _made(
        self,
        what: str,
        ticket: Ticket,
        make: Callable[[Ticket], Awaitable[Answer]],
        find: Callable[[Ticket], Awaitable[str | None]],
        resumed: bool,
    ) -> str:
        """The id of a thing at the provider: looked for first, where its making may have gone unnoticed."""
        answer = Answer()
        for attempt in range(ATTEMPTS):
            if attempt or resumed:
                found = await find(ticket)
                if found is not None:
                    return found
            answer = await make(ticket)
            made = _field(answer, "id")
            if answer.failed is None and answer.status < 400 and isinstance(made, str):
                return made
            if not answer.retryable:
                break
            await self._sleep(backoff(attempt + 1, answer.headers, self._rng))
        said = self._endpoint.clean(answer.message)[:300] or answer.failure
        raise ProviderError(f"{self._judge}: the {what} could not be made: {said}", "mend that, then go on")

    async def _upload(self, ticket: Ticket) -> Answer:
        path = self._manifest(ticket)
        file = (path.name, path.read_bytes(), "application/jsonl")
        return await self._endpoint.exchange(
            "POST", "/files", attempts=1, body={"purpose": "batch"}, files={"file": file}
        )

    async def _start(self, ticket: Ticket) -> Answer:
        body = {"input_file_id": ticket.file_id, "endpoint": PATH, "completion_window": WINDOW}
        return await self._endpoint.exchange(
            "POST", "/batches", attempts=1, body=body | {"metadata": {TAG: ticket.name}}
        )

    async def _find_file(self, ticket: Ticket) -> str | None:
        answer = await self._endpoint.exchange("GET", "/files", params={"purpose": "batch", "limit": 100})
        return _find(answer, lambda row: row.get("filename") == self._manifest(ticket).name)

    async def _find_batch(self, ticket: Ticket) -> str | None:
        answer = await self._endpoint.exchange("GET", "/batches", params={"limit": 100})
        return _find(answer, lambda row: (row.get("metadata") or {}).get(TAG) == ticket.name)

    # ── its end ──

    async def _outcome(self, ticket: Ticket) -> AsyncIterator[Line]:
        batch = await self._ended(ticket)
        if batch["status"] == "failed":
            self._forget(ticket)
            said = f"{self._judge}: the batch was refused: {self._why(batch)}"
            raise ProviderError(said, "mend that, then go on")
        asked, seen = set(_keys(self._manifest(ticket))), set[str]()
        for name in ("output_file_id", "error_file_id"):
            if isinstance(batch.get(name), str):
                for line in read_lines(await self._content(batch[name])):
                    if line.key in asked - seen:
                        seen.add(line.key)
                        yield self._cleaned(line)
        for key in sorted(asked - seen):
            yield Line(key, Reply("", None, "stop", Usage(), "not_answered"), again=True)
        came = f"{len(seen):,} of {len(asked):,} came back"
        self._notice(f"{self._judge}: batch {ticket.batch_id} {batch['status']}: {came}")
        self._forget(ticket)

    async def _ended(self, ticket: Ticket) -> dict[str, Any]:
        wait = FIRST_POLL
        while True:
            answer = await self._endpoint.exchange("GET", f"/batches/{ticket.batch_id}")
            status = _field(answer, "status")
            if status in ENDED:
                found: dict[str, Any] = json.loads(answer.content)
                return found
            if answer.failed is not None or answer.status >= 400 or not isinstance(status, str):
                raise ProviderError(
                    f"{self._judge}: batch {ticket.batch_id} cannot be read: {answer.failure}",
                    "try again later",
                )
            await self._sleep(wait)
            wait = min(2 * wait, LONGEST_POLL)

    async def _content(self, file_id: str) -> bytes:
        answer = await self._endpoint.exchange("GET", f"/files/{file_id}/content")
        if answer.failed is not None or answer.status >= 400:
            said = f"{self._judge}: file {file_id} cannot be read: {answer.failure}"
            raise ProviderError(said, "try again later")
        return answer.content

    def _cleaned(self, line: Line) -> Line:
        clean, reply = self._endpoint.clean, line.reply
        tokens = reply.tokens and tuple(
            replace(token, text=clean(token.text), top=tuple((clean(text), p) for text, p in token.top))
            for token in reply.tokens
        )
        return replace(line, reply=replace(reply, text=clean(reply.text), tokens=tokens))

    def _why(self, batch: Mapping[str, Any]) -> str:
        errors = batch.get("errors")
        rows = errors.get("data") if isinstance(errors, dict) else None
        said = [str(row.get("message")) for row in rows or () if isinstance(row, dict)]
        return self._endpoint.clean("; ".join(said[:3]))[:300] or "no reason is given"


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def _parts(bodies: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, bytes]]:
    """Manifest lines, in files of a size that is taken."""
    part: dict[str, bytes] = {}
    size = 0
    for key, body in bodies.items():
        row = {"custom_id": key, "method": "POST", "url": PATH, "body": body}
        line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        if part and (len(part) >= MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield part
            part, size = {}, 0
        part[key] = line
        size += len(line)
    if part:
        yield part


def _keys(manifest: Path) -> Iterator[str]:
    with manifest.open("rb") as lines:
        for line in lines:
            yield json.loads(line)["custom_id"]


def read_lines(content: bytes) -> Iterator[Line]:
    """The outcomes in an output or error file; a line that is none is left out, and so counts as unanswered.

    >>> good = b'{"custom_id": "k", "response": {"status_code": 200, "body": {"choices": [{"message": '
    >>> (line,) = read_lines(good + b'{"content": "A"}, "finish_reason": "stop"}]}}, "error": null}')
    >>> line.key, line.reply.text, line.reply.usage.batched
    ('k', 'A', 1)
    >>> (line,) = read_lines(b'{"custom_id": "k", "response": null, "error": {"code": "batch_expired"}}')
    >>> line.reply.failure, line.again
    ('not_answered', True)
    """
    for text in content.splitlines():
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
            yield _line(row["custom_id"], row.get("response"), row.get("error"))


def _line(key: str, response: Any, error: Any) -> Line:
    if not isinstance(response, dict):
        code = error.get("code") if isinstance(error, dict) else None
        failure = "not_answered" if code in ("batch_expired", "batch_cancelled") else "server_error"
        return Line(key, Reply("", None, "stop", Usage(), failure), again=True)
    status = response.get("status_code")
    body = json.dumps(response.get("body")).encode()
    answer = Answer(status if isinstance(status, int) else 500, {}, body)
    reply = parse_completion(body) if answer.status == 200 else None
    if reply is not None:
        return Line(key, replace(reply, usage=replace(reply.usage, batched=1)))
    failed = Reply(answer.message[:500], None, "stop", Usage(1, batched=1), answer.failure)
    return Line(key, failed, answer, again=answer.retryable)


def _field(answer: Answer, name: str) -> Any:
    try:
        found = json.loads(answer.content)
    except ValueError:
        return None
    return found.get(name) if isinstance(found, dict) else None


def _find(answer: Answer, wanted: Callable[[dict[str, Any]], bool]) -> str | None:
    rows = _field(answer, "data")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and wanted(row) and isinstance(row.get("id"), str):
            return str(row["id"])
    return None
