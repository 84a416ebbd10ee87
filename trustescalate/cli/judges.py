"""Panel Judges: `judges list`, `judges try`, `judges bench`, `judges probe` and `judges reparse`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import clean, print_json, print_table, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
    Overrides,
    budget_of,
    command_line,
    open_project,
    resumable,
    wait,
)

judges = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(judges, name="judges", help="List, try, benchmark and attack the judges; parse replies again.")


@command(judges, "list", "judges list")
def list_judges(config: ConfigPath = CONFIG, overrides: Overrides = None, json: AsJson = False) -> None:
    """List name, backend, fingerprint and price of each judge; make no model calls."""
    from trustescalate.analysis.judge_list import describe

    project = open_project(config, overrides)
    rows = describe(project.config, project.hooks)
    if json:
        print_json({"judges": rows})
        return
    cells = [
        (row["name"], row["backend"], row["fingerprint"][:16] or "not imported", row["price"]) for row in rows
    ]
    print_table(("judge", "backend", "fingerprint", "price"), cells, "<<<<")


@command(judges, "try", "judges try --item q17")
def try_(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    item: Annotated[
        str | None, typer.Option(help="Ask about the item with this id; default: an unlabelled one, if any.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Ask this judge only.")] = None,
    json: AsJson = False,
) -> None:
    """Ask about one item; show prompt, reply, probabilities and how the reply is read."""
    from trustescalate.analysis.judge_trials import try_judges
    from trustescalate.errors import EXIT_NOT_MEASURABLE

    project = open_project(config, overrides)
    tried = wait(try_judges(project.config, project.hooks, item=item, judge=judge))
    show(tried, json=json)
    if tried.failed:
        raise typer.Exit(EXIT_NOT_MEASURABLE)


@command(judges, "bench", "judges bench --rows dev")
def bench(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    rows: Annotated[
        Literal["dev", "certify"], typer.Option(help="Use the labelled rows of this role.")
    ] = "dev",
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown to this file.")] = None,
    json: AsJson = False,
) -> None:
    """Measure agreement, calibration, bias, failures and cost of each judge on labelled rows."""
    from trustescalate.analysis.judge_benchmark import SPENT
    from trustescalate.analysis.judge_benchmark import bench as measure

    if rows == "certify":
        say(f"warning: {SPENT}")
    with progress() as update:
        project = open_project(config, overrides, update)
        measured = wait(
            measure(
                project.config, project.hooks, rows=rows, budget=budget_of(project, budget_usd, budget_calls)
            )
        )
    show(measured, json=json)
    if markdown is not None:
        markdown.write_text(clean(measured.markdown()), encoding="utf-8")
        say(f"written: {markdown}")


@command(judges, "probe", "judges probe --items 5 --dry-run")
def probe(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    items: Annotated[int, typer.Option(min=1, help="Attack this many items.")] = 5,
    family: Annotated[
        list[str] | None, typer.Option(help="Use this family of attacks only; may be repeated.")
    ] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate calls and cost; make no model calls.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Measure the attack success rate of prompt injections in the project's items."""
    from trustescalate.analysis.injection import plan_probe
    from trustescalate.analysis.injection import probe as attack

    families = family or ()
    plan = plan_probe(open_project(config, overrides).config, items, families)
    if dry_run:
        show(plan, json=json)
        return
    say(plan.lines()[0])
    options = ["--items", str(items), *(part for name in families for part in ("--family", name))]
    with progress() as update:
        project = open_project(config, overrides, update)
        with resumable(lambda: command_line("judges probe", config, overrides, *options)):
            limits = budget_of(project, budget_usd, budget_calls)
            probed = wait(attack(project.config, project.hooks, items, families, limits))
    show(probed, json=json)
    say(f"written: {project.config.folder / 'probe.json'}")


@command(judges, "reparse", "judges reparse certificate")
def reparse(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|certificate", help="Source of the replies; default: the latest run, if any."
        ),
    ] = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    write: Annotated[
        Path | None,
        typer.Option(help='Write the votes as read now to this new file, for backend = "replay".'),
    ] = None,
    json: AsJson = False,
) -> None:
    """Parse stored replies again and list the votes that change; make no model calls."""
    from trustescalate.analysis.reparse import reparse as parse_again

    show(parse_again(open_project(config, overrides).config, source, write), json=json)
