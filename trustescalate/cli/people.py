"""Panel People: `label queue`, `label serve`, `label import` and `export`."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import print_json, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
    Overrides,
    RunId,
    budget_of,
    command_line,
    open_project,
    resumable,
    wait,
)
from trustescalate.errors import UsageError

if TYPE_CHECKING:
    from trustescalate.data.annotation.queue import Queued
    from trustescalate.data.annotation.server import Serving

AUTO = "auto"
LABEL_HELP = "Annotate the abstentions of a run, or rows for a certificate."
label = typer.Typer(help=LABEL_HELP, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(label, name="label")


class Purpose(StrEnum):
    """The purpose of a queue."""

    ABSTAINED = "abstained"
    CALIBRATION = "calibration"


def _coverage(value: str | None) -> str | None:
    if value is None or value == AUTO:
        return value
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise typer.BadParameter(f'{value} is neither "{AUTO}" nor a number between 0 and 1')
    return value


@command(label, "queue", "label queue --for calibration --rows 200")
def queue(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id: annotate its abstentions.")
    ] = None,
    for_: Annotated[
        Purpose | None,
        typer.Option(
            "--for", help='Queue "abstained" items, the default with RUN, or rows drawn for "calibration".'
        ),
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Queue this item of RUN instead; may be repeated."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="For calibration: draw this many rows.")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="Q",
            callback=_coverage,
            help='For calibration: draw where policies of coverage up to Q, such as 0.3 or "auto", accept.',
        ),
    ] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Write a blind queue of items to annotate: no judge, no model, no order of responses."""
    from trustescalate.analysis.queues import queue_abstained, queue_calibration

    if for_ is None and run_id is None:
        raise UsageError("nothing to queue is named", "name a RUN, or give --for calibration --rows 200")
    if for_ is Purpose.CALIBRATION:
        if run_id is not None:
            raise UsageError("rows for calibration are drawn from all items, not from a run", "leave out RUN")
        if item:
            raise UsageError("rows for calibration are drawn, never named", "leave out --item")
        if region is None:
            project = open_project(config, overrides)
            queued = queue_calibration(project.config, project.hooks, rows)
        else:
            queued = _queue_region(config, overrides, rows, region, (budget_usd, budget_calls))
    else:
        if rows is not None or region is not None:
            given = "--rows" if region is None else "--region"
            raise UsageError("all abstentions are queued", f"leave out {given}, or give --for calibration")
        project = open_project(config, overrides)
        queued = queue_abstained(project.config, project.hooks, run_id, item or ())
    show(queued, json=json)
    if queued.folder:
        say(f"next: `{_line('label serve', config, overrides)}`")


def _queue_region(
    config: Path,
    overrides: list[str] | None,
    rows: int | None,
    region: str,
    budget: tuple[float | None, int | None],
) -> "Queued":
    from trustescalate.analysis.threshold_region import queue_region

    if rows is None:
        hint = "give --rows; `trustescalate plan` says how many"
        raise UsageError("the number of rows to draw is missing", hint)
    most = None if region == AUTO else float(region)
    options = ("--for", "calibration", "--rows", str(rows), "--region", region)
    with progress() as update, resumable(lambda: command_line("label queue", config, overrides, *options)):
        project = open_project(config, overrides, update)
        return wait(queue_region(project.config, project.hooks, rows, most, budget_of(project, *budget)))


@command(label, "serve", "label serve --open")
def serve(
    name: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="A queue's id; default: the latest queue.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen on this port; 0: any free port.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Serve an annotation page on this machine, with keyboard shortcuts; save every answer at once."""
    from trustescalate.data.annotation.queue import open_queue
    from trustescalate.data.annotation.server import serve

    def ready(serving: "Serving") -> None:
        print_json(serving._asdict()) if json else typer.echo(serving.url)
        say(f"rows: {serving.rows:,}; only this address gives access; Ctrl-C ends the session")
        if open_:
            typer.launch(serving.url)

    try:
        wait(serve(open_queue(open_project(config, overrides).config, name), port=port, ready=ready))
    except KeyboardInterrupt:
        say(f"every answer is kept; next: `{_line('label import', config, overrides)}`")


@command(label, "import", "label import")
def import_answers(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files of answers; default: those of all queues."),
    ] = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Add the answers to [data] annotations: all of them, or none and the reason."""
    from trustescalate.data.annotation.collect import collect_answers

    collected = collect_answers(open_project(config, overrides).config, files or ())
    show(collected, json=json)
    say(f"written: {collected.annotations}")
    if collected.purposes.get("sample") or collected.purposes.get("region") or collected.promoted:
        say(
            f"next: `{_line('calibrate', config, overrides)}` renews the certificate, "
            f"with {collected.sample:,} items that can certify"
        )
    elif collected.added:
        say("the certificate does not change: these items are not a random sample")


@command(app, "export", "export --as csv --to run.csv")
def export(
    as_: Annotated[
        str, typer.Option("--as", help="Write this format: csv, label_studio, trl, …; see docs/export.md.")
    ],
    to: Annotated[Path, typer.Option(help="Write to this new file; hf makes a folder.")],
    run_id: RunId = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    only: Annotated[
        Literal["all", "abstained", "released"], typer.Option(help="Choose which items of the run to write.")
    ] = "all",
    blind: Annotated[
        bool, typer.Option("--blind", help="Leave out all verdicts and scores of judges, for annotators.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(help="openai_batch: name the judge of the requests; default: the last judge."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a run in the format of another tool."""
    from trustescalate.analysis.export_run import export_run

    project = open_project(config, overrides)
    show(export_run(project.config, run_id, as_, to, only=only, blind=blind, judge=judge), json=json)


def _line(name: str, config: Path, overrides: list[str] | None) -> str:
    return shlex.join(command_line(name, config, overrides))
