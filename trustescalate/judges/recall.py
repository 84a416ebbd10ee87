"""Answer a judgment from the cache before the judge is asked."""

from typing import Protocol

from trustescalate.judges.cache import Cache
from trustescalate.records import Channel, Item, Judgment, Vote
from trustescalate.records.jsonl import digest
from trustescalate.records.votes import Enough, all_votes, draws_of, next_wave, orders_of


class _Judge(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def channel(self) -> Channel: ...
    async def judge(self, item: Item, enough: Enough) -> Judgment: ...


class RecallingJudge:
    """A judge whose judgments are recalled whole, with no prompt rendered and no reply read again.

    What is recalled is what the judge would say with all its replies in the cache: votes wave by wave, one
    exemplar set at a time, until `enough` of them are in; too few, and the judge is asked. `price` is
    whatever the costs of the votes depend on.
    """

    def __init__(self, judge: _Judge, cache: Cache, price: object) -> None:
        self._judge, self._cache = judge, cache
        self._identity = digest(judge.fingerprint, price)
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """Where the votes come from."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Recall the votes on an item, or ask for them."""
        key = digest(self._identity, item.prompt, item.responses, item.reference, item.meta)
        kept = self._cache.get_judgment(key)
        votes = None if kept is None else self._recalled(kept, enough)
        if kept is None or votes is None:
            judgment = await self._judge.judge(item, enough)
            self._cache.put_judgment(key, judgment)
            return judgment
        return Judgment(item.id, self.name, self.fingerprint, votes, kept.planned)

    def _recalled(self, kept: Judgment, enough: Enough) -> tuple[Vote, ...] | None:
        """The votes up to the wave that is enough. A judge that gave no answer yet has an unknown channel."""
        votes, seen = kept.votes, 0
        if votes[0].channel != self._judge.channel:
            return None
        if enough is all_votes and len(votes) == kept.planned:
            return votes  # nothing ends it early: the waves below would only cost time
        each, draws = orders_of(votes), draws_of(votes)
        while seen < kept.planned:
            wave = next_wave(votes[:seen], (each - seen % each) // draws, draws, kept.planned, enough)
            if not wave:
                break
            seen += wave * draws
            if seen > len(votes):
                return None
        return votes[:seen]
