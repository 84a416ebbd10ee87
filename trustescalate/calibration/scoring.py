"""Judgments to labels and scores, with whatever was fitted: one object for calibration, run and evidence.

A `Scorer` is fitted on dev rows, or on what the dearest judge says of rows without labels; a certificate
holds its numbers, and a run makes it again from those. Nothing is tested here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from trustescalate.calibration.protocol import FITTED, Judged, Protocol
from trustescalate.calibration.votes import confidence, padded, score_bounds
from trustescalate.data.labels import majority
from trustescalate.errors import DataError
from trustescalate.records import (
    Annotation,
    Certificate,
    Fit,
    Item,
    Json,
    Judgment,
    Scoring,
    Task,
    TaskKind,
    Vote,
)
from trustescalate.records.jsonl import digest
from trustescalate.records.votes import draws_of, orders_of
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.confidence import Bounds, Confidence, normalised
from trustescalate.stats.fitted import (
    DIGITS,
    RECALIBRATORS,
    Boosted,
    Curve,
    Isotonic,
    Learned,
    Platt,
    Signs,
    Temperature,
    apply_learned,
    fit_boosted,
    fit_learned,
    recalibrated,
    signs,
)
from trustescalate.stats.ordinal import conformal_mass, interval_verdicts
from trustescalate.stats.paths import Stack, Votes

FEWEST = 10
"""A judge that has said less on the rows to fit on is trusted with nothing."""
NO_ITEMS: Mapping[str, Item] = MappingProxyType({})
SIGNS = ("mean", "spread over prompts", "gap between orders", "length of the winner")
"""The columns of `stats.fitted.signs`; then one for each earlier judge."""
MUTE = Bounds(-1, 0.0, 0.0)

_MODELS: Mapping[str, type[Any]] = {
    "learned": Learned,
    "boosted": Boosted,
    "isotonic": Isotonic,
    "platt": Platt,
    "temperature": Temperature,
}


@dataclass(frozen=True, slots=True)
class Scorer:
    """How a judge's votes on an item become a label and a score in [0, 1].

    `items` holds the texts of the items that are read, which only fitted signs need. `seed` is that of the
    order within a level of `sampled`.

    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    >>> votes = (Vote(0, "AB", {"A": 0.9, "B": 0.1}), Vote(0, "BA", {"A": 0.7, "B": 0.3}))
    >>> said = {"small": {"x": Judgment("x", "small", "print", votes, 2)}}
    >>> found = Scorer(task, "ensemble").read(["small"], ["x"], said)
    >>> found.labels.tolist(), found.scores.tolist()
    ([[0]], [[0.8]])
    """

    task: Task
    estimator: str
    seed: int = 0
    fits: Mapping[str, tuple[Fit, ...]] = field(default_factory=dict)
    items: Mapping[str, Item] = field(default_factory=dict)

    @classmethod
    def of(cls, certificate: Certificate, items: Mapping[str, Item] = NO_ITEMS) -> "Scorer":
        """The scorer that a certificate was made with."""
        fits = {} if certificate.scoring is None else certificate.scoring.fits
        return cls(certificate.task, certificate.estimator, certificate.seed, fits, items)

    def read(self, judges: Sequence[str], rows: Sequence[str], judged: Judged) -> Votes:
        """Scores and labels (n, m) from full ensembles; a row that a judge was not asked about has none.

        Raises ValueError where signs are read and `items` does not hold a row's texts.
        """
        scores = np.zeros((len(rows), len(judges)))
        labels = np.full(scores.shape, -1, dtype=np.int64)
        for tier, name in enumerate(judges):
            asked = [place for place, item_id in enumerate(rows) if item_id in judged[name]]
            if asked:
                found = self.read_one(name, [rows[place] for place in asked], judged)
                labels[asked, tier], scores[asked, tier] = found
        return Votes(scores, labels)

    def needs_all(self, judge: str) -> bool:
        """Whether a judge's score is open until its last vote is in: nothing can be decided earlier."""
        if judge in self.fits:
            return any(fit.kind in FITTED for fit in self.fits[judge])
        return self.estimator in FITTED and not self.fits

    def bounds(self, item: Item, judge: str, votes: Sequence[Vote], planned: int) -> Bounds:
        """What a judge's full ensemble will say of an item, as far as its votes so far decide it.

        Not for a judge that `needs_all`. A curve never falls, so limits on a score become limits on P(right).
        """
        curve = self._curve(judge)
        if self._is_mute(judge):
            return MUTE
        found = score_bounds(self.task, self._plain, votes, planned, self._tie(item.id))
        if curve is None:
            return found
        low, high = recalibrated(curve, np.array([found.low, found.high])).tolist()
        return Bounds(found.label, low if found.label >= 0 else 0.0, high if found.high > 0 else 0.0)

    def say(self, item: Item, judgments: Sequence[Judgment]) -> Bounds:
        """What the last of these judgments on an item says, with those before it in mind."""
        last = judgments[-1]
        if not self.needs_all(last.judge) or self._is_mute(last.judge):
            return self.bounds(item, last.judge, last.votes, last.planned)
        judged = {row.judge: {item.id: row} for row in judgments}
        alone = replace(self, items={item.id: item})
        label, score = (part[0] for part in alone.read_one(last.judge, [item.id], judged))
        return Bounds(int(label), float(score), float(score))

    def shares(self, votes: FloatArray) -> FloatArray:
        """What each vote (n, k, c) says of each label, before anything is fitted."""
        return normalised(votes, self.estimator)

    # ── one judge ──

    @property
    def _plain(self) -> str:
        return "ensemble" if self.estimator in FITTED else self.estimator

    def _tie(self, item_id: str) -> float:
        if self._plain != "sampled":
            return 0.5  # nobody reads it, and this is asked after every vote
        return int(digest("tie", self.seed, item_id)[:13], 16) / 16**13

    def _is_mute(self, judge: str) -> bool:
        return any(not fit.numbers for fit in self.fits.get(judge, ()))

    def _curve(self, judge: str) -> Curve | None:
        curves = [fit for fit in self.fits.get(judge, ()) if fit.kind in RECALIBRATORS and fit.numbers]
        return _model(curves[0]) if curves else None

    def read_one(self, judge: str, rows: Sequence[str], judged: Judged) -> Confidence:
        """Label and score of one judge on rows that it was asked about."""
        if self._is_mute(judge):
            return Confidence(np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows)))
        found, curve = self._uncalibrated(judge, rows, judged), self._curve(judge)
        if curve is None:
            return found
        return Confidence(found.label, np.where(found.label >= 0, recalibrated(curve, found.score), 0.0))

    def _uncalibrated(self, judge: str, rows: Sequence[str], judged: Judged) -> Confidence:
        own = [fit for fit in self.fits.get(judge, ()) if fit.kind in FITTED]
        if not own:
            return self.plainly(judge, rows, judged)
        if own[0].kind == "interval":
            mass = own[0].numbers["mass"]
            plain = self.plainly(judge, rows, judged)
            score = interval_verdicts(
                self.mean_shares(judge, rows, judged), math.inf if mass is None else float(mass)
            ).score
            return Confidence(plain.label, np.where(plain.label >= 0, score, 0.0))
        return apply_learned(_model(own[0]), self.signs(judge, rows, judged, own[0].layout, own[0].earlier))

    def plainly(self, judge: str, rows: Sequence[str], judged: Judged) -> Confidence:
        """Label and score by the estimator alone, or by `ensemble` where the estimator has to be fitted."""
        judgments = [judged[judge][item_id] for item_id in rows]
        ties = np.array([self._tie(item_id) for item_id in rows])
        return confidence(self.task, self._plain, judgments, ties)

    def mean_shares(self, judge: str, rows: Sequence[str], judged: Judged) -> FloatArray:
        """Mean share of each label (n, c); failed votes leave it short of 1, so intervals become wider."""
        votes = normalised(padded(self.task, [judged[judge][item_id] for item_id in rows]))
        # Rounded, so that a row has the same bits alone and among others.
        return np.asarray(np.round(votes.mean(axis=1), DIGITS), dtype=np.float64)

    def signs(
        self,
        judge: str,
        rows: Sequence[str],
        judged: Judged,
        layout: tuple[int, int],
        earlier: Sequence[str],
    ) -> Signs:
        """What there is to see of one judge's votes, lengths and earlier verdicts included."""
        plain = Scorer(self.task, "ensemble").read(earlier, rows, judged)
        return signs(
            padded(self.task, [judged[judge][item_id] for item_id in rows]),
            layout[0],
            self._lengths(rows),
            (plain.scores, plain.labels) if earlier else None,
            draws=layout[1],
        )

    def _lengths(self, rows: Sequence[str]) -> FloatArray | None:
        """Characters of the response that each label names (n, c); None where a label names none."""
        if self.task.kind is not TaskKind.PAIRWISE:
            return None
        lengths = np.zeros((len(rows), len(self.task.labels)))
        for row, item_id in enumerate(rows):
            if item_id not in self.items:
                raise ValueError(
                    f"estimator {self.estimator!r} reads the texts of item {item_id!r}: give items"
                )
            lengths[row, :2] = [len(text) for text in self.items[item_id].texts]
        return lengths


