"""Read the verdict on one of several criteria from a reply, and write such a reply.

A verdict stands on a line of its own that begins with the number or the name of its criterion (in the mode
"reason" after the nonce), or in a field of the one JSON object. Each is read by the rules of a reply with one
verdict: the lines of the other criteria are left out, what comes before the first verdict too, and what
follows the last one must take none back. So a bad verdict fails its own criterion and no other.

Where one of the texts to be judged holds verdicts in this form on all criteria that a reply names, whichever
verdicts, the reply may be its copy: without words of the judge's own it is an echo.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from trustescalate.judges.conclusions import Asked, Verdict, find_verdict, holds_a_verdict
from trustescalate.judges.prompts import criterion_field
from trustescalate.judges.reply_marks import fold, has_thought_marks, speaks_for_others, without_thoughts
from trustescalate.judges.reply_parsing import Reading, weigh_verdict
from trustescalate.judges.structured_replies import read_field
from trustescalate.judges.verdict_lines import LONGEST_LINE, is_content, labels_of, read_line
from trustescalate.records import Channel, Mode, Reply, Request, Token
from trustescalate.records.criteria import AskedCriterion

_NUMBER = r"(?:criterion[ \t]+)?[\[(［（【]?(\d{1,2})[\])］）】]?"
_ENDS = r"[*_]*[ \t]*(?:[:=)\]：＝）］】]|[.．](?=\s|[*_]))[*_]*[ \t]*"
_FIELD = re.compile(r"\bcriterion[ _](\d{1,2})\s{0,9}\\{0,9}[\"']?\s{0,9}:", re.IGNORECASE)
"""A field of an object, quoted or escaped in whichever way."""
_QUOTED = re.compile(r"^[ \t>|\"']+", re.MULTILINE)
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
    stated = bool(material) and any(_stated(material, criteria, mode))
    asked = Asked(labels_of(own.symbols), nonce, material, stated)
    verdict = _find(reply, criteria, place, mode, asked)
    if isinstance(verdict, str):
        return Reading((), verdict, channel)
    if reply.tokens is None:
        return Reading(tuple(float(i == verdict.symbol) for i in range(len(own.symbols))), None, channel)
    return weigh_verdict(reply.tokens, reply.text, verdict, asked.labels, constrained=mode == "structured")


def _find(  # noqa: PLR0911
    reply: Reply, criteria: Sequence[AskedCriterion], place: int, mode: Mode, asked: Asked
) -> Verdict | str:
    text, cut = reply.text, reply.finish == "length"
    if mode == "structured":
        if cut:
            return "truncated"
        return _in_object(text, criteria, place, asked)
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
    if mode == "direct" and _may_be_copied({line.criterion for line in lines} - {-1}, criteria, asked, mode):
        return "echo"
    return find_verdict(_alone(visible, lines, place, mode), mode, asked)


def _in_object(text: str, criteria: Sequence[AskedCriterion], place: int, asked: Asked) -> Verdict | str:
    visible, unfinished = text, False
    if text.lstrip()[:1] != "{":
        visible, unfinished = without_thoughts(text, any(map(has_thought_marks, asked.material)))
    if unfinished:
        return "malformed"
    fields = [criterion_field(number) for number in range(1, len(criteria) + 1)]
    result = read_field(visible, fields, place, asked.labels, asked.material if asked.shown else ())
    if isinstance(result, str):
        return result
    if not result.reasoned and _may_be_copied(set(result.places), criteria, asked, "structured"):
        return "echo"
    return Verdict(result.offset, result.symbol)


# ── texts that were to be judged ───────────────────────────────────────────────────────────────────


def criteria_in(material: tuple[str, ...], criteria: tuple[AskedCriterion, ...]) -> bool:
    """Whether a text that a judge is shown states a verdict on a criterion, in any form, whichever.

    >>> asked = tuple(AskedCriterion(name, "?", ("yes", "no"), ("yes", "no")) for name in ("clear", "right"))
    >>> [criteria_in((text,), asked) for text in ("2: no", '{"criterion_1": "yes"}', "Verdict: no", "No. 2")]
    [True, True, True, False]
    """
    modes: tuple[Mode, ...] = ("direct", "structured")
    return any(holds_a_verdict(material, each.symbols) for each in criteria) or any(
        any(_stated(material, criteria, mode)) for mode in modes
    )


@lru_cache(maxsize=64)
def _stated(
    material: tuple[str, ...], criteria: tuple[AskedCriterion, ...], mode: Mode
) -> tuple[frozenset[int], ...]:
    """The places of the criteria on which each text states a verdict, as a reply in this mode would."""
    if mode == "structured":
        numbered = [[int(number) - 1 for number in _FIELD.findall(text)] for text in material]
        return tuple(frozenset(places).intersection(range(len(criteria))) for places in numbered)
    names = tuple(each.name for each in criteria)
    labels = [labels_of(each.symbols) for each in criteria]
    return tuple(
        frozenset(
            line.criterion
            for line in _lines(text, names, "")
            if line.criterion >= 0
            and read_line(fold(text[line.rest : line.end].strip()).text, labels[line.criterion])
        )
        for text in (_QUOTED.sub("", each) for each in material)
    )


def _may_be_copied(places: set[int], criteria: Sequence[AskedCriterion], asked: Asked, mode: Mode) -> bool:
    """Whether a text states a verdict on all criteria that a reply names; on one alone it is a label."""
    return len(criteria) > 1 and any(
        places <= each for each in _stated(asked.material, tuple(criteria), mode)
    )


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=64)
def _patterns(names: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A line that begins with a number, and with a name."""
    named = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    name = rf"[*_\"'`]*(?i:({named}))[*_\"'`]*{_ENDS}"
    return re.compile(rf"{_DECORATION}(?i:{_NUMBER}){_ENDS}(?:{name})?"), re.compile(rf"{_DECORATION}{name}")


