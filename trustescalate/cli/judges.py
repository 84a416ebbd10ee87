"""What judges said, read again; and whether a text can buy their verdict."""

from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import progress, say, show
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


@app.command()
def reparse(
    source: Annotated[
        str | None,
        typer.Argument(metavar="RUN|certificate", help="Whose replies; default: the latest run's, if any."),
    ] = None,
    config: ConfigPath = CONFIG,
    write: Annotated[
        Path | None, typer.Option(help='A new votes file with what is read now, for backend = "replay".')
    ] = None,
    json: AsJson = False,
) -> None:
    """Read stored replies again with today's reader: which votes would change? Asks nobody."""
    from trustescalate.analysis.reparse import reparse as read_again

    show(read_again(open_project(config), source, write), json=json)


@app.command()
def probe(
    config: ConfigPath = CONFIG,
    items: Annotated[int, typer.Option(min=1, help="Items that are attacked.")] = 5,
    family: Annotated[
        list[str] | None, typer.Option(help="Only this family of attacks; may be given again.")
    ] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost, and ask nobody.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Put texts that try to buy a verdict into your items: how often does your judge fall for them?"""
    from trustescalate.analysis.injection import plan_probe
    from trustescalate.analysis.injection import probe as attack

    plan = plan_probe(open_project(config), items, family or ())
    if dry_run:
        show(plan, json=json)
        return
    say(plan.lines()[0])
    again = [*command_line("probe", config, "--items", str(items))]
    again += [part for name in family or () for part in ("--family", name)]
    with progress() as bar:
        project = open_project(config, progress=bar)
        with resumable(lambda: again):
            found = wait(attack(project, items, family or (), budget_of(project, budget_usd, budget_calls)))
    show(found, json=json)
    say(f"written: {project.config.folder / 'probe.json'}")
