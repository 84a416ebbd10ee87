"""Items through the tiers, cheapest first: accept where the certificate allows it, escalate the rest.

Items flow independently; nobody waits for a tier to finish. An ensemble ends early when the votes to come
cannot change what happens to its item, so the decisions are those of the full ensembles.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from trustescalate.errors import CertificateMismatch, NoCertificate, TrustEscalateError
from trustescalate.judges.base import Judge, all_done, all_votes
from trustescalate.types import Certificate, Decision, Item, Judgment, Step, Task, Vote
from trustescalate.votes import score_bounds

Record = Callable[[Sequence[Judgment], Decision], None]
Collect = Callable[[Judgment], None]


@dataclass(frozen=True, slots=True)
class Tier:
    """A judge and the certified score from which on it is trusted; None: never, so it is not even asked."""

    judge: Judge
    threshold: float | None


def trusted_tiers(
    certificate: Certificate, judges: Sequence[Judge], task: Task, estimator: str
) -> list[Tier]:
    """The cascade that a certificate allows.

    Raises NoCertificate when it allows none, and CertificateMismatch, naming the first field that differs,
    when it was made for another task, estimator or judge.
    """
    if certificate.thresholds is None:
        raise NoCertificate(f"there is no certificate: {certificate.reason}", certificate.advice)
    _must_equal("number of judges", len(certificate.judges), len(judges))
    _must_equal("task", certificate.task, task)
    _must_equal("estimator", certificate.estimator, estimator)
    for place, (seal, judge) in enumerate(zip(certificate.judges, judges, strict=True), 1):
        _must_equal(f"judge {place}", seal.judge, judge.name)
        _must_equal(f"fingerprint of {judge.name}", seal.fingerprint, judge.fingerprint)
    return [Tier(judge, tau) for judge, tau in zip(judges, certificate.thresholds, strict=True)]


async def run_cascade(
    items: Sequence[Item],
    tiers: Sequence[Tier],
    task: Task,
    estimator: str,
    *,
    record: Record,
    in_flight: int,
) -> None:
    """Decide every item, `in_flight` of them at a time; `record` is called once an item, in any order.

    Raises what made it stop early (BudgetReached, ProviderError) after the items then in flight have ended.
    """

    async def decide(item: Item) -> None:
        record(*await decide_item(item, tiers, task, estimator))

    await _each(items, decide, in_flight)


async def collect_judgments(
    items: Sequence[Item], judges: Sequence[Judge], *, collect: Collect, in_flight: int
) -> None:
    """Ask every judge its full ensemble on every item: what calibration needs."""

    async def ask(item: Item) -> None:
        for judgment in await all_done(judge.judge(item, all_votes) for judge in judges):
            collect(judgment)

    await _each(items, ask, in_flight)


async def decide_item(
    item: Item, tiers: Sequence[Tier], task: Task, estimator: str
) -> tuple[list[Judgment], Decision]:
    """One item through the tiers."""
    judgments: list[Judgment] = []
    trail: list[Step] = []
    for tier in tiers:
        if tier.threshold is None:
            continue
        judgment = await tier.judge.judge(item, _enough(task, estimator, tier.threshold))
        step = _step(task, estimator, tier, judgment)
        judgments.append(judgment)
        trail.append(step)
        if step.accepted:
            decision = Decision(item.id, step.label, step.judge, step.score, "accepted", tuple(trail))
            return judgments, decision
    return judgments, Decision(item.id, None, None, None, _why_abstained(trail), tuple(trail))


def _enough(task: Task, estimator: str, threshold: float) -> Callable[[Sequence[Vote], int], bool]:
    def enough(votes: Sequence[Vote], planned: int) -> bool:
        label, low, high = score_bounds(task, estimator, votes, planned)
        return high < threshold or (label >= 0 and low >= threshold)

    return enough


def _step(task: Task, estimator: str, tier: Tier, judgment: Judgment) -> Step:
    label, low, high = score_bounds(task, estimator, judgment.votes, judgment.planned)
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


def _why_abstained(trail: Sequence[Step]) -> str:
    failures = sorted({failure for step in trail for failure in step.failures})
    if failures:
        return f"below threshold at every tier, with failed votes: {', '.join(failures)}"
    return "below threshold at every tier"


async def _each(items: Sequence[Item], work: Callable[[Item], Awaitable[None]], in_flight: int) -> None:
    queue: Iterator[Item] = iter(items)
    stopped: list[TrustEscalateError] = []

    async def worker() -> None:
        for item in queue:
            if stopped:
                return
            try:
                await work(item)
            except TrustEscalateError as error:
                stopped.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(items))):
            group.create_task(worker())
    if stopped:
        raise stopped[0]


def _must_equal(field: str, certified: object, given: object) -> None:
    if certified != given:
        raise CertificateMismatch(
            f"the certificate does not fit: {field} was {certified!r} and is {given!r}",
            "calibrate again, or undo the change",
        )
