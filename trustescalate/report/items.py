"""Lay out each item of a run: texts, verdict, and the trail through the tiers."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from math import isnan
from typing import Generic, TypeVar

from trustescalate.records import Decision, Item, Judgment, Label, Run, Step, Turn, Vote, parts, visible
from trustescalate.records.columns import Lazy
from trustescalate.records.decisions import decided_places
from trustescalate.records.failures import failure_in_words
from trustescalate.records.item_columns import groups_of, ids_of, places_of
from trustescalate.records.item_fields import value_of
from trustescalate.records.run import UNCERTIFIED
from trustescalate.records.stored import judgments_of
from trustescalate.report import figures
from trustescalate.report.agreement import majority_labels
from trustescalate.report.certificate_figures import NEVER
from trustescalate.report.figures import Figure, missing, words
from trustescalate.report.sections import Block, ItemRow, State, TrailRow, VoteRow

Given = TypeVar("Given")
_GAP = {"undecided": "not decided yet", "abstained": "human review is needed"}
_SHOWN_FIRST = {"AB": "A first", "BA": "B first", "AB+BA": "both orders", "": ""}
_usd = lru_cache(4096)(figures.usd)


class LaidOut(Lazy[ItemRow], Generic[Given]):
    """Items in an order, each laid out when asked for, so that a million take no more memory than one."""

    _order: Sequence[Given]

    def __len__(self) -> int:
        return len(self._order)

    def _at(self, place: int) -> ItemRow:
        return self._row(self._order[place])

    def briefs(self) -> Iterator[ItemRow]:
        """Lay out all items as a table shows them: texts, labels and trails may be left out."""
        return iter(self)

    def _row(self, given: Given) -> ItemRow:
        """Lay out one item of the order."""
        raise NotImplementedError


class ItemRows(LaidOut[int]):
    """The items of a run.

    Those whose verdict disagrees with human labels come first, then abstained ones, then undecided ones, then
    all others; within each, those without a verdict and then the least confident come first.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ids, self._groups = ids_of(run.items), groups_of(run.items)
        self._decided = decided_places(run)
        self._judgments = judgments_of(run)
        self._human = majority_labels(run)
        self._labels: dict[str, list[tuple[str, Label]]] = defaultdict(list)
        for note in run.annotations:
            self._labels[note.item_id].append((note.annotator, note.label))
        self._order = self._ordered()

    def of(self, item_id: str) -> ItemRow:
        """Lay out the item of this id. Raises KeyError if there is none."""
        return self._row(self._places[item_id])

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return places_of(self._run.items)

    def _ordered(self) -> Sequence[int]:
        """The places of the items, first things first."""
        import numpy as np

        rank, decided, score = (np.zeros(len(self._ids), kind) for kind in (np.int8, np.bool_, np.float64))
        for place in range(len(self._ids)):
            rank[place], decided[place], score[place] = self._key(place)
        return array("I", np.lexsort((score, decided, rank)).astype(np.uint32).tobytes())

    def _decision(self, place: int) -> Decision | None:
        row = self._decided[place]
        return None if row < 0 else self._run.decisions[row]

    def _key(self, place: int) -> tuple[int, bool, float]:
        item_id, decision = self._ids[place], self._decision(place)
        if decision is None:
            return 2, False, 0.0
        last = decision.trail[-1] if decision.trail else None
        verdict = self._run.verdict(decision)
        score = decision.score if last is None else last.score
        if self._disagrees(item_id, verdict):
            rank = 0
        else:
            rank = 1 if decision.label is None and not self._run.uncertified else 3
        return rank, verdict is not None, 2.0 if score is None or isnan(score) else score

    def _disagrees(self, item_id: str, verdict: Label | None) -> bool:
        human = self._human.get(item_id)
        return None not in (verdict, human) and verdict != human

    def briefs(self) -> Iterator[ItemRow]:
        """Lay out all items without texts, labels and trails; few of them are read from the disk."""
        return map(self._brief, self._order)

    def _brief(self, place: int) -> ItemRow:
        run, item_id, decision = self._run, self._ids[place], self._decision(place)
        by = run.header.certificate.group_by
        state, verdict, judge, score = _outcome_of(decision, run.uncertified)
        has_failed = decision is not None and any(step.failures for step in decision.trail)
        return ItemRow(
            run=run.header.id,
            id=item_id,
            state=state,
            group=value_of(run.items[place], by) if by else self._groups.get(item_id),
            verdict=verdict,
            judge=judge,
            score=score,
            people=_human_label(item_id, self._human),
            disagrees=decision is not None and self._disagrees(item_id, run.verdict(decision)),
            failed=sum(row.failed for row in self._asked(place, decision) if row) if has_failed else 0,
            reason=decision.reason if decision is not None and state in ("abstained", "uncertified") else "",
            prompt=(),
            responses=(),
            reference=None,
            labels=(),
            trail=(),
        )

    def _asked(self, place: int, decision: Decision | None) -> list[Judgment | None]:
        """The judgment of each step that decided an item."""
        trail = () if decision is None else decision.trail
        given = {row.judge: row for row in self._judgments(place)} if trail else {}
        return [given.get(step.judge) for step in trail]

    def _row(self, place: int) -> ItemRow:
        item, decision = self._run.items[place], self._decision(place)
        trail = () if decision is None else decision.trail
        return replace(
            self._brief(place),
            prompt=_prompt(item),
            responses=_responses(item),
            reference=item.reference,
            labels=tuple(self._labels.get(item.id, ())),
            trail=tuple(map(_trail_row, trail, self._asked(place, decision))),
        )


