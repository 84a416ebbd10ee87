"""Send requests to an endpoint of one or several addresses: rate limits, retries, and permanent errors.

What sends one request is a `Transport`. A failure of one request is an `Answer`; a permanent error of all
requests is a `ProviderError`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

from trustescalate.errors import ProviderError
from trustescalate.judges.budget import admission
from trustescalate.judges.completions import UNSUPPORTED, Answer, backoff, pause_until_reset, served_by
from trustescalate.judges.http_transport import http_route
from trustescalate.judges.rate_limits import Lanes, Pace, Ticket, Turns
from trustescalate.judges.refusals import LONGEST_SENTENCE, parsed, status_within
from trustescalate.judges.transport import Auth, Call, Connect, Route, Transport
from trustescalate.records import Reply, Token, Usage

BAD_REPLY_ATTEMPTS = 3
"""An unreadable answer may be billed, so it is retried less often."""
LONGEST_PAUSE = 60.0
"""Limits are per minute; after a longer wait is announced, the next attempt is made at this time."""
MOST_LOST = 5
"""How often a call is sent again because its way to the endpoint ended, and not the call."""
ONE_MODEL = "the addresses of a judge must serve one model: make two judges of them, or leave one out"
T = TypeVar("T")
Read = Callable[[bytes], tuple[T, int] | None]
"""Parse a body into a value and the tokens used; None for an invalid body."""


class Endpoint:
    """One or several base addresses of a model, with a key.

    At most `concurrency` requests are in flight at an address, fewer while it limits the rate; a request that
    waits for a retry takes no slot. Endpoints with the same `lanes` share the limit of an address and key. No
    minute has more than `requests_per_minute` and `tokens_per_minute`, over all addresses. `timeout` bounds
    one attempt and `give_up_after` all attempts with the waits between them, in seconds; time spent queueing
    for a slot does not count. `auth` gives the headers of the key, `routes` replace HTTP, and `place` opens
    their transports, here or elsewhere. `rng` draws the jitter of the waits and nothing else. `notice`
    receives what the server says to the first request that fails for good, and which address is set aside.

    A request goes to the least busy address. One that is left unanswered there goes at once to the next: an
    attempt is a round of the addresses that are not set aside, and the time of its last one counts. Replies
    from two addresses that name different models are a `ProviderError`.

    The key is read from the environment variable `api_key_env`. Without it, `OPENAI_API_KEY` is sent to
    api.openai.com and nowhere else: other endpoints are assumed to need no key. An instance belongs to one
    event loop; `close` it there. Raises `ProviderError` if the variable is not set.
    """

    def __init__(
        self,
        *,
        model: str,
        base_url: str | Sequence[str] | None = None,
        api_key_env: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        attempts: int = 6,
        give_up_after: float = 300.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        lanes: Lanes | None = None,
        notice: Callable[[str], None] = lambda _: None,
        auth: Auth | None = None,
        routes: Sequence[Route] = (),
        place: Callable[[Connect], Transport] = lambda connect: connect(),
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._routes = tuple(routes) or tuple(
            http_route(model, url, api_key_env, concurrency=concurrency, auth=auth)
            for url in addresses_of(base_url)
        )
        self._transports = [place(route.connect) for route in self._routes]
        self._secrets = tuple(dict.fromkeys(key for route in self._routes for key in route.secrets))
        self._several = len(self._routes) > 1
        self.name = f"{model} at {', '.join(route.place for route in self._routes)}"
        shared = lanes or Lanes()
        own = [shared.lane(route.address, route.key) for route in self._routes]
        self._turns = Turns(own, concurrency, Pace(requests_per_minute, tokens_per_minute))
        self._models: dict[str, str] = {}
        self._checked, self._set_aside = set[tuple[int, str]](), set[tuple[str, bool]]()
        self._timeout, self._attempts, self._give_up_after = timeout, attempts, give_up_after
        self._rng, self._sleep, self._clock = rng or random.Random(), sleep, clock
        self._permanent_error: tuple[str, str] | None = None
        self._notice, self._noticed = notice, set[str]()

    async def close(self) -> None:
        """Close the connections."""
        for transport in self._transports:
            await transport.close()

    async def exchange(
        self, call: Call, read: Read[T], look: Callable[[], Awaitable[T | None]] | None = None
    ) -> tuple[T | None, Answer]:
        """Send the call until its answer is final; the value is None without a valid answer.

        Before each further attempt `look` may return the result of an earlier one whose answer was lost.
        Raises `ProviderError` for permanent errors (key, address, quota), and from then on always.
        """
        spent, bad_replies, attempt, lost = 0.0, 0, 0, 0
        failed: dict[int, Answer] = {}
        while True:
            value, answer, seconds, place = await self._attempt(
                call, read, min(self._timeout, self._give_up_after - spent), failed
            )
            if value is not None:
                return value, answer
            if answer.lost and lost < MOST_LOST:
                lost += 1
                continue
            if call.learn(answer):
                continue
            if not answer.served:
                self._permanent_error = self._permanent_error or self._diagnose(answer, self._routes[place])
            self._check_permanent_error()
            bad_replies += answer.failure == "bad_reply"
            if self._several and answer.is_of_the_address:
                failed[place] = answer
                if bad_replies < BAD_REPLY_ATTEMPTS and self._turns.elsewhere(failed):
                    continue
                answer = self._joined(failed, answer)
            failed.clear()
            attempt, spent = attempt + 1, spent + seconds
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
        return " ".join(plain.split())[: LONGEST_SENTENCE * len(self._routes)]

    def clean(self, text: str) -> str:
        """Make a text safe to store: without the key, and without invalid characters."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text.encode("utf-8", "replace").decode()

    def cleaned(self, reply: Reply) -> Reply:
        """Make a reply safe to store: as `clean`, and without tokens from the first mention of the key on."""
        tokens = reply.tokens or ()
        written = "".join(token.text for token in tokens)
        texts = (text for token in tokens for text, _ in token.top)
        seen = "\0".join([reply.text, reply.served, written, *texts])
        if self.clean(seen) == seen:
            return reply
        before = min(len(written.partition(secret)[0]) for secret in self._secrets)
        ends = accumulate(len(token.text) for token in tokens)
        kept = tuple(
            Token(self.clean(token.text), tuple((self.clean(text), p) for text, p in token.top))
            for token, end in zip(tokens, ends, strict=True)
            if end <= before
        )
        shown = replace(reply, text=self.clean(reply.text), served=self.clean(reply.served))
        return shown if reply.tokens is None else replace(shown, tokens=kept)

    async def _attempt(
        self, call: Call, read: Read[T], seconds: float, failed: Mapping[int, Answer]
    ) -> tuple[T | None, Answer, float, int]:
        """Send one request when it may go, and report its outcome to the pace, the lane and the address."""
        used, crowded = 0, None
        ticket = await self._start(call, failed)
        try:
            began = self._clock()
            answer = await self._transports[ticket.place].send(call, seconds)
            value, used = (read(answer.content) if answer.served else None) or (None, 0)
            if answer.served and value is None:  # an error may come as a success
                answer = replace(answer, status=status_within(answer.content) or answer.status)
            crowded = None if answer.lost else answer.crowded
            self._turns.pause(ticket, min(pause_until_reset(answer.headers), LONGEST_PAUSE))
            if self._several and not answer.lost:
                self._report(ticket, value, answer)
            return value, answer, self._clock() - began, ticket.place
        finally:
            self._turns.settle(call.tokens, used)
            self._turns.end(ticket, crowded)

    async def _start(self, call: Call, failed: Mapping[int, Answer]) -> Ticket:
        """Wait for a slot, and for the budget without one; return the ticket of the slot."""
        own, first = admission.get(), call.first or bool(failed)
        while True:
            ticket, begun = await self._turns.start(call.tokens, first=first, avoid=tuple(failed)), False
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

    def _report(self, ticket: Ticket, value: object, answer: Answer) -> None:
        """Compare the model that answered with those of other addresses, or note a failure of this one."""
        place = self._routes[ticket.place].place
        if value is not None:
            self._must_be_one_model(ticket.place, getattr(value, "served", ""), answer)
        if value is None and not answer.is_of_the_address:
            return
        if self._turns.report(ticket, value is not None) and (place, value is None) not in self._set_aside:
            self._set_aside.add((place, value is None))
            why = self.shown(self._message_from(ticket.place, answer))
            self._notice(
                f"{self._model}: {place} answers again"
                if value is not None
                else f"{self._model}: {place} is set aside and tried again later: {why}"
            )

    def _must_be_one_model(self, number: int, served: str, answer: Answer) -> None:
        if not served or (number, served) in self._checked:
            return
        self._checked.add((number, served))
        place, model = self._routes[number].place, self.shown(model_of(answer.content))
        for other, named in self._models.items():
            if model and other != place and named != model:
                self._permanent_error = (
                    f"{self._model}: {other} answers as {named!r}, and {place} as {model!r}",
                    ONE_MODEL,
                )
                self._check_permanent_error()
        if model:
            self._models[place] = model

    def _joined(self, failed: Mapping[int, Answer], answer: Answer) -> Answer:
        """The answer to a request that no address answered, with what each of them said."""
        messages = [self._message_from(number, each) for number, each in failed.items()]
        return replace(answer, why="; ".join(text[:LONGEST_SENTENCE] for text in messages))

    def _message_from(self, number: int, answer: Answer) -> str:
        place, text = self._routes[number].place, self.shown(answer.message)
        return text if place in text else f"{place}: {text or f'HTTP {answer.status}'}"

    def _check_permanent_error(self) -> None:
        if self._permanent_error is not None:
            raise ProviderError(*self._permanent_error)

    def _diagnose(self, answer: Answer, route: Route) -> tuple[str, str] | None:
        """Return a permanent error as message and hint, without the server's text, which may hold the key."""
        return self._of_the_key(answer, route) or self._of_the_address(answer, route)

    def _of_the_key(self, answer: Answer, route: Route) -> tuple[str, str] | None:
        code, key, name = answer.error.get("code"), route.key_at, f"{self._model} at {route.place}"
        if answer.status == 402 or (answer.status == 429 and code == "insufficient_quota"):
            return f"{name}: the account has no quota left", f"add credit to the account of {key}"
        if answer.status == 401 or code == "invalid_api_key":
            return f"{name}: the key is missing or refused (HTTP {answer.status})", f"check {key}"
        if answer.status == 403 and answer.failure != "refused" and not answer.is_of_a_proxy:
            return f"{name}: access is denied (HTTP 403)", f"check that {key} may use this model"
        return None

    def _of_the_address(self, answer: Answer, route: Route) -> tuple[str, str] | None:
        code, name = answer.error.get("code"), f"{self._model} at {route.place}"
        if code == UNSUPPORTED:
            return f"{name}: {self.shown(answer.message)}", "leave it out of extra"
        if 300 <= answer.status < 400:
            hint = "set base_url to the new address if you know it; texts and keys follow no redirect"
            return f"{name}: the address was moved (HTTP {answer.status})", hint
        if answer.status in (404, 405, 410) or code == "model_not_found":
            message = f"{name}: no such model or address (HTTP {answer.status})"
            hint = f"check model = {self._model!r} and {route.at}"
            return message, f"{hint}, and whether it offers this API"
        return None


def model_of(content: bytes) -> str:
    """The model that answered, as an answer names it, without its system fingerprint; "" for none.

    >>> model_of(b'{"model": "m", "system_fingerprint": "fp_1"}'), model_of(b"<html>")
    ('m', '')
    """
    body = parsed(content)
    return served_by({"model": body.get("model")}) if isinstance(body, dict) else ""


def addresses_of(base_url: str | Sequence[str] | None) -> list[str | None]:
    """The addresses of a judge's table; [None] for the default one."""
    return [base_url] if base_url is None or isinstance(base_url, str) else list(base_url)
