"""The application: how every command ends, and the options that all of them have."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trustescalate import __version__
from trustescalate.cli.console import fail, say
from trustescalate.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_USAGE, TrustEscalateError

EXIT_CODES = """\
Exit codes: 0 passed · 1 measured breach · 2 usage, config or data · 3 not measurable (no certificate, it does
not fit, providers failing, partial run) · 4 budget reached, resumable · 70 internal error · 130 interrupted,
resumable. Every flag can be set in the environment: run --budget-usd is TRUSTESCALATE_RUN_BUDGET_USD."""


class Commands(TyperGroup):
    """All commands end the same way: an exit code that is documented, and never a breach by accident."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line. What the parser refuses, and a pipe that breaks under it, end here."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except typer.Abort:
            code = EXIT_INTERRUPTED
        except SystemExit as end:  # the parser answers a broken pipe with 1, which would be a breach
            code = EXIT_INTERNAL if end.code == 1 else end.code
        except Exception as error:
            code = _refused(error)
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn what it raises into `error: …`, `hint: …` and an exit code."""
        with _exit_codes(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    help="LLM judges with a proof: trust the cheap one where that is certified, escalate, abstain.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"auto_envvar_prefix": "TRUSTESCALATE", "help_option_names": ["-h", "--help"]},
)


GARBAGE = 100_000
"""Objects between two looks for dead cycles: looking costs, and modules and records live long."""


def main() -> None:
    """The console script."""
    gc.set_threshold(GARBAGE)
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal that cannot show ≥ is no reason to fail
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
            "--version",
            callback=_version,
            is_eager=True,
            allow_from_autoenv=False,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Options of all commands; `Commands.invoke` reads them."""


@contextmanager
def _exit_codes(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except TrustEscalateError as error:
        _trace(debug)
        raise typer.Exit(fail(error.message, error.hint, error.exit_code)) from None
    except KeyboardInterrupt:
        raise typer.Exit(fail("interrupted", "", EXIT_INTERRUPTED)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_INTERNAL) from None
    except Exception as error:
        if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
            raise
        _trace(debug)
        raise typer.Exit(_refused(error)) from None


def _refused(error: Exception) -> int:
    """What is wrong with a command line, a file system, or, failing that, with us."""
    explain: Callable[[], str] | None = getattr(error, "format_message", None)
    if explain is not None:
        context: Any = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            say(explain())
            return EXIT_USAGE
        hint = f"`{context.command_path} --help` lists what there is" if context else ""
        return fail(explain(), hint, EXIT_USAGE)
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        place = f"{error.filename}: " if error.filename else ""
        hint = "mend that and try again; what was recorded is kept"
        return fail(f"{place}{error.strerror}", hint, EXIT_USAGE)
    return fail(
        f"internal error: {type(error).__name__}: {error}",
        "this is a bug; run again with `trustescalate --debug …` and report what it prints",
        EXIT_INTERNAL,
    )


def _trace(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()
