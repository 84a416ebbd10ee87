"""Derive the decisions of a run again from its votes and its certificate, and name what does not follow.

A decision is no source: with the claim "expected" and without, it follows from the recorded votes by the code
that made it. So an edited row is refused instead of believed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from math import isclose
from typing import NamedTuple

from trustescalate.calibration.expectation import LABELLED, SHARED, decide_run
from trustescalate.calibration.scoring import Scorer
from trustescalate.cascade.batch import BY_PEOPLE, TORN
from trustescalate.cascade.runner import Deciding, certified_cascade, uncertified_cascade
from trustescalate.judges.base import are_probabilities
from trustescalate.records import Certificate, Channel, Decision, Item, Judgment, Step, Usage, Vote
from trustescalate.records.votes import Enough

TOLERANCE = 1e-9
"""Of scores: those of pooled tiers are logarithms, which may differ in the last bit between machines."""


class Unfollowed(NamedTuple):
    """A row that does not follow: its file, its place there (None: none of its own), and what is wrong."""

    file: str
    place: int | None
    what: str


class Checked(NamedTuple):
    """The judgments that the decisions rest on, in the order of the items and tiers, and what is wrong."""

    judgments: tuple[Judgment, ...]
    problems: list[Unfollowed]


def check_rows(
    certificate: Certificate,
    items: Sequence[Item],
    judgments: Sequence[Judgment],
    decisions: Sequence[Decision],
    thresholds: Mapping[str, float] | None = None,
) -> Checked:
    """Compare all rows of a run with what follows from its votes; rows are in the order of their files.

    Judgments of undecided items are left out: those of a run that was killed. A row with failed votes may be
    followed by one of the same judge, asked again: that one counts, with the cost of both. `thresholds` are
    those of an uncertified run, whose certificate decides nothing.
    """
    known = {item.id for item in items}
    rows, problems = _judged(certificate, known, judgments)
    decided: dict[str, int] = {}
    for place, decision in enumerate(decisions):
        if decision.item_id not in known:
            problems.append(_wrong(place, decision, "is no item of the run"))
        elif decision.item_id in decided:
            problems.append(_wrong(place, decision, "is decided twice"))
        else:
            decided[decision.item_id] = place
    if problems:
        return Checked((), problems)
    by_item = {row.item_id: row for row in decisions}
    if certificate.status == "expected":
        each = _derive_together(certificate, items, rows, by_item)
    else:
        each = _derive_each(certificate, items, rows, by_item, thresholds)
    used: list[Judgment] = []
    for derived in each:
        used += derived.judgments
        if derived.problem:
            what = f"item {derived.item_id!r}: {derived.problem}"
            problems.append(Unfollowed("decisions.jsonl", decided.get(derived.item_id), what))
    return Checked(tuple(used), problems)


def _wrong(place: int, decision: Decision, what: str) -> Unfollowed:
    return Unfollowed("decisions.jsonl", place, f"item {decision.item_id!r} {what}")


Rows = Mapping[str, Mapping[str, Judgment]]
"""Judgments by item and judge."""


def _judged(
    certificate: Certificate, known: set[str], judgments: Sequence[Judgment]
) -> tuple[dict[str, dict[str, Judgment]], list[Unfollowed]]:
    """Index the judgments, and name those that no judge of the certificate can have given."""
    seals = {seal.judge: seal.fingerprint for seal in certificate.judges}
    labels = set(certificate.task.labels)
    rows: dict[str, dict[str, Judgment]] = {}
    problems = []
    for place, judgment in enumerate(judgments):
        own = rows.setdefault(judgment.item_id, {})
        what = ""
        if judgment.item_id not in known:
            what = "is no item of the run"
        elif judgment.judge not in seals:
            what = f"was judged by {judgment.judge!r}, which is no judge of the certificate"
        elif judgment.fingerprint != seals[judgment.judge]:
            what = f"was judged by another {judgment.judge!r} than the one of the certificate"
        elif judgment.judge in own and not failed_votes(own[judgment.judge]):
            what = f"was judged twice by {judgment.judge!r}"
        elif not all(_is_vote(vote, labels) for vote in judgment.votes):
            what = f"has a vote of {judgment.judge!r} that is neither failed nor probabilities of labels"
        elif not 0 < len(judgment.votes) <= judgment.planned:
            what = f"has {len(judgment.votes)} votes of {judgment.judge!r}, of {judgment.planned} planned"
        if what:
            problems.append(Unfollowed("judgments.jsonl", place, f"item {judgment.item_id!r} {what}"))
        earlier = own.get(judgment.judge)
        own[judgment.judge] = judgment if earlier is None else _after(earlier, judgment)
    return rows, problems


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
    if vote.cost < 0:
        return False
    if vote.failure is not None:
        return not vote.probs
    return are_probabilities(vote.probs.values()) and labels.issuperset(vote.probs)


class _Derived(NamedTuple):
    item_id: str
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
    items: Sequence[Item],
    rows: Rows,
    decisions: Mapping[str, Decision],
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
    nothing: Mapping[str, Judgment] = {}
    for item in items:
        recorded = decisions.get(item.id)
        if recorded is None:
            continue
        own = rows.get(item.id, nothing)
        if item.id in by_people:
            yield _Derived(item.id, (), _not_by_people(recorded, own))
            continue
        deciding = Deciding(item, cascade)
        problem = ""
        while (asked := deciding.asks()) is not None:
            judgment = own.get(asked.judge.name)
            if judgment is None:
                problem = f"there are no votes of {asked.judge.name!r}, which is asked next"
                break
            if len(judgment.votes) < judgment.planned and not asked.enough(judgment.votes, judgment.planned):
                problem = f"votes of {asked.judge.name!r} are missing: these could not end it"
                break
            deciding.hear(judgment)
        used = deciding.judgments
        if len(used) < len(own):
            asked_for = {judgment.judge for judgment in used}
            unasked = [judgment for name, judgment in own.items() if name not in asked_for]
            more = next((judgment.judge for judgment in unasked if not failed_votes(judgment)), None)
            if not problem and more is not None:
                problem = f"there are votes of {more!r}, which is not asked"
            used = [*used, *filter(_cost_something, unasked)]
        yield _Derived(item.id, used, problem or difference(recorded, deciding.decision))


def _cost_something(judgment: Judgment) -> bool:
    return any(vote.cost or vote.usage != Usage() for vote in judgment.votes)


def _not_by_people(recorded: Decision, own: Mapping[str, Judgment]) -> str:
    """What is wrong with a decision by people; their labels are compared where the data is at hand."""
    reason = TORN if recorded.label is None else BY_PEOPLE
    wanted = Decision(recorded.item_id, recorded.label, None, None, reason, ())
    return "people labelled it, and there are votes of judges" if own else difference(recorded, wanted)


def _derive_together(
    certificate: Certificate, items: Sequence[Item], rows: Rows, decisions: Mapping[str, Decision]
) -> Iterator[_Derived]:
    """Derive all decisions of the claim "expected" from the votes on all items.

    Items that nobody judges follow from the labelled rows beside them, which a run does not hold: they have
    no votes, no label, and one of two reasons.
    """
    apart = {row.item_id: row.reason for row in decisions.values() if row.reason in (LABELLED, SHARED)}
    names = [seal.judge for seal in certificate.judges]
    judged = {name: {item: own[name] for item, own in rows.items() if name in own} for name in names}
    whole = all(own.keys() >= set(names) for own in rows.values())
    derived = {}
    if decisions and whole:
        derived = {row.item_id: row for row in decide_run(certificate, judged, apart)}
    for item in items:
        own, recorded = list(rows.get(item.id, {}).values()), decisions.get(item.id)
        problem = ""
        if recorded is not None and item.id not in derived:
            problem = "is decided, and not every judge has judged every item"
        elif recorded is not None and item.id in apart and own:
            problem = "is set apart, and there are votes of judges"
        elif recorded is not None:
            problem = difference(recorded, derived[item.id])
        yield _Derived(item.id, own, problem)


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
