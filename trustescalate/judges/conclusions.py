"""Find the verdict that a reply concludes, in each mode; one rule for all of them.

The verdict stands on the last line that says anything; after it come wishes and end marks only. In the mode
"direct" an explanation may follow a verdict on the first line. In the modes "reason" and "stated" the line
begins with the nonce of its message. A structured reply is one JSON object. What is said before or after the
verdict must not conclude another one.

Where a shown text holds a verdict itself (`Asked.shown`), a reply may repeat it: then a direct reply counts
only if it is one line, and a reasoning only if it is the judge's own. That never depends on the verdict.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from trustescalate.judges.reply_marks import (
    fold,
    has_thought_marks,
    speaks_for_others,
    without_marks,
    without_thoughts,
)
from trustescalate.judges.structured_replies import KEY, VERDICT_KEYS, only_object, read_object
from trustescalate.judges.verdict_lines import (
    LONGEST_LINE,
    Found,
    Labels,
    begun,
    is_content,
    is_pleasantry,
    only_leads,
    read_line,
    words_of,
)
from trustescalate.judges.verdict_reasons import concludes_another, contradicts, own_lines
from trustescalate.judges.verdict_words import CONCLUDING, DISOWNED, LEAD, REASONS, REFUSED
from trustescalate.records import Mode

_SAYING = frozenset(
    {
        "say",
        "says",
        "said",
        "writes",
        "wrote",
        "claims",
        "states",
        "reads",
        "ends",
        "contains",
        "text",
        "quote",
    }
    | {
        "quotes",
        "instructs",
        "instruction",
        "instructions",
        "prompt",
        "tells",
        "asks",
        "wants",
        "not",
        "if",
        "other",
    }
)
_EXPLAINED = re.compile(rf"[\s*_#>\-(]*(?:{REASONS})\b", re.IGNORECASE)
_NUMBER = r"(\d{1,3}(?:[.,]\d{1,6})?)"
_SURE = (
    r"confidence|confident|probability|prob|certainty|certain|likelihood|sure|sicherheit|confianza|confiance|"
    r"уверенность|置信度|確信度|信心"
)
_CONFIDENCE = re.compile(
    r"([\W_]*[^\W_].*?)(?:[\s,;:(\[=*_`~≈\-–—]|\b(?:with|with an?|of|about|around|approximately|approx|"
    rf"roughly|circa|my|is|at|and|the|{_SURE})\b)*(?<![\d./])(?<!\d,){_NUMBER}\s*"
    r"(?:(%|percent\b|per cent\b|pct\b|prozent\b|por ciento\b|pour cent\b)|"
    r"(?:/|out of)\s*(1|5|10|100)(?![\d.,%]))?"
    rf"(?:\s*(?:likely|{_SURE}|that (?:careful )?(?:human )?annotators .{{0,40}}))?"
    r"[\s.)\]*_`\"'!]*(?:\([^()]*\)[\s.]*)?",
    re.IGNORECASE,
)

_CONTRARY = re.compile(r"[<>±≤≥~≈]?[-−<>±≤≥]\d|\((?:[^()]*\b)?(?:not|wrong|against|false)\b", re.IGNORECASE)
"""A bound or a sign at the number, or a remark that turns it round."""


class Verdict(NamedTuple):
    """A verdict in a reply: the offset of its symbol, the symbol, and the stated confidence (0: none)."""

    offset: int
    symbol: int
    confidence: float | None = None


class Asked(NamedTuple):
    """What a reader knows of a request: its symbols, its nonce, and the texts that were to be judged.

    `stated` is whether one of these texts holds a verdict in a form that only some requests ask for.
    """

    labels: Labels
    nonce: str
    material: tuple[str, ...]
    stated: bool = False

    @property
    def shown(self) -> bool:
        """Whether a shown text holds a verdict, whichever."""
        return self.stated or holds_a_verdict(self.material, self.labels.symbols)

    @property
    def marked(self) -> bool:
        """Whether a shown text holds marks of hidden reasoning."""
        return _holds_marks(self.material)


class Line(NamedTuple):
    """A line that says something, and where it starts in the folded text."""

    text: str
    start: int


def find_verdict(text: str, mode: Mode, asked: Asked) -> Verdict | str:
    """The verdict that a whole reply concludes, or a code of `FAILURES`."""
    if mode == "direct" and text.strip() in asked.labels.symbols:
        symbol = asked.labels.symbols.index(text.strip())
        return Verdict(len(text) - len(text.lstrip()), symbol)
    if mode == "structured" or (mode == "direct" and text.lstrip()[:1] in ("{", "`")):
        result = _structured(text, asked)
        if mode == "structured" or not isinstance(result, str) or result == "conflict":
            return result
    visible, unfinished = without_thoughts(text, asked.marked if _may_be_marked(text) else False)
    if mode == "direct" and visible.strip() and len(visible.rstrip()) < len(text.rstrip()):
        return "none"  # the reply thinks on after what it says
    if speaks_for_others(visible):
        return "none"
    if unfinished or (visible.strip()[:1] == "{" and visible.strip()[-1:] != "}"):
        return "none"
    folded = fold(without_marks(visible, LEAD, asked.labels.keys))
    shown = _without_cues(folded.text, asked.labels)
    lines = [line for line in _lines(shown) if is_content(line.text)]
    result = _READERS[mode](lines, asked)
    return result if isinstance(result, str) else result._replace(offset=folded.place(result.offset))


def _structured(text: str, asked: Asked) -> Verdict | str:
    """A reply that begins with its object may quote marks of hidden reasoning in it."""
    visible, unfinished = text, False
    if text.lstrip()[:1] != "{":
        visible, unfinished = without_thoughts(text, asked.marked if _may_be_marked(text) else False)
    if unfinished:
        return "malformed"
    result = read_object(visible, asked.labels, asked.material if asked.shown else ())
    return result if isinstance(result, str) else Verdict(*result)


def cut_verdict(text: str, asked: Asked) -> Verdict | None:
    """The verdict of a reply that was cut: a symbol that is all there is, or the head of one."""
    visible, unfinished = without_thoughts(text, asked.marked if _may_be_marked(text) else False)
    if unfinished:
        return None
    folded = fold(without_marks(visible, frozenset(), asked.labels.keys))
    lines = [line for line in _lines(folded.text) if is_content(line.text)]
    if len(lines) != 1:
        return None
    line = lines[0]
    result = read_line(line.text, asked.labels, lead=False)
    if result is not None:
        if not _is_only_closed(line.text, result, asked.labels):
            return None
        longer = [key for key in asked.labels.keys if key.startswith(asked.labels.keys[result.symbol])]
        return Verdict(folded.place(line.start + result.offset), result.symbol) if len(longer) == 1 else None
    if "<" in line.text:
        return None
    head = begun(line.text.strip(" \t*_`\"'([{").casefold(), asked.labels.keys)
    start = len(line.text) - len(line.text.lstrip(" \t*_`\"'([{"))
    return None if head is None else Verdict(folded.place(line.start + start), head)


def _is_only_closed(line: str, result: Found, labels: Labels) -> bool:
    """Whether a cut line has closing marks after its symbol at most, and after a number nothing."""
    key = labels.keys[result.symbol]
    rest = line[result.offset + len(key) :]
    if labels.numbers:
        return not rest.strip()
    return "~~" not in line and not rest.strip(" \t*_`\"'”’»)]}】」』》.!。")


def is_verdict_alone(text: str, asked: Asked) -> bool:
    """Whether a reply is one verdict line, or an object with a verdict alone, but for hidden reasoning."""
    visible, unfinished = without_thoughts(text, shown_marks=True)
    members = only_object(visible, asked.labels)[0] if "{" in visible else ""
    if unfinished or isinstance(members, list):
        return not unfinished and len(members) == 1
    folded = fold(without_marks(visible, LEAD, asked.labels.keys)).text
    lines = [line for line in _lines(_without_cues(folded, asked.labels)) if is_content(line.text)]
    return len(lines) == 1 and read_line(lines[0].text, asked.labels) is not None


def _may_be_marked(text: str) -> bool:
    return len(text) > 2 and has_thought_marks(text)


def _lines(text: str) -> Iterator[Line]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield Line(line.rstrip("\r\n"), start)
        start += len(line)


def _without_cues(text: str, labels: Labels) -> str:
    """A repeated "(A or B)" is the prompt's own and is blanked out."""
    return labels.cue.sub(lambda match: " " * len(match[0]), text) if "(" in text else text


