"""Send calls over HTTP, by aiohttp.

The `openai` package's client does not send them: its models and its layers cost more than the call itself,
its import more than the start of this program, and its retries would wait in a taken slot. It says what
belongs to an account at api.openai.com, and is imported for that address alone.
"""

import asyncio
import base64
import importlib
import io
import ssl
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from trustescalate import __version__
from trustescalate.errors import ProviderError
from trustescalate.judges.completions import Answer
from trustescalate.judges.connections import connection_error
from trustescalate.judges.transport import (
    MOST_BYTES,
    OPENAI_KEY,
    OPENAI_URL,
    Auth,
    Call,
    Route,
    key_place,
    public_url,
    read_key,
)

OWN_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip",
    "user-agent": f"trustescalate/{__version__}",
}
JSON_BODY = {"content-type": "application/json"}
CONNECT_TIMEOUT = 5.0
"""In seconds; reading and writing have no limits of their own, since the whole attempt has one."""
IDLE = 4.0
"""Seconds until an unused connection is closed; servers often close theirs after five."""
SHORTEST_SECRET = 8
"""Characters of a password in an address that is taken out of texts; a shorter one may be a verdict."""
LARGE = 2**20
"""Bytes of a body that is written in pieces, so that other calls go on meanwhile."""
PIECE = 2**16
"""Bytes unpacked at a time."""
PACKED = {"": None, "identity": None, "gzip": 31, "x-gzip": 31, "deflate": 47}
"""The content encodings that are read, as `wbits` of zlib; gzip alone is asked for."""


def http_route(
    model: str,
    base_url: str | None,
    api_key_env: str | None,
    *,
    concurrency: int,
    auth: Auth | None = None,
) -> Route:
    """The way to an address over HTTP, with a key in the headers of `auth`, by default a bearer token.

    An address with a user or a password is called with these in place of the key. Raises ProviderError if
    the variable of the key is not set, or for a proxy that cannot be used.
    """
    address = (base_url or OPENAI_URL).rstrip("/")
    given, place = urlsplit(address), public_url(address)
    at_home = f"{place}/".startswith("https://api.openai.com/")
    key_name = api_key_env or (OPENAI_KEY if at_home else "")
    key = read_key(key_name, model)
    _must_be_usable(proxy_for(address), model, given.hostname)
    headers = OWN_HEADERS | (_account_headers(key) if at_home else {}) | {**(auth or bearer)(key)}
    user, password = unquote(given.username or ""), unquote(given.password or "")
    if user or password:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["authorization"] = f"Basic {pair}"
    secrets = (key, password) if len(password) >= SHORTEST_SECRET else (key,)
    base = given._replace(netloc=given.netloc.rpartition("@")[2]).geturl()
    connect = partial(HttpTransport, base, headers, place, concurrency)
    return Route(place, address, key_place(key_name), key, secrets, connect, f"base_url = {place!r}")


def bearer(key: str) -> dict[str, str]:
    """The header of most APIs."""
    return {"authorization": f"Bearer {key}"}


class HttpTransport:
    """Calls to paths under a base address, over so many connections; redirections are not followed.

    The connections belong to the event loop of the first call. A proxy is that of the environment
    (HTTPS_PROXY, NO_PROXY, …) or of the system.
    """

    def __init__(self, base: str, headers: Mapping[str, str], place: str, connections: int) -> None:
        self._base, self._headers, self._place, self._connections = base, headers, place, connections
        self._proxy = proxy_for(base)

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        secure = self._base.startswith("https:")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=IDLE, ssl=_trusted() if secure else True
            ),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        if "_session" in self.__dict__:
            await self._session.close()

    async def send(self, call: Call, seconds: float) -> Answer:
        """Send a call and read its answer within so many seconds.

        Raises ProviderError where the trusted certificates cannot be read.
        """
        session = self._session
        with ExitStack() as files:
            try:
                data = _content(call, files)
            except UnicodeEncodeError:
                return Answer(failed="bad_request", why="the text holds half of a surrogate pair")
            except OSError as error:
                return Answer(failed="bad_request", why=f"the file to send cannot be read: {error.strerror}")
            request = session.request(
                call.method,
                self._base + call.path,
                params=call.params,
                data=data,
                headers=None if call.body is None else JSON_BODY,
                allow_redirects=False,
                proxy=self._proxy,
            )
            return await self._answered(request, call, seconds)

    async def _answered(self, request: Any, call: Call, seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds), request as response:
                return await _received(response, call)
        except aiohttp.ClientError as error:
            return Answer(failed="unreachable", why=self._why(error))
        except TimeoutError:
            return Answer(failed="timeout", why=f"no answer within {seconds:.3g} s")
        except TooLarge as error:
            return Answer(failed="bad_reply", why=str(error))
        except Exception as error:  # an address that is none, a file that cannot be written
            return Answer(failed="unreachable", why=connection_error(error, self._place))

    def _why(self, error: aiohttp.ClientError) -> str:
        if self._proxy is None:
            return connection_error(error, self._place)
        proxy = f"the proxy {public_url(self._proxy)}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return f"{proxy} answers with HTTP {error.status}"
        there = getattr(error, "host", None) == urlsplit(self._proxy).hostname
        at_proxy = there or isinstance(error, aiohttp.ClientProxyConnectionError)
        return connection_error(error, proxy if at_proxy else self._place)


