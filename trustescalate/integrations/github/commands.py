"""Speak to a GitHub runner: masks, annotations, outputs and the step summary."""

import os
import secrets
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trustescalate.report.text import one_line, visible

LONGEST_MESSAGE = 1000
"""Characters of an annotation."""
SHORTEST_SECRET = 8
"""Characters from which on a value is replaced in texts: "none" is the key of many a local server."""


def log(text: str) -> None:
    """Print a line for the runner, at once: the order of commands and other output matters."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def escape_data(text: str) -> str:
    r"""Escape the message of a workflow command.

    >>> escape_data("100 %\n::error::forged")
    '100 %25%0A::error::forged'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape a property of a workflow command, such as a file name.

    >>> escape_property("a,b:c")
    'a%2Cb%3Ac'
    """
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def annotation(level: str, message: str, *, title: str = "", file: str = "", line: int = 0) -> str:
    """Make an annotation; `level` is "error", "warning" or "notice".

    >>> annotation("error", "too few", file="a b.toml", line=7)
    '::error file=a b.toml,line=7::too few'
    """
    given = {"file": file, "line": str(line) if file and line else "", "title": one_line(title)}
    properties = ",".join(f"{key}={escape_property(value)}" for key, value in given.items() if value)
    text = visible(message)
    text = text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} …"
    return f"::{level}{' ' * bool(properties)}{properties}::{escape_data(text)}"


def secret_values(config: Path, overrides: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of every variable that may hold a key: those that the file names, and those of providers.

    The file is read as it is, since one with an error may name a key too. The longest value comes first.
    """
    from trustescalate.config.trust import KNOWN_HOSTS

    names = {name for known in KNOWN_HOSTS.values() for name in known} | {"GITHUB_TOKEN"}
    with suppress(OSError, ValueError, RecursionError):
        names.update(_variables(tomllib.loads(config.read_text(encoding="utf-8"))))
    for key, _, value in (override.partition("=") for override in overrides):
        if key.strip().endswith("_env"):
            names.add(value.strip().strip("'\""))
    values = {environment.get(name, "").strip() for name in names} - {""}
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def _variables(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _variables(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _variables(inner, key)
    elif isinstance(value, str) and key.endswith("_env"):
        yield value


def print_masks(values: Sequence[str]) -> None:
    """Let the runner replace these values, and each of their lines, in its log."""
    for value in values:
        for text in dict.fromkeys([value, *filter(None, map(str.strip, value.splitlines()))]):
            log(f"::add-mask::{escape_data(text)}")


def without_secrets(text: str, values: Sequence[str]) -> str:
    """Replace what must stay out of files and comments, which no runner masks.

    >>> without_secrets("key sk-12345678 refused", ["sk-12345678"])
    'key *** refused'
    """
    for value in values:
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


@contextmanager
def no_commands() -> Iterator[None]:
    """Let the runner take nothing for a command that is printed within: it may quote untrusted text."""
    token = secrets.token_hex(16)
    log(f"::stop-commands::{token}")
    try:
        yield
    finally:
        sys.stderr.flush()
        log(f"\n::{token}::")


def write_outputs(outputs: Mapping[str, object], environment: Mapping[str, str] = os.environ) -> None:
    """Give later steps these values; a line of a value cannot forge another output."""
    mark = f"end_{secrets.token_hex(16)}"
    text = "".join(f"{name}<<{mark}\n{value}\n{mark}\n" for name, value in outputs.items())
    _append("GITHUB_OUTPUT", text, environment)


def write_summary(text: str, environment: Mapping[str, str] = os.environ) -> None:
    """Add Markdown to the summary of the step."""
    _append("GITHUB_STEP_SUMMARY", text + "\n", environment)


def _append(variable: str, text: str, environment: Mapping[str, str]) -> None:
    path = environment.get(variable, "")
    if path:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
