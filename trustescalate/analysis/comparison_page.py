"""Make the page of a comparison of two runs: which is better, what that rests on, and where they differ."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from trustescalate.analysis.comparison import MatchedPair, matched_pairs
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
    Change,
    Comparison,
    change_table,
    points_figure,
    points_range,
    side_table,
    verdict_table,
)
from trustescalate.analysis.comparison_sides import (
    certificates_section,
    doubts,
    judges_section,
    sides_provenance,
)
from trustescalate.calibration.population import INTERVAL_DELTA, agreement_limits, unit_of
from trustescalate.cascade.run_folder import run_path
from trustescalate.records import Run, Task, TaskKind
from trustescalate.records.jsonl import write_atomically
from trustescalate.report import figures, run_figures
from trustescalate.report.document import SIMULATED, is_simulated
from trustescalate.report.figures import Figure, count, missing, share, words
from trustescalate.report.html import render_html
from trustescalate.report.overall import PPI_GUARD, overall_figure
from trustescalate.report.pictures import Interval, Intervals, Picture
from trustescalate.report.product import DISJOINT, is_disjoint, product_figure, rate_name
from trustescalate.report.sections import KeyFigure, Page, Section

Tone = Literal["good", "warning", "bad"]


class _Verdict(NamedTuple):
    """What the first screen says; `open` if the two runs are not told apart."""

    tone: Tone
    headline: str
    claims: tuple[str, ...]
    open: bool


def write_page(compared: Comparison, sides: Sides, by: str | None, command: str) -> Path:
    """Write the page of a comparison into the folder of the candidate's run, and return its path."""
    (_, first), (config, second) = sides
    page = comparison_page(compared, sides, by, command)
    path = run_path(config.folder, second.header.id) / f"compare-{first.header.id}.html"
    write_atomically(path, render_html(page).encode())
    return path


def comparison_page(compared: Comparison, sides: Sides, by: str | None, command: str) -> Page:
    """Make the page; `sides` are the configuration and the run of the baseline and of the candidate."""
    (_, first), (_, second) = sides
    runs, task = (first, second), compared.task
    pairs = matched_pairs(first, second, by)
    seen = changes(sides, by) if compared.kind == "answers" else None
    if compared.kind == "answers":
        verdict = _of_responses(compared)
        measured = compared.change is not None
        shown = (*_means(runs, task), _difference(compared)) if measured else _judge_figures(compared, runs)
        groups = None if seen is None else change_groups(seen, task.kind, task.labels[0])
        charts = _change_chart(compared) if measured else _agreement_chart(pairs)
        about = _change_section(compared)
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
        sides_provenance(runs, command),
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
        items=ComparedRows(runs, pairs, texts=compared.kind == "answers"),
        follow=_next(compared, sides),
    )


def _next(compared: Comparison, sides: Sides) -> tuple[str, ...]:
    """The gate that would hold the candidate against the baseline."""
    (before, first), (config, second) = sides
    if compared.change is None or before.folder != config.folder:
        return ()
    asked = [] if config.compares else ["--set", "gate.max_drop=0.02"]
    given = ["trustescalate", "gate", second.header.id, "--baseline", first.header.id, *asked]
    return (shlex.join(given),)


# ── two systems' responses ───────────────────────────────────────────────────────────────────────


def _of_responses(compared: Comparison) -> _Verdict:
    """Say which responses are better, and what that rests on."""
    change, task = compared.change, compared.task
    matched = f"{compared.matched:,} matched items"
    if change is None:
        why = "The labels of this task have no order, so no responses are better on average."
        both = compared.same + compared.differ
        moved = f"Where both runs have a verdict, it differs on {compared.differ:,} of {both:,} items."
        return _Verdict("warning", "Verdicts compared", (moved, why), False)
    name = rate_name(task.kind, task.labels[0])
    if change.interval is None or change.label_only is None or change.estimate is None:
        judged = points_figure(task, change.by_judges).text
        claims = [
            f"Labels cannot show whether the candidate's responses are better: {change.reason}.",
            f"By the judges alone, the {name} changes by {judged} on {matched}; no label corrects this.",
        ]
        if change.verdicts is not None:
            claims.append(
                "The released verdicts and the two certificates alone limit the change to "
                f"{points_range(task, change.verdicts)}."
            )
        return _Verdict("warning", "Not measured", tuple(claims), True)
    limits = change.interval if change.usable else change.label_only
    rests = (
        f"It rests on predictions for {matched}, corrected by {change.labels:,} items with human labels in "
        "both runs, which must have been drawn at random."
    )
    if not change.usable:
        rests = (
            f"Few labels ({change.reason}): the limits are from {change.labels:,} items with human labels in "
            "both runs alone, which must have been drawn at random."
        )
    range_ = points_range(task, limits)
    if limits[0] <= 0 <= limits[1]:
        text = (
            f"These labels cannot tell the two apart: the change of the {name} may be anything from {range_}."
        )
        return _Verdict("warning", "Cannot be told apart", (text, f"95 % limits. {rests}"), True)
    better = limits[0] > 0
    how_much = f"by {_size(task, change.estimate)}" if change.usable else f"by {range_}"
    text = f"The candidate's responses are {'better' if better else 'worse'}: the {name} "
    text += f"{'rises' if better else 'falls'} {how_much}."
    return _Verdict(
        "good" if better else "bad",
        "Candidate better" if better else "Candidate worse",
        (text, f"95 % limits of the change: {range_}. {rests}"),
        False,
    )