def _content(call: Call, files: ExitStack) -> Any:
    """What is sent: a body, or a form with its files, which `files` closes."""
    if call.body is not None:
        body = call.body()
        return io.BytesIO(body) if len(body) > LARGE else body
    if not call.form:
        return None
    form = aiohttp.FormData()
    for name, value in call.form.items():
        if isinstance(value, Path):
            file = files.enter_context(value.open("rb"))
            form.add_field(name, file, filename=value.name, content_type="application/jsonl")
        else:
            form.add_field(name, value)
    return form


def proxy_for(address: str) -> str | None:
    """The proxy that the environment or the system names for an address; None where it is called directly."""
    parts = urlsplit(address)
    if proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _must_be_usable(proxy: str | None, model: str, host: str | None) -> None:
    """Raise ProviderError for a proxy that is none of HTTP."""
    if proxy is None:
        return
    try:
        given = urlsplit(proxy)
        _ = given.port  # raises ValueError for one that is none
        usable = given.scheme in ("http", "https") and bool(given.hostname)
        shown = public_url(proxy)
    except ValueError:
        usable, shown = False, "of the environment"
    if not usable:
        raise ProviderError(
            f"{model}: the proxy {shown} is no HTTP proxy", f"set HTTPS_PROXY to one, or NO_PROXY to {host}"
        )


def _httpx() -> Any:
    """What the `openai` package speaks HTTP by: httpx2, or in older releases httpx."""
    return importlib.import_module("httpx2" if find_spec("httpx2") else "httpx")


def _trusted() -> ssl.SSLContext:
    """Trust the certificates that the `openai` package's client trusts, or those in SSL_CERT_FILE."""
    try:
        context: ssl.SSLContext = _httpx().create_ssl_context()
    except OSError as error:
        raise ProviderError(
            f"the trusted certificates cannot be read: {error.strerror}", "correct SSL_CERT_FILE, or unset it"
        ) from None
    return context


class TooLarge(Exception):
    """An answer that is larger than is read, or packed in a way that is not."""


async def _received(response: aiohttp.ClientResponse, call: Call) -> Answer:
    """Read an answer up to its limit. Raises TooLarge."""
    success, size = 200 <= response.status < 300, 0
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
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, b"".join(pieces))


async def _unpacked(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The body in pieces of at most `PIECE` bytes, or as they come where nothing is packed."""
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in PACKED:
        raise TooLarge(f"the answer is packed as {packing[:20]!r}, which is not read")
    bits = PACKED[packing]
    unpack = None if bits is None else zlib.decompressobj(bits)
    async for piece in response.content.iter_any():
        if unpack is None:
            yield piece
            continue
        packed = piece
        while packed and not unpack.eof:
            yield unpack.decompress(packed, PIECE)
            packed = unpack.unconsumed_tail


def _account_headers(key: str) -> dict[str, str]:
    """What the `openai` package reads from the environment: organisation, project, custom headers.

    Not what its headers tell about the machine.
    """
    import openai

    http = _httpx()
    unused = http.Client(transport=http.BaseTransport(), trust_env=False)
    with openai.OpenAI(api_key=key, http_client=unused) as client:
        named = client.default_headers
    given = {name.lower(): value for name, value in named.items() if isinstance(value, str)}
    skipped = ("x-stainless-", "content-type", "user-agent", "accept", "authorization")
    return {name: value for name, value in given.items() if not name.startswith(skipped)}
