"""Make the page of a comparison of two runs: which is better, what that rests on, and where they differ."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from trustescalate.analysis.comparison import SELECTED
from trustescalate.analysis.comparison_groups import (
    NO_DIFFERENCE,
    Sides,
    agreement_groups,
    change_groups,
    changes,
    group_field,
    more_labels,
)
from trustescalate.analysis.comparison_items import ComparedRows, moves_chart, moves_table
from trustescalate.analysis.comparison_section import (
    NAMES,
    Comparison,
    side_table,
    verdict_table,
)
from trustescalate.analysis.comparison_sides import (
    certificates_section,
    doubts,
    judges_section,
    sides_provenance,
)
from trustescalate.analysis.matched_pairs import MatchedPairs, matched_pairs
from trustescalate.calibration.population import INTERVAL_DELTA, agreement_limits
from trustescalate.cascade.run_folder import run_path
from trustescalate.records import Change as ItemsChange
from trustescalate.records import Product, Run, Task, TaskKind
from trustescalate.records.jsonl import write_atomically
from trustescalate.report import figures, run_figures
from trustescalate.report.attainable import Command, completed
from trustescalate.report.document import SIMULATED, is_simulated
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.html import render_html
from trustescalate.report.pictures import Interval, Intervals, Picture
from trustescalate.report.product import (
    BASES,
    DISJOINT,
    estimate_figure,
    is_disjoint,
    mean_figure,
    rate_name,
)
from trustescalate.report.sections import Column, KeyFigure, Page, Row, Section, Table, numbers

Tone = Literal["good", "warning", "bad"]


class _Verdict(NamedTuple):
    """What the first screen says; `open` if the two runs are not told apart."""

    tone: Tone
    headline: str
    claims: tuple[str, ...]
    open: bool


def write_page(
    compared: Comparison, sides: Sides, by: str | None, again: str, options: Sequence[str] = ()
) -> Path:
    """Write the page of a comparison into the folder of the candidate's run, and return its path.

    `again` is the command that made it; `options` name the candidate's configuration in the next ones.
    """
    (_, first), (config, second) = sides
    page = comparison_page(compared, sides, by, again, options)
    path = run_path(config.folder, second.header.id) / f"compare-{first.header.id}.html"
    write_atomically(path, render_html(page).encode())
    return path


def comparison_page(
    compared: Comparison, sides: Sides, by: str | None, again: str, options: Sequence[str] = ()
) -> Page:
    """Make the page; `sides` are the configuration and the run of the baseline and of the candidate."""
    (_, first), (_, second) = sides
    runs, task = (first, second), compared.task
    pairs = matched_pairs(first, second, by)
    seen = None
    if compared.kind == "answers":
        own, field = sides[1][0].gate.by, group_field(sides)
        seen = changes(sides, by, own)
        verdict = _of_responses(compared, seen)
        measured = compared.change is not None
        shown = (*_means(seen, task), _difference(seen, task)) if measured else _judge_figures(compared, runs)
        grouped = seen if field == own else changes(sides, by, field)
        groups = None if grouped is None else change_groups(grouped, task.kind, task.labels[0])
        charts = _change_chart(seen, task) if measured else _agreement_chart(pairs)
        about = _change_section(seen, task) if measured else None
    else:
        verdict = _of_judges(compared, runs)
        shown = _judge_figures(compared, runs)
        groups = agreement_groups(pairs, group_field(sides))
        charts = _agreement_chart(pairs)
        about = None
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
    banners += [DISJOINT] if seen is not None and is_disjoint(seen) else []
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
        advice=more_labels(compared, seen) if verdict.open else "",
        banners=tuple(dict.fromkeys(banners)),
        items=ComparedRows(pairs, texts=compared.kind == "answers"),
        follow=_next(compared, sides, by, completed(options)),
        options=tuple(options),
    )


def _next(compared: Comparison, sides: Sides, by: str | None, command: Command) -> tuple[str, ...]:
    """The gate that would hold the candidate against the baseline."""
    (before, first), (config, second) = sides
    if compared.change is None or before.folder != config.folder:
        return ()
    asked = [] if config.compares else ["--set", "gate.max_drop=0.02"]
    asked += [] if by in (None, config.gate.match) else ["--set", f"gate.match={by}"]
    return (shlex.join(command("gate", second.header.id, "--baseline", first.header.id, *asked)),)


# ── two systems' responses ───────────────────────────────────────────────────────────────────────


def _of_responses(compared: Comparison, seen: Product | None) -> _Verdict:
    """Say which responses are better, with what probability, and what that rests on."""
    task = compared.task
    if compared.change is None:
        why = "The labels of this task have no order, so no responses are better on average."
        both = compared.same + compared.differ
        moved = f"Where both runs have a verdict, it differs on {compared.differ:,} of {both:,} items."
        return _Verdict("warning", "Verdicts compared", (moved, why), False)
    name, change, plain = rate_name(task.kind, task.labels[0]), _change(seen), task.kind is TaskKind.RATING
    if change is None or change.first.basis == "none":
        claim = f"Nothing limits the change of the {name}: {_why_nothing(seen)}."
        return _Verdict("warning", "Not measured", (claim,), True)
    limits, rests = change.first, _rests(change)
    doubt = DISJOINT if change.disjoint else ""
    if compared.change.reason == SELECTED and limits.basis not in ("verdicts", "all labelled", "equal"):
        doubt = f"Labels cannot show the change of the {name}: {SELECTED}."
    if doubt:
        return _Verdict("warning", "Not measured", (doubt, rests), True)
    range_ = estimate_figure(replace(limits, estimate=None), plain, signed=True).text
    if limits.low == limits.high == 0:
        return _Verdict("warning", "Equal", (f"The {name} of the two runs is equal.", rests), False)
    if limits.low <= 0 <= limits.high:
        text = f"The two cannot be told apart: the change of the {name} is {range_}."
        return _Verdict("warning", "Cannot be told apart", (text, rests), True)
    better = limits.low > 0
    shown = estimate_figure(limits, plain, signed=True).text
    text = f"The candidate's responses are {'better' if better else 'worse'}. Change of the {name}: {shown}."
    headline = "Candidate better" if better else "Candidate worse"
    return _Verdict("good" if better else "bad", headline, (text, rests), False)


def _change(seen: Product | None) -> ItemsChange | None:
    """The change over all matched items, as the gate computes it."""
    return seen.changes[0] if seen is not None and seen.changes else None


def _why_nothing(seen: Product | None) -> str:
    if seen is None:
        return "the gate cannot compare these two runs"
    change = _change(seen)
    return (seen.reason if change is None else change.first.reason) or "nothing was measured"


def _rests(change: ItemsChange) -> str:
    limits = change.first
    text = f"The limits are on the mean change over {change.matched:,} matched items"
    if change.same:
        text += f", {change.same:,} of them with equal responses"
    text += f". They rest on {BASES[limits.basis]}"
    if limits.labels and limits.basis not in ("all labelled", "verdicts"):
        text += f": {limits.labels:,} items, which must have been drawn at random"
    return f"{text}{f'; {limits.reason}' if limits.reason else ''}."


def _means(seen: Product | None, task: Task) -> tuple[KeyFigure, KeyFigure]:
    """The mean over all items of each run, both at the level of the gate's comparison."""
    name, plain = rate_name(task.kind, task.labels[0]), task.kind is TaskKind.RATING
    means = (None, None) if seen is None else (seen.baseline_mean, seen.means[0])
    shown = []
    for mean, side in zip(means, NAMES, strict=True):
        title = f"{side}: {name}"
        if mean is None or mean.first.basis == "none":
            why = _why_nothing(seen) if mean is None else mean.first.reason
            shown.append(KeyFigure(title, missing(why), why))
        else:
            shown.append(mean_figure(title, mean.first, plain))
    return shown[0], shown[1]


