"""The first minutes: a file to start from, a look at the data, the demo."""

from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import line, print_json, print_report, progress, say, show
from trustescalate.cli.options import CONFIG, AsJson, ConfigPath, command_line, open_project, wait


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to put trustescalate.toml.")] = Path(),
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Write the shipped prompts instead, in prompts/, to be edited.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Write a trustescalate.toml to start from. Nothing is overwritten."""
    from trustescalate.config.starter import write_starter
    from trustescalate.judges.templates import write_prompts

    if prompts:
        written = [str(path) for path in write_prompts(folder)]
        print_json({"prompts": written}) if json else typer.echo("\n".join(written))
        say('next: edit them, and set [prompts] folder = "prompts"')
        return
    path = write_starter(folder)
    print_json({"config": str(path)}) if json else typer.echo(path)
    say("next: bring items.jsonl and annotations.jsonl, edit the file, then `trustescalate check`")


@app.command()
def check(
    data: Annotated[
        Path | None, typer.Argument(help="A folder, or a file of items; a configuration in it is used.")
    ] = None,
    config: ConfigPath = CONFIG,
    json: AsJson = False,
) -> None:
    """Read configuration and data, and say what would happen. Asks no judge, costs nothing."""
    from trustescalate.analysis.checks import inspect_data, inspect_project

    inside = config if data is None else data / CONFIG
    alone = data is not None and not inside.exists()
    found = inspect_data(data) if data is not None and alone else inspect_project(open_project(inside))
    if json:
        print_json(found.as_dict())
        return
    for name, value in found.facts:
        typer.echo(f"{name + ': ':<27}{line(value)}")
    for warning in found.warnings:
        say(f"warning: {line(warning)}")


@app.command()
def split(config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Draw the roles of labelled rows once and for all, by group and seed, into a file that [roles] reads."""
    show(open_project(config).split(), json=json)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")] = Path("trustescalate-demo"),
    json: AsJson = False,
) -> None:
    """The whole way in one go, offline, no key: certificate, run, report, gate. Simulated judges."""
    from trustescalate.config.starter import must_be_free
    from trustescalate.judges.simulated import write_demo
    from trustescalate.records.jsonl import to_python

    must_be_free(folder)
    write_demo(folder)
    config = folder / "trustescalate.toml"
    with progress() as show:
        project = open_project(config, progress=show)
        wait(project.calibrate())
        wait(project.run(command=command_line("run", config)))
    made, page = project.report()
    verdict, _ = project.gate()
    if json:
        print_json({"report": str(page), "gate": verdict.status, "measures": to_python(made.measures)})
        return
    print_report(made)
    typer.echo(f"gate: {verdict.status}")
    typer.echo(page)
