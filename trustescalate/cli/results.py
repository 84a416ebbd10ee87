"""`report`, `gate`, `compare` and `monitor`: what a run says, and whether it still holds."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import clean, line, print_json, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    ConfigPath,
    Overrides,
    RunId,
    command_line,
    level,
    levels,
    open_project,
)
from trustescalate.errors import UsageError


@command(app, "report", "report --alpha 0.2")
def report(
    run_id: RunId = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(callback=levels, help="Say what this risk level would allow; may be repeated."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write the report of a run, or of the certificate. Files: report.html, report.md and report.json."""
    from trustescalate.analysis.risk_band import limits_at

    project = open_project(config, overrides)
    written, path = project.report(run_id, limits_at(project.config, alpha or ()))
    if json:
        typer.echo(path.with_suffix(".json").read_text(encoding="utf-8"))
        return
    say(clean(f"{written.claim} {written.run_claim}".rstrip()))
    for section in written.sections:
        if section.slug == "risk-limits":
            for text in section.text:
                say(clean(text))
    typer.echo(path)


@command(app, "gate", "gate --json")
def gate(
    run_id: RunId = None, config: ConfigPath = CONFIG, overrides: Overrides = None, json: AsJson = False
) -> None:
    """Hold a run against [gate]. Exit 0: passed, 1: measured breach, 3: not measurable. No model calls."""
    from trustescalate.records.jsonl import to_python

    verdict, path = open_project(config, overrides).gate(run_id)
    if json:
        print_json(to_python(verdict))
    else:
        for item in verdict.checks:
            typer.echo(
                f"{item.status:<10} {line(item.name)}: {line(item.observed)} (asked: {line(item.required)})"
            )
        typer.echo(f"gate: {verdict.status}")
        say(f"written: {path}")
    raise typer.Exit(verdict.exit_code)


@command(app, "compare", "compare 20260101T090000Z-aaaaaa 20260102T090000Z-bbbbbb")
def compare(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's id: the baseline.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="A run's id: the candidate.")],
    by: Annotated[
        str | None,
        typer.Option(metavar="meta.KEY", help="Match items of the two runs by this key; default: their ids."),
    ] = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    config_b: Annotated[
        Path | None, typer.Option(help="Name the second run's configuration where it lies elsewhere.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare two runs item by item. Judges may differ, or the responses to the same prompts."""
    from trustescalate.analysis.comparison import compare as compare_runs

    if by is not None and not by.removeprefix("meta."):
        raise UsageError("--by names no key", "give --by meta.<key>")
    here = open_project(config, overrides)
    there = here if config_b is None else open_project(config_b, overrides)
    show(compare_runs(here.load_run(first), there.load_run(second), by), json=json)


@command(app, "monitor", "monitor --audit audit.jsonl")
def monitor(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    audit: Annotated[
        Path | None,
        typer.Option(help="Read annotations of released verdicts drawn at random from this file."),
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Name the audited run; default: all.")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="RUN", help="Name a run over the anchors that --draw wrote.")
    ] = None,
    draw: Annotated[
        int | None, typer.Option(min=1, help="Draw this many certification rows to be judged again.")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(
            callback=level, help="Limit the probability of any false alarm; 0.05 if not given, then fixed."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Test for judge drift and distribution shift. Exit 1: alarm, 3: no label yet."""
    from trustescalate.analysis.monitor import draw_anchors, watch

    project = open_project(config, overrides)
    if draw is not None:
        if audit or run_id or anchors or level:
            raise UsageError("--draw only writes items to be judged", "give --draw alone")
        path, items, _ = draw_anchors(project.config, draw)
        print_json({"anchors": str(path), "items": items}) if json else typer.echo(path)
        again = command_line("run", config, overrides, "--no-cache", "--items", str(path))
        watched = command_line("monitor", config, overrides, "--anchors")
        say(f"next: `{shlex.join(again)}`, then `{shlex.join(watched)} RUN`")
        return
    watched_now = watch(
        project.config, project.hooks, audit=audit, run_id=run_id, anchors=anchors, level=level
    )
    show(watched_now, json=json)
    raise typer.Exit(watched_now.exit_code)
