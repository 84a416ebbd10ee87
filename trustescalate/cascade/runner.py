"""Decide items in a cascade, cheapest judge first: accept where the certificate allows it, else escalate.

Items flow independently through the tiers. An ensemble stops early once its remaining votes cannot change the
decision, so the decisions are those of the full ensembles.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trustescalate.calibration.scoring import Scorer, stack_of
from trustescalate.errors import CertificateMismatch, NoCertificate, ProviderError
from trustescalate.judges.base import Ask, Judge, all_done
from trustescalate.judges.fingerprints import Inputs, differences
from trustescalate.judges.refusals import is_of_length
from trustescalate.records import (
    FAILURES,
    Certificate,
    Decision,
    Item,
    JudgeBinding,
    Judgment,
    Reply,
    Request,
    Step,
    Task,
    Vote,
)
from trustescalate.records.failures import FAILED_VOTES
from trustescalate.records.item_fields import value_of
from trustescalate.records.policies import Policy, certified_groups, policy_of
from trustescalate.records.run import UNCERTIFIED
from trustescalate.records.votes import Enough, all_votes
from trustescalate.stats.confidence import Bounds
from trustescalate.stats.pooling import MARGIN, Stack, pooled_bounds, stacked_scores
from trustescalate.stats.pooling import Votes as ScoredVotes

Record = Callable[[Sequence[Judgment], Decision], None]
Collect = Callable[[Judgment], None]

PATIENCE = 10
"""Consecutive unanswered requests after which the endpoint, not the items, is at fault."""

OUTAGES: Mapping[str, str] = {
    "unreachable": "check base_url and the network",
    "timeout": "raise timeout, or lower concurrency",
    "server_error": "wait until the server recovers",
    "rate_limited": "lower concurrency, or wait",
    "empty": "raise max_tokens, or use another model: the replies hold no text",
    "bad_reply": "check base_url: the server does not speak chat completions",
    "bad_request": "change the judge's table as the server says, for example by `extra`",
}
"""Failures of an endpoint, and their remedies."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A judge and its certified threshold; None: it never accepts and is not called."""

    judge: Judge
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Cascade:
    """The tiers, cheapest first, and the scorer of their votes. A `stack` pools each tier with all before it.

    With `group_by`, a field of the items, items go through the cascade of their value in `groups`, None if
    nothing is certified for it; the thresholds of `tiers` are None. An `uncertified` one also asks the judges
    that have no threshold, with their full ensembles, and releases nothing.
    """

    tiers: tuple[Tier, ...]
    scorer: Scorer
    stack: Stack | None = None
    group_by: str | None = None
    groups: "Mapping[str, Cascade | None]" = field(default_factory=dict)
    uncertified: bool = False


def cascade_of(
    policy: Policy | None, judges: Sequence[Judge], scorer: Scorer, stack: Stack | None
) -> Cascade:
    """Build the cascade of a policy, pooled by `stack` if the policy is; None accepts nothing."""
    thresholds = (None,) * len(judges) if policy is None else policy.thresholds
    tiers = tuple(Tier(judge, tau) for judge, tau in zip(judges, thresholds, strict=True))
    return Cascade(tiers, scorer, stack if policy is not None and policy.pooled else None)


def certified_cascade(certificate: Certificate, judges: Sequence[Judge], scorer: Scorer) -> Cascade:
    """Build the cascade of a certificate, without checking what it was made for."""
    stack = stack_of(certificate)
    policies = {guarantee.value: policy_of(guarantee) for guarantee in certificate.groups}
    groups = {
        value: None if policy is None else cascade_of(policy, judges, scorer, stack)
        for value, policy in policies.items()
    }
    whole = cascade_of(policy_of(certificate), judges, scorer, stack)
    return replace(whole, group_by=certificate.group_by, groups=groups)