def _size(task: Task, change: float) -> str:
    return points_figure(task, abs(change)).text.removeprefix("+")


def _means(runs: tuple[Run, Run], task: Task) -> tuple[KeyFigure, KeyFigure]:
    """The mean over all items of each run, as its own report has it."""
    shown = []
    name = rate_name(task.kind, task.labels[0])
    for run, side in zip(runs, NAMES, strict=True):
        own = product_figure(run) or overall_figure(run)
        nothing = KeyFigure("", missing("nothing limits it"), "nothing limits it")
        shown.append((own or [nothing])[0])
        shown[-1] = KeyFigure(f"{side}: {name}", shown[-1].figure, shown[-1].detail)
    return shown[0], shown[1]


def _difference(compared: Comparison) -> KeyFigure:
    change, task = compared.change, compared.task
    if change is None or change.label_only is None or change.interval is None:
        by_judges = None if change is None else change.by_judges
        why = "not measured" if change is None else change.reason
        return KeyFigure(
            "Difference", missing(why), f"{why}; by the judges alone {points_figure(task, by_judges).text}"
        )
    if not change.usable:
        limits = points_range(task, change.label_only)
        return KeyFigure("Difference", words(limits), "95 % limits from labels alone, which are few")
    limits = points_range(task, change.interval)
    detail = f"{limits} at 95 %; item by item, so not exactly the difference of the two means"
    return KeyFigure("Difference", points_figure(task, change.estimate), detail)


def _change_chart(compared: Comparison) -> tuple[Picture, ...]:
    change, task = compared.change, compared.task
    if change is None:
        return ()
    bars = []
    if change.usable:
        bars.append(Interval("Predictions and labels", change.estimate, change.interval))
    if change.label_only is not None:
        bars.append(Interval("Labels alone", None, change.label_only))
    if change.verdicts is not None:
        bars.append(Interval("Certificates alone", None, change.verdicts))
    bars.append(Interval("Judges alone", change.by_judges, None, "no limits"))
    title = f"Change of the {rate_name(task.kind, task.labels[0])}, candidate minus baseline"
    parts = [f"{bar.name}: {_bar_text(task, bar)}" for bar in bars]
    percent = task.kind is not TaskKind.RATING
    return (Intervals(title, tuple(bars), percent, f"{title}. {'; '.join(parts)}.", 0.0, NO_DIFFERENCE),)


def _bar_text(task: Task, bar: Interval) -> str:
    limits = "without limits" if bar.limits is None else points_range(task, bar.limits)
    return limits if bar.estimate is None else f"{points_figure(task, bar.estimate).text}, {limits}"


def _change_section(compared: Comparison) -> Section | None:
    change: Change | None = compared.change
    if change is None:
        return None
    name = rate_name(compared.task.kind, compared.task.labels[0])
    lead = (
        "The difference is taken item by item, so that prompts that are easy for both runs do not blur it. "
        f"{change.labels:,} matched items have human labels in both runs; labels that made a certificate do "
        "not count."
    )
    table = change_table(compared.task, change, "Candidate minus baseline")
    return Section("change", f"Change of the {name}", (lead, PPI_GUARD), tables=(table,))


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


def _agreement_chart(pairs: Sequence[MatchedPair]) -> tuple[Picture, ...]:
    """Both runs' agreement on labelled matched items, each with its own interval."""
    bars, groups = [], {pair.items[0].id: pair.items[0].group for pair in pairs}
    for side, name in enumerate(NAMES):
        given = [pair for pair in pairs if all(pair.labelled) and pair.decisions[side].label is not None]
        if not given:
            return ()
        losses = [0.0 if pair.agrees(side) else 1.0 for pair in given]
        units = [unit_of(pair.items[0].id, groups) for pair in given]
        limits = agreement_limits(losses, units, INTERVAL_DELTA)
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


def _verdict_section(compared: Comparison, pairs: Sequence[MatchedPair]) -> Section:
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
