"""Name what differs between two sets of tables, key by key."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LONGEST = 60
"""Characters of a value that are shown."""


def changes(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Each key that differs, as `judges.large.max_tokens: 100 → 101`; tables in a list go by their names.

    >>> old = {"gate": {"min_coverage": 0.5}, "judges": [{"name": "large", "model": "M", "max_tokens": 100}]}
    >>> new = {"gate": {"min_coverage": 0.5}, "judges": [{"name": "large", "model": "M"}]}
    >>> list(changes(old, new))
    ['judges.large.max_tokens: 100 → none']
    """
    old, new = _named(before), _named(now)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            yield from changes(old.get(key), new.get(key), f"{place}.{key}".lstrip("."))
    elif before != now:
        yield f"{place}: {_shown(before)} → {_shown(now)}"


def _named(value: Any) -> Any:
    """A list of tables as a table of them by name."""
    rows = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if rows and all(isinstance(row, Mapping) and isinstance(row.get("name"), str) for row in rows):
        return {row["name"]: row for row in rows}
    return value


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
