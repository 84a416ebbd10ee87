"""Turn the likeliest tokens at a place into a token of a reply, for every engine on this machine."""

import hashlib
import math
from collections.abc import Iterable, Sequence

from trustescalate.judges.base import MAX_TOKENS
from trustescalate.judges.local.text import ChatText
from trustescalate.records import Reply, Request, Token, Usage

ALTERNATIVES = 20
"""The likeliest tokens of a place that are kept, beside those with which a symbol may begin."""


def reads(request: Request) -> bool:
    """Whether the next token is the reply: a verdict without text before it."""
    return request.logprobs and request.max_tokens <= MAX_TOKENS["direct"]


def token_of(text: ChatText, candidates: Iterable[tuple[int, float]], chosen: int | None = None) -> Token:
    """The chosen token, or the first one. Tokens with equal text are one alternative, with their sum."""
    merged: dict[str, float] = {}
    for token, logprob in candidates:
        chosen = token if chosen is None else chosen
        name = text.token(token)
        merged[name] = _logaddexp(merged.get(name, -math.inf), logprob)
    assert chosen is not None, "a place has a token"
    return Token(text.token(chosen), tuple(merged.items()))


def reply_of(
    request: Request, text: str, tokens: Sequence[Token], usage: Usage, *, ended: bool = False
) -> Reply:
    """A reply of these tokens; a log-probability that is not a number makes it a "bad_reply"."""
    if any(math.isnan(logprob) for token in tokens for _, logprob in token.top):
        return Reply("the model's output is not a number", None, "stop", usage, "bad_reply")
    kept = tuple(tokens) if request.logprobs else None
    return Reply(text, kept, "stop" if ended else "length", usage)


def too_long(tokens: int, context: int | None) -> Reply:
    """The reply to a prompt that does not fit."""
    message = f"{tokens} tokens do not fit into the model's context of {context}"
    return Reply(message, None, "stop", Usage(), "bad_request")


def seed_of(request: Request) -> int:
    """A seed of 64 bits, so that equal requests draw equal text."""
    return int.from_bytes(hashlib.sha256(repr(request).encode("utf-8", "replace")).digest()[:8], "big")


def _logaddexp(a: float, b: float) -> float:
    if a == -math.inf:
        return b
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high))
