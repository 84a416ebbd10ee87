"""Write chat completion requests in an endpoint's dialect, and parse its answers, without any I/O.

Includes the errors of servers, and their hints when to retry. Only used fields are parsed, and no body is
trusted to be well-formed.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from trustescalate.records import Message, Reply, Request, Token, Usage

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
MOST_ALTERNATIVES = 20
REJECTED = (400, 403, 422)
"""Status codes that reject a single request."""
CROWDED = (429, 503, 529)
"""Status codes of an overloaded endpoint."""


# ── requests ───────────────────────────────────────────────────────────────────────────────────────

_UNSUPPORTED = re.compile(
    r"unsupported|not (support|permitted|allowed|enabled)|unrecogni[sz]ed|unknown|unexpected|disabled", re.I
)
_REFUSED = re.compile(r"content.?(filter|policy|management)|moderation|flagged", re.I)
_BAD_KEY = re.compile(r"api.?key.{0,20}(not valid|invalid|expired)", re.I)
_FORM = re.compile(r"response_format|json_schema|structured.?output", re.I)
_TOO_MANY = re.compile(r"max|most|less|greater|exceed|between|range|<|≤", re.I)


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
        """The request body. A draw is seeded with its number; log-probabilities need no seed. `extra` wins.

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
            fields["response_format"] = _form(request.symbols)
        fields |= extra
        text = json.dumps(fields, ensure_ascii=False)
        if "messages" not in fields:
            *prefix, last = request.messages
            shown = _spelled(tuple(prefix)) + json.dumps(_turn(last), ensure_ascii=False)
            text = f'{text[:-1]}, "messages": [{shown}]}}'
        return text.encode()

    def without(self, error: Mapping[str, str]) -> tuple["Dialect", str]:  # noqa: PLR0911
        """Return the dialect after an error, and a description of the change; unchanged for other errors.

        >>> error = {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}
        >>> Dialect().without(error)[0].limit
        'max_completion_tokens'
        >>> Dialect().without({"message": "top_logprobs must be at most 5"})[0].alternatives
        5
        >>> Dialect().without({"message": "maximum context length is 4096 tokens"})[0] == Dialect()
        True
        """
        text = f"{error.get('param', '')} {error.get('message', '')}"
        unsupported = _UNSUPPORTED.search(text) is not None
        if "logprobs" in text.casefold() and self.alternatives is not None:
            fewer = [n for n in map(int, re.findall(r"\b\d{1,4}\b", text)) if 0 < n < self.alternatives]
            if _TOO_MANY.search(text) and fewer:
                return replace(
                    self, alternatives=max(fewer)
                ), f"asks for {max(fewer)} log-probabilities a token"
            if unsupported:
                return replace(self, alternatives=None), "gives no log-probabilities"
        if self.form and _FORM.search(text) and (unsupported or "invalid" in text.casefold()):
            return replace(self, form=False), "takes no response_format; replies are held to no schema"
        if unsupported and "max_completion_tokens" in text and self.limit == "max_tokens":
            return replace(self, limit="max_completion_tokens"), "takes max_completion_tokens for max_tokens"
        if unsupported and "temperature" in text and self.temperature:
            return replace(self, temperature=False), "takes no temperature; its own default is in force"
        if unsupported and "seed" in text and self.seed:
            return replace(self, seed=False), "takes no seed; draws cannot be repeated"
        return self, ""


@lru_cache(maxsize=256)
def _spelled(prefix: tuple[Message, ...]) -> str:
    """The JSON of the few-shot examples, shared by all items of a prompt, up to the last comma."""
    return "".join(f"{json.dumps(_turn(message), ensure_ascii=False)}, " for message in prefix)


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _form(symbols: Sequence[str]) -> dict[str, Any]:
    """A JSON schema for a structured reply: the reasoning first, then one of the symbols."""
    fields = {"reasoning": {"type": "string"}, "verdict": {"type": "string", "enum": list(symbols)}}
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


