"""Items through the tiers, cheapest first: accept where the certificate allows it, escalate the rest.

Items flow independently; nobody waits for a tier to finish. An ensemble ends early when the votes to come
cannot change what happens to its item, so the decisions are those of the full ensembles.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trustescalate.errors import CertificateMismatch, NoCertificate, ProviderError
from trustescalate.judges.base import Ask, Enough, Judge, all_done
from trustescalate.scoring import Scorer
from trustescalate.stats.confidence import Bounds
from trustescalate.stats.paths import Stack, stacked_scores
from trustescalate.stats.paths import Votes as ScoredVotes
from trustescalate.types import (
    FAILURES,
    Certificate,
    Decision,
    Item,
    Judgment,
    Reply,
    Request,
    Step,
    Task,
    Vote,
)
from trustescalate.values import Thresholds, certified_groups, value_of
from trustescalate.votes import all_votes

Record = Callable[[Sequence[Judgment], Decision], None]
Collect = Callable[[Judgment], None]

PATIENCE = 10
"""So many requests in a row that an endpoint leaves unanswered are no fault of the items."""

OUTAGES: Mapping[str, str] = {
    "unreachable": "check base_url and the network",
    "timeout": "raise timeout, or lower concurrency",
    "server_error": "wait until the server is well",
    "rate_limited": "lower concurrency, or wait",
    "bad_reply": "check base_url: what answers there speaks no chat completions",
}
"""The failures that say nothing about an item, and what mends them."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A judge and the certified score from which on it is trusted; None: never, so it is not even asked."""

    judge: Judge
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Cascade:
    """The tiers, cheapest first, and how their votes are read. A `stack` lets each speak for all so far.

    With `group_by`, a field of the items, the thresholds of a value's items are those of `groups`, None where
    nothing is certified for it; those of `tiers` are None.
    """

    tiers: tuple[Tier, ...]
    scorer: Scorer
    stack: Stack | None = None
    group_by: str | None = None
    groups: Mapping[str, Thresholds | None] = field(default_factory=dict)


def trusted_cascade(
    certificate: Certificate,
    judges: Sequence[Judge],
    task: Task,
    estimator: str,
    recalibrate: str | None = None,
    learn_from: str = "people",
) -> Cascade:
    """The cascade that a certificate allows.

    Raises NoCertificate when it allows none, and CertificateMismatch, naming the first field that differs,
    when it was made for another task, another way to make scores, or another judge.
    """
    _must_be_certified(certificate)
    _must_equal("number of judges", len(certificate.judges), len(judges))
    _must_equal("task", certificate.task, task)
    _must_equal("estimator", certificate.estimator, estimator)
    if certificate.scoring is not None or recalibrate is not None:
        made = certificate.scoring
        _must_equal("recalibrate", None if made is None else made.recalibrate, recalibrate)
        _must_equal("learn_from", None if made is None else made.learn_from, learn_from)
    for place, (seal, judge) in enumerate(zip(certificate.judges, judges, strict=True), 1):
        _must_equal(f"judge {place}", seal.judge, judge.name)
        _must_equal(f"fingerprint of {judge.name}", seal.fingerprint, judge.fingerprint)
    stack = None if certificate.stack is None else Stack(len(task.labels), np.array(certificate.stack))
    groups = {promise.value: promise.thresholds for promise in certificate.groups}
    thresholds = certificate.thresholds or (None,) * len(judges)
    tiers = tuple(Tier(judge, tau) for judge, tau in zip(judges, thresholds, strict=True))
    return Cascade(tiers, Scorer.of(certificate), stack, certificate.group_by, groups)


def must_promise(certificate: Certificate, claim: str, alpha: float, delta: float) -> None:
    """Raise NoCertificate if nothing is certified, CertificateMismatch if something else is."""
    _must_be_certified(certificate)
    _must_equal("claim", certificate.claim, claim)
    _must_equal("alpha", certificate.alpha, alpha)
    _must_equal("delta", certificate.delta, delta)


def must_promise_by(certificate: Certificate, by: str | None, alpha: Mapping[str, float]) -> None:
    """Raise CertificateMismatch unless promises are for each value of `by`, with these alphas by value."""
    _must_equal("[groups] by", certificate.group_by, by)
    for promise in certificate.groups:
        wanted = alpha.get(promise.value, certificate.alpha)
        _must_equal(f"alpha of {promise.value!r}", promise.alpha, wanted)


def patient(ask: Ask, judge: str) -> Ask:
    """Ask until `PATIENCE` requests in a row were left unanswered; from then on raise ProviderError."""
    unanswered = 0

    async def asked(request: Request) -> Reply:
        nonlocal unanswered
        reply = await ask(request)
        fix = OUTAGES.get(reply.failure or "")
        unanswered = 0 if fix is None else unanswered + 1
        if fix is not None and unanswered >= PATIENCE:
            why = FAILURES[reply.failure or ""]
            raise ProviderError(f"judge {judge!r} left {PATIENCE} requests unanswered: {why}", fix)
        return reply

    return asked


async def run_cascade(items: Sequence[Item], cascade: Cascade, *, record: Record, in_flight: int) -> None:
    """Decide every item, `in_flight` of them at a time; `record` is called once an item, in any order.

    Raises what made it stop early (BudgetReached, ProviderError) after the items then in flight have ended.
    What `record` raises ends it in the same way, and `record` is not called again.
    """

    recording = False

    async def decide(item: Item) -> None:
        nonlocal recording
        decided = await decide_item(item, cascade)
        if recording:  # an earlier row failed half-way: nothing may be written behind it
            return
        recording = True
        record(*decided)
        recording = False

    await _each(items, decide, in_flight)


