"""Any endpoint that speaks OpenAI's chat completions, through the `openai` package.

The package's HTTP client on aiohttp, its headers and its key; not its `create` and `post`, whose models cost
more than the call itself. One retry layer: ours, because the client's own would wait in a taken slot. What an
endpoint does not support (a parameter's name, a temperature, twenty alternatives) is learnt from its first
refusal and told once. A failure of one request is a `Reply`; a condition that dooms all of them is a
`ProviderError`. How many requests may be open, and when the next may start, is `judges.pacing`.
"""

import asyncio
import importlib
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

import openai

from trustescalate.errors import ProviderError
from trustescalate.judges.completions import REJECTED, Answer, Dialect, backoff, parse_completion, pause_told
from trustescalate.judges.rate_limits import Lanes, Pace
from trustescalate.records import Message, Reply, Request, Token, Usage

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
NO_KEY = "no-key-needed"
BAD_REPLY_ATTEMPTS = 3
"""An answer that is no completion may have been paid for, so it is asked again less often."""
LONGEST_PAUSE = 60.0
"""Limits are of a minute; who says more is asked again then, and its refusal counts as one."""
BYTES_PER_TOKEN = 2
"""Fewer than in any usual text, so that the tokens of a request are not guessed too low."""
WORTH_WARMING = 4000
"""Characters from which on providers keep a prefix (about 1,024 tokens)."""
CONNECT_TIMEOUT = {"timeout": {"connect": 5.0}}
"""In seconds; no clock runs for reading and writing by themselves, since one runs for the whole attempt."""
PIONEERS = 2
"""Requests that go before a prefix is warm: an item's two orders, which then never fall behind the others."""

# Older releases of the client are built on httpx, newer ones on httpx2; these are the classes it speaks.
_http = importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])


