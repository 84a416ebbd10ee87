"""The command line: parse, call, print. Nothing here that a library user could need.

Everything heavy is imported where it is used, so that `--help` is instant. stdout is data, stderr is talk.
"""

import os
import shlex
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer
from typer.core import TyperGroup

from trustescalate import __version__
from trustescalate.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    BudgetReached,
    ProviderError,
    TrustEscalateError,
    UsageError,
)

if TYPE_CHECKING:
    from trustescalate.config import BudgetTable
    from trustescalate.project import Progress, Project
    from trustescalate.report.sections import Report

T = TypeVar("T")


class Printable(Protocol):
    """What a command found, for a terminal and for --json."""

    def lines(self) -> list[str]:
        """For a terminal."""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""


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

ConfigPath = Annotated[Path, typer.Option("--config", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RunId = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's id; the latest one by default.")]
CONFIG = Path("trustescalate.toml")


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal that cannot show ≥ is no reason to fail
        sys.stdout.reconfigure(errors="backslashreplace")
    app(prog_name="trustescalate")


def _above_zero(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is not above 0")
    return value


def _level(value: float | None) -> float | None:
    if value is not None and not 1e-6 <= value <= 1 - 1e-6:
        raise typer.BadParameter(f"{value:g} does not lie strictly between 0 and 1")
    return value


def _share(value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value:g} does not lie between 0 and 1")
    return value


BudgetUsd = Annotated[
    float | None, typer.Option(callback=_above_zero, help="Stop before more than this is spent, in USD.")
]
BudgetCalls = Annotated[int | None, typer.Option(min=1, help="Stop after this many paid calls.")]


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


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to put trustescalate.toml.")] = Path(),
    json: AsJson = False,
) -> None:
    """Write a trustescalate.toml to start from. Nothing is overwritten."""
    from trustescalate.starter import write_starter

    path = write_starter(folder)
    _print_json({"config": str(path)}) if json else typer.echo(path)
    _say("next: bring items.jsonl and annotations.jsonl, edit the file, then `trustescalate check`")


@app.command()
def check(config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Read configuration and data, and say what would happen. Asks no judge, costs nothing."""
    from trustescalate.inspection import inspect_project

    found = inspect_project(_open(config))
    if json:
        _print_json(found.as_dict())
        return
    for name, value in found.facts:
        typer.echo(f"{name + ':':<24}{_line(value)}")
    for warning in found.warnings:
        _say(f"warning: {_line(warning)}")


@app.command()
def calibrate(
    config: ConfigPath = CONFIG,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    json: AsJson = False,
) -> None:
    """Let the judges vote on labelled rows and certify the cascade, or say why not (exit 3)."""
    from trustescalate.errors import EXIT_NOT_MEASURABLE
    from trustescalate.jsonl import to_python
    from trustescalate.report.facts import build_calibration

    with _progress() as show:
        project = _open(config, progress=show)
        with _resumable(lambda: _command("calibrate", config)):
            certificate = _wait(project.calibrate(_budget(project, budget_usd, budget_calls)))
    if json:
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
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what was answered before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate calls, tokens, cost, time.")] = False,
    json: AsJson = False,
) -> None:
    """Send unlabelled items through the certified cascade and record everything."""
    from trustescalate.jsonl import to_python
    from trustescalate.report.facts import build

    if dry_run and resume:
        raise UsageError("a dry run resumes nothing", "leave out --dry-run or --resume")
    if dry_run:
        _rehearse(config, items, json=json)
        return
    asked_again = ["--fresh"] if fresh else []
    command = _command("run", config, *asked_again, *([] if items is None else ["--items", str(items)]))
    with _progress() as show:
        project = _open(config, progress=show)
        known = project.run_ids()

        def go_on() -> list[str]:
            begun = [resume] if resume else [run_id for run_id in project.run_ids() if run_id not in known]
            return _command("run", config, *asked_again, "--resume", begun[-1]) if begun else command

        with _resumable(go_on):
            result = _wait(
                project.run(
                    items=items,
                    resume=resume,
                    budget=_budget(project, budget_usd, budget_calls),
                    fresh=fresh,
                    command=command,
                )
            )
    report = build(result)
    if json:
        _print_json({"run": result.header.id, "measures": to_python(report.measures)})
    else:
        _print_report(report)
        _say(f"written: {project.run_path(result.header.id)}")
        _say(f"next: `{shlex.join(_command('report', config))}`, `{shlex.join(_command('gate', config))}`")


@app.command()
def report(run_id: RunId = None, config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Write report.html, report.md and report.json of a run, or of the certificate where nothing was run."""
    made, path = _open(config).report(run_id)
    if json:
        typer.echo(path.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        _say(_clean(made.claim))
        typer.echo(path)


@app.command()
def gate(run_id: RunId = None, config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Hold a run against [gate]: exit 0 passed, 1 measured breach, 3 not measurable. Offline, at no cost."""
    from trustescalate.jsonl import to_python

    verdict, path = _open(config).gate(run_id)
    if json:
        _print_json(to_python(verdict))
    else:
        for item in verdict.checks:
            typer.echo(
                f"{item.status:<10} {item.name}: {_line(item.observed)} (asked: {_line(item.required)})"
            )
        typer.echo(f"gate: {verdict.status}")
        _say(f"written: {path}")
    raise typer.Exit(verdict.exit_code)


@app.command()
def plan(
    alpha: Annotated[
        float | None, typer.Option(callback=_level, help="Disagreement that is allowed; 0.15 if not given.")
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(callback=_level, help="Allowed probability of a wrong certificate; 0.1 if not given."),
    ] = None,
    disagreement: Annotated[
        float, typer.Option(callback=_share, help="Your guess for verdicts that are released.")
    ] = 0.08,
    coverage: Annotated[
        float, typer.Option(min=0.001, max=1, help="The share to be released: your guess, or your wish.")
    ] = 0.7,
    overall: Annotated[
        float | None, typer.Option(callback=_share, help="Your guess for the best judge on all items.")
    ] = None,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="No guesses: recorded votes, and the configuration's promise.")
    ] = False,
    config: ConfigPath = CONFIG,
    trials: Annotated[int, typer.Option(min=1, help="With --pilot: calibrations at each size.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="With --pilot: of the random generator.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="With --pilot: draw the power curve, as SVG.")] = None,
    json: AsJson = False,
) -> None:
    """How many labels? From guesses, before anybody has labelled anything; --pilot: from recorded votes."""
    if not pilot:
        from trustescalate.inspection import plan_labels

        if plot:
            raise UsageError("there is nothing to draw without recorded votes", "give --pilot too")
        _print(plan_labels(alpha or 0.15, delta or 0.1, disagreement, coverage, overall), json=json)
        return
    from trustescalate.pilot_plan import plan_from_pilot, write_plot

    found = plan_from_pilot(
        _open(config), wanted=coverage, alpha=alpha, delta=delta, trials=trials, seed=seed
    )
    _print(found, json=json)
    if plot:
        write_plot(found, plot)
        _say(f"written: {plot}")


@app.command()
def paths(
    config: ConfigPath = CONFIG,
    dev_share: Annotated[
        float, typer.Option(callback=_level, help="Share of the recorded rows that choose the path.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    json: AsJson = False,
) -> None:
    """Compare all paths on recorded votes, before you calibrate with fresh labels. Certifies nothing."""
    from trustescalate.path_choice import compare_paths

    _print(compare_paths(_open(config), dev_share=dev_share, seed=seed), json=json)


@app.command()
def monitor(
    config: ConfigPath = CONFIG,
    audit: Annotated[
        Path | None, typer.Option(help="People's annotations of released verdicts, drawn at random.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The run that was audited; default: all.")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="RUN", help="A run over the anchors that --draw wrote.")
    ] = None,
    draw: Annotated[
        int | None, typer.Option(min=1, help="Draw this many certification rows to be judged again.")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(callback=_level, help="Chance of a false alarm, ever; 0.05 if not given, then fixed."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Watch a certified cascade: has a judge changed, or the population? Exit 1: alarm, 3: no label yet."""
    from trustescalate.monitor import draw_anchors, watch

    if draw is not None:
        if audit or run_id or anchors or level:
            raise UsageError("--draw only writes items to be judged", "give --draw alone")
        path, items, _ = draw_anchors(_open(config), draw)
        _print_json({"anchors": str(path), "items": items}) if json else typer.echo(path)
        again = _command("run", config, "--fresh", "--items", str(path))
        _say(
            f"next: `{shlex.join(again)}`, then `{shlex.join(_command('monitor', config, '--anchors'))} RUN`"
        )
        return
    found = watch(_open(config), audit=audit, run_id=run_id, anchors=anchors, level=level)
    _print(found, json=json)
    raise typer.Exit(found.exit_code)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")] = Path("trustescalate-demo"),
    json: AsJson = False,
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
        _wait(project.run(command=_command("run", config)))
    made, page = project.report()
    verdict, _ = project.gate()
    if json:
        _print_json({"report": str(page), "gate": verdict.status, "measures": to_python(made.measures)})
        return
    _print_report(made)
    typer.echo(f"gate: {verdict.status}")
    typer.echo(page)


@app.command()
def selftest(
    config: Annotated[
        Path | None, typer.Option(help="Rehearse this configuration, with the votes that it recorded.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(callback=_level, help="Risk level of the promise; 0.15 if not given.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(callback=_level, help="Its failure probability; 0.1 if not given.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Certification rows in each trial; 300 if not given.")
    ] = None,
    tiers: Annotated[
        int | None, typer.Option(min=1, max=3, help="Judges in the cascade; 3 if not given.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Certifications in each world.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the random generator.")] = 0,
    json: AsJson = False,
) -> None:
    """Certify again and again in worlds whose truth is known, and count broken promises. Exit 1: too many."""
    from trustescalate.errors import EXIT_BREACH
    from trustescalate.selftest import self_test, self_test_of

    if config is None:
        found = self_test(alpha or 0.15, delta or 0.1, rows or 300, tiers or 3, trials, seed)
    elif alpha or delta or rows or tiers:
        raise UsageError("--config brings alpha, delta, rows and tiers of its own", "leave these flags out")
    else:
        found = self_test_of(_open(config), trials, seed)
    _print(found, json=json)
    if not found.holds:
        raise typer.Exit(EXIT_BREACH)


# ── talking ──────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _exit_codes(*, debug: bool) -> Iterator[None]:
    try:
        yield
    except TrustEscalateError as error:
        _trace(debug)
        raise typer.Exit(_fail(error.message, error.hint, error.exit_code)) from None
    except KeyboardInterrupt:
        raise typer.Exit(_fail("interrupted", "", EXIT_INTERRUPTED)) from None
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
            _say(explain())
            return EXIT_USAGE
        hint = f"`{context.command_path} --help` lists what there is" if context else ""
        return _fail(explain(), hint, EXIT_USAGE)
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        place = f"{error.filename}: " if error.filename else ""
        hint = "mend that and try again; what was recorded is kept"
        return _fail(f"{place}{error.strerror}", hint, EXIT_USAGE)
    return _fail(
        f"internal error: {type(error).__name__}: {error}",
        "this is a bug; run again with `trustescalate --debug …` and report what it prints",
        EXIT_INTERNAL,
    )


def _fail(message: str, hint: str, code: int) -> int:
    _say(f"error: {_clean(message)}")
    if hint:
        _say(f"hint: {_clean(hint)}")
    return code


@contextmanager
def _resumable(go_on: Callable[[], list[str]]) -> Iterator[None]:
    """Where work that was paid for is kept, say with which command it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        hint = f"go on with `{shlex.join(go_on())}`"
        raise typer.Exit(_fail("interrupted; what was answered is kept", hint, EXIT_INTERRUPTED)) from None
    except (BudgetReached, ProviderError) as error:
        error.hint = f"{error.hint}; then go on with `{shlex.join(go_on())}`"
        raise


def _trace(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _clean(text: str) -> str:
    from trustescalate.report.text import visible

    return visible(text)


def _line(text: str) -> str:
    from trustescalate.report.text import one_line

    return one_line(text)


def _print_json(value: object) -> None:
    from json import dumps

    typer.echo(dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def _print(found: Printable, *, json: bool) -> None:
    if json:
        _print_json(found.as_dict())
        return
    for line in found.lines():
        typer.echo(_clean(line))


def _print_report(report: "Report") -> None:
    for banner in report.banners:
        typer.echo(f"! {_clean(banner)}")
    head = "" if report.claim.startswith(report.headline) else f"{report.headline}. "
    typer.echo(f"{head}{_clean(report.claim)}")
    if report.advice:
        typer.echo(f"What would help: {_clean(report.advice)}")
    for key in report.key_figures:
        detail = key.detail or key.figure.note
        typer.echo(f"  {key.name:<28} {_clean(key.figure.text):<10} {_clean(detail)}")


def _rehearse(config: Path, items: Path | None, *, json: bool) -> None:
    from trustescalate.inspection import rehearse

    _print(_wait(rehearse(_open(config), items)), json=json)


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


def _command(name: str, config: Path, *rest: str) -> list[str]:
    """A command line, as it would be typed."""
    given = [] if config == CONFIG else ["--config", str(config)]
    return ["trustescalate", name, *given, *rest]


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal, a plain line every ten seconds elsewhere; both on stderr."""
    from trustescalate.display import bar, lines

    with bar() if sys.stderr.isatty() else lines(_say) as show:
        yield show
