"""Compare two runs item by item: two systems' responses to the same prompts, or two sets of judges.

If matched items hold the same responses, the judges are compared: verdicts released and agreement with human
labels. Otherwise the responses are compared: the change of the win rate, pass rate or mean rating, as the
gate estimates it. The comparison certifies nothing and makes no model calls.
"""

from collections.abc import Mapping

import numpy as np

from trustescalate.analysis.comparison_change import Sides, estimate_change
from trustescalate.analysis.comparison_section import Agreement, Comparison, Ends, Side
from trustescalate.analysis.matched_pairs import MatchedPairs
from trustescalate.calibration.judged_rows import predictions
from trustescalate.calibration.population import INTERVAL_DELTA, label_values
from trustescalate.records import Label
from trustescalate.records.judge_counts import count_votes
from trustescalate.report import run_figures
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.intervals import mean_interval


def compare(sides: Sides, pairs: MatchedPairs) -> Comparison:
    """Compare the matched items of two runs, the baseline and the candidate.

    In the agreement, human labels count where both runs have one, except those that made a certificate; they
    must be a random draw of the matched items. Raises UsageError where the gate could not compare the two.
    """
    (_, first, _), (config, second, _) = sides
    task = first.header.certificate.task
    answers = any(one.responses != two.responses for one, two in pairs.matched)
    values = label_values(task) if answers else None
    before, after = pairs.verdicts
    both = (before >= 0) & (after >= 0)
    return Comparison(
        kind="answers" if answers else "judges",
        by=pairs.by or "id",
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
        change=None if values is None else estimate_change(sides, pairs.by, config.gate.by),
        by_judges=None if values is None else _by_judges(pairs, values),
        task=task,
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


def _by_judges(pairs: MatchedPairs, values: Mapping[Label, float]) -> float:
    """The mean change of the predictions."""
    before, after = (
        predictions(run, values).numbers[places.numpy()]
        for run, places in zip(pairs.runs, pairs.matched.places, strict=True)
    )
    return float(np.mean(after - before))
