"""Record the usage of a reply once where several rows of an item share it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from trustescalate.config import Config, DecisionsJudge, ModelTable
from trustescalate.records import Judgment, Run, Usage, Vote
from trustescalate.records.criteria import row_id, split_row_id
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.item_columns import ids_of, places_of
from trustescalate.records.stored import judgments_of

Key = tuple[str, int, str, int, str]
"""The judge, the prompt, the order, the draw, and the name (or else the text) of a reply."""


class SharedReplies:
    """Knows whose replies were counted.

    `judges` are the names of those that ask all criteria of an item in one request (`asks_together`). The
    first row of an item that is recorded has the usage and the cost of a reply, the others have none. Rows
    that share no request stay as they are. `rows` gives the number of rows of an item, by its id, where these
    `end`: an item takes memory until its last row does.
    """

    def __init__(self, judges: Collection[str], rows: Callable[[str], int] = lambda _: 0) -> None:
        self._judges, self._rows = frozenset(judges), rows
        self._owner: dict[str, dict[Key, str]] = defaultdict(dict)
        self._left: dict[str, int] = {}  # the rows that are still to come, of items of which some have ended

    def count(self, judgment: Judgment) -> Judgment:
        """The judgment with what its replies cost, without those that another row counts."""
        if judgment.judge not in self._judges:
            return judgment
        owner = self._owner[split_row_id(judgment.item_id).item_id]
        votes = [
            vote if owner.setdefault(key, judgment.item_id) == judgment.item_id else _free(vote)
            for key, vote in _keys(judgment)
        ]
        return replace(judgment, votes=tuple(votes))

    def end(self, row: str) -> None:
        """Say that all judgments on a row were counted."""
        if not self._judges:
            return
        item_id = split_row_id(row).item_id
        left = (self._left.pop(item_id, 0) or self._rows(item_id)) - 1
        if left > 0:
            self._left[item_id] = left
        else:
            self._owner.pop(item_id, None)


def replies_of(config: Config, run: Run) -> SharedReplies:
    """Those of a run, whose decided rows count theirs."""
    names, places, ids = [each.name for each in config.criteria], places_of(run.items), ids_of(run.items)
    judges = asks_together(config)
    shared = SharedReplies(judges, lambda item_id: sum(row_id(item_id, name) in places for name in names))
    judged = judgments_of(run)
    for place, _ in placed_decisions(run) if judges else ():
        for judgment in judged(place):
            shared.count(judgment)
        shared.end(ids[place])
    return shared


def asks_together(config: Config) -> frozenset[str]:
    """The judges that ask all criteria of an item in one request: none without [[criteria]]."""
    if not config.criteria:
        return frozenset()
    return frozenset(table.name for table in config.judges if isinstance(table, ModelTable | DecisionsJudge))


def count_once(config: Config, judgments: Iterable[Judgment]) -> list[Judgment]:
    """These judgments in their order, each reply counted once."""
    return list(map(SharedReplies(asks_together(config)).count, judgments))


def _keys(judgment: Judgment) -> Iterator[tuple[Key, Vote]]:
    draws: dict[tuple[int, str], int] = {}
    for vote in judgment.votes:
        place = (vote.exemplar_set, vote.order)
        draws[place] = draws.get(place, -1) + 1
        yield (judgment.judge, *place, draws[place], vote.paid or vote.raw), vote


def _free(vote: Vote) -> Vote:
    return replace(vote, usage=Usage(), cost=0.0)
