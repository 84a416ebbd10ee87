"""Take out of a reply what is not said: hidden reasoning, control tokens, comments, code, struck-out words.

What is taken out is replaced by as many spaces or line breaks, so that offsets stay those of the reply.
`fold` brings the rest to one spelling (full-width letters, digits of other scripts, invisible characters).
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0971-\u0d7f\u0e31-\u0e3a\u0e47-\u0e4e\u1ab0-\u1aff"
)
"""Marks that belong to a letter (accents, vowel signs), which `\\w` leaves out."""

_INVISIBLE = {"Cf", "Cn", "Co", "Cs"}
_SPECIAL = {
    "\u0120": " ", "\u010a": "\n", "\u2581": " ", "\u20e3": "", "\U0001f170": "A", "\U0001f171": "B",
    "\U0001f17e": "O", "\u3164": "", "\ufffc": "",
}  # fmt: skip
"""Spellings that Unicode keeps apart: white space of tokenizers, keycaps, letters in coloured squares."""

_STRUCK = re.compile("[\u0335-\u0338]")
_CLUSTER = re.compile(rf".[{MARKS}\ufe00-\ufe0f\u20e3]*", re.DOTALL)


class Folded(NamedTuple):
    """A text in one spelling, and where each of its characters stands in the original; None: at its place."""

    text: str
    offsets: tuple[int, ...] | None

    def place(self, offset: int) -> int:
        """Where a character stands in the original."""
        return offset if self.offsets is None or offset >= len(self.offsets) else self.offsets[offset]


def fold(text: str) -> Folded:
    """Bring a text to one spelling: compatibility forms, ASCII digits, no invisible characters.

    >>> fold("Ｖerdict\\u200b：\\u00a0Ａ").text, fold("٤").text
    ('Verdict: A', '4')
    >>> fold("Ａ").place(0), fold("\\u200b\\u200bA").place(0)
    (0, 2)
    """
    if text.isascii():
        return Folded(text, None)
    parts: list[str] = []
    offsets: list[int] = []
    for match in _CLUSTER.finditer(text):
        part = match[0]
        part = part if part.isascii() else _spelled(part)
        parts.append(part)
        offsets += [match.start()] * len(part)
    return Folded("".join(parts), tuple(offsets))


@lru_cache(maxsize=8192)
def _spelled(cluster: str) -> str:
    cluster = "".join(
        _SPECIAL.get(c, c) for c in cluster if not "\ufe00" <= c <= "\ufe0f" and c < "\U000e0000"
    )
    plain = "".join(c for c in unicodedata.normalize("NFKC", cluster) if not _is_invisible(c))
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in plain)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE


def is_struck(text: str) -> bool:
    """Whether a text has letters with a stroke through them."""
    return not text.isascii() and _STRUCK.search(text) is not None


# ── hidden reasoning ───────────────────────────────────────────────────────────────────────────────

_BAR = "[|｜]"
_NAME = (
    r"(?:\w{1,20}[:_.-])?(?:think(?:ing|s)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad|analysis|"
    r"antthinking|monologue|cot|chain_of_thought|working_out|deliberation)(?:[:_.-]\w{1,20})?"
)
_HIDING = re.compile(
    rf"(?P<xml>(?:<|&lt;|\\u003c|◁|＜){_BAR}?\s{{0,3}}(?P<xmlend>/|end(?:_of)?_)?(?:begin(?:_of)?_|start(?:_of)?_)?"
    rf"(?P<name>{_NAME})(?:\s[^<>]{{0,80}})?{_BAR}?\s{{0,3}}(?:>|&gt;|\\u003e|▷|＞))"
    r"|(?P<square>\[(?P<squareend>/)?(?:think(?:ing)?|thoughts?|reason(?:ing)?)\])"
    rf"|(?P<channel><{_BAR}channel{_BAR}?>\s{{0,3}}(?:analysis|commentary|thoughts?|thinking)\b[^<]{{0,60}}(?:<{_BAR}message{_BAR}>)?)"
    rf"|(?P<channelend><{_BAR}(?:end|call|return){_BAR}>|<channel{_BAR}>|<{_BAR}channel{_BAR}>\s{{0,3}}final\b[^<]{{0,60}}<{_BAR}message{_BAR}>)"
    r"|(?P<unused><unused94>(?:thought)?)|(?P<unusedend><unused95>)"
    r"|(?P<here>^\s*here(?:'s| is) my thought process:)|(?P<hereend>\bhere(?:'s| is) my response:)",
    re.IGNORECASE,
)
"""Marks of hidden reasoning, by family: tags of any kind, `[THINK]`, channels, Gemma's and Granite's own."""

_PAIRED = ("channel", "unused", "here")
_GLUED = re.compile(r"\s*analysis(?=\W|[A-Z]).{0,200000}?assistantfinal(?=\W|[A-Z]|$)", re.DOTALL)
"""A channel whose marks the server took out."""


class Said(NamedTuple):
    """A reply without its hidden reasoning; `open`: the reasoning does not end."""

    text: str
    open: bool


def has_thought_marks(text: str) -> bool:
    """Whether a text holds a mark of hidden reasoning."""
    return _may_hide(text) and any(match.lastgroup != "channelend" for match in _HIDING.finditer(text))


def _may_hide(text: str) -> bool:
    return any(c in text for c in "<[◁＜&\\") or "thought process" in text.casefold()


def without_thoughts(text: str, shown_marks: bool = False) -> Said:
    """Blank out hidden reasoning, nested or repeated, and keep the length of the text.

    Reasoning that does not end hides the rest. A closing mark alone (the opening one is often in the chat
    template) hides all before it. Where a shown text holds such marks (`shown_marks`) the reply may quote
    them: then only reasoning at its start is hidden.

    >>> without_thoughts("<think>B?</think>A").text.strip(), without_thoughts("B?</think>\\nA").text.strip()
    ('A', 'A')
    >>> without_thoughts("[THINK]B is").open
    True
    """
    glued = _GLUED.match(text) if text.lstrip()[:8] == "analysis" else None
    if glued is not None:
        return Said(_blanked(text, [(0, glued.end())]), False)
    if not _may_hide(text):
        return Said(text, False)
    spans: list[tuple[int, int]] = []
    depth, start, family = 0, 0, ""
    for match in _HIDING.finditer(text):
        kind, closing = _family(match)
        if depth == 0 and not closing:
            if not shown_marks or not text[: match.start()].strip():
                depth, start, family = 1, match.start(), kind
        elif depth and kind == family:
            depth += -1 if closing else 0 if kind == "channel" or shown_marks else 1
            if depth == 0:
                spans.append((start, match.end()))
        elif not depth and kind != "channel" and not shown_marks:
            spans = [(0, match.end())]
    if depth:
        spans.append((start, len(text)))
    return Said(_blanked(text, spans), depth > 0)


def _family(match: re.Match[str]) -> tuple[str, bool]:
    """The family of a mark, and whether it closes."""
    if match["xml"] is not None:
        return match["name"].casefold(), match["xmlend"] is not None
    if match["square"] is not None:
        return "square", match["squareend"] is not None
    opening = next((kind for kind in _PAIRED if match[kind] is not None), None)
    return opening or next(kind for kind in _PAIRED if match[f"{kind}end"] is not None), opening is None


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with a line break and spaces in these places."""
    parts: list[str] = []
    done = 0
    for start, end in spans:
        parts += [text[done:start], "\n", " " * (end - start - 1)]
        done = end
    return "".join([*parts, text[done:]]) if spans else text


