"""What a run says beyond its verdicts: who is better, what changed between two runs, alpha afterwards."""

from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import print_json, show
from trustescalate.cli.options import CONFIG, AsJson, ConfigPath, RunId, level, open_project
from trustescalate.errors import NotMeasurable, UsageError


@app.command()
def leaderboard(run_id: RunId = None, config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Rank the models whose answers a run judged, and say which the labels cannot tell apart. Asks nobody."""
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.leaderboard import leaderboard_section
    from trustescalate.report.terminal import section_lines

    project = open_project(config)
    if not project.config.leaderboard.models:
        raise UsageError(
            "the configuration names no models to rank",
            'say where items hold them: [leaderboard] models = "meta.<key>"',
        )
    run = project.load_run(run_id)
    if run.standings is None:
        why = "" if run.overall is None else run.overall.reason
        raise NotMeasurable(f"there is no leaderboard: {why or 'nothing is certified of a population'}")
    if run.standings.reason:
        raise NotMeasurable(f"there is no leaderboard: {run.standings.reason}")
    if json:
        print_json({"run": run.header.id, **to_python(run.standings)})
        return
    section = leaderboard_section(run)
    for line in [] if section is None else section_lines(section):
        typer.echo(line)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's id: the old answers or judges.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="A run's id: the new ones.")],
    by: Annotated[
        str | None,
        typer.Option(metavar="meta.KEY", help="What matches items of the two runs; default: their ids."),
    ] = None,
    config: ConfigPath = CONFIG,
    config_b: Annotated[
        Path | None, typer.Option(help="The second run's configuration, where it lies elsewhere.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Two runs on the same items, or on two systems' answers to the same prompts: did it get better?"""
    from trustescalate.analysis.comparison import compare as compared

    if by is not None and not by.removeprefix("meta."):
        raise UsageError("--by names no key", "give --by meta.<key>")
    here = open_project(config)
    there = here if config_b is None else open_project(config_b)
    show(compared(here.load_run(first), there.load_run(second), by), json=json)


@app.command()
def band(
    alpha: Annotated[
        list[float] | None, typer.Option(help="A risk level to ask for; may be given more than once.")
    ] = None,
    config: ConfigPath = CONFIG,
    json: AsJson = False,
) -> None:
    """Upper limits on the risk of many policies at once, so that alpha may be chosen after looking."""
    from trustescalate.analysis.risk_band import choose_alpha

    asked = tuple(alpha or ())
    for value in asked:
        level(value)
    show(choose_alpha(open_project(config), asked), json=json)
