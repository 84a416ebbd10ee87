"""Serve a local endpoint of a fixed latency for the endpoint benchmark."""

import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BETTER = "the-better-one"
"""Stands in one of two responses, so that the server can agree with people at the price of two searches."""


def reply(symbol: str, other: str, p: float = 0.9) -> bytes:
    """A whole HTTP response. All are equally sure, so no ensemble is decided before its last vote."""
    rest = [(f"token {i}", math.log((1 - p) / 100)) for i in range(18)]
    top = [(symbol, math.log(p)), (other, math.log((1 - p) / 2)), *rest]
    listed = [{"token": token, "logprob": lp, "bytes": list(token.encode())} for token, lp in top]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": symbol, "refusal": None, "annotations": []},
        "logprobs": {"content": [{**listed[0], "top_logprobs": listed}], "refusal": None},
        "finish_reason": "stop",
    }
    usage = {
        "prompt_tokens": 1500,
        "completion_tokens": 1,
        "total_tokens": 1501,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    }
    body = json.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        | {"usage": usage, "system_fingerprint": "fp"}
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Endpoint(asyncio.Protocol):
    """One connection. Requests are cut by their content-length; nothing else of them is parsed."""

    replies = (reply("A", "B"), reply("B", "A"))
    structured = reply('{"reasoning": "seen", "score": true}', "B")

    def __init__(self, state: dict[str, float]) -> None:
        self._state, self._buffer = state, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        while head >= 0:
            fields = self._buffer[:head].lower()
            at = fields.find(b"content-length:")
            size = int(fields[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < head + 4 + size:
                return
            body, self._buffer = self._buffer[head + 4 : head + 4 + size], self._buffer[head + 4 + size :]
            self._asked(fields.split(b" ", 2)[1], body)
            head = self._buffer.find(b"\r\n\r\n")

    def _asked(self, path: bytes, body: bytes) -> None:
        state = self._state
        if path == b"/stats":
            raw = json.dumps(state).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)
            state |= {"requests": 0, "first": 0.0, "last": 0.0, "open": 0, "peak": 0}
            return
        if not state["requests"]:
            state["first"] = time.monotonic()
        state["requests"] += 1
        state["open"] += 1
        state["peak"] = max(state["peak"], state["open"])
        better_is_second = body.rfind(BETTER.encode()) > body.rfind(b"[response B")
        raw = self.structured if b'"response_format"' in body else self.replies[better_is_second]
        wait = state["latency"] * random.uniform(0.8, 1.2)
        asyncio.get_running_loop().call_later(wait, self._answer, raw)

    def _answer(self, raw: bytes) -> None:
        self._state["open"] -= 1
        self._state["last"] = time.monotonic()
        if not self._transport.is_closing():
            self._transport.write(raw)


async def serve(latency: float) -> None:
    """Answer until killed; the first line on stdout is the port."""
    state = {"latency": latency, "requests": 0, "first": 0.0, "last": 0.0, "open": 0, "peak": 0}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Endpoint(state), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The server's process."""

    def __init__(self, latency: float) -> None:
        command = [sys.executable, "-m", "benchmarks.api", "--serve", str(latency)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def stats(self) -> dict[str, float]:
        """The counts since the last call."""
        with urllib.request.urlopen(f"{self.url}/stats") as response:
            found: dict[str, float] = json.load(response)
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def served(latency: float) -> Iterator[Server]:
    server = Server(latency)
    try:
        yield server
    finally:
        server.close()
