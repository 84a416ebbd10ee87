"""Derive the decisions of a run again from its votes and its certificate, and name what does not follow.

A decision is no source: with the claim "expected" and without, it follows from the recorded votes by the code
that made it. So an edited row is refused instead of believed.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from math import isclose
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trustescalate.calibration.expectation import LABELLED, SHARED, RunVotes, decide_run
from trustescalate.calibration.scoring import Scorer
from trustescalate.cascade.batch import BY_PEOPLE, TORN
from trustescalate.cascade.runner import Deciding, certified_cascade, uncertified_cascade
from trustescalate.errors import DataError
from trustescalate.judges.base import are_probabilities
from trustescalate.records import Certificate, Channel, Decision, Item, Judgment, Step, Usage, Vote
from trustescalate.records.columns import Codes, Column, Place
from trustescalate.records.decisions import PackedDecisions
from trustescalate.records.jsonl import decode
from trustescalate.records.judge_counts import Counts
from trustescalate.records.stored import Lines, StoredItems, StoredJudgments
from trustescalate.records.votes import Enough

TOLERANCE = 1e-9
"""Of scores: those of pooled tiers are logarithms, which may differ in the last bit between machines."""
EDITED = "the run folder was edited or damaged; start a new run"
_OWNER = re.compile(rb'\{"item_id":"([^"\\]*)",')
"""The start of a judgment as it is written; any other start is decoded."""


class Unfollowed(NamedTuple):
    """A row that does not follow: its file, its place there (None: none of its own), and what is wrong."""

    file: str
    place: int | None
    what: str


class Recorded(NamedTuple):
    """The rows of a run in the order of their files, votes on disk.

    `owners` has the place of the item of each judgment, `decided` the place of the decision on each item,
    -1 where there is none.
    """

    judgments: Lines
    owners: NDArray[np.int32]
    decisions: PackedDecisions
    decided: Sequence[int]
    problems: list[Unfollowed]


class Checked(NamedTuple):
    """The judgments that the decisions rest on, in the order of the items and tiers, the decisions in the
    order of the items, and what is wrong."""

    judgments: StoredJudgments
    decisions: PackedDecisions
    problems: list[Unfollowed]


def read_recorded(judgments: Lines, decisions: Lines, items: StoredItems) -> Recorded:
    """Read the rows of a run. Raises DataError with every damaged line; votes are decoded later."""
    packed, decided, problems = (
        PackedDecisions(items.columns),
        array("i", [-1]) * len(items),
        list[Unfollowed](),
    )
    damaged, places = list[str](), items.columns.places
    for number, line in decisions.scan(appended=True):
        try:
            decision = decode(line, Decision)
        except ValueError as error:
            damaged.append(f"{decisions.path}:{number}: {error}")
            continue
        place = places.get(decision.item_id)
        if place is None or decided[place] >= 0:
            what = "is no item of the run" if place is None else "is decided twice"
            problems.append(
                Unfollowed("decisions.jsonl", len(decisions) - 1, f"item {decision.item_id!r} {what}")
            )
        else:
            decided[place] = len(packed)
            packed.add(place, decision)
    owners = array("i")
    for number, line in judgments.scan(appended=True):
        start = _OWNER.match(line)
        try:
            item_id = start[1].decode() if start else decode(line, Judgment).item_id
        except ValueError as error:
            damaged.append(f"{judgments.path}:{number}: {error}")
            continue
        place = places.get(item_id, -1)
        owners.append(place)
        if place < 0:
            what = f"item {item_id!r} is no item of the run"
            problems.append(Unfollowed("judgments.jsonl", len(judgments) - 1, what))
    if damaged:
        raise DataError(damaged, EDITED)
    return Recorded(judgments, np.frombuffer(owners, np.int32), packed, decided, problems)


def check_rows(
    certificate: Certificate,
    items: StoredItems,
    recorded: Recorded,
    thresholds: Mapping[str, float] | None = None,
) -> Checked:
    """Compare all rows of a run with what follows from its votes, item by item.

    Judgments of undecided items are left out: those of a run that was killed. A row with failed votes may be
    followed by one of the same judge, asked again: that one counts, with the cost of both. `thresholds` are
    those of an uncertified run, whose certificate decides nothing. Raises DataError for a damaged row.
    """
    wrong, problems = list(recorded.problems), list[Unfollowed]()
    if certificate.status == "expected":
        each = _derive_together(certificate, items, recorded, wrong)
    else:
        rows = _judged(certificate, items, recorded, wrong)
        each = _derive_each(certificate, items, rows, recorded, thresholds)
    used, starts, changed = Column("I"), Column("I", [0]), dict[int, Judgment]()
    counts = Counts()
    for place, derived in enumerate(each):
        for judgment in derived.judgments:
            row = derived.own.rows.get(judgment.judge)
            if row is None:
                changed[len(used)] = judgment
            used.append(row or 0)
            counts.add(judgment)
        starts.append(len(used))
        if derived.problem:
            at = recorded.decided[place]
            what = f"item {items.ids[place]!r}: {derived.problem}"
            problems.append(Unfollowed("decisions.jsonl", None if at < 0 else at, what))
    order = Column("I", (row for row in recorded.decided if row >= 0))
    judgments = StoredJudgments(recorded.judgments, used, changed, starts, items.columns, counts)
    return Checked(judgments, recorded.decisions.ordered(order), wrong or problems)


class _Own(NamedTuple):
    """The judgments of one item by judge, the row of each that is as recorded, and whether all can be."""

    judgments: dict[str, Judgment]
    rows: dict[str, int]
    sound: bool = True


def _judged(
    certificate: Certificate, items: StoredItems, recorded: Recorded, problems: list[Unfollowed]
) -> Iterator[_Own]:
    """Yield the judgments of each item, and add what no judge of the certificate can have given."""
    seals = {seal.judge: seal.fingerprint for seal in certificate.judges}
    labels = set(certificate.task.labels)
    owners = recorded.owners
    order = Column("I", np.argsort(owners, kind="stable"))
    ends = Column("I", np.cumsum(np.bincount(owners + 1, minlength=len(items) + 1)))
    damaged = list[str]()
    for place in range(len(items)):
        own = _Own({}, {})
        for row in order.between(*ends.between(place, place + 2)):
            try:
                judgment = decode(recorded.judgments.read(row), Judgment)
            except ValueError as error:
                path = recorded.judgments.path
                damaged.append(f"{path}:{recorded.judgments.number(row)}: {error}")
                continue
            name = judgment.judge
            earlier = own.judgments.get(name)
            if what := _why_not(judgment, items.ids[place], earlier, seals, labels):
                problems.append(Unfollowed("judgments.jsonl", row, f"item {judgment.item_id!r} {what}"))
                own = own._replace(sound=False)
            own.judgments[name] = judgment if earlier is None else _after(earlier, judgment)
            if earlier is None:
                own.rows[name] = row
            else:
                own.rows.pop(name, None)
        yield own
    if damaged:
        raise DataError(damaged, EDITED)


def _why_not(
    judgment: Judgment, item_id: str, earlier: Judgment | None, seals: Mapping[str, str], labels: set[str]
) -> str:
    """State why no judge of the certificate can have given this judgment; empty where one can."""
    name, why = judgment.judge, ""
    if judgment.item_id != item_id:
        why = f"is named twice, the other time as {item_id!r}"
    elif name not in seals:
        why = f"was judged by {name!r}, which is no judge of the certificate"
    elif judgment.fingerprint != seals[name]:
        why = f"was judged by another {name!r} than the one of the certificate"
    elif earlier is not None and not failed_votes(earlier):
        why = f"was judged twice by {name!r}"
    elif not all(_is_vote(vote, labels) for vote in judgment.votes):
        why = f"has a vote of {name!r} that is neither failed nor probabilities of labels"
    elif not 0 < len(judgment.votes) <= judgment.planned:
        why = f"has {len(judgment.votes)} votes of {name!r}, of {judgment.planned} planned"
    return why


def failed_votes(judgment: Judgment) -> bool:
    """Whether a vote failed, so that the judge may be asked again and a later row replaces this one."""
    return any(vote.failure is not None for vote in judgment.votes)


def only_failed(judgment: Judgment) -> Judgment:
    """The row of a judge that is asked again: good votes come back from the cache, with their usage."""
    votes = (v if v.failure is not None else replace(v, usage=Usage(), cost=0.0) for v in judgment.votes)
    return replace(judgment, votes=tuple(votes))


def only_good(judgment: Judgment) -> Judgment:
    """The row beside its `only_failed`: together they have its usage and cost once."""
    votes = (v if v.failure is None else replace(v, usage=Usage(), cost=0.0) for v in judgment.votes)
    return replace(judgment, votes=tuple(votes))


def _after(earlier: Judgment, judgment: Judgment) -> Judgment:
    """The judgment, with what the replies that it replaces cost at its first vote."""
    first, *rest = judgment.votes or earlier.votes
    usage, cost = earlier.usage + first.usage, earlier.cost + first.cost
    return replace(judgment, votes=(replace(first, usage=usage, cost=cost), *rest))


def _is_vote(vote: Vote, labels: set[str]) -> bool:
    if vote.failure is not None:
        return not vote.probs
    return are_probabilities(vote.probs.values()) and labels.issuperset(vote.probs)


class _Derived(NamedTuple):
    own: _Own
    judgments: Sequence[Judgment]
    problem: str


@dataclass(frozen=True, slots=True)
class _Named:
    """The name of a judge whose votes are recorded."""

    name: str
    fingerprint: str
    channel: Channel

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        raise NotImplementedError


def _derive_each(
    certificate: Certificate,
    items: StoredItems,
    rows: Iterator[_Own],
    recorded: Recorded,
    thresholds: Mapping[str, float] | None,
) -> Iterator[_Derived]:
    """Derive each decision from the votes on its own item.

    A row with failed votes of a judge that is not asked stays for what it cost: it was asked, before the run
    was resumed and a cheaper judge decided.
    """
    judges = [_Named(seal.judge, seal.fingerprint, seal.channel) for seal in certificate.judges]
    scorer = Scorer.of(certificate)
    if thresholds is None:
        cascade = certified_cascade(certificate, judges, scorer)
    else:
        cascade = uncertified_cascade(thresholds, judges, scorer)
    released = certificate.batch is not None and certificate.batch.release_human_labels
    by_people = set(certificate.roles["certify"]) if released else set()
    for place, (item, own) in enumerate(zip(items, rows, strict=True)):
        if recorded.decided[place] < 0 or not own.sound:
            yield _Derived(own, (), "")
            continue
        decision = recorded.decisions[recorded.decided[place]]
        if item.id in by_people:
            yield _Derived(own, (), _not_by_people(decision, own.judgments))
            continue
        deciding = Deciding(item, cascade)
        problem = ""
        while (asked := deciding.asks()) is not None:
            judgment = own.judgments.get(asked.judge.name)
            if judgment is None:
                problem = f"there are no votes of {asked.judge.name!r}, which is asked next"
                break
            if len(judgment.votes) < judgment.planned and not asked.enough(judgment.votes, judgment.planned):
                problem = f"votes of {asked.judge.name!r} are missing: these could not end it"
                break
            deciding.hear(judgment)
        used = deciding.judgments
        if len(used) < len(own.judgments):
            asked_for = {judgment.judge for judgment in used}
            unasked = [judgment for name, judgment in own.judgments.items() if name not in asked_for]
            more = next((judgment.judge for judgment in unasked if not failed_votes(judgment)), None)
            if not problem and more is not None:
                problem = f"there are votes of {more!r}, which is not asked"
            used = [*used, *filter(_cost_something, unasked)]
        yield _Derived(own, used, problem or difference(decision, deciding.decision))


def _cost_something(judgment: Judgment) -> bool:
    return any(vote.cost or vote.usage != Usage() for vote in judgment.votes)


def _not_by_people(recorded: Decision, own: Mapping[str, Judgment]) -> str:
    """What is wrong with a decision by people; their labels are compared where the data is at hand."""
    reason = TORN if recorded.label is None else BY_PEOPLE
    wanted = Decision(recorded.item_id, recorded.label, None, None, reason, ())
    return "people labelled it, and there are votes of judges" if own else difference(recorded, wanted)


def _derive_together(
    certificate: Certificate, items: StoredItems, recorded: Recorded, problems: list[Unfollowed]
) -> Iterator[_Derived]:
    """Derive all decisions of the claim "expected" from the votes on all items, which are read twice.

    Items that nobody judges follow from the labelled rows beside them, which a run does not hold: they have
    no votes, no label, and one of two reasons.
    """
    decisions, votes = recorded.decisions, RunVotes(certificate, len(items))
    reasons = (None if row < 0 else decisions[row].reason for row in recorded.decided)
    apart = Codes(reason if reason in (LABELLED, SHARED) else None for reason in reasons)
    sound = True
    for place, own in enumerate(_judged(certificate, items, recorded, problems)):
        sound = sound and own.sound
        for judgment in own.judgments.values() if own.sound else ():
            votes.add(place, judgment)
    derived: Iterator[tuple[Place, Decision]] = iter(())
    if sound and len(decisions) and not (votes.some() & ~votes.whole()).any():
        derived = decide_run(certificate, items.ids, votes, apart)
    following = next(derived, None)
    for place, own in enumerate(_judged(certificate, items, recorded, [])):
        decision, problem = None, ""
        if following is not None and following[0] == place:
            decision, following = following[1], next(derived, None)
        if sound and recorded.decided[place] >= 0:
            if decision is None:
                problem = "is decided, and not every judge has judged every item"
            elif apart[place] and own.judgments:
                problem = "is set apart, and there are votes of judges"
            else:
                problem = difference(decisions[recorded.decided[place]], decision)
        yield _Derived(own, list(own.judgments.values()), problem)


def difference(recorded: Decision, derived: Decision) -> str:
    """State the first field in which a decision differs from the one that follows from the votes.

    >>> difference(Decision("x", "A", "s", 0.9, "accepted", ()), Decision("x", "B", "s", 0.9, "accepted", ()))
    "label is 'A', and from the votes follows 'B'"
    """
    if recorded == derived:
        return ""
    pairs: Iterator[tuple[str, object, object]] = (
        (field.name, getattr(recorded, field.name), getattr(derived, field.name))
        for field in fields(Decision)
        if field.name != "trail"
    )
    steps = chain.from_iterable(
        (
            (f"{field.name} of {new.judge!r}", getattr(old, field.name), getattr(new, field.name))
            for field in fields(Step)
        )
        for old, new in zip(recorded.trail, derived.trail, strict=False)
    )
    lengths = ("length of the trail", len(recorded.trail), len(derived.trail))
    for name, old, new in chain(pairs, [lengths], steps):
        if not _equal(old, new):
            return f"{name} is {old!r}, and from the votes follows {new!r}"
    return ""


def _equal(old: object, new: object) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return old == new
