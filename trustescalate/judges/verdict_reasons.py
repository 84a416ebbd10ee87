"""Find what the sentences around a verdict conclude, so that it contradicts none of them.

Every rule holds for all labels alike, and none of them looks at the verdict to find what a sentence says.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from trustescalate.judges.reply_marks import fold
from trustescalate.judges.verdict_lines import (
    BETTER,
    BORDER,
    LONGEST_LINE,
    START,
    Labels,
    labels_of,
    read_line,
    spelled,
    words_of,
)
from trustescalate.judges.verdict_words import DOUBT, NAMES, REASONS, RETRACTION

_SKIPPED = r"(?:\w+ly |the |a |much |far |still |therefore |overall |also |then |thus |hence )*+"
_NAME = rf"(?:(?:the|an?)\s+)?(?:(?:{NAMES})\s+)?[\"'“‘*_(\[]*"
_END = r"[\"'”’*_)\]]*\s*(?:$|[.!,;])"
_IS = rf"[\"'”’*_)\]]*\s+{_SKIPPED}(?:is|was|seems|remains|ist|est)\s+{_SKIPPED}"
_CRITERION = re.compile(
    r"[\s\-*•_\d.)]*+(?:accuracy|clarity|style|tone|helpfulness|correctness|completeness|relevance|concis\w+|"
    r"depth|details?|safety|format\w*|grammar|creativity|harmlessness|fluency|coherence|length|structure|"
    r"honesty|facts?|factuality|language)[*_]*+\s*:",
    re.IGNORECASE,
)
_UNDECIDED = re.compile(
    r"\b(?:cannot|can['’]?t|unable to) (?:decide|judge|tell|choose)\b|"
    r"\b(?:was|am|been) (?:told|asked|ordered) to\b|\bi refuse\b|"
    rf"\bthe other (?:one|{NAMES}) (?:is|was|seems) {_SKIPPED}(?:{BETTER}|right|correct|accurate)\b",
    re.IGNORECASE,
)
_OPENED = re.compile(rf"[\s*_#>\-(]*(?:{REASONS})\b[\s*_:)\-–—]*", re.IGNORECASE)
_PRAISED = re.compile(
    r"\s+(?:is|was|seems)\s+(?:\w+\s+){0,2}?(?:more|clearer|\w{3,}er)\b|\s*更(?!差|糟)|"
    r"\s+(?:лучше|أفضل|est plus)\b|の方が",
    re.IGNORECASE,
)
_LOST = re.compile(
    r"(?:because |but )?(?:it|this) (?:fails|loses|(?:is|was) (?:worse|wrong|incorrect))[.!]?", re.IGNORECASE
)
_POLAR = ({"pass", "correct", "通过"}, {"fail", "incorrect", "不通过"})
_WRONG = re.compile(
    rf"(?:but |so )?(?:it|(?:the|this) (?:{NAMES})) (?:is|was) {_SKIPPED}(?:wrong|incorrect|false)[.!]?",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    rf"(?:but |so )?(?:it|(?:the|this) (?:{NAMES})) (?:is|was) {_SKIPPED}(?:right|correct|true)[.!]?",
    re.IGNORECASE,
)


class _Patterns(NamedTuple):
    """Patterns with a symbol as group `k`: sentences that speak for it, and against it."""

    chosen: tuple[re.Pattern[str], ...]
    denied: tuple[re.Pattern[str], ...]


@lru_cache(maxsize=256)
def _patterns(symbols: tuple[str, ...]) -> _Patterns:
    """One letter counts in its own case only."""
    exact = spelled(symbols)
    symbol = rf"{START}(?P<k>{exact}){BORDER}(?!\s*(?:or|and|oder|ou|/|\|)(?:\s|{exact}))"
    words = "|".join(
        re.escape(s) for s in sorted(symbols, key=len, reverse=True) if s.isalpha() and len(s) > 2
    )
    verb = rf"(?P<k>(?i:{words}))" if words else r"(?P<k>(?!))"
    greatest = labels_of(symbols).greatest
    scored = rf"{START}(?P<k>{exact})" if greatest else r"(?P<k>(?!))"
    it = r"(?:it|this|the (?:answer|response))"
    cues = r"verdict|answer|choice|decision|winner|conclusion|judge?ment|pick|label|rating|score|grade|result"
    chosen = (
        r"choose|chose|select|pick|prefer|favou?r|go with|vote for|settle on|lean towards?|opt for|conclude|"
        r"rate (?:it|this)|give (?:it|this)|grade (?:it|this)"
    )
    so = r"so|therefore|thus|hence|consequently|overall|ultimately|in conclusion|finally|accordingly|in sum"
    forms = (
        ("", symbol, rf"[\"'”’*_)\]]*(?:'s \w+)?\s+{_SKIPPED}"
             r"(?:wins?\b|prevails|(?:is|was|seems|remains|must be|"
             rf"should be|ist|est|es|è|é)\s+{_SKIPPED}(?:{BETTER})\b|should win|(?:is|should be) preferred|"
             r"deserves to win)"),
        ("", symbol, rf"\s+{_SKIPPED}(?:beats?|outperforms|surpasses|outshines|deserves the win)\b"),
        ("", symbol, rf"{_IS}(?:right|correct|accurate|richtig)(?:\s+(?:{NAMES}|one))?{_END}"),
        (rf"\b(?:{cues})\b[^.!?\n]{{0,24}}?(?:\bis|\bbe|:|=)\s*{_NAME}", symbol, r"(?!\s+(?:is|was|has)\b)"),
        (rf"\b(?:{cues})\s*[:=]\s*", scored, rf"\s*/\s*{greatest}\b"),
        (rf"\b(?:{BETTER}|correct|right)(?:\s+(?:{NAMES}|one))?\s*(?:\bis|\best|\bes|è|é|\bist|:)\s*"
         rf"(?:la |die |el )?{_NAME}",
         symbol, _END),
        (r"\b(?:gets|receives|marked as|it'?s|this is|it is|call it|declare|(?:rate|grade) (?:it|this))\s+"
         r"(?:therefore |clearly )?an?\s+", symbol, _END),
        (rf"\b(?:{chosen})\s+(?:it |this |that |to )*+{_NAME}", symbol, ""),
        (rf"(?:^|[.,;:]\s*)(?:and )?(?:{so})\b[,:]?\s*"
         rf"(?:the |my |it'?s? |is |final |verdict |answer |best )*+{_NAME}", symbol, _END),
        (r"\b(?:should|must|deserves?|has to|ought to)\s+"
         r"(?:not )?(?:be |get |receive |rated |graded |labell?ed |"
         r"marked |to |a |an |the )*+", symbol, _END),
        (rf"(?:^|[.,;:]\s*)(?:so |hence |thus )?{it}\s+", verb, rf"(?:e?s)\b{_END}"),
        ("", symbol, r"\s*(?:лучше|أفضل|"
             r"更好|更优|更佳|较好|較好|胜出|勝出|获胜|獲勝|优于|優於|胜过|の方が(?:良|優|よ)|"
             r"が優れ|[가이] 더)"),
        (r"(?:因此|所以|故|よって|したがって|따라서|结论(?:是)?|答案(?:是)?|选择|最终)[,:\s]*我?应?(?:选择?)?",
         symbol, ""),
        (r"\b(?:also|daher|somit|deshalb|folglich)\s+ist\s+(?:antwort\s+)?", symbol,
         r"\s+(?:besser|die be(?:sser|st)e)"),
    )  # fmt: skip
    bad = r"worse|worst|inferior|wrong|incorrect|false|weaker|(?:not|n['’]t) (?:better|right|correct)"
    against = (
        ("", symbol, rf"{_IS}(?:{bad})(?:\s+(?:{NAMES}|one|to|than)\b|{_END})"),
        ("", symbol, rf"\s+(?:isn['’]t|wasn['’]t)\s+{_SKIPPED}(?:{BETTER}|right|correct)\b"),
        ("", symbol, rf"\s+{_SKIPPED}(?:loses|(?:should|must|does|did|can)(?: not|n['’]t) (?:win|be)|"
             r"must lose|should lose)\b"),
        (rf"(?:^|[.,;:]\s*)(?:so |hence |definitely )?not\s+{_NAME}", symbol, _END),
        (rf"\bi (?:would )?(?:reject|refuse|rule out)\s+{_NAME}", symbol, _END),
        (rf"\b{it}\s+(?:does not|doesn['’]t|did not|didn['’]t|cannot)\s+", symbol, _END),
    )  # fmt: skip
    return _Patterns(
        tuple(re.compile(f"(?i:{before}){k}(?i:{after})") for before, k, after in forms),
        tuple(re.compile(f"(?i:{before}){k}(?i:{after})") for before, k, after in against),
    )


class _Claim(NamedTuple):
    """Where a sentence speaks of a symbol, which, and whether for it."""

    place: int
    symbol: int
    favours: bool


def _last_claim(sentence: str, labels: Labels) -> _Claim | None:
    """The last thing that a sentence concludes, or None."""
    sentence = sentence[-LONGEST_LINE:]
    lowered = sentence.casefold()
    if not any(key in lowered for key in labels.keys):
        return None
    last: _Claim | None = None
    chosen, denied = _patterns(labels.symbols)
    for favours, patterns in ((True, chosen), (False, denied)):
        for pattern in patterns:
            for match in pattern.finditer(sentence):
                place, symbol = match.start("k"), labels.places.get(match["k"].casefold())
                if symbol is None or (last is not None and place < last.place):
                    continue
                before = re.split(
                    r"[,;:]|\b(?:and|but|so)\b", sentence[max(0, match.start() - 60) : match.start()]
                )[-1]
                around = f"{sentence[match.start() : place]} {sentence[match.end('k') : match.end()]}"
                doubted = DOUBT.search(before) or (favours and DOUBT.search(around))
                if not doubted and not _is_quoted(sentence[: match.start()]):
                    last = _Claim(place, symbol, favours)
    return last


def concluded(sentence: str, labels: Labels) -> int | None:
    """The symbol that a sentence concludes, the last one if there are several; None without.

    >>> labels = labels_of(("A", "B"))
    >>> concluded("A is short, so B is better.", labels), concluded("I do not say that B is better.", labels)
    (1, None)
    """
    claim = _last_claim(sentence, labels)
    return claim.symbol if claim is not None and claim.favours else None


def _is_quoted(before: str) -> bool:
    """Whether a quotation is open at the end of a text."""
    pairs = (("“", "”"), ("«", "»"), ("「", "」"), ("『", "』"))
    return before.count('"') % 2 == 1 or any(before.count(a) > before.count(b) for a, b in pairs)


def sentences(text: str) -> list[str]:
    """The sentences of a text.

    >>> sentences("One. Two!\\nThree")
    ['One.', 'Two!', 'Three']
    """
    return [part for part in (part.strip() for part in re.split(r"(?<=[.!?。])\s+|\n|(?<=。)", text)) if part]


def concludes_another(text: str, symbol: int, labels: Labels, material: Sequence[str] = ()) -> bool:
    """Whether the last of the last sentences that concludes anything concludes otherwise.

    What repeats a line of `material` is not the judge's own.

    >>> labels = labels_of(("A", "B"))
    >>> [concludes_another(text, 0, labels) for text in ("B is better. It is shorter.", "A is worse.")]
    [True, True]
    """
    shown = _shown(tuple(material), labels.symbols) if material else frozenset()
    parts = [part for part in sentences(text[-4 * LONGEST_LINE :]) if not is_repeated(part, shown, labels)]
    for part in reversed(parts[-3:]):
        claim = None if _CRITERION.match(part) else _last_claim(part, labels)
        if claim is not None:
            return claim.favours != (claim.symbol == symbol) and (claim.favours or claim.symbol == symbol)
    return False


# ── words of the texts that were to be judged ──────────────────────────────────────────────────────


def _masked(text: str, labels: Labels) -> str:
    """The words of a text with the same mark for every symbol, so that no label fares better than another."""
    return " ".join(words_of(labels.begins.sub(" xlabelx ", fold(text).text)))


@lru_cache(maxsize=64)
def _shown(material: tuple[str, ...], symbols: tuple[str, ...]) -> frozenset[str]:
    """The lines and sentences of the material that conclude anything."""
    labels = labels_of(symbols)
    return frozenset(
        _masked(part, labels)
        for text in material
        for part in (*sentences(fold(text).text), *fold(text).text.splitlines())
        if len(part) <= LONGEST_LINE
        and labels.begins.search(part)
        and (read_line(part, labels) or _last_claim(part, labels))
    )


def own_lines(lines: Sequence[str], material: Sequence[str], labels: Labels) -> list[str]:
    """The lines of a reply that repeat no conclusion of the material."""
    shown = _shown(tuple(material), labels.symbols)
    return [line for line in lines if not is_repeated(line, shown, labels)]


def is_repeated(line: str, shown: frozenset[str], labels: Labels) -> bool:
    """Whether a line is or quotes one of these."""
    if not shown:
        return False
    words = _masked(line, labels)
    return words in shown or any(" " in part and f" {part} " in f" {words} " for part in shown)


# ── what follows a verdict ─────────────────────────────────────────────────────────────────────────


def contradicts(text: str, symbol: int, labels: Labels) -> bool:
    """Whether a text takes a verdict back, or speaks for another one.

    >>> labels = labels_of(("A", "B"))
    >>> contradicts("Reason: only B is correct.", 0, labels), contradicts("Reason: B is vague.", 0, labels)
    (True, False)
    """
    if RETRACTION.search(text) or _UNDECIDED.search(text):
        return True
    opened = _OPENED.match(text)
    return any(
        _speaks_against(sentence, symbol, labels)
        for sentence in sentences(text[opened.end() if opened else 0 :])
    )


def _speaks_against(sentence: str, symbol: int, labels: Labels) -> bool:
    claim = _last_claim(sentence, labels)
    if claim is not None and claim.favours != (claim.symbol == symbol):
        return claim.favours or claim.symbol == symbol
    line = read_line(sentence, labels)
    if line is not None and line.symbol != symbol:
        return True
    if not (claim is not None and claim.favours) and any(
        labels.places.get(match[0].casefold()) != symbol and _PRAISED.match(sentence, match.end())
        for match in labels.mentions.finditer(sentence)
    ):
        return True
    key = labels.keys[symbol]
    if len(key) == 1 and key.isalpha() and _LOST.fullmatch(sentence):
        return True
    return bool(
        (key in _POLAR[0] and _WRONG.fullmatch(sentence)) or (key in _POLAR[1] and _RIGHT.fullmatch(sentence))
    )
