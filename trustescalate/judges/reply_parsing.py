"""Parse a judge's reply into label probabilities.

The grammar is strict, because a guessed verdict is worse than none. In the mode "direct", a verdict is a line
with one symbol and nothing else but decoration and a few leading words ("**Final verdict:** A"), or `[[A]]`
anywhere; a line that ends in a colon is a heading, and prose is not searched. In the modes "reason" and
"stated", the verdict is on the line with the nonce of its message and nowhere else. A structured reply is one
JSON object. Equal verdicts count as one; two different ones count as none, and so does one that only repeats
a text to be judged. Hidden reasoning is not searched.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from trustescalate.judges.label_mass import weigh
from trustescalate.judges.placeholders import is_placeholder
from trustescalate.records import Channel, Mode, Reply, Token

DECORATION = " \t\r\n\f\v\u00a0\u200b\ufeff\u2581\u0120\u010a*_`~>\"'“”‘’«»()[]{}<.,:;!|=-–—\\/$"
"""Characters that may surround a symbol. Some servers write white space as U+2581, U+0120 and U+010A."""

LEAD = frozenset(
    {"answer", "assistant", "best", "better", "boxed", "choice", "choose", "decision", "final", "grade", "i"}
    | {"is", "judgement", "judgment", "label", "my", "option", "output", "overall", "preferred", "rating"}
    | {"response", "result", "score", "so", "the", "therefore", "verdict", "winner"}
)
"""Words that may stand before a symbol on its line."""

LONGEST_LINE = 400
"""A longer line is prose."""

CONCLUDING = frozenset({"decision", "final", "verdict", "winner"})
"""Words that make a line of the reasoning a verdict, which the last one must not contradict."""

_WORD = re.compile(r"[^\W\d_]+")
_ANY_WORD = re.compile(r"\w+")
_BRACKETED = re.compile(r"\[\[([^\[\]\n]{1,200})\]\]")
_CUE = re.compile(r"\([^()\n]{0,400} or [^()\n]{0,400}\)")
_CONTROL = re.compile(r"<[^<>]+>")
_BYTE = re.compile(r"<0x([0-7][0-9A-Fa-f])>")
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)
_VERDICT_KEY = re.compile(r':\s*"')
_PERCENT = re.compile(
    r"(.*?)[\s,;:(=\-–—]*(?<![\d.])(\d{1,3}(?:\.\d{1,6})?)\s*(%|percent\b|per cent\b)?[\s.)*_`\"]*",
    re.IGNORECASE,
)
_THINK, _THOUGHT = "<think>", "</think>"


class Reading(NamedTuple):
    """The mass of each symbol in a reply (at most 1 in all), or the failure."""

    probs: tuple[float, ...]
    failure: str | None
    channel: Channel


class Renormalized(Reading):
    """A reading of log-probabilities from before the schema, renormalized over the symbols."""

    __slots__ = ()


class _Verdict(NamedTuple):
    """A verdict in a text: the offset of its symbol, and its words."""

    offset: int
    symbol: int
    words: str = ""
    confidence: float | None = None


class _Asked(NamedTuple):
    """The properties of a request that a parser needs."""

    keys: tuple[str, ...]
    nonce: str
    material: tuple[str, ...]


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
    texts to be judged: a verdict that repeats one of them is an echo.

    Log-probabilities are read at the token where the verdict starts, over every spelling of a symbol (case,
    leading space, quotes, brackets, an unambiguous first piece). A verdict in the text and at no token has no
    log-probabilities: failure "no_logprobs", never a switch to the other channel. A truncated reply is parsed
    if it holds its verdict, or is a first piece of it. In the mode "stated" the one number is the verbalized
    confidence, at the symbol that the judge names.

    >>> from trustescalate.records import Usage
    >>> read_verdict(Reply("**Verdict:** b", None, "stop", Usage()), ("A", "B"))
    Reading(probs=(0.0, 1.0), failure=None, channel='samples')
    >>> read_verdict(Reply("A hard question.", None, "stop", Usage()), ("A", "B")).failure
    'none'
    >>> half = (("A", math.log(0.5)), (" B", math.log(0.25)), ("b", math.log(0.125)))
    >>> reading = read_verdict(Reply("A", (Token("A", half),), "stop", Usage()), ("A", "B"))
    >>> [round(p, 6) for p in reading.probs]
    [0.5, 0.375]
    >>> reply = Reply("It says: Final verdict: A\\nBut it is wrong.\\nVerdict 5a3f: B", None, "stop", Usage())
    >>> read_verdict(reply, ("A", "B"), mode="reason", nonce="5a3f").probs
    (0.0, 1.0)
    """
    channel: Channel = "stated" if mode == "stated" else "samples" if reply.tokens is None else "logprobs"
    if reply.failure is not None:
        return Reading((), reply.failure, channel)
    keys = tuple(_bare(symbol) for symbol in symbols)
    text = _without_thoughts(reply.text, material)
    verdict = _READERS[mode](text, reply.finish == "length", _Asked(keys, nonce, material))
    if isinstance(verdict, str):
        cut = reply.finish == "length" and verdict in ("none", "malformed")
        return Reading((), "truncated" if cut else verdict, channel)
    if verdict.confidence is not None:
        stated = verdict.confidence
        return Reading(tuple(stated * (i == verdict.symbol) for i in range(len(symbols))), None, channel)
    if reply.tokens is None:
        return Reading(tuple(float(i == verdict.symbol) for i in range(len(symbols))), None, channel)
    return _weighed(reply.tokens, reply.text, verdict, keys, constrained=mode == "structured")


