"""A table of replies (replies.txt): what a judge concludes is read, in the marks and languages of common
models, and what it does not conclude is not."""

import re
from pathlib import Path

import pytest

from trustescalate.judges.reply_parsing import read_verdict
from trustescalate.records import Mode, Reply, Usage

CODE = "0123456789abcdef"


def table() -> tuple[list[str], list[str]]:
    """The replies that conclude A, and those that conclude nothing."""
    text = (Path(__file__).parent / "replies.txt").read_text(encoding="utf-8")
    first, second = (part.splitlines()[1:] for part in text.split("\n\n"))
    return [_unescaped(line) for line in first], [_unescaped(line) for line in second]


def _unescaped(line: str) -> str:
    line = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), line)
    return line.replace("\\n", "\n")


def says(
    text: str, symbols: tuple[str, ...] = ("A", "B"), mode: Mode = "direct", finish: str = "stop"
) -> str:
    """The symbol that is read, or the failure."""
    reply = Reply(text, None, finish, Usage())  # type: ignore[arg-type]
    found = read_verdict(reply, symbols, mode=mode, nonce=CODE)
    return found.failure or symbols[found.probs.index(max(found.probs))]


HONEST, DISHONEST = table()


def test_the_table_is_long() -> None:
    assert len(HONEST) >= 200
    assert len(DISHONEST) >= 200


@pytest.mark.parametrize("text", HONEST)
def test_what_is_concluded_is_read(text: str) -> None:
    assert says(text) == "A"


@pytest.mark.parametrize("text", DISHONEST)
def test_what_is_not_concluded_is_not_read(text: str) -> None:
    assert says(text) not in ("A", "B")
