"""What is said: data on stdout, talk on stderr, and nothing untrusted that a terminal would obey."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from trustescalate.records.progress import Progress
    from trustescalate.report.sections import Report


class Printable(Protocol):
    """What a command found, for a terminal and for --json."""

    def lines(self) -> list[str]:
        """For a terminal."""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""


def say(text: str) -> None:
    """A line of talk."""
    typer.echo(text, err=True)


def clean(text: str) -> str:
    """Text of unknown origin, so that a terminal only shows it."""
    from trustescalate.report.text import visible

    return visible(text)


def line(text: str) -> str:
    """The same, on one line."""
    from trustescalate.report.text import one_line

    return one_line(text)


def print_json(value: object) -> None:
    """Data for a program."""
    from json import dumps

    typer.echo(dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def show(found: Printable, *, json: bool) -> None:
    """What a command found, as text or JSON."""
    if json:
        print_json(found.as_dict())
        return
    for line in found.lines():
        typer.echo(clean(line))


def print_report(report: "Report") -> None:
    """The head of a report."""
    for banner in report.banners:
        typer.echo(f"! {clean(banner)}")
    head = "" if report.claim.startswith(report.headline) else f"{report.headline}. "
    typer.echo(f"{head}{clean(report.claim)}")
    if report.run_claim:
        typer.echo(clean(report.run_claim))
    if report.tested:
        typer.echo(f"This is {report.tested}.")
    if report.advice:
        typer.echo(f"What would help: {clean(report.advice)}")
    for key in report.key_figures:
        detail = key.detail or key.figure.note
        typer.echo(f"  {key.name:<28} {clean(key.figure.text):<10} {clean(detail)}")


def fail(message: str, hint: str, code: int) -> int:
    """Say what is wrong and what would help; returns `code`."""
    say(f"error: {clean(message)}")
    if hint:
        say(f"hint: {clean(hint)}")
    return code


@contextmanager
def progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal, a plain line every ten seconds elsewhere; both on stderr."""
    from trustescalate.cli.display import bar, lines

    with bar() if sys.stderr.isatty() else lines(say) as show:
        yield show