# ── texts that were to be judged ───────────────────────────────────────────────────────────────────


@lru_cache(maxsize=64)
def _holds_marks(material: tuple[str, ...]) -> bool:
    return any(map(has_thought_marks, material))


@lru_cache(maxsize=64)
def holds_a_verdict(material: tuple[str, ...], symbols: tuple[str, ...]) -> bool:
    """Whether one of the texts that a judge is shown states a verdict, whichever label it names.

    >>> holds_a_verdict(("Fine.\\nVerdict: B",), ("A", "B")), holds_a_verdict(("Vitamin B",), ("A", "B"))
    (True, False)
    """
    from trustescalate.judges.verdict_lines import labels_of

    labels = labels_of(symbols)
    for text in material:
        folded = fold(without_marks(text, LEAD, labels.keys)).text
        for line in _lines(folded):
            if len(line.text) <= LONGEST_LINE and (
                read_line(line.text, labels) or read_line(line.text.strip(" >\t\"'|"), labels)
            ):
                return True
        if '"' in text and any(match[1].casefold() in VERDICT_KEYS for match in KEY.finditer(text)):
            return True
    return False


# ── modes ──────────────────────────────────────────────────────────────────────────────────────────


def _direct(lines: Sequence[Line], asked: Asked) -> Verdict | str:  # noqa: PLR0911
    labels = asked.labels
    if not lines:
        return "none"
    result = [read_line(line.text, labels) for line in lines]
    read = [(i, verdict) for i, verdict in enumerate(result) if verdict is not None]
    if not read:
        return "none"
    at, last = read[-1]
    if len({verdict.symbol for _, verdict in read}) > 1:
        return "multiple"
    rest = [line for line in lines[at + 1 :] if not is_pleasantry(line.text, labels)]
    if rest:
        text = "\n".join(line.text for line in rest)
        if contradicts(text, last.symbol, labels):
            return "conflict"
        if at or not _EXPLAINED.match(rest[0].text):
            return "none"
    if at and _is_introduced_as_foreign(lines[at - 1].text, result[at - 1], labels):
        return "none"
    alone = read_line(lines[at].text, labels, lead=False) is not None
    if at and result[at - 1] is None and _is_disowned(lines[at - 1].text, alone):
        return "none"
    if (at or rest) and asked.shown:
        return "echo"
    if at and concludes_another("\n".join(line.text for line in lines[:at]), last.symbol, labels):
        return "conflict"
    first, verdict = read[0]
    return Verdict(lines[first].start + verdict.offset, verdict.symbol)


