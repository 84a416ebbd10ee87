"""Put the options of a multiple-choice question under its prompt, unless they stand in it.

Without them nobody can judge an answer such as "C".
"""

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trustescalate.data.importers.files import Unusable, from_text
from trustescalate.records import Turn

KEYS = ("choices", "options")
MOST = len(string.ascii_uppercase)
MARK = r"\(?(?:[A-Za-z]|\d{1,2})[).:\]]"
OWN = re.compile(r"\s*\(?([A-Za-z]|\d{1,2})[).:\]]\s+\S")
"""The beginning of a choice that names its own letter."""
Prompt = str | tuple[Turn, ...]


def with_choices(
    prompt: Prompt, choices: Sequence[str], shown: str = "", given: Sequence[str] = ()
) -> Prompt:
    """Append the choices by letter: those `given`, or those of a text that was `shown`; else in their order.

    Raises Unusable where a text was shown that holds choices and their letters cannot be told.

    >>> print(with_choices("2 + 2?", ["3", "4"]))
    2 + 2?
    <BLANKLINE>
    A) 3
    B) 4
    >>> with_choices("2 + 2?  A. 3  B. 4", ["3", "4"])
    '2 + 2?  A. 3  B. 4'
    """
    asked = prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)
    if not 2 <= len(choices) <= MOST or _letters(asked, choices) or _has_lines(asked, choices):
        return prompt
    letters = given or _letters(shown, choices)
    if not letters and any(choice.strip() in shown for choice in choices):
        raise Unusable("the choices were shown, and their letters cannot be told from the messages")
    lettered = sorted(
        zip(letters or string.ascii_uppercase, choices, strict=False),
        key=lambda each: (len(each[0]), each[0]),
    )
    own = [match[1] for choice in choices if (match := OWN.match(choice))]
    more = "\n".join(
        choice.strip() if len({*own}) == len(choices) else f"{letter}) {choice.strip()}"
        for letter, choice in lettered
    )
    if isinstance(prompt, str):
        return f"{prompt}\n\n{more}"
    place = max((at for at, turn in enumerate(prompt) if turn.role == "user"), default=len(prompt) - 1)
    turn = replace(prompt[place], content=f"{prompt[place].content}\n\n{more}")
    return (*prompt[:place], turn, *prompt[place + 1 :])


def _letters(text: str, choices: Sequence[str]) -> list[str]:
    """The different letters or numbers before the choices in a text; empty if one of them lacks."""
    letters = []
    for choice in choices:
        words = choice.strip()
        mark = words.strip("().") if re.fullmatch(r"\(?[A-Z]\)?\.?", words) else ""
        pattern = rf"({mark})[).:\]]" if mark else rf"([A-Za-z]|\d{{1,2}})[).:\]]\s*{re.escape(words)}(?!\w)"
        end = "" if mark else rf"(?=[,;.]?(?:\s*$|\s+(?:(?:or|and)\s+)?{MARK}))"
        marked = re.findall(rf"(?:^|[\s(\[]){pattern}{end}", text, re.MULTILINE)
        if not marked:
            return []
        letters.append(marked[-1].upper())
    return letters if len(set(letters)) == len(letters) else []


def _has_lines(text: str, choices: Sequence[str]) -> bool:
    """Whether each choice is a line of a text."""
    lines = {line.strip(" \t-*•") for line in text.splitlines()}
    return all(choice.strip() in lines for choice in choices)


def listed_choices(value: Any) -> tuple[str, ...]:
    """The choices that a field holds: a list of texts, or lists of texts with their labels; else none.

    >>> listed_choices(["3", 4]), listed_choices({"text": ["3", "4"], "label": ["A", "B"]})
    (('3', '4'), ('3', '4'))
    """
    value = _unpacked(value)
    if isinstance(value, dict):
        texts = value.get("text", value.get("choices"))
        if texts is None and value and all(len(str(key)) == 1 for key in value):
            texts = [value[key] for key in sorted(value)]
        value = texts
    if isinstance(value, list):
        value = [each.get("text", each.get("content")) if isinstance(each, dict) else each for each in value]
    if not isinstance(value, list) or not 2 <= len(value) <= MOST:
        return ()
    texts = [str(each) if isinstance(each, int | float) else each for each in value]
    is_text = all(isinstance(each, str) and each.strip() for each in texts)
    return tuple(texts) if is_text else ()


def _unpacked(value: Any) -> Any:
    """A field, or the JSON in the cell of a table."""
    return from_text(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value


def given_letters(value: Any) -> tuple[str, ...]:
    """The letters or numbers that a field gives its choices, in their order; none where it gives no such.

    >>> given_letters({"text": ["3", "4"], "label": ["1", "2"]}), given_letters(["3", "4"])
    (('1', '2'), ())
    """
    value, labels = _unpacked(value), None
    if isinstance(value, dict):
        labels = value.get("label")
        if not {"text", "choices"} & value.keys():
            labels = sorted(value)
    elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
        labels = [each.get("label", each.get("key")) for each in value]
    size = len(listed_choices(value))
    if not isinstance(labels, list) or len(labels) != size:
        return ()
    letters = tuple(str(each).strip() for each in labels)
    return letters if len({*letters}) == size and all(0 < len(each) <= 2 for each in letters) else ()