def uncertified_cascade(thresholds: Mapping[str, float], judges: Sequence[Judge], scorer: Scorer) -> Cascade:
    """Build the cascade of thresholds that the user named; a judge without one is asked and never accepts."""
    tiers = tuple(Tier(judge, thresholds.get(judge.name)) for judge in judges)
    return Cascade(tiers, scorer, uncertified=True)


def trusted_cascade(
    certificate: Certificate,
    judges: Sequence[Judge],
    task: Task,
    estimator: str,
    inputs: Mapping[str, Inputs] = MappingProxyType({}),
) -> Cascade:
    """Build the cascade that a certificate allows.

    Raises NoCertificate if it allows none, CertificateMismatch, naming the first field that differs, for
    another task, estimator or judge.
    """
    _must_be_certified(certificate)
    must_fit(certificate, judges, task, estimator, inputs)
    return certified_cascade(certificate, judges, Scorer.of(certificate))


def must_fit(
    certificate: Certificate,
    judges: Sequence[Judge],
    task: Task,
    estimator: str,
    inputs: Mapping[str, Inputs] = MappingProxyType({}),
) -> None:
    """Raise CertificateMismatch for another task, estimator or judge, naming the first field that differs.

    `inputs` are those of the judges' fingerprints now (`judge_inputs`).
    """
    _must_equal("number of judges", len(certificate.judges), len(judges))
    _must_equal("task", certificate.task, task)
    _must_equal("estimator", certificate.estimator, estimator)
    for place, (seal, judge) in enumerate(zip(certificate.judges, judges, strict=True), 1):
        _must_equal(f"judge {place}", seal.judge, judge.name)
        if seal.fingerprint != judge.fingerprint:
            raise _other_judge(seal, judge, inputs.get(judge.name, {}))


def must_certify(certificate: Certificate, claim: str, alpha: float, delta: float) -> None:
    """Raise NoCertificate if nothing is certified, CertificateMismatch for another claim, alpha or delta."""
    _must_be_certified(certificate)
    _must_equal("claim", certificate.claim, claim)
    _must_equal("alpha", certificate.alpha, alpha)
    _must_equal("delta", certificate.delta, delta)


def must_expect(certificate: Certificate, alpha: float) -> None:
    """Raise NoCertificate if no run can release anything, CertificateMismatch for another claim or alpha."""
    _must_equal("claim", certificate.claim, "expected")
    _must_equal("alpha", certificate.alpha, alpha)
    if certificate.status != "expected":
        raise NoCertificate(certificate.reason, certificate.advice)


def must_certify_groups(certificate: Certificate, by: str | None, alpha: Mapping[str, float]) -> None:
    """Raise CertificateMismatch unless the guarantees are per value of `by`, with these alphas."""
    _must_equal("[groups] by", certificate.group_by, by)
    for guarantee in certificate.groups:
        wanted = alpha.get(guarantee.value, certificate.alpha)
        _must_equal(f"alpha of {guarantee.value!r}", guarantee.alpha, wanted)


def patient(ask: Ask, judge: str, stop: Callable[[ProviderError], None] = lambda _: None) -> Ask:
    """Raise ProviderError after `PATIENCE` consecutive requests without an answer, and `stop` with it.

    A request that is too long says nothing of the endpoint.
    """
    unanswered = 0

    async def asked(request: Request) -> Reply:
        nonlocal unanswered
        reply = await ask(request)
        fix = OUTAGES.get(reply.failure or "")
        if fix is not None and is_of_length(reply.text):
            return reply
        unanswered = 0 if fix is None else unanswered + 1
        if fix is not None and unanswered >= PATIENCE:
            why = FAILURES[reply.failure or ""] + (f": {reply.text}" if reply.text else "")
            error = ProviderError(f"judge {judge!r} left {PATIENCE} requests unanswered: {why}", fix)
            stop(error)
            raise error
        return reply

    return asked


