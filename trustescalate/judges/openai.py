"""Call any endpoint with OpenAI's chat completions API.

Unsupported parameters (a name, a temperature, twenty alternatives) are detected from the first error and
reported once. Connections and retries are those of `judges.endpoint`.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trustescalate.judges.completions import LEARNABLE, Answer, Dialect, counted, parse_completion
from trustescalate.judges.endpoint import Endpoint
from trustescalate.judges.refusals import is_of_validation
from trustescalate.judges.transport import MOST_BYTES, Call
from trustescalate.records import Message, Reply, Request, Usage

CHAT = "/chat/completions"
BYTES_PER_TOKEN = 2
"""Fewer than in any usual text, so that the tokens of a request are not underestimated."""
BYTES_PER_REPLY_TOKEN = 8192
"""Of an answer with twenty log-probabilities a token, at most."""
WORTH_WARMING = 4000
"""Characters from which on providers cache a prefix (about 1,024 tokens)."""
PIONEERS = 2
"""Requests sent before a prefix is cached: the two orders of an item."""
TOGETHER = 8
"""Requests that go at once when a prefix is cached."""


class OpenAIBackend:
    """A model behind an OpenAI-compatible `Endpoint`; `reached` is passed to it.

    Of requests with a long common prefix two go first, so that the others find it in the provider's cache.
    `extra` are further fields of the request body, and win. `notice` receives, once each, the changes made
    for this endpoint. An instance belongs to one event loop; `close` it there.

    Raises `ProviderError` if the variable that holds the key is not set.
    """

    def __init__(
        self,
        *,
        model: str,
        extra: Mapping[str, Any] | None = None,
        notice: Callable[[str], None] = lambda _: None,
        **reached: Any,
    ) -> None:
        self._model, self._extra, self._notice = model, dict(extra or {}), notice
        self._endpoint = Endpoint(model=model, notice=notice, **reached)
        self._prefixes: dict[tuple[Message, ...], _Prefix] = {}
        self._dialect = Dialect()

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

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
            return await self._answer(request, first=not shared.warm)
        finally:
            shared.end()

    async def _answer(self, request: Request, *, first: bool = False) -> Reply:
        asked = self._dialect

        def body() -> bytes:
            nonlocal asked
            asked = self._dialect
            return asked.body(self._model, request, self._extra)

        billed = Usage()

        def read(content: bytes) -> tuple[Reply, int] | None:
            """Parse a completion; an empty one is asked for again, and billed."""
            nonlocal billed
            reply = parse_completion(content)
            if reply is None:
                return None
            billed = replace(billed + reply.usage, calls=1)
            return None if is_empty(reply) else (reply, reply.usage.input_tokens + reply.usage.output_tokens)

        call = Call(
            "POST", CHAT, body, learn=lambda refusal: self.learn(refusal, asked),
            tokens=_guess(request), first=first,
            most_bytes=max(MOST_BYTES, request.max_tokens * BYTES_PER_REPLY_TOKEN),
        )  # fmt: skip
        reply, answer = await self._endpoint.exchange(call, read)
        if reply is not None:
            return self.counted(replace(self._endpoint.cleaned(reply), usage=billed), request)
        if answer.status == 200 and parse_completion(answer.content) is not None:
            return Reply("", None, "stop", billed, "empty")
        return replace(self._endpoint.failed(answer), usage=replace(billed, calls=1))

    def counted(self, reply: Reply, request: Request) -> Reply:
        """Count the tokens of a reply by length where the server does not, and say so once."""
        reply, by_length = counted(reply, request)
        if by_length:
            self._endpoint.counts_by_length()
        return reply

    def body(self, request: Request) -> dict[str, Any]:
        """The request body in the dialect known so far."""
        body: dict[str, Any] = json.loads(self._dialect.body(self._model, request, self._extra))
        return body

    async def batch_body(self, request: Request) -> dict[str, Any]:
        """A request for a Batch API."""
        return self.body(request)

    async def read_answer(self, body: Mapping[str, Any], content: bytes) -> Answer:  # noqa: ARG002
        """The provider's answer to a `batch_body` as the answer of a chat completion."""
        return Answer(200, {}, content)

    @property
    def dialect(self) -> Dialect:
        """The parameters that the endpoint is known to support."""
        return self._dialect

    def learn(self, answer: Answer, dialect: Dialect) -> bool:
        """Adapt the dialect to an error of a body in `dialect`; return whether anything was learnt.

        An unsupported parameter is dropped for good; another call may have dropped it already.
        """
        refused = answer.status in LEARNABLE or (answer.status == 500 and is_of_validation(answer.error))
        learnt, what = dialect.without(answer.error) if refused else (dialect, "")
        if learnt == dialect:
            return False
        if self._dialect == dialect:
            self._dialect = learnt
            self._notice(f"{self._endpoint.name}: {what}")
        return True


class _Prefix:
    """A prefix of several requests: the first `PIONEERS` go at once, all others when one has ended."""

    def __init__(self) -> None:
        self.warm = False
        self._pioneers = PIONEERS
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Wait until a request may go."""
        if self._pioneers:
            self._pioneers -= 1
        elif not self.warm:
            seat = asyncio.get_running_loop().create_future()
            self._waiting.append(seat)
            await seat

    def end(self) -> None:
        """A request has ended."""
        if not self.warm:
            self.warm = True
            self._release()

    def _release(self) -> None:
        """Let those that wait go, a few at a time: the first are sent before the last are written."""
        for seat in [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]:
            if not seat.done():  # it was cancelled
                seat.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._release)


def is_empty(reply: Reply) -> bool:
    """Whether a reply that ended normally holds no text."""
    return reply.failure is None and reply.finish == "stop" and not reply.text.strip()


def _guess(request: Request) -> int:
    """An upper estimate of the tokens of a request."""
    size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    return size // BYTES_PER_TOKEN + request.max_tokens
