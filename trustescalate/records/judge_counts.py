"""Count what each judge of a run did, in one pass over its votes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from trustescalate.records.diagnostics import Samples
from trustescalate.records.judging import Channel, Judgment


@dataclass(slots=True)
class JudgeCounts:
    """Sums over judgments. `full_cost` is that of full ensembles, at the mean cost of the votes cast.

    `served` counts the judgments that each model answered, "" those of no named one; `channel` is that of the
    first vote that did not fail.
    """

    votes: int = 0
    planned: int = 0
    cost: float = 0.0
    full_cost: float = 0.0
    calls: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    channel: Channel | None = None
    samples: Samples = field(default_factory=Samples)

    @property
    def failed(self) -> int:
        """The number of failed votes."""
        return self.failures.total()

    def add(self, judgment: Judgment) -> None:
        """Count a judgment."""
        votes, cost = len(judgment.votes), judgment.cost
        self.votes += votes
        self.planned += judgment.planned
        self.cost += cost
        self.full_cost += cost * judgment.planned / votes if votes else 0.0
        self.calls += sum(vote.usage.calls for vote in judgment.votes)
        good = [vote for vote in judgment.votes if vote.failure is None]
        if len(good) < votes:
            self.failures.update(vote.failure for vote in judgment.votes if vote.failure is not None)
            self.samples.add(judgment)
        self.served.update(judgment.served or ([""] if good else []))
        if self.channel is None and good:
            self.channel = good[0].channel


class Counts:
    """The counts of each judge that was asked, and of all together."""

    def __init__(self, judgments: Iterable[Judgment] = ()) -> None:
        self.each: dict[str, JudgeCounts] = {}
        self.whole = JudgeCounts()
        for judgment in judgments:
            self.add(judgment)

    def add(self, judgment: Judgment) -> None:
        """Count a judgment."""
        self.each.setdefault(judgment.judge, JudgeCounts()).add(judgment)
        self.whole.add(judgment)

    def of(self, judge: str | None) -> JudgeCounts:
        """The counts of a judge, nothing where it was not asked; None: of all judges."""
        return self.whole if judge is None else self.each.get(judge, JudgeCounts())


def count_votes(judgments: Iterable[Judgment]) -> Counts:
    """Count judgments; those of a run folder were counted when it was read.

    >>> from trustescalate.records import Vote
    >>> counts = count_votes([Judgment("q", "small", "f", (Vote(0, "AB", {"A": 1.0}, cost=0.1),), 4)])
    >>> counts.of("small").votes, counts.whole.planned, counts.whole.full_cost
    (1, 4, 0.4)
    """
    known = getattr(judgments, "counts", None)
    return known if isinstance(known, Counts) else Counts(judgments)
