"""Certificate, run, report, gate, and watching what was released."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import clean, line, print_json, print_report, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    AsJson,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
    RunId,
    budget_of,
    command_line,
    level,
    open_project,
    resumable,
    wait,
)
from trustescalate.errors import UsageError

Batch = Annotated[
    bool, typer.Option("--batch", help="Have the Batch API answer: within a day a tier, at half the price.")
]
FinishLive = Annotated[
    bool, typer.Option("--finish-live", help="With --batch: ask at once what the first batch leaves.")
]


@app.command()
def calibrate(
    config: ConfigPath = CONFIG,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    batch: Batch = False,
    finish_live: FinishLive = False,
    json: AsJson = False,
) -> None:
    """Let the judges vote on labelled rows and certify the cascade, or say why not (exit 3)."""
    from trustescalate.errors import EXIT_NOT_MEASURABLE
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.document import build_calibration

    with progress() as show:
        project = open_project(config, progress=show)
        limits, ways = budget_of(project, budget_usd, budget_calls), _ways(batch, finish_live)
        with resumable(lambda: command_line("calibrate", config, *ways)):
            certificate = wait(project.calibrate(limits, batch=batch, finish_live=finish_live))
    if json:
        print_json(to_python(certificate))
    else:
        print_report(build_calibration(certificate))
        say(f"written: {project.config.folder / 'certificate.json'}")
    if certificate.status == "none":
        raise typer.Exit(EXIT_NOT_MEASURABLE)


@app.command()
def run(
    config: ConfigPath = CONFIG,
    items: Annotated[
        Path | None, typer.Option(help="Items to judge; default: those nobody labelled.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help='Go on with a run; or "latest".')] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what was answered before.")] = False,
    batch: Batch = False,
    finish_live: FinishLive = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate calls, tokens, cost, time.")] = False,
    json: AsJson = False,
) -> None:
    """Send unlabelled items through the certified cascade and record everything."""
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.document import build

    if dry_run and resume:
        raise UsageError("a dry run resumes nothing", "leave out --dry-run or --resume")
    if dry_run:
        _rehearse(config, items, json=json)
        return
    asked_again = [*(["--fresh"] if fresh else []), *_ways(batch, finish_live)]
    command = command_line("run", config, *asked_again, *([] if items is None else ["--items", str(items)]))
    with progress() as show:
        project = open_project(config, progress=show)
        known = project.run_ids()

        def go_on() -> list[str]:
            begun = [resume] if resume else [run_id for run_id in project.run_ids() if run_id not in known]
            return command_line("run", config, *asked_again, "--resume", begun[-1]) if begun else command

        with resumable(go_on):
            result = wait(
                project.run(
                    items=items,
                    resume=resume,
                    budget=budget_of(project, budget_usd, budget_calls),
                    fresh=fresh,
                    batch=batch,
                    finish_live=finish_live,
                    command=command,
                )
            )
    report = build(result)
    if json:
        print_json({"run": result.header.id, "measures": to_python(report.measures)})
    else:
        print_report(report)
        say(f"written: {project.run_path(result.header.id)}")
        then = [f"`{shlex.join(command_line(name, config))}`" for name in ("report", "gate")]
        say(f"next: {', '.join(then)}")


@app.command()
def report(run_id: RunId = None, config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Write report.html, report.md and report.json of a run, or of the certificate where nothing was run."""
    made, path = open_project(config).report(run_id)
    if json:
        typer.echo(path.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        say(clean(f"{made.claim} {made.run_claim}".rstrip()))
        typer.echo(path)


@app.command()
def gate(run_id: RunId = None, config: ConfigPath = CONFIG, json: AsJson = False) -> None:
    """Hold a run against [gate]: exit 0 passed, 1 measured breach, 3 not measurable. Offline, at no cost."""
    from trustescalate.records.jsonl import to_python

    verdict, path = open_project(config).gate(run_id)
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


@app.command()
def monitor(
    config: ConfigPath = CONFIG,
    audit: Annotated[
        Path | None, typer.Option(help="People's annotations of released verdicts, drawn at random.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The run that was audited; default: all.")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(metavar="RUN", help="A run over the anchors that --draw wrote.")
    ] = None,
    draw: Annotated[
        int | None, typer.Option(min=1, help="Draw this many certification rows to be judged again.")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(callback=level, help="Chance of a false alarm, ever; 0.05 if not given, then fixed."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Watch a certified cascade: has a judge changed, or the population? Exit 1: alarm, 3: no label yet."""
    from trustescalate.analysis.monitor import draw_anchors, watch

    if draw is not None:
        if audit or run_id or anchors or level:
            raise UsageError("--draw only writes items to be judged", "give --draw alone")
        path, items, _ = draw_anchors(open_project(config), draw)
        print_json({"anchors": str(path), "items": items}) if json else typer.echo(path)
        again = command_line("run", config, "--fresh", "--items", str(path))
        watched = command_line("monitor", config, "--anchors")
        say(f"next: `{shlex.join(again)}`, then `{shlex.join(watched)} RUN`")
        return
    found = watch(open_project(config), audit=audit, run_id=run_id, anchors=anchors, level=level)
    show(found, json=json)
    raise typer.Exit(found.exit_code)


def _ways(batch: bool, finish_live: bool) -> list[str]:
    if finish_live and not batch:
        raise UsageError("--finish-live finishes what a batch leaves", "give --batch too")
    return [*(["--batch"] if batch else []), *(["--finish-live"] if finish_live else [])]


def _rehearse(config: Path, items: Path | None, *, json: bool) -> None:
    from trustescalate.analysis.dry_run import rehearse

    show(wait(rehearse(open_project(config), items)), json=json)
