"""Decide a whole run by conformal selection, from the scored rows that the claim "expected" keeps.

It is a guarantee in expectation, and no certificate (`stats.conformal`). Which verdicts are released depends
on all items of a run at once, so nothing is decided before every judge has judged every item.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from trustescalate.calibration.no_certificate import NO_VERDICTS
from trustescalate.calibration.protocol import Aligned, Judged
from trustescalate.calibration.scoring import Scorer
from trustescalate.calibration.selection import lot
from trustescalate.data.clusters import clusters
from trustescalate.records import CalibrationRow, Certificate, Decision, Item, Label, Step
from trustescalate.records.failures import FAILED_VOTES
from trustescalate.stats.conformal import Released, fewest_rows, select_run
from trustescalate.stats.pooling import Votes

WEAKER = 'claim = "expected" limits a mean over runs, and certifies nothing'
BELOW = "below the score from which on this run releases"
NOTHING = "this run releases nothing: no score is high enough"
SILENT = "no verdict"
LABELLED = "people labelled it for the calibration, or an item of its group"
SHARED = "its group has another item in this run: of each group one can be released"


def keep_scored_rows(certificate: Certificate, aligned: Aligned) -> Certificate:
    """Turn a record of labelled rows, on which nothing was tested, into one of the claim "expected".

    `status` is "expected", or "none" where the rows are too few for any run to release a verdict.
    """
    rows = tuple(_keep_row(certificate.task.labels, aligned, row) for row in range(len(aligned.ids)))
    spoken, floor = int((aligned.labels >= 0).any(axis=1).sum()), fewest_rows(certificate.alpha)
    reason, advice = WEAKER, 'for a certificate set claim = "population", and calibrate'
    if spoken < floor:
        reason = (
            f"{len(rows)} labelled rows, {spoken} of them with a verdict, are too few for any run to release "
            f"anything: at alpha = {certificate.alpha:g} it takes {floor}"
        )
        advice = f"label at least {floor} rows, better ten times as many"
        if len(rows) >= floor:
            advice = NO_VERDICTS
    return replace(
        certificate,
        status="none" if spoken < floor else "expected",
        reason=reason,
        advice=advice,
        delta=1.0,
        path="conformal_selection",
        procedure="benjamini_hochberg",
        prefer="coverage",
        calibration=rows,
    )


def _keep_row(labels: Sequence[Label], aligned: Aligned, row: int) -> CalibrationRow:
    return CalibrationRow(
        aligned.ids[row],
        tuple(labels[label] if label >= 0 else None for label in aligned.labels[row]),
        tuple(map(float, aligned.scores[row])),
        tuple(label for label, lost in zip(labels, aligned.losses[row], strict=True) if lost == 0),
    )


def fully_judged(judged: Judged) -> tuple[str, ...]:
    """The ids of the items that every judge has judged, sorted."""
    return tuple(sorted(set.intersection(*map(set, judged.values()))))


def select_items(certificate: Certificate, ids: Sequence[str], judged: Judged) -> Released:
    """Select the items of a run to release, in the order of `ids`, which are all of them."""
    names = [binding.judge for binding in certificate.judges]
    labels = certificate.task.labels
    place: Mapping[Label | None, int] = {label: at for at, label in enumerate(labels)}
    rows = certificate.calibration
    known = Votes(
        np.array([row.scores for row in rows], dtype=np.float64),
        np.array([[place.get(label, -1) for label in row.verdicts] for row in rows], dtype=np.int64),
    )
    right = np.array([[label in row.agreeing for label in labels] for row in rows], dtype=bool)
    return select_run(Scorer.of(certificate).read(names, ids, judged), known, right, certificate.alpha)


def set_apart(certificate: Certificate, items: Sequence[Item], known: Iterable[Item]) -> Mapping[str, str]:
    """Return the items that cannot be released, by id, with the reason.

    Labelled rows are independent, so exchangeability allows one item per group or content, drawn by lot, and
    none from a cluster with a labelled row. `known` holds the labelled rows.
    """
    used = {item_id for role, ids in certificate.roles.items() if role != "holdout" for item_id in ids}
    labelled = [item for item in known if item.id in used]
    mine = {item.id for item in items}
    apart: dict[str, str] = {}
    for rows in clusters([*items, *(item for item in labelled if item.id not in mine)]):
        taken = any(item.id in used for item in rows)
        first = min(rows, key=lambda item: lot(certificate.seed, item))
        for item in rows:
            if taken or item.id != first.id:
                apart[item.id] = LABELLED if taken else SHARED
    return {item.id: apart[item.id] for item in items if item.id in apart}


def decide_run(certificate: Certificate, judged: Judged, apart: Mapping[str, str]) -> tuple[Decision, ...]:
    """The decisions on a whole run: on the items of `judged`, and on those `apart`, for the reason there.

    A step holds what its judge says with those before it in mind; the last one alone has a threshold.
    """
    ids = fully_judged(judged)
    selected = select_items(certificate, ids, judged)
    decided = [_decide(certificate, judged, item_id, selected, at) for at, item_id in enumerate(ids)]
    left = [Decision(item_id, None, None, None, why, ()) for item_id, why in apart.items()]
    return (*decided, *left)


def _decide(certificate: Certificate, judged: Judged, item_id: str, run: Released, at: int) -> Decision:
    labels, last = certificate.task.labels, len(certificate.judges) - 1
    released = bool(run.selected.released[at])
    trail = []
    for tier, binding in enumerate(certificate.judges):
        judgment, label = judged[binding.judge][item_id], int(run.read.labels[at, tier])
        score = float(run.read.scores[at, tier])
        step = Step(
            judge=binding.judge,
            label=labels[label] if label >= 0 else None,
            score=score,
            score_upper=score,
            threshold=run.selected.threshold if tier == last else None,
            accepted=released and tier == last,
            votes=len(judgment.votes),
            planned=judgment.planned,
            failures=tuple(sorted({vote.failure for vote in judgment.votes if vote.failure is not None})),
        )
        trail.append(step)
    if released:
        return Decision(item_id, step.label, step.judge, step.score, "accepted", tuple(trail))
    return Decision(item_id, None, None, None, _explain_abstention(trail), tuple(trail))


def _explain_abstention(trail: Sequence[Step]) -> str:
    last = trail[-1]
    why = SILENT if last.label is None else NOTHING if last.threshold is None else BELOW
    failures = sorted({failure for step in trail for failure in step.failures})
    return f"{why}{FAILED_VOTES}{', '.join(failures)}" if failures else why
