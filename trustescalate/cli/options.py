"""Options that several commands share, and the project that a command line names."""

import shlex
from collections.abc import Callable, Coroutine, Iterator, Sequence
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
ConfigPath = Annotated[Path, typer.Option("--config", help="Name the configuration file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key, such as guarantee.alpha=0.2; may be repeated."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunId = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id; default: the latest run.")]
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


def levels(values: list[float] | None) -> list[float] | None:
    """Refuse any value that `level` refuses."""
    for value in values or ():
        level(value)
    return values


def share(value: float | None) -> float | None:
    """Refuse what does not lie between 0 and 1, ends included."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} does not lie between 0 and 1")
    return value


BudgetUsd = Annotated[
    float | None, typer.Option(callback=above_zero, help="Stop before spending more than this, in USD.")
]
BudgetCalls = Annotated[int | None, typer.Option(min=1, help="Stop after this many paid calls.")]


def open_project(
    config: Path,
    overrides: Sequence[str] | None,
    progress: "Callable[[Progress], None]" = lambda _: None,
) -> "Project":
    """Open the project of a configuration file, its notices on stderr."""
    from trustescalate.project import Project
    from trustescalate.records.progress import Hooks

    hooks = Hooks(notice=lambda text: say(f"note: {clean(text)}"), progress=progress)
    return Project.open(config, hooks, overrides=overrides or ())


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work to its end."""
    import asyncio

    return asyncio.run(work)


def budget_of(project: "Project", usd: float | None, calls: int | None) -> "BudgetTable":
    """Read [budget], with the limits of the command line in its place."""
    given = {key: value for key, value in (("usd", usd), ("calls", calls)) if value is not None}
    return project.config.budget.model_copy(update=given)


def command_line(name: str, config: Path, overrides: Sequence[str] | None, *rest: str) -> list[str]:
    """Write a command line as it would be typed; `name` may be two words."""
    given = [] if config == CONFIG else ["--config", str(config)]
    given += [part for override in overrides or () for part in ("--set", override)]
    return ["trustescalate", *name.split(), *given, *rest]


@contextmanager
def resumable(go_on: Callable[[], list[str]]) -> Iterator[None]:
    """Add the command that resumes the work to whatever interrupts it."""
    try:
        yield
    except KeyboardInterrupt:
        hint = f"go on with `{shlex.join(go_on())}`"
        raise typer.Exit(fail("interrupted; what was answered is kept", hint, EXIT_INTERRUPTED)) from None
    except (BudgetReached, ProviderError) as error:
        error.hint = f"{error.hint}; then go on with `{shlex.join(go_on())}`"
        raise