def stack_of(certificate: Certificate) -> Stack | None:
    """How a certificate pools tiers; None where no policy of it does."""
    given = certificate.stack
    if given is None:
        return None
    return Stack(len(certificate.task.labels), np.array(given.weights), given.clip)


# ── fitting ──────────────────────────────────────────────────────────────────────────────────────


def fit_scorer(
    protocol: Protocol,
    annotations: Sequence[Annotation],
    judged: Judged,
    items: Mapping[str, Item] = NO_ITEMS,
) -> Scorer:
    """The scorer of a protocol, fitted on its dev rows; with `learn_from` "dearest" on pilot rows too.

    Reads no label of another row. A row without a majority counts as wrong, as it will when it is tested.
    Raises DataError where `verbalized` is to read votes that state no confidence.
    """
    names = [name for name, _ in protocol.judges]
    plain = Scorer(protocol.task, protocol.estimator, protocol.seed, items=items)
    if protocol.estimator == "verbalized":
        _must_state(judged)
    if not protocol.fitted:
        return plain
    before = _read_before(protocol.path, names)
    if protocol.learn_from == "people":
        truth = _people_say(protocol, annotations)
    else:
        truth = _dearest_says(protocol, names.pop(), judged)
    fits = {name: _fit_judge(protocol, plain, name, before[name], truth, judged) for name in names}
    return replace(plain, fits=fits)


