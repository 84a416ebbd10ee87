"""How a judge's reply is read: text and log-probabilities in, probabilities over the symbols out. Pure.

The grammar is strict, because a guessed verdict is worse than none. A verdict is a line that holds one
symbol and nothing else but decoration and a few leading words ("**Final verdict:** A"), or `[[A]]` anywhere.
Equal verdicts are one; two different ones are none. A line that ends in a colon is a heading, and prose is
not searched.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from trustescalate.types import Reply, Token

MASS_FLOOR = 0.5
"""A vote needs at least this much probability on the symbols at the verdict's place."""

DECORATION = " \t\r\n\f\v\u00a0\u200b\ufeff\u2581\u0120\u010a*_`~>\"'“”‘’«»()[]{}<.,:;!|=-–—\\/$"
"""What may surround a symbol. U+2581, U+0120 and U+010A are how some servers spell a token's white space."""

LEAD = frozenset(
    {"answer", "assistant", "best", "better", "boxed", "choice", "choose", "decision", "final", "grade", "i"}
    | {"is", "judgement", "judgment", "label", "my", "option", "output", "overall", "preferred", "rating"}
    | {"response", "result", "score", "so", "the", "therefore", "verdict", "winner"}
)
"""Words that may stand before a symbol on its line."""

LONGEST_LINE = 400
"""A longer line is prose."""

_WORD = re.compile(r"[^\W\d_]+")
_BRACKETED = re.compile(r"\[\[([^\[\]\n]{1,200})\]\]")
_CUE = re.compile(r"\([^()\n]{0,400} or [^()\n]{0,400}\)")
_CONTROL = re.compile(r"<[^<>]+>")
_BYTE = re.compile(r"<0x([0-7][0-9A-Fa-f])>")


class Reading(NamedTuple):
    """What a reply says: the mass of each symbol as seen (at most 1 in all), or why it says nothing."""

    probs: tuple[float, ...]
    failure: str | None
    channel: Literal["logprobs", "samples"]


class _Verdict(NamedTuple):
    offset: int
    symbol: int


def read_verdict(reply: Reply, symbols: tuple[str, ...]) -> Reading:
    """The probabilities of `symbols` in a reply, in their order; never raises.

    With log-probabilities they are read at the token where the verdict starts, every spelling of a symbol
    counted (case, leading space, quotes, brackets, a first piece that only one symbol begins with). A verdict
    that is in the text and at no token has no log-probabilities: failure "no_logprobs", never a switch to
    the other channel. A reply cut at its limit is read if it holds its verdict, or is a first piece of it.

    >>> from trustescalate.types import Usage
    >>> read_verdict(Reply("**Verdict:** b", None, "stop", Usage()), ("A", "B"))
    Reading(probs=(0.0, 1.0), failure=None, channel='samples')
    >>> read_verdict(Reply("A hard question.", None, "stop", Usage()), ("A", "B")).failure
    'none'
    >>> half = (("A", math.log(0.5)), (" B", math.log(0.25)), ("b", math.log(0.125)))
    >>> reading = read_verdict(Reply("A", (Token("A", half),), "stop", Usage()), ("A", "B"))
    >>> [round(p, 6) for p in reading.probs]
    [0.5, 0.375]
    """
    channel: Literal["logprobs", "samples"] = "samples" if reply.tokens is None else "logprobs"
    if reply.failure is not None:
        return Reading((), reply.failure, channel)
    keys = tuple(_bare(symbol) for symbol in symbols)
    found = sorted(_verdicts(reply.text, keys))
    if not found and reply.finish == "length":
        found = list(_cut_verdict(reply.text, keys))
    if not found:
        return Reading((), "truncated" if reply.finish == "length" else "none", channel)
    if len({verdict.symbol for verdict in found}) > 1:
        return Reading((), "multiple", channel)
    if reply.tokens is None:
        return Reading(tuple(float(i == found[0].symbol) for i in range(len(symbols))), None, channel)
    token = _token_at(reply.tokens, reply.text, found[0], keys)
    if token is None:
        return Reading((), "no_logprobs", channel)
    return _weigh(token, keys)