# ── what surrounds an answer ───────────────────────────────────────────────────────────────────────

_CONTROL = re.compile(
    rf"<{_BAR}channel{_BAR}?>\s{{0,3}}(?:final|assistant|response|answer)?\b[^<\n]{{0,40}}(?:<{_BAR}message{_BAR}>)?"
    rf"|<{_BAR}(?:im_start|start|header_start|start_of_role){_BAR}>(?:\s*assistant\b)?(?:<{_BAR}(?!channel)[^<>|｜\s]{{1,40}}{_BAR}>)?"
    rf"|<{_BAR}start_header_id{_BAR}>\s*assistant\s*<{_BAR}end_header_id{_BAR}>"
    r"|<start_of_turn>(?:\s*model\b)?"
    rf"|<{_BAR}/?[^<>|｜\s]{{1,48}}{_BAR}>|<{_BAR}[a-z_]{{1,24}}>|<[a-z_]{{1,24}}{_BAR}>"
    r"|</?(?:s|bos|eos|pad|unk|eot|eod|eom|eoa|eop|eoh|sep|cls|mask|gmask|endoftext|end_of_turn|end_of_text|end_of_utterance|"
    r"eos_token|bos_token|turn_end|reserved_\d+|unused\d+|seed:[a-z_]+|ctrl\d+|extra_id_\d+)>"
    r"|\[/?(?:INST|SYS|BOS|EOS|SEP|CLS|AVAILABLE_TOOLS|TOOL_CALLS|CONTENT)\]|<</?SYS>>|\[\|/?[a-z_]{1,24}\|\]",
    re.IGNORECASE,
)
"""Control tokens of common models and servers, with the name of the speaker."""

