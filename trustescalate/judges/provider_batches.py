"""Send requests through the Batch APIs of Anthropic and Google.

Requests and answers are in the provider's own form, which LiteLLM writes and reads as it does for a live
call. A line of a manifest holds both forms of a request. Formats: Anthropic's Message Batches, and
`models.batchGenerateContent` of the Gemini API with requests inline.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from trustescalate.config import LiteLLMJudge
from trustescalate.judges.batch_api import (
    MOST_RESULTS,
    PAGE,
    BatchClient,
    Line,
    Page,
    ReadAnswer,
    bounded_lines,
    read_outcome,
    read_page,
)
from trustescalate.judges.batch_files import TAG, Ticket
from trustescalate.judges.completions import Answer, count_of
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.litellm import find_key
from trustescalate.judges.refusals import parsed, status_within
from trustescalate.judges.transport import MOST_BYTES, Auth, Call
from trustescalate.records import Reply, Usage
from trustescalate.records.stored import Lines

CLOCK_SLACK = 600.0
"""Seconds by which a provider's clock may be behind ours."""
ANTHROPIC_URL, ANTHROPIC_VERSION = "https://api.anthropic.com", "2023-06-01"
GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta"


class ProviderBatches(BatchClient):
    """Batches in a provider's own form; `read_answer` reads one answer, None where states alone are asked."""

    def __init__(self, *given: Any, read_answer: ReadAnswer | None, **more: Any) -> None:
        super().__init__(*given, **more)
        self._read_answer = read_answer

    def _row(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"custom_id": key, **body}

    def _asked(self, ticket: Ticket) -> Iterator[tuple[str, dict[str, Any]]]:
        """The requests of a manifest, each with the id that it has at the provider."""
        with self._files.manifest(ticket.name).open("rb") as lines:
            for number, line in enumerate(lines):
                yield f"{ticket.name}-{number}", json.loads(line)

    def _rows(self, ticket: Ticket) -> Callable[[str], dict[str, Any] | None]:
        """Look up the request of a manifest by the id that it has at the provider."""
        lines = Lines.found(self._files.manifest(ticket.name))

        def row(name: str) -> dict[str, Any] | None:
            mark, _, number = name.rpartition("-")
            known = mark == ticket.name and number.isdecimal() and int(number) < len(lines)
            asked: dict[str, Any] | None = json.loads(lines.read(int(number))) if known else None
            return asked

        return row

    async def _outcome(self, row: Mapping[str, Any], content: bytes) -> Line:
        """The outcome of a request that was answered, well or with an error."""
        assert self._read_answer is not None, "only the states of batches are asked for"
        failed = status_within(content)
        answer = Answer(failed, {}, content) if failed else await self._read_answer(row["body"], content)
        return read_outcome(row["custom_id"], answer)