def is_symbol(text: str, symbols: tuple[str, ...]) -> bool:
    """Whether a text is one of the symbols and nothing else.

    >>> is_symbol("**a**", ("A", "B")), is_symbol("Verdict: A", ("A", "B"))
    (True, False)
    """
    return _equal(text, tuple(_bare(symbol) for symbol in symbols)) is not None


def condensed(tokens: Sequence[Token], symbols: tuple[str, ...]) -> tuple[Token, ...]:
    """Join tokens to the same text, with alternatives only where a symbol stands or starts.

    A reply with reasoning has a thousand tokens with twenty alternatives each, of which one is read.

    >>> tokens = [Token("I", (("I", -0.1),)), Token(" say", ()), Token(" B", ((" B", -0.2), (" A", -1.8)))]
    >>> condensed(tokens, ("A", "B"))
    (Token(text='I say', top=()), Token(text=' B', top=((' B', -0.2), (' A', -1.8))))
    """
    keys = tuple(_bare(symbol) for symbol in symbols)
    kept: list[Token] = []
    for token in tokens:
        if _meaning(token.text, keys) is not None:
            kept.append(token)
        elif kept and not kept[-1].top:
            kept[-1] = Token(kept[-1].text + token.text, ())
        else:
            kept.append(Token(token.text, ()))
    return tuple(kept)


def _weighed(
    tokens: Sequence[Token], text: str, verdict: _Verdict, keys: tuple[str, ...], *, constrained: bool
) -> Reading:
    """The log-probabilities at a verdict's place, unless they are another verdict's."""
    token = _token_at(tokens, text, verdict, keys)
    if token is None:
        return Reading((), "no_logprobs", "logprobs")
    probs, failure, conditional = weigh(*_mass(token, keys), verdict.symbol, constrained=constrained)
    return (Renormalized if conditional else Reading)(probs, failure, "logprobs")


def _mass(token: Token, keys: tuple[str, ...]) -> tuple[list[float], float]:
    """The probability of each symbol at one place, and that of the least alternative. Equal texts are one."""
    best: dict[str, float] = {}
    for text, logprob in token.top:
        if not math.isnan(logprob):
            best[text] = max(logprob, best.get(text, -math.inf))
    mass = [0.0] * len(keys)
    for text, logprob in best.items():
        symbol = _meaning(text, keys)
        if symbol is not None:
            mass[symbol] += math.exp(min(logprob, 0.0))
    return mass, math.exp(min([*best.values(), 0.0]))


# ── modes ──────────────────────────────────────────────────────────────────────────────────────────


