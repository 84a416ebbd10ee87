"""Any endpoint that speaks OpenAI's chat completions, through the `openai` package.

One shared client and one retry layer: ours, because the client's own would wait in a taken slot. What an
endpoint does not support (a parameter's name, a temperature, twenty alternatives) is learnt from its first
refusal and told once. A failure of one request is a `Reply`; a condition that dooms all of them is a
`ProviderError`. The key is held by the client alone.
"""

import asyncio
import importlib
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
from trustescalate.judges.completions import REJECTED, Answer, Dialect, backoff, parse_completion
from trustescalate.types import Reply, Request, Token, Usage

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
NO_KEY = "no-key-needed"
BAD_REPLY_ATTEMPTS = 3
"""An answer that is no completion may have been paid for, so it is asked again less often."""

# Older releases of the client are built on httpx, newer ones on httpx2; these are the classes it speaks.
_http = importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])


class OpenAIBackend:
    """A model behind an OpenAI-compatible endpoint.

    At most `concurrency` requests are on the wire at a time; one that waits to be retried takes no slot.
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
        self._client = openai.AsyncOpenAI(
            api_key=_key(self._key_name, model),
            base_url=base_url or OPENAI_URL,
            max_retries=0,
            timeout=None,
            http_client=_http_client(concurrency),
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout, self._attempts, self._give_up_after = timeout, attempts, give_up_after
        self._extra, self._notice = dict(extra or {}), notice
        self._rng, self._sleep, self._clock = rng or random.Random(), sleep, clock
        self._dialect = Dialect()
        self._doom: tuple[str, str] | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def complete(self, request: Request) -> Reply:
        """Answer one request; raises `ProviderError` if no request can succeed, and from then on always."""
        spent, bad_replies, attempt = 0.0, 0, 0
        while True:
            answer, seconds = await self._exchange(request, min(self._timeout, self._give_up_after - spent))
            reply = parse_completion(answer.content) if answer.status == 200 else None
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
        return self._dialect.body(self._model, request) | self._extra

    @property
    def dialect(self) -> Dialect:
        """What the endpoint is known to take."""
        return self._dialect

    def learn(self, answer: Answer, dialect: Dialect) -> bool:
        """Whether a refusal of a body in this dialect teaches what the endpoint does not take."""
        return self._learn(answer, dialect)

    async def _exchange(self, request: Request, seconds: float) -> tuple[Answer, float]:
        """One attempt, in a slot; asked again at once in each dialect that the endpoint's refusals teach."""
        async with self._slots:
            began = self._clock()
            while True:
                if self._doom is not None:
                    raise ProviderError(*self._doom)
                dialect = self._dialect
                answer = await self._post(dialect.body(self._model, request) | self._extra, seconds)
                if not self._learn(answer, dialect):
                    break
            self._doom = self._doom or self._diagnose(answer)
            if self._doom is not None and answer.status != 200:
                raise ProviderError(*self._doom)
            return answer, self._clock() - began

    async def _post(self, body: Mapping[str, Any], seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                response = await self._client.post("/chat/completions", cast_to=_http.Response, body=body)
            return Answer(response.status_code, response.headers, response.content)
        except openai.APIStatusError as error:
            return Answer(error.status_code, error.response.headers, error.response.content)
        except TimeoutError:
            return Answer(failed="timeout")
        except UnicodeEncodeError:
            return Answer(failed="bad_request")
        except Exception:  # a transport has errors of its own that the client lets through (broken HTTP)
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
        tokens = reply.tokens
        if tokens is not None:
            before = "".join(token.text for token in tokens).partition(self._client.api_key)[0]
            ends = accumulate(len(token.text) for token in tokens)
            tokens = tuple(
                Token(self._clean(token.text), tuple((self._clean(text), p) for text, p in token.top))
                for token, end in zip(tokens, ends, strict=True)
                if end <= len(before)
            )
        return replace(reply, text=self._clean(reply.text), tokens=tokens)

    def _clean(self, text: str) -> str:
        return text.replace(self._client.api_key, "***").encode("utf-8", "replace").decode()


# ── the client ───────────────────────────────────────────────────────────────────────────────────


def _http_client(concurrency: int) -> Any:
    limits = _http.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        return openai.DefaultAioHttpClient(limits=limits)
    except RuntimeError:  # openai[aiohttp] is not installed: the default transport is slower, and works
        return openai.DefaultAsyncHttpxClient(limits=limits)


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
