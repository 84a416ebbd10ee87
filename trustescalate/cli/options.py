"""Arguments that several commands share, and how a command reaches the project."""

import shlex
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from trustescalate.cli.console import clean, fail, say
from trustescalate.errors import EXIT_INTERRUPTED, BudgetReached, ProviderError

if TYPE_CHECKING:
    from trustescalate.config import BudgetTable
    from trustescalate.project import Project
    from trustescalate.records.progress import Progress

T = TypeVar("T")
ConfigPath = Annotated[Path, typer.Option("--config", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunId = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id; the latest one by default.")]
CONFIG = Path("trustescalate.toml")


def above_zero(value: float | None) -> float | None:
    """Refuse what is not above 0, or infinite."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is not above 0")
    return value


def level(value: float | None) -> float | None:
    """Refuse what does not lie strictly between 0 and 1."""
    if value is not None and not 1e-6 <= value <= 1 - 1e-6:
        raise typer.BadParameter(f"{value:g} does not lie strictly between 0 and 1")
    return value


def share(value: float | None) -> float | None:
    """Refuse what does not lie between 0 and 1, ends included."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} does not lie between 0 and 1")
    return value


BudgetUsd = Annotated[
    float | None, typer.Option(callback=above_zero, help="Stop before more than this is spent, in USD.")
]
BudgetCalls = Annotated[int | None, typer.Option(min=1, help="Stop after this many paid calls.")]


def open_project(config: Path, progress: "Callable[[Progress], None]" = lambda _: None) -> "Project":
    """The project of a configuration file, its notices on stderr."""
    from trustescalate.project import Project

    return Project.open(config, notice=lambda text: say(f"note: {clean(text)}"), progress=progress)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work to its end."""
    import asyncio

    return asyncio.run(work)


def budget_of(project: "Project", usd: float | None, calls: int | None) -> "BudgetTable":
    """[budget], with what the command line says in its place."""
    given = {key: value for key, value in (("usd", usd), ("calls", calls)) if value is not None}
    return project.config.budget.model_copy(update=given)


def command_line(name: str, config: Path, *rest: str) -> list[str]:
    """A command line, as it would be typed."""
    given = [] if config == CONFIG else ["--config", str(config)]
    return ["trustescalate", name, *given, *rest]


@contextmanager
def resumable(go_on: Callable[[], list[str]]) -> Iterator[None]:
    """Where work that was paid for is kept, say with which command it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        hint = f"go on with `{shlex.join(go_on())}`"
        raise typer.Exit(fail("interrupted; what was answered is kept", hint, EXIT_INTERRUPTED)) from None
    except (BudgetReached, ProviderError) as error:
        error.hint = f"{error.hint}; then go on with `{shlex.join(go_on())}`"
        raise
