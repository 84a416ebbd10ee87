"""Send one call to an endpoint and read its answer: an HTTP client, its headers and its key.

The `openai` package's HTTP client on aiohttp, and its headers; not its `create` and `post`, whose models cost
more than the call itself, nor its retries, which would wait in a taken slot.
"""

import asyncio
import importlib
import os
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer
from trustescalate.judges.connections import connection_error

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
NO_KEY = "no-key-needed"
CONNECT_TIMEOUT = {"timeout": {"connect": 5.0}}
"""In seconds; reading and writing have no limits of their own, since the whole attempt has one."""

MOST_BYTES = 8 * 2**20
"""Of one answer, unpacked."""
PIECE = 2**16
"""Bytes unpacked at a time."""
PACKED = {"": None, "identity": None, "gzip": 31, "x-gzip": 31, "deflate": 47}
"""The content encodings that are read, as `wbits` of zlib; both others are asked for nowhere."""

Auth = Callable[[str], Mapping[str, str]]
"""The headers that carry a key."""


def _learn_nothing(_: Answer) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Call:
    """One call to an endpoint. `more` are arguments of the HTTP request (params, data, files).

    `body` is called for each attempt. `learn` receives an error and returns whether the next body will
    differ: then it is sent at once. `tokens` is an upper estimate; `first` puts the call before all queued
    ones. `attempts` overrides the endpoint's. An answer of more than `most_bytes` is a bad reply. With `into`
    the body of a success goes into that file, and `content` stays empty.
    """

    method: str
    path: str
    body: Callable[[], bytes] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    learn: Callable[[Answer], bool] = _learn_nothing
    tokens: int = 0
    first: bool = False
    attempts: int | None = None
    most_bytes: int = MOST_BYTES
    into: Path | None = None