def _difference(seen: Product | None, task: Task) -> KeyFigure:
    change = _change(seen)
    if change is None or change.first.basis == "none":
        why = _why_nothing(seen)
        return KeyFigure("Difference", missing(why), why)
    return mean_figure(
        "Difference", change.first, task.kind is TaskKind.RATING, signed=True, items="matched items"
    )


def _change_chart(seen: Product | None, task: Task) -> tuple[Picture, ...]:
    change, percent = _change(seen), task.kind is not TaskKind.RATING
    measured = () if change is None else (change.first, change.second)
    bars, parts = [], []
    for limits in filter(None, measured):
        if limits.basis == "none":
            continue
        name = "Certified verdicts" if limits.basis == "verdicts" else "Human labels"
        name = "Labels and predictions (PPI++)" if limits.basis == "predictions" else name
        sure = f"probability ≥ {figures.setting(round(limits.confidence, 6)).text}"
        bars.append(Interval(name, limits.estimate, (limits.low, limits.high), sure))
        parts.append(f"{name}: {estimate_figure(limits, not percent, signed=True).text}")
    if not bars:
        return ()
    title = f"Change of the {rate_name(task.kind, task.labels[0])}, candidate minus baseline"
    alt = f"{title}. {'; '.join(parts)}."
    title += ", in points" if percent else ""
    return (Intervals(title, tuple(bars), percent, alt, 0.0, NO_DIFFERENCE, percent),)