def scoring(protocol: Protocol, scorer: Scorer) -> Scoring | None:
    """What a certificate keeps of a scorer."""
    return Scoring(protocol.recalibrate, protocol.learn_from, scorer.fits) if protocol.fitted else None


def _must_state(judged: Judged) -> None:
    for name, rows in judged.items():
        for row in rows.values():
            if any(vote.failure is None and vote.channel != "stated" for vote in row.votes):
                raise DataError(
                    [f"judge {name!r} states no confidence in its vote on item {row.item_id!r}"],
                    'set mode = "stated" for the judge, or another [ensemble] estimator',
                )


def _people_say(protocol: Protocol, annotations: Sequence[Annotation]) -> Mapping[str, int]:
    """Labels of dev rows by their place; a row without a majority has one that no judge can give."""
    wanted = set(protocol.roles["dev"])
    said = majority(protocol.task, [note for note in annotations if note.item_id in wanted])
    labels = protocol.task.labels
    return {
        item_id: labels.index(said_label) if (said_label := said[item_id]) is not None else len(labels)
        for item_id in protocol.roles["dev"]
        if item_id in said
    }


def _dearest_says(protocol: Protocol, dearest: str, judged: Judged) -> Mapping[str, int]:
    rows = dict.fromkeys((*protocol.roles["pilot"], *protocol.roles["dev"]))
    asked = [item_id for item_id in rows if item_id in judged[dearest]]
    if not asked:
        return {}
    said = Scorer(protocol.task, "ensemble").plainly(dearest, asked, judged)
    return {item_id: int(label) for item_id, label in zip(asked, said.label, strict=True) if label >= 0}


