"""The command line: parse, call, print. Nothing here that a library user could need.

Everything heavy is imported where it is used, so that `--help` is instant. stdout is data, stderr is talk.
"""

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from trustescalate import __version__
from trustescalate.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, TrustEscalateError

if TYPE_CHECKING:
    from trustescalate.config import BudgetTable
    from trustescalate.project import Progress, Project
    from trustescalate.report.sections import Report

T = TypeVar("T")

EXIT_CODES = """\
Exit codes: 0 passed · 1 measured breach · 2 usage, config or data · 3 not measurable (no certificate, it does
not fit, providers failing, partial run) · 4 budget reached, resumable · 70 internal error · 130 interrupted,
resumable. Every flag can be set in the environment: run --budget-usd is TRUSTESCALATE_RUN_BUDGET_USD."""


class Commands(TyperGroup):
    """All commands end the same way: an exit code that is documented, and never a breach by accident."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn what it raises into `error: …`, `hint: …` and an exit code."""
        with _exit_codes(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands,
    help="LLM judges with a proof: trust the cheap one where that is certified, escalate, abstain.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"auto_envvar_prefix": "TRUSTESCALATE", "help_option_names": ["-h", "--help"]},
)

ConfigPath = Annotated[Path, typer.Option("--config", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunId = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id; the latest one by default.")]
BudgetUsd = Annotated[float | None, typer.Option(help="Stop before more than this is spent, in USD.")]
BudgetCalls = Annotated[int | None, typer.Option(help="Stop after this many paid calls.")]
CONFIG = Path("trustescalate.toml")


def main() -> None:
    """The console script."""
    app(prog_name="trustescalate")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all commands; `Commands.invoke` reads them."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to put trustescalate.toml.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a trustescalate.toml to start from. Nothing is overwritten."""
    from trustescalate.starter import write_starter

    path = write_starter(folder)
    _print_json({"config": str(path)}) if as_json else typer.echo(path)
    _say("next: bring items.jsonl and annotations.jsonl, edit the file, then `trustescalate check`")


@app.command()
def check(config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Read configuration and data, and say what would happen. Asks no judge, costs nothing."""
    from trustescalate.inspection import inspect_project

    found = inspect_project(_open(config))
    if as_json:
        _print_json(found.as_dict())
        return
    for name, value in found.facts:
        typer.echo(f"{name + ':':<24}{_clean(value)}")
    for warning in found.warnings:
        _say(f"warning: {_clean(warning)}")


@app.command()
def calibrate(
    config: ConfigPath = CONFIG,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    as_json: AsJson = False,
) -> None:
    """Let the judges vote on labelled rows and certify the cascade, or say why not (exit 3)."""
    from trustescalate.errors import EXIT_NOT_MEASURABLE
    from trustescalate.jsonl import to_python
    from trustescalate.report.facts import build_calibration

    with _progress() as show:
        project = _open(config, progress=show)
        certificate = _wait(project.calibrate(_budget(project, budget_usd, budget_calls)))
    if as_json:
        _print_json(to_python(certificate))
    else:
        _print_report(build_calibration(certificate))
        _say(f"written: {project.config.folder / 'certificate.json'}")
    if certificate.status == "none":
        raise typer.Exit(EXIT_NOT_MEASURABLE)


@app.command()
def run(
    config: ConfigPath = CONFIG,
    items: Annotated[
        Path | None, typer.Option(help="Items to judge; default: those nobody labelled.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help='Go on with a run; or "latest".')] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate calls, tokens, cost, time.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send unlabelled items through the certified cascade and record everything."""
    from trustescalate.jsonl import to_python
    from trustescalate.report.facts import build

    if dry_run:
        _rehearse(config, items, as_json)
        return
    with _progress() as show:
        project = _open(config, progress=show)
        result = _wait(
            project.run(
                items=items,
                resume=resume,
                budget=_budget(project, budget_usd, budget_calls),
                command=_command_line("run", config, items),
            )
        )
    report = build(result)
    if as_json:
        _print_json({"run": result.header.id, "measures": to_python(report.measures)})
    else:
        _print_report(report)
        _say(f"written: {project.run_path(result.header.id)}")
        _say("next: `trustescalate report`, `trustescalate gate`")


@app.command()
def report(run_id: RunId = None, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Write report.html, report.md and report.json of a run, or of the certificate where nothing was run."""
    made, path = _open(config).report(run_id)
    if as_json:
        typer.echo(path.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        _say(_clean(made.claim))
        typer.echo(path)


@app.command()
def gate(run_id: RunId = None, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Hold a run against [gate]: exit 0 passed, 1 measured breach, 3 not measurable. Offline, at no cost."""
    from trustescalate.jsonl import to_python

    verdict, path = _open(config).gate(run_id)
    if as_json:
        _print_json(to_python(verdict))
    else:
        for item in verdict.checks:
            typer.echo(
                f"{item.status:<10} {item.name}: {_clean(item.observed)} (asked: {_clean(item.required)})"
            )
        typer.echo(f"gate: {verdict.status}")
        _say(f"written: {path}")
    raise typer.Exit(verdict.exit_code)


@app.command()
def plan(
    alpha: Annotated[float, typer.Option(help="Disagreement that is allowed.")] = 0.15,
    delta: Annotated[float, typer.Option(help="Probability of a wrong certificate that is allowed.")] = 0.10,
    disagreement: Annotated[float, typer.Option(help="Your guess for verdicts that are released.")] = 0.08,
    coverage: Annotated[float, typer.Option(help="Your guess for the share that is released.")] = 0.7,
    overall: Annotated[float | None, typer.Option(help="Your guess for the best judge on all items.")] = None,
    as_json: AsJson = False,
) -> None:
    """How many labels? What a certificate needs, before anybody has labelled anything."""
    from trustescalate.inspection import plan_labels

    found = plan_labels(alpha, delta, disagreement, coverage, overall)
    if as_json:
        _print_json(found.as_dict())
    else:
        for line in found.lines():
            typer.echo(line)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")] = Path("trustescalate-demo"),
    as_json: AsJson = False,
) -> None:
    """The whole way in one go, offline, no key: certificate, run, report, gate. Simulated judges."""
    from trustescalate.jsonl import to_python
    from trustescalate.simulate import write_demo
    from trustescalate.starter import must_be_free

    must_be_free(folder)
    write_demo(folder)
    config = folder / "trustescalate.toml"
    with _progress() as show:
        project = _open(config, progress=show)
        _wait(project.calibrate())
        _wait(project.run(command=_command_line("run", config, None)))
    made, page = project.report()
    verdict, _ = project.gate()
    if as_json:
        _print_json({"report": str(page), "gate": verdict.status, "measures": to_python(made.measures)})
        return
    _print_report(made)
    typer.echo(f"gate: {verdict.status}")
    typer.echo(page)


@app.command()
def selftest(
    alpha: Annotated[float, typer.Option(help="Risk level of the promise.")] = 0.15,
    delta: Annotated[float, typer.Option(help="Failure probability of the promise.")] = 0.10,
    rows: Annotated[int, typer.Option(help="Certification rows in each trial.")] = 300,
    tiers: Annotated[int, typer.Option(min=1, max=3, help="Judges in the cascade.")] = 3,
    trials: Annotated[int, typer.Option(min=1, help="Certifications in each world.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the random generator.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Certify again and again in worlds whose truth is known, and count broken promises. Exit 1: too many."""
    from trustescalate.errors import EXIT_BREACH
    from trustescalate.inspection import self_test

    found = self_test(alpha, delta, rows, tiers, trials, seed)
    if as_json:
        _print_json(found.as_dict())
    else:
        for line in found.lines():
            typer.echo(line)
    if not found.holds:
        raise typer.Exit(EXIT_BREACH)


# ── talking ──────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _exit_codes(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except TrustEscalateError as error:
        _say(f"error: {_clean(error.message)}")
        if error.hint:
            _say(f"hint: {_clean(error.hint)}")
        _trace(debug)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        _say("interrupted; what was answered is kept. Go on with: trustescalate run --resume latest")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_INTERNAL) from None
    except (typer.TyperException, typer.Exit, typer.Abort):
        raise
    except Exception as error:
        _trace(debug)
        _say(f"error: internal error: {type(error).__name__}: {_clean(str(error))}")
        _say("hint: this is a bug; run again with `trustescalate --debug …` and report what it prints")
        raise typer.Exit(EXIT_INTERNAL) from None


def _trace(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _clean(text: str) -> str:
    from trustescalate.report.text import visible

    return visible(text)


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=True))


def _print_report(report: "Report") -> None:
    for banner in report.banners:
        typer.echo(f"! {_clean(banner)}")
    typer.echo(f"{report.headline}. {_clean(report.claim)}")
    if report.advice:
        typer.echo(f"What would help: {_clean(report.advice)}")
    for key in report.key_figures:
        detail = key.detail or key.figure.note
        typer.echo(f"  {key.name:<28} {_clean(key.figure.text):<10} {_clean(detail)}")


def _rehearse(config: Path, items: Path | None, as_json: bool) -> None:
    from trustescalate.inspection import rehearse

    found = _wait(rehearse(_open(config), items))
    if as_json:
        _print_json(found.as_dict())
        return
    for line in found.lines():
        typer.echo(_clean(line))


# ── calling ──────────────────────────────────────────────────────────────────────────────────────


def _open(config: Path, progress: "Callable[[Progress], None]" = lambda _: None) -> "Project":
    from trustescalate.project import Project

    return Project.open(config, notice=lambda text: _say(f"note: {_clean(text)}"), progress=progress)


def _wait(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


def _budget(project: "Project", usd: float | None, calls: int | None) -> "BudgetTable":
    given = {key: value for key, value in (("usd", usd), ("calls", calls)) if value is not None}
    return project.config.budget.model_copy(update=given)


def _command_line(command: str, config: Path, items: Path | None) -> list[str]:
    flags = [] if items is None else ["--items", str(items)]
    return ["trustescalate", command, "--config", str(config), *flags]


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal, a plain line every ten seconds elsewhere; both on stderr."""
    from trustescalate.display import bar, lines

    with bar() if sys.stderr.isatty() else lines(_say) as show:
        yield show
