"""`calibrate` and `run`: what asks the judges."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import print_json, print_report, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
    Overrides,
    budget_of,
    command_line,
    open_project,
    resumable,
    wait,
)
from trustescalate.errors import UsageError

Batch = Annotated[
    bool,
    typer.Option("--batch", help="Use the Batch API: an answer within a day per tier, at half the price."),
]
FinishLive = Annotated[
    bool,
    typer.Option("--finish-live", help="With --batch: send what the batch left unanswered to the live API."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate calls, tokens, cost and time; make no model calls.")
]


@command(app, "calibrate", "calibrate --dry-run")
def calibrate(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    batch: Batch = False,
    finish_live: FinishLive = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Test the cascade on labelled rows and write a certificate. Exit 3: there is none, and why."""
    from trustescalate.errors import EXIT_NOT_MEASURABLE
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.document import build_calibration

    flags = _flags(batch, finish_live)
    with progress() as watch:
        project = open_project(config, overrides, watch)
        limits = budget_of(project, budget_usd, budget_calls)
        if dry_run:
            from trustescalate.analysis.dry_run import estimate_calibration

            show(wait(estimate_calibration(project.config, limits, batch=batch)), json=json)
            return
        with resumable(lambda: command_line("calibrate", config, overrides, *flags)):
            certificate = wait(project.calibrate(limits, batch=batch, finish_live=finish_live))
    if json:
        print_json(to_python(certificate))
    else:
        print_report(build_calibration(certificate))
        say(f"written: {project.config.folder / 'certificate.json'}")
    if certificate.status == "none":
        raise typer.Exit(EXIT_NOT_MEASURABLE)


@command(app, "run", "run --items items.jsonl --budget-usd 5")
def run(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    items: Annotated[
        Path | None, typer.Option(help="Judge the items of this file; default: those without labels.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help='Resume this run; "latest" names the last one.')
    ] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Call the judges again instead of reading the cache.")
    ] = False,
    batch: Batch = False,
    finish_live: FinishLive = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Send unlabelled items through the certified cascade. Every vote is recorded; a run can be resumed."""
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.document import build

    if dry_run and resume:
        raise UsageError("a dry run resumes nothing", "leave out --dry-run or --resume")
    flags = [*(["--no-cache"] if no_cache else []), *_flags(batch, finish_live)]
    given = [] if items is None else ["--items", str(items)]
    started = command_line("run", config, overrides, *flags, *given)
    with progress() as watch:
        project = open_project(config, overrides, watch)
        limits = budget_of(project, budget_usd, budget_calls)
        if dry_run:
            from trustescalate.analysis.dry_run import estimate_run

            show(wait(estimate_run(project.config, items, limits, batch=batch)), json=json)
            return
        known = project.run_ids()

        def resumed() -> list[str]:
            begun = [resume] if resume else [run_id for run_id in project.run_ids() if run_id not in known]
            if not begun:
                return started
            return command_line("run", config, overrides, *flags, "--resume", begun[-1])

        with resumable(resumed):
            result = wait(
                project.run(
                    items=items,
                    resume=resume,
                    budget=limits,
                    fresh=no_cache,
                    batch=batch,
                    finish_live=finish_live,
                    command=started,
                )
            )
    report = build(result)
    if json:
        print_json({"run": result.header.id, "measures": to_python(report.measures)})
    else:
        print_report(report)
        say(f"written: {project.run_path(result.header.id)}")
        then = [f"`{shlex.join(command_line(name, config, overrides))}`" for name in ("report", "gate")]
        say(f"next: {', '.join(then)}")


def _flags(batch: bool, finish_live: bool) -> list[str]:
    if finish_live and not batch:
        raise UsageError("--finish-live needs a batch to finish", "give --batch too")
    return [*(["--batch"] if batch else []), *(["--finish-live"] if finish_live else [])]