_OTHERS = re.compile(
    rf"<{_BAR}(?:im_start|start|header_start|start_of_role|start_header_id){_BAR}>\s*(?:user|system|human|tool)\b"
    rf"|<{_BAR}(?:user|system|human|tool){_BAR}>|<start_of_turn>\s*(?:user|system)\b|\[INST\](?!\s*\[/INST\])|<<SYS>>",
    re.IGNORECASE,
)


def speaks_for_others(text: str) -> bool:
    """Whether a reply holds a turn of the user or the system.

    >>> speaks_for_others("<|im_start|>user\\nA"), speaks_for_others("<|im_start|>assistant\\nA")
    (True, False)
    """
    return _OTHERS.search(text) is not None


_TAG = re.compile(r"<(/?)([a-z][a-z0-9_:.-]{0,40})(\s[^<>\n]{0,120})?\s?/?>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--(?:.*?-->|.*)", re.DOTALL)
_CODE = re.compile(r"^[ \t]*(```++|~~~++)([^\n`]*)\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_PLAIN_CODE = frozenset(
    {"", "text", "plaintext", "txt", "markdown", "md", "json", "answer", "verdict", "xml", "html", "latex"}
)
_STRIKE = re.compile(
    r"~~[^~]{1,400}~~|<(del|strike|(?<!\A<)s)\b[^<>]{0,80}>(?s:.{0,400}?)</\1>", re.IGNORECASE
)
_LATEX = re.compile(
    r"\\(?:[fd]?box(?:ed)?|boxed|text(?:bf|it|rm|tt|sf|sc|normal|color)?|math(?:bf|it|rm|tt|sf|bb|cal)|bm|boldsymbol|mbox|emph|"
    r"underline|large|Large|LARGE|huge|Huge|quad|qquad|displaystyle|left|right|operatorname|[()\[\],;!])(?![a-zA-Z])|\$\\?"
)
_FORMATTING = frozenset(
    {
        "b",
        "strong",
        "i",
        "em",
        "u",
        "p",
        "div",
        "span",
        "br",
        "hr",
        "center",
        "code",
        "pre",
        "font",
        "big",
        "small",
    }
    | {
        "mark",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "li",
        "body",
        "html",
        "table",
        "tr",
        "td",
        "th",
    }
    | {"tbody", "sub", "sup", "section", "article", "xml", "root"}
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|hidden", re.IGNORECASE)


def without_marks(text: str, wrappers: frozenset[str], symbols: Sequence[str]) -> str:
    """Blank out control tokens, comments, quoted code, struck-out words and formatting, at equal length.

    A tag is formatting if all words of its name are `wrappers` or HTML. Code that is the whole reply is the
    reply; any other is a quotation.

    >>> without_marks("<answer>B</answer><|im_end|>", frozenset({"answer"}), ("A", "B")).strip()
    'B'
    >>> without_marks("~~A~~ B", frozenset(), ("A", "B")).strip()
    'B'
    """
    if "`" in text or "~~~" in text:
        text = _CODE.sub(lambda match: _uncoded(match, text), text)
    if "~~" in text or "<" in text:
        text = _STRIKE.sub(_spaces, text)
    if "\\" in text or "$" in text:
        text = _LATEX.sub(_spaces, text)
    if "<" in text or "[" in text:
        text = _COMMENT.sub(_spaces, text)
        text = _CONTROL.sub(_line_break, text)
        text = _TAG.sub(lambda match: _untagged(match, text, wrappers, symbols), text)
    return text


def _uncoded(match: re.Match[str], text: str) -> str:
    if text.strip() == match[0].strip() and match[2].strip().casefold() in _PLAIN_CODE:
        start, end = match.start(3), match.end(3)
        return f"{' ' * (start - match.start())}{match[3]}{' ' * (match.end() - end)}"
    return _line_break(match)


def _untagged(match: re.Match[str], text: str, wrappers: frozenset[str], symbols: Sequence[str]) -> str:
    name = match[2].casefold()
    if match[3] and _HIDDEN.search(match[3]):
        return match[0]
    if name in symbols and not (match[1] or f"</{match[2]}>" in text):
        return match[0]
    if name in _FORMATTING:
        return _line_break(match) if name in ("br", "p", "div", "hr", "li", "tr") else _spaces(match)
    if all(word in wrappers for word in re.split(r"[_:.-]", name)):
        return _line_break(match)
    return match[0]


def _spaces(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _line_break(match: re.Match[str]) -> str:
    return "\n" + " " * (match.end() - match.start() - 1) if match[0] else ""
