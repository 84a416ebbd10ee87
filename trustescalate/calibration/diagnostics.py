"""Compute secondary statistics on the certification rows: each judge alone, and human agreement.

No guarantee rests on them, and none is tested.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trustescalate.calibration.judge_findings import (
    confusion_matrix,
    draws_alike,
    surest_disagreements,
)
from trustescalate.calibration.losses import is_binary, losses, right_or_wrong
from trustescalate.calibration.protocol import Aligned, Protocol
from trustescalate.data.labels import stated_labels
from trustescalate.records import (
    Against,
    Annotation,
    Bin,
    HumanAgreement,
    JudgeDiagnostics,
    Judgment,
    Task,
    sample_replies,
)
from trustescalate.stats.agreement import cohen_kappa, leave_one_out_agreement
from trustescalate.stats.bounds import BoolArray, FloatArray
from trustescalate.stats.calibration import auroc, brier_score, expected_calibration_error, reliability
from trustescalate.stats.intervals import mean_interval

INTERVAL_DELTA = 0.05
"""Intervals of observed figures are two-sided at 95 %, whatever delta the certificate has."""


def diagnose(
    protocol: Protocol, rows: Aligned, tier: int, judged: Mapping[str, Judgment]
) -> JudgeDiagnostics:
    """Statistics of one judge on the certification rows that it judged.

    Where verdicts are right or wrong, an agreement is what the guarantee counts as right; where they lose
    shares, it is the majority's own label. Its interval takes whole clusters of rows for what was drawn.
    """
    judged_rows = np.array([item_id in judged for item_id in rows.ids], dtype=np.bool_)
    score, label, truth = (
        rows.scores[judged_rows, tier],
        rows.labels[judged_rows, tier],
        rows.truth[judged_rows],
    )
    spoken = label >= 0
    correct: BoolArray = spoken & (label == truth)
    if is_binary(protocol.task, protocol.reference):
        correct = right_or_wrong(label[:, None], rows.losses[judged_rows])[:, 0] == 0
    both = spoken & (truth >= 0)
    votes = [vote for item_id in rows.ids if item_id in judged for vote in judged[item_id].votes]
    ids = [item_id for item_id in rows.ids if item_id in judged]
    drawn, alike = draws_alike(judged[item_id] for item_id in ids)
    units, agreements = clusters_of(protocol), int(correct.sum())
    cluster = None if units is None else np.array([units[i] for i in rows.ids], dtype=np.int64)[judged_rows]
    return JudgeDiagnostics(
        judge=protocol.judges[tier][0],
        n=len(label),
        agreements=agreements,
        interval=mean_interval(correct.astype(np.float64), INTERVAL_DELTA, cluster=cluster)[:2],
        kappa=cohen_kappa(label[both], truth[both], len(protocol.task.labels)),
        ece=expected_calibration_error(score[spoken], correct[spoken]),
        brier=brier_score(score[spoken], correct[spoken]),
        auroc=auroc(score[spoken], correct[spoken]),
        bins=_reliability_bins(score[spoken], correct[spoken]),
        votes=len(votes),
        failures=dict(sorted(Counter(vote.failure for vote in votes if vote.failure is not None).items())),
        cost=float(rows.costs[judged_rows, tier].mean()) if judged_rows.any() else 0.0,
        samples=sample_replies(judged[item_id] for item_id in rows.ids if item_id in judged),
        confusion=confusion_matrix(label, truth, len(protocol.task.labels)),
        surest=surest_disagreements(ids, score, label, truth, correct, protocol.task.labels),
        drawn=drawn,
        alike=alike,
    )


def _reliability_bins(score: FloatArray, correct: BoolArray) -> tuple[Bin, ...]:
    bars = reliability(score, correct)
    return tuple(
        Bin(float(low), float(high), int(rows), float(mean), int(right))
        for low, high, rows, mean, right in zip(*bars, strict=True)
    )


def human_agreement(
    task: Task, notes: Sequence[Annotation], cluster: Mapping[str, int] | None = None
) -> HumanAgreement | None:
    """Human leave-one-out agreement, and the largest human agreement that any verdicts could have.

    `cluster` says which items are clustered, where some do. None where no annotators can be compared.
    """
    stated = [note for rows in stated_labels(task, notes).values() for note in rows]
    if not stated:
        return None
    row = np.unique([note.item_id for note in stated], return_inverse=True)[1]
    annotator = np.unique([note.annotator for note in stated], return_inverse=True)[1]
    label = np.array([task.labels.index(note.label) for note in stated])
    units = None if cluster is None else np.array([cluster[note.item_id] for note in stated])
    one_out = leave_one_out_agreement(row, annotator, label, INTERVAL_DELTA, units)
    if one_out is None:
        return None
    best = [_best_agreement(task, against, notes) for against in ("majority", "annotator")]
    rows = list(best[0])
    each = None if cluster is None else np.array([cluster[item_id] for item_id in rows])
    decidable, largest = (np.array([agreed[item_id] for item_id in rows]) for agreed in best)
    return HumanAgreement(
        *one_out,
        rows=len(rows),
        decidable=int(decidable.sum()),
        decidable_interval=mean_interval(decidable, INTERVAL_DELTA, cluster=each)[:2],
        largest_share=float(largest.mean()),
        largest_share_interval=mean_interval(largest, INTERVAL_DELTA, cluster=each)[:2],
    )


def _best_agreement(task: Task, against: Against, notes: Sequence[Annotation]) -> Mapping[str, float]:
    """The largest agreement of any verdict, item by item: 1 less the least loss of a label."""
    return {item_id: 1 - min(lost.values()) for item_id, lost in losses(task, against, notes).items()}


def clusters_of(protocol: Protocol) -> Mapping[str, int] | None:
    """The cluster of each certification row by its id; None where every row is one of its own."""
    given = protocol.clusters
    if given is None:
        return None
    return {item_id: k for k, rows in enumerate(given.rows) for item_id in rows}