def _outcome_of(decision: Decision | None, uncertified: bool) -> tuple[State, Figure, Figure, Figure]:
    """The state of an item, its verdict, the judge it is of, and its score."""
    if decision is not None and uncertified:
        last = decision.trail[-1]
        verdict = missing("no verdict") if last.label is None else words(last.label, UNCERTIFIED)
        return "uncertified", verdict, words(last.judge), figures.decimal(last.score, "", places=4)
    if decision is None or decision.label is None:
        state: State = "undecided" if decision is None else "abstained"
        nothing = missing(_GAP[state])
        return state, nothing, nothing, nothing
    return "released", words(decision.label), words(decision.judge or "human labels"), _score(decision)


def _human_label(item_id: str, human: Mapping[str, Label | None]) -> Figure:
    if item_id not in human:
        return missing("no human label")
    label = human[item_id]
    return missing("no majority") if label is None else words(label)


def _score(decision: Decision) -> Figure:
    score = figures.decimal(decision.score, "no score was recorded", places=4)
    last = decision.trail[-1] if decision.trail else None
    if last is None or last.score_upper <= last.score:
        return score
    return Figure(score.value, f"≥ {score.text}")


def _prompt(item: Item) -> tuple[Block, ...]:
    if isinstance(item.prompt, str):
        blocks = [Block("Prompt", item.prompt)]
    else:
        blocks = [Block(_title(what), text) for _, what, text in parts(item.prompt)]
    return (*blocks, *(Block(f"Passage {place}", text) for place, text in enumerate(item.context, 1)))


def _responses(item: Item) -> tuple[tuple[Block, ...], ...]:
    one = len(item.responses) == 1
    names = (chr(ord("A") + place) if place < 26 else str(place + 1) for place in range(len(item.responses)))
    titles = ("Response" if one else f"Response {name}" for name in names)
    return tuple(map(_response, titles, item.responses))


def _response(name: str, response: str | tuple[Turn, ...]) -> tuple[Block, ...]:
    if isinstance(response, str):
        return (Block(name, visible(response)),)
    return tuple(Block(f"{name}: {what}", text) for _, what, text in parts(response, visible))


def _title(what: str) -> str:
    return what[0].upper() + what[1:]


def _trail_row(step: Step, judgment: Judgment | None) -> TrailRow:
    score, threshold = _score_and_threshold(step)
    votes = () if judgment is None else judgment.votes
    failed = Counter(vote.failure for vote in votes if vote.failure)
    return TrailRow(
        judge=step.judge,
        verdict=missing("no verdict") if step.label is None else words(step.label),
        score=score,
        threshold=threshold,
        low=step.score,
        high=step.score_upper,
        outcome=_outcome(step),
        votes=f"{step.votes:,} of {step.planned:,}",
        failures="; ".join(map(failure_in_words, step.failures))
        if judgment is None
        else figures.failures_text(failed),
        cast=tuple(map(_vote_row, votes)),
    )


def _vote_row(vote: Vote) -> VoteRow:
    label = max(vote.probs, key=vote.probs.__getitem__) if vote.probs and not vote.failure else None
    return VoteRow(
        order=_SHOWN_FIRST[vote.order],
        examples=vote.exemplar_set + 1,
        label=label,
        probability=missing("the vote failed") if label is None else _probability(vote.probs[label]),
        failure=vote.failure or "",
        cost=_usd(vote.cost),
    )


@lru_cache(4096)
def _probability(value: float) -> Figure:
    return figures.decimal(value, "")


def _outcome(step: Step) -> str:
    if step.accepted:
        return "accepted"
    if step.label is None:
        return "no verdict"
    return NEVER if step.threshold is None else "below its threshold"


def _score_and_threshold(step: Step) -> tuple[Figure, Figure]:
    deciding = step.score if step.accepted else step.score_upper
    if step.threshold is None:
        shown, threshold = figures.decimal(deciding, "", places=4), missing(NEVER)
    else:
        threshold, shown = figures.compared(step.threshold, deciding)
    if step.score_upper <= step.score:
        return shown, threshold
    low, high = (f"{end:.3g}" for end in (step.score, step.score_upper))
    text = f"{shown.text} to {high}" if step.accepted else f"{low} to {shown.text}"
    return Figure(shown.value, text, "early stopping: the votes not asked leave this range"), threshold
