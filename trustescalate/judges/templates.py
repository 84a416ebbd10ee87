"""Read, check and fill prompt files; `judges.prompts` provides the fields.

A file has a head of comments, then `=== system ===` and `=== user ===`. A field is a name in braces; other
braces are text. Filled values are not searched for fields, and nothing is executed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

from trustescalate.errors import ConfigError, UsageError
from trustescalate.records import MODES, Mode
from trustescalate.records.bounded import read_text

PARTS = ("system", "user")
SYSTEM_FIELDS = ("question", "rubric", "criteria", "legend", "symbols")
USER_FIELDS = ("material", "nonce", "symbols")
NONCED: frozenset[Mode] = frozenset({"reason", "stated"})
"""Modes with a verdict line that holds the nonce of its message."""
HINT = "`trustescalate init --prompts` writes the shipped ones, to start from"

_FIELD = re.compile(r"\{([a-z_]+)\}")
_PART = re.compile(r"=== (\w+) ===")


@dataclass(frozen=True, slots=True)
class Wording:
    """The two texts of a prompt file, with unfilled fields, and their source."""

    system: str
    user: str
    source: str = ""


def shipped(mode: Mode, *, several: bool = False) -> str:
    """The text of the shipped file, for one verdict or for a verdict on each of several criteria."""
    name = f"criteria_{mode}.txt" if several else f"{mode}.txt"
    return (files("trustescalate.judges") / "wordings" / name).read_text(encoding="utf-8")


def read_wording(
    path: Path | None, mode: Mode, needed: Sequence[str] = (), *, several: bool = False
) -> Wording:
    """Read the wording in a file, or the shipped one. `needed` are fields that the task provides.

    A wording for `several` criteria needs {criteria}, one for one verdict {question} and {symbols}.

    Raises ConfigError, with file and line, for an invalid file, or a field that is unknown or missing.
    """
    if path is None:
        text, source = shipped(mode, several=several), f"{mode}.txt"
        return parse_wording(text, mode, source, needed, several=several)
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", HINT) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start + 1}", "save it as UTF-8") from None
    return parse_wording(text, mode, str(path), needed, several=several)


def parse_wording(
    text: str, mode: Mode, source: str, needed: Sequence[str] = (), *, several: bool = False
) -> Wording:
    """Parse a prompt file.

    >>> parse_wording("=== system ===\\n{question} {symbols}\\n=== user ===\\n{material}", "direct", "x").user
    '{material}'
    >>> parse_wording("=== system ===\\n{question} {symbols}\\n=== user ===\\nhi", "direct", "x.txt")
    Traceback (most recent call last):
    trustescalate.errors.ConfigError: x.txt:3: the user part needs {material}
    """
    heads: dict[str, int] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        part = _PART.fullmatch(line.rstrip())
        if part is not None:
            if part[1] not in PARTS or part[1] in heads:
                _refuse(source, number, f"{part[0]} is unknown, or there twice")
            heads[part[1]] = number
        elif not heads and line.strip() and not line.startswith("#"):
            _refuse(source, number, "before === system === only comments may stand, lines that begin with #")
    if tuple(heads) != PARTS:
        _refuse(source, max(1, len(lines)), "needs the lines === system === and, after it, === user ===")
    system = lines[heads["system"] : heads["user"] - 1]
    user = lines[heads["user"] :]
    asked = ("criteria",) if several else ("question", "symbols")
    wants = {"system": (*asked, *needed), "user": ("material", *["nonce"] * (mode in NONCED))}
    _check(source, heads["system"], "system", system, SYSTEM_FIELDS, wants["system"])
    _check(source, heads["user"], "user", user, USER_FIELDS, wants["user"])
    return Wording("\n".join(system).strip("\n"), "\n".join(user).strip("\n"), source)


def fill(text: str, fields: Mapping[str, str]) -> str:
    """Fill all fields in one pass; a line that consists of one empty field is left out.

    >>> fill("{a}\\n{b}\\n{a} {b}", {"a": "", "b": "{a}"})
    '{a}\\n {a}'
    """
    kept = [line for line in text.split("\n") if not _is_empty(line, fields)]
    return _FIELD.sub(lambda match: fields.get(match[1], match[0]), "\n".join(kept))


def write_wordings(folder: Path) -> list[Path]:
    """Write the shipped files for editing. Raises UsageError where one of them is there already."""
    paths = [folder / f"{mode}.txt" for mode in MODES]
    there = [path for path in paths if path.exists()]
    if there:
        raise UsageError(f"{there[0]} exists already", "edit it, or remove it to get the shipped one again")
    folder.mkdir(parents=True, exist_ok=True)
    for mode, path in zip(MODES, paths, strict=True):
        path.write_text(shipped(mode), encoding="utf-8")
    return paths


def _is_empty(line: str, fields: Mapping[str, str]) -> bool:
    alone = _FIELD.fullmatch(line)
    return alone is not None and fields.get(alone[1]) == ""


def _check(
    source: str, start: int, part: str, lines: Sequence[str], known: Sequence[str], needed: Sequence[str]
) -> None:
    used = [(number, name) for number, line in enumerate(lines, start + 1) for name in _FIELD.findall(line)]
    for number, name in used:
        if name not in known:
            fields = ", ".join(f"{{{field}}}" for field in known)
            _refuse(source, number, f"unknown field {{{name}}}; the {part} part has {fields}")
    for name in needed:
        if name not in {field for _, field in used}:
            _refuse(source, start, f"the {part} part needs {{{name}}}")


def _refuse(source: str, line: int, what: str) -> NoReturn:
    raise ConfigError(f"{source}:{line}: {what}", HINT)


def write_prompts(folder: Path) -> list[Path]:
    """Write the shipped prompt files into `folder`/prompts. Raises UsageError where one is there already."""
    return write_wordings(folder / "prompts")
