"""A chat completions endpoint on this machine that misbehaves as told, and counts what it is asked.

    with FaultServer(plan=seeded({"retry_seconds": 0.1, "error_500": 0.05}, seed=1)) as server:
        ...  # base_url = server.url
        assert server.stats.peak <= 16

A plan says what happens to the n-th request with the same body: None for a good answer, the name of a fault,
or a `Canned` response. Faults are drawn from body and n, so they do not depend on timing.
"""

import asyncio
import contextlib
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from tests.support.loopback import LoopbackServer

Body = dict[str, Any]
Answer = Callable[[Body], Mapping[str, float]]


@dataclass(frozen=True)
class Canned:
    """A fixed response. A dict is sent as JSON, bytes as they are."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)


Plan = Callable[[Body, int], "str | Canned | None"]
RETRY = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
FAULTS: Mapping[str, Callable[[Body], Canned]] = {
    "retry_seconds": lambda _: Canned(429, RETRY, {"retry-after": "0.02"}),
    "retry_ms": lambda _: Canned(429, RETRY, {"retry-after-ms": "20"}),
    "retry_date": lambda _: Canned(429, RETRY, _date_headers(1)),
    "error_500": lambda _: Canned(500, {"error": {"message": "internal"}}),
    "html_200": lambda _: Canned(200, "<html><body>Welcome</body></html>", {"content-type": "text/html"}),
    "html_502": lambda _: Canned(502, "<html>Bad Gateway</html>", {"content-type": "text/html"}),
    "cut_json": lambda _: Canned(200, '{"id": "x", "choices": [{"message": {"content": "A"'),
    "no_choices": lambda _: Canned(200, {"id": "x", "choices": []}),
    "wrong_shape": lambda _: Canned(200, {"choices": {"0": "A"}, "usage": 3}),
}
WIRE_FAULTS = ("drop", "hang", "garbage")
ODD_ANSWERS = ("spaced", "bold", "bracketed", "led", "no_logprobs", "refusal", "content_filter", "wrong_type")
"""Good HTTP answers, unusual in wording or shape."""

DRESS = {"spaced": " {}\n", "bold": "**{}**", "bracketed": "[[{}]]", "led": "Verdict: {}"}


def seeded(rates: Mapping[str, float], seed: int) -> Plan:
    """Faults at these rates, drawn from the body and how often it was asked."""

    def plan(body: Body, nth: int) -> str | None:
        draw = random.Random(f"{seed} {nth} {canonical(body)}").random()
        for name, rate in rates.items():
            draw -= rate
            if draw < 0:
                return name
        return None

    return plan


def coin(body: Body) -> Mapping[str, float]:
    """The default answer: A or B, with a probability hashed from the messages."""
    digest = hashlib.sha256(json.dumps(body["messages"]).encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return {"A": 0.98 * share, "B": 0.98 * (1 - share)}


def canonical(body: Body) -> str:
    """One spelling for equal bodies."""
    return json.dumps(body, sort_keys=True)


@dataclass
class Stats:
    """What the server saw. `answered` counts good answers sent, by body; `peak` is requests at one time."""

    requests: int = 0
    active: int = 0
    peak: int = 0
    by_body: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)


class FaultServer(LoopbackServer):
    """The server, in a thread of its own, on a free port of the loopback interface."""

    def __init__(
        self,
        answer: Answer = coin,
        plan: Plan = lambda body, nth: None,
        *,
        latency: float = 0.0,
        hang: float = 30.0,
        port: int = 0,
    ) -> None:
        super().__init__(port=port, backlog=1024)
        self.stats = Stats()
        self._answer, self._plan, self._latency, self._hang = answer, plan, latency, hang

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
            with self._counted(headers, body) as nth:
                response = self._plan(body, nth)
                if response == "hang":
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), self._hang)
                await asyncio.sleep(self._latency)
                if response in ("drop", "hang"):
                    return
                if response == "garbage":
                    writer.write(b"this is not HTTP\r\n\r\n")
                    return
                raw = self._response(body, response)
                writer.write(raw)
                await writer.drain()

    def _counted(self, headers: Mapping[str, str], body: Body) -> "_Counted":
        self.stats.headers.append(headers)
        self.stats.bodies.append(body)
        return _Counted(self.stats, canonical(body))

    def _response(self, body: Body, response: str | Canned | None) -> bytes:
        if isinstance(response, str) and response in FAULTS:
            response = FAULTS[response](body)
        if isinstance(response, Canned):
            return http_response(response)
        self.stats.answered[canonical(body)] += 1
        kind = "text/plain" if response == "wrong_type" else "application/json"
        return http_response(
            Canned(200, completion(body, self._answer(body), response), {"content-type": kind})
        )


class _Counted:
    def __init__(self, stats: Stats, key: str) -> None:
        self._stats, self._key = stats, key

    def __enter__(self) -> int:
        self._stats.requests += 1
        self._stats.active += 1
        self._stats.peak = max(self._stats.peak, self._stats.active)
        self._stats.by_body[self._key] += 1
        return self._stats.by_body[self._key]

    def __exit__(self, *_: object) -> None:
        self._stats.active -= 1


def completion(body: Body, probs: Mapping[str, float], odd: str | None = None) -> Body:
    """A completion that says the likeliest symbol, or draws one if no log-probabilities are asked."""
    symbol = max(probs, key=lambda name: probs[name])
    if not body.get("logprobs"):
        draw = random.Random(canonical(body))
        symbol = draw.choices(list(probs), list(probs.values()))[0]
    text = DRESS.get(odd or "", "{}").format(symbol)
    message: Body = {"role": "assistant", "content": text, "refusal": None}
    choice: Body = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    if body.get("logprobs") and odd != "no_logprobs":
        choice["logprobs"] = {"content": _pieces(text, symbol, probs, body.get("top_logprobs", 0))}
    if odd == "refusal":
        message |= {"content": None, "refusal": "I cannot help with that."}
    if odd == "content_filter":
        message["content"], choice["finish_reason"] = "", "content_filter"
    prompt = max(1, sum(len(m["content"]) for m in body["messages"]) // 4)
    usage = {"prompt_tokens": prompt, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


def _pieces(text: str, symbol: str, probs: Mapping[str, float], top: int) -> list[Body]:
    before, after = text.split(symbol, 1)
    rest = max(1 - math.fsum(probs.values()), 1e-9)
    places = [{name: p for name, p in probs.items() if p > 0} | {"The": rest / 2, "I": rest / 2}]
    if before:
        places.insert(0, {before: 0.9, "The": 0.1})
    if after:
        places.append({after: 0.9, "\n": 0.1})
    names = [piece for piece in (before, symbol, after) if piece]
    return [
        {
            "token": name,
            "logprob": math.log(place[name]),
            "bytes": list(name.encode()),
            "top_logprobs": [
                {"token": other, "logprob": math.log(p)}
                for other, p in sorted(place.items(), key=lambda pair: -pair[1])[:top]
            ],
        }
        for name, place in zip(names, places, strict=True)
    ]


def _date_headers(seconds: int) -> Mapping[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    later = now + timedelta(seconds=seconds)
    return {"date": format_datetime(now, usegmt=True), "retry-after": format_datetime(later, usegmt=True)}


def http_response(response: Canned) -> bytes:
    """The bytes of a response."""
    body = response.body if isinstance(response.body, str | bytes) else json.dumps(response.body)
    raw = body.encode() if isinstance(body, str) else body
    headers = {"content-type": "application/json", **response.headers, "content-length": str(len(raw))}
    lines = [f"HTTP/1.1 {response.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + raw
