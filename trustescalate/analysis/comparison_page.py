"""Make the page of a comparison of two runs: which is better, what that rests on, and where they differ."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trustescalate.analysis.comparison_change import (
    NAMES,
    Finding,
    Sides,
    change_chart,
    change_table,
    estimate_change,
    mean_figures,
)
from trustescalate.analysis.comparison_groups import agreement_groups, change_groups, group_field, more_labels
from trustescalate.analysis.comparison_items import ComparedRows, moves_chart, moves_table
from trustescalate.analysis.comparison_section import Comparison, side_table, verdict_table
from trustescalate.analysis.comparison_sides import (
    certificates_section,
    doubts,
    judges_section,
    sides_provenance,
)
from trustescalate.analysis.matched_pairs import MatchedPairs
from trustescalate.calibration.population import INTERVAL_DELTA, agreement_limits
from trustescalate.cascade.run_folder import run_path
from trustescalate.records import Product, Run, Task
from trustescalate.records.jsonl import write_atomically
from trustescalate.report import figures, run_figures
from trustescalate.report.attainable import Command, completed
from trustescalate.report.document import SIMULATED, is_simulated
from trustescalate.report.figures import Figure, count, share
from trustescalate.report.html import render_html
from trustescalate.report.pictures import Interval, Intervals, Picture
from trustescalate.report.product import DISJOINT, is_disjoint, rate_name
from trustescalate.report.sections import KeyFigure, Page, Section


def write_page(
    compared: Comparison, sides: Sides, pairs: MatchedPairs, again: str, options: Sequence[str] = ()
) -> Path:
    """Write the page of a comparison into the folder of the candidate's run, and return its path.

    `again` is the command that made it; `options` name the candidate's configuration in the next ones.
    """
    before, after = sides
    page = comparison_page(compared, sides, pairs, again, options)
    path = run_path(after.config.folder, after.run.header.id) / f"compare-{before.run.header.id}.html"
    write_atomically(path, render_html(page).encode())
    return path


def comparison_page(
    compared: Comparison, sides: Sides, pairs: MatchedPairs, again: str, options: Sequence[str] = ()
) -> Page:
    """Make the page of a comparison of the `pairs` of two runs."""
    runs, task, change = pairs.runs, compared.task, compared.change
    first, second = runs
    groups = about = None
    shown: tuple[KeyFigure, ...]
    if compared.finding is not None and change is not None:
        verdict = compared.finding
        shown = mean_figures(change, task)
        field = group_field(sides)
        grouped = change if field == change.by else estimate_change(sides, pairs.by, field)
        groups = change_groups(grouped, task.kind, task.labels[0])
        charts = change_chart(change, task)
        about = _change_section(change, task, compared.by_judges)
    elif compared.kind == "answers":
        verdict = _verdicts_differ(compared)
        shown = _judge_figures(compared, runs)
        charts = _agreement_chart(pairs)
    else:
        verdict = _of_judges(compared, runs)
        shown = _judge_figures(compared, runs)
        groups = agreement_groups(pairs, group_field(sides))
        charts = _agreement_chart(pairs)
    gave = "gave" if compared.uncertified else "released"
    sections = (
        about,
        _verdict_section(compared, pairs),
        groups,
        judges_section(runs),
        certificates_section(runs),
        sides_provenance(runs, again),
    )
    banners = [SIMULATED] if any(is_simulated(run.header.certificate, run) for run in runs) else []
    banners += doubts(runs, compared)
    banners += [DISJOINT] if change is not None and is_disjoint(change) else []
    return Page(
        kind="comparison",
        title=task.question,
        facts=(f"baseline {first.header.id}", f"candidate {second.header.id}"),
        tone=verdict.tone,
        headline=verdict.headline,
        claims=verdict.claims,
        figures=(*shown, _matched(compared))[:4],
        pictures=(*charts, moves_chart(pairs, task, gave)),
        sections=tuple(section for section in sections if section is not None),
        advice=more_labels(compared) if verdict.open else "",
        banners=tuple(dict.fromkeys(banners)),
        items=ComparedRows(pairs, texts=compared.kind == "answers"),
        follow=_next(compared, sides, pairs.by, completed(options)),
        options=tuple(options),
    )


def _next(compared: Comparison, sides: Sides, by: str | None, command: Command) -> tuple[str, ...]:
    """The gate that would hold the candidate against the baseline."""
    (before, first, _), (config, second, _) = sides
    if compared.change is None or before.folder != config.folder:
        return ()
    asked = [] if config.compares else ["--set", "gate.max_drop=0.02"]
    asked += [] if by in (None, config.gate.match) else ["--set", f"gate.match={by}"]
    return (shlex.join(command("gate", second.header.id, "--baseline", first.header.id, *asked)),)


# ── two systems' responses ───────────────────────────────────────────────────────────────────────


def _verdicts_differ(compared: Comparison) -> Finding:
    """Say how often the verdicts differ, where the labels have no order."""
    why = "The labels of this task have no order, so no responses are better on average."
    both = compared.same + compared.differ
    moved = f"Where both runs have a verdict, it differs on {compared.differ:,} of {both:,} items."
    return Finding("warning", "Verdicts compared", (moved, why), False)


def _change_section(change: Product, task: Task, by_judges: float | None) -> Section:
    lead = (
        "The difference is taken item by item over the matched items, as the gate does with this baseline: "
        "from human labels where there are enough, else from the certified limits on wrong verdicts."
    )
    title = f"Change of the {rate_name(task.kind, task.labels[0])}"
    return Section("change", title, (lead,), tables=(change_table(change, task, by_judges),))


# ── two sets of judges ───────────────────────────────────────────────────────────────────────────


def _of_judges(compared: Comparison, runs: tuple[Run, Run]) -> Finding:
    """Say which judges agree more often with human labels, how much they release, and at what cost."""
    agreement = compared.agreement
    gave = "gave" if compared.uncertified else "released"
    done = [
        f"{share(side.matched_released, compared.matched).text}" for side in (compared.first, compared.second)
    ]
    costs = [run_figures.cost_per_1000(run).text for run in runs]
    economy = (
        f"Coverage of the matched items: {done[1]} (baseline {done[0]}). Cost per 1,000 items: {costs[1]} "
        f"(baseline {costs[0]}). The responses are the same, so this says nothing about the product."
    )
    if not agreement.labelled:
        text = (
            "Whether the candidate's judges agree more often with human labels is not known: no matched item "
            "has a human label in both runs. Labels that made a certificate do not count."
        )
        return Finding("warning", "Agreement not compared", (text, economy), True)
    sides = (agreement.first, agreement.second)
    rates = [f"{_rate(*side).text} ({side[0]:,} of {side[1]:,})" for side in sides]
    split = agreement.only_first + agreement.only_second
    seen = f"The candidate's verdicts agree with human labels on {rates[1]}, the baseline's on {rates[0]}"
    if not agreement.both:
        text = f"{seen}: no labelled item has a verdict in both runs, so nothing compares the two."
        return Finding("warning", "Cannot be told apart", (text, economy), True)
    if agreement.better is None:
        text = f"{seen}: on the {agreement.both:,} labelled items both were right on the same."
        return Finding("warning", "Cannot be told apart", (text, economy), True)
    low, high = agreement.better
    rests = (
        f"Both runs {gave} a verdict on {agreement.both:,} labelled items. Exactly one was right on "
        f"{split:,}: the candidate on {agreement.only_second:,} ({figures.interval(low, high)} at 95 %; 50 % "
        "is no difference)."
    )
    if low <= 0.5 <= high:
        text = f"{seen}: these labels cannot tell the two apart."
        return Finding("warning", "Cannot be told apart", (text, rests, economy), True)
    better = low > 0.5
    text = f"{seen}: the candidate's judges agree {'more' if better else 'less'} often."
    headline = f"Candidate agrees {'more' if better else 'less'} often"
    return Finding("good" if better else "bad", headline, (text, rests, economy), False)


def _rate(right: int, released: int) -> Figure:
    return share(right, released, "it has no verdict on a labelled item")


def _judge_figures(compared: Comparison, runs: tuple[Run, Run]) -> tuple[KeyFigure, ...]:
    agreement, sides = compared.agreement, (compared.first, compared.second)
    rates = [_rate(*side) for side in (agreement.first, agreement.second)]
    done = [share(side.matched_released, compared.matched) for side in sides]
    costs = [run_figures.cost_per_1000(run) for run in runs]
    labelled = "no item has a human label in both runs"
    if agreement.labelled:
        labelled = f"baseline {rates[0].text}; {agreement.labelled:,} items with human labels in both runs"
    return (
        KeyFigure("Human agreement of the candidate", rates[1], labelled),
        KeyFigure(
            "Coverage of the candidate",
            done[1],
            f"baseline {done[0].text}, of the matched items",
            None if done[1].value is None else float(done[1].value),
        ),
        KeyFigure("Cost per 1,000 items, candidate", costs[1], f"baseline {costs[0].text}"),
    )


def _agreement_chart(pairs: MatchedPairs) -> tuple[Picture, ...]:
    """Both runs' agreement on labelled matched items, each with its own interval."""
    bars = []
    for side, name in enumerate(NAMES):
        given = np.flatnonzero(pairs.labelled & (pairs.verdicts[side] >= 0))
        if not len(given):
            return ()
        losses = (~pairs.agrees(side)[given]).astype(np.float64).tolist()
        limits = agreement_limits(losses, pairs.units(given), INTERVAL_DELTA)
        bars.append(Interval(name, 1 - sum(losses) / len(losses), limits, f"n = {len(given):,}"))
    parts = [f"{bar.name}: {figures.interval(*(bar.limits or (0.0, 1.0)))}, {bar.note}" for bar in bars]
    title = "Agreement of the verdicts with human labels"
    alt = f"{title}, with 95 % limits of each run by itself. {'; '.join(parts)}."
    return (Intervals(title, tuple(bars), True, alt),)


# ── both ─────────────────────────────────────────────────────────────────────────────────────────


def _matched(compared: Comparison) -> KeyFigure:
    detail = (
        f"by {compared.by}; unmatched: {compared.only_first:,} of the baseline, {compared.only_second:,} of "
        "the candidate"
    )
    whole = compared.matched + max(compared.only_first, compared.only_second)
    return KeyFigure("Items matched", count(compared.matched), detail, compared.matched / whole)


def _verdict_section(compared: Comparison, pairs: MatchedPairs) -> Section:
    both = compared.same + compared.differ
    lead = (
        f"Both runs have a verdict on {both:,} of {compared.matched:,} matched items, and it differs on "
        f"{compared.differ:,} ({share(compared.differ, both, 'none').text} of these)."
    )
    more = (
        f"{compared.only_first:,} items of the baseline and {compared.only_second:,} of the candidate have "
        f"no match by {compared.by}, and are left out of everything on this page but the runs' own figures."
    )
    tables = (verdict_table(compared), *moves_table(pairs, compared.task), side_table(compared))
    return Section("verdicts", "Where the verdicts differ", (lead, more), tables=tables)
