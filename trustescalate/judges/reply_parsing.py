"""Parse a judge's reply into label probabilities.

The verdict is what the judge concludes (`judges.conclusions`); two of them, or one that is taken back, are
none, because a guessed verdict is worse than none. Log-probabilities are read at the token of the verdict.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from trustescalate.judges.conclusions import Asked, Verdict, cut_verdict, find_verdict, is_verdict_alone
from trustescalate.judges.label_mass import weigh
from trustescalate.judges.reply_marks import fold
from trustescalate.judges.verdict_lines import Labels, bare, begun, is_plain, labels_of, read_line
from trustescalate.records import Channel, Mode, Reply, Token

_CONTROL = re.compile(r"<[^<>]+>")
_BYTE = re.compile(r"<0x([0-7][0-9A-Fa-f])>")


class Reading(NamedTuple):
    """The mass of each symbol in a reply (at most 1 in all), or the failure."""

    probs: tuple[float, ...]
    failure: str | None
    channel: Channel


class Renormalized(Reading):
    """A reading of log-probabilities from before the schema, renormalized over the symbols."""

    __slots__ = ()


def read_verdict(
    reply: Reply,
    symbols: tuple[str, ...],
    *,
    mode: Mode = "direct",
    nonce: str = "",
    material: tuple[str, ...] = (),
) -> Reading:
    """The probabilities of `symbols` in a reply, in their order; never raises.

    `mode` is the requested form of reply, `nonce` the code on its verdict line if it has one, `material` the
    texts to be judged. Where one of them holds a verdict, whichever, a reply that may repeat it is an echo.

    Log-probabilities are read at the token where the verdict starts, over every spelling of a symbol (case,
    leading space, quotes, brackets, an unambiguous first piece). A verdict in the text and at no token has no
    log-probabilities: failure "no_logprobs", never a switch to the other channel. Of a truncated reply only
    a symbol that is all there is, or its first piece, is read. In the mode "stated" the one number is the
    verbalized confidence, at the symbol that the judge names.

    >>> from trustescalate.records import Usage
    >>> read_verdict(Reply("**Verdict:** b", None, "stop", Usage()), ("A", "B"))
    Reading(probs=(0.0, 1.0), failure=None, channel='samples')
    >>> read_verdict(Reply("A hard question.", None, "stop", Usage()), ("A", "B")).failure
    'none'
    >>> half = (("A", math.log(0.5)), (" B", math.log(0.25)), ("b", math.log(0.125)))
    >>> reading = read_verdict(Reply("A", (Token("A", half),), "stop", Usage()), ("A", "B"))
    >>> [round(p, 6) for p in reading.probs]
    [0.5, 0.375]
    >>> reply = Reply("A is short, and wrong.\\nVerdict 5a3f: B", None, "stop", Usage())
    >>> read_verdict(reply, ("A", "B"), mode="reason", nonce="5a3f").probs
    (0.0, 1.0)
    """
    channel: Channel = "stated" if mode == "stated" else "samples" if reply.tokens is None else "logprobs"
    if reply.failure is not None:
        return Reading((), reply.failure, channel)
    asked = Asked(labels_of(symbols), nonce, material)
    if reply.finish == "length":
        verdict = (cut_verdict(reply.text, asked) if mode == "direct" else None) or "truncated"
    else:
        verdict = find_verdict(reply.text, mode, asked)
    if isinstance(verdict, str):
        return Reading((), verdict, channel)
    if verdict.confidence is not None:
        stated = verdict.confidence
        return Reading(tuple(stated * (i == verdict.symbol) for i in range(len(symbols))), None, channel)
    if reply.tokens is None:
        return Reading(tuple(float(i == verdict.symbol) for i in range(len(symbols))), None, channel)
    return weigh_verdict(reply.tokens, reply.text, verdict, asked.labels, constrained=mode == "structured")


def is_only_a_verdict(text: str, symbols: tuple[str, ...]) -> bool:
    """Whether a text is a verdict and nothing else, so that it cannot be told whose words it repeats.

    >>> is_only_a_verdict("**a**", ("A", "B")), is_only_a_verdict("It says:\\nA", ("A", "B"))
    (True, False)
    """
    return is_verdict_alone(text, Asked(labels_of(symbols), "", ()))


@lru_cache(maxsize=256)
def are_readable(symbols: tuple[str, ...]) -> bool:
    """Whether a judge can answer with these strings: each reads back as itself in every form of a verdict.

    >>> are_readable(("pass", "fail")), are_readable(("-1", "1")), are_readable(("ß", "ss"))
    (True, False, False)
    """
    labels = labels_of(symbols)
    if len(labels.places) < len(symbols) or not all(map(is_plain, symbols)):
        return False
    nonce = "0123456789abcdef"
    asked = Asked(labels, nonce, ())
    forms: tuple[tuple[Mode, str], ...] = (
        *(
            ("direct", form)
            for form in ("{}", "{}.", "**{}**", "({})", '"{}"', "Verdict: {}", "The answer is {}.")
        ),
        *(
            ("direct", form)
            for form in ("[[{}]]", "\\boxed{{{}}}", "<answer>{}</answer>", "Final verdict: **{}**")
        ),
        *(("reason", f"Well.\n\nVerdict {nonce}: {form}") for form in ("{}", "{}.", "[[{}]]")),
        *(("stated", f"Verdict {nonce}: {form}") for form in ("{}, 80 %", "{} (0.8)")),
    )
    for i, symbol in enumerate(symbols):
        written = json.dumps({"reasoning": "Well.", "verdict": symbol}, ensure_ascii=False)
        replies = [*((mode, form.format(symbol)) for mode, form in forms), ("structured", written)]
        for mode, text in replies:
            result = find_verdict(text, mode, asked)
            if isinstance(result, str) or result.symbol != i:
                return False
        if _meaning(symbol, symbols) != i or cut_verdict(symbol, asked) is None:
            return False
    return True


def condensed(tokens: Sequence[Token], symbols: tuple[str, ...]) -> tuple[Token, ...]:
    """Join tokens to the same text, with alternatives only where a symbol stands or starts.

    A reply with reasoning has a thousand tokens with twenty alternatives each, of which one is read.

    >>> tokens = [Token("I", (("I", -0.1),)), Token(" say", ()), Token(" B", ((" B", -0.2), (" A", -1.8)))]
    >>> condensed(tokens, ("A", "B"))
    (Token(text='I say', top=()), Token(text=' B', top=((' B', -0.2), (' A', -1.8))))
    """
    kept: list[Token] = []
    for token in tokens:
        if _meaning(token.text, symbols) is not None:
            kept.append(token)
        elif kept and not kept[-1].top:
            kept[-1] = Token(kept[-1].text + token.text, ())
        else:
            kept.append(Token(token.text, ()))
    return tuple(kept)


def weigh_verdict(
    tokens: Sequence[Token], text: str, verdict: Verdict, labels: Labels, *, constrained: bool
) -> Reading:
    """The log-probabilities at a verdict's place, unless they are another verdict's."""
    token = _token_at(tokens, text, verdict, labels)
    if token is None:
        return Reading((), "no_logprobs", "logprobs")
    probs, failure, conditional = weigh(*_mass(token, labels), verdict.symbol, constrained=constrained)
    return (Renormalized if conditional else Reading)(probs, failure, "logprobs")


def _mass(token: Token, labels: Labels) -> tuple[list[float], float]:
    """The probability of each symbol at one place, and that of the least alternative. Equal texts are one."""
    best: dict[str, float] = {}
    for text, logprob in token.top:
        if not math.isnan(logprob):
            best[text] = max(logprob, best.get(text, -math.inf))
    mass = [0.0] * len(labels.symbols)
    for text, logprob in best.items():
        symbol = _meaning(text, labels.symbols)
        if symbol is not None:
            mass[symbol] += math.exp(min(logprob, 0.0))
    return mass, math.exp(min([*best.values(), 0.0]))


@lru_cache(maxsize=8192)  # the alternatives at a verdict's place are a few hundred different tokens
def _meaning(piece: str, symbols: tuple[str, ...]) -> int | None:
    """The one symbol that a token is or begins; None for a control token ("</s>")."""
    byte = _BYTE.fullmatch(piece)
    labels = labels_of(symbols)
    if byte is None and _CONTROL.fullmatch(piece) and bare(piece) not in labels.places:
        return None
    piece = fold(chr(int(byte[1], 16)) if byte else piece).text
    led = read_line(piece.rstrip(":").lstrip("> "), labels)
    return begun(bare(piece), labels.keys) if led is None else led.symbol


def _token_at(tokens: Sequence[Token], text: str, verdict: Verdict, labels: Labels) -> Token | None:
    """The token at which a verdict starts; if tokens do not spell the text, the last one with its meaning.

    The text may be the end of what the tokens spell: some servers leave hidden reasoning in the tokens only.
    """
    start = "".join(token.text for token in tokens).rfind(text)
    if start >= 0 and verdict.offset < len(text):
        return _covering(tokens, start + verdict.offset)
    return next(
        (token for token in reversed(tokens) if _meaning(token.text, labels.symbols) == verdict.symbol), None
    )


def _covering(tokens: Iterable[Token], offset: int) -> Token | None:
    end = 0
    for token in tokens:
        end += len(token.text)
        if offset < end:
            return token
    return None