# ── answers ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one attempt: an HTTP answer, or the reason why there is none, with words (`why`)."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    failed: str | None = None
    why: str = ""

    @property
    def served(self) -> bool:
        """Whether the status is a success; a redirection is none, and is not followed."""
        return self.failed is None and 200 <= self.status < 300

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        if self.failed is not None:
            return self.failed != "bad_request"
        return self.status < 400 or self.status in (408, 409, 429) or self.status >= 500

    @property
    def crowded(self) -> bool:
        """Whether the endpoint was overloaded, and did not reject the request itself."""
        return self.status in CROWDED or self.failed == "timeout"

    @property
    def failure(self) -> str:
        """The code of `FAILURES`, if this is the final answer."""
        if self.failed is not None:
            return self.failed
        if self.status in REJECTED and _REFUSED.search(" ".join(self.error.values())):
            return "refused"
        if self.status < 400:
            return "bad_reply"
        named = {408: "timeout", 429: "rate_limited"}
        return named.get(self.status, "server_error" if self.retryable else "bad_request")

    @property
    def error(self) -> dict[str, str]:
        """The error's `code`, `param` and `message`, as far as the body names them."""
        body = _json(self.content) if self.status >= 400 else None
        body = _first(body) if isinstance(body, list) else body  # Gemini puts it in a list
        if not isinstance(body, dict):
            return {}
        inner = body.get("error", body)
        fields = inner if isinstance(inner, dict) else {"message": inner}
        message = fields.get("message") or fields.get("detail")
        if isinstance(message, list):
            parts = [part for part in message if isinstance(part, dict)]
            message = "; ".join(f"{part.get('loc')}: {part.get('msg')}" for part in parts)
        code = fields.get("code")
        code = code if isinstance(code, str) else fields.get("type") or fields.get("status")
        if isinstance(message, str) and _BAD_KEY.search(message):
            code = "invalid_api_key"  # Gemini calls it an invalid argument
        named = {"code": code, "param": fields.get("param"), "message": message}
        return {name: value for name, value in named.items() if isinstance(value, str)}

    @property
    def message(self) -> str:
        """The error message of the server."""
        return self.why or self.error.get("message", "")


def parse_completion(content: bytes) -> Reply | None:
    """A chat completion as a `Reply`; None if the body is anything else (HTML, cut or foreign JSON).

    >>> parse_completion(b'{"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}]}')
    Reply(text='A', tokens=None, finish='stop', usage=Usage(calls=1, input_tokens=0, cached_tokens=0, \
output_tokens=0, batched=0), failure=None)
    >>> parse_completion(b"<html>") is None
    True
    """
    body = _json(content)
    choice = _first(_get(body, "choices"))
    message = _get(choice, "message")
    if not isinstance(message, dict):
        return None
    text, refusal = _text(message.get("content")), message.get("refusal")
    ending = _ending(_get(choice, "finish_reason"))
    return Reply(
        text=text or _text(refusal),
        tokens=tuple(_tokens(_get(_get(choice, "logprobs"), "content"))) or None,
        finish="length" if ending == "length" else "stop",
        usage=_usage(_get(body, "usage")),
        failure="refused" if refusal or ending == "refused" else "truncated" if ending == "broken" else None,
    )


ENDINGS: Mapping[str, Sequence[str]] = {
    "stop": (
        *(
            "stop",
            "eos",
            "eos_token",
            "end_turn",
            "stop_sequence",
            "stop_token",
            "stop_word",
            "end",
            "complete",
        ),
        *(
            "completed",
            "finished",
            "done",
            "tool_calls",
            "tool_use",
            "tool_call",
            "function_call",
            "null",
            "none",
            "",
        ),
    ),
    "length": (
        *(
            "length",
            "model_length",
            "max_tokens",
            "max_length",
            "max_output_tokens",
            "max_new_tokens",
            "max_token",
        ),
        *("token_limit", "length_capped"),
    ),
    "refused": (
        *(
            "content_filter",
            "content_filtered",
            "content-filter",
            "refusal",
            "safety",
            "recitation",
            "blocklist",
        ),
        *("prohibited_content", "spii", "guardrail_intervened", "guardrails", "error_toxic"),
    ),
}
"""How servers say that a reply ended, was cut, or was filtered; with any other reason it was broken off."""


def _ending(reason: Any) -> str:
    """The end of a reply, by its finish reason.

    >>> _ending("end_turn"), _ending("MAX_TOKENS"), _ending("insufficient_system_resource"), _ending(None)
    ('stop', 'length', 'broken', 'stop')
    """
    name = reason.get("type") if isinstance(reason, dict) else reason
    name = "" if name is None else str(name).casefold().removeprefix("finish_reason_").strip()
    return next((ending for ending, names in ENDINGS.items() if name in names), "broken")


def _usage(fields: Any) -> Usage:
    cached = _get(_get(fields, "prompt_tokens_details"), "cached_tokens")
    counts = (_get(fields, "prompt_tokens"), cached, _get(fields, "completion_tokens"))
    return Usage(1, *(count if isinstance(count, int) and count > 0 else 0 for count in counts))


def _tokens(entries: Any) -> Iterator[Token]:
    """The tokens with their alternatives; the generated one is among them even if the list leaves it out."""
    for entry in entries if isinstance(entries, list) else []:
        text, listed = _get(entry, "token"), _get(entry, "top_logprobs")
        seen: dict[str, float] = {}
        for top in [*(listed if isinstance(listed, list) else []), entry]:
            name, logprob = _get(top, "token"), _get(top, "logprob")
            if isinstance(name, str) and isinstance(logprob, int | float):
                seen.setdefault(name, float(logprob))
        if isinstance(text, str):
            yield Token(text, tuple(seen.items()))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_text(_get(part, "text")) for part in content)
    return content if isinstance(content, str) else ""


def _get(fields: Any, name: str) -> Any:
    return fields.get(name) if isinstance(fields, dict) else None


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


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
