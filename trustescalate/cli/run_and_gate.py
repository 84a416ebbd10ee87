"""Panel Run and gate: `run`, `report`, `gate`, `compare` and `monitor`."""

import os
import shlex
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trustescalate.cli.app import Command, app, command
from trustescalate.cli.console import clean, print_gate, print_json, print_page, progress, say, show
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
    RunId,
    batch_flags,
    budget_of,
    command_line,
    engine_flags,
    level,
    levels,
    open_project,
    resumable,
    thresholds,
    wait,
)
from trustescalate.errors import UsageError

if TYPE_CHECKING:
    from trustescalate.project import Project


def _sending(project: "Project", otel: str | None) -> AbstractContextManager[None]:
    """Send the decisions of the project under this name; nothing without one."""
    if otel is None:
        return nullcontext()
    try:
        from trustescalate.integrations.opentelemetry import sending
    except ModuleNotFoundError:
        hint = "pip install 'trustescalate[otel]'"
        raise UsageError("--otel needs the SDK of OpenTelemetry", hint) from None
    return sending(project, otel)


class RunCommand(Command):
    """`run`: also a command line that cannot be parsed is an attempt to run."""

    def misused(self, words: list[str], error: str) -> None:
        """Record the attempt in the project that the words name."""
        named = os.environ.get("TRUSTESCALATE_RUN_CONFIG") or str(CONFIG)
        for word, after in zip(words, [*words[1:], named], strict=False):
            if word == "--config" or word.startswith("--config="):
                named = after if word == "--config" else word.partition("=")[2]
        if "--dry-run" not in words:
            _record_failure(Path(named), ["trustescalate", "run", *words], error)


def _record_failure(config: Path, words: list[str], error: str) -> None:
    """Record an attempt that failed before it began, so that no gate passes on the run before."""
    from trustescalate.cascade.run import begin_attempt
    from trustescalate.config import must_stay_inside
    from trustescalate.records.progress import Hooks

    if config.is_file():
        must_stay_inside(config.parent)
        with suppress(UsageError), begin_attempt(config.parent, Hooks(), words):
            raise UsageError(error)


@command(app, "run", "run --items items.jsonl --budget-usd 5", RunCommand)
def run(
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    items: Annotated[
        Path | None, typer.Option(help="Judge the items of this file; default: those without labels.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help='Resume this run; "latest" names the last one.')
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Judge part I of N of the items; `merge` makes one run of all parts."
        ),
    ] = None,
    budget_usd: BudgetUsd = None,
    budget_calls: BudgetCalls = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Call the judges again instead of reading the cache.")
    ] = False,
    batch: Batch = False,
    finish_live: FinishLive = False,
    engine: Engine = "local",
    address: Address = None,
    uncertified: Annotated[
        bool,
        typer.Option("--uncertified", help="Use no certificate: judge all items and release nothing."),
    ] = False,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JUDGE=SCORE",
            callback=thresholds,
            help="With --uncertified: this judge ends an item from this score on; may be repeated.",
        ),
    ] = None,
    otel: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Send each decision as an OpenTelemetry event of this evaluation; OTEL_… says where to.",
        ),
    ] = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Send unlabelled items through the certified cascade. Every vote is recorded; a run can be resumed."""
    from trustescalate.cascade.engines.protocol import engine_of
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.document import build
    from trustescalate.report.follow import with_next

    if dry_run and resume is not None:
        raise UsageError("a dry run resumes nothing", "leave out --dry-run or --resume")
    if dry_run and shard is not None:
        raise UsageError("a dry run is about all items", "leave out --dry-run or --shard")
    if threshold and not uncertified:
        raise UsageError("--threshold needs --uncertified", "add --uncertified")
    if otel is not None and uncertified:
        raise UsageError("--otel sends certified decisions", "leave out --otel or --uncertified")
    named = {name: float(score) for name, _, score in (text.rpartition("=") for text in threshold or ())}
    started = command_line("run", config, overrides)
    with progress() as update:
        try:
            flags = [*(["--no-cache"] if no_cache else []), *batch_flags(batch, finish_live)]
            flags += [*engine_flags(engine, address), *([] if otel is None else ["--otel", otel])]
            flags += [] if shard is None else ["--shard", shard]
            without = ["--uncertified"] if uncertified else []
            without += [word for text in threshold or () for word in ("--threshold", text)]
            started += [*flags, *without, *([] if items is None else ["--items", str(items)])]
            reached = engine_of(engine, address)
            project = open_project(config, overrides, update)
        except UsageError as error:
            if not dry_run:
                _record_failure(config, started, error.message)
            raise
        limits = budget_of(project, budget_usd, budget_calls)
        if dry_run:
            from trustescalate.analysis.dry_run import estimate_run

            given = named if uncertified else None
            show(wait(estimate_run(project.config, items, limits, batch=batch, thresholds=given)), json=json)
            return
        known = project.run_ids()

        def resumed() -> list[str]:
            if shard is not None and resume is None:
                return command_line("run", config, overrides, *flags, "--resume", "latest")
            begun = (
                [resume]
                if resume is not None
                else [run_id for run_id in project.run_ids() if run_id not in known]
            )
            if not begun:
                return started
            return command_line("run", config, overrides, *flags, "--resume", begun[-1])

        with resumable(resumed), _sending(project, otel):
            result = wait(
                project.run(
                    items=items,
                    resume=resume,
                    shard=shard,
                    budget=limits,
                    use_cache=not no_cache,
                    batch=batch,
                    finish_live=finish_live,
                    engine=reached,
                    uncertified=uncertified,
                    thresholds=named,
                    command=started,
                )
            )
    report = with_next(build(result), project.options, result, written=False)
    if json:
        print_json({"run": result.header.id, "measures": to_python(report.measures)})
        return
    print_page(report.page(), project.run_path(result.header.id))


@command(app, "merge", "merge runs/*")
def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="The ids or the folders of all shards.")],
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Make one run of the shards of `run --shard`, from any machine. No model calls."""
    from trustescalate.records.jsonl import to_python
    from trustescalate.report.document import build
    from trustescalate.report.follow import with_next

    project = open_project(config, overrides)
    result = project.merge(runs, command=command_line("merge", config, overrides, *runs))
    report = with_next(build(result), project.options, result, written=False)
    if json:
        print_json({"run": result.header.id, "measures": to_python(report.measures)})
        return
    print_page(report.page(), project.run_path(result.header.id))