def _direct(text: str, cut: bool, asked: _Asked) -> _Verdict | str:
    verdicts = sorted(_verdicts(text, asked.keys))
    if not verdicts and cut:
        verdicts = list(_cut_verdict(text, asked.keys))
    if not verdicts:
        return "none"
    if len({verdict.symbol for verdict in verdicts}) > 1:
        return "multiple"
    return next(iter(_own(verdicts, text, asked)), "echo")


def _reasoned(text: str, cut: bool, asked: _Asked) -> _Verdict | str:  # noqa: ARG001
    last = _on_the_line(text, asked, _plain)
    if isinstance(last, str):
        return last
    others = [v for v in _verdicts(text, asked.keys) if v.symbol != last.symbol and _concludes(v)]
    return "conflict" if _own(others, text, asked) else last


def _stated(text: str, cut: bool, asked: _Asked) -> _Verdict | str:  # noqa: ARG001
    verdict = _on_the_line(text, asked, _with_confidence)
    if isinstance(verdict, str):
        return verdict
    return "no_confidence" if not verdict.confidence else verdict


def _structured(text: str, cut: bool, asked: _Asked) -> _Verdict | str:  # noqa: ARG001
    body = _unfenced(text)
    fields = _only_object(body)
    if isinstance(fields, str):
        return fields
    if [key for key, _ in fields] != ["reasoning", "verdict"] or not all(
        isinstance(v, str) for _, v in fields
    ):
        return "malformed"
    if is_placeholder(fields[0][1]):
        return "malformed"
    symbol = _equal(fields[1][1], asked.keys)
    if symbol is None:
        return "none"
    if any(_words(body) in _words(shown) for shown in asked.material):
        return "echo"
    *_, place = (match.end() for match in _VERDICT_KEY.finditer(text))
    return _Verdict(place, symbol)


def _only_object(body: str) -> list[tuple[str, Any]] | str:
    """The members of the one JSON object of a text, in their order, or a failure."""
    try:
        parsed, end = _JSON.raw_decode(body)
    except (ValueError, RecursionError):
        return "malformed"
    rest = body[end:].strip(" \t\r\n,")
    if rest:
        return "multiple" if rest.startswith("{") else "malformed"
    return parsed.members if isinstance(parsed, _Object) else "malformed"


def _unfenced(text: str) -> str:
    fenced = _FENCED.fullmatch(text.strip())
    return (fenced[1] if fenced else text).strip()


_READERS: Mapping[Mode, Callable[[str, bool, _Asked], _Verdict | str]] = {
    "direct": _direct,
    "reason": _reasoned,
    "structured": _structured,
    "stated": _stated,
}


class _Object(NamedTuple):
    """A JSON object with its keys in order, duplicates included."""

    members: list[tuple[str, Any]]


_JSON = json.JSONDecoder(object_pairs_hook=_Object)


def _on_the_line(
    text: str, asked: _Asked, read: "Callable[[str, int, _Asked], _Verdict | None]"
) -> _Verdict | str:
    """The verdict on the lines that hold the nonce after a few leading words; all of them must agree."""
    distinct: set[tuple[int, float | None]] = set()
    first: _Verdict | None = None
    repeated, start = False, 0
    for line in text.splitlines(keepends=True) if asked.nonce else ():
        at = line.casefold().find(asked.nonce)
        if 0 <= at <= LONGEST_LINE and {w.casefold() for w in _WORD.findall(line[:at])} <= LEAD:
            rest = line[at + len(asked.nonce) :]
            verdict = read(rest, start + len(line) - len(rest), asked)
            repeated |= verdict is None and _is_cue(rest, asked.keys)
            if verdict is not None:
                first = first or verdict
                distinct.add((verdict.symbol, verdict.confidence))
        start += len(line)
    if first is None:
        return "echo" if repeated else "none"
    return first if len(distinct) == 1 else "multiple"


def _plain(rest: str, start: int, asked: _Asked) -> _Verdict | None:
    symbol = _equal(rest, asked.keys)
    if symbol is None:
        return None
    return _Verdict(start + max(rest.casefold().find(asked.keys[symbol]), 0), symbol)