def _is_introduced_as_foreign(line: str, verdict: Found | None, labels: Labels) -> bool:
    """Whether the line before a verdict says that someone else speaks: a heading of no verdict."""
    if verdict is not None:
        return False
    bare = line.rstrip(" \t*_`#")
    if bare[-1:] in ('"', "“", "«", "「", "『", "„") and bare.count(bare[-1]) % 2:
        return True
    words = words_of(bare)
    if not _SAYING.isdisjoint(words[-8:]) and bare.endswith((":", ",")):
        return True
    return (
        bare.endswith(":")
        and not only_leads(bare, labels)
        and CONCLUDING.union({"answer", "choice"}).isdisjoint(words)
    )


def _is_disowned(line: str, alone: bool) -> bool:
    """Whether the line before a verdict declines to judge, or makes of it a loser, a draft, a quotation.

    A line that ends as a sentence introduces nothing. If the verdict is not `alone` on its line, only a line
    that ends with a colon or a negation goes on in it.
    """
    bare = line.strip(" \t*_`#")
    if REFUSED.search(bare):
        return True
    if bare.endswith(":"):
        return DISOWNED.search(bare) is not None or not _SAYING.isdisjoint(words_of(bare)[-8:])
    last = " ".join(bare.split()[-3:])
    if not alone:
        return re.search(r"(?:\bnot|n['’]t|\bneither|\bnever)$", last, re.IGNORECASE) is not None
    if bare.endswith("?"):
        return DISOWNED.search(bare) is not None
    if bare.endswith((".", "!", "。", "！", "।", ")")) or re.match(r"\s*(?:[-*•]\s|\d+[.)]\s)", line):
        return False
    return DISOWNED.search(bare if len(bare.split()) <= 12 else last) is not None


def _reasoned(lines: Sequence[Line], asked: Asked) -> Verdict | str:
    return _on_the_line(lines, asked, _plain)


def _stated(lines: Sequence[Line], asked: Asked) -> Verdict | str:
    verdict = _on_the_line(lines, asked, _with_confidence)
    return "no_confidence" if isinstance(verdict, Verdict) and not verdict.confidence else verdict


