"""Lay two compared runs side by side: judges, certificates, configuration, and what limits the figures."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator

from trustescalate.analysis.comparison_change import NAMES
from trustescalate.analysis.comparison_section import Comparison, uncertified_note
from trustescalate.records import Run
from trustescalate.records.judge_counts import count_votes
from trustescalate.report import run_figures, uncertified
from trustescalate.report.certificate_figures import (
    certified_agreement,
    human_reference,
    interval_figure,
    observed_agreement,
    predicted_coverage,
)
from trustescalate.report.figures import Figure, count, missing, setting, share, words
from trustescalate.report.sections import Block, Column, Row, Section, Table, numbers

Runs = tuple[Run, Run]


def judges_section(runs: Runs) -> Section:
    """Report each judge's agreement, cost, items asked and failed votes in both runs."""
    bound = [{seal.judge: seal.fingerprint for seal in run.header.certificate.judges} for run in runs]
    changed = [name for name in bound[0] if bound[1].get(name, bound[0][name]) != bound[0][name]]
    only = [[name for name in bound[k] if name not in bound[1 - k]] for k in (0, 1)]
    differ = [f"{name} changed" for name in changed]
    differ += [
        f"{name} only in the {side.lower()}"
        for side, names in zip(NAMES, only, strict=True)
        for name in names
    ]
    text = (
        f"Judges that differ: {', '.join(differ)}." if differ else "Both runs have the same judges.",
        "The agreement of a judge is that of its verdicts with human labels of a sample of its run's items; "
        "no verdict counts as a disagreement. Each interval holds by itself. A judge is asked where no judge "
        "before it ended the item, so the items of two judges may differ in difficulty.",
    )
    return Section("judges", "Judges", text, tables=(_judge_table(runs, {*changed, *only[0], *only[1]}),))


def _judge_table(runs: Runs, differ: set[str]) -> Table:
    rows = []
    for run, name in zip(runs, NAMES, strict=True):
        for seal in run.header.certificate.judges:
            asked = sum(number for _, number in run_figures.steps(run, seal.judge))
            figure, limits = uncertified.judge_agreement(run, seal.judge) if asked else (missing(""), None)
            votes = count_votes(run.judgments).of(seal.judge)
            cells = (
                *(words(seal.judge), words(name), figure, interval_figure(limits)),
                share(asked, run.header.items, "the run has no items"),
                share(votes.failed, votes.votes, ""),
                run_figures.total_cost(run, seal.judge),
            )
            rows.append(Row(cells, "differs" if seal.judge in differ else ""))
    titles = numbers("Human agreement", "95 % interval", "Items asked", "Failed votes", "Cost")
    caption = f"Each judge in both runs; agreement with {human_reference(runs[0].header.certificate)}"
    return Table(caption, (Column("Judge"), Column("Run"), *titles), tuple(rows))


def certificates_section(runs: Runs) -> Section:
    """Report what each run's certificate states."""
    certificates = [run.header.certificate for run in runs]
    if certificates[0].digest == certificates[1].digest:
        lead = "Both runs have the same certificate."
    else:
        lead = "Each run keeps its own certificate; the comparison certifies nothing."
    lines: list[tuple[str, Callable[[Run], Figure]]] = [
        ("Status", lambda run: words("uncertified" if run.uncertified else run.header.certificate.status)),
        ("Certified agreement", lambda run: certified_agreement(run.header.certificate)),
        ("Risk level α", lambda run: setting(run.header.certificate.alpha)),
        ("Failure probability δ", lambda run: setting(run.header.certificate.delta)),
        ("Observed agreement, certification rows", lambda run: observed_agreement(run.header.certificate)),
        ("Predicted coverage at least", lambda run: predicted_coverage(run.header.certificate)),
        ("Coverage of the run", lambda run: _released(run, run_figures.coverage)),
        ("Labelled rows", lambda run: count(run.header.certificate.n)),
        ("Path", lambda run: words(run.header.certificate.path)),
        ("Created", lambda run: words(run.header.certificate.created)),
    ]
    rows = tuple(Row((words(name), *map(take, runs))) for name, take in lines)
    table = Table("Certificates", (Column(""), *map(Column, NAMES)), rows)
    return Section("certificates", "Certificates", (lead,), tables=(table,))


def _released(run: Run, take: Callable[[Run], Figure]) -> Figure:
    return missing(uncertified.NOTHING) if run.uncertified else take(run)


def sides_provenance(runs: Runs, command: str) -> Section:
    """Report what the comparison was made from, and the command that makes it again."""
    first, second = (run.header for run in runs)
    facts: list[tuple[str, tuple[str, str]]] = [
        ("Run", (first.id, second.id)),
        ("Status", (first.status, second.status)),
        ("Started", (first.created, second.created)),
        *(
            (f"Version of {name}", (first.versions.get(name, "—"), second.versions.get(name, "—")))
            for name in sorted({*first.versions, *second.versions})
        ),
    ]
    rows = tuple(Row((words(name), *map(words, values))) for name, values in facts)
    table = Table("Provenance", (Column(""), *map(Column, NAMES)), rows)
    digests = "\n".join(
        f"{name.lower()}: items {run.header.items_digest}, certificate {run.header.certificate.digest}"
        for name, run in zip(NAMES, runs, strict=True)
    )
    blocks = [Block("Command", command), Block("Digests (SHA-256)", digests)]
    blocks += [
        Block(f"Command of the {name.lower()}", run.header.command)
        for name, run in zip(NAMES, runs, strict=True)
    ]
    changed = "\n".join(_changed(runs)) or "The two configurations are equal."
    blocks.append(Block("Configuration: what differs", changed))
    text = (f"This page is made again by `{command}`. It makes no model call.",)
    return Section("provenance", "Provenance", text, tables=(table,), blocks=tuple(blocks))


def _changed(runs: Runs) -> Iterable[str]:
    texts = [
        json.dumps(run.header.config, indent=2, ensure_ascii=False, sort_keys=True, default=str).splitlines()
        for run in runs
    ]
    return difflib.unified_diff(texts[0], texts[1], "baseline", "candidate", n=2, lineterm="")


def doubts(runs: Runs, compared: Comparison) -> Iterator[str]:
    """Say which figures of the runs do not hold as they are: the banners of both."""
    for run, name in zip(runs, NAMES, strict=True):
        if not run_figures.is_complete(run):
            decided, items = len(run.decisions), run.header.items
            yield f"{name}: the run is incomplete; {decided:,} of {items:,} items are decided."
        raised = [tier.judge for tier in run.shift if tier.raised]
        if raised:
            yield (
                f"{name}: verdicts or scores of {', '.join(raised)} have shifted against the calibration "
                "set. Limits that rest on its certificate may not hold for these items."
            )
    yield from uncertified_note(compared)
