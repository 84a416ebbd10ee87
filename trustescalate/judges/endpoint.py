"""Send requests to an endpoint: connections, rate limits, retries, and permanent errors.

The `openai` package's HTTP client on aiohttp, its headers and its key; not its `create` and `post`, whose
models cost more than the call itself, nor its retries, which would wait in a taken slot. A failure of one
request is an `Answer`; a permanent error of all requests is a `ProviderError`.
"""

import asyncio
import importlib
import os
import random
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from trustescalate.errors import ProviderError
from trustescalate.judges.budget import admission
from trustescalate.judges.completions import Answer, backoff, pause_until_reset
from trustescalate.judges.connections import connection_error
from trustescalate.judges.rate_limits import Lanes, Pace
from trustescalate.judges.refusals import LONGEST_SENTENCE, status_within
from trustescalate.records import Reply, Token, Usage

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
NO_KEY = "no-key-needed"
BAD_REPLY_ATTEMPTS = 3
"""An unreadable answer may be billed, so it is retried less often."""
LONGEST_PAUSE = 60.0
"""Limits are per minute; after a longer wait is announced, the next attempt is made at this time."""
CONNECT_TIMEOUT = {"timeout": {"connect": 5.0}}
"""In seconds; reading and writing have no limits of their own, since the whole attempt has one."""

MOST_BYTES = 8 * 2**20
"""Of one answer, unpacked."""
PIECE = 2**16
"""Bytes unpacked at a time."""
PACKED = {"": None, "identity": None, "gzip": 31, "x-gzip": 31, "deflate": 47}
"""The content encodings that are read, as `wbits` of zlib; both others are asked for nowhere."""

# Older releases of the client are built on httpx, newer ones on httpx2; these are the classes it speaks.
_http = importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])
T = TypeVar("T")
Read = Callable[[bytes], tuple[T, int] | None]
"""Parse a body into a value and the tokens used; None for an invalid body."""


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


