"""Simulated judges behind a server that speaks the wire format of an endpoint."""

import asyncio
import json
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.support.loopback import LoopbackServer
from tests.support.servers import Body, Canned, FaultServer, canonical, http_response
from trustescalate.judges.openai import OpenAIBackend
from trustescalate.judges.simulated.backend import SimulatedBackend
from trustescalate.records import Message, Request

SYMBOLS = ("A", "B", "tie")


def simulated(body: Body) -> Mapping[str, float]:
    """What the simulated judge of that name would say, in odd case now and then."""
    request = Request(
        tuple(Message(turn["role"], turn["content"]) for turn in body["messages"]), SYMBOLS, 1, 0.0, True
    )
    try:
        SimulatedBackend(body["model"]).complete(request).send(None)
    except StopIteration as done:
        top = done.value.tokens[0].top
    mass = dict.fromkeys(SYMBOLS, 0.0)
    for text, logprob in top:
        for symbol in SYMBOLS:
            mass[symbol] += math.exp(logprob) if text.strip().casefold() == symbol.casefold() else 0.0
    odd = len(canonical(body)) % 10 == 0
    return {symbol.swapcase() if odd else symbol: p for symbol, p in mass.items()}


def judges(server: FaultServer, **more: Any) -> str:
    """Two judges behind one server."""
    fields = {"timeout": 2.0, "attempts": 8, "concurrency": 6, "give_up_after": 60.0, **more}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    return "".join(
        f'[[judges]]\nname = "{name}"\nbackend = "openai"\nmodel = "{model}"\nbase_url = "{server.url}"\n'
        f"price = {{ input = {price}, output = {price} }}\n{lines}"
        for name, model, price in (("small", "XS", 0.05), ("large", "M", 5.0))
    )


CANARY = "sk-canary-0123456789abcdef"


class Clock:
    """Time that passes only by sleeping. Sleeping yields, so others run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def run(server: FaultServer, use: Callable[[OpenAIBackend], Awaitable[Any]], **settings: Any) -> Any:
    """Use a backend for the server in an event loop, and close it."""
    clock = Clock()
    given: dict[str, Any] = {
        "model": "m",
        "base_url": server.url,
        "api_key_env": "JUDGE_KEY",
        "rng": random.Random(0),
        "sleep": clock.sleep,
        "timeout": 5.0,
    }

    async def main() -> Any:
        backend = OpenAIBackend(**{**given, **settings})
        try:
            return await use(backend)
        finally:
            await backend.close()

    return asyncio.run(main())


def explain_no_certificate(status: int, message: str, **fields: str) -> Canned:
    return Canned(status, {"error": {"message": message, **fields}})


class PathServer(LoopbackServer):
    """A server that answers by method, path and body; it records the paths that it is asked for."""

    def __init__(self, answer: Callable[[str, str, Body], Canned]) -> None:
        super().__init__()
        self.paths: list[str] = []
        self._answer = answer

    @property
    def root(self) -> str:
        """Its address without /v1."""
        return self.url.removesuffix("/v1")

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = await reader.readexactly(1)
            if first == b"\x16":  # a client that speaks TLS
                writer.write(http_response(Canned(400, "not HTTP")))
                await writer.drain()
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
            self.paths.append(f"{method} {path}")
            writer.write(http_response(self._answer(method, path, body)))
            await writer.drain()