def _change_section(seen: Product | None, task: Task) -> Section | None:
    change, plain = _change(seen), task.kind is TaskKind.RATING
    if change is None:
        return None
    name = rate_name(task.kind, task.labels[0])
    lead = (
        "The difference is taken item by item over the matched items, as the gate does with this baseline: "
        "from human labels where there are enough, else from the certified limits on wrong verdicts."
    )
    rows = tuple(
        Row((
            words(BASES[limits.basis], limits.reason),
            estimate_figure(limits, plain, signed=True),
            count(limits.items),
            count(limits.labels),
        ))
        for limits in filter(None, (change.first, change.second))
    )  # fmt: skip
    columns = (Column("Rests on"), Column("Estimate and limits"), *numbers("Items", "Labels"))
    table = Table("Candidate minus baseline", columns, rows)
    return Section("change", f"Change of the {name}", (lead,), tables=(table,))


# ── two sets of judges ───────────────────────────────────────────────────────────────────────────


def _of_judges(compared: Comparison, runs: tuple[Run, Run]) -> _Verdict:
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
        return _Verdict("warning", "Agreement not compared", (text, economy), True)
    sides = (agreement.first, agreement.second)
    rates = [f"{_rate(*side).text} ({side[0]:,} of {side[1]:,})" for side in sides]
    split = agreement.only_first + agreement.only_second
    seen = f"The candidate's verdicts agree with human labels on {rates[1]}, the baseline's on {rates[0]}"
    if not agreement.both:
        text = f"{seen}: no labelled item has a verdict in both runs, so nothing compares the two."
        return _Verdict("warning", "Cannot be told apart", (text, economy), True)
    if agreement.better is None:
        text = f"{seen}: on the {agreement.both:,} labelled items both were right on the same."
        return _Verdict("warning", "Cannot be told apart", (text, economy), True)
    low, high = agreement.better
    rests = (
        f"Both runs {gave} a verdict on {agreement.both:,} labelled items. Exactly one was right on "
        f"{split:,}: the candidate on {agreement.only_second:,} ({figures.interval(low, high)} at 95 %; 50 % "
        "is no difference)."
    )
    if low <= 0.5 <= high:
        text = f"{seen}: these labels cannot tell the two apart."
        return _Verdict("warning", "Cannot be told apart", (text, rests, economy), True)
    better = low > 0.5
    text = f"{seen}: the candidate's judges agree {'more' if better else 'less'} often."
    headline = f"Candidate agrees {'more' if better else 'less'} often"
    return _Verdict("good" if better else "bad", headline, (text, rests, economy), False)


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
    tables = (verdict_table(compared), *moves_table(pairs, compared.task), side_table(compared, NAMES))
    return Section("verdicts", "Where the verdicts differ", (lead, more), tables=tables)
