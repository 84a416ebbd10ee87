"""Keep decisions in columns, and read from them how many are alike without making each."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import nan

from trustescalate.records.columns import Column, Distinct, Lazy, Place
from trustescalate.records.item_columns import ItemColumns, columns_of, places_of
from trustescalate.records.run import Decision, Run, Step


class PackedDecisions(Lazy[Decision]):
    """Decisions in columns: a million of them have some hundred forms.

    A form is a decision without its item and its scores, which are "" and NaN there (None stays None).
    """

    def __init__(self, columns: ItemColumns) -> None:
        self.columns = columns
        self._forms = Distinct[Decision]()
        self._item, self._form, self._ends, self._scores = (Column(code) for code in "IIQd")
        self._order: Sequence[int] | None = None
        self._alike: Mapping[int, int] | None = None

    def add(self, item: Place, decision: Decision) -> None:
        """Append the decision on an item, by its place."""
        self._item.append(item)
        self._form.append(self._forms.number(_form(decision)))
        scores = array("d", [0.0 if decision.score is None else decision.score])
        for step in decision.trail:
            scores.extend((step.score, step.score_upper))
        self._scores.add_bytes(scores.tobytes())
        self._ends.append(len(self._scores))

    def ordered(self, order: Sequence[int]) -> "PackedDecisions":
        """The same decisions in another order, or some of them."""
        other = PackedDecisions.__new__(PackedDecisions)
        other.__dict__.update(self.__dict__)
        other._order, other._alike = order, None
        return other

    def select(self, places: Sequence[Place], columns: ItemColumns) -> "PackedDecisions":
        """Those on the items at some places, which have these columns: one on each, in their order."""
        many = len(self.columns.ids)
        row_of, here = array("i", [-1]) * many, array("i", [-1]) * many
        for row in range(len(self._item)) if self._order is None else self._order:
            row_of[self._item[row]] = row
        for number, place in enumerate(places):
            here[place] = number
        other = self.ordered(Column("I", (row for row in map(row_of.__getitem__, places) if row >= 0)))
        other.columns = columns
        other._item = Column("i", (here[item] if item >= 0 else item for item in self._item))
        return other

    def alike(self) -> Iterator[tuple[Decision, int]]:
        """Each form, with the number of decisions that have it."""
        if self._alike is None:
            self._alike = Counter(self._picked(self._form))
        return ((self._forms.known[form], number) for form, number in self._alike.items())

    def placed(self) -> Iterator[tuple[Place, Decision]]:
        """The place of the item of each decision, with its form."""
        forms = map(self._forms.known.__getitem__, self._picked(self._form))
        return zip(self._picked(self._item), forms, strict=True)

    def _picked(self, column: Column) -> Iterator[int]:
        return iter(column) if self._order is None else map(column.__getitem__, self._order)

    def __len__(self) -> int:
        return len(self._item if self._order is None else self._order)

    def _at(self, place: Place) -> Decision:
        row = place if self._order is None else self._order[place]
        form, stop = self._forms.known[self._form[row]], self._ends[row]
        scores = self._scores.between(stop - 1 - 2 * len(form.trail), stop)
        return _filled(form, self.columns.ids[self._item[row]], scores)


def _form(decision: Decision) -> Decision:
    score, trail = None if decision.score is None else nan, decision.trail
    steps = tuple(
        Step(s.judge, s.label, nan, nan, s.threshold, s.accepted, s.votes, s.planned, s.failures)
        for s in trail
    )
    return Decision("", decision.label, decision.judge, score, decision.reason, steps)


def _filled(form: Decision, item_id: str, scores: Sequence[float]) -> Decision:
    steps = tuple(
        Step(s.judge, s.label, low, high, s.threshold, s.accepted, s.votes, s.planned, s.failures)
        for s, low, high in zip(form.trail, scores[1::2], scores[2::2], strict=True)
    )
    score = None if form.score is None else scores[0]
    return Decision(item_id, form.label, form.judge, score, form.reason, steps)


def alike(decisions: Sequence[Decision]) -> Iterator[tuple[Decision, int]]:
    """Decisions to count, with how many are alike but for items and scores, which are not to be read."""
    if isinstance(decisions, PackedDecisions):
        return decisions.alike()
    return ((decision, 1) for decision in decisions)


def placed_decisions(run: Run) -> Iterator[tuple[Place, Decision]]:
    """The place of the item of each decision of a run, with what it says but for item and scores."""
    rows = run.decisions
    if isinstance(rows, PackedDecisions) and rows.columns is columns_of(run.items):
        return rows.placed()
    places = places_of(run.items)
    return ((places[row.item_id], row) for row in rows)


def decided_places(run: Run) -> Sequence[int]:
    """The place of the decision on each item of a run, -1 where there is none."""
    decided = array("i", [-1]) * len(run.items)
    if isinstance(run.decisions, PackedDecisions) and run.decisions.columns is columns_of(run.items):
        owners: Iterator[Place] = (place for place, _ in run.decisions.placed())
    else:
        places = places_of(run.items)
        owners = (places.get(row.item_id, -1) for row in run.decisions)
    for row, place in enumerate(owners):
        if place >= 0:
            decided[place] = row
    return decided
