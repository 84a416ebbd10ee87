"""People's answers: what to label, a page to label on, and the way back."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import print_json, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
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

label = typer.Typer(
    help="Let people answer: what a run abstained on, or rows drawn for the certificate.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(label, name="label")


class Reason(StrEnum):
    """What a queue is for."""

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


@label.command("queue")
def queue(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The run whose abstentions are to be labelled.")
    ] = None,
    for_: Annotated[
        Reason | None,
        typer.Option("--for", help='"abstained", the default with RUN; or "calibration", drawn at random.'),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="For calibration: how many rows to draw.")] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="Q",
            callback=_coverage,
            help='For calibration: draw where policies of coverage up to Q, as 0.3 or "auto", accept.',
        ),
    ] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    config: ConfigPath = CONFIG,
    json: AsJson = False,
) -> None:
    """Say what to label, and why: writes a queue that shows no judge, no model and no order of responses."""
    from trustescalate.data.annotation.queue import queue_abstained, queue_calibration

    if for_ is None and run_id is None:
        raise UsageError("label what?", "name a RUN, or give --for calibration --rows 200")
    if for_ is Reason.CALIBRATION:
        if run_id is not None:
            raise UsageError("rows for calibration are drawn from all items, not from a run", "leave out RUN")
        if region is None:
            found = queue_calibration(open_project(config), rows)
        else:
            found = _queue_region(config, rows, region, (budget_usd, budget_calls))
    else:
        if rows is not None or region is not None:
            given = "--rows" if region is None else "--region"
            raise UsageError("all abstentions are queued", f"leave out {given}, or give --for calibration")
        found = queue_abstained(open_project(config), run_id)
    show(found, json=json)
    if found.folder:
        say(f"next: `{_line('serve', config)}`")


def _queue_region(
    config: Path, rows: int | None, region: str, budget: tuple[float | None, int | None]
) -> "Queued":
    from trustescalate.analysis.threshold_region import queue_region

    if rows is None:
        raise UsageError("how many rows are to be drawn?", "give --rows; `trustescalate plan` says how many")
    most = None if region == AUTO else float(region)
    again = command_line("label", config, "--for", "calibration", "--rows", str(rows), "--region", region)
    with progress() as shown, resumable(lambda: [*again[:2], "queue", *again[2:]]):
        project = open_project(config, progress=shown)
        return wait(queue_region(project, rows, most, budget_of(project, *budget)))


@label.command("serve")
def serve(
    name: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="A queue's id; the latest one by default.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    config: ConfigPath = CONFIG,
    json: AsJson = False,
) -> None:
    """Serve one page on this machine to label with the keyboard. Every answer is saved as it is given."""
    from trustescalate.data.annotation.queue import open_queue
    from trustescalate.data.annotation.server import serve

    def ready(serving: "Serving") -> None:
        print_json(serving._asdict()) if json else typer.echo(serving.url)
        say(f"rows: {serving.rows:,}; only who knows this address gets in; Ctrl-C ends it")
        if open_:
            typer.launch(serving.url)

    try:
        wait(serve(open_queue(open_project(config), name), port=port, ready=ready))
    except KeyboardInterrupt:
        say(f"every answer is kept; next: `{_line('import', config)}`")


@label.command("import")
def import_answers(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Answers; those of all queues by default."),
    ] = None,
    config: ConfigPath = CONFIG,
    json: AsJson = False,
) -> None:
    """Bring answers back into [data] annotations: all of them, or none and why."""
    from trustescalate.data.annotation.collect import bring_in

    found = bring_in(open_project(config), files or ())
    show(found, json=json)
    say(f"written: {found.annotations}")
    if found.purposes.get("sample") or found.purposes.get("region") or found.promoted:
        given = [] if config == CONFIG else ["--config", str(config)]
        say(
            f"next: `{shlex.join(['trustescalate', 'calibrate', *given])}` renews the certificate, "
            f"with {found.sample:,} items that can certify"
        )
    elif found.added:
        say("the certificate stays as it is: these items are no sample")


def _line(name: str, config: Path) -> str:
    given = [] if config == CONFIG else ["--config", str(config)]
    return shlex.join(["trustescalate", "label", name, *given])