def _lines(text: str, names: tuple[str, ...], nonce: str) -> list[_Line]:
    """The lines of a reply, with the criterion that each begins with; one that says no more goes on."""
    lines: list[_Line] = []
    waiting = -1  # the line of a criterion without a verdict
    for line in _keyed(text, names, nonce):
        if line.criterion >= 0:
            waiting = -1 if is_content(text[line.rest : line.end]) else len(lines)
        elif waiting >= 0 and is_content(text[line.start : line.end]):
            lines[waiting:] = [lines[waiting]._replace(end=line.end)]
            waiting = -1
            continue
        lines.append(line)
    return lines


def _keyed(text: str, names: tuple[str, ...], nonce: str) -> Iterator[_Line]:
    numbered, named = _patterns(names)
    start = 0
    for line in text.splitlines(keepends=True):
        code = re.search(re.escape(nonce), line, re.IGNORECASE) if nonce else None
        at = 0 if code is None else code.end()
        end = at + LONGEST_LINE
        match = None if nonce and not at else numbered.match(line, at, end) or named.match(line, at, end)
        place, rest = -1, 0
        if match is not None:
            number = match[1] if match.re is numbered else None
            name = match[match.re.groups]
            place = _place(name, names) if number is None else int(number) - 1
            if name is not None and _place(name, names) != place:
                place = -1  # a number and a name that are not of one criterion
            rest = match.end()
        yield _Line(
            start,
            start + len(line),
            place if 0 <= place < len(names) else -1,
            start + rest if match else start,
        )
        start += len(line)


def _place(name: str, names: Sequence[str]) -> int:
    """The place of the criterion that a reply names, in whichever case; -1: it may be either of two."""
    if name in names:
        return names.index(name)
    same = [i for i, each in enumerate(names) if re.fullmatch(re.escape(each), name, re.IGNORECASE)]
    return same[0] if len(same) == 1 else -1


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