class Transport(Protocol):
    """Sends one call; a failure is an `Answer`, never raised."""

    async def send(self, call: Call, seconds: float) -> Answer:
        """Send a call and read its answer within so many seconds."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


Connect = Callable[[], Transport]
"""Opens a transport. It can be pickled, so that it may be called in another process."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a model. `place` is shown, `address` separates the limits of endpoints with the same key.

    `key_at` says where the key is, for hints, and `at` where the address is; `secrets` appear in no text.
    `connect` opens what sends the calls.
    """

    place: str
    address: str
    key_at: str
    key: str
    secrets: tuple[str, ...]
    connect: Connect
    at: str


def http_route(
    model: str,
    base_url: str | None,
    api_key_env: str | None,
    *,
    concurrency: int,
    auth: Auth | None = None,
) -> Route:
    """The way to an address over HTTP, with a key in the headers of `auth`, by default a bearer token.

    Raises ProviderError if the variable of the key is not set.
    """
    place = public_url(base_url or OPENAI_URL)
    at_home = f"{place}/".startswith("https://api.openai.com/")
    key_name = api_key_env or (OPENAI_KEY if at_home else "")
    key = read_key(key_name, model)
    import openai

    http = _http()
    unused = http.AsyncClient(transport=http.AsyncBaseTransport(), trust_env=False)
    client = openai.AsyncOpenAI(api_key=key, base_url=base_url or OPENAI_URL, http_client=unused)
    base = f"{client.base_url}".rstrip("/")
    headers = _headers(client, at_home=at_home)
    if auth is not None:
        headers = {name: value for name, value in headers.items() if name != "authorization"} | {**auth(key)}
    connect = partial(HttpTransport, base, headers, place, concurrency)
    return Route(place, base, key_place(key_name), key, (key,), connect, f"base_url = {place!r}")


def key_place(name: str) -> str:
    """Where a key is, in words."""
    return f"the environment variable {name}" if name else "api_key_env (none is set)"


class HttpTransport:
    """Calls to paths under a base address, over so many connections; redirections are not followed."""

    def __init__(self, base: str, headers: Mapping[str, str], place: str, connections: int) -> None:
        self._client, self._headers, self._place = _http_client(connections), headers, place
        self._request = _http().Request
        self._url = cache(lambda path: _http().URL(base + path))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, call: Call, seconds: float) -> Answer:
        """Send a call and read its answer within so many seconds."""
        try:
            headers, more = self._headers, dict(call.more)
            if call.body is not None:
                more["content"] = call.body()
                headers = {**headers, "content-type": "application/json"}
            request = self._request(
                call.method, self._url(call.path), headers=headers, extensions=CONNECT_TIMEOUT, **more
            )
            async with asyncio.timeout(seconds):
                response = await self._client.send(request, stream=True, follow_redirects=False)
                try:
                    return await _received(response, call)
                finally:
                    await response.aclose()
        except TimeoutError:
            return Answer(failed="timeout", why=f"no answer within {seconds:.3g} s")
        except UnicodeEncodeError:
            return Answer(failed="bad_request", why="the text holds half of a surrogate pair")
        except TooLarge as error:
            return Answer(failed="bad_reply", why=str(error))
        except Exception as error:  # transports have errors of their own (broken HTTP)
            return Answer(failed="unreachable", why=connection_error(error, self._place))


class TooLarge(Exception):
    """An answer that is larger than is read, or packed in a way that is not."""


async def _received(response: Any, call: Call) -> Answer:
    """Read an answer up to its limit. Raises TooLarge."""
    success, size = 200 <= response.status_code < 300, 0
    most = call.most_bytes if success else MOST_BYTES
    pieces: list[bytes] = []
    file = call.into.open("wb") if call.into is not None and success else None
    try:
        async with aclosing(_unpacked(response)) as unpacked:
            async for piece in unpacked:
                size += len(piece)
                if size > most:
                    raise TooLarge(f"the answer is larger than {most / 2**20:.0f} MiB")
                if file is None:
                    pieces.append(piece)
                else:
                    file.write(piece)
    finally:
        if file is not None:
            file.close()
    return Answer(response.status_code, response.headers, b"".join(pieces))


async def _unpacked(response: Any) -> AsyncGenerator[bytes, None]:
    """The body in pieces of at most `PIECE` bytes, or as they come where nothing is packed."""
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in PACKED:
        raise TooLarge(f"the answer is packed as {packing[:20]!r}, which is not read")
    bits = PACKED[packing]
    unpack = None if bits is None else zlib.decompressobj(bits)
    async for piece in response.aiter_raw():
        if unpack is None:
            yield piece
            continue
        packed = piece
        while packed and not unpack.eof:
            yield unpack.decompress(packed, PIECE)
            packed = unpack.unconsumed_tail


@cache
def _http() -> Any:
    """The package that the client speaks HTTP by: httpx, or in newer releases httpx2."""
    import openai

    return importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])


def _http_client(connections: int) -> Any:
    import openai

    limits = _http().Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        return openai.DefaultAioHttpClient(limits=limits)
    except RuntimeError:  # without openai[aiohttp] the default transport is slower
        return openai.DefaultAsyncHttpxClient(limits=limits)


def _headers(client: "AsyncOpenAI", *, at_home: bool) -> dict[str, str]:
    """The headers of the package's client, without those about the machine.

    What the package reads from the environment (organisation, project, custom headers) goes to api.openai.com
    alone.
    """
    plain = {"accept": "application/json", "user-agent": client.user_agent}
    headers = _http().Headers()
    for named in (client.default_headers if at_home else plain, client.auth_headers):
        headers.update({name: value for name, value in named.items() if isinstance(value, str)})
    skipped = ("x-stainless-", "content-type")
    kept = {name: value for name, value in headers.items() if not name.startswith(skipped)}
    return kept | {"accept-encoding": "gzip"}


def read_key(name: str, model: str) -> str:
    """The key in an environment variable; `NO_KEY` without one. Raises ProviderError if it is not set."""
    if not name:
        return NO_KEY
    key = os.environ.get(name, "").strip()
    if not key:
        hint = f"export {name}=…, or name another variable in api_key_env"
        raise ProviderError(f"{model}: the environment variable {name} is not set", hint)
    if not (key.isascii() and key.isprintable()):
        raise ProviderError(f"{model}: the environment variable {name} holds no key", f"set {name} again")
    return key


def public_url(url: str) -> str:
    """An address without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
