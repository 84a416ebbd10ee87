"""Decide a whole run by conformal selection, from the scored rows that the claim "expected" keeps.

It is a guarantee in expectation, and no certificate (`stats.conformal`). Which verdicts are released depends
on all items of a run at once, so nothing is decided before every judge has judged every item.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from trustescalate.calibration.no_certificate import NO_VERDICTS
from trustescalate.calibration.protocol import Aligned
from trustescalate.calibration.scoring import Scorer
from trustescalate.calibration.selection import lot
from trustescalate.data.clusters import first_of_clusters
from trustescalate.records import CalibrationRow, Certificate, Decision, Item, Judgment, Label, Step
from trustescalate.records.columns import Codes, Distinct, Place
from trustescalate.records.failures import FAILED_VOTES
from trustescalate.stats.bounds import BoolArray
from trustescalate.stats.conformal import Released, fewest_rows, select_run
from trustescalate.stats.pooling import Votes

WEAKER = 'claim = "expected" limits a mean over runs, and certifies nothing'
BELOW = "below the score from which on this run releases"
NOTHING = "this run releases nothing: no score is high enough"
SILENT = "no verdict"
LABELLED = "people labelled it for the calibration, or an item of its group"
SHARED = "its group has another item in this run: of each group one can be released"
AT_ONCE = 1_000
"""Judgments that are read together."""


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


class Cast(NamedTuple):
    """What a step tells of a judge's votes on an item, but for their label and score."""

    votes: int
    planned: int
    failures: tuple[str, ...]


class RunVotes:
    """What the full ensembles of a run's `size` items say, in arrays by the place of an item and the tier.

    An item takes some twenty bytes for each judge, whatever the number of votes.
    """

    def __init__(self, certificate: Certificate, size: int) -> None:
        self._certificate, self._scorer = certificate, Scorer.of(certificate)
        self._tiers = {binding.judge: tier for tier, binding in enumerate(certificate.judges)}
        shape = size, len(self._tiers)
        self._scores, self._labels = np.zeros(shape), np.full(shape, -1, dtype=np.int16)
        self._casts, self._cast = Distinct[Cast](), np.full(shape, -1, dtype=np.int32)
        self._unread: list[tuple[Place, int, Judgment]] = []

    def add(self, place: Place, judgment: Judgment) -> None:
        """Read the judgment of a judge on the item of a place."""
        tier = self._tiers[judgment.judge]
        failures = {vote.failure for vote in judgment.votes if vote.failure is not None}
        cast = Cast(len(judgment.votes), judgment.planned, tuple(sorted(failures)))
        self._cast[place, tier] = self._casts.number(cast)
        self._unread.append((place, tier, judgment))
        if len(self._unread) >= AT_ONCE:
            self._read()

    def _read(self) -> None:
        for tier in range(len(self._tiers)):
            rows = [(place, judgment) for place, own, judgment in self._unread if own == tier]
            if rows:
                places = [place for place, _ in rows]
                read = self._scorer.score([judgment for _, judgment in rows])
                self._labels[places, tier], self._scores[places, tier] = read
        self._unread.clear()

    def has(self, place: Place, judge: str) -> bool:
        """Whether a judge has judged the item of a place."""
        return bool(self._cast[place, self._tiers[judge]] >= 0)

    def some(self) -> BoolArray:
        """Which items a judge has judged (n,)."""
        return np.asarray((self._cast >= 0).any(axis=1))

    def whole(self) -> BoolArray:
        """Which items every judge has judged (n,)."""
        return np.asarray((self._cast >= 0).all(axis=1))

    def select(self) -> Released:
        """Select the items to release, among those that every judge has judged, in their order."""
        self._read()
        certificate, whole = self._certificate, self.whole()
        labels = certificate.task.labels
        place: Mapping[Label | None, int] = {label: at for at, label in enumerate(labels)}
        rows = certificate.calibration
        known = Votes(
            np.array([row.scores for row in rows], dtype=np.float64),
            np.array([[place.get(label, -1) for label in row.verdicts] for row in rows], dtype=np.int64),
        )
        right = np.array([[label in row.agreeing for label in labels] for row in rows], dtype=bool)
        read = Votes(self._scores[whole], self._labels[whole].astype(np.int64))
        return select_run(read, known, right, certificate.alpha)

    def casts(self, place: Place) -> Sequence[Cast]:
        """What each judge's votes are on an item that every judge has judged."""
        return [self._casts.known[cast] for cast in self._cast[place].tolist()]


def set_apart(certificate: Certificate, items: Sequence[Item], known: Sequence[Item]) -> Sequence[str | None]:
    """The reason why an item cannot be released, for each item; None where it can.

    Labelled rows are independent, so exchangeability allows one item per group or content, drawn by lot, and
    none from a cluster with a labelled row. `known` holds the labelled rows.
    """
    used = {item_id for role, ids in certificate.roles.items() if role != "holdout" for item_id in ids}
    free, shared = first_of_clusters(items, known, used, lambda place: lot(certificate.seed, items[place]))
    pairs = zip(free.tolist(), shared.tolist(), strict=True)
    return Codes(None if one else SHARED if other else LABELLED for one, other in pairs)


def decide_run(
    certificate: Certificate, ids: Sequence[str], votes: RunVotes, apart: Sequence[str | None]
) -> Iterator[tuple[Place, Decision]]:
    """The decisions on a whole run: on the items that every judge has judged, and on those set `apart`.

    `ids` are those of the items, in whose order the decisions come, each with its place. A step holds what
    its judge says with those before it in mind; the last one alone has a threshold.
    """
    selected, at = votes.select(), 0
    for place, (item_id, whole, why) in enumerate(zip(ids, votes.whole().tolist(), apart, strict=True)):
        if whole:
            yield place, _decide(certificate, item_id, votes.casts(place), selected, at)
            at += 1
        elif why:
            yield place, Decision(item_id, None, None, None, why, ())


def _decide(
    certificate: Certificate, item_id: str, casts: Sequence[Cast], run: Released, at: int
) -> Decision:
    labels, last = certificate.task.labels, len(certificate.judges) - 1
    released = bool(run.selected.released[at])
    trail = []
    for tier, (binding, cast) in enumerate(zip(certificate.judges, casts, strict=True)):
        label, score = int(run.read.labels[at, tier]), float(run.read.scores[at, tier])
        step = Step(
            judge=binding.judge,
            label=labels[label] if label >= 0 else None,
            score=score,
            score_upper=score,
            threshold=run.selected.threshold if tier == last else None,
            accepted=released and tier == last,
            votes=cast.votes,
            planned=cast.planned,
            failures=cast.failures,
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
