"""Fit classical judges on the last judge's verdicts on unlabelled items: no human label is spent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from trustescalate.judges.base import Judge
from trustescalate.judges.prompts import Exemplar
from trustescalate.records import Channel, Item, Judgment
from trustescalate.records.votes import Enough


@dataclass(frozen=True, slots=True)
class FittingRows:
    """What classical judges are fitted on: `labelled` rows, or verdicts on `unlabelled` items.

    `recorded` holds the last judge's judgments by item id, where a certificate was made with them; the last
    judge is asked about all other unlabelled items.
    """

    labelled: Sequence[Exemplar] = ()
    unlabelled: Sequence[Item] = ()
    recorded: Mapping[str, Judgment] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnfittedJudge:
    """The place of a judge that `fit` will make of the last judge's verdicts."""

    name: str
    fit: Callable[[Sequence[Exemplar]], Judge]
    fingerprint: str = "fitted on the last judge's verdicts"
    channel: Channel = "logprobs"

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Raise DataError: there was nothing to fit it on."""
        return await self.fit(()).judge(item, enough)


class RecordedJudge:
    """A judge whose judgments on some items are known: they are given again, and asked for once only."""

    def __init__(self, judge: Judge, known: Mapping[str, Judgment]) -> None:
        self._judge, self._known = judge, known
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """Where the votes come from."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """The known judgment on an item, whole; or what the judge says."""
        known = self._known.get(item.id)
        return await self._judge.judge(item, enough) if known is None else known
