"""End a command whose judge gives no usable vote, before the rest of the items is paid for."""

from collections import Counter
from collections.abc import Callable, Collection

from trustescalate.errors import NotMeasurable
from trustescalate.judges.base import Judge
from trustescalate.records import FAILURES, Channel, Item, Judgment, first_reply
from trustescalate.records.votes import Enough

FIRST = 10
"""Number of items, all of whose votes failed, that end a command."""


class FirstBatch:
    """A judge that raises NotMeasurable where no vote on the first ten items that it judged is usable.

    `stop` receives that error, so that no request that waits is sent. Items of `again` are not counted: their
    votes failed before, and the command asks nothing else about them.
    """

    def __init__(self, judge: Judge, stop: Callable[[NotMeasurable], None] = lambda _: None) -> None:
        self._judge, self._stop = judge, stop
        self._failed: list[Judgment] | None = []
        self.again: Collection[str] = ()
        self.name, self.fingerprint = judge.name, judge.fingerprint

    @property
    def channel(self) -> Channel:
        """Where the votes come from."""
        return self._judge.channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        """Judge an item. Raises NotMeasurable with the reasons, and one reply as it came."""
        judgment = await self._judge.judge(item, enough)
        if self._failed is None or item.id in self.again:
            return judgment
        if any(vote.failure is None for vote in judgment.votes):
            self._failed = None
            return judgment
        self._failed.append(judgment)
        if len(self._failed) >= FIRST:
            error = self._error(self._failed)
            self._stop(error)
            raise error
        return judgment

    def _error(self, failed: list[Judgment]) -> NotMeasurable:
        votes = [vote for judgment in failed for vote in judgment.votes]
        reasons = Counter(vote.failure or "" for vote in votes).most_common()
        counted = "; ".join(f"{count} × {FAILURES.get(reason, reason)}" for reason, count in reasons)
        reply = first_reply(votes)
        shown = f". One reply: {reply}" if reply else ""
        return NotMeasurable(
            f"judge {self.name!r} gave no usable vote on its first {len(failed)} items: {counted}{shown}",
            "`trustescalate judges try` shows a prompt and its reply; the other items were not asked",
        )