async def run_cascade(items: Sequence[Item], cascade: Cascade, *, record: Record, in_flight: int) -> None:
    """Decide every item, `in_flight` at a time; call `record` once per item, in any order.

    Raises what stopped it early (BudgetReached, ProviderError, an error of `record`) after the items in
    flight have ended; `record` is not called again after it fails.
    """

    recording = False

    async def decide(item: Item) -> None:
        nonlocal recording
        decided = await decide_item(item, cascade)
        if recording:  # an earlier row was written in part: write nothing after it
            return
        recording = True
        record(*decided)
        recording = False

    await _each(items, decide, in_flight)


async def collect_judgments(
    items: Sequence[Item], judges: Sequence[Judge], *, collect: Collect, in_flight: int
) -> None:
    """Judge every item with the full ensemble of every judge, as calibration needs."""

    async def ask(item: Item) -> None:
        for judgment in await all_done(judge.judge(item, all_votes) for judge in judges):
            collect(judgment)

    await _each(items, ask, in_flight)


async def decide_item(item: Item, cascade: Cascade) -> tuple[list[Judgment], Decision]:
    """Send one item through the tiers; return its judgments and decision."""
    deciding = Deciding(item, cascade)
    while (asked := deciding.asks()) is not None:
        deciding.hear(await asked.judge.judge(item, asked.enough))
    return deciding.judgments, deciding.decision


class Asked(NamedTuple):
    """The judge whose votes decide next, and how many of them are enough."""

    judge: Judge
    enough: Enough


class Deciding:
    """How one item is decided: which judge is asked next, and what follows from its votes.

    It asks nobody itself, so that the decisions of a run can be derived again from its recorded votes.
    """

    def __init__(self, item: Item, cascade: Cascade) -> None:
        self.judgments: list[Judgment] = []
        self._item = item
        self._cascade, self._why_none = _cascade_for(item, cascade)
        self._trail: list[Step] = []
        asked = (t for t in self._cascade.tiers if cascade.uncertified or t.threshold is not None)
        self._left = [] if self._why_none else list(asked)

    def asks(self) -> Asked | None:
        """The next judge; None once the item is decided."""
        if not self._left or (self._trail and self._trail[-1].accepted):
            return None
        tier = self._left[0]
        return Asked(tier.judge, _stopping_rule(self._cascade, tier, self._item, self.judgments))

    def hear(self, judgment: Judgment) -> None:
        """Take the votes of the judge that was asked."""
        self.judgments.append(judgment)
        self._trail.append(_step(self._cascade, self._left.pop(0), self._item, self.judgments))

    @property
    def decision(self) -> Decision:
        """The decision on the item, once nobody is left to be asked."""
        trail = tuple(self._trail)
        if self._cascade.uncertified:
            return Decision(self._item.id, None, None, None, UNCERTIFIED, trail)
        if trail and trail[-1].accepted:
            last = trail[-1]
            return Decision(self._item.id, last.label, last.judge, last.score, "accepted", trail)
        why = self._why_none or _why_abstained(trail)
        return Decision(self._item.id, None, None, None, why, trail)


def _cascade_for(item: Item, cascade: Cascade) -> tuple[Cascade, str]:
    """Return the cascade of an item, and why nothing is certified for it, if so."""
    if cascade.group_by is None:
        return cascade, ""
    value = value_of(item, cascade.group_by)
    if value is None:
        return cascade, f"no {cascade.group_by}, for each of whose values there is a guarantee of its own"
    if value not in cascade.groups:
        return cascade, f"its {cascade.group_by} is unknown to the certificate"
    own = cascade.groups[value]
    return (cascade, f"nothing is certified for its {cascade.group_by}") if own is None else (own, "")


def _stopping_rule(cascade: Cascade, tier: Tier, item: Item, before: Sequence[Judgment]) -> Enough:
    threshold = tier.threshold
    if threshold is None:
        return all_votes
    if cascade.stack is not None:
        return _pooled_stopping_rule(cascade, cascade.stack, tier, item, before)

    def enough(votes: Sequence[Vote], planned: int) -> bool:
        label, low, high = cascade.scorer.bounds(item, votes, planned)
        return high < threshold or (label >= 0 and low >= threshold)

    return enough


