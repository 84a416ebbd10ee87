"""Apply `--set key.path=value` to the tables of a configuration file before they are checked."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trustescalate.errors import ConfigError

EXAMPLE = "write it as --set guarantee.alpha=0.2, or --set judges.small.price.input=0.1"


def apply_override(data: dict[str, Any], override: str) -> str:
    """Set one "key.path=value" in `data` and return its key path. Raises ConfigError where it cannot be set.

    >>> data = {"judges": [{"name": "small"}]}
    >>> [apply_override(data, each) for each in ("judges.small.model=gpt-4.1", "guarantee.alpha=0.2")]
    ['judges.small.model', 'guarantee.alpha']
    >>> data
    {'judges': [{'name': 'small', 'model': 'gpt-4.1'}], 'guarantee': {'alpha': 0.2}}
    """
    key, equals, text = override.partition("=")
    *parents, last = _read_key(key.strip()) if equals else [""]
    if not last:
        raise ConfigError(f"--set {key}: expected key.path=value", EXAMPLE)
    table: Any = data
    for place, part in enumerate(parents):
        table = _enter(table, part, key, ".".join(parents[: place + 1]))
    if not isinstance(table, dict):
        raise ConfigError(f"--set {key}: {'.'.join(parents)} is not a table", EXAMPLE)
    table[last] = _read_value(text.strip(), key)
    return key.strip()


def command_options(path: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """The options that name a configuration and its overrides; trustescalate.toml needs none.

    >>> command_options(Path("p/trustescalate.toml"), ["guarantee.alpha=0.2"])
    ('--config', 'p/trustescalate.toml', '--set', 'guarantee.alpha=0.2')
    """
    given = [] if path == Path("trustescalate.toml") else ["--config", str(path)]
    return (*given, *(part for override in overrides for part in ("--set", override)))


def _read_key(key: str) -> list[str]:
    """The parts of a dotted TOML key; [""] where it is none."""
    try:
        value: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return [""]
    parts = []
    while isinstance(value, dict):
        if len(value) != 1:
            return [""]
        ((part, value),) = value.items()
        parts.append(part)
    return parts


def _read_value(text: str, key: str) -> Any:
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ("[", "{", '"', "'"):
            raise ConfigError(f"--set {key}: not a TOML value: {error}", EXAMPLE) from None
        return text
    return read["value"] if len(read) == 1 else text


def _enter(table: Any, part: str, key: str, path: str) -> Any:
    if isinstance(table, dict):
        return table.setdefault(part, {})
    if not isinstance(table, list):
        raise ConfigError(f"--set {key}: {path.rpartition('.')[0]} is not a table", EXAMPLE)
    names = [str(row.get("name", "")) if isinstance(row, dict) else "" for row in table]
    if part in names:
        return table[names.index(part)]
    if part.isdecimal() and 1 <= int(part) <= len(table):
        return table[int(part) - 1]
    known = ", ".join(f"{place} ({name})" if name else f"{place}" for place, name in enumerate(names, 1))
    raise ConfigError(f"--set {key}: there is no {path}", f"there are {known}")
