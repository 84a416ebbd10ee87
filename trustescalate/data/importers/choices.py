"""Put the options of a multiple-choice question under its prompt, unless they stand in it.

Without them nobody can judge an answer such as "C".
"""

import re
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trustescalate.records import Turn

KEYS = ("choices", "options")
MOST = len(string.ascii_uppercase)
Prompt = str | tuple[Turn, ...]


def with_choices(prompt: Prompt, choices: Sequence[str], shown: str = "") -> Prompt:
    """Append the choices by letter, as `shown` letters them if it does; else in their order.

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
    letters = _letters(shown, choices) or string.ascii_uppercase
    lettered = sorted(zip(letters, choices, strict=False), key=lambda each: (len(each[0]), each[0]))
    more = "\n".join(f"{letter}) {choice.strip()}" for letter, choice in lettered)
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
        marked = re.search(rf"(?:^|[\s(\[]){pattern}", text)
        if marked is None:
            return []
        letters.append(marked[1].upper())
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