class AnthropicBatches(ProviderBatches):
    """Anthropic's Message Batches; a batch is recognised by the ids of its requests."""

    most_requests, most_bytes = 100_000, 120_000_000  # 256 MB; a manifest holds each request in both forms
    path = "/v1/messages/batches"

    async def _begin(self, ticket: Ticket, *, resumed: bool) -> Ticket:
        if ticket.batch_id is not None:
            return ticket
        asked = ({"custom_id": name, "params": row["params"]} for name, row in self._asked(ticket))
        content = b'{"requests": [%s]}' % _joined(asked)
        make = Call("POST", self.path, lambda: content)

        async def find() -> str | None:
            return await self._find(ticket)

        return self._started(ticket, await self._find_or_make("batch", make, find, _read_id, resumed))

    async def _find(self, ticket: Ticket) -> str | None:
        """The id of a batch of as many requests, begun no earlier, whose results are this ticket's.

        A batch names its requests in its results alone, so one that may be ours is awaited.
        """
        taken = {each.batch_id for each in self.left()}
        async for row in self._listed(self.path, PAGE):
            counts = row.get("request_counts") or {}
            size = sum(count for count in counts.values() if isinstance(count, int))
            if size != ticket.requests or row["id"] in taken or _began(row) < ticket.begun - CLOCK_SLACK:
                continue
            state = await self._await_end(_with_id(ticket, row["id"]))
            async with aclosing(self._lines(ticket, state)) as lines:
                async for name, _ in lines:
                    if name.startswith(f"{ticket.name}-"):
                        return str(row["id"])
        return None

    def _read_page(self, content: bytes) -> tuple[Page, int] | None:
        return read_page(content, "after_id")

    async def _state(self, ticket: Ticket) -> dict[str, Any]:
        batch = await self._get(f"batch {ticket.batch_id}", f"{self.path}/{ticket.batch_id}", _read_batch)
        return {**batch, "status": "completed" if batch["processing_status"] == "ended" else "in_progress"}

    async def _lines(
        self, ticket: Ticket, batch: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The ids and results of a batch that has ended, from its own address: keys go to no other."""
        results = self._files.path / f"{TAG}-{ticket.name}.results"
        try:
            await self._download(ticket, f"{self.path}/{batch['id']}/results", results)
            for text in bounded_lines(results):
                row = parsed(text)
                if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
                    yield row["custom_id"], row.get("result") or {}
        finally:
            results.unlink(missing_ok=True)

    async def _results(self, ticket: Ticket, batch: Mapping[str, Any]) -> AsyncIterator[Line]:
        rows = self._rows(ticket)
        async for name, result in self._lines(ticket, batch):
            row = rows(name)
            if row is None:
                continue
            match result.get("type"):
                case "succeeded":
                    yield await self._outcome(row, json.dumps(result.get("message")).encode())
                case "errored":
                    yield await self._outcome(row, json.dumps(result.get("error")).encode())
                case _:
                    yield _left_out(row)

    def _read_counts(self, batch: Mapping[str, Any]) -> tuple[int, int]:
        counts = batch.get("request_counts")
        named = counts if isinstance(counts, dict) else {}
        failed = sum(count_of(named.get(name)) for name in ("errored", "canceled", "expired"))
        return count_of(named.get("succeeded")), failed


class GeminiBatches(ProviderBatches):
    """Batches of the Gemini API, with requests inline; a batch is recognised by its name."""

    most_requests, most_bytes = 50_000, 15_000_000  # inline requests: 20 MB
    model = ""

    async def _begin(self, ticket: Ticket, *, resumed: bool) -> Ticket:
        if ticket.batch_id is not None:
            return ticket
        name = f"{TAG}-{ticket.name}"
        asked = ({"request": row["params"], "metadata": {"key": key}} for key, row in self._asked(ticket))
        content = b'{"batch": {"displayName": "%s", "inputConfig": {"requests": {"requests": [%s]}}}}' % (
            name.encode(),
            _joined(asked),
        )
        make = Call("POST", f"/models/{self.model}:batchGenerateContent", lambda: content)

        async def find() -> str | None:
            async for row in self._listed("/batches", {"pageSize": "100"}):
                if (row.get("metadata") or {}).get("displayName") == name:
                    return str(row["name"])
            return None

        return self._started(ticket, await self._find_or_make("batch", make, find, _read_name, resumed))

    def _read_page(self, content: bytes) -> tuple[Page, int] | None:
        fields = parsed(content)
        rows = fields.get("operations", []) if isinstance(fields, dict) else None
        if not isinstance(rows, list):
            return None
        token = fields.get("nextPageToken")
        more = {"pageToken": token} if token and isinstance(token, str) else {}
        return ([row for row in rows if isinstance(row, dict)], more), 0

    async def _state(self, ticket: Ticket) -> dict[str, Any]:
        call = Call("GET", f"/{ticket.batch_id}", most_bytes=min(ticket.requests * MOST_BYTES, MOST_RESULTS))
        batch = await self._exchange(f"batch {ticket.batch_id}", call, _read_operation)
        state = str(batch["metadata"].get("state", "")).rpartition("_")[2].lower()
        status = {"succeeded": "completed"}.get(state, state)
        error = batch.get("error")
        reason = error.get("message") if isinstance(error, dict) else None
        return {**batch, "status": status, "errors": {"data": [{"message": reason}] if reason else []}}

    async def _results(self, ticket: Ticket, batch: Mapping[str, Any]) -> AsyncIterator[Line]:
        output = (batch.get("response") or {}) or (batch["metadata"].get("output") or {})
        inline = (output.get("output") or output).get("inlinedResponses") or {}
        answers = inline.get("inlinedResponses") if isinstance(inline, dict) else inline
        rows = self._rows(ticket)
        for answer in answers if isinstance(answers, list) else []:
            row = rows(str((answer.get("metadata") or {}).get("key")))
            if row is None:
                continue
            error = answer.get("error") or {}
            if "response" in answer:
                yield await self._outcome(row, json.dumps(answer["response"]).encode())
            elif error.get("code") in (1, 4, "CANCELLED", "DEADLINE_EXCEEDED"):
                yield _left_out(row)
            else:
                yield await self._outcome(row, json.dumps({"error": _with_status(error)}).encode())

    def _read_counts(self, batch: Mapping[str, Any]) -> tuple[int, int]:
        counts = batch["metadata"].get("batchStats")
        named = counts if isinstance(counts, dict) else {}
        return count_of(named.get("successfulRequestCount")), count_of(named.get("failedRequestCount"))


def anthropic_auth(key: str) -> Mapping[str, str]:
    """The headers of Anthropic's API."""
    return {"x-api-key": key, "anthropic-version": ANTHROPIC_VERSION}


def gemini_auth(key: str) -> Mapping[str, str]:
    """The header of the Gemini API."""
    return {"x-goog-api-key": key}


AUTHS: Mapping[str, Auth] = {"anthropic": anthropic_auth, "gemini": gemini_auth}


def batches_address(provider: str, base_url: str | None) -> str:
    """The address of a provider's Batch API beside that of its live calls.

    >>> batches_address("anthropic", "http://localhost:1/v1"), batches_address("anthropic", None)
    ('http://localhost:1', 'https://api.anthropic.com')
    """
    if provider == "gemini":
        return (base_url or GEMINI_URL).rstrip("/")
    base = (base_url or ANTHROPIC_URL).rstrip("/")
    return base.removesuffix("/messages").removesuffix("/v1")


def open_batches(
    table: LiteLLMJudge,
    settings: Mapping[str, Any],
    given: Sequence[Any],
    more: Mapping[str, Any],
    read_answer: ReadAnswer | None,
) -> ProviderBatches:
    """The Batch API of a judge's provider. `settings` are those of its `Endpoint`.

    Raises ProviderError where the variable of the key is not set.
    """
    provider, _, model = table.model.partition("/")
    (address,) = table.addresses or (None,)
    reached = {
        **settings,
        "base_url": batches_address(provider, address),
        "api_key_env": find_key(table.model, address, table.api_key_env)[0] or None,
    }
    endpoint = Endpoint(**reached, auth=AUTHS[provider])
    kind = GeminiBatches if provider == "gemini" else AnthropicBatches
    client = kind(table.name, endpoint, *given, **more, read_answer=read_answer)
    if isinstance(client, GeminiBatches):
        client.model = model
    return client


GRPC: Mapping[int, int] = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503, 16: 401}
"""HTTP statuses of the codes of `google.rpc.Status`."""