async def collect_judgments(
    items: Sequence[Item], judges: Sequence[Judge], *, collect: Collect, in_flight: int
) -> None:
    """Ask every judge its full ensemble on every item: what calibration needs."""

    async def ask(item: Item) -> None:
        for judgment in await all_done(judge.judge(item, all_votes) for judge in judges):
            collect(judgment)

    await _each(items, ask, in_flight)


async def decide_item(item: Item, cascade: Cascade) -> tuple[list[Judgment], Decision]:
    """One item through the tiers."""
    judgments: list[Judgment] = []
    trail: list[Step] = []
    tiers, why_none = _tiers_for(item, cascade)
    if why_none:
        return judgments, Decision(item.id, None, None, None, why_none, ())
    for tier in tiers:
        if tier.threshold is None:
            continue
        judgments.append(await tier.judge.judge(item, _enough(cascade, tier, item)))
        step = _step(cascade, tier, item, judgments)
        trail.append(step)
        if step.accepted:
            decision = Decision(item.id, step.label, step.judge, step.score, "accepted", tuple(trail))
            return judgments, decision
    return judgments, Decision(item.id, None, None, None, _why_abstained(trail), tuple(trail))


def _tiers_for(item: Item, cascade: Cascade) -> tuple[tuple[Tier, ...], str]:
    """The tiers with the thresholds that hold for an item; or why nothing is promised for it."""
    if cascade.group_by is None:
        return cascade.tiers, ""
    value = value_of(item, cascade.group_by)
    if value is None:
        return (), f"no {cascade.group_by}, for each of whose values there is a promise of its own"
    if value not in cascade.groups:
        return (), f"its {cascade.group_by} is unknown to the certificate"
    thresholds = cascade.groups[value]
    if thresholds is None:
        return (), f"nothing is certified for its {cascade.group_by}"
    return tuple(
        replace(tier, threshold=tau) for tier, tau in zip(cascade.tiers, thresholds, strict=True)
    ), ""


def _enough(cascade: Cascade, tier: Tier, item: Item) -> Enough:
    name, threshold = tier.judge.name, tier.threshold
    if threshold is None or cascade.stack is not None or cascade.scorer.needs_all(name):
        return all_votes  # with a stack every later tier reads the exact score of this one

    def enough(votes: Sequence[Vote], planned: int) -> bool:
        label, low, high = cascade.scorer.bounds(item, name, votes, planned)
        return high < threshold or (label >= 0 and low >= threshold)

    return enough


def _step(cascade: Cascade, tier: Tier, item: Item, judgments: Sequence[Judgment]) -> Step:
    judgment, task = judgments[-1], cascade.scorer.task
    label, low, high = _read(cascade, item, judgments)
    return Step(
        judge=judgment.judge,
        label=task.labels[label] if label >= 0 else None,
        score=low,
        score_upper=high,
        threshold=tier.threshold,
        accepted=label >= 0 and tier.threshold is not None and low >= tier.threshold,
        votes=len(judgment.votes),
        planned=judgment.planned,
        failures=tuple(sorted({vote.failure for vote in judgment.votes if vote.failure is not None})),
    )


def _read(cascade: Cascade, item: Item, judgments: Sequence[Judgment]) -> Bounds:
    """What the last of these judgments says; with a stack, what all of them say together."""
    if cascade.stack is None:
        return cascade.scorer.say(item, judgments)
    own = [cascade.scorer.say(item, judgments[: place + 1]) for place in range(len(judgments))]
    place = [tier.judge.name for tier in cascade.tiers]
    asked = [place.index(row.judge) for row in judgments]
    scores, labels = np.zeros((1, len(place))), np.full((1, len(place)), -1)
    scores[0, asked], labels[0, asked] = [said.low for said in own], [said.label for said in own]
    read = stacked_scores(cascade.stack, ScoredVotes(scores, labels))
    score = float(read.scores[0, asked[-1]])
    return Bounds(int(read.labels[0, asked[-1]]), score, score)


def _why_abstained(trail: Sequence[Step]) -> str:
    failures = sorted({failure for step in trail for failure in step.failures})
    if failures:
        return f"below threshold at every tier, with failed votes: {', '.join(failures)}"
    return "below threshold at every tier"


async def _each(items: Sequence[Item], work: Callable[[Item], Awaitable[None]], in_flight: int) -> None:
    queue: Iterator[Item] = iter(items)
    stopped: list[Exception] = []

    async def worker() -> None:
        for item in queue:
            if stopped:
                return
            try:
                await work(item)
            except Exception as error:  # those in flight are paid for, and may end
                stopped.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(items))):
            group.create_task(worker())
    if stopped:
        raise stopped[0]


def _must_be_certified(certificate: Certificate) -> None:
    if certificate.thresholds is None and not certified_groups(certificate):
        raise NoCertificate(f"there is no certificate: {certificate.reason}", certificate.advice)


def _must_equal(field: str, certified: object, given: object) -> None:
    if certified != given:
        raise CertificateMismatch(
            f"the certificate does not fit: {field} was {certified!r} and is {given!r}",
            "calibrate again, or undo the change",
        )
