"""Write chat completion requests in an endpoint's dialect, and parse its answers, without any I/O.

Includes the errors of servers, and their hints when to retry. Only used fields are parsed, and no body is
trusted to be well-formed.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from trustescalate.judges.finish_reasons import ending_of
from trustescalate.judges.prompts import criterion_field
from trustescalate.judges.refusals import (
    POLICY,
    UPSTREAM,
    allowed_count,
    error_of,
    is_unsupported,
    parsed,
    refused_parameter,
)
from trustescalate.records import Message, Reply, Request, Token, Usage

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
MOST_ALTERNATIVES = 20
REJECTED = (400, 403, 422)
"""Status codes that reject a single request."""
LEARNABLE = (*REJECTED, 501)
"""Status codes of a refused parameter."""
UNSUPPORTED = "unsupported_params"
"""The code of an error that names fields of the request which the provider does not take."""
CROWDED = (429, 503, 529)
"""Status codes of an overloaded endpoint."""


# ── requests ───────────────────────────────────────────────────────────────────────────────────────

FEWER = (5, 1)
"""Alternatives that are tried where an endpoint takes fewer and does not say how many."""
CHARACTERS_PER_TOKEN = 4
"""Of usual English; for tokens that a server does not count."""
MOST_SHOWN = 200
"""Bytes shown of an answer without a message."""
MOST_TOKENS = 10**7
"""A larger count of tokens is no count."""
LONGEST_NAME = 100
"""Characters that are kept of the name of a model that answered."""
LOWEST = -9999.0
"""The log-probability of what is impossible, as OpenAI writes it."""
ROUNDING = 0.01
"""Log-probabilities up to this are 0, by rounding."""


OWN_FIELDS = frozenset(
    {"max_tokens", "max_completion_tokens", "temperature", "seed"}
    | {"logprobs", "top_logprobs", "response_format"}
)
"""The fields of a request body that an endpoint may refuse, and that `extra` can leave away."""


_LIMITS = ("max_tokens", "max_completion_tokens")
_WITH = {"logprobs": ("logprobs", "top_logprobs"), **dict.fromkeys(_LIMITS, _LIMITS)}
"""Fields that are left away together."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The parameters that an endpoint supports. `alternatives` is `top_logprobs`; None: no log-probabilities.

    `form`: whether it supports a JSON schema for the reply.
    """

    limit: str = "max_tokens"
    alternatives: int | None = MOST_ALTERNATIVES
    temperature: bool = True
    seed: bool = True
    form: bool = True

    def body(self, model: str, request: Request, extra: Mapping[str, Any]) -> bytes:
        """The request body. A draw is seeded with its number; log-probabilities need no seed.

        `extra` wins, and leaves away a field of `OWN_FIELDS` that is `False` or empty there.

        Raises UnicodeEncodeError for invalid text (half of a surrogate pair).
        """
        fields: dict[str, Any] = {"model": model, self.limit: request.max_tokens}
        if self.temperature:
            fields["temperature"] = request.temperature
        if self.seed and not request.logprobs:
            fields["seed"] = request.sample
        if request.logprobs and self.alternatives is not None:
            fields |= {"logprobs": True, "top_logprobs": self.alternatives}
        if request.mode == "structured" and self.form:
            fields["response_format"] = _form(request)
        fields |= extra
        for name in OWN_FIELDS & extra.keys():
            if extra[name] is False or extra[name] == "":
                for own in _WITH.get(name, (name,)):
                    fields.pop(own, None)
        text = json.dumps(fields, ensure_ascii=False)
        if "messages" not in fields:
            *prefix, last = request.messages
            shown = _spelled(tuple(prefix)) + json.dumps(_turn(last), ensure_ascii=False)
            text = f'{text[:-1]}, "messages": [{shown}]}}'
        return text.encode()

    def without(self, error: Mapping[str, str]) -> tuple["Dialect", str]:
        """Return the dialect after an error, and a description of the change; unchanged for other errors.

        Any error that names an optional parameter and refuses it, in any words, is learnt from.

        >>> error = {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}
        >>> Dialect().without(error)[0].limit
        'max_completion_tokens'
        >>> Dialect().without({"message": "top_logprobs must be at most 5"})[0].alternatives
        5
        >>> Dialect().without({"message": "maximum context length is 4096 tokens"})[0] == Dialect()
        True
        """
        name = refused_parameter(error)
        if name == "logprobs" and self.alternatives is not None:
            return self._with_fewer(error)
        if name == "form" and self.form:
            return replace(self, form=False), "takes no response_format; replies are held to no schema"
        if name == "temperature" and self.temperature:
            return replace(self, temperature=False), "takes no temperature; its own default is in force"
        if name == "seed" and self.seed:
            return replace(self, seed=False), "takes no seed; draws cannot be repeated"
        if name == "limit" and is_unsupported(error) and self.limit == "max_tokens":
            return replace(self, limit="max_completion_tokens"), "takes max_completion_tokens for max_tokens"
        return self, ""

    def _with_fewer(self, error: Mapping[str, str]) -> tuple["Dialect", str]:
        """Ask for as many alternatives as the error allows; without a limit in it for fewer, or for none."""
        asked = self.alternatives or 0
        fewer = allowed_count(error, asked)
        if fewer is None and not is_unsupported(error) and "top_logprobs" in " ".join(error.values()):
            fewer = next((count for count in FEWER if count < asked), None)
        if fewer is None:
            return replace(self, alternatives=None), "gives no log-probabilities"
        return replace(self, alternatives=fewer), f"asks for {fewer} log-probabilities a token"


@lru_cache(maxsize=256)
def _spelled(prefix: tuple[Message, ...]) -> str:
    """The JSON of the few-shot examples, shared by all items of a prompt, up to the last comma."""
    return "".join(f"{json.dumps(_turn(message), ensure_ascii=False)}, " for message in prefix)


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _form(request: Request) -> dict[str, Any]:
    """A JSON schema for a structured reply: the reasoning, then a symbol, of each criterion."""
    verdicts = {criterion_field(number): one.symbols for number, one in enumerate(request.criteria, 1)} or {
        "verdict": request.symbols
    }
    named = {name: {"type": "string", "enum": list(symbols)} for name, symbols in verdicts.items()}
    fields = {"reasoning": {"type": "string"}, **named}
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


# ── answers ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one attempt: an HTTP answer, or the reason why there is none, with words (`why`).

    `lost`: what sent the call ended, so it is sent again at once, which is no further attempt.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    failed: str | None = None
    why: str = ""
    lost: bool = False

    @property
    def served(self) -> bool:
        """Whether the status is a success; a redirection is none, and is not followed."""
        return self.failed is None and 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        if self.failed is not None:
            return self.failed != "bad_request"
        return self.status < 400 or self.status in (408, 409, 429) or self.status >= 500 or self.is_of_a_proxy

    @property
    def is_of_the_address(self) -> bool:
        """Whether the same request may succeed at once at another address of the model."""
        return self.retryable and self.status not in (408, 409, 429)

    @property
    def is_of_a_proxy(self) -> bool:
        """Whether this is a page that denies access, and not an endpoint's own error."""
        return self.status == 403 and not isinstance(parsed(self.content), dict | list)

    @property
    def crowded(self) -> bool:
        """Whether the endpoint was overloaded, and did not reject the request itself."""
        return self.status in CROWDED or self.failed == "timeout"

    @property
    def failure(self) -> str:
        """The code of `FAILURES`, if this is the final answer."""
        if self.failed is not None:
            return self.failed
        if self.status in REJECTED and POLICY.search(" ".join(self.error.values())):
            return "refused"
        if self.status < 400:
            return "bad_reply"
        named = {408: "timeout", 429: "rate_limited"}
        return named.get(self.status, "server_error" if self.retryable else "bad_request")

    @property
    def error(self) -> dict[str, str]:
        """The error's `code`, `param`, `message` and whole `text`, as far as the body names them."""
        return error_of(self.content) if self.status >= 400 or self.failed is None else {}

    @property
    def message(self) -> str:
        """The error message of the server, or what its answer begins with."""
        own = self.why or self.error.get("message", "")
        return own or ("" if self.failed else self.content[:MOST_SHOWN].decode("utf-8", "replace"))


