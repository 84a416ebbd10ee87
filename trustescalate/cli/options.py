"""Define the options that several commands share, and open the project of a command line."""

import shlex
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from trustescalate.cli.app import TRUSTED, freeze_objects
from trustescalate.cli.console import clean, say
from trustescalate.errors import BudgetReached, ConfigError, ProviderError, UsageError

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
Batch = Annotated[
    bool,
    typer.Option("--batch", help="Use the Batch API: an answer within a day per tier, at half the price."),
]
FinishLive = Annotated[
    bool,
    typer.Option("--finish-live", help="With --batch: send what the batch left unanswered to the live API."),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="ENGINE", help="Reach the models from this process, or by Ray: local, ray."
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help='With --engine ray: use this cluster, "host:port" or auto.'),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate calls, tokens, cost and time; make no model calls.")
]


def above_zero(value: float | None) -> float | None:
    """Refuse a value that is not above 0 and finite."""
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is not above 0")
    return value


def level(value: float | None) -> float | None:
    """Refuse a value that does not lie strictly between 0 and 1."""
    if value is not None and not 1e-6 <= value <= 1 - 1e-6:
        raise typer.BadParameter(f"{value:g} does not lie strictly between 0 and 1")
    return value


def levels(values: list[float] | None) -> list[float] | None:
    """Refuse a list with a value that `level` refuses."""
    for value in values or ():
        level(value)
    return values


def share(value: float | None) -> float | None:
    """Refuse a value outside [0, 1]."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} does not lie between 0 and 1")
    return value


def thresholds(values: list[str] | None) -> list[str] | None:
    """Refuse a value that is not JUDGE=SCORE with a score in [0, 1]."""
    named = [text.rpartition("=")[0] for text in values or ()]
    for name, text in zip(named, values or (), strict=True):
        try:
            score = float(text.rpartition("=")[2])
        except ValueError:
            score = -1.0
        if not name or not 0 <= score <= 1:
            raise typer.BadParameter(f"{text} is not JUDGE=SCORE with a score between 0 and 1")
        if named.count(name) > 1:
            raise typer.BadParameter(f"{name} has two thresholds")
    return values


BudgetUsd = Annotated[
    float | None, typer.Option(callback=above_zero, help="Stop before spending more than this, in USD.")
]
BudgetCalls = Annotated[int | None, typer.Option(min=1, help="Stop after this many paid calls.")]


def open_project(
    config: Path, overrides: Sequence[str] | None, progress: "Callable[[Progress], None]" = lambda _: None
) -> "Project":
    """Open the project of a configuration file; print its notices on stderr."""
    from trustescalate.project import Project
    from trustescalate.records.progress import Hooks

    def before_asking() -> None:
        must_be_trusted(config, overrides, asking=True)
        freeze_objects()

    hooks = Hooks(
        notice=lambda text: say(f"note: {clean(text)}"), progress=progress, before_asking=before_asking
    )
    project = Project.open(config, hooks, overrides=overrides or ())
    must_be_trusted(config, overrides, asking=False)
    return project


def must_be_trusted(config: Path, overrides: Sequence[str] | None, *, asking: bool) -> None:
    """Ask once whether what a project names beyond itself may be used; without a terminal, refuse it.

    `asking`: judges are about to be asked. What --set names is the user's own.
    """
    from trustescalate.config import load_config, needs_trust
    from trustescalate.config.trust import is_trusted, remember

    opened = load_config(config, overrides or ())
    things = needs_trust(opened)
    if overrides and things:
        with suppress(ConfigError):
            in_file = needs_trust(load_config(config))
            things = tuple(thing for thing in things if thing in in_file)
    if not any(asking or thing.used_by == "any" for thing in things) or is_trusted(opened.folder, things):
        return
    listing = "\n  ".join([f"{config} names what needs your trust:", *(thing.what for thing in things)])
    if not TRUSTED.get():
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(listing, "read it, then add --trust, or set TRUSTESCALATE_TRUST=1")
        say(clean(listing))
        if not typer.confirm("Use all of this?", err=True):
            raise UsageError("the project is not trusted", "change the configuration, or add --trust")
    remember(opened.folder, things)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    import asyncio

    return asyncio.run(work)


def budget_of(project: "Project", usd: float | None, calls: int | None) -> "BudgetTable":
    """Return [budget], overridden by the limits of the command line."""
    given = {key: value for key, value in (("usd", usd), ("calls", calls)) if value is not None}
    return project.config.budget.model_copy(update=given)


def command_line(name: str, config: Path, overrides: Sequence[str] | None, *rest: str) -> list[str]:
    """Return the words of a command line; `name` may be two words."""
    from trustescalate.config.override import command_options

    return ["trustescalate", *name.split(), *command_options(config, overrides or ()), *rest]


@contextmanager
def resumable(resume: Callable[[], list[str]]) -> Iterator[None]:
    """Add the command that resumes the work to what interrupted it; it is printed once the progress ended."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(f"resume with `{shlex.join(resume())}`")
        raise
    except (BudgetReached, ProviderError) as error:
        error.hint = f"{error.hint}; then resume with `{shlex.join(resume())}`"
        raise


def engine_flags(engine: str, address: str | None) -> list[str]:
    """Return the engine options of a command line."""
    named = [] if address is None else ["--address", address]
    return named if engine == "local" else ["--engine", engine, *named]


def batch_flags(batch: bool, finish_live: bool) -> list[str]:
    """Return the batch options of a command line. Raises UsageError for --finish-live without --batch."""
    if finish_live and not batch:
        raise UsageError("--finish-live needs --batch", "add --batch")
    return [*(["--batch"] if batch else []), *(["--finish-live"] if finish_live else [])]


def must_stand_alone(option: str, *others: object) -> None:
    """Raise UsageError where an option stands beside others that it makes meaningless."""
    if any(other is not None for other in others):
        raise UsageError(f"{option} plans a run, and no labels", f"leave out {option}, or the other options")