def _pooled_stopping_rule(
    cascade: Cascade, stack: Stack, tier: Tier, item: Item, before: Sequence[Judgment]
) -> Enough:
    """Stop early only if the item ends here: every later tier needs this tier's exact score."""
    threshold = tier.threshold
    if threshold is None or stack.weights[:, :, 1].any() or (stack.weights[:, :, 0] < 0).any():
        return all_votes
    place = [each.judge.name for each in cascade.tiers].index(tier.judge.name)
    is_last = all(each.threshold is None for each in cascade.tiers[place + 1 :])
    seen = _own_votes(cascade, item, before)

    def enough(votes: Sequence[Vote], planned: int) -> bool:
        own = cascade.scorer.bounds(item, votes, planned)
        if own.label < 0 and not is_last:
            return False
        label, low, high = pooled_bounds(stack, seen, place, own)
        return (label >= 0 and low >= threshold + MARGIN) or (is_last and high < threshold - MARGIN)

    return enough


def _own_votes(cascade: Cascade, item: Item, judgments: Sequence[Judgment]) -> ScoredVotes:
    """Return score and label of each judgment alone (1, m); -1 for tiers not reached."""
    names = [tier.judge.name for tier in cascade.tiers]
    votes = ScoredVotes(np.zeros((1, len(names))), np.full((1, len(names)), -1))
    for judgment in judgments:
        own = cascade.scorer.bounds(item, judgment.votes, judgment.planned)
        at = names.index(judgment.judge)
        votes.scores[0, at], votes.labels[0, at] = own.low, own.label
    return votes


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
    """Return label and score bounds of the last judgment; with a stack, of all of them pooled."""
    own = cascade.scorer.bounds(item, judgments[-1].votes, judgments[-1].planned)
    if cascade.stack is None:
        return own
    place = [tier.judge.name for tier in cascade.tiers].index(judgments[-1].judge)
    if len(judgments[-1].votes) < judgments[-1].planned:
        return pooled_bounds(cascade.stack, _own_votes(cascade, item, judgments[:-1]), place, own)
    read = stacked_scores(cascade.stack, _own_votes(cascade, item, judgments))
    score = float(read.scores[0, place])
    return Bounds(int(read.labels[0, place]), score, score)


def _why_abstained(trail: Sequence[Step]) -> str:
    failures = sorted({failure for step in trail for failure in step.failures})
    if failures:
        return f"below threshold at every tier{FAILED_VOTES}{', '.join(failures)}"
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
            except Exception as error:  # items in flight are paid for, and may end
                stopped.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(items))):
            group.create_task(worker())
    if stopped:
        raise stopped[0]


def _must_be_certified(certificate: Certificate) -> None:
    if certificate.thresholds is None and not certified_groups(certificate):
        raise NoCertificate(f"there is no certificate: {certificate.reason}", certificate.advice)


def _other_judge(seal: JudgeBinding, judge: Judge, now: Inputs) -> CertificateMismatch:
    changed = differences(judge.name, seal.inputs, now) if seal.inputs and now else ()
    what = "; ".join(changed) or (
        f"{seal.fingerprint[:12]} → {judge.fingerprint[:12]}, with the same keys and texts: the files of a "
        "model, the code of a function, fitted rows or recorded votes are others"
    )
    return CertificateMismatch(
        f"the certificate does not fit: fingerprint of {judge.name}: {what}",
        "calibrate again, or undo the change",
    )


def _must_equal(field: str, certified: object, given: object) -> None:
    if certified != given:
        raise CertificateMismatch(
            f"the certificate does not fit: {field} was {certified!r} and is {given!r}",
            "calibrate again, or undo the change",
        )
