"""Panel Certify: `plan`, `tune` and `calibrate`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app, command
from trustescalate.cli.console import clean, print_json, print_page, progress, say, show
from trustescalate.cli.options import (
    CONFIG,
    Address,
    AsJson,
    Batch,
    BudgetCalls,
    BudgetUsd,
    ConfigPath,
    DryRun,
    Engine,
    FinishLive,
    Overrides,
    batch_flags,
    budget_of,
    command_line,
    engine_flags,
    level,
    must_stand_alone,
    open_project,
    resumable,
    share,
    wait,
)


@command(app, "plan", "plan --alpha 0.15 --disagreement 0.08 --coverage 0.7")
def plan(
    alpha: Annotated[
        float | None,
        typer.Option(callback=level, help="Set the risk level; default: the configuration's, or 0.15."),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            callback=level, help="Set the failure probability; default: the configuration's, or 0.1."
        ),
    ] = None,
    disagreement: Annotated[
        float | None,
        typer.Option(callback=share, help="Guess the selective risk, and read no recorded votes; 0.08."),
    ] = None,
    coverage: Annotated[float, typer.Option(min=0.001, max=1, help="Set the coverage to plan for.")] = 0.7,
    overall: Annotated[
        float | None,
        typer.Option(callback=share, help="Guess the best judge's risk on all items, and read no votes."),
    ] = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=1, help="Recorded votes: set the trials at each size.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Recorded votes: seed the random generator.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Recorded votes: draw the power curve to this SVG file.")
    ] = None,
    items: Annotated[
        int | None,
        typer.Option(min=1, help="Plan a run over so many items instead: calls, USD, hours, memory."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Plan the label budget from recorded votes or from guesses. Labels read here certify nothing later."""
    if items is not None:
        from trustescalate.analysis.scale import plan_items

        must_stand_alone("--items", alpha, delta, disagreement, overall, plot)
        show(wait(plan_items(open_project(config, overrides).config, items)), json=json)
        return
    from trustescalate.analysis.sample_size import plan_labels, write_plot

    project = open_project(config, overrides) if config != CONFIG or config.exists() or overrides else None
    planned = plan_labels(
        None if project is None else project.config,
        alpha=alpha,
        delta=delta,
        disagreement=disagreement,
        coverage=coverage,
        overall=overall,
        trials=trials,
        seed=seed,
    )
    if plot:
        write_plot(planned, plot)
    show(planned, json=json)
    if plot:
        say(f"written: {plot}")


@command(app, "tune", "tune --dev-share 0.3")
def tune(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    dev_share: Annotated[
        float, typer.Option(callback=level, help="Set the share of recorded rows that choose the policy.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Seed the split.")] = 0,
    json: AsJson = False,
) -> None:
    """Compare paths and estimators on recorded votes. Labels read here certify nothing later."""
    from trustescalate.analysis.tune import tune as compare_policies

    show(compare_policies(open_project(config, overrides).config, dev_share=dev_share, seed=seed), json=json)


@command(app, "calibrate", "calibrate --dry-run")
def calibrate(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    batch: Batch = False,
    finish_live: FinishLive = False,
    engine: Engine = "local",
    address: Address = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Test the cascade on labelled rows and write a certificate. Exit 3: no certificate, with the reason."""
    from trustescalate.analysis.calibration_report import calibration_report
    from trustescalate.cascade.engines.protocol import engine_of
    from trustescalate.data.dataset import load_dataset
    from trustescalate.errors import EXIT_NOT_MEASURABLE
    from trustescalate.records.criteria import BY_CRITERION
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.attainable import attainable_lines, completed
    from trustescalate.report.failed_votes import failed_votes_lines

    flags = [*batch_flags(batch, finish_live), *engine_flags(engine, address)]
    reached = engine_of(engine, address)
    with progress() as update:
        project = open_project(config, overrides, update)
        limits = budget_of(project, budget_usd, budget_calls)
        if dry_run:
            from trustescalate.analysis.dry_run import estimate_calibration

            show(wait(estimate_calibration(project.config, limits, batch=batch)), json=json)
            return
        with resumable(lambda: command_line("calibrate", config, overrides, *flags)):
            work = project.calibrate(limits, batch=batch, finish_live=finish_live, engine=reached)
            certificate = wait(work)
    if json:
        print_json(to_python(certificate))
    else:
        data, options = load_dataset(project.config), project.options
        built, seen, power = calibration_report(project.config, data, certificate, options)
        several = certificate.group_by == BY_CRITERION
        for judge in certificate.diagnostics:
            counts = judge.judge, judge.votes, judge.failures, judge.samples
            for text in failed_votes_lines(*counts, several=several):
                typer.echo(text)
        page = built.page() if seen is None else replace(built.page(), follow=())  # the lines have them
        print_page(page, project.config.folder / "certificate.json")
        command = completed(options or ())
        for text in () if seen is None else attainable_lines(seen, certificate, command, power):
            typer.echo(clean(text))
    if certificate.status == "none":
        raise typer.Exit(EXIT_NOT_MEASURABLE)