def _read_before(path: str, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """For each judge the earlier ones whose verdicts are at hand whenever it is asked, under every policy.

    A policy may pass judges over: `hedged` does so when it asks the last one alone, and paths that give each
    judge a threshold of its own may do so anywhere. What was not asked cannot be a sign.
    """
    always = {"common": len(names), "hedged": len(names) - 1}.get(path, 0)
    return {name: tuple(names[:place]) if place < always else () for place, name in enumerate(names)}


def _fit_judge(
    protocol: Protocol,
    plain: Scorer,
    judge: str,
    earlier: tuple[str, ...],
    truth: Mapping[str, int],
    judged: Judged,
) -> tuple[Fit, ...]:
    rows = [item_id for item_id in truth if item_id in judged[judge]]
    target = np.array([truth[item_id] for item_id in rows], dtype=np.int64)
    said = plain.plainly(judge, rows, judged).label if rows else target
    used = int((said >= 0).sum())
    kinds = [protocol.estimator] if protocol.estimator in FITTED else []
    kinds += [protocol.recalibrate] if protocol.recalibrate else []
    if used < FEWEST:
        return tuple(Fit(kind, used, {}) for kind in kinds)  # type: ignore[arg-type]
    found: tuple[Fit, ...] = ()
    for kind in kinds:
        so_far = replace(plain, fits={judge: found})
        if kind == "interval":
            fit = _fit_interval(so_far, judge, rows, target, protocol.alpha / 2, judged)
        elif kind in RECALIBRATORS:
            fit = _fit_curve(so_far, kind, judge, rows, target, judged)
        else:
            fit = _fit_signs(so_far, kind, judge, earlier, rows, target, judged)
        found = (*found, fit)
    return found


def _fit_signs(
    scorer: Scorer,
    kind: str,
    judge: str,
    earlier: tuple[str, ...],
    rows: Sequence[str],
    target: IntArray,
    judged: Judged,
) -> Fit:
    votes = [judged[judge][item_id].votes for item_id in rows]
    orders, draws = max(map(orders_of, votes)), max(map(draws_of, votes))
    layout = (orders, draws if orders % draws == 0 else 1)
    seen = scorer.signs(judge, rows, judged, layout, earlier)
    model = (fit_learned if kind == "learned" else fit_boosted)(seen, target)
    return Fit(kind, int((seen.label >= 0).sum()), _numbers(model), layout, earlier)  # type: ignore[arg-type]


def _fit_interval(
    scorer: Scorer, judge: str, rows: Sequence[str], target: IntArray, miss: float, judged: Judged
) -> Fit:
    # Half of alpha: where a judge errs on less than `miss` of the rows, all intervals are single grades.
    said = scorer.plainly(judge, rows, judged).label
    known = (said >= 0) & (target < len(scorer.task.labels))
    mass = conformal_mass(scorer.mean_shares(judge, rows, judged)[known], target[known], miss)
    return Fit("interval", int(known.sum()), {"mass": mass if math.isfinite(mass) else None})


def _fit_curve(
    scorer: Scorer, kind: str, judge: str, rows: Sequence[str], target: IntArray, judged: Judged
) -> Fit:
    label, score = scorer.read_one(judge, rows, judged)
    said = label >= 0
    curve = RECALIBRATORS[kind](score[said], (label == target)[said])
    return Fit(kind, int(said.sum()), _numbers(curve))  # type: ignore[arg-type]


def _numbers(model: Any) -> Mapping[str, Json]:
    """A record of numbers as JSON; None stands for infinity."""
    plain = {name: np.asarray(value).tolist() for name, value in model._asdict().items()}
    return {name: None if value == math.inf else value for name, value in plain.items()}


def _model(fit: Fit) -> Any:
    read = {
        name: np.array(value) if isinstance(value, Sequence) else math.inf if value is None else float(value)
        for name, value in fit.numbers.items()
    }
    return _MODELS[fit.kind](**read)
