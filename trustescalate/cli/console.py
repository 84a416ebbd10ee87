"""Print data on stdout and messages on stderr, with control characters of untrusted text made visible."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from trustescalate.records.progress import Progress
    from trustescalate.report.gate import Verdict
    from trustescalate.report.sections import Page
    from trustescalate.report.terminal import Screen


class Printable(Protocol):
    """The result of a command, for a terminal and for --json."""

    def lines(self) -> list[str]:
        """For a terminal."""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""


_LIVE: "list[Console]" = []
"""The console of the live panel, above which messages are printed."""


def say(text: str) -> None:
    """Print a message on stderr."""
    if _LIVE:
        _LIVE[-1].print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        typer.echo(text, err=True)


def clean(text: str) -> str:
    """Make control characters of untrusted text visible."""
    from trustescalate.report.text import visible

    return visible(text)


def line(text: str) -> str:
    """Make control characters of untrusted text visible, on one line."""
    from trustescalate.report.text import one_line

    return one_line(text)


def print_json(value: object) -> None:
    """Print JSON on stdout."""
    from json import dumps

    typer.echo(dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> None:
    """Print a table; `align` holds "<" or ">" for each column."""
    from trustescalate.report.terminal import table_lines

    for text in table_lines(titles, rows, align):
        typer.echo(text)


def show(result: Printable, *, json: bool) -> None:
    """Print the result of a command, as text or JSON."""
    if json:
        print_json(result.as_dict())
        return
    for text in result.lines():
        typer.echo(clean(text))


def screen(stream: TextIO) -> "Screen":
    """What a stream shows: its terminal's columns and colour; 80 columns without colour elsewhere."""
    from trustescalate.report.terminal import Screen

    given = os.environ.get("COLUMNS", "")
    width, on_terminal = int(given) if given.isdecimal() else 0, stream.isatty()
    if not width and on_terminal:
        with suppress(OSError):
            width = os.get_terminal_size(stream.fileno()).columns
    colour = on_terminal and not os.environ.get("NO_COLOR") and not is_dumb()
    return Screen(width or 80, colour, getattr(stream, "encoding", None) or "utf-8")


def is_dumb() -> bool:
    """Whether the terminal moves no cursor and shows no colour."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def print_page(page: "Page", written: object = None, *, apart: bool = False) -> None:
    """Print the first screen on stdout, then on stderr what was written and the next commands.

    `apart`: stdout gets `written` alone, and stderr the rest.
    """
    from trustescalate.report.terminal import next_lines, page_lines

    for text in (*page_lines(page, screen(sys.stderr if apart else sys.stdout)), ""):
        typer.echo(text, err=apart)
    if written is not None:
        typer.echo(written) if apart else say(f"written: {written}")
    for text in next_lines(page):
        say(text)


def print_gate(verdict: "Verdict") -> None:
    """Print the outcome of a gate, then its checks."""
    from trustescalate.report.terminal import gate_lines

    for text in gate_lines(verdict.status, verdict.checks, screen(sys.stdout)):
        typer.echo(text)


def fail(message: str, hint: str, code: int) -> int:
    """Print an error and its hint; return `code`."""
    say(f"error: {clean(message)}")
    if hint:
        say(f"hint: {clean(hint)}")
    return code


@contextmanager
def progress() -> "Iterator[Callable[[Progress], None]]":
    """Show progress on stderr: a live panel on a terminal, a line every ten seconds elsewhere."""
    from rich.console import Console

    from trustescalate.cli.display import lines, panel

    if not sys.stderr.isatty() or is_dumb():
        with lines(say) as show:
            yield show
        return
    console = Console(stderr=True)
    _LIVE.append(console)
    try:
        with panel(console) as show:
            yield show
    finally:
        _LIVE.remove(console)