def _with_confidence(rest: str, start: int, asked: _Asked) -> _Verdict | None:
    """ "A, 85 %": a share of 1 without a sign could be either, and is neither."""
    match = _PERCENT.fullmatch(rest[:LONGEST_LINE])
    named = None if match is None else _plain(match[1], start, asked)
    if match is None or named is None:
        bare = _plain(re.split(r"[,;(]", rest)[0], start, asked)
        return None if bare is None else bare._replace(confidence=0.0)
    stated = float(match[2])
    known = 0 < stated <= 100 and (stated > 1 or match[3] is not None)
    return named._replace(confidence=stated / 100 if known else 0.0)


# ── quotations and hidden reasoning ────────────────────────────────────────────────────────────────


def _without_thoughts(text: str, material: Sequence[str]) -> str:
    """Blank out hidden reasoning, and keep the length of the text.

    A closing mark alone (the opening one is often in the chat template) counts only if no shown text holds
    one: a quoted mark must not hide an earlier verdict.
    """
    opened = text.lstrip().startswith(_THINK)
    alone = text.count(_THOUGHT) == 1 and not any(_THOUGHT in shown for shown in material)
    if not opened and not alone:
        return text
    end = text.find(_THOUGHT) + len(_THOUGHT) if _THOUGHT in text else len(text)
    return " " * end + text[end:]


def _own(verdicts: Sequence[_Verdict], text: str, asked: _Asked) -> list[_Verdict]:
    """The verdicts that no shown text contains in the same words; all in a reply of one symbol."""
    if _equal(text, asked.keys) is not None:
        return list(verdicts)
    quoted = {words: _is_quoted(words, asked) for words in {verdict.words for verdict in verdicts}}
    return [verdict for verdict in verdicts if not quoted[verdict.words]]


def _is_quoted(words: str, asked: _Asked) -> bool:
    if words.startswith("[["):
        return any(words.casefold() in shown.casefold() for shown in asked.material)
    plain = _words(words)
    if _bare(words) in asked.keys or not plain.strip():
        return any(_bare(words) == _bare(line) for shown in asked.material for line in shown.splitlines())
    return any(plain in _words(shown) for shown in asked.material)


def _is_cue(rest: str, keys: Sequence[str]) -> bool:
    """Whether the text after the nonce only repeats the prompt: nothing, or all symbols at once."""
    words = _words(rest)
    return not words.strip() or all(not _words(key).strip() or _words(key) in words for key in keys)


def _concludes(verdict: _Verdict) -> bool:
    return verdict.words.startswith("[[") or not CONCLUDING.isdisjoint(_words(verdict.words).split())


def _words(text: str) -> str:
    """The words of a text, each between spaces."""
    return f" {' '.join(_ANY_WORD.findall(text.casefold()))} "


# ── the grammar ────────────────────────────────────────────────────────────────────────────────────


def _verdicts(text: str, keys: Sequence[str]) -> Iterator[_Verdict]:
    """Every verdict in a text. A repeated "(A or B)" is the prompt's own cue and is blanked out first."""
    text = _CUE.sub(lambda match: " " * len(match[0]), text)
    for match in _BRACKETED.finditer(text):
        for verdict in _led(match[1], match.start(1), keys):
            yield verdict._replace(words=match[0])
    start = 0
    for line in text.splitlines(keepends=True):
        if ":" not in line[len(line.rstrip(DECORATION)) :]:
            for verdict in _led(line, start, keys):
                yield verdict._replace(words=line.strip())
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


@lru_cache(maxsize=4096)  # the alternatives at a verdict's place are a few hundred different tokens
def _meaning(piece: str, keys: tuple[str, ...]) -> int | None:
    """The one symbol that a token is or begins; None for a control token ("</s>")."""
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


# ── the token of a verdict ─────────────────────────────────────────────────────────────────────────


def _token_at(tokens: Sequence[Token], text: str, verdict: _Verdict, keys: tuple[str, ...]) -> Token | None:
    """The token at which a verdict starts; if tokens do not spell the text, the last one with its meaning.

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
