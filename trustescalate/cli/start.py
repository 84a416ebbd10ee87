"""Panel Start: `init`, `import`, `check`, `demo` and `skill`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import line, print_json, print_page, progress, say, show
from trustescalate.cli.options import CONFIG, AsJson, ConfigPath, Overrides, command_line, open_project, wait
from trustescalate.errors import EXIT_NOT_MEASURABLE, UsageError, few_of_each

if TYPE_CHECKING:
    from trustescalate.analysis.judge_trials import Trials


@command(app, "init", "init my-project")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for trustescalate.toml.")] = Path(),
    template: Annotated[
        str, typer.Option(help="The task to start from: pairwise, faithfulness or task-success.")
    ] = "pairwise",
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Write the shipped prompts to prompts/ instead, for editing.")
    ] = False,
    ci: Annotated[
        str | None,
        typer.Option(help="Write a CI file for the project in FOLDER instead: github or gitlab."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write a starter trustescalate.toml; overwrite nothing."""
    from trustescalate.config.ci_files import write_ci_file
    from trustescalate.config.starter import write_starter
    from trustescalate.judges.templates import write_prompts

    if prompts and ci is not None:
        raise UsageError("--prompts and --ci each write something else", "give one of them")
    if ci is not None:
        file = write_ci_file(folder, ci)
        print_json({"ci": str(file)}) if json else typer.echo(file)
        say("next: read it, and commit it together with certificate.json, its votes and ledger.jsonl")
        return

    if prompts:
        written = [str(path) for path in write_prompts(folder)]
        print_json({"prompts": written}) if json else typer.echo("\n".join(written))
        say('next: edit them, and set [prompts] folder = "prompts"')
        return
    path = write_starter(folder, template)
    print_json({"config": str(path)}) if json else typer.echo(path)
    place = "" if folder == Path() else f"in {line(str(folder))}, "
    say(
        f"next: {place}edit the configuration and write items.jsonl, as its comments show "
        f"(examples/{template} is a whole project); then `trustescalate check`. People write "
        "annotations.jsonl: `trustescalate label queue --for calibration`, `label serve`, `label import`"
    )


@command(app, "import", "import votes.csv --to set")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files of one format, as another tool wrote them; or datasets, hf:NAME."),
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="Write the set to this new folder, or [[criteria]] of a rubric to a .toml file."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="Name the format if it cannot be detected from the content."),
    ] = None,
    columns: Annotated[
        Path | None, typer.Option(help="Read the meaning of columns from this TOML file.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Convert files of other tools into items, labels and votes."""
    from trustescalate.data.import_files import import_files
    from trustescalate.data.rubrics import import_rubric

    if to is None or to.suffix == ".toml":
        rubric = import_rubric(files, to)
        print_json(rubric.as_dict()) if json else typer.echo("\n".join(rubric.lines()))
        for sentence in rubric.assumed:
            say(f"assumed: {sentence}")
        say(f'next: put the tables into trustescalate.toml, with kind = "{rubric.kind}" in [task]')
        return
    with progress() as update:
        imported = import_files(files, to, format_name=format_, columns=columns, progress=update)
    show(imported, json=json)
    say(f"written: {to}")
    if imported.next_step:
        say(f"next: {imported.next_step}")


@command(app, "check", "check --write-roles")
def check(
    data: Annotated[
        Path | None,
        typer.Argument(help="A folder or a file of items; a configuration in the folder is used."),
    ] = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    write_roles: Annotated[
        bool,
        typer.Option("--write-roles", help="Draw the roles of labelled rows into a file for [roles] file."),
    ] = False,
    ping: Annotated[
        bool,
        typer.Option("--ping", help="Ask each judge one question. Exit 3: one gives no answer."),
    ] = False,
    batches: Annotated[
        bool,
        typer.Option("--batches", help="Show the batches in progress, as their providers state them."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Check configuration and data; model calls only with --ping."""
    from trustescalate.analysis.checks import inspect_data, inspect_project
    from trustescalate.calibration.prepare import write_roles as draw_roles

    path = config if data is None else data / CONFIG
    if batches:
        from trustescalate.analysis.batches import batches_in_progress

        project = open_project(path, overrides)
        show(wait(batches_in_progress(project.config, project.hooks)), json=json)
        return
    if write_roles:
        show(draw_roles(open_project(path, overrides).config), json=json)
        return
    if data is None or path.exists() or overrides:
        checked = inspect_project(open_project(path, overrides).config)
    else:
        checked = inspect_data(data)
    if not json:
        for name, value in checked.facts:
            typer.echo(f"{name + ': ':<27}{line(value)}")
        for warning in few_of_each(checked.warnings):
            say(f"warning: {line(warning)}")
    answers = _ping(path, overrides) if ping else None
    if json:
        print_json(checked.as_dict() | ({} if answers is None else {"ping": answers.as_dict()}))
    elif answers is not None:
        for text in answers.table():
            typer.echo(line(text))
    if answers is not None and answers.failed:
        raise typer.Exit(EXIT_NOT_MEASURABLE)


def _ping(path: Path, overrides: list[str] | None) -> "Trials":
    from trustescalate.analysis.judge_trials import ping, pinged

    project = open_project(path, overrides)
    say(f"asking {len(pinged(project.config))} judges one question each, at their price")
    return wait(ping(project.config, project.hooks))


@command(app, "demo", "demo my-demo")
def demo(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")] = Path("trustescalate-demo"),
    json: AsJson = False,
) -> None:
    """Run every step with simulated judges: offline, without a key."""
    from trustescalate.config.starter import must_be_free
    from trustescalate.judges.simulated import write_demo
    from trustescalate.records.jsonl import to_python

    must_be_free(folder, "demo FOLDER")
    write_demo(folder)
    config = folder / "trustescalate.toml"
    with progress() as update:
        project = open_project(config, None, update)
        wait(project.calibrate())
        wait(project.run(command=command_line("run", config, None)))
    report, page = project.report()
    verdict, _ = project.gate()
    if json:
        print_json({"report": str(page), "gate": verdict.status, "measures": to_python(report.measures)})
        return
    print_page(report.page())
    typer.echo(page)


@command(app, "skill", "skill")
def skill(json: AsJson = False) -> None:
    """Print a guide for coding agents, as the text of a SKILL.md file."""
    text = Path(__file__).with_name("skill.md").read_text(encoding="utf-8")
    print_json({"skill": text}) if json else typer.echo(text, nl=False)
