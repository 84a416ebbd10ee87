"""Name the next commands after a calibration or a run."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustescalate.calibration.attainable import Attainable
from trustescalate.data.item_sets import mask_of
from trustescalate.records import Certificate, Run
from trustescalate.records.decisions import placed_decisions
from trustescalate.report import run_figures
from trustescalate.report.attainable import Command, completed, steps
from trustescalate.report.pictures import Power
from trustescalate.report.sections import Report


def with_next(
    report: Report,
    options: Sequence[str] | None,
    outcome: Run | Certificate,
    seen: Attainable | None = None,
    power: Power | None = None,
    *,
    written: bool = True,
) -> Report:
    """Add the next commands to a report; without `options`, which name the configuration, it has none.

    `seen` is what rows without a certificate could have had, and `power` the chance of one; `written`: the
    report is in its files.
    """
    if options is None:
        return report
    command = completed(options)
    if isinstance(outcome, Run):
        lines = list(_after_run(outcome, command, written=written))
    elif seen is not None:
        lines = [list(words) for words, _ in steps(seen, outcome, command, power)]
    else:
        flags = ["--uncertified"] if outcome.status == "none" else []
        lines = [list(command("run", *flags, "--dry-run")), list(command("run", *flags))]
    return replace(report, follow=tuple(map(shlex.join, lines)), options=tuple(options))


def _has_open(run: Run) -> bool:
    """Whether an item that nobody labelled needs human review."""
    labelled = mask_of({note.item_id for note in run.annotations}, run.items)
    return any(row.label is None and not labelled[place] for place, row in placed_decisions(run))


def _after_run(run: Run, command: Command, *, written: bool) -> Iterator[Sequence[str]]:
    if not run_figures.is_complete(run):
        yield command("run", "--resume", run.header.id)
    if run.header.shard is not None:
        return
    if not written:
        yield command("report")
    if not run.uncertified and run_figures.is_complete(run):
        yield command("gate")
    if run_figures.is_complete(run) and _has_open(run):
        yield command("label queue", run.header.id)