def _weigh(token: Token, keys: tuple[str, ...]) -> Reading:
    """Sum the alternatives at one place by the symbol that they mean. Equal texts are one token."""
    best: dict[str, float] = {}
    for text, logprob in token.top:
        if not math.isnan(logprob):
            best[text] = max(logprob, best.get(text, -math.inf))
    mass = [0.0] * len(keys)
    for text, logprob in best.items():
        symbol = _meaning(text, keys)
        if symbol is not None:
            mass[symbol] += math.exp(min(logprob, 0.0))
    total = math.fsum(mass)
    if total < MASS_FLOOR:
        return Reading((), "low_mass", "logprobs")
    return Reading(tuple(p / max(total, 1.0) for p in mass), None, "logprobs")


# ── the grammar ──────────────────────────────────────────────────────────────────────────────────


def _verdicts(text: str, keys: Sequence[str]) -> Iterator[_Verdict]:
    """Every verdict in a text. A repeated "(A or B)" is the prompt's own cue and is blanked out first."""
    text = _CUE.sub(lambda match: " " * len(match[0]), text)
    for match in _BRACKETED.finditer(text):
        yield from _led(match[1], match.start(1), keys)
    start = 0
    for line in text.splitlines(keepends=True):
        if ":" not in line[len(line.rstrip(DECORATION)) :]:
            yield from _led(line, start, keys)
        start += len(line)


def _led(text: str, start: int, keys: Sequence[str]) -> Iterator[_Verdict]:
    """The verdict of one line or bracket: leading words are cut until a symbol is left, or something else."""
    rest, lead = text, LEAD.difference(keys)
    while len(rest) <= LONGEST_LINE:
        symbol = _equal(rest, keys)
        if symbol is not None:
            yield _Verdict(start + max(rest.casefold().find(keys[symbol]), 0), symbol)
            return
        bare = rest.lstrip(DECORATION)
        word = _WORD.match(bare)
        if word is None or word[0].casefold() not in lead:
            return
        start += len(rest) - len(bare) + word.end()
        rest = bare[word.end() :]


def _cut_verdict(text: str, keys: Sequence[str]) -> Iterator[_Verdict]:
    """The verdict of a reply that was cut inside its first symbol, as "t" of "tie" with one token allowed."""
    symbol = _begun(_bare(text), keys)
    if symbol is not None and not _CONTROL.fullmatch(text):
        yield _Verdict(len(text) - len(text.lstrip(DECORATION)), symbol)


@lru_cache(
    maxsize=4096
)  # the alternatives at a verdict's place are the same few hundred tokens over and over
def _meaning(piece: str, keys: tuple[str, ...]) -> int | None:
    """The symbol that a token is or begins, if it is exactly one. A control token ("</s>") is none."""
    byte = _BYTE.fullmatch(piece)
    if byte is None and _CONTROL.fullmatch(piece):
        return None
    piece = chr(int(byte[1], 16)) if byte else piece
    led = next(_led(piece, 0, keys), None)
    return _begun(_bare(piece), keys) if led is None else led.symbol


def _begun(bare: str, keys: Sequence[str]) -> int | None:
    """The one symbol of which this is the head, and not the whole."""
    begun = [i for i, key in enumerate(keys) if bare and key.startswith(bare)]
    return begun[0] if len(begun) == 1 and keys[begun[0]] != bare else None


def _equal(text: str, keys: Sequence[str]) -> int | None:
    matches = [i for i, key in enumerate(keys) if key == _bare(text)]
    return matches[0] if len(matches) == 1 else None


def _bare(text: str) -> str:
    """Without case and decoration; a text that is all decoration ("-" as a label) keeps it."""
    return (text.strip(DECORATION) or text.strip()).casefold()


# ── the place ────────────────────────────────────────────────────────────────────────────────────


def _token_at(tokens: Sequence[Token], text: str, verdict: _Verdict, keys: tuple[str, ...]) -> Token | None:
    """The token at which a verdict starts; where the tokens do not spell the text, the last that means it.

    The text may be the end of what the tokens spell: some servers leave hidden reasoning in the tokens only.
    """
    start = "".join(token.text for token in tokens).rfind(text)
    if start >= 0:
        return _covering(tokens, start + verdict.offset)
    return next((token for token in reversed(tokens) if _meaning(token.text, keys) == verdict.symbol), None)


def _covering(tokens: Iterable[Token], offset: int) -> Token | None:
    end = 0
    for token in tokens:
        end += len(token.text)
        if offset < end:
            return token
    return None
