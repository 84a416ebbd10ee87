"""A Batch API on this machine: files, batches and their ends, beside the chat completions of `FaultServer`.

    with BatchServer() as server:
        server.lose.add("batch")      # the next batch is made, and the answer to that is lost
        server.ends.append("expired") # the next batch ends so, half of it answered

A batch is in progress for `polls` requests of its state. `refuses(body)` gives status and body of an error.
A batch that begins while `most_open` are in progress is refused, since the queue is full.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.support.loopback import LoopbackServer
from tests.support.servers import Body, coin, completion

PART = re.compile(rb'name="(\w+)"(?:; filename="([^"]+)")?.*?\r\n\r\n(.*)', re.DOTALL)


@dataclass
class Batch:
    """One batch, as the provider keeps it."""

    id: str
    file_id: str
    metadata: dict[str, str]
    ends: str
    polls: int
    output: str | None = None
    errors: str | None = None
    reason: str = "The model `m` does not exist"
    ended: bool = False


@dataclass
class Counts:
    """What was asked of the server."""

    live: int = 0
    uploads: int = 0
    batches: int = 0
    polls: int = 0
    peak: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    bodies: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


class BatchServer(LoopbackServer):
    """The server, in a thread of its own."""

    def __init__(
        self,
        *,
        polls: int = 0,
        refuses: Callable[[Body], tuple[int, Body] | None] = lambda body: None,
        most_open: int = 10**6,
    ) -> None:
        super().__init__(limit=2**24)
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, Batch] = {}
        self.counts = Counts()
        self.ends: list[str] = []
        self.lose: set[str] = set()
        self.hold: set[str] = set()
        self._polls, self._refuses, self._most_open = polls, refuses, most_open

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in lines)}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            self.counts.headers.append(headers)
            path, _, query = target.removeprefix("/v1").partition("?")
            what, status, answer = self._answer(method, path, parse_qs(query), headers, content)
            if what in self.lose:
                self.lose.discard(what)
                return
            while what in self.hold:
                await asyncio.sleep(0.005)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            writer.write(
                f"HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n"
                f"content-length: {len(raw)}\r\n\r\n".encode()
                + raw
            )
            await writer.drain()

    def _answer(
        self, method: str, path: str, asked: dict[str, list[str]], headers: dict[str, str], content: bytes
    ) -> tuple[str, int, Any]:
        """What was asked, in a word; status and body."""
        if path == "/chat/completions":
            self.counts.live += 1
            return "live", *self._complete(json.loads(content))
        listed = {
            "/files": [{"id": key, "filename": name} for key, (name, _) in self.files.items()],
            "/batches": [self._shown(batch) for batch in self.batches.values()],
        }
        if method == "GET" and path in listed:
            return "list", 200, _page(listed[path][::-1], asked)
        if method == "GET":
            return self._look(*path.strip("/").split("/"))
        if path == "/files":
            return "file", 200, self._upload(headers, content)
        return "batch", 200, self._start(json.loads(content))

    def _look(self, what: str, key: str, content: str = "") -> tuple[str, int, Any]:
        if content:
            return "content", 200, self.files[key][1]
        self.counts.polls += 1
        return "poll", 200, self._poll(self.batches[key])

    def _complete(self, body: Body) -> tuple[int, Body]:
        self.counts.bodies.append(body)
        return self._refuses(body) or (200, completion(body, coin(body)))

    def _upload(self, headers: dict[str, str], content: bytes) -> Body:
        boundary = headers["content-type"].split("boundary=")[1].strip('"')
        parts: dict[str, tuple[str, bytes]] = {}
        for part in content.split(f"--{boundary}".encode())[1:-1]:
            match = PART.search(part)
            assert match
            parts[match[1].decode()] = ((match[2] or b"").decode(), match[3].removesuffix(b"\r\n"))
        assert parts["purpose"][1] == b"batch"
        self.counts.uploads += 1
        key = f"file-{self.counts.uploads}"
        self.files[key] = parts["file"]
        return {"id": key, "object": "file", "filename": parts["file"][0], "purpose": "batch"}

    def _start(self, asked: Body) -> Body:
        assert asked["endpoint"] == "/v1/chat/completions"
        self.counts.batches += 1
        key = f"batch_{self.counts.batches}"
        ends = self.ends.pop(0) if self.ends else "completed"
        batch = Batch(key, asked["input_file_id"], asked["metadata"], ends, self._polls)
        if sum(not each.ended for each in self.batches.values()) >= self._most_open:
            batch.ends, batch.polls, batch.reason = "failed", 0, "Enqueued token limit reached for m"
            batch.ended = True
        self.batches[key] = batch
        self.counts.peak = max(self.counts.peak, sum(not each.ended for each in self.batches.values()))
        return self._shown(batch, "validating")

    def _poll(self, batch: Batch) -> Body:
        if batch.polls > 0:
            batch.polls -= 1
            return self._shown(batch, "in_progress")
        batch.ended = True
        if batch.output is None and batch.ends != "failed":
            self._finish(batch)
        return self._shown(batch)

    def _finish(self, batch: Batch) -> None:
        rows = [json.loads(line) for line in self.files[batch.file_id][1].splitlines()]
        self.counts.requests.update(row["custom_id"] for row in rows)
        done = rows if batch.ends == "completed" else rows[::2]
        good, bad = [], []
        for row in done:
            status, body = self._complete(row["body"])
            response = {"status_code": status, "request_id": "r", "body": body}
            line = {"id": "x", "custom_id": row["custom_id"], "response": response, "error": None}
            (good if status == 200 else bad).append(line)
        late = {"code": "batch_expired", "message": "This request could not be executed in time."}
        for row in rows if batch.ends != "completed" else ():
            if row not in done:
                bad.append({"id": "x", "custom_id": row["custom_id"], "response": None, "error": late})
        batch.output, batch.errors = f"out-{batch.id}", f"err-{batch.id}" if bad else None
        for name, lines in ((batch.output, good[::-1]), (batch.errors, bad)):
            if name:
                self.files[name] = (name, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def _shown(self, batch: Batch, status: str | None = None) -> Body:
        errors = {"object": "list", "data": [{"code": "bad", "message": batch.reason}]}
        total = self.files[batch.file_id][1].count(b"\n")
        done = total if batch.ended else total // 3
        return {
            "id": batch.id,
            "object": "batch",
            "status": status or batch.ends,
            "input_file_id": batch.file_id,
            "metadata": batch.metadata,
            "output_file_id": batch.output,
            "error_file_id": batch.errors,
            "errors": errors if batch.ends == "failed" else None,
            "request_counts": {"total": total, "completed": done, "failed": 0},
        }


def _page(rows: list[Body], asked: dict[str, list[str]]) -> Body:
    """The rows after the one that is named, as many as are asked for."""
    after, limit = asked.get("after", [""])[0], int(asked["limit"][0])
    start = 1 + next((n for n, row in enumerate(rows) if row["id"] == after), -1)
    return {"object": "list", "data": rows[start : start + limit], "has_more": start + limit < len(rows)}
