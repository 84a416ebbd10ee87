"""Describe how judges and annotators agree with the human labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trustescalate.records.judging import Judgment, Vote

SAMPLES, LONGEST_SAMPLE = 3, 200
"""Sample replies under one failure, and their longest length in characters."""


@dataclass(frozen=True, slots=True)
class SampleReply:
    """The beginning of a reply that is a failed vote, or what a server answered instead."""

    item_id: str
    reply: str


class Samples:
    """Collects the first different replies under each failure."""

    def __init__(self) -> None:
        self._samples: dict[str, list[SampleReply]] = {}

    @property
    def replies(self) -> Mapping[str, tuple[SampleReply, ...]]:
        """The replies by failure."""
        return {failure: tuple(own) for failure, own in sorted(self._samples.items())}

    def add(self, judgment: Judgment) -> None:
        """Look at the failed votes of a judgment."""
        for vote in judgment.votes:
            if vote.failure is None or not vote.raw.strip():
                continue
            own = self._samples.setdefault(vote.failure, [])
            reply = vote.raw if len(vote.raw) <= LONGEST_SAMPLE else f"{vote.raw[:LONGEST_SAMPLE]}…"
            if len(own) < SAMPLES and reply not in {each.reply for each in own}:
                own.append(SampleReply(judgment.item_id, reply))


def sample_replies(judgments: Iterable[Judgment]) -> Mapping[str, tuple[SampleReply, ...]]:
    """The first different replies under each failure, cut to `LONGEST_SAMPLE` characters.

    >>> votes = (Vote(0, "AB", {}, "Both.", "none"), Vote(0, "BA", {}, "Both.", "none"))
    >>> sample_replies([Judgment("q1", "small", "f", votes, 2)])
    {'none': (SampleReply(item_id='q1', reply='Both.'),)}
    """
    samples = Samples()
    for row in judgments:
        samples.add(row)
    return samples.replies


def first_reply(votes: Iterable[Vote]) -> str:
    """The first text among votes, cut to `LONGEST_SAMPLE` characters and quoted; "" if none has one.

    >>> first_reply([Vote(0, "", {}, "", "timeout"), Vote(0, "", {}, "Both.", "none")])
    "'Both.'"
    """
    reply = next((vote.raw for vote in votes if vote.raw), "")
    return repr(reply[:LONGEST_SAMPLE]) if reply else ""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability diagram: scores in [low, high], their count and mean, and the correct ones."""

    low: float
    high: float
    count: int
    mean_score: float
    correct: int


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row with a verdict that is not the human label; `human` is None without a majority."""

    item_id: str
    verdict: str
    human: str | None
    score: float


@dataclass(frozen=True, slots=True)
class JudgeDiagnostics:
    """Agreement and calibration of one judge on all certification rows. No guarantee rests on it.

    A row without a verdict (failure, exact tie) counts in `n` and not in `agreements`. `auroc` is None when
    all or no verdicts are right; `kappa` is None when chance agreement is complete. `confusion[h][v]` counts
    the rows with human label h and verdict v, both in the order of the task's labels; the last of either
    counts rows with none. `surest` are the disagreements of the highest scores. Of `drawn` prompts with
    several valid draws, the draws of `alike` do not differ. `samples` are replies under each of the
    `failures`.
    """

    judge: str
    n: int
    agreements: int
    interval: tuple[float, float]
    kappa: float | None
    ece: float | None
    brier: float | None
    auroc: float | None
    bins: tuple[Bin, ...]
    votes: int
    failures: Mapping[str, int]
    cost: float
    confusion: tuple[tuple[int, ...], ...] = ()
    surest: tuple[Disagreement, ...] = ()
    drawn: int = 0
    alike: int = 0
    samples: Mapping[str, tuple[SampleReply, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """Human leave-one-out agreement on the certification rows, and the largest attainable agreement there.

    Leave-one-out agreement (`agreements` of `comparisons` of one annotator with the majority of the others)
    is no upper limit for a judge. The limit is, for agreement with the majority, the share `decidable` of
    `rows` that have one; for agreement with an annotator drawn at random, `largest_share`, the mean over rows
    of the agreement of the best verdict. Both come with 95 % intervals.
    """

    annotators: int
    comparisons: int
    agreements: int
    interval: tuple[float, float]
    rows: int = 0
    decidable: int = 0
    decidable_interval: tuple[float, float] = (0.0, 1.0)
    largest_share: float = 1.0
    largest_share_interval: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A coefficient of inter-annotator agreement, with a two-sided 95 % `interval` or a `reason`."""

    name: str
    value: float | None
    interval: tuple[float, float] | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Annotator:
    """The labels of one annotator on the certification rows, and their agreement with other annotators.

    `agreements` of `comparisons` run over every other annotator on every row that both labelled. `seconds` is
    the median time of an answer, skips included, over the `timed` answers with a known time.
    """

    name: str
    opinions: int
    ties: int
    skips: int
    agreements: int
    comparisons: int
    timed: int = 0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Agreement of two annotators on the rows that both labelled."""

    first: str
    second: str
    agreements: int
    comparisons: int


@dataclass(frozen=True, slots=True)
class StandIn:
    """One judge compared with one annotator (`stats.annotators.alternative_annotator_test`)."""

    judge: str
    annotator: str
    rows: int
    advantage: float
    p_value: float
    beaten: bool


@dataclass(frozen=True, slots=True)
class AnnotatorAgreement:
    """Inter-annotator agreement on the certification rows. No guarantee rests on it.

    `stand_ins` has an entry for each judge and each annotator with at least `min_rows` comparable rows, with
    three annotators or more; `epsilon` is the advantage that a judge's price is worth. `pairs` is empty
    where there are too many annotators to list.
    """

    coefficients: tuple[Coefficient, ...]
    annotators: tuple[Annotator, ...]
    pairs: tuple[Pair, ...]
    stand_ins: tuple[StandIn, ...]
    epsilon: float
    min_rows: int
