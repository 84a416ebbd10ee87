"""Find a verdict on one line; the texts are folded (`judges.reply_marks`).

A verdict line is a symbol with decoration, after lead words ("**Final verdict:** A"), and with a reason
behind it at most ("A (shorter)", "A is better"). A heading, a quotation, a question and a negation are none.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from trustescalate.judges.reply_marks import MARKS, fold, has_thought_marks, is_struck
from trustescalate.judges.verdict_words import (
    ARTICLES,
    BECAUSE,
    BELIED,
    BELYING,
    HEDGED,
    LEAD,
    NAMES,
    NEGATIVE,
    PIECES,
    PLEASANT,
    RETRACTION,
)

LONGEST_LINE = 400
"""A longer line is prose."""

CJK = "\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
START = rf"(?<![^\W{CJK}])(?<![{MARKS}])"
BORDER = rf"(?![^\W_{CJK}]|[{MARKS}])"
"""What stands around a symbol in prose: no letter, but scripts without spaces."""
_EDGE = rf"(?:[^\w{MARKS}]|_)"
_EDGES = re.compile(rf"{_EDGE}*")
_FIRST_WORD = re.compile(r"\W*([a-zA-Z]+)(?=[\s.,:;!?'’])")
_EDGE_CHARACTER = re.compile(_EDGE)
_ASCII = re.compile("[a-z]*")
_LETTER = re.compile(rf"[^\W_]|[{MARKS}]")
_WORD = re.compile(rf"(?:[^\W\d_{CJK}]|[{MARKS}])+")
_DENIED = re.compile(r"[?؟¬≠❌❎✗✘✖🚫⛔👎❓⁉]|!=")
_NUMBERED = re.compile(r"\s*\d{1,2}[.)]\s+(?=\D)")
_OF = re.compile(
    r"[*_]*(?:\.0{1,3})?(?:\s*(?:/|out of|von|sur|de|из|of)\s*(\d{1,4})(?:\.0{1,3})?)?"
    r"\s*(?:points?|stars?|pts|分|点|점)?",
    re.IGNORECASE,
)
_INNER = r"[^()]*(?:\([^()]*\)[^()]*)*"
_REASON = re.compile(rf"[\s*_`\"'.,]*\(({_INNER})|[\s,.;*–—-]*\b(?:{BECAUSE})\b(.*)", re.IGNORECASE)
BETTER = (
    r"better|best|winner|preferred|preferable|superior|stronger|"
    r"bessere?|beste|meilleure?|mejor|migliore|melhor"
)
_WINS = re.compile(
    rf"[*_\"'”’)\]]*(?:\s+(?:wins|prevails)|\s+(?:is|was|seems|remains|ist|est|es|è|é)(?:\s+(?:the|clearly|clear|much|slightly|"
    rf"far|overall|definitely|die|la|el|le|il|o))*\s+(?:{BETTER}))"
    r"(?:\s+(?:answer|response|one|option|choice|overall|here|antwort|réponse|respuesta))*"
    rf"(?:\s+than\s+(?:{NAMES})?\s*\S+)?"
    rf"(?:[\s,]+(?:{BECAUSE})\b(.*))?",
    re.IGNORECASE,
)
_WINS_CJK = re.compile(
    r"[\s」』】）)\"'”’*_]*"
    r"(?:(?:です|だ|である|でした|となります|になります|입니다|이다|예요|이에요|"
    r"更好|更优|更佳|较好|較好|胜出|勝出|获胜|獲勝)"
    r"|(?:の方)?が(?:より)?(?:良い|よい|優れている|優れています|良いです)|"
    r"[가이] 더 (?:낫다|낫습니다|좋다|좋습니다))"
)
_NOT_THE_OTHER = re.compile(rf"[\s,]*(?:and\s+)?not\s+(?:the\s+)?(?:(?:{NAMES})\s+)?(.+)", re.IGNORECASE)


class Found(NamedTuple):
    """A verdict: the offset of its symbol, the symbol, and the words of its line."""

    offset: int
    symbol: int
    words: str = ""


class Labels(NamedTuple):
    """The symbols of a task, as the reader needs them."""

    symbols: tuple[str, ...]
    keys: tuple[str, ...]
    places: dict[str, int]
    lead: frozenset[str]
    first: frozenset[str]
    pieces: tuple[str, ...]
    begins: re.Pattern[str]
    mentions: re.Pattern[str]
    cue: re.Pattern[str]
    numbers: bool
    greatest: str


@lru_cache(maxsize=256)
def labels_of(symbols: tuple[str, ...]) -> Labels:
    """Prepare the symbols of a task."""
    keys = tuple(map(bare, symbols))
    index = {key: i for i, key in enumerate(keys) if keys.count(key) == 1}
    exact = spelled(symbols)
    one = rf"(?:(?:{NAMES})\s+)?(?:{exact})"
    loose = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    numbers = all(key.isdigit() for key in keys)
    return Labels(
        symbols,
        keys,
        index,
        LEAD.difference(keys),
        LEAD | ARTICLES | {_ASCII.match(key)[0] for key in keys},  # type: ignore[index]
        tuple(piece for piece in PIECES if piece not in keys),
        re.compile(rf"(?:{loose}){BORDER}", re.IGNORECASE),
        re.compile(rf"{START}(?:{exact}){BORDER}"),
        re.compile(
            rf"\(\s*{one}(?:\s*(?:,|/|\||,?\s*(?:or|oder|ou|o|或|或者|または)\b)\s*{one})+\s*\)",
            re.IGNORECASE,
        ),
        numbers,
        max(keys, key=int) if numbers else "",
    )


def spelled(symbols: tuple[str, ...]) -> str:
    """A pattern for the symbols in prose, the longest first."""
    return "|".join(_exact(symbol) for symbol in sorted(symbols, key=len, reverse=True))


def _exact(symbol: str) -> str:
    """A pattern for a symbol in prose: one letter with its case, words in any case."""
    pattern = re.escape(fold(symbol).text.strip())
    return pattern if len(symbol) == 1 else f"(?i:{pattern})"


def bare(text: str) -> str:
    """Without case and decoration; a text that is all decoration keeps it.

    >>> bare("**Ａ。**"), bare("-")
    ('a', '-')
    """
    folded = fold(text).text
    start, end = _core(folded)
    return (folded[start:end] or folded.strip()).casefold()


def _core(line: str) -> tuple[int, int]:
    """Where the words of a line start and end."""
    match = _EDGES.match(line)
    start = match.end() if match else 0
    end = len(line)
    while end > start and _EDGE_CHARACTER.match(line, end - 1):
        end -= 1
    return start, end


def is_content(line: str) -> bool:
    """Whether a line says anything, and is not all decoration.

    >>> is_content("**---**"), is_content("??")
    (False, True)
    """
    return _LETTER.search(line) is not None or _DENIED.search(line) is not None


def is_pleasantry(line: str, labels: Labels) -> bool:
    """Whether a line is a wish, thanks or an end mark, and speaks of no symbol."""
    if len(line) > LONGEST_LINE:
        return False
    start, end = _core(line)
    words = line[start:end]
    if not PLEASANT.fullmatch(words.casefold()):
        parts = [part for part in re.split(r"[.!]\s+", words) if part]
        if len(parts) < 2 or not all(PLEASANT.fullmatch(part.casefold().strip()) for part in parts):
            return False
    return labels.mentions.search(words) is None and not (RETRACTION.search(words) or _SPOILED.search(words))


# ── one line ───────────────────────────────────────────────────────────────────────────────────────


def read_line(line: str, labels: Labels, *, lead: bool = True) -> Found | None:  # noqa: PLR0911
    """The verdict on a line; without `lead`, only a symbol with decoration.

    >>> labels = labels_of(("A", "B"))
    >>> [found and found.symbol for found in map(lambda line: read_line(line, labels), ("B.", "not B", "A:"))]
    [1, None, None]
    """
    if len(line) > LONGEST_LINE or line.lstrip()[:1] == ">" or is_struck(line):
        return None
    word = _FIRST_WORD.match(line)
    if word is not None and word[1].casefold() not in labels.first and not labels.begins.match(word[1]):
        return None
    numbered = None if labels.numbers or not lead else _NUMBERED.match(line)
    first = numbered.end() if numbered else 0
    start, end = _core(line[first:])
    at, end = first + start, first + end
    after = line[end:]
    if at >= end:
        core = line.strip()
        symbol = labels.places.get(core.casefold()) if core else None
        return None if symbol is None else Found(line.find(core), symbol, core)
    if not _may_follow(line[first:at], after):
        return None
    edge = line[first:at]
    while at < end:
        if edge[-1:] in ("!", "/", "\\") or _DENIED.search(edge):
            return None
        core = line[at:end]
        symbol = labels.places.get(core.casefold())
        if symbol is not None and not (core[0].isdigit() and _is_part(edge, after)):
            return Found(at, symbol, line.strip())
        if symbol is None and lead:
            symbol = _with_more(core, labels)
            if symbol is not None and not (core[0].isdigit() and _is_part(edge, after)):
                return Found(at, symbol, line.strip())
        step = _lead(line, at, end, labels) if lead else 0
        if not step:
            return None
        match = _EDGES.match(line, at + step, end)
        after_word = match.end() if match else at + step
        edge, at = line[at + step : after_word], after_word
    return None


def _may_follow(before: str, after: str) -> bool:
    """Whether what stands behind a symbol leaves it a verdict: no heading, question, "A-", "A/"."""
    if ":" in after and ":)" not in after:
        return False
    if after[:1] in ("+", "-", "#", "/") and not before.endswith(after[0]) and after[:2].strip() == after[0]:
        return False
    return _DENIED.search(after) is None


def _is_part(edge: str, after: str) -> bool:
    """Whether digits are part of another number: "-1", ".5", "5%"."""
    bracketed = edge[-1:] == "<" and after[:1] == ">"
    signed = edge[-1:] in ("-", "+", ".", ",", "±", "<", "≤", "≥", "£", "€", "−") and edge[-2:] not in ("--",)
    about = edge.rstrip()[-1:] in ("~", "≈", "∼", "<", ">", "±") and not bracketed
    return (
        (signed and not bracketed)
        or about
        or after.lstrip()[:1] in ("%", "°", "‰")
        or re.match(r"[.,]\d", after) is not None
    )


def _lead(line: str, at: int, end: int, labels: Labels) -> int:
    """The length of the lead word at a place, or 0."""
    match = _WORD.match(line, at, end)
    if match is not None:
        word = match[0].casefold()
        if word in labels.lead:
            return len(match[0])
        rest = line[match.end() : end].lstrip()
        if word in ARTICLES and match[0].islower() and len(rest) > 1 and labels.begins.match(rest):
            return len(match[0])
        if word in ARTICLES and match[0].islower() and rest[:1].isdigit():
            return len(match[0])
        return 0
    return next((len(piece) for piece in labels.pieces if line.startswith(piece, at)), 0)


def _with_more(core: str, labels: Labels) -> int | None:  # noqa: PLR0911
    """The symbol at the start of a line that goes on with a reason, "is better", or "out of 5"."""
    match = labels.begins.match(core)
    symbol = None if match is None else labels.places.get(match[0].casefold())
    if match is None or symbol is None:
        return None
    rest = core[match.end() :]
    if labels.numbers:
        scale = _OF.fullmatch(rest)
        return symbol if scale is not None and scale[1] in (None, labels.greatest) else None
    reason = _REASON.fullmatch(rest)
    if reason is not None:
        why = reason[1] if reason[1] is not None else reason[2]
        bad = match[0].casefold() in NEGATIVE
        joined = ("or ", "and ", "but ") if bad else ("not", "or ", "no ", "no,", "and ", "but ")
        doubted = (
            why.casefold().lstrip().startswith(joined)
            or HEDGED.match(why)
            or (not bad and (BELYING.search(why) or (reason[1] is not None and BELIED.match(why))))
        )
        return None if doubted or _speaks_for_another(why, symbol, labels) else symbol
    if len(match[0]) == 1 and match[0] != labels.symbols[symbol]:
        return None
    wins = _WINS.fullmatch(rest)
    if wins is not None:
        return None if wins[1] and _speaks_for_another(wins[1], symbol, labels) else symbol
    if _WINS_CJK.fullmatch(rest):
        return symbol
    other = _NOT_THE_OTHER.fullmatch(rest)
    return symbol if other is not None and labels.places.get(other[1].casefold(), symbol) != symbol else None


_LOSES = re.compile(
    r"\s+(?:(?:is|was)\s+(?:wrong|worse|incorrect|inferior|false)|misses|lacks|fails|ignores|loses)\b",
    re.IGNORECASE,
)
_SPOILED = re.compile(r"\bforced\b|\bnot my\b|\bfor nothing\b|\bright (?:verdict|answer)\b", re.IGNORECASE)
"""Words in a wish that take back the verdict before it."""


def _speaks_for_another(reason: str, symbol: int, labels: Labels) -> bool:
    """Whether a reason on the line takes the verdict back, or names another symbol but to compare with it."""
    if RETRACTION.search(reason):
        return True
    return any(
        labels.places.get(match[0].casefold()) != symbol
        and not re.search(
            rf"\b(?:than|not|over|unlike|beats?|to|versus|vs|as)\.?\s+(?:the\s+)?(?:(?:{NAMES})\s+)?\W*$",
            reason[: match.start()],
            re.IGNORECASE,
        )
        and not _LOSES.match(reason, match.end())
        for match in labels.mentions.finditer(reason)
    )


def only_leads(text: str, labels: Labels) -> bool:
    """Whether a text holds lead words and decoration, and nothing else.

    >>> labels = labels_of(("A", "B"))
    >>> only_leads("**My final verdict ", labels), only_leads("I wrote ", labels)
    (True, False)
    """
    if len(text) > LONGEST_LINE:
        return False
    at, end = _core(text)
    while at < end:
        step = _lead(text, at, end, labels)
        if not step:
            return False
        match = _EDGES.match(text, at + step, end)
        at = match.end() if match else at + step
    return True


def is_plain(symbol: str) -> bool:
    """Whether a symbol is a short line of plain words or digits that means nothing else in a reply."""
    folded = fold(symbol).text
    return (
        0 < len(symbol) <= LONGEST_LINE // 5
        and folded == unicodedata.normalize("NFC", symbol)
        and folded.casefold() == bare(symbol)
        and len(folded.splitlines()) == 1
        and folded.casefold() not in LEAD
        and folded not in PIECES
        and not PLEASANT.fullmatch(folded.casefold())
        and not RETRACTION.search(folded)
        and "(" not in folded
        and not has_thought_marks(folded)
    )


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded."""
    return [word.casefold() for word in _WORD.findall(text)]


def begun(text: str, keys: Sequence[str]) -> int | None:
    """The one symbol of which this is the head, and not the whole."""
    head = [i for i, key in enumerate(keys) if text and key.startswith(text)]
    return head[0] if len(head) == 1 and keys[head[0]] != text else None
