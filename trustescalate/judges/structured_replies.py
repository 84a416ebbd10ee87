"""Find the verdict of a reply that is one JSON object; `judges.conclusions` holds the other modes."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trustescalate.judges.placeholders import is_placeholder
from trustescalate.judges.reply_marks import fold, without_marks
from trustescalate.judges.verdict_lines import (
    Labels,
    is_content,
    is_pleasantry,
    read_line,
    words_of,
)
from trustescalate.judges.verdict_reasons import concludes_another
from trustescalate.judges.verdict_words import CONCLUDING, DISOWNED, LEAD

_FENCED = re.compile(r"```(?:[a-z]{0,12})[ \t]*\n(.*)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)
KEY = re.compile(r'(?<!\\)"([a-z_ ]{2,24})"\s*:\s*"?', re.IGNORECASE)
_NAMED = re.compile(r'(?<!\\)"([a-z_ ]{2,24}\d{0,2})"\s*:\s*"?', re.IGNORECASE)
_INTRODUCED = re.compile(
    r"(?:sure|certainly|of course|okay|ok|here(?:'s| is| it is)|"
    r"(?:the |my )?(?:json|evaluation|verdict|answer|output|result))"
    r"\b[^{}\n]{0,80}[:!.]?\s*",
    re.IGNORECASE,
)

VERDICT_KEYS = (
    *(
        "verdict",
        "final_verdict",
        "answer",
        "final_answer",
        "decision",
        "choice",
        "winner",
        "label",
        "judgment",
    ),
    *("judgement", "preference", "rating", "score", "result"),
)
"""Keys of a structured reply that may hold the verdict; the first of them that is there does."""


_WINNING = CONCLUDING | {
    *("preferred", "better", "best", "correction", "corrected", "overall", "selected", "chosen", "answer"),
    *("choice", "reason", "reasoning", "rationale", "explanation", "analysis", "thought", "thoughts"),
}
_LOSING = frozenset({"loser", "rejected", "worse", "worst", "losing"})
"""Words in the names of members that may name the winner, and the loser."""


class _Object(NamedTuple):
    """A JSON object with its keys in order, duplicates included."""

    members: list[tuple[str, Any]]


_JSON = json.JSONDecoder(object_pairs_hook=_Object, strict=False)


def read_object(text: str, labels: Labels, material: Sequence[str] = ()) -> tuple[int, int] | str:  # noqa: PLR0911
    """The offset of the verdict and its symbol in a reply without hidden reasoning, or a failure.

    The reasoning must not conclude otherwise; it must be the judge's own, and no words of `material`.
    """
    members, start = only_object(text, labels)
    if isinstance(members, str):
        return members
    names = [name.strip().casefold().replace(" ", "_") for name, _ in members]
    if len(set(names)) < len(names):
        return "conflict"
    fields = dict(zip(names, (value for _, value in members), strict=True))
    key = next((key for key in VERDICT_KEYS if key in fields), None)
    if key is None:
        return "malformed"
    symbol = _value(fields[key], labels)
    if symbol is None:
        return "none" if isinstance(fields[key], str) else "malformed"
    others = {_value(fields[name], labels) for name in VERDICT_KEYS if name in fields} - {None}
    if len(others) > 1 or _is_nested(members) or _names_another(fields, key, symbol, labels):
        return "conflict"
    if is_placeholder(str(fields.get("reasoning", ""))):
        return "malformed"
    reasons = [part for name in names if name != key for part in _strings(fields[name])]
    if reasons and any(concludes_another(reason, symbol, labels, material) for reason in reasons):
        return "conflict"
    if any(_is_shown(reason, material) for reason in reasons):
        return "echo"
    places = [match for match in KEY.finditer(text, start) if _key(match[1]) == key]
    return places[0].end() if len(places) == 1 else len(text), symbol


class Field(NamedTuple):
    """A verdict in one field among several: its offset and symbol, the places of all fields that are there.

    `reasoned` is whether the object says anything beside its verdicts.
    """

    offset: int
    symbol: int
    places: frozenset[int]
    reasoned: bool


def read_field(  # noqa: PLR0911
    text: str, fields: Sequence[str], place: int, labels: Labels, material: Sequence[str]
) -> Field | str:
    """As `read_object`, of the verdict in the field at `place`, whatever the other `fields` hold.

    The reasoning is about all of them, so that no conclusion in it can be told to be about this one; it must
    be the judge's own.
    """
    members, start = only_object(text, labels)
    if isinstance(members, str):
        return members
    named = [(_key(name), value) for name, value in members]
    values = [value for key, value in named if key == fields[place]]
    others = [key for key, _ in named if key not in fields]
    if len(values) > 1 or len(set(others)) < len(others):
        return "conflict"
    if any(is_placeholder(part) for key, value in named if key == "reasoning" for part in _strings(value)):
        return "malformed"
    reasons = [part for key, value in named if key not in fields for part in _strings(value)]
    if any(_is_shown(reason, material) for reason in reasons):
        return "echo"
    if not values:
        return "none"
    symbol = _value(values[0], labels)
    if symbol is None:
        return "none" if isinstance(values[0], str) else "malformed"
    keys = [match for match in _NAMED.finditer(text, start) if _key(match[1]) == fields[place]]
    there = frozenset(i for i, field in enumerate(fields) if field in dict(named))
    reasoned = any(words_of(fold(reason).text) for reason in reasons)
    return Field(keys[0].end() if len(keys) == 1 else len(text), symbol, there, reasoned)


def _key(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


def _value(value: Any, labels: Labels) -> int | None:
    """The symbol that a member names."""
    if isinstance(value, bool):
        value = str(value).casefold()
    if isinstance(value, int | float):
        value = f"{value:g}"
    if not isinstance(value, str) or "\n" in value.strip():
        return None
    result = read_line(fold(without_marks(value, LEAD, labels.keys)).text, labels)
    return None if result is None else result.symbol


def _names_another(fields: Mapping[str, Any], key: str, symbol: int, labels: Labels) -> bool:
    """Whether a member beside the verdict names another winner, or the verdict as the loser."""
    for name, value in fields.items():
        named = None if name == key else _value(value, labels)
        words = set(name.split("_"))
        if named is None:
            continue
        if named == symbol if words & _LOSING else named != symbol and bool(words & _WINNING):
            return True
    return False


def _strings(value: Any) -> list[str]:
    """The texts in a member, however deep, in their order."""
    texts: list[str] = []
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            left += reversed(value)
        elif isinstance(value, _Object):
            left += [part for _, part in reversed(value.members)]
    return texts


def _is_nested(members: Sequence[tuple[str, Any]]) -> bool:
    """Whether a member holds an object with a verdict of its own."""
    inner = [value for _, value in members]
    while inner:
        value = inner.pop()
        if isinstance(value, _Object):
            if any(_key(name) in VERDICT_KEYS[:2] for name, _ in value.members):
                return True
            inner += [part for _, part in value.members]
        elif isinstance(value, list):
            inner += value
    return False


def _is_shown(reason: str, material: Sequence[str]) -> bool:
    words = " ".join(words_of(fold(reason).text))
    return bool(words) and any(words in " ".join(words_of(fold(text).text)) for text in material)


def only_object(text: str, labels: Labels) -> tuple[list[tuple[str, Any]] | str, int]:
    """The members of the one JSON object of a reply and where it starts, or a failure."""
    body = text
    wrapped = re.match(r"\s*<(\w{2,20})>(?=\s*[{`])", body)
    if wrapped is not None:
        body = body.replace(f"</{wrapped[1]}>", " " * (len(wrapped[1]) + 3))
        body = " " * wrapped.end() + body[wrapped.end() :]
    fenced = _FENCED.search(body) if "```" in body else None
    if fenced is not None:
        before, after = body[: fenced.start()].strip(), body[fenced.end() :]
        body = " " * fenced.start(1) + fenced[1]
    else:
        start = max(body.find("{"), 0)
        before, after = body[:start].strip(), ""
        body = " " * start + body[start:]
    if "<!--" in before:
        return "malformed", 0
    before = fold(without_marks(before, LEAD, ())).text.strip()
    if before and (not _INTRODUCED.fullmatch(before) or DISOWNED.search(before)):
        return "malformed", 0
    begin = len(body) - len(body.lstrip())
    try:
        parsed, end = _JSON.raw_decode(body, begin)
    except (ValueError, RecursionError):
        return "malformed", 0
    rest = fold(without_marks(body[end:] + after, LEAD, ())).text
    if "{" in rest:
        return "multiple", 0
    if any(is_content(line) and not is_pleasantry(line, labels) for line in rest.splitlines()):
        return "malformed", 0
    return (parsed.members if isinstance(parsed, _Object) else "malformed"), begin
