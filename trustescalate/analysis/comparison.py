"""Two runs beside each other, item by item: two systems' answers to the same prompts, or two sets of judges.

Where matched items hold the same responses, the judges are compared: who released what, who was right. Where
they do not, the answers are: did the second do better? Nothing here decides anything, and no judge is asked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from trustescalate.calibration.population import (
    FEWEST_LABELS,
    INTERVAL_DELTA,
    annotation_means,
    informative,
    label_values,
    predictions,
    unit_of,
    verdict_limits,
    within,
)
from trustescalate.data.labels import dropped_ties, majority, sampled
from trustescalate.errors import UsageError
from trustescalate.records import Decision, Item, Label, Run, Task, TaskKind
from trustescalate.records.item_fields import value_of
from trustescalate.report import figures, run_sections, secondary
from trustescalate.report.figures import count, missing, share, words
from trustescalate.report.sections import Column, Row, Section, Table
from trustescalate.report.terminal import section_lines
from trustescalate.stats.inference import Mean, Survey, difference, ppi_mean
from trustescalate.stats.intervals import mean_interval
from trustescalate.stats.shift import score_alarm

PICKED_LEVEL = 0.01
"""A random draw of labelled items is taken for a picked one in at most one comparison of a hundred."""
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Side:
    """One run as a whole, and how many of its `matched` items it released a verdict on."""

    run: str
    created: str
    items: int
    released: int
    matched_released: int
    failed_votes: int
    votes: int
    calls: int
    cost: float


@dataclass(frozen=True, slots=True)
class Change:
    """The second run less the first, in the mean over matched items; limits at 95 %.

    `interval` uses predictions and `labels` items that people labelled in both runs, `label_only` these
    labels alone. `usable` is False, and `reason` says why, where the first may not be read. `by_judges` is
    what the judges say, which no label corrects. `verdicts` are limits from released verdicts and
    certificates alone.
    """

    labels: int
    estimate: float | None
    interval: Ends | None
    label_only: Ends | None
    usable: bool
    reason: str
    by_judges: float | None = None
    verdicts: Ends | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Verdicts against people, on labelled matched items: right of released, by run, and where both released.

    `better` is a 95 % interval for how often the second is the right one, where just one of them is: exact,
    unless items come in groups.
    """

    labelled: int
    first: tuple[int, int]
    second: tuple[int, int]
    both: int
    only_first: int
    only_second: int
    better: Ends | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, `matched` item by item; `kind` says what differs: the answers, or the judges alone."""

    kind: Literal["answers", "judges"]
    by: str
    first: Side
    second: Side
    matched: int
    only_first: int
    only_second: int
    same: int
    differ: int
    one_released: int
    none_released: int
    agreement: Agreement
    change: Change | None
    task: Task

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        return section_lines(_section(self))


@dataclass(frozen=True, slots=True)
class _Pair:
    """A matched item: what each run decided, the mean that its judges expect, and what people say."""

    items: tuple[Item, Item]
    decisions: tuple[Decision, Decision]
    expected: tuple[float, float]
    people: tuple[Label | None, Label | None]
    labelled: tuple[bool, bool]


def compare(first: Run, second: Run, by: str | None = None) -> Comparison:
    """Match the decided items of two runs, by id or by `by`, "meta.<key>", and say what differs.

    People's labels on the runs' items count where both sides have one, save those that made a certificate.
    They must be a random draw of the matched items: labels of abstained items alone would mislead, and where
    the scores of labelled items differ from those of the others the labels are not used for means. Raises
    UsageError for runs of different tasks, a key that two items of a run share, and where nothing matches.
    """
    task = first.header.certificate.task
    if task != second.header.certificate.task:
        raise UsageError(
            "the two runs ask different questions, or allow different answers",
            "compare runs of the same [task]",
        )
    keyed = [_keyed(run, by) for run in (first, second)]
    shared = [key for key in keyed[0] if key in keyed[1]]
    if not shared:
        hint = "name the key in meta that says which items belong together: --by meta.<key>"
        raise UsageError("no item of one run matches an item of the other", hint)
    pairs = _pairs(first, second, [(keyed[0][key], keyed[1][key]) for key in shared])
    answers = any(pair.items[0].responses != pair.items[1].responses for pair in pairs)
    labels = [tuple(decision.label for decision in pair.decisions) for pair in pairs]
    both = [pair for pair in labels if None not in pair]
    return Comparison(
        kind="answers" if answers else "judges",
        by=by or "id",
        first=_side(first, [pair.decisions[0] for pair in pairs]),
        second=_side(second, [pair.decisions[1] for pair in pairs]),
        matched=len(pairs),
        only_first=len(first.items) - len(pairs),
        only_second=len(second.items) - len(pairs),
        same=sum(a == b for a, b in both),
        differ=sum(a != b for a, b in both),
        one_released=sum((a is None) != (b is None) for a, b in labels),
        none_released=sum(a is None and b is None for a, b in labels),
        agreement=_agreement(pairs),
        change=_change(first, second, pairs) if answers else None,
        task=task,
    )


def _keyed(run: Run, by: str | None) -> Mapping[str, Item]:
    judged = {row.item_id for row in run.decisions if row.trail}
    found: dict[str, Item] = {}
    for item in run.items:
        key = item.id if by is None else value_of(item, by)
        if key is None or item.id not in judged:
            continue
        if key in found:
            raise UsageError(
                f"run {run.header.id}: {found[key].id!r} and {item.id!r} both have {by} {key!r}",
                "match by a key that each item has alone",
            )
        found[key] = item
    return found


def _pairs(first: Run, second: Run, matched: Sequence[tuple[Item, Item]]) -> list[_Pair]:
    task = first.header.certificate.task
    values = label_values(task) or dict.fromkeys(task.labels, 0.0)
    told = [
        (
            {row.item_id: row for row in run.decisions},
            predictions(run, values),
            majority(task, sampled(run.annotations)),
        )
        for run in (first, second)
    ]
    return [
        _Pair(
            items,
            (told[0][0][items[0].id], told[1][0][items[1].id]),
            (told[0][1][items[0].id], told[1][1][items[1].id]),
            (told[0][2].get(items[0].id), told[1][2].get(items[1].id)),
            (items[0].id in told[0][2], items[1].id in told[1][2]),
        )
        for items in matched
    ]


def _side(run: Run, matched: Sequence[Decision]) -> Side:
    votes = [vote for row in run.judgments for vote in row.votes]
    return Side(
        run.header.id,
        run.header.created,
        run.header.items,
        run_sections.released(run),
        sum(row.label is not None for row in matched),
        sum(vote.failure is not None for vote in votes),
        len(votes),
        sum(row.usage.calls for row in run.judgments),
        run_sections.spent(run),
    )


# ── verdicts against people ──────────────────────────────────────────────────────────────────────


def _agreement(pairs: Sequence[_Pair]) -> Agreement:
    known = [pair for pair in pairs if all(pair.labelled)]
    right = [
        [pair.decisions[k].label is not None and pair.decisions[k].label == pair.people[k] for pair in known]
        for k in (0, 1)
    ]
    spoken = [[pair.decisions[k].label is not None for pair in known] for k in (0, 1)]
    both = [i for i in range(len(known)) if spoken[0][i] and spoken[1][i]]
    only_first = sum(right[0][i] and not right[1][i] for i in both)
    only_second = sum(right[1][i] and not right[0][i] for i in both)
    split = only_first + only_second
    return Agreement(
        len(known),
        (sum(right[0]), sum(spoken[0])),
        (sum(right[1]), sum(spoken[1])),
        len(both),
        only_first,
        only_second,
        _better(known, right, both) if split else None,
    )


def _better(known: Sequence[_Pair], right: Sequence[Sequence[bool]], both: Sequence[int]) -> Ends:
    """How often the second is right where one of them is; items of one group are clustered."""
    split = [i for i in both if right[0][i] != right[1][i]]
    groups = {pair.items[0].id: pair.items[0].group for pair in known}
    units = np.unique([unit_of(known[i].items[0].id, groups) for i in split], return_inverse=True)[1]
    won = np.array([float(right[1][i]) for i in split])
    return mean_interval(won, INTERVAL_DELTA, cluster=units)[:2]


# ── did the answers get better? ──────────────────────────────────────────────────────────────────


def _change(first: Run, second: Run, pairs: Sequence[_Pair]) -> Change | None:
    task = first.header.certificate.task
    values = label_values(task)
    if values is None:
        return None
    width = max(values.values()) - min(values.values())
    moved = float(np.mean([pair.expected[1] - pair.expected[0] for pair in pairs]))
    limits = None
    if task.kind is not TaskKind.RATING and all(_certifies_more(run) for run in (first, second)):
        low, high = (
            verdict_limits(run, {pair.items[k].id for pair in pairs}, INTERVAL_DELTA / 2)
            for k, run in enumerate((first, second))
        )
        limits = high[0] - low[1], high[1] - low[0]
    labelled = [k for k, pair in enumerate(pairs) if all(pair.labelled)]
    reason = _unusable(first, second, pairs, labelled)
    if reason:
        return Change(len(labelled), None, None, None, False, reason, moved, limits)
    mean = _paired(task, values, (first, second), pairs, labelled)
    ends = -width, width
    return Change(
        len(labelled),
        within(mean.estimate, ends),
        (within(mean.low, ends), within(mean.high, ends)),
        informative(mean.label_only, ends),
        mean.usable,
        mean.reason,
        moved,
        limits,
    )


def _certifies_more(run: Run) -> bool:
    """Whether the certificate is about a population, and not about the batch of the run alone."""
    return run.header.certificate.batch is None and run.header.certificate.thresholds is not None


def _unusable(first: Run, second: Run, pairs: Sequence[_Pair], labelled: Sequence[int]) -> str:
    if not labelled:
        return "people labelled none of the matched items in both runs"
    units = {pairs[k].items[0].group or pairs[k].items[0].id for k in labelled}
    if len(units) < FEWEST_LABELS:
        return f"people labelled fewer than {FEWEST_LABELS} of the matched items in both runs"
    if any(dropped_ties(run.header.certificate.task, run.annotations) for run in (first, second)):
        return "people call some items a tie, which this task leaves out"
    known, rest = set(labelled), [k for k in range(len(pairs)) if k not in labelled]
    if not rest:
        return ""
    scores = [np.array([pair.decisions[side].trail[-1].score for pair in pairs]) for side in (0, 1)]
    before, after = ([score[list(rows)] for score in scores] for rows in (sorted(known), rest))
    if score_alarm(before, after, PICKED_LEVEL).raised.any():
        return "the labelled items have other scores than the rest: they were picked, not drawn at random"
    return ""


def _paired(
    task: Task,
    values: Mapping[Label, float],
    runs: tuple[Run, Run],
    pairs: Sequence[_Pair],
    labelled: Sequence[int],
) -> Mean:
    groups = [pair.items[0].group for pair in pairs]
    names = [f"item {k}" if group is None else f"group {group}" for k, group in enumerate(groups)]
    cluster = np.unique(names, return_inverse=True)[1] if any(groups) else None
    surveys = []
    for side, run in enumerate(runs):
        said = annotation_means(task, sampled(run.annotations), values)
        surveys.append(
            Survey(
                np.array([pair.expected[side] for pair in pairs]),
                np.array(labelled, dtype=np.int64),
                np.array([said[pairs[k].items[side].id] for k in labelled]),
                cluster=cluster,
                ends=(min(values.values()), max(values.values())),
            )
        )
    return ppi_mean(difference(surveys[1], surveys[0]), INTERVAL_DELTA)


# ── in words ─────────────────────────────────────────────────────────────────────────────────────


def _section(found: Comparison) -> Section:
    text = [_matched(found), _agreement_text(found.agreement)]
    tables = [_side_table(found), _verdict_table(found)]
    if found.agreement.labelled:
        tables.append(_agreement_table(found.agreement))
    if found.change is not None:
        text += _change_text(found.change)
        tables.append(_change_table(found, found.change))
    return Section("compare", f"{found.first.run} and {found.second.run}", tuple(text), tables=tuple(tables))


def _matched(found: Comparison) -> str:
    what = {
        "answers": "They hold different answers, so it is the answers that are compared.",
        "judges": "They hold the same responses, so it is the judges that are compared.",
    }[found.kind]
    return (
        f"{found.matched:,} items match by {found.by}; {found.only_first:,} are in the first run only and "
        f"{found.only_second:,} in the second only, and are left out below. {what}"
    )


def _agreement_text(found: Agreement) -> str:
    if not found.labelled:
        return (
            "People labelled none of the matched items in both runs (labels that made a certificate do not "
            "count), so nothing is said of who is right."
        )
    split = found.only_first + found.only_second
    if found.better is None:
        return f"Where both released one, on {found.both:,} labelled items, neither was right alone."
    low, high = found.better
    verdict = "these labels do not say which is better"
    if low > 0.5 or high < 0.5:
        verdict = f"the {'second' if low > 0.5 else 'first'} is the better one"
    return (
        f"Where both released a verdict, on {found.both:,} labelled items, just one was right on {split:,}: "
        f"the second on {found.only_second:,} ({figures.interval(low, high)}, exact at 95 %), so {verdict}."
    )


def _change_text(found: Change) -> list[str]:
    if found.estimate is None or found.interval is None or found.label_only is None:
        return [
            f"Whether the second run's answers are better cannot be said from labels: {found.reason}. What "
            "the judges alone say is not corrected by anybody."
        ]
    limits = found.interval if found.usable else found.label_only
    verdict = "These labels cannot tell the two apart."
    if limits[0] > 0 or limits[1] < 0:
        verdict = f"The second run's answers are {'better' if limits[0] > 0 else 'worse'}."
    few = "" if found.usable else f" Few labels ({found.reason}): read the limits from labels alone."
    return [
        f"{verdict} The difference is taken item by item, with predictions for all matched items, corrected "
        f"by {found.labels:,} items that people labelled in both runs. They must have been drawn at "
        f"random.{few} {secondary.GUARD}"
    ]


def _side_table(found: Comparison) -> Table:
    sides = found.first, found.second
    lines = [
        ("Items", [count(side.items) for side in sides]),
        ("Released", [share(side.released, side.items) for side in sides]),
        ("Released, of the matched", [share(side.matched_released, found.matched) for side in sides]),
        ("Failed votes", [share(side.failed_votes, side.votes, "no vote was asked") for side in sides]),
        ("Calls", [count(side.calls) for side in sides]),
        ("Cost", [figures.usd(side.cost) for side in sides]),
        ("Cost per 1,000 items", [figures.usd(1000 * side.cost / max(1, side.items)) for side in sides]),
    ]
    rows = tuple(Row((words(name), *cells)) for name, cells in lines)
    columns = (Column(""), Column("First", True), Column("Second", True))
    return Table("The runs as a whole", columns, rows)


def _verdict_table(found: Comparison) -> Table:
    lines = [
        ("Both released, the same verdict", found.same),
        ("Both released, different verdicts", found.differ),
        ("One of them released", found.one_released),
        ("Neither released", found.none_released),
    ]
    rows = tuple(Row((words(name), count(n), share(n, found.matched))) for name, n in lines)
    return Table(
        "Verdicts on matched items", (Column(""), Column("Items", True), Column("Share", True)), rows
    )


def _agreement_table(found: Agreement) -> Table:
    rows = tuple(
        Row((words(name), count(said), share(right, said, "nothing was released")))
        for name, (right, said) in (("First", found.first), ("Second", found.second))
    )
    columns = (Column("Run"), Column("Released", True), Column("Agrees with people", True))
    return Table(f"On {found.labelled:,} matched items that people labelled in both runs", columns, rows)


def _change_table(found: Comparison, change: Change) -> Table:
    task, rows = found.task, []
    if change.usable:
        rows.append(("From predictions and labels", change.estimate, change.interval))
    if change.label_only is not None:
        rows.append(("From labels alone", None, change.label_only))
    if change.verdicts is not None:
        rows.append(("Limits from released verdicts and certificates", None, change.verdicts))
    rows.append(("What the judges alone say", change.by_judges, None))
    columns = (Column("Second less first"), Column("Estimate", True), Column("95 % limits", True))
    return Table(
        f"{secondary.named(task)[0]}, second less first",
        columns,
        tuple(
            Row((words(name), _points(task, value), words(_range(task, limits)) if limits else missing("")))
            for name, value, limits in rows
        ),
    )


def _points(task: Task, value: float | None) -> figures.Figure:
    if value is None:
        return missing("")
    if task.kind is TaskKind.RATING:
        return words(f"{value:+.2f}")
    return words(f"{100 * value:+.1f} points")


def _range(task: Task, limits: Ends) -> str:
    if task.kind is TaskKind.RATING:
        return f"{limits[0]:+.2f} to {limits[1]:+.2f}"
    return f"{math.floor(1000 * limits[0]) / 10:+.1f} to {math.ceil(1000 * limits[1]) / 10:+.1f} points"