class OpenAIBackend:
    """A model behind an OpenAI-compatible endpoint.

    At most `concurrency` requests are on the wire at a time, fewer while the endpoint refuses some; one that
    waits to be retried takes no slot. Backends that are given the same `lanes` share what their endpoint
    admits with one key. In no minute does this one send more than `requests_per_minute` and
    `tokens_per_minute`. Of requests that share a long prefix two go first, so that the others find it in the
    provider's cache.
    `timeout` bounds one attempt and `give_up_after` all attempts with the waits between them, in seconds;
    time spent queueing for a slot does not count. `extra` are further fields of the request body, and win.
    `notice` is told, once each, what had to be changed for this endpoint; `rng` draws the jitter of the waits
    and nothing else.

    The key is read from the environment variable `api_key_env`. Without it, `OPENAI_API_KEY` is sent to
    api.openai.com and nowhere else: other endpoints are taken to need no key. An instance belongs to one
    event loop; `close` it there.

    Raises `ProviderError` if the variable is not set.
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
        extra: Mapping[str, Any] | None = None,
        notice: Callable[[str], None] = lambda _: None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._place = _public_url(base_url or OPENAI_URL)
        at_home = self._place.startswith("https://api.openai.com/")
        self._key_name = api_key_env or (OPENAI_KEY if at_home else "")
        self._key = _key(self._key_name, model)
        self._http = _http_client(concurrency)
        client = openai.AsyncOpenAI(
            api_key=self._key, base_url=base_url or OPENAI_URL, http_client=self._http
        )
        self._url = _http.URL(f"{client.base_url}".rstrip("/") + "/chat/completions")
        self._headers = _headers(client)
        lane = (lanes or Lanes()).lane(str(self._url), self._key)
        self._turns = lane.join(concurrency, Pace(requests_per_minute, tokens_per_minute))
        self._counts_tokens = tokens_per_minute is not None
        self._prefixes: dict[tuple[Message, ...], _Prefix] = {}
        self._timeout, self._attempts, self._give_up_after = timeout, attempts, give_up_after
        self._extra, self._notice = dict(extra or {}), notice
        self._rng, self._sleep, self._clock = rng or random.Random(), sleep, clock
        self._dialect = Dialect()
        self._doom: tuple[str, str] | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def complete(self, request: Request) -> Reply:
        """Answer one request; raises `ProviderError` if no request can succeed, and from then on always."""
        prefix = request.messages[:-1]
        shared = self._prefixes.get(prefix)
        if shared is None:
            if sum(len(message.content) for message in prefix) < WORTH_WARMING:
                return await self._answer(request)
            shared = self._prefixes[prefix] = _Prefix()
        await shared.turn()
        try:
            return await self._answer(request)
        finally:
            shared.warm.set()

    async def _answer(self, request: Request) -> Reply:
        spent, bad_replies, attempt = 0.0, 0, 0
        while True:
            reply, answer, seconds = await self._exchange(
                request, min(self._timeout, self._give_up_after - spent)
            )
            if reply is not None:
                return self._cleaned(reply)
            failure = answer.failure
            bad_replies += failure == "bad_reply"
            attempt, spent = attempt + 1, spent + seconds
            wait = backoff(attempt, answer.headers, self._rng)
            exhausted = attempt >= self._attempts or bad_replies >= BAD_REPLY_ATTEMPTS
            if not answer.retryable or exhausted or spent + wait >= self._give_up_after:
                return Reply(self._clean(answer.message)[:500], None, "stop", Usage(calls=1), failure)
            await self._sleep(wait)
            spent += wait

    def body(self, request: Request) -> dict[str, Any]:
        """The request body, as far as it is known what the endpoint takes."""
        body: dict[str, Any] = json.loads(self._dialect.body(self._model, request, self._extra))
        return body

    @property
    def dialect(self) -> Dialect:
        """What the endpoint is known to take."""
        return self._dialect

    def learn(self, answer: Answer, dialect: Dialect) -> bool:
        """Whether a refusal of a body in this dialect teaches what the endpoint does not take."""
        return self._learn(answer, dialect)

    async def _exchange(self, request: Request, seconds: float) -> tuple[Reply | None, Answer, float]:
        """One attempt, and another at once in each dialect that the endpoint's refusals teach."""
        learning = True
        while learning:
            reply, answer, took, dialect = await self._in_turn(request, seconds)
            learning = self._learn(answer, dialect)
        if answer.status != 200:
            self._doom = self._doom or self._diagnose(answer)
            if self._doom is not None:
                raise ProviderError(*self._doom)
        return reply, answer, took

    async def _in_turn(self, request: Request, seconds: float) -> tuple[Reply | None, Answer, float, Dialect]:
        """One request on the wire, when it may go; what comes of it is told to the pace and to the lane."""
        guess, used, crowded = self._guess(request), 0, None
        ticket = await self._turns.start(guess, first=self._others_wait_for(request))
        try:
            if self._doom is not None:
                raise ProviderError(*self._doom)
            dialect, began = self._dialect, self._clock()
            answer = await self._post(dialect, request, seconds)
            reply = parse_completion(answer.content) if answer.status == 200 else None
            if reply is not None:
                used = reply.usage.input_tokens + reply.usage.output_tokens
            crowded = answer.crowded
            self._turns.pause(min(pause_told(answer.headers), LONGEST_PAUSE))
            return reply, answer, self._clock() - began, dialect
        finally:
            self._turns.settle(guess, used)
            self._turns.end(ticket, crowded)

    def _others_wait_for(self, request: Request) -> bool:
        shared = self._prefixes.get(request.messages[:-1])
        return shared is not None and not shared.warm.is_set()

    def _guess(self, request: Request) -> int:
        """The tokens of a request, rather too many; not counted where there is no limit to keep."""
        if not self._counts_tokens:
            return 0
        size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
        return size // BYTES_PER_TOKEN + request.max_tokens

    async def _post(self, dialect: Dialect, request: Request, seconds: float) -> Answer:
        try:
            body = dialect.body(self._model, request, self._extra)
            post = _http.Request(
                "POST", self._url, headers=self._headers, content=body, extensions=CONNECT_TIMEOUT
            )
            async with asyncio.timeout(seconds):
                response = await self._http.send(post)
            return Answer(response.status_code, response.headers, response.content)
        except TimeoutError:
            return Answer(failed="timeout")
        except UnicodeEncodeError:
            return Answer(failed="bad_request")
        except Exception:  # transports have errors of their own (broken HTTP)
            return Answer(failed="unreachable")

    def _learn(self, answer: Answer, dialect: Dialect) -> bool:
        """Whether to ask again: what is refused is given up for good, now or meanwhile by another call."""
        learnt, what = dialect.without(answer.error) if answer.status in REJECTED else (dialect, "")
        if learnt == dialect:
            return False
        if self._dialect == dialect:
            self._dialect = learnt
            self._notice(f"{self._model} at {self._place}: {what}")
        return True

    def _diagnose(self, answer: Answer) -> tuple[str, str] | None:
        """What dooms every request, as message and hint. No word of the server's: it may repeat the key."""
        code, who = answer.error.get("code"), f"{self._model} at {self._place}"
        key = f"the environment variable {self._key_name}" if self._key_name else "api_key_env (none is set)"
        if answer.status == 402 or (answer.status == 429 and code == "insufficient_quota"):
            return f"{who}: the account has no quota left", f"add credit to the account of {key}"
        if answer.status == 401 or code == "invalid_api_key":
            return f"{who}: the key is missing or refused (HTTP {answer.status})", f"check {key}"
        if answer.status == 403 and answer.failure != "refused":
            return f"{who}: access is denied (HTTP 403)", f"check that {key} may use this model"
        if answer.status in (404, 405, 410) or code == "model_not_found":
            message = f"{who}: no such model or address (HTTP {answer.status})"
            return message, f"check model = {self._model!r} and base_url = {self._place!r}"
        return None

    def _cleaned(self, reply: Reply) -> Reply:
        """A reply that can be stored: no key in it, should the model repeat it, and no half characters."""
        tokens = reply.tokens or ()
        written = "".join(token.text for token in tokens)
        seen = "\0".join([reply.text, written, *(text for token in tokens for text, _ in token.top)])
        if self._clean(seen) == seen:
            return reply
        before = written.partition(self._key)[0]
        ends = accumulate(len(token.text) for token in tokens)
        clean = tuple(
            Token(self._clean(token.text), tuple((self._clean(text), p) for text, p in token.top))
            for token, end in zip(tokens, ends, strict=True)
            if end <= len(before)
        )
        return replace(reply, text=self._clean(reply.text), tokens=None if reply.tokens is None else clean)

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***").encode("utf-8", "replace").decode()


class _Prefix:
    """Messages that requests share: the pioneers among these go at once, all others when one has ended."""

    def __init__(self) -> None:
        self.warm = asyncio.Event()
        self._pioneers = PIONEERS

    async def turn(self) -> None:
        """Wait until a request may go."""
        if self._pioneers:
            self._pioneers -= 1
        else:
            await self.warm.wait()


# ── the client ───────────────────────────────────────────────────────────────────────────────────


def _http_client(concurrency: int) -> Any:
    limits = _http.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        return openai.DefaultAioHttpClient(limits=limits)
    except RuntimeError:  # openai[aiohttp] is not installed: the default transport is slower, and works
        return openai.DefaultAsyncHttpxClient(limits=limits)


def _headers(client: openai.AsyncOpenAI) -> Any:
    """What the package's client sends with every request, less what it tells of the machine."""
    headers = _http.Headers()
    for named in (client.default_headers, client.auth_headers):
        headers.update({name: value for name, value in named.items() if isinstance(value, str)})
    headers["content-type"] = "application/json"
    for name in [name for name in headers if name.startswith("x-stainless-")]:
        del headers[name]
    return headers


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
