"""Record the usage of a reply once where several rows of an item share it."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from trustescalate.config import Config, DecisionsJudge, ModelTable
from trustescalate.records import Item, Judgment, Usage, Vote
from trustescalate.records.criteria import row_name

Key = tuple[str, str, int, str, int, str]
"""The judge, the item, the prompt, the order, the draw, and the name (or else the text) of a reply."""


class SharedReplies:
    """Knows whose replies were counted, also in rows that an earlier command recorded.

    `judges` are the names of those that ask all criteria of an item in one request (`asks_together`). The
    first row of an item that is recorded has the usage and the cost of a reply, the others have none. Rows
    that share no request stay as they are.
    """

    def __init__(
        self, judges: Collection[str], items: Iterable[Item], recorded: Iterable[Judgment] = ()
    ) -> None:
        self._judges = frozenset(judges)
        self._shared: dict[str, str] = {}
        self._owner: dict[Key, str] = {}
        if self._judges:
            self._shared = {item.id: name.item_id for item in items if (name := row_name(item)).criterion}
            for judgment in recorded:
                self.count(judgment)

    def count(self, judgment: Judgment) -> Judgment:
        """The judgment with what its replies cost, without those that another row counts."""
        item_id = self._shared.get(judgment.item_id)
        if item_id is None or judgment.judge not in self._judges:
            return judgment
        votes = [
            vote if self._owner.setdefault(key, judgment.item_id) == judgment.item_id else _free(vote)
            for key, vote in _keys(judgment, item_id)
        ]
        return replace(judgment, votes=tuple(votes))


def asks_together(config: Config) -> frozenset[str]:
    """The judges that ask all criteria of an item in one request: none without [[criteria]]."""
    if not config.criteria:
        return frozenset()
    return frozenset(table.name for table in config.judges if isinstance(table, ModelTable | DecisionsJudge))


def count_once(config: Config, items: Iterable[Item], judgments: Iterable[Judgment]) -> list[Judgment]:
    """These judgments on these items, in their order, each reply counted once."""
    return list(map(SharedReplies(asks_together(config), items).count, judgments))


def _keys(judgment: Judgment, item_id: str) -> Iterator[tuple[Key, Vote]]:
    draws: dict[tuple[int, str], int] = {}
    for vote in judgment.votes:
        place = (vote.exemplar_set, vote.order)
        draws[place] = draws.get(place, -1) + 1
        yield (judgment.judge, item_id, *place, draws[place], vote.paid or vote.raw), vote


def _free(vote: Vote) -> Vote:
    return replace(vote, usage=Usage(), cost=0.0)
