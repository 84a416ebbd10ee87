"""Make untrusted text safe to display: spell out invisible characters. It escapes for no format."""

import re
import unicodedata

_SAFE = frozenset("\n\t\ufe0e\ufe0f")
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
FILLER = "\ufdd0"
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_ORDINARY = re.compile(r"[\n\t -~]*\Z")


def visible(text: str) -> str:
    r"""Spell out every control, direction, zero-width and otherwise hidden character; keep `\n` and `\t`.

    A control character becomes its picture, anything else its code point. A Windows line end becomes `\n`;
    a carriage return on its own, which lets a terminal overwrite a line, is shown. The result has no lone
    surrogates, so it can always be encoded, and applying the function again changes nothing.

    >>> visible("\x1b[31mred\x1b[0m")
    '␛[31mred␛[0m'
    >>> visible("user\u202etxt.exe")
    'user⟨U+202E⟩txt.exe'
    >>> visible("two\r\nlines\tkept")
    'two\nlines\tkept'
    """
    if _ORDINARY.match(text):
        return text
    return "".join(_shown(character) for character in text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    r"""`visible` on one line: a line end becomes ⏎, a tab a space.

    >>> one_line("first\nsecond\tcell")
    'first⏎second cell'
    """
    return visible(text).replace("\n", "⏎").replace("\t", " ")


def cells(text: str) -> int:
    """Count the columns that a line takes on a terminal: two for a wide character, none for a mark on one.

    >>> cells("abc"), cells("日本"), cells("e\u0301")
    (3, 4, 1)
    """
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def widened(text: str) -> str:
    """Put a filler behind each wide character, so that a text has as many characters as columns.

    No text that is `visible` holds the filler, which `narrowed` takes out again.
    """
    return text if text.isascii() else "".join(c + FILLER * (_cell(c) == 2) for c in text)


def narrowed(text: str) -> str:
    """Undo `widened`.

    >>> narrowed(widened("日本 abc"))
    '日本 abc'
    """
    return text.replace(FILLER, "")


def _shown(character: str) -> str:
    if character in _SAFE:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"⟨U+{code:04X}⟩" if _is_hidden(character, code) else character


def _is_hidden(character: str, code: int) -> bool:
    selector = 0xFE00 <= code <= 0xFE0D or 0x180B <= code <= 0x180F or 0xE0000 <= code <= 0xE0FFF
    nonsense = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    hidden = unicodedata.category(character) in _HIDDEN_CATEGORIES
    return hidden or selector or nonsense or character in _FILLERS
