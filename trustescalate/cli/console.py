"""Print data on stdout and messages on stderr, with control characters of untrusted text made visible."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from trustescalate.records.progress import Progress
    from trustescalate.report.sections import Report


class Printable(Protocol):
    """The result of a command, for a terminal and for --json."""

    def lines(self) -> list[str]:
        """For a terminal."""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""


def say(text: str) -> None:
    """Print a message on stderr."""
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


def print_report(report: "Report") -> None:
    """Print the claims and key figures of a report."""
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
    """Print an error and its hint; return `code`."""
    say(f"error: {clean(message)}")
    if hint:
        say(f"hint: {clean(hint)}")
    return code


@contextmanager
def progress() -> "Iterator[Callable[[Progress], None]]":
    """Show progress on stderr: a bar on a terminal, a line every ten seconds elsewhere."""
    from trustescalate.cli.display import bar, lines

    with bar() if sys.stderr.isatty() else lines(say) as show:
        yield show