def _with_status(error: Mapping[str, Any]) -> dict[str, Any]:
    code = error.get("code")
    return {**error, "code": GRPC.get(code, code) if isinstance(code, int) else code}


def _left_out(row: Mapping[str, Any]) -> Line:
    return Line(row["custom_id"], Reply("", None, "stop", Usage(), "not_answered"), again=True)


def _joined(rows: Iterator[Mapping[str, Any]]) -> bytes:
    """Rows as the elements of a JSON list."""
    return b",".join(json.dumps(row).encode() for row in rows)


def _with_id(ticket: Ticket, batch_id: str) -> Ticket:
    return Ticket(ticket.name, ticket.judge, ticket.endpoint, ticket.requests, batch_id=batch_id)


def _began(row: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(row.get("created_at"))).timestamp()
    except ValueError:
        return 0.0


def _fields(content: bytes) -> dict[str, Any]:
    fields = parsed(content)
    return fields if isinstance(fields, dict) else {}


def _read_id(content: bytes) -> tuple[str, int] | None:
    identity = _fields(content).get("id")
    return (identity, 0) if isinstance(identity, str) else None


def _read_batch(content: bytes) -> tuple[dict[str, Any], int] | None:
    batch = _fields(content)
    good = isinstance(batch.get("processing_status"), str) and isinstance(batch.get("id"), str)
    return (batch, 0) if good else None


def _read_name(content: bytes) -> tuple[str, int] | None:
    name = _fields(content).get("name")
    return (name, 0) if isinstance(name, str) and name.startswith("batches/") else None


def _read_operation(content: bytes) -> tuple[dict[str, Any], int] | None:
    batch = _fields(content)
    return (batch, 0) if isinstance(batch.get("metadata"), dict) else None
