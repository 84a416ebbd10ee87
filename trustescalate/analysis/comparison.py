"""Compare two runs item by item: two systems' responses to the same prompts, or two sets of judges.

If matched items hold the same responses, the judges are compared: verdicts released and agreement with human
labels. Otherwise the responses are compared: the difference in win rate, pass rate or mean rating. The
comparison certifies nothing and makes no model calls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trustescalate.analysis.comparison_section import Agreement, Change, Comparison, Ends, Side
from trustescalate.analysis.pairing import match_items
from trustescalate.calibration.judged_rows import predictions
from trustescalate.calibration.population import (
    FEWEST_LABELS,
    INTERVAL_DELTA,
    annotation_means,
    informative,
    label_values,
    unit_of,
    verdict_limits,
    within,
)
from trustescalate.data.labels import dropped_ties, majority, sampled
from trustescalate.errors import UsageError
from trustescalate.records import Decision, Item, Label, Run, Task, TaskKind
from trustescalate.records.criteria import ask_several
from trustescalate.records.judge_counts import count_votes
from trustescalate.report import run_figures
from trustescalate.stats.inference import Mean, Survey, difference, ppi_mean
from trustescalate.stats.intervals import mean_interval
from trustescalate.stats.shift import score_alarm

PICKED_LEVEL = 0.01
"""A random draw of labelled items counts as selected in at most one comparison of a hundred."""
SELECTED = "the scores of labelled items differ from the rest: the items were selected, not drawn at random"


@dataclass(frozen=True, slots=True)
class MatchedPair:
    """A matched item: decisions, expected values by the judges, and human labels, in both runs.

    The label of a decision is the verdict of its run, also where an uncertified run released none.
    """

    items: tuple[Item, Item]
    decisions: tuple[Decision, Decision]
    expected: tuple[float, float]
    human: tuple[Label | None, Label | None]
    labelled: tuple[bool, bool]

    def agrees(self, side: int) -> bool:
        """Whether the verdict of one run is the majority of its human labels."""
        label = self.decisions[side].label
        return label is not None and label == self.human[side]


def compare(first: Run, second: Run, by: str | None = None) -> Comparison:
    """Match the decided items of two runs by id, or by `by`, "meta.<key>", and compare them.

    Human labels count where both runs have one, except those that made a certificate. They must be a random
    draw of the matched items: labels of abstained items alone mislead, and if the scores of labelled items
    differ from those of the others, means do not use the labels. Raises UsageError for runs of different
    tasks, a key that two items of a run share, and runs without a matched item.
    """
    pairs = matched_pairs(first, second, by)
    answers = any(pair.items[0].responses != pair.items[1].responses for pair in pairs)
    labels = [tuple(decision.label for decision in pair.decisions) for pair in pairs]
    both = [pair for pair in labels if None not in pair]
    return Comparison(
        kind="answers" if answers else "judges",
        by=by or "id",
        first=_summarise_run(first, [pair.decisions[0] for pair in pairs]),
        second=_summarise_run(second, [pair.decisions[1] for pair in pairs]),
        uncertified=tuple(run.header.id for run in (first, second) if run.uncertified),
        matched=len(pairs),
        only_first=len(first.items) - len(pairs),
        only_second=len(second.items) - len(pairs),
        same=sum(a == b for a, b in both),
        differ=sum(a != b for a, b in both),
        one_released=sum((a is None) != (b is None) for a, b in labels),
        none_released=sum(a is None and b is None for a, b in labels),
        agreement=_measure_agreement(pairs),
        change=_estimate_change(first, second, pairs) if answers else None,
        task=first.header.certificate.task,
    )


def matched_pairs(first: Run, second: Run, by: str | None = None) -> list[MatchedPair]:
    """Match the decided items of two runs, in the order of the first. Raises the errors of `compare`."""
    hint = "name the key of meta by which items match: --by meta.<key>"
    if ask_several((*first.items, *second.items)):
        raise UsageError(
            "these runs judge several criteria, whose verdicts have no mean in common",
            "[gate] baseline with max_drop or min_gain compares each criterion and their weighted total",
        )
    return _pair_items(first, second, match_items(first, second, by, judged=True, hint=hint))


def _pair_items(first: Run, second: Run, matched: Sequence[tuple[Item, Item]]) -> list[MatchedPair]:
    task = first.header.certificate.task
    values = label_values(task) or dict.fromkeys(task.labels, 0.0)
    decisions = [
        {row.item_id: replace(row, label=run.verdict(row)) for row in run.decisions}
        for run in (first, second)
    ]
    expected = [predictions(run, values) for run in (first, second)]
    human = [majority(task, sampled(run.annotations)) for run in (first, second)]
    return [
        MatchedPair(
            (one, two),
            (decisions[0][one.id], decisions[1][two.id]),
            (expected[0][one.id], expected[1][two.id]),
            (human[0].get(one.id), human[1].get(two.id)),
            (one.id in human[0], two.id in human[1]),
        )
        for one, two in matched
    ]


def _summarise_run(run: Run, matched: Sequence[Decision]) -> Side:
    votes = count_votes(run.judgments).whole
    return Side(
        run.header.id,
        run.header.created,
        run.header.items,
        run_figures.released(run),
        0 if run.uncertified else sum(row.label is not None for row in matched),
        votes.failed,
        votes.votes,
        votes.calls,
        votes.cost,
    )


def _measure_agreement(pairs: Sequence[MatchedPair]) -> Agreement:
    known = [pair for pair in pairs if all(pair.labelled)]
    released = [[pair for pair in known if pair.decisions[k].label is not None] for k in (0, 1)]
    right = [sum(pair.agrees(k) for pair in released[k]) for k in (0, 1)]
    both = [pair for pair in released[0] if pair.decisions[1].label is not None]
    return Agreement(
        len(known),
        (right[0], len(released[0])),
        (right[1], len(released[1])),
        len(both),
        sum(pair.agrees(0) and not pair.agrees(1) for pair in both),
        sum(pair.agrees(1) and not pair.agrees(0) for pair in both),
        second_right(both, INTERVAL_DELTA),
    )


def second_right(pairs: Sequence[MatchedPair], delta: float) -> Ends | None:
    """Limits on how often the second run is right if exactly one is; None where none is.

    `pairs` are labelled, with a verdict in both runs. Exact, unless items of one group are clustered.
    """
    split = [pair for pair in pairs if pair.agrees(0) != pair.agrees(1)]
    if not split:
        return None
    groups = {pair.items[0].id: pair.items[0].group for pair in pairs}
    units = np.unique([unit_of(pair.items[0].id, groups) for pair in split], return_inverse=True)[1]
    return mean_interval(np.array([float(pair.agrees(1)) for pair in split]), delta, cluster=units)[:2]


def _estimate_change(first: Run, second: Run, pairs: Sequence[MatchedPair]) -> Change | None:
    task = first.header.certificate.task
    values = label_values(task)
    if values is None:
        return None
    width = max(values.values()) - min(values.values())
    by_judges = float(np.mean([pair.expected[1] - pair.expected[0] for pair in pairs]))
    limits = None
    if task.kind is not TaskKind.RATING and all(_certifies_population(run) for run in (first, second)):
        low, high = (
            verdict_limits(run, {pair.items[k].id for pair in pairs}, INTERVAL_DELTA / 2)
            for k, run in enumerate((first, second))
        )
        limits = high[0] - low[1], high[1] - low[0]
    labelled = [k for k, pair in enumerate(pairs) if all(pair.labelled)]
    reason = _why_unusable(first, second, pairs, labelled)
    if reason:
        return Change(len(labelled), None, None, None, False, reason, by_judges, limits)
    mean = _paired_mean(task, values, (first, second), pairs, labelled)
    ends = -width, width
    return Change(
        len(labelled),
        within(mean.estimate, ends),
        (within(mean.low, ends), within(mean.high, ends)),
        informative(mean.label_only, ends),
        mean.usable,
        mean.reason,
        by_judges,
        limits,
    )


def _certifies_population(run: Run) -> bool:
    return run.header.certificate.batch is None and run.header.certificate.thresholds is not None


def _why_unusable(first: Run, second: Run, pairs: Sequence[MatchedPair], labelled: Sequence[int]) -> str:
    if not labelled:
        return "no matched item has a human label in both runs"
    units = {pairs[k].items[0].group or pairs[k].items[0].id for k in labelled}
    if len(units) < FEWEST_LABELS:
        return f"fewer than {FEWEST_LABELS} matched items have human labels in both runs"
    if any(dropped_ties(run.header.certificate.task, run.annotations) for run in (first, second)):
        return "annotators call some items a tie, which this task leaves out"
    known = set(labelled)
    rest = [k for k in range(len(pairs)) if k not in known]
    if not rest:
        return ""
    scores = [np.array([pair.decisions[side].trail[-1].score for pair in pairs]) for side in (0, 1)]
    before, after = ([score[list(rows)] for score in scores] for rows in (sorted(known), rest))
    if score_alarm(before, after, PICKED_LEVEL).raised.any():
        return SELECTED
    return ""


def _paired_mean(
    task: Task,
    values: Mapping[Label, float],
    runs: tuple[Run, Run],
    pairs: Sequence[MatchedPair],
    labelled: Sequence[int],
) -> Mean:
    groups = [pair.items[0].group for pair in pairs]
    names = [f"item {k}" if group is None else f"group {group}" for k, group in enumerate(groups)]
    cluster = np.unique(names, return_inverse=True)[1] if any(groups) else None
    surveys = []
    for side, run in enumerate(runs):
        human = annotation_means(task, sampled(run.annotations), values)
        surveys.append(
            Survey(
                np.array([pair.expected[side] for pair in pairs]),
                np.array(labelled, dtype=np.int64),
                np.array([human[pairs[k].items[side].id] for k in labelled]),
                cluster=cluster,
                ends=(min(values.values()), max(values.values())),
            )
        )
    return ppi_mean(difference(surveys[1], surveys[0]), INTERVAL_DELTA)
