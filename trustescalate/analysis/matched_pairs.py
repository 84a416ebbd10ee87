"""Match the items that two runs judged, with the verdicts of both and what people say, in arrays."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trustescalate.analysis.pairing import Pairs, match_items
from trustescalate.data.item_sets import number_texts
from trustescalate.data.labels import majority, sampled
from trustescalate.errors import UsageError
from trustescalate.records import Item, Label, Run
from trustescalate.records.columns import Picked
from trustescalate.records.criteria import ask_several
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.item_columns import clusters_of, ids_of
from trustescalate.stats.bounds import BoolArray, CodeArray, IntArray

Move = tuple[Label | None, Label | None]


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The items, n of them, that both `runs` judged, in the order of the first; they match by id or by `by`.

    Labels are numbers in the order of the task's, -1 for none: `verdicts` (n,) of each run, also where an
    uncertified one released none, and `humans` (n,), the majority of a run's sampled annotations. `labelled`
    (n,): people labelled the item in both runs.
    """

    runs: tuple[Run, Run]
    by: str | None
    matched: Pairs
    verdicts: tuple[IntArray, IntArray]
    humans: tuple[IntArray, IntArray]
    labelled: BoolArray

    def __len__(self) -> int:
        return len(self.matched)

    def agrees(self, side: int) -> BoolArray:
        """Whether the verdict of one run is the majority of its human labels (n,)."""
        verdicts = self.verdicts[side]
        return np.asarray((verdicts >= 0) & (verdicts == self.humans[side]), np.bool_)

    def label(self, side: int, place: int) -> Label | None:
        """The verdict of one run on an item."""
        return self._label(self.verdicts[side][place])

    def moves(self) -> Counter[Move]:
        """How many items have which verdicts in the first run and in the second."""
        moves = Counter(zip(*(verdicts.tolist() for verdicts in self.verdicts), strict=True))
        return Counter({(self._label(one), self._label(two)): count for (one, two), count in moves.items()})

    def ids(self, side: int) -> Sequence[str]:
        """The ids of the items in one run."""
        return Picked(ids_of(self.runs[side].items), self.matched.places[side])

    def items(self, side: int) -> Sequence[Item]:
        """The items of one run."""
        return Picked(self.runs[side].items, self.matched.places[side])

    def units(self, places: IntArray) -> CodeArray:
        """A number for each of these items, the same for items of one cluster in the first run."""
        groups = self._groups()
        return number_texts(groups[place] for place in places.tolist())

    def _groups(self) -> Sequence[str | None]:
        return Picked(clusters_of(self.runs[0].items), self.matched.places[0])

    def _label(self, number: int) -> Label | None:
        return None if number < 0 else self.runs[0].header.certificate.task.labels[number]


def matched_pairs(first: Run, second: Run, by: str | None = None) -> MatchedPairs:
    """Match the items that both runs judged by id, or by `by`, "meta.<key>".

    Raises UsageError for runs of different tasks or of several criteria, a key that two items of a run share,
    and runs without a matched item.
    """
    if ask_several(first.items) or ask_several(second.items):
        raise UsageError(
            "these runs judge several criteria, whose verdicts have no mean in common",
            "[gate] baseline with max_drop or min_gain compares each criterion and their weighted total",
        )
    hint = "name the key of meta by which items match: --by meta.<key>"
    matched = match_items(first, second, by, judged=True, hint=hint)
    task = first.header.certificate.task
    number = {label: place for place, label in enumerate(task.labels)}
    verdicts, humans, labelled = list[IntArray](), list[IntArray](), np.ones(len(matched), np.bool_)
    for run, column in zip((first, second), matched.places, strict=True):
        places, ids = column.numpy(), Picked(ids_of(run.items), column)
        human = majority(task, sampled(run.annotations))
        verdicts.append(_verdicts(run, number)[places])
        humans.append(np.array([number.get(human.get(item_id) or "", -1) for item_id in ids]))
        labelled &= np.array([item_id in human for item_id in ids])
    return MatchedPairs(
        (first, second), by, matched, (verdicts[0], verdicts[1]), (humans[0], humans[1]), labelled
    )


def _verdicts(run: Run, number: Mapping[Label, int]) -> IntArray:
    """The number of the verdict on each item of a run, -1 where there is none."""
    verdicts = np.full(len(run.items), -1)
    for place, decision in placed_decisions(run):
        verdicts[place] = number.get(run.verdict(decision) or "", -1)
    return verdicts
