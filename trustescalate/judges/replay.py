"""Replay recorded votes as a judge: tests, documentation, re-analysis at no cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Self

from trustescalate.errors import DataError
from trustescalate.judges.base import Tariff, are_counts, are_log_probabilities, are_probabilities
from trustescalate.records import FAILURES, Channel, Item, Judgment, Label, Task, Usage, Vote
from trustescalate.records.criteria import row_id, split_row_id
from trustescalate.records.jsonl import Row, digest, read_rows
from trustescalate.records.votes import Enough, next_wave


class ReplayJudge:
    """Return recorded votes wave by wave, in the order of an ensemble, until enough are in.

    With a tariff, costs are recomputed from the recorded usage (one call per vote if none was recorded);
    otherwise the recorded costs hold. Each planned but unrecorded vote is a failed vote, so that a run reads
    an item as calibration did.
    """

    def __init__(self, name: str, judgments: Sequence[Judgment], tariff: Tariff | None = None) -> None:
        self.name = name
        self.judgments = tuple(judgments)
        self.fingerprint = judgments[0].fingerprint
        self.channel: Channel = next(
            (vote.channel for row in judgments for vote in row.votes if vote.failure is None), "logprobs"
        )
        self._planned = {judgment.item_id: judgment.planned for judgment in judgments}
        self._served = {judgment.item_id: judgment.served for judgment in judgments if judgment.served}
        self._most = max(self._planned.values())
        self._waves = {judgment.item_id: _waves(judgment) for judgment in judgments}
        self._orders = max(len(waves[0]) for waves in self._waves.values())
        self._tariff = tariff

    @classmethod
    def from_labels(
        cls, labels: Mapping[str, Label | Mapping[Label, float]], *, name: str = "replay"
    ) -> Self:
        """Make a judge with one vote per item: a label with probability 1, or probabilities of labels.

        Raises ValueError without items, and for values that are no probabilities.

        >>> judge = ReplayJudge.from_labels({"q1": "A", "q2": {"A": 0.3, "B": 0.7}}, name="small")
        >>> [dict(judgment.votes[0].probs) for judgment in judge.judgments]
        [{'A': 1.0}, {'A': 0.3, 'B': 0.7}]
        """
        if not labels:
            raise ValueError("a judge without any label judges nothing")
        probs = {
            key: {label: 1.0} if isinstance(label, str) else dict(label) for key, label in labels.items()
        }
        for item_id, given in probs.items():
            if not are_probabilities(given.values()):
                raise ValueError(f"item {item_id!r}: {given} are not probabilities")
        mark = digest("labels", name, probs)
        votes = {item_id: Vote(0, "", given, usage=Usage(calls=1)) for item_id, given in probs.items()}
        return cls(name, [Judgment(item_id, name, mark, (vote,), 1) for item_id, vote in votes.items()])

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """The recorded votes on an item."""
        votes: list[Vote] = []
        planned = self._planned.get(item.id, self._most)
        left = self._completed(self._waves.get(item.id, [[]]), planned)
        while left and (size := next_wave(votes, len(left[0]), 1, planned, enough)):
            votes += left[0][:size]
            left = [wave for wave in (left[0][size:], *left[1:]) if wave]
        if not left and not enough(votes, planned):
            after = votes[-1].exemplar_set + 1
            votes += [self._missing(after)] * (planned - len(votes))
        served = self._served.get(item.id, ())
        return Judgment(item.id, self.name, self.fingerprint, tuple(votes), planned, served)

    def _completed(self, waves: list[list[Vote]], planned: int) -> list[list[Vote]]:
        """Price the waves. The first has the same length for every item: an estimator may read it alone."""
        first, *rest = [[self._priced(vote) for vote in wave] for wave in waves]
        member = first[0].exemplar_set if first else 0
        room = planned - sum(map(len, waves))
        return [[*first, *[self._missing(member)] * min(self._orders - len(first), room)], *rest]

    def _missing(self, member: int) -> Vote:
        return Vote(member, "", {}, failure="not_recorded", channel=self.channel)

    def _priced(self, vote: Vote) -> Vote:
        if self._tariff is None:
            return vote
        usage = vote.usage if vote.usage.calls else Usage(calls=1)
        return replace(vote, usage=usage, cost=self._tariff.cost(usage))


def _waves(judgment: Judgment) -> list[list[Vote]]:
    votes = sorted(judgment.votes, key=lambda vote: vote.exemplar_set)
    return [list(wave) for _, wave in groupby(votes, key=lambda vote: vote.exemplar_set)]


def load_votes(
    path: Path, task: Task, name: str, criteria: Mapping[str, Task] = MappingProxyType({})
) -> list[Judgment]:
    """Read the judgments of one judge from a file. Raises DataError with every bad line.

    With several `criteria` a row is about one of them, which its id names (`records.criteria.row_id`).
    """
    rows, problems = read_rows(path, Judgment)
    rows = [row for row in rows if row.record.judge == name]
    if not rows and not problems:
        problems.append(f"{path}: holds no judgment of {name!r}; name the recorded judge by `of`")
    problems += [problem for row in rows for problem in _row_problems(path, row, task, criteria)]
    first: dict[str, int] = {}
    for line, judgment in rows:
        if judgment.item_id in first:
            before = first[judgment.item_id]
            problems.append(f"{path}:{line}: item {judgment.item_id!r} was already judged on line {before}")
        first.setdefault(judgment.item_id, line)
    if len({row.record.fingerprint for row in rows}) > 1:
        problems.append(f"{path}: {name!r} has judgments of different fingerprints, so of different judges")
    if problems:
        raise DataError(problems, "record the votes again, or fix the lines named above")
    return [row.record for row in rows]


def _row_problems(path: Path, row: Row[Judgment], task: Task, criteria: Mapping[str, Task]) -> list[str]:
    line, judgment = row
    at = f"{path}:{line}: item {judgment.item_id!r}"
    if criteria:
        name = split_row_id(judgment.item_id)
        if name.criterion not in criteria:
            example = row_id(name.item_id, next(iter(criteria)))
            return [f"{at} names no criterion of [[criteria]]: votes on one are about a row, as {example!r}"]
        task = criteria[name.criterion]
    problems = []
    if not 1 <= len(judgment.votes) <= judgment.planned:
        problems.append(f"{at}: {len(judgment.votes)} votes of {judgment.planned} planned")
    for number, vote in enumerate(judgment.votes, 1):
        unknown = [label for label in vote.probs if label not in task.labels]
        if unknown:
            problems.append(f"{at}: vote {number}: {unknown[0]!r} is not one of {', '.join(task.labels)}")
        if vote.failure is not None and vote.failure not in FAILURES:
            problems.append(f"{at}: vote {number}: unknown failure {vote.failure!r}")
        if bool(vote.probs) == (vote.failure is not None):
            problems.append(f"{at}: vote {number} needs either probabilities or a failure")
        if vote.probs and not are_probabilities(vote.probs.values()):
            problems.append(f"{at}: vote {number}: {dict(vote.probs)} are not probabilities")
        if not are_counts(vote.usage, vote.cost) or not are_log_probabilities(vote.tokens):
            problems.append(f"{at}: vote {number} has a number out of range in its usage, cost or tokens")
    return problems