def parse_completion(content: bytes) -> Reply | None:
    """A chat completion as a `Reply`; None for any other body (HTML, cut or foreign JSON, an error).

    A log-probability that is none (NaN, above 0) makes the reply a "bad_reply" that says so; tokens that the
    server does not count are 0 (`counted`).

    >>> parse_completion(b'{"model": "m", "choices": [{"message": {"content": "A"}}]}')
    Reply(text='A', tokens=None, finish='stop', usage=Usage(calls=1, input_tokens=0, cached_tokens=0, \
output_tokens=0, batched=0), failure=None, served='m')
    >>> parse_completion(b"<html>") is None
    True
    """
    body = parsed(content)
    listed = _get(body, "choices")
    choices = listed if isinstance(listed, list) else []
    answered = (each for each in choices if isinstance(_get(each, "message"), dict))
    choice = next(answered, _first(choices))
    message = _get(choice, "message")
    if message is None and ending_of(_get(choice, "finish_reason")) == "refused":
        message = {}
    broken = _get(body, "error") or _get(choice, "error") or _get(choice, "finish_reason") in UPSTREAM
    if broken or not isinstance(message, dict):
        return None
    usage = _usage(_get(body, "usage"))
    try:
        tokens = tuple(_tokens(_get(_get(choice, "logprobs"), "content"))) or None
    except ValueError as error:
        return Reply(str(error), None, "stop", usage, "bad_reply")
    text, refusal = _text(message.get("content")), message.get("refusal")
    ending = ending_of(_get(choice, "finish_reason"))
    return Reply(
        text=text or _text(refusal),
        tokens=tokens,
        finish="length" if ending == "length" else "stop",
        usage=usage,
        failure="refused" if refusal or ending == "refused" else "truncated" if ending == "broken" else None,
        served=served_by(body),
    )


