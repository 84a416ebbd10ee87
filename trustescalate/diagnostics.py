"""What stands beside the promise: each judge alone, and how far one person agrees with the others.

No promise rests on anything here, and nothing here is tested.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trustescalate.estimand import is_binary, right_or_wrong
from trustescalate.labels import opinions
from trustescalate.protocol import Aligned, Protocol
from trustescalate.stats.agreement import cohen_kappa, human_ceiling
from trustescalate.stats.bounds import BoolArray, FloatArray, clopper_pearson_interval
from trustescalate.stats.calibration import auroc, brier_score, expected_calibration_error, reliability
from trustescalate.types import Annotation, Bin, Ceiling, JudgeDiagnostics, Judgment, Task

INTERVAL_DELTA = 0.05
"""Intervals beside observed figures are two-sided at 95 %, whatever delta the certificate has."""


def diagnose(
    protocol: Protocol, rows: Aligned, tier: int, judged: Mapping[str, Judgment]
) -> JudgeDiagnostics:
    """How one judge did on the certification rows that it was asked about.

    Where verdicts are right or wrong, an agreement is what the promise counts as right; where they lose
    shares, it is the majority's own label.
    """
    asked = np.array([item_id in judged for item_id in rows.ids], dtype=np.bool_)
    score, label, truth = rows.scores[asked, tier], rows.labels[asked, tier], rows.truth[asked]
    spoken = label >= 0
    correct: BoolArray = spoken & (label == truth)
    if is_binary(protocol.task, protocol.against):
        correct = right_or_wrong(label[:, None], rows.losses[asked])[:, 0] == 0
    both = spoken & (truth >= 0)
    votes = [vote for item_id in rows.ids if item_id in judged for vote in judged[item_id].votes]
    agreements = int(correct.sum())
    return JudgeDiagnostics(
        judge=protocol.judges[tier][0],
        n=len(label),
        agreements=agreements,
        interval=clopper_pearson_interval(agreements, len(label), INTERVAL_DELTA),
        kappa=cohen_kappa(label[both], truth[both], len(protocol.task.labels)),
        ece=expected_calibration_error(score[spoken], correct[spoken]),
        brier=brier_score(score[spoken], correct[spoken]),
        auroc=auroc(score[spoken], correct[spoken]),
        bins=_bins(score[spoken], correct[spoken]),
        votes=len(votes),
        failures=dict(sorted(Counter(vote.failure for vote in votes if vote.failure is not None).items())),
        cost=float(rows.costs[asked, tier].mean()) if asked.any() else 0.0,
    )


def _bins(score: FloatArray, correct: BoolArray) -> tuple[Bin, ...]:
    bars = reliability(score, correct)
    return tuple(
        Bin(float(low), float(high), int(rows), float(mean), int(right))
        for low, high, rows, mean, right in zip(*bars, strict=True)
    )


def ceiling(task: Task, notes: Sequence[Annotation]) -> Ceiling | None:
    """How often one annotator agrees with the majority of the others; None where nobody can be compared."""
    stated = [note for rows in opinions(task, notes).values() for note in rows]
    if not stated:
        return None
    row = np.unique([note.item_id for note in stated], return_inverse=True)[1]
    annotator = np.unique([note.annotator for note in stated], return_inverse=True)[1]
    label = np.array([task.labels.index(note.label) for note in stated])
    found = human_ceiling(row, annotator, label, INTERVAL_DELTA)
    return None if found is None else Ceiling(*found)