def _on_the_line(
    lines: Sequence[Line], asked: Asked, read: Callable[[Line, Labels], Verdict | None]
) -> Verdict | str:
    """The verdict on the last lines that hold the nonce after a few leading words; all of them must agree."""
    labels, nonce = asked.labels, asked.nonce
    read_at: list[tuple[int, Verdict]] = []
    repeated, skipped = False, -1
    for i, line in enumerate(lines if nonce else ()):
        at = line.text.casefold().find(nonce)
        if (
            not (0 <= at <= LONGEST_LINE and only_leads(line.text[:at], labels))
            or line.text.lstrip()[0] == ">"
        ):
            continue
        rest = Line(line.text[at + len(nonce) :], line.start + at + len(nonce))
        after = lines[i + 1] if i + 1 < len(lines) else None
        if (
            after is not None
            and nonce not in after.text.casefold()
            and _continues(rest.text, after.text, labels, read)
        ):
            skipped = i + 1
            joined = " " * (after.start - rest.start - len(rest.text)) + after.text
            rest = Line(rest.text + joined, rest.start)
        verdict = read(rest, labels)
        if verdict is not None:
            read_at.append((max(i, skipped), verdict))
        else:
            repeated |= _is_cue(rest.text, labels)
    if not read_at:
        return "echo" if repeated else "none"
    if len({(verdict.symbol, verdict.confidence) for _, verdict in read_at}) > 1:
        return "multiple"
    at, last = read_at[-1]
    rest_lines = [line.text for line in lines[at + 1 :] if not is_pleasantry(line.text, labels)]
    if rest_lines:
        return "conflict" if contradicts("\n".join(rest_lines), last.symbol, labels) else "none"
    before = [line.text for line in lines[: read_at[0][0]]]
    if before and _is_disowned(before[-1], alone=False):
        return "none"
    if before and _is_contradicted(before, last.symbol, asked):
        return "conflict"
    return last


def _is_contradicted(before: Sequence[str], symbol: int, asked: Asked) -> bool:
    """Whether the judge's own lines before a verdict conclude another one."""
    labels = asked.labels
    own = own_lines(before, asked.material, labels) if asked.shown else before
    read = [read_line(line, labels) for line in own]
    return any(
        result is not None
        and result.symbol != symbol
        and (line is before[-1] or "[[" in result.words or not CONCLUDING.isdisjoint(words_of(result.words)))
        for line, result in zip(own, read, strict=True)
    ) or concludes_another("\n".join(own), symbol, labels)


def _continues(rest: str, after: str, labels: Labels, read: Callable[[Line, Labels], Verdict | None]) -> bool:
    """Whether the line after a verdict line belongs to it: the symbol, or the confidence."""
    if not is_content(rest):
        return read_line(after, labels, lead=False) is not None or (
            read is _with_confidence and _with_confidence(Line(after, 0), labels) is not None
        )
    words = words_of(after)
    return (
        read is _with_confidence
        and bool(words)
        and words[0] in ("confidence", "probability", "certainty", "likelihood")
        and _plain(Line(rest, 0), labels) is not None
    )


def _plain(rest: Line, labels: Labels) -> Verdict | None:
    result = read_line(rest.text, labels)
    return None if result is None else Verdict(rest.start + result.offset, result.symbol)


def _with_confidence(rest: Line, labels: Labels) -> Verdict | None:
    """ "A, 85 %", "A, 0.85", "A (8/10)": what could be a share or per cent is neither."""
    match = _CONFIDENCE.fullmatch(rest.text[:LONGEST_LINE])
    named = None if match is None else _plain(Line(match[1], rest.start), labels)
    if match is None or named is None:
        bare = _plain(Line(re.split(r"[,;(]", rest.text)[0], rest.start), labels)
        return None if bare is None else bare._replace(confidence=0.0)
    if _CONTRARY.search(rest.text, match.start(2) - 1) or labels.mentions.search(rest.text, match.end(2)):
        return named._replace(confidence=0.0)
    return named._replace(confidence=_share(match[2].replace(",", "."), match[3], match[4]))


def _share(number: str, per_cent: str | None, out_of: str | None) -> float:
    """The confidence as a share of 1, or 0 where it is not known: "0.8 %" may be a share, "1" per cent."""
    value = float(number)
    if out_of is not None:
        share = value / float(out_of)
    elif per_cent is not None:
        share = value / 100 if value >= 1 else 0.0
    elif value <= 1:
        share = value if "." in number else 0.0
    else:
        share = value / 100 if value >= 10 or "." not in number else 0.0
    return share if 0 < share <= 1 else 0.0


def _is_cue(rest: str, labels: Labels) -> bool:
    """Whether the text after the nonce only repeats the prompt: nothing, or all symbols at once."""
    left = labels.mentions.sub(" ", rest)
    return not is_content(re.sub(r"\b(?:or|and|one|of)\b", " ", left))


_READERS: Mapping[Mode, Callable[[Sequence[Line], Asked], Verdict | str]] = {
    "direct": _direct,
    "reason": _reasoned,
    "stated": _stated,
}