def served_by(body: Any) -> str:
    """The model that answered, as an answer names it, with its system fingerprint; "" where it names none.

    >>> served_by({"model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_1"}), served_by({"model": None})
    ('gpt-4o-2024-08-06 fp_1', '')
    """
    named = (_get(body, key) for key in ("model", "system_fingerprint"))
    shown = ("".join(char for char in name if char.isprintable()) for name in named if isinstance(name, str))
    return " ".join(name.strip()[:LONGEST_NAME] for name in shown if name.strip())


def _usage(fields: Any) -> Usage:
    """The tokens that a server counts; what `total_tokens` has above its parts is output (reasoning)."""
    given, received, total = (
        count_of(_get(fields, name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    reasoning = count_of(_get(_get(fields, "completion_tokens_details"), "reasoning_tokens"))
    if not given and received:
        given = max(total - received, 0)
    if given and total > given + received:
        received = total - given
    elif not total and reasoning > received:
        received += reasoning
    cached = count_of(_get(_get(fields, "prompt_tokens_details"), "cached_tokens"))
    return Usage(1, given, min(cached, given), received)


def count_of(value: Any) -> int:
    """A count in any spelling (7, 7.0, "7"); 0 for what is none.

    >>> [count_of(value) for value in (7, 7.0, "7", -7, True, None, float("nan"), "x", 10**400)]
    [7, 7, 7, 0, 0, 0, 0, 0, 0]
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= MOST_TOKENS else 0


def counted(reply: Reply, request: Request) -> tuple[Reply, bool]:
    """Count the tokens by length where the server does not, and return whether it does not."""
    usage = reply.usage
    given = usage.input_tokens or tokens_of(sum(len(message.content) for message in request.messages))
    received = usage.output_tokens or (tokens_of(len(reply.text)) if reply.text and not reply.failure else 0)
    if (given, received) == (usage.input_tokens, usage.output_tokens):
        return reply, False
    return replace(reply, usage=replace(usage, input_tokens=given, output_tokens=received)), True


def tokens_of(characters: int) -> int:
    """About how many tokens so many characters are."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def _tokens(entries: Any) -> Iterator[Token]:
    """The tokens with their alternatives; the generated one is among them even if the list leaves it out.

    Raises ValueError for a number that is no log-probability.
    """
    for entry in entries if isinstance(entries, list) else []:
        text, listed = _get(entry, "token"), _get(entry, "top_logprobs")
        seen: dict[str, float] = {}
        for top in [*(listed if isinstance(listed, list) else []), entry]:
            if isinstance(top, dict):
                name, logprob = top.get("token"), top.get("logprob")
                if isinstance(name, str) and isinstance(logprob, (int, float)):
                    seen.setdefault(name, _logprob(logprob))
        if isinstance(text, str):
            yield Token(text, tuple(seen.items()))


def _logprob(value: float) -> float:
    if not value <= ROUNDING or isinstance(value, bool):
        raise ValueError(f"a log-probability is {str(value)[:20]}")
    return float(min(max(value, LOWEST), 0.0))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_text(_get(part, "text")) for part in content)
    return content if isinstance(content, str) else ""


def _get(fields: Any, name: str) -> Any:
    return fields.get(name) if isinstance(fields, dict) else None


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


# ── retries ────────────────────────────────────────────────────────────────────────────────────────

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


def backoff(attempt: int, headers: Mapping[str, str], rng: random.Random) -> float:
    """Seconds to wait after the `attempt`-th failure: the server's value with a tenth of jitter, or else
    exponential with full jitter.

    >>> backoff(1, {"retry-after": "10"}, random.Random(0)) >= 10
    True
    """
    seconds = retry_after(headers)
    if seconds is not None and seconds > 0:
        return seconds * (1 + 0.1 * rng.random())
    return rng.random() * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (attempt - 1))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse the seconds to wait from any of the headers that servers use.

    `retry-after-ms`; `retry-after` in seconds or as a date (against the answer's own `date`, so the clocks
    need not agree); or the longest `x-ratelimit-reset-…` of a budget that is used up.

    >>> retry_after({"retry-after-ms": "250"}), retry_after({"retry-after": "1.5"})
    (0.25, 1.5)
    >>> retry_after({"x-ratelimit-reset-tokens": "6m0s"})
    360.0
    """
    ms, plain = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    if ms is not None:
        return ms / 1000
    seconds = _number(plain)
    if seconds is None:
        seconds = _seconds_until(plain, headers.get("date"))
    return _reset(headers) if seconds is None else seconds


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None


def _seconds_until(date: str | None, now: str | None) -> float | None:
    try:
        gap = parsedate_to_datetime(date or "") - parsedate_to_datetime(now or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return max(gap.total_seconds(), 0.0)


def pause_until_reset(headers: Mapping[str, str]) -> float:
    """Seconds until a budget that this answer used up is full again; 0 where none is.

    >>> pause_until_reset({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1.5s"})
    1.5
    """
    return max((seconds for used_up, seconds in _resets(headers) if used_up), default=0.0)


def _reset(headers: Mapping[str, str]) -> float | None:
    resets = list(_resets(headers))
    used_up = max((seconds for empty, seconds in resets if empty), default=None)
    return min((seconds for _, seconds in resets), default=None) if used_up is None else used_up


def _resets(headers: Mapping[str, str]) -> Iterator[tuple[bool, float]]:
    """For each budget whether it is used up, and the seconds until it is full again."""
    for kind in ("requests", "tokens"):
        duration = headers.get(f"x-ratelimit-reset-{kind}")
        match = None if duration is None else _DURATION.fullmatch(duration)
        if match is not None and any(match.groups()):
            parts = zip(match.groups(), _UNITS, strict=True)
            used_up = headers.get(f"x-ratelimit-remaining-{kind}") == "0"
            yield used_up, math.fsum(float(count or 0) * unit for count, unit in parts)
