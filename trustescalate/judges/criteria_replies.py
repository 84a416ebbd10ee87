"""Read the verdict on one of several criteria from a reply, and write such a reply.

A verdict stands on a line of its own that begins with the number or the name of its criterion (in the mode
"reason" after the nonce), or in a field of the one JSON object. Each is read by the rules of a reply with one
verdict: the lines of the other criteria are left out, what comes before the first verdict too, and what
follows the last one must take none back. So a bad verdict fails its own criterion and no other.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from trustescalate.judges.conclusions import Asked, Verdict, find_verdict
from trustescalate.judges.prompts import criterion_field
from trustescalate.judges.reply_marks import has_thought_marks, speaks_for_others, without_thoughts
from trustescalate.judges.reply_parsing import Reading, weigh_verdict
from trustescalate.judges.structured_replies import read_field
from trustescalate.judges.verdict_lines import labels_of
from trustescalate.records import Channel, Mode, Reply, Request, Token
from trustescalate.records.criteria import AskedCriterion

_NUMBER = r"(?:criterion[ \t]+)?[\[(]?(\d{1,2})[\])]?"
_ENDS = r"[*_]*[ \t]*(?:[:=)\]]|\.(?=\s|[*_]))[*_]*[ \t]*"
_DECORATION = r"[ \t*_`•#-]*"


class _Line(NamedTuple):
    """A line of a reply: where it starts and ends, the place of its criterion (-1: none) and of its rest."""

    start: int
    end: int
    criterion: int
    rest: int


def read_criterion(
    reply: Reply,
    criteria: tuple[AskedCriterion, ...],
    place: int,
    *,
    mode: Mode = "direct",
    nonce: str = "",
    material: tuple[str, ...] = (),
) -> Reading:
    """The probabilities of the symbols of the criterion at `place`, as `read_verdict` reads one verdict.

    >>> from trustescalate.records import Usage
    >>> asked = tuple(AskedCriterion(name, "?", ("yes", "no"), ("yes", "no")) for name in ("clear", "right"))
    >>> reply = Reply("1: yes\\n2: no", None, "stop", Usage())
    >>> [read_criterion(reply, asked, place).probs for place in (0, 1)]
    [(1.0, 0.0), (0.0, 1.0)]
    >>> reply = Reply("1: yes\\n1: no\\n2: no", None, "stop", Usage())
    >>> [read_criterion(reply, asked, place).failure for place in (0, 1)]
    ['multiple', None]
    """
    channel: Channel = "samples" if reply.tokens is None else "logprobs"
    if reply.failure is not None:
        return Reading((), reply.failure, channel)
    own = criteria[place]
    asked = Asked(labels_of(own.symbols), nonce, material)
    verdict = _find(reply, criteria, place, mode, asked)
    if isinstance(verdict, str):
        return Reading((), verdict, channel)
    if reply.tokens is None:
        return Reading(tuple(float(i == verdict.symbol) for i in range(len(own.symbols))), None, channel)
    return weigh_verdict(reply.tokens, reply.text, verdict, asked.labels, constrained=mode == "structured")


def _find(
    reply: Reply, criteria: Sequence[AskedCriterion], place: int, mode: Mode, asked: Asked
) -> Verdict | str:
    text, cut = reply.text, reply.finish == "length"
    if mode == "structured":
        if cut:
            return "truncated"
        return _in_object(text, place, asked)
    names = tuple(each.name for each in criteria)
    if cut:  # the last line may be the head of a longer one
        text = text[: text.rfind("\n") + 1]
    visible, unfinished = without_thoughts(text, any(map(has_thought_marks, asked.material)))
    if unfinished or speaks_for_others(visible):
        return "truncated" if cut else "none"
    lines = list(_lines(visible, names, asked.nonce if mode == "reason" else ""))
    if all(line.criterion != place for line in lines):
        return "truncated" if cut else "none"
    if mode == "direct" and len(visible.rstrip()) < len(text.rstrip()):
        return "none"  # the reply thinks on after what it says
    return find_verdict(_alone(visible, lines, place, mode), mode, asked)


def _in_object(text: str, place: int, asked: Asked) -> Verdict | str:
    visible, unfinished = text, False
    if text.lstrip()[:1] != "{":
        visible, unfinished = without_thoughts(text, any(map(has_thought_marks, asked.material)))
    if unfinished:
        return "malformed"
    shown = asked.material if asked.shown else ()
    result = read_field(visible, criterion_field(place + 1), asked.labels, shown)
    return result if isinstance(result, str) else Verdict(*result)


@lru_cache(maxsize=64)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A line that begins with a number, and with a name."""
    named = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    name = rf"[*_\"'`]*(?i:({named}))[*_\"'`]*{_ENDS}"
    return re.compile(rf"{_DECORATION}(?i:{_NUMBER}){_ENDS}(?:{name})?"), re.compile(rf"{_DECORATION}{name}")


