"""`import` and `export`: data from other tools, and data for them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import progress, say, show
from trustescalate.cli.options import CONFIG, AsJson, ConfigPath, Overrides, RunId, open_project


@command(app, "import", "import votes.csv --to set")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files of one format, as another tool wrote them.")],
    to: Annotated[Path, typer.Option(help="Write the set to this new folder.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="Name the format where the content does not tell it.")
    ] = None,
    columns: Annotated[Path | None, typer.Option(help="Read what columns hold from this TOML file.")] = None,
    json: AsJson = False,
) -> None:
    """Convert files of other tools into items, labels and votes."""
    from trustescalate.data.import_files import import_files

    with progress() as watch:
        imported = import_files(files, to, format_name=format_, columns=columns, progress=watch)
    show(imported, json=json)
    say(f"written: {to}")


@command(app, "export", "export --as csv --to run.csv")
def export(
    as_: Annotated[
        str, typer.Option("--as", help="Write this format: csv, label_studio, trl, …; see docs/export.md.")
    ],
    to: Annotated[Path, typer.Option(help="Write to this new file.")],
    run_id: RunId = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    only: Annotated[
        Literal["all", "abstained", "released"], typer.Option(help="Choose which items of the run to write.")
    ] = "all",
    blind: Annotated[
        bool, typer.Option("--blind", help="Leave out everything a judge said, for annotators.")
    ] = False,
    judge: Annotated[
        str | None, typer.Option(help="openai_batch: name the judge to ask; default: the last one.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a run in the format of another tool."""
    from trustescalate.analysis.export_run import export_run

    project = open_project(config, overrides)
    show(export_run(project.config, run_id, as_, to, only=only, blind=blind, judge=judge), json=json)
