"""Anthropic's Message Batches and Gemini's batches on this machine, beside live calls.

    with ProviderBatchServer() as server:
        server.lose = True                 # the next batch is made, and the answer to that is lost
        server.ends.append("expired")      # every second request of the next batch is left out
        server.errors.append(529)          # the first request of the next batch fails so

While `pending`, no batch ends. A list shows `others`, newer batches of somebody else, before these, and no
page has more than `page` rows. Results come in reverse order, with one of an id that nobody asked for.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.support.provider_server import ProviderServer, as_chat, reply_in_form, reply_to
from tests.support.servers import Body, Canned

KINDS = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}
LISTS = {"/v1/messages/batches": ("msgbatch", ""), "/batches": ("batches/", "somebody else's")}
"""The lists of batches by path: what a name begins with, and the title of a batch there."""
CREATED = "2099-01-01T00:00:00Z"
"""After any test."""


@dataclass
class Batch:
    """One batch: its requests by id, and the state that it is in after so many polls."""

    name: str
    title: str
    requests: dict[str, Body]
    path: str
    ends: str = "succeeded"
    error: int = 0
    polls: int = 1
    answers: list[Any] = field(default_factory=list)


class ProviderBatchServer(ProviderServer):
    """The server, in a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, Batch] = {}
        self.answered: Counter[str] = Counter()
        self.ends: list[str] = []
        self.errors: list[int] = []
        self.lose = False
        self.pending = False
        self.others, self.page = 0, 100

    @property
    def live(self) -> int:
        """How many requests were asked live."""
        return len(self.asked)

    def answer(self, method: str, target: str, body: Body) -> Canned | None:
        path, _, query = target.partition("?")
        if path == "/v1/messages/batches" and method == "POST":
            asked = {row["custom_id"]: row["params"] for row in body["requests"]}
            return self._made(Batch(f"msgbatch_{len(self.batches)}", "", asked, "/v1/messages"))
        if path.endswith(":batchGenerateContent"):
            rows = body["batch"]["inputConfig"]["requests"]["requests"]
            asked = {row["metadata"]["key"]: row["request"] for row in rows}
            live = path.replace(":batchGenerateContent", ":generateContent")
            name = f"batches/{len(self.batches)}"
            return self._made(Batch(name, body["batch"]["displayName"], asked, live))
        if method == "GET":
            return self._look(path, {key: value for key, (value, *_) in parse_qs(query).items()})
        return super().answer(method, target, body)

    def _made(self, batch: Batch) -> Canned | None:
        batch.ends = self.ends.pop(0) if self.ends else "succeeded"
        batch.error = self.errors.pop(0) if self.errors else 0
        self.batches[batch.name] = batch
        lost, self.lose = self.lose, False
        return None if lost else Canned(200, self._shown(batch))

    def _look(self, path: str, asked: Mapping[str, str]) -> Canned:
        if path in LISTS:
            kind, title = LISTS[path]
            others = [Batch(f"{kind}_other{n}", title, {}, path) for n in range(self.others)]
            shown = [self._shown(batch) for batch in (*others, *reversed(self.batches.values()))]
            if title:
                start = int(asked.get("pageToken", "0"))
                end = start + min(int(asked["pageSize"]), self.page)
                more = {"nextPageToken": f"{end}"} if end < len(shown) else {}
                return Canned(200, {"operations": shown[start:end], **more})
            start = 1 + next((n for n, row in enumerate(shown) if row["id"] == asked.get("after_id")), -1)
            end = start + min(int(asked["limit"]), self.page)
            return Canned(200, {"data": shown[start:end], "has_more": end < len(shown)})
        name = path.removeprefix("/v1/messages/batches/").removesuffix("/results").strip("/")
        batch = self.batches[name]
        if path.endswith("/results"):
            lines = "".join(json.dumps(row) + "\n" for row in batch.answers)
            return Canned(200, lines.encode(), {"content-type": "application/x-jsonl"})
        batch.polls -= not self.pending
        if batch.polls < 0 and not batch.answers:
            batch.answers = self._answers(batch)
        return Canned(200, self._shown(batch))

    def _answers(self, batch: Batch) -> list[Any]:
        """What a batch has come to, in its provider's form."""
        rows = []
        for number, (key, params) in enumerate(batch.requests.items()):
            chat = as_chat(batch.path, params)
            self.answered[str((batch.path, chat))] += 1
            good = reply_in_form(batch.path, chat, reply_to(chat))
            left_out = batch.ends in ("expired", "cancelled") and number % 2
            failed = batch.error if number == 0 else 0
            if batch.title:
                error = {"code": {400: 3, 429: 8, 529: 14}.get(failed, 0), "message": "no"}
                row: Body = {"metadata": {"key": key}}
                row |= (
                    {"error": {"code": 1}} if left_out else {"error": error} if failed else {"response": good}
                )
            else:
                kind = {"expired": "expired", "cancelled": "canceled"}.get(batch.ends, "")
                error = {"type": "error", "error": {"type": KINDS.get(failed, ""), "message": "no"}}
                result = {"type": kind} if left_out else {"type": "succeeded", "message": good}
                row = {"custom_id": key, "result": {"type": "errored", "error": error} if failed else result}
            rows.append(row)
        stray = (
            {**rows[0], "metadata": {"key": "nobody"}} if batch.title else {**rows[0], "custom_id": "nobody"}
        )
        return [stray, *rows[::-1]]

    def _shown(self, batch: Batch) -> Body:
        ended = batch.polls < 0
        if not batch.title:
            counts = {"processing": 0 if ended else len(batch.requests), "succeeded": 0}
            counts["succeeded"] = len(batch.requests) - counts["processing"]
            status = "ended" if ended else "in_progress"
            return {
                **{"id": batch.name, "type": "message_batch", "created_at": CREATED},
                **{"processing_status": status, "request_counts": counts},
                "results_url": f"http://example.invalid/{batch.name}" if ended else None,
            }
        state = batch.ends if ended and batch.ends in ("failed", "expired", "cancelled") else "succeeded"
        shown: Body = {"name": batch.name, "metadata": {"displayName": batch.title}}
        shown["metadata"]["state"] = f"BATCH_STATE_{state.upper()}" if ended else "BATCH_STATE_RUNNING"
        if ended:
            shown |= {"done": True, "response": {"inlinedResponses": {"inlinedResponses": batch.answers}}}
        return shown