def _lines(text: str, names: tuple[str, ...], nonce: str) -> Iterator[_Line]:
    """The lines of a reply, with the criterion that each begins with."""
    numbered, named = _patterns(names)
    known = [name.casefold() for name in names]
    start = 0
    for line in text.splitlines(keepends=True):
        at = line.casefold().find(nonce) + len(nonce) if nonce and nonce in line.casefold() else 0
        match = None if nonce and not at else numbered.match(line, at) or named.match(line, at)
        place, rest = -1, 0
        if match is not None:
            number = match[1] if match.re is numbered else None
            name = match[match.re.groups]
            place = known.index(name.casefold()) if number is None else int(number) - 1
            if name is not None and known.index(name.casefold()) != place:
                place = -1  # a number and a name that are not of one criterion
            rest = match.end()
        yield _Line(
            start,
            start + len(line),
            place if 0 <= place < len(names) else -1,
            start + rest if match else start,
        )
        start += len(line)


def _alone(text: str, lines: Sequence[_Line], place: int, mode: Mode) -> str:
    """The reply with the verdicts on one criterion alone, each at its place."""
    keyed = [number for number, line in enumerate(lines) if line.criterion >= 0]
    kept: list[str] = []
    mine = False
    for number, line in enumerate(lines):
        whole = text[line.start : line.end]
        if line.criterion >= 0:
            mine = line.criterion == place
        if line.criterion == place:
            before = text[line.start : line.rest]
            head = _spaced(before) if mode == "direct" else _without_number(before)
            kept.append(head + text[line.rest : line.end])
        elif line.criterion < 0 and number > keyed[0] and (mine or number > keyed[-1]):
            kept.append(whole)
        else:
            kept.append(_spaced(whole))
    return "".join(kept)


def _spaced(text: str) -> str:
    return re.sub(r"[^\r\n]", " ", text)


def _without_number(before: str) -> str:
    """The words before a verdict up to the nonce, and a colon for the number that followed it."""
    head = re.match(r".*[0-9a-f]{16}", before, re.IGNORECASE | re.DOTALL)
    kept = before if head is None else head[0]
    return kept if head is None else kept + ":" + " " * (len(before) - len(kept) - 1)


# ── writing ────────────────────────────────────────────────────────────────────────────────────────

Place = tuple[str, tuple[tuple[str, float], ...]]
"""A verdict as it is written, and the log-probabilities of what may stand in its place."""


def write_reply(request: Request, verdicts: Sequence[Place], reasoning: str) -> tuple[str, tuple[Token, ...]]:
    """The text and tokens of a reply to a request with several criteria: for backends without a chat model.

    `verdicts` are in the order of `request.criteria`. `read_criterion` reads them back.
    """
    heads, end = [f"{number}: " for number in range(1, len(verdicts) + 1)], ""
    joined = "\n"
    if request.mode == "reason":
        heads = [f"Verdict {request.nonce} {head}" for head in heads]
        heads[0] = f"{reasoning}\n\n{heads[0]}"
    if request.mode == "structured":
        heads = [f'"{criterion_field(number)}": "' for number in range(1, len(verdicts) + 1)]
        heads[0] = json.dumps({"reasoning": reasoning})[:-1] + f", {heads[0]}"
        joined, end = '", ', '"}'
    tokens: list[Token] = []
    for number, (head, (symbol, top)) in enumerate(zip(heads, verdicts, strict=True)):
        tokens += [Token(joined * bool(number) + head, ()), Token(symbol, top)]
    spelled = [*tokens, *([Token(end, ())] if end else [])]
    return "".join(token.text for token in spelled), tuple(spelled)
