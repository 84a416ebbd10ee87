"""`trustescalate judges …`: what the judges are, and how they do on labelled rows."""

from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import clean, line, print_json, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
    budget_of,
    open_project,
    wait,
)
from trustescalate.errors import UsageError

judges = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(judges, name="judges", help="List the judges, or measure each of them on labelled rows.")


@judges.command("list")
def list_judges(config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Name, backend, fingerprint and price of each judge. Asks nobody."""
    from trustescalate.analysis.judge_benchmark import describe

    found = describe(open_project(config))
    if json:
        print_json({"judges": found})
        return
    for row in found:
        typer.echo(f"{line(row['name']):<24} {row['backend']:<12} {row['fingerprint'][:16]}  {row['price']}")


@judges.command()
def bench(
    config: ConfigPath = CONFIG,
    rows: Annotated[str, typer.Option(help="The role whose labelled rows are used: dev or certify.")] = "dev",
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown, too.")] = None,
    json: AsJson = False,
) -> None:
    """Agreement, honesty, leanings, failures and cost of each judge, beside rules and people."""
    from trustescalate.analysis.judge_benchmark import SPENT
    from trustescalate.analysis.judge_benchmark import bench as measure

    if rows not in ("dev", "certify"):
        raise UsageError(f"--rows is dev or certify, not {rows!r}", "dev rows certify nothing, so use them")
    if rows == "certify":
        say(f"warning: {SPENT}")
    with progress() as shown:
        project = open_project(config, progress=shown)
        limits = budget_of(project, budget_usd, budget_calls)
        found = wait(measure(project, rows="certify" if rows == "certify" else "dev", budget=limits))
    show(found, json=json)
    if markdown is not None:
        markdown.write_text(clean(found.markdown()), encoding="utf-8")
        say(f"written: {markdown}")
