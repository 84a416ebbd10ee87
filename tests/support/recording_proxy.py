"""A proxy on this machine in front of a real server: it passes all on, and records what went through."""

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.support.loopback import LoopbackServer
from tests.support.servers import Canned, http_response


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; `body` and `reply` are parsed where they are JSON, else None."""

    method: str
    path: str
    body: Any
    status: int
    reply: Any


class RecordingProxy(LoopbackServer):
    """Serves at `url` what the server at `upstream` (with /v1) answers; `exchanges` holds all of it.

    `unanswered` says why requests got no answer from the server; to the client each is a 502.
    """

    def __init__(self, upstream: str, seconds: float = 120.0) -> None:
        super().__init__()
        self.exchanges: list[Exchange] = []
        self.unanswered: list[str] = []
        self._upstream, self._seconds = upstream.removesuffix("/v1"), seconds

    @property
    def asked(self) -> list[Exchange]:
        """The exchanges that ask a model."""
        return [exchange for exchange in self.exchanges if exchange.method == "POST"]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            status, content = await asyncio.to_thread(self._forward, method, path, body)
            self.exchanges.append(Exchange(method, path, _parsed(body), status, _parsed(content)))
            writer.write(http_response(Canned(status, content, {"content-type": "application/json"})))
            await writer.drain()

    def _forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._upstream + path, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._seconds) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (OSError, http.client.HTTPException) as error:
            self.unanswered.append(f"{method} {path}: {error!r}")
            return 502, json.dumps({"error": {"message": str(error)}}).encode()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None