class Endpoint:
    """A base address with a key.

    At most `concurrency` requests are in flight, fewer while the endpoint limits the rate; a request that
    waits for a retry takes no slot. Endpoints with the same `lanes` share the limit of an address and key. No
    minute has more than `requests_per_minute` and `tokens_per_minute`. `timeout` bounds one attempt and
    `give_up_after` all attempts with the waits between them, in seconds; time spent queueing for a slot does
    not count. `rng` draws the jitter of the waits and nothing else. `notice` receives what the server says to
    the first request that fails for good.

    The key is read from the environment variable `api_key_env`. Without it, `OPENAI_API_KEY` is sent to
    api.openai.com and nowhere else: other endpoints are assumed to need no key. An instance belongs to one
    event loop; `close` it there. Raises `ProviderError` if the variable is not set.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key_env: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        attempts: int = 6,
        give_up_after: float = 300.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        lanes: Lanes | None = None,
        notice: Callable[[str], None] = lambda _: None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._place = model, _public_url(base_url or OPENAI_URL)
        self.name = f"{model} at {self._place}"
        at_home = f"{self._place}/".startswith("https://api.openai.com/")
        self._key_name = api_key_env or (OPENAI_KEY if at_home else "")
        self._key = _key(self._key_name, model)
        self._http = _http_client(concurrency)
        client = openai.AsyncOpenAI(
            api_key=self._key, base_url=base_url or OPENAI_URL, http_client=self._http
        )
        self._base = f"{client.base_url}".rstrip("/")
        self._headers = _headers(client, at_home=at_home)
        lane = (lanes or Lanes()).lane(self._base, self._key)
        self._turns = lane.join(concurrency, Pace(requests_per_minute, tokens_per_minute))
        self._timeout, self._attempts, self._give_up_after = timeout, attempts, give_up_after
        self._rng, self._sleep, self._clock = rng or random.Random(), sleep, clock
        self._permanent_error: tuple[str, str] | None = None
        self._notice, self._noticed = notice, set[str]()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def exchange(
        self, call: Call, read: Read[T], look: Callable[[], Awaitable[T | None]] | None = None
    ) -> tuple[T | None, Answer]:
        """Send the call until its answer is final; the value is None without a valid answer.

        Before each further attempt `look` may return the result of an earlier one whose answer was lost.
        Raises `ProviderError` for permanent errors (key, address, quota), and from then on always.
        """
        spent, bad_replies, attempt = 0.0, 0, 0
        while True:
            value, answer, seconds = await self._attempt(
                call, read, min(self._timeout, self._give_up_after - spent)
            )
            if value is not None:
                return value, answer
            if call.learn(answer):
                continue
            if not answer.served:
                self._permanent_error = self._permanent_error or self._diagnose(answer)
            self._check_permanent_error()
            attempt, spent = attempt + 1, spent + seconds
            bad_replies += answer.failure == "bad_reply"
            wait = backoff(attempt, answer.headers, self._rng)
            exhausted = attempt >= (call.attempts or self._attempts) or bad_replies >= BAD_REPLY_ATTEMPTS
            if not answer.retryable or exhausted or spent + wait >= self._give_up_after:
                return None, answer
            await self._sleep(wait)
            spent += wait
            seen = None if look is None else await look()
            if seen is not None:
                return seen, answer

    def failed(self, answer: Answer) -> Reply:
        """The reply of a request without a usable answer; what the server says is told once a failure."""
        text = self.shown(answer.message)
        if text and answer.failure not in self._noticed:
            self._noticed.add(answer.failure)
            status = f" (HTTP {answer.status})" if answer.status else ""
            self._notice(f"{self.name}: a request failed{status}: {text}")
        return Reply(text, None, "stop", Usage(calls=1), answer.failure)

    def counts_by_length(self) -> None:
        """Say once that the server does not count tokens."""
        if "usage" not in self._noticed:
            self._noticed.add("usage")
            self._notice(f"{self.name}: does not count all tokens; costs are estimated by length")

    def with_input(self, reply: Reply, tokens: int) -> Reply:
        """Count the input of a reply by its length, in `tokens`, where the server does not; say so once."""
        if reply.usage.input_tokens:
            return reply
        self.counts_by_length()
        return replace(reply, usage=replace(reply.usage, input_tokens=tokens))

    def shown(self, text: str) -> str:
        """A server's text as one short line, without the key and control characters."""
        plain = "".join(char if char.isprintable() else " " for char in self.clean(text))
        return " ".join(plain.split())[:LONGEST_SENTENCE]

    def clean(self, text: str) -> str:
        """Make a text safe to store: without the key, and without invalid characters."""
        return text.replace(self._key, "***").encode("utf-8", "replace").decode()

    def cleaned(self, reply: Reply) -> Reply:
        """Make a reply safe to store: as `clean`, and without tokens from the first mention of the key on."""
        tokens = reply.tokens or ()
        written = "".join(token.text for token in tokens)
        texts = (text for token in tokens for text, _ in token.top)
        seen = "\0".join([reply.text, reply.served, written, *texts])
        if self.clean(seen) == seen:
            return reply
        before = len(written.partition(self._key)[0])
        ends = accumulate(len(token.text) for token in tokens)
        kept = tuple(
            Token(self.clean(token.text), tuple((self.clean(text), p) for text, p in token.top))
            for token, end in zip(tokens, ends, strict=True)
            if end <= before
        )
        shown = replace(reply, text=self.clean(reply.text), served=self.clean(reply.served))
        return shown if reply.tokens is None else replace(shown, tokens=kept)

    async def _attempt(self, call: Call, read: Read[T], seconds: float) -> tuple[T | None, Answer, float]:
        """Send one request when it may go, and report its outcome to the pace and the lane."""
        used, crowded = 0, None
        ticket = await self._start(call)
        try:
            began = self._clock()
            answer = await self._send(call, seconds)
            value, used = (read(answer.content) if answer.served else None) or (None, 0)
            if answer.served and value is None:  # an error may come as a success
                answer = replace(answer, status=status_within(answer.content) or answer.status)
            crowded = answer.crowded
            self._turns.pause(min(pause_until_reset(answer.headers), LONGEST_PAUSE))
            return value, answer, self._clock() - began
        finally:
            self._turns.settle(call.tokens, used)
            self._turns.end(ticket, crowded)

    async def _start(self, call: Call) -> int:
        """Wait for a slot, and for the budget without one; return the ticket of the slot."""
        own, first = admission.get(), call.first
        while True:
            ticket, begun = await self._turns.start(call.tokens, first=first), False
            try:
                self._check_permanent_error()
                begun = own is None or own.begin()
            finally:
                if not begun:
                    self._turns.settle(call.tokens, 0)
                    self._turns.end(ticket, None)
            if own is None or begun:
                return ticket
            await own.freed()
            first = True

    async def _send(self, call: Call, seconds: float) -> Answer:
        try:
            headers, more = self._headers, dict(call.more)
            if call.body is not None:
                more["content"] = call.body()
                headers = {**headers, "content-type": "application/json"}
            request = _http.Request(
                call.method, self._base + call.path, headers=headers, extensions=CONNECT_TIMEOUT, **more
            )
            async with asyncio.timeout(seconds):
                response = await self._http.send(request, stream=True, follow_redirects=False)
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

    def _check_permanent_error(self) -> None:
        if self._permanent_error is not None:
            raise ProviderError(*self._permanent_error)

    def _diagnose(self, answer: Answer) -> tuple[str, str] | None:
        """Return a permanent error as message and hint, without the server's text, which may hold the key."""
        code = answer.error.get("code")
        key = f"the environment variable {self._key_name}" if self._key_name else "api_key_env (none is set)"
        if answer.status == 402 or (answer.status == 429 and code == "insufficient_quota"):
            return f"{self.name}: the account has no quota left", f"add credit to the account of {key}"
        if answer.status == 401 or code == "invalid_api_key":
            return f"{self.name}: the key is missing or refused (HTTP {answer.status})", f"check {key}"
        if answer.status == 403 and answer.failure != "refused" and not answer.is_of_a_proxy:
            return f"{self.name}: access is denied (HTTP 403)", f"check that {key} may use this model"
        if 300 <= answer.status < 400:
            hint = "set base_url to the new address if you know it; texts and keys follow no redirect"
            return f"{self.name}: the address was moved (HTTP {answer.status})", hint
        if answer.status in (404, 405, 410) or code == "model_not_found":
            message = f"{self.name}: no such model or address (HTTP {answer.status})"
            hint = f"check model = {self._model!r} and base_url = {self._place!r}"
            return message, f"{hint}, and whether it offers this API"
        return None


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


