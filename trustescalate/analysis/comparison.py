"""Compare two runs item by item: two systems' responses to the same prompts, or two sets of judges.

If matched items hold the same responses, the judges are compared: verdicts released and agreement with human
labels. Otherwise the responses are compared: the difference in win rate, pass rate or mean rating. The
comparison certifies nothing and makes no model calls.
"""

from collections.abc import Mapping

import numpy as np

from trustescalate.analysis.comparison_section import Agreement, Change, Comparison, Ends, Side
from trustescalate.analysis.matched_pairs import MatchedPairs, matched_pairs
from trustescalate.calibration.judged_rows import predictions
from trustescalate.calibration.population import (
    FEWEST_LABELS,
    INTERVAL_DELTA,
    annotation_means,
    informative,
    label_values,
    verdict_limits,
    within,
)
from trustescalate.data.item_sets import Chosen
from trustescalate.data.labels import dropped_ties, sampled
from trustescalate.records import Label, Run, TaskKind
from trustescalate.records.judge_counts import count_votes
from trustescalate.report import run_figures
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.inference import Mean, Survey, difference, ppi_mean
from trustescalate.stats.intervals import mean_interval
from trustescalate.stats.shift import score_alarm

PICKED_LEVEL = 0.01
"""A random draw of labelled items counts as selected in at most one comparison of a hundred."""
SELECTED = "the scores of labelled items differ from the rest: the items were selected, not drawn at random"


def compare(first: Run, second: Run, by: str | None = None) -> Comparison:
    """Match the decided items of two runs by id, or by `by`, "meta.<key>", and compare them.

    Human labels count where both runs have one, except those that made a certificate. They must be a random
    draw of the matched items: labels of abstained items alone mislead, and if the scores of labelled items
    differ from those of the others, means do not use the labels. Raises UsageError for runs of different
    tasks, a key that two items of a run share, and runs without a matched item.
    """
    pairs = matched_pairs(first, second, by)
    answers = any(one.responses != two.responses for one, two in pairs.matched)
    before, after = pairs.verdicts
    both = (before >= 0) & (after >= 0)
    return Comparison(
        kind="answers" if answers else "judges",
        by=by or "id",
        first=_summarise_run(pairs, 0),
        second=_summarise_run(pairs, 1),
        uncertified=tuple(run.header.id for run in (first, second) if run.uncertified),
        matched=len(pairs),
        only_first=len(first.items) - len(pairs),
        only_second=len(second.items) - len(pairs),
        same=int((both & (before == after)).sum()),
        differ=int((both & (before != after)).sum()),
        one_released=int(((before < 0) != (after < 0)).sum()),
        none_released=int(((before < 0) & (after < 0)).sum()),
        agreement=_measure_agreement(pairs),
        change=_estimate_change(pairs) if answers else None,
        task=first.header.certificate.task,
    )


def _summarise_run(pairs: MatchedPairs, side: int) -> Side:
    run = pairs.runs[side]
    votes = count_votes(run.judgments).whole
    return Side(
        run.header.id,
        run.header.created,
        run.header.items,
        run_figures.released(run),
        0 if run.uncertified else int((pairs.verdicts[side] >= 0).sum()),
        votes.failed,
        votes.votes,
        votes.calls,
        votes.cost,
    )


def _measure_agreement(pairs: MatchedPairs) -> Agreement:
    released = [pairs.labelled & (verdicts >= 0) for verdicts in pairs.verdicts]
    agrees = [pairs.labelled & pairs.agrees(side) for side in (0, 1)]
    both = released[0] & released[1]
    right = [(int(agrees[side].sum()), int(released[side].sum())) for side in (0, 1)]
    return Agreement(
        int(pairs.labelled.sum()),
        right[0],
        right[1],
        int(both.sum()),
        int((both & agrees[0] & ~agrees[1]).sum()),
        int((both & agrees[1] & ~agrees[0]).sum()),
        second_right(pairs, np.flatnonzero(both), INTERVAL_DELTA),
    )


def second_right(pairs: MatchedPairs, taken: IntArray, delta: float) -> Ends | None:
    """Limits on how often the second run is right if exactly one is; None where none is.

    `taken` are the places of the pairs that count: labelled ones with a verdict in both runs. Exact, unless
    items of one group are clustered.
    """
    first, second = pairs.agrees(0), pairs.agrees(1)
    split = taken[(first != second)[taken]]
    if not len(split):
        return None
    return mean_interval(second[split].astype(np.float64), delta, cluster=pairs.units(split))[:2]


def _estimate_change(pairs: MatchedPairs) -> Change | None:
    task = pairs.runs[0].header.certificate.task
    values = label_values(task)
    if values is None:
        return None
    width = max(values.values()) - min(values.values())
    before, after = (
        predictions(run, values).numbers[places.numpy()]
        for run, places in zip(pairs.runs, pairs.matched.places, strict=True)
    )
    by_judges = float(np.mean(after - before))
    limits = None
    if task.kind is not TaskKind.RATING and all(map(_certifies_population, pairs.runs)):
        low, high = (
            verdict_limits(run, Chosen.of(run.items, places), INTERVAL_DELTA / 2)
            for run, places in zip(pairs.runs, pairs.matched.places, strict=True)
        )
        limits = high[0] - low[1], high[1] - low[0]
    labelled = int(pairs.labelled.sum())
    reason = _why_unusable(pairs)
    if reason:
        return Change(labelled, None, None, None, False, reason, by_judges, limits)
    mean = _paired_mean(pairs, values, (before, after))
    ends = -width, width
    return Change(
        labelled,
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


def _why_unusable(pairs: MatchedPairs) -> str:
    if not pairs.labelled.any():
        return "no matched item has a human label in both runs"
    if len(np.unique(pairs.units(np.flatnonzero(pairs.labelled)))) < FEWEST_LABELS:
        return f"fewer than {FEWEST_LABELS} matched items have human labels in both runs"
    if any(dropped_ties(run.header.certificate.task, run.annotations) for run in pairs.runs):
        return "annotators call some items a tie, which this task leaves out"
    if pairs.labelled.all():
        return ""
    scores = [pairs.scores(side) for side in (0, 1)]
    before, after = ([score[rows] for score in scores] for rows in (pairs.labelled, ~pairs.labelled))
    if score_alarm(before, after, PICKED_LEVEL).raised.any():
        return SELECTED
    return ""


def _paired_mean(
    pairs: MatchedPairs, values: Mapping[Label, float], predicted: tuple[FloatArray, FloatArray]
) -> Mean:
    labelled, cluster = np.flatnonzero(pairs.labelled), pairs.clusters()
    ends, surveys = (min(values.values()), max(values.values())), []
    for side, run in enumerate(pairs.runs):
        notes, ids = sampled(run.annotations), pairs.ids(side)
        human = annotation_means(run.header.certificate.task, notes, values)
        labels = np.array([human[ids[place]] for place in labelled.tolist()])
        surveys.append(Survey(predicted[side], labelled, labels, cluster=cluster, ends=ends))
    return ppi_mean(difference(surveys[1], surveys[0]), INTERVAL_DELTA)
