"""Before and beside a certificate: how many labels, which path, does the promise hold."""

from pathlib import Path
from typing import Annotated

import typer

from trustescalate.cli.app import app
from trustescalate.cli.console import say, show
from trustescalate.cli.options import CONFIG, AsJson, ConfigPath, level, open_project, share
from trustescalate.errors import UsageError


@app.command()
def plan(
    alpha: Annotated[
        float | None, typer.Option(callback=level, help="Disagreement that is allowed; 0.15 if not given.")
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(callback=level, help="Allowed probability of a wrong certificate; 0.1 if not given."),
    ] = None,
    disagreement: Annotated[
        float, typer.Option(callback=share, help="Your guess for verdicts that are released.")
    ] = 0.08,
    coverage: Annotated[
        float, typer.Option(min=0.001, max=1, help="The share to be released: your guess, or your wish.")
    ] = 0.7,
    overall: Annotated[
        float | None, typer.Option(callback=share, help="Your guess for the best judge on all items.")
    ] = None,
    pilot: Annotated[
        bool, typer.Option("--pilot", help="No guesses: recorded votes, and the configuration's promise.")
    ] = False,
    config: ConfigPath = CONFIG,
    trials: Annotated[int, typer.Option(min=1, help="With --pilot: calibrations at each size.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="With --pilot: of the random generator.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="With --pilot: draw the power curve, as SVG.")] = None,
    json: AsJson = False,
) -> None:
    """How many labels? From guesses, before anybody has labelled anything; --pilot: from recorded votes."""
    if not pilot:
        from trustescalate.analysis.sample_size import plan_labels

        if plot:
            raise UsageError("there is nothing to draw without recorded votes", "give --pilot too")
        show(plan_labels(alpha or 0.15, delta or 0.1, disagreement, coverage, overall), json=json)
        return
    from trustescalate.analysis.pilot_plan import plan_from_pilot, write_plot

    found = plan_from_pilot(
        open_project(config), wanted=coverage, alpha=alpha, delta=delta, trials=trials, seed=seed
    )
    show(found, json=json)
    if plot:
        write_plot(found, plot)
        say(f"written: {plot}")


@app.command()
def paths(
    config: ConfigPath = CONFIG,
    dev_share: Annotated[
        float, typer.Option(callback=level, help="Share of the recorded rows that choose the path.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    json: AsJson = False,
) -> None:
    """Compare all paths on recorded votes, before you calibrate with fresh labels. Certifies nothing."""
    from trustescalate.analysis.path_choice import compare_paths

    show(compare_paths(open_project(config), dev_share=dev_share, seed=seed), json=json)


@app.command()
def estimators(
    config: ConfigPath = CONFIG,
    dev_share: Annotated[
        float, typer.Option(callback=level, help="Share that fits, where no dev rows were recorded.")
    ] = 0.3,
    draws: Annotated[int, typer.Option(min=1, help="Calibrations of each kind of score.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of the draws.")] = 0,
    json: AsJson = False,
) -> None:
    """Compare all ways to make scores on recorded votes, before fresh labels. Certifies nothing."""
    from trustescalate.analysis.estimator_choice import compare_scores

    found = compare_scores(open_project(config), dev_share=dev_share, draws=draws, seed=seed)
    show(found, json=json)


@app.command()
def selftest(
    config: Annotated[
        Path | None, typer.Option(help="Rehearse this configuration, with the votes that it recorded.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(callback=level, help="Risk level of the promise; 0.15 if not given.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(callback=level, help="Its failure probability; 0.1 if not given.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Certification rows in each trial; 300 if not given.")
    ] = None,
    tiers: Annotated[
        int | None, typer.Option(min=1, max=3, help="Judges in the cascade; 3 if not given.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Certifications in each world.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the random generator.")] = 0,
    json: AsJson = False,
) -> None:
    """Certify again and again in worlds whose truth is known, and count broken promises. Exit 1: too many."""
    from trustescalate.analysis.self_test import self_test, self_test_of
    from trustescalate.errors import EXIT_BREACH

    if config is None:
        found = self_test(alpha or 0.15, delta or 0.1, rows or 300, tiers or 3, trials, seed)
    elif alpha or delta or rows or tiers:
        raise UsageError("--config brings alpha, delta, rows and tiers of its own", "leave these flags out")
    else:
        found = self_test_of(open_project(config), trials, seed)
    show(found, json=json)
    if not found.holds:
        raise typer.Exit(EXIT_BREACH)