def _http_client(concurrency: int) -> Any:
    limits = _http.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        return openai.DefaultAioHttpClient(limits=limits)
    except RuntimeError:  # without openai[aiohttp] the default transport is slower
        return openai.DefaultAsyncHttpxClient(limits=limits)


def _headers(client: openai.AsyncOpenAI, *, at_home: bool) -> dict[str, str]:
    """The headers of the package's client, without those about the machine.

    What the package reads from the environment (organisation, project, custom headers) goes to api.openai.com
    alone.
    """
    plain = {"accept": "application/json", "user-agent": client.user_agent}
    headers = _http.Headers()
    for named in (client.default_headers if at_home else plain, client.auth_headers):
        headers.update({name: value for name, value in named.items() if isinstance(value, str)})
    skipped = ("x-stainless-", "content-type")
    kept = {name: value for name, value in headers.items() if not name.startswith(skipped)}
    return kept | {"accept-encoding": "gzip"}


def _key(name: str, model: str) -> str:
    if not name:
        return NO_KEY
    key = os.environ.get(name, "").strip()
    if not key:
        hint = f"export {name}=…, or name another variable in api_key_env"
        raise ProviderError(f"{model}: the environment variable {name} is not set", hint)
    if not (key.isascii() and key.isprintable()):
        raise ProviderError(f"{model}: the environment variable {name} holds no key", f"set {name} again")
    return key


def _public_url(url: str) -> str:
    """Without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