@command(app, "report", "report --alpha 0.2")
def report(
    run_id: RunId = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(callback=levels, help="Report what this risk level would allow; may be repeated."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write the report of a run, or of the certificate. Files: report.html, .md, .json, .items.jsonl."""
    from trustescalate.analysis.risk_band import limits_at

    project = open_project(config, overrides)
    written, path = project.report(run_id, limits_at(project.config, alpha or ()))
    if json:
        typer.echo(path.with_suffix(".json").read_text(encoding="utf-8"))
        return
    for section in written.sections:
        if section.slug == "risk-limits":
            for text in section.text:
                say(clean(text))
    print_page(written.page(), path, apart=True)


@command(app, "gate", "gate --json")
def gate(
    run_id: RunId = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Compare with this run, by id or folder; default: [gate] baseline."),
    ] = None,
    config: ConfigPath = CONFIG,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Test a run against [gate]. Exit 0: passed, 1: measured breach, 3: not measurable. No model calls."""
    from trustescalate.records.jsonl import to_python

    verdict, path = open_project(config, overrides).gate(run_id, baseline=baseline)
    if json:
        print_json(to_python(verdict))
    else:
        print_gate(verdict)
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
        Path | None, typer.Option(help="Name the candidate's configuration if it lies elsewhere.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare two runs item by item, and write a page. Their judges or their responses may differ."""
    from trustescalate.analysis.comparison import compare as compare_runs
    from trustescalate.analysis.comparison_change import Compared
    from trustescalate.analysis.comparison_page import write_page
    from trustescalate.analysis.matched_pairs import matched_pairs
    from trustescalate.data.dataset import load_dataset

    if by is not None and not by.removeprefix("meta."):
        raise UsageError("--by names no key", "give --by meta.<key>")
    baseline = open_project(config, overrides)
    candidate = baseline if config_b is None else open_project(config_b, overrides)
    runs = baseline.load_run(first), candidate.load_run(second)
    pairs = matched_pairs(*runs, by)
    data = load_dataset(baseline.config)
    before = Compared(baseline.config, runs[0], data)
    if candidate is not baseline:
        data = load_dataset(candidate.config)
    after = Compared(candidate.config, runs[1], data)
    compared = compare_runs((before, after), pairs)
    show(compared, json=json)
    options = [*([] if by is None else ["--by", by])]
    options += [] if config_b is None else ["--config-b", str(config_b)]
    again = command_line("compare", config, overrides, *(run.header.id for run in runs), *options)
    path = write_page(compared, (before, after), pairs, shlex.join(again), candidate.options or ())
    say(f"written: {path}")


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
        counted = command_line("monitor", config, overrides, "--anchors")
        say(f"next: `{shlex.join(again)}`, then `{shlex.join(counted)} RUN`")
        return
    state = watch(project.config, project.hooks, audit=audit, run_id=run_id, anchors=anchors, level=level)
    show(state, json=json)
    raise typer.Exit(state.exit_code)
