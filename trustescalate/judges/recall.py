"""Read judgments from the cache before a judge makes model calls."""

from collections.abc import Collection

from trustescalate.judges.base import Judge, are_probabilities
from trustescalate.judges.cache import Cache
from trustescalate.records import Channel, Item, Judgment, Label, Vote
from trustescalate.records.jsonl import digest
from trustescalate.records.votes import Enough, all_votes, draws_of, next_wave, orders_of


class RecallingJudge:
    """A judge whose judgments are cached whole, so that no prompt is rendered and no reply is parsed again.

    A cached judgment gives the votes that the judge would give with all its replies in the cache: wave by
    wave until `enough` are in. With too few votes, or votes that are none of this task, the judge is called.
    `price` is what the costs depend on. With `served` no judgment by a model of another name is kept or
    taken.
    """

    def __init__(
        self,
        judge: Judge,
        cache: Cache,
        price: object,
        labels: Collection[Label],
        served: Collection[str] | None = None,
    ) -> None:
        self._served = served
        self._judge, self._cache, self._labels = judge, cache, frozenset(labels)
        self._identity = digest(judge.fingerprint, price)
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """Where the votes come from."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Return the cached votes on an item, or call the judge."""
        key = digest(self._identity, item.asked, item.responses, item.reference, item.meta)
        kept = self._cache.get_judgment(key)
        votes = None if kept is None or not self._may_answer(kept) else self._recalled(kept, enough)
        if kept is None or votes is None:
            judgment = await self._judge.judge(item, enough)
            if self._may_answer(judgment):
                self._cache.put_judgment(key, judgment)
            return judgment
        return Judgment(item.id, self.name, self.fingerprint, votes, kept.planned, kept.served)

    def _may_answer(self, judgment: Judgment) -> bool:
        return self._served is None or all(name in self._served for name in judgment.served or ("",))

    def _recalled(self, kept: Judgment, enough: Enough) -> tuple[Vote, ...] | None:
        """Return the votes up to the wave that is enough; None where the judge must be called."""
        votes, seen = kept.votes, 0
        if not (votes and all(map(self._is_valid, votes)) and len(votes) <= kept.planned):
            return None
        if votes[0].channel != self._judge.channel:
            return None
        if enough is all_votes and len(votes) == kept.planned:
            return votes  # no early stopping: the waves below would only cost time
        each, draws = orders_of(votes), draws_of(votes)
        while seen < kept.planned:
            wave = next_wave(votes[:seen], (each - seen % each) // draws, draws, kept.planned, enough)
            if not wave:
                break
            seen += wave * draws
            if seen > len(votes):
                return None
        return votes[:seen]

    def _is_valid(self, vote: Vote) -> bool:
        if vote.failure is not None or not vote.probs.keys() <= self._labels:
            return False
        return are_probabilities(vote.probs.values())
