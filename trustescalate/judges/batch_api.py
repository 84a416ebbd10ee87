"""The Batch API of OpenAI and of those who speak like it: a file of requests, answered within a day, cheaper.

What is under way lies in a folder: a manifest of requests and a state. Each is written before the step that
it stands for is taken, and looked for at the provider afterwards, so a kill at any moment loses no batch and
uploads none twice. This file knows no cache, no budget and no judge: bodies in, replies out.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer, parse_completion
from trustescalate.judges.endpoint import Call, Endpoint
from trustescalate.records import Reply, Usage
from trustescalate.records.jsonl import decode, encode, write_atomically

MOST_REQUESTS = 50_000
MOST_BYTES = 150_000_000
"""Of one file. OpenAI allows 50,000 requests and 200 MB."""
WINDOW = "24h"
FIRST_POLL, LONGEST_POLL = 1.0, 60.0
T = TypeVar("T")
ENDED = ("completed", "failed", "expired", "cancelled")
PATH = "/v1/chat/completions"
TAG = "trustescalate"


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
        self._notice, self._sleep = notice, sleep

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
            path = self._manifest(ticket)
            file = (path.name, path.read_bytes(), "application/jsonl")
            made = await self._made(
                "file",
                Call("POST", "/files", more={"data": {"purpose": "batch"}, "files": {"file": file}}),
                Call("GET", "/files", more={"params": {"purpose": "batch", "limit": 100}}),
                lambda row: row.get("filename") == path.name,
                resumed,
            )
            ticket = replace(ticket, file_id=made)
            self._save(ticket)
        if ticket.batch_id is None:
            body = {"input_file_id": ticket.file_id, "endpoint": PATH, "completion_window": WINDOW}
            content = json.dumps({**body, "metadata": {TAG: ticket.name}}).encode()
            made = await self._made(
                "batch",
                Call("POST", "/batches", lambda: content),
                Call("GET", "/batches", more={"params": {"limit": 100}}),
                lambda row: (row.get("metadata") or {}).get(TAG) == ticket.name,
                resumed,
            )
            ticket = replace(ticket, batch_id=made)
            self._save(ticket)
            self._notice(f"{self._judge}: batch {made} of {ticket.requests:,} requests is under way")
        return ticket

    async def _made(
        self, what: str, make: Call, listed: Call, is_ours: Callable[[dict[str, Any]], bool], resumed: bool
    ) -> str:
        """The id of a thing at the provider: looked for first, where its making may have gone unnoticed."""

        async def find() -> str | None:
            rows, _ = await self._endpoint.exchange(listed, _rows)
            return next((row["id"] for row in rows or () if is_ours(row)), None)

        made = await find() if resumed else None
        if made is None:
            made, answer = await self._endpoint.exchange(make, _id, find)
            if made is None:
                said = self._endpoint.failed(answer)
                raise ProviderError(
                    f"{self._judge}: the {what} could not be made: {said.text[:300] or said.failure}",
                    "mend that, then go on",
                )
        return made

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
                path = f"/files/{batch[name]}/content"
                content = await self._got(f"file {batch[name]}", path, lambda content: (content, 0))
                for line in read_lines(content):
                    if line.key in asked - seen:
                        seen.add(line.key)
                        yield replace(line, reply=self._endpoint.cleaned(line.reply))
        for key in sorted(asked - seen):
            yield Line(key, Reply("", None, "stop", Usage(), "not_answered"), again=True)
        came = f"{len(seen):,} of {len(asked):,} came back"
        self._notice(f"{self._judge}: batch {ticket.batch_id} {batch['status']}: {came}")
        self._forget(ticket)

    async def _ended(self, ticket: Ticket) -> dict[str, Any]:
        wait = FIRST_POLL
        while True:
            batch = await self._got(f"batch {ticket.batch_id}", f"/batches/{ticket.batch_id}", _batch)
            if batch["status"] in ENDED:
                return batch
            await self._sleep(wait)
            wait = min(2 * wait, LONGEST_POLL)

    async def _got(self, what: str, path: str, read: Callable[[bytes], tuple[T, int] | None]) -> T:
        value, answer = await self._endpoint.exchange(Call("GET", path), read)
        if value is None:
            raise ProviderError(f"{self._judge}: {what} cannot be read: {answer.failure}", "try again later")
        return value

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


# ── answers ──────────────────────────────────────────────────────────────────────────────────────


def _fields(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _id(content: bytes) -> tuple[str, int] | None:
    made = _fields(content).get("id")
    return (made, 0) if isinstance(made, str) else None


def _batch(content: bytes) -> tuple[dict[str, Any], int] | None:
    fields = _fields(content)
    return (fields, 0) if isinstance(fields.get("status"), str) else None


def _rows(content: bytes) -> tuple[list[dict[str, Any]], int] | None:
    rows = _fields(content).get("data")
    if not isinstance(rows, list):
        return None
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)], 0
