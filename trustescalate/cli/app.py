"""Build the application: help panels, renamed commands, exit codes, and global options."""

import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from io import TextIOWrapper
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from trustescalate import __version__
from trustescalate.cli.console import fail, say
from trustescalate.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    TrustEscalateError,
    UsageError,
    explained,
)

EXIT_CODES = """\
Exit codes: 0 passed · 1 measured breach · 2 usage, config or data · 3 not measurable (no certificate, it does
not fit, providers failing, partial run) · 4 budget reached, resumable · 70 internal error · 130 interrupted,
resumable. Every option can be set in the environment: run --budget-usd is TRUSTESCALATE_RUN_BUDGET_USD."""

PANELS: Mapping[str, tuple[str, ...]] = {
    "Start": ("init", "import", "check", "demo", "skill"),
    "Certify": ("plan", "tune", "calibrate"),
    "Run and gate": ("run", "merge", "report", "gate", "compare", "monitor"),
    "People": ("label", "export"),
    "Judges": ("judges",),
}
"""The commands in the order in which help lists them."""

MOVED_COMMANDS: Mapping[str, str] = {
    "band": "trustescalate report --alpha 0.2",
    "estimators": "trustescalate tune",
    "leaderboard": "trustescalate report",
    "paths": "trustescalate tune",
    "probe": "trustescalate judges probe",
    "reparse": "trustescalate judges reparse",
    "selftest": "python -m trustescalate.analysis.self_test",
    "split": "trustescalate check --write-roles",
}
"""The replacement of each removed command."""

MOVED_OPTIONS: Mapping[tuple[str, str], str] = {
    ("plan", "--pilot"): "leave it out: `trustescalate plan` reads recorded votes if there are any",
    ("run", "--fresh"): "`--fresh` is now `--no-cache`",
}
"""The replacement of each removed option, by command and option."""

Function = TypeVar("Function", bound=Callable[..., None])


Trust = Annotated[
    bool, typer.Option("--trust", help="Use the hosts, variables, files and code that the project names.")
]
TRUSTED: ContextVar[bool] = ContextVar("TRUSTED", default=False)
"""Whether --trust was given to the command that runs."""


class Command(TyperCommand):
    """A command whose options read the variables TRUSTESCALATE_<COMMAND>_<OPTION>.

    That of --trust is TRUSTESCALATE_TRUST for all commands.
    """

    def misused(self, words: list[str], error: str) -> None:
        """Handle a command line that cannot be parsed, before its error is shown."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name each option's variable, then parse. Raises UsageError for a variable that is empty."""
        words = list(args)
        try:
            return self._parse(ctx, args)
        except Exception as error:
            if not isinstance(error, typer.Exit | typer.Abort):
                self.misused(words, getattr(error, "format_message", error.__str__)())
            raise

    def _parse(self, ctx: Any, args: list[str]) -> list[str]:
        for option in self.params:
            if option.opts == ["--trust"]:
                option.envvar = "TRUSTESCALATE_TRUST"
            elif option.param_type_name == "option":
                name = max(option.opts, key=len).removeprefix("--").replace("-", "_").upper()
                option.envvar = f"{ctx.auto_envvar_prefix}_{name}"
                if os.environ.get(option.envvar) == "" and not getattr(option, "is_flag", False):
                    raise UsageError(f"the variable {option.envvar} is empty", "give it a value, or unset it")
        return super().parse_args(ctx, args)


class Commands(TyperGroup):
    """The group of all commands; each ends with a documented exit code, and no error looks like a breach."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List the commands in their panels, as plain text: rich panels would double the time of --help."""
        width = max(map(len, self.commands))
        for panel, names in PANELS.items():
            room = formatter.width - 6 - width
            rows = [(f"{name:<{width}}", self.commands[name].get_short_help_str(room)) for name in names]
            with formatter.section(panel):
                formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command. Raises UsageError that names the replacement of a removed command."""
        if args and args[0] in MOVED_COMMANDS:
            moved = MOVED_COMMANDS[args[0]]
            raise UsageError(f"the command {args[0]!r} was removed", f"use `{moved}`")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line; handle errors of the parser and broken pipes."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except typer.Abort:
            code = EXIT_INTERRUPTED
        except SystemExit as end:  # the parser exits with 1 after a broken pipe, which would mean a breach
            code = EXIT_INTERNAL if end.code == 1 else end.code
        except Exception as error:
            code = _report_error(error)
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn an exception into `error: …`, `hint: …` and an exit code."""
        with _exit_codes(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    help="Certify LLM judges: accept the cheap judge where certified, escalate the rest, abstain.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"auto_envvar_prefix": "TRUSTESCALATE", "help_option_names": ["-h", "--help"]},
)


GARBAGE = 100_000
"""Allocations between two garbage collections: few objects die young, so frequent ones waste time."""


def freeze_objects() -> None:
    """Leave all that was imported and read out of garbage collections, each of which holds up all requests.

    In the console script only: in the process of another program, garbage of this moment would stay.
    """
    if gc.get_threshold()[0] == GARBAGE:
        gc.freeze()


def command(
    parent: typer.Typer, name: str, example: str, kind: type[Command] = Command
) -> Callable[[Function], Function]:
    """Register a command whose help ends with an example; one that takes a configuration gets --trust."""

    def register(function: Function) -> Function:
        taken = _with_trust(function) if "config" in function.__annotations__ else function
        parent.command(name, cls=kind, epilog=f"Example: trustescalate {example}")(taken)
        return function

    return register


def _with_trust(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def run(*args: Any, trust: bool, **options: Any) -> None:
        TRUSTED.set(trust)
        function(*args, **options)

    signature = inspect.signature(function)
    own = inspect.Parameter("trust", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Trust)
    run.__annotations__ = {**function.__annotations__, "trust": Trust}
    run.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), own])
    return run


def main() -> None:
    """The console script."""
    gc.set_threshold(GARBAGE)
    if isinstance(sys.stdout, TextIOWrapper):  # print on a terminal that cannot show ≥
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="trustescalate")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, allow_from_autoenv=False, help="Print the version."
        ),
    ] = False,
) -> None:
    """Declare the global options; `Commands.invoke` reads them."""


@contextmanager
def _exit_codes(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except TrustEscalateError as error:
        _print_traceback(debug)
        raise typer.Exit(fail(*explained(error))) from None
    except KeyboardInterrupt as stop:
        hint = "; ".join(getattr(stop, "__notes__", ()))  # of `resumable`
        message = "interrupted; all answers so far are kept" if hint else "interrupted"
        raise typer.Exit(fail(message, hint, EXIT_INTERRUPTED)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_INTERNAL) from None
    except Exception as error:
        if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
            raise
        _print_traceback(debug)
        raise typer.Exit(_report_error(error)) from None


def _report_error(error: Exception) -> int:
    """Report a usage error, a file system error or an internal error; return the exit code."""
    explain: Callable[[], str] | None = getattr(error, "format_message", None)
    if explain is not None:
        context: Any = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            say(explain())
            return EXIT_USAGE
        hint = f"`{context.command_path} --help` lists commands and options" if context else ""
        if context is not None:
            old = (context.command.name, getattr(error, "option_name", ""))
            hint = MOVED_OPTIONS.get(old, hint)
        return fail(explain(), hint, EXIT_USAGE)
    return fail(*explained(error))


def _print_traceback(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()
