"""Data from elsewhere, and data for elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import progress, say, show
from trustescalate.cli.options import CONFIG, AsJson, ConfigPath, RunId, open_project


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files of one format, as another tool wrote them.")],
    to: Annotated[Path, typer.Option(help="A new folder for the set.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="Its name, where content does not tell.")
    ] = None,
    columns: Annotated[Path | None, typer.Option(help="A TOML file that says what columns hold.")] = None,
    json: AsJson = False,
) -> None:
    """Turn files of other tools into items, annotations and recorded votes. Says what it refused and why."""
    from trustescalate.data.import_files import import_files

    with progress() as watch:
        found = import_files(files, to, format_name=format_, columns=columns, progress=watch)
    show(found, json=json)
    say(f"written: {to}")


@app.command()
def export(
    as_: Annotated[
        str, typer.Option("--as", help="The format: csv, label_studio, trl, …; see docs/export.md.")
    ],
    to: Annotated[Path, typer.Option(help="A new file.")],
    run_id: RunId = None,
    config: ConfigPath = CONFIG,
    only: Annotated[
        Literal["all", "abstained", "released"], typer.Option(help="Which items of the run.")
    ] = "all",
    blind: Annotated[
        bool, typer.Option("--blind", help="For people who label: nothing that a judge said.")
    ] = False,
    judge: Annotated[
        str | None, typer.Option(help="openai_batch: whom to ask; default: the last one.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a run for another tool: to label it, to train on it, to open it in a spreadsheet."""
    from trustescalate.analysis.export_run import export_run

    show(export_run(open_project(config), run_id, as_, to, only=only, blind=blind, judge=judge), json=json)
