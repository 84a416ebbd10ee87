"""Data from elsewhere, and data for elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.calls import AsJson
from trustescalate.cli.talk import progress, say, show


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
    from trustescalate.import_data import import_files

    with progress() as watch:
        found = import_files(files, to, format_name=format_, columns=columns, progress=watch)
    show(found, json=json)
    say(f"written: {to}")
