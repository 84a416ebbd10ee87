"""Read typed fields of foreign records, and cut texts from prompts."""

import math
from dataclasses import asdict
from typing import Any

from trustescalate.data.importers.files import Foreign, Unusable
from trustescalate.records import ToolCall, Turn
from trustescalate.records.messages import BadMessage, plain_turns

LARGEST = 10**300
"""Above it a number may be neither a float nor, past 4300 digits, a text in Python."""


def has(file: Foreign, *keys: str) -> bool:
    """Whether the first record of a file is an object with all these keys."""
    return isinstance(file.head[0], dict) and all(key in file.head[0] for key in keys)


def get(row: Any, *path: str | int) -> Any:
    """Return the value at a path of keys and places. Raises Unusable that names a missing path."""
    value: Any = row
    for step in path:
        is_container = isinstance(value, dict) if isinstance(step, str) else isinstance(value, list)
        try:
            if not is_container:
                raise LookupError
            value = value[step]
        except LookupError:
            raise Unusable(f"{'.'.join(map(str, path))} is missing") from None
    return value


def text(row: Any, *path: str | int) -> str:
    """A text that is not empty, from a path."""
    value = get(row, *path)
    if not isinstance(value, str):
        raise Unusable(f"{'.'.join(map(str, path))} is {kind_of(value)}, not text")
    if not value.strip():
        raise Unusable(f"{'.'.join(map(str, path))} is empty")
    return value


def answer(row: Any, *path: str | int) -> str:
    """A text that a model gave, from a path. It may be empty, which is an answer; null is none."""
    value = get(row, *path)
    if not isinstance(value, str):
        raise Unusable(f"{'.'.join(map(str, path))} is {kind_of(value)}, not text")
    return value


def name(row: Any, *path: str | int) -> str:
    """A name: a text, or a number as text (1 and 1.0 are one name)."""
    value = get(row, *path)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise Unusable(f"{'.'.join(map(str, path))} is a number of too many digits")
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise Unusable(f"{'.'.join(map(str, path))} is {kind_of(value)}, not a name")
    return str(value)


def number(row: Any, *path: str | int) -> float:
    """A finite number, from a path."""
    value = get(row, *path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise Unusable(f"{'.'.join(map(str, path))} is {kind_of(value)}, not a number")
    return float(value)


def many(row: Any, *path: str | int) -> list[Any]:
    """A list, from a path."""
    value = get(row, *path)
    if not isinstance(value, list):
        raise Unusable(f"{'.'.join(map(str, path))} is {kind_of(value)}, not a list")
    return value


def turns(row: Any, *path: str | int) -> tuple[Turn, ...]:
    """A conversation: a list of {role, content}. Raises Unusable for content other than text."""
    value = get(row, *path)
    where = ".".join(map(str, path))
    if not isinstance(value, list) or not value:
        raise Unusable(f"{where} is {kind_of(value)}, not a conversation")
    try:
        return tuple(_turn(turn, where) for turn in plain_turns(value, strict=False))
    except BadMessage as error:
        raise Unusable(f"{where}.{error}") from None


def _turn(turn: Any, where: str) -> Turn:
    role, content = (turn.get(key) if isinstance(turn, dict) else None for key in ("role", "content"))
    if role not in ("system", "user", "assistant", "tool") or not isinstance(content, str):
        raise Unusable(f"{where} holds a message that is no turn with a role and text")
    calls = tuple(ToolCall(**call) for call in turn.get("tool_calls") or ())
    return Turn(role, content, calls, turn.get("tool_call_id"), turn.get("name"))


def as_plain(talk: tuple[Turn, ...]) -> list[dict[str, Any]]:
    """Turns as plain values, as a file of items holds them."""
    return [{key: value for key, value in asdict(turn).items() if value or key == "content"} for turn in talk]


def kind_of(value: Any) -> str:
    """The JSON type of a value, in words."""
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return {"dict": "an object", "list": "a list", "str": "text", "bool": "a boolean"}.get(
        type(value).__name__, "a number"
    )


def between(shown: str, start: str, end: str) -> str | None:
    """The text between two marks of a judge's prompt; None without the first mark.

    Raises Unusable unless each mark occurs once: the texts may contain marks.
    """
    if start not in shown:
        return None
    before, _, after = shown.partition(start)
    if start in after or end not in after or end in before or after.count(end) > 1:
        raise Unusable(f"{start.strip()!r} to {end.strip()!r} does not stand once in the prompt")
    return after.partition(end)[0]
