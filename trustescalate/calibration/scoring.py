"""Turn judgments into labels and scores in [0, 1]: one object for calibration, run and report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trustescalate.calibration.protocol import Judged, Protocol
from trustescalate.calibration.votes import confidence, score_bounds
from trustescalate.errors import DataError
from trustescalate.records import Certificate, Item, Judgment, Pooling, Task, Vote
from trustescalate.records.jsonl import digest
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.confidence import Bounds, Confidence, normalised
from trustescalate.stats.pooling import Stack, Votes


@dataclass(frozen=True, slots=True)
class Scorer:
    """Turn a judge's votes on an item into a label and a score in [0, 1].

    `seed` is that of the order within a level of `sampled`.

    >>> from trustescalate.records import Judgment, TaskKind
    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    >>> votes = (Vote(0, "AB", {"A": 0.9, "B": 0.1}), Vote(0, "BA", {"A": 0.7, "B": 0.3}))
    >>> judged = {"small": {"x": Judgment("x", "small", "print", votes, 2)}}
    >>> scored = Scorer(task, "ensemble").read(["small"], ["x"], judged)
    >>> scored.labels.tolist(), scored.scores.tolist()
    ([[0]], [[0.8]])
    """

    task: Task
    estimator: str
    seed: int = 0

    @classmethod
    def of(cls, certificate: Certificate) -> "Scorer":
        """The scorer that a certificate was made with."""
        return cls(certificate.task, certificate.estimator, certificate.seed)

    def read(self, judges: Sequence[str], rows: Sequence[str], judged: Judged) -> Votes:
        """Scores and labels (n, m) from full ensembles; a row that a judge has not judged has none."""
        scores = np.zeros((len(rows), len(judges)))
        labels = np.full(scores.shape, -1, dtype=np.int64)
        for tier, name in enumerate(judges):
            known = [place for place, item_id in enumerate(rows) if item_id in judged[name]]
            if known:
                own = self.read_one(name, [rows[place] for place in known], judged)
                labels[known, tier], scores[known, tier] = own
        return Votes(scores, labels)

    def read_one(self, judge: str, rows: Sequence[str], judged: Judged) -> Confidence:
        """Label and score of one judge on rows that it judged."""
        return self.score([judged[judge][item_id] for item_id in rows])

    def score(self, judgments: Sequence[Judgment]) -> Confidence:
        """Label and score of each of one judge's full ensembles."""
        ties = np.array([self._tie(judgment.item_id) for judgment in judgments])
        return confidence(self.task, self.estimator, judgments, ties)

    def bounds(self, item: Item, votes: Sequence[Vote], planned: int) -> Bounds:
        """Limits on the full ensemble's score of an item after its votes so far."""
        return score_bounds(self.task, self.estimator, votes, planned, self._tie(item.id))

    def shares(self, votes: FloatArray) -> FloatArray:
        """The share of each label in each vote (n, k, c)."""
        return normalised(votes, self.estimator)

    def _tie(self, item_id: str) -> float:
        if self.estimator != "sampled":
            return 0.5  # not read, and this runs after every vote
        return int(digest("tie", self.seed, item_id)[:13], 16) / 16**13


def scorer_of(protocol: Protocol, judged: Judged) -> Scorer:
    """The scorer of a protocol. Raises DataError where `verbalized` would read votes that state nothing."""
    if protocol.estimator == "verbalized":
        _must_state(judged)
    return Scorer(protocol.task, protocol.estimator, protocol.seed)


def stack_of(certificate: Certificate) -> Stack | None:
    """The stack of a certificate; None where no policy pools tiers."""
    given = certificate.stack
    if given is None:
        return None
    return Stack(len(certificate.task.labels), np.array(given.weights), given.clip)


def pooling_record(stack: Stack) -> Pooling:
    """The record of a stack in a certificate."""
    return Pooling(tuple(tuple((float(a), float(b)) for a, b in tier) for tier in stack.weights), stack.clip)


def _must_state(judged: Judged) -> None:
    for name, rows in judged.items():
        for row in rows.values():
            if any(vote.failure is None and vote.channel != "stated" for vote in row.votes):
                raise DataError(
                    [f"judge {name!r} states no confidence in its vote on item {row.item_id!r}"],
                    'set mode = "stated" for the judge, or another [ensemble] estimator',
                )
