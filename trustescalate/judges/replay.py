"""Replay recorded votes as a judge: tests, documentation, re-analysis at no cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Self

from trustescalate.errors import DataError
from trustescalate.judges.base import Tariff, are_log_probabilities, are_probabilities
from trustescalate.records import FAILURES, Channel, Item, Judgment, Label, Task, Usage, Vote
from trustescalate.records.columns import Column, Places, Texts
from trustescalate.records.criteria import row_id, split_row_id
from trustescalate.records.jsonl import digest
from trustescalate.records.stored import Lines, Stored, read_stored
from trustescalate.records.votes import Enough, next_wave


class ReplayJudge:
    """Return recorded votes wave by wave, in the order of an ensemble, until enough are in.

    With a tariff, costs are recomputed from the recorded usage (one call per vote if none was recorded);
    otherwise the recorded costs hold. Each planned but unrecorded vote is a failed vote, so that a run reads
    an item as calibration did.
    """

    def __init__(self, name: str, judgments: Sequence[Judgment], tariff: Tariff | None = None) -> None:
        known = judgments.known if isinstance(judgments, StoredVotes) else Known(judgments)
        self.name = name
        self.judgments = judgments
        self.fingerprint = known.fingerprint
        self.channel: Channel = known.channel or "logprobs"
        self.places: Mapping[str, int] = Places(known.ids)  # of each item in `judgments`
        self._most, self._orders = known.planned, known.orders
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
        place = self.places.get(item.id)
        recorded = None if place is None else self.judgments[place]
        planned = self._most if recorded is None else recorded.planned
        left = self._completed([[]] if recorded is None else _waves(recorded), planned)
        while left and (size := next_wave(votes, len(left[0]), 1, planned, enough)):
            votes += left[0][:size]
            left = [wave for wave in (left[0][size:], *left[1:]) if wave]
        if not left and not enough(votes, planned):
            after = votes[-1].exemplar_set + 1
            votes += [self._missing(after)] * (planned - len(votes))
        served = () if recorded is None else recorded.served
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


class Known:
    """What a judge knows of its recorded votes before it is asked: the items, and the size of an ensemble."""

    def __init__(self, judgments: Iterable[Judgment] = ()) -> None:
        self.ids = Texts()
        self.fingerprint = ""
        self.channel: Channel | None = None
        self.planned = self.orders = 0
        for judgment in judgments:
            self.add(judgment)

    def add(self, judgment: Judgment) -> None:
        """Take a judgment."""
        self.fingerprint = self.fingerprint or judgment.fingerprint
        if self.channel is None:
            self.channel = next((vote.channel for vote in judgment.votes if vote.failure is None), None)
        self.planned = max(self.planned, judgment.planned)
        self.orders = max(self.orders, len(_waves(judgment)[0]))
        self.ids.append(judgment.item_id)


class StoredVotes(Stored[Judgment]):
    """Recorded votes of one judge in a file, with what is known of them."""

    def __init__(self, lines: Lines, rows: Sequence[int], known: Known) -> None:
        super().__init__(Judgment, lines, rows)
        self.known = known


def load_votes(
    path: Path, task: Task, name: str, criteria: Mapping[str, Task] = MappingProxyType({})
) -> StoredVotes:
    """Index the judgments of one judge in a file. Raises DataError with every bad line.

    With several `criteria` a row is about one of them, which its id names (`records.criteria.row_id`).
    """
    problems, known, chosen, marks = list[str](), Known(), Column("I"), set[str]()

    def check(number: int, row: int, judgment: Judgment) -> None:
        if judgment.judge == name:
            problems.extend(_row_problems(f"{path}:{number}", judgment, task, criteria))
            if judgment.votes:
                known.add(judgment)
                chosen.append(row)
            marks.add(judgment.fingerprint)

    lines, unread = read_stored(path, Judgment, check)
    problems = unread + problems
    if not chosen and not problems:
        problems.append(f"{path}: holds no judgment of {name!r}; name the recorded judge by `of`")
    if lines is not None:
        for place, before in Places(known.ids).repeated():
            at, first = lines.number(chosen[place]), lines.number(chosen[before])
            problems.append(f"{path}:{at}: item {known.ids[place]!r} was already judged on line {first}")
    if len(marks) > 1:
        problems.append(f"{path}: {name!r} has judgments of different fingerprints, so of different judges")
    if problems or lines is None:
        raise DataError(problems, "record the votes again, or fix the lines named above")
    return StoredVotes(lines, chosen, known)


def _row_problems(place: str, judgment: Judgment, task: Task, criteria: Mapping[str, Task]) -> list[str]:
    at = f"{place}: item {judgment.item_id!r}"
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
        if not are_log_probabilities(vote.tokens):
            problems.append(f"{at}: vote {number} has a number out of range in its tokens")
    return problems
