"""Items through tiers: who is asked, what a failure does, when votes may be saved, and how work stops."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.projects import Calls, write_project
from tests.support.projects import calibrate as calibrate_project
from trustescalate.calibration.scoring import Scorer
from trustescalate.cascade.runner import (
    OUTAGES,
    PATIENCE,
    Cascade,
    Tier,
    collect_judgments,
    decide_item,
    patient,
    run_cascade,
)
from trustescalate.errors import BudgetReached, NoCertificate, ProviderError
from trustescalate.judges.base import Judge
from trustescalate.judges.simulated import write_demo
from trustescalate.project import Project
from trustescalate.records import (
    FAILURES,
    Decision,
    Item,
    Judgment,
    Reply,
    Request,
    Step,
    Task,
    TaskKind,
    Usage,
    Vote,
)
from trustescalate.records.votes import Enough
from trustescalate.stats.pooling import MARGIN, agreement_stack
from trustescalate.stats.pooling import Votes as ScoredVotes

TASK = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
ITEMS = [Item(f"i{n}", f"question {n}", ("one", "two")) for n in range(40)]


def sure(label: str, share: float = 0.95) -> Vote:
    return Vote(0, "AB", {label: share}, cost=1.0)


def failed(code: str = "timeout") -> Vote:
    return Vote(0, "AB", {}, failure=code)


@dataclass
class Scripted:
    """A judge whose votes are given by item, asked one at a time until enough are in."""

    name: str
    votes: Callable[[str], Sequence[Vote]]
    fingerprint: str = "print"
    channel: str = "logprobs"
    asked: list[str] = field(default_factory=list)
    now: int = 0
    peak: int = 0

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        self.asked.append(item.id)
        self.now += 1
        self.peak = max(self.peak, self.now)
        await asyncio.sleep(0)
        planned = self.votes(item.id)
        seen: list[Vote] = []
        for place, vote in enumerate(planned):
            await asyncio.sleep(0)
            seen.append(Vote(place, vote.order, vote.probs, failure=vote.failure, cost=vote.cost))
            if enough(seen, len(planned)):
                break
        self.now -= 1
        return Judgment(item.id, self.name, self.fingerprint, tuple(seen), len(planned))


def go(judges: Sequence[tuple[Scripted, float | None]], items: Sequence[Item] = ITEMS[:1]) -> list[Decision]:
    decisions: list[Decision] = []
    tiers = tuple(Tier(_as_judge(judge), tau) for judge, tau in judges)
    record = lambda judgments, decision: decisions.append(decision)  # noqa: E731
    asyncio.run(run_cascade(items, Cascade(tiers, Scorer(TASK, "ensemble")), record=record, in_flight=8))
    return decisions


def _as_judge(judge: Scripted) -> Judge:
    return judge  # type: ignore[return-value]


# ── one item ─────────────────────────────────────────────────────────────────────────────────────


def test_the_first_tier_that_is_sure_decides_alone() -> None:
    cheap, dear = Scripted("cheap", lambda _: [sure("A")] * 4), Scripted("dear", lambda _: [sure("B")] * 4)
    (decision,) = go([(cheap, 0.9), (dear, 0.9)])
    assert (decision.label, decision.judge, decision.reason) == ("A", "cheap", "accepted")
    assert dear.asked == []


def test_below_its_threshold_a_tier_escalates_and_the_trail_says_so() -> None:
    cheap, dear = (
        Scripted("cheap", lambda _: [sure("A", 0.6), sure("B", 0.6)]),
        Scripted("dear", lambda _: [sure("B")]),
    )
    (decision,) = go([(cheap, 0.9), (dear, 0.9)])
    assert (decision.label, decision.judge) == ("B", "dear")
    assert [(step.judge, step.accepted) for step in decision.trail] == [("cheap", False), ("dear", True)]


def test_nobody_sure_is_an_abstention_with_its_reason() -> None:
    (decision,) = go([(Scripted("j", lambda _: [sure("A"), sure("B")]), 0.9)])
    assert (decision.label, decision.judge, decision.score) == (None, None, None)
    assert decision.reason == "below threshold at every tier"


def test_a_tier_without_a_threshold_is_never_asked_and_costs_nothing() -> None:
    cheap, dear = Scripted("cheap", lambda _: [sure("A")]), Scripted("dear", lambda _: [sure("B")])
    (decision,) = go([(cheap, None), (dear, 0.9)])
    assert cheap.asked == []
    assert [step.judge for step in decision.trail] == ["dear"]


@pytest.mark.parametrize("code", FAILURES)
def test_a_failed_tier_escalates_whatever_the_failure(code: str) -> None:
    broken, dear = Scripted("broken", lambda _: [failed(code)] * 4), Scripted("dear", lambda _: [sure("B")])
    (decision,) = go([(broken, 0.0), (dear, 0.9)])
    assert decision.label == "B"
    assert decision.trail[0].failures == (code,)
    assert decision.trail[0].label is None


def test_failures_everywhere_are_named_in_the_reason() -> None:
    (decision,) = go([(Scripted("j", lambda _: [failed("timeout"), failed("refused")]), 0.0)])
    assert decision.label is None
    assert decision.reason == "below threshold at every tier, with failed votes: refused, timeout"


def test_a_tied_ensemble_is_no_verdict_even_at_threshold_zero() -> None:
    (decision,) = go([(Scripted("j", lambda _: [sure("A", 1.0), sure("B", 1.0)]), 0.0)])
    assert decision.label is None


# ── votes that are saved ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("estimator", ["ensemble", "sampled", "verbalized"])
def test_stopping_early_never_changes_a_decision(estimator: str) -> None:
    rng = random.Random(11)
    saved = 0

    async def both() -> None:
        nonlocal saved
        for n in range(400):
            votes = [
                failed()
                if rng.random() < 0.1
                else sure(rng.choice(["A", "A", "B", "tie"]), rng.uniform(0.4, 1))
                for _ in range(rng.randint(1, 10))
            ]
            tau = rng.choice([0.0, 0.3, 0.5, 0.7, 0.9, 1.0])
            early = Scripted("j", lambda _, votes=votes: votes)  # type: ignore[misc]
            item = ITEMS[n % 40]
            (judgment,), decision = await decide_item(
                item, Cascade((Tier(_as_judge(early), tau),), Scorer(TASK, estimator))
            )
            full = await early.judge(item, lambda seen, planned: False)
            whole = await decide_item(item, Cascade((Tier(_Fixed(full), tau),), Scorer(TASK, estimator)))
            assert decision.label == whole[1].label
            assert decision.trail[0].score <= whole[1].trail[0].score <= decision.trail[0].score_upper
            saved += judgment.planned - len(judgment.votes)

    asyncio.run(both())
    assert saved > 100


@pytest.mark.parametrize("estimator", ["ensemble", "sampled"])
def test_stopping_early_never_changes_a_decision_on_pooled_scores(estimator: str) -> None:
    """Three tiers of random votes: decisions are those of full ensembles, and votes are saved."""
    rng, generator = random.Random(5), np.random.default_rng(5)
    saved = planned = 0

    async def both() -> None:
        nonlocal saved, planned
        for n in range(300):
            pilot = ScoredVotes(generator.random((40, 3)), generator.integers(-1, 3, (40, 3)))
            stack = agreement_stack(pilot, 3, 3)
            taus = [rng.choice([None, 0.3, 0.6, 0.8, 0.9]) for _ in range(2)] + [rng.choice([0.5, 0.7, 0.9])]
            judges = []
            for name in ("a", "b", "c"):
                likely = rng.choice(["A", "B", "tie"])
                votes = [
                    failed()
                    if rng.random() < 0.05
                    else sure(likely if rng.random() < 0.8 else "B", rng.uniform(0.4, 1))
                    for _ in range(rng.randint(1, 10))
                ]
                judges.append(Scripted(name, lambda _, votes=votes: votes))  # type: ignore[misc]
            item, scorer = ITEMS[n % 40], Scorer(TASK, estimator)
            early = Cascade(tuple(map(Tier, map(_as_judge, judges), taus)), scorer, stack)
            judgments, decision = await decide_item(item, early)
            asked = [await judge.judge(item, lambda seen, planned: False) for judge in judges]
            full = [_Fixed(judgment, judgment.judge) for judgment in asked]
            _, whole = await decide_item(item, Cascade(tuple(map(Tier, full, taus)), scorer, stack))
            assert (decision.label, decision.judge) == (whole.label, whole.judge)
            assert [step.accepted for step in decision.trail] == [step.accepted for step in whole.trail]
            for one, other in zip(decision.trail, whole.trail, strict=True):
                assert one.score - MARGIN <= other.score <= one.score_upper + MARGIN
            planned += sum(row.planned for row in judgments)
            saved += sum(row.planned - len(row.votes) for row in judgments)

    asyncio.run(both())
    assert saved > 0.1 * planned


class _Fixed:
    """A judge that has said everything already."""

    fingerprint, channel = "print", "logprobs"

    def __init__(self, judgment: Judgment, name: str = "j") -> None:
        self._judgment, self.name = judgment, name

    async def judge(self, item: Item, enough: Enough) -> Judgment:
        return self._judgment


@pytest.mark.slow
def test_the_demo_decides_the_same_with_full_ensembles_and_pays_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trustescalate.cascade.runner

    write_demo(tmp_path)
    project = Project.open(tmp_path / "trustescalate.toml")
    asyncio.run(project.calibrate())
    items = tmp_path / "items.jsonl"
    early = asyncio.run(project.run(items=items))
    monkeypatch.setattr(
        trustescalate.cascade.runner, "_stopping_rule", lambda *_: lambda votes, planned: False
    )
    full = asyncio.run(project.run(items=items))
    assert len(early.decisions) == len(full.decisions) == 620
    for one, other in zip(early.decisions, full.decisions, strict=True):
        assert (one.label, one.judge, one.reason) == (other.label, other.judge, other.reason)
        assert [step.accepted for step in one.trail] == [step.accepted for step in other.trail]
        assert _between(one.trail, other.trail)
    votes, planned = (sum(len(row.votes) for row in run.judgments) for run in (early, full))
    assert votes < 0.9 * planned


def _between(early: Sequence[Step], full: Sequence[Step]) -> bool:
    return all(a.score <= b.score <= a.score_upper for a, b in zip(early, full, strict=True))


# ── how work stops ───────────────────────────────────────────────────────────────────────────────


def test_no_more_items_are_in_flight_than_allowed() -> None:
    judge = Scripted("j", lambda _: [sure("A")] * 3)
    assert len(go([(judge, 0.9)], ITEMS)) == 40
    assert judge.peak == 8


@pytest.mark.parametrize("error", [BudgetReached("used up"), ProviderError("gone"), RuntimeError("a bug")])
def test_what_is_in_flight_is_kept_when_one_worker_must_stop(error: Exception) -> None:
    recorded: list[str] = []

    def votes(item: str) -> Sequence[Vote]:
        if item == "i2":
            raise error
        return [sure("A")] * 3

    judge = Scripted("j", votes)
    record = lambda judgments, decision: recorded.append(decision.item_id)  # noqa: E731
    with pytest.raises(type(error), match=str(error)):
        asyncio.run(
            run_cascade(
                ITEMS,
                Cascade((Tier(_as_judge(judge), 0.9),), Scorer(TASK, "ensemble")),
                record=record,
                in_flight=8,
            )
        )
    assert set(recorded) == {f"i{n}" for n in range(8)} - {"i2"}
    assert len(judge.asked) == 8


def test_calibration_keeps_what_is_in_flight_too() -> None:
    kept: list[str] = []

    def votes(item: str) -> Sequence[Vote]:
        if item == "i0":
            raise BudgetReached("used up")
        return [sure("A")] * 3

    judges = [_as_judge(Scripted("j", votes))]
    with pytest.raises(BudgetReached):
        asyncio.run(
            collect_judgments(ITEMS, judges, collect=lambda row: kept.append(row.item_id), in_flight=4)
        )
    assert set(kept) == {"i1", "i2", "i3"}


def test_nothing_is_written_behind_a_row_that_failed() -> None:
    tried: list[str] = []

    def record(judgments: Sequence[Judgment], decision: Decision) -> None:
        tried.append(decision.item_id)
        raise OSError(28, "No space left on device")

    judge = Scripted("j", lambda _: [sure("A")] * 3)
    with pytest.raises(OSError, match="No space left"):
        asyncio.run(
            run_cascade(
                ITEMS,
                Cascade((Tier(_as_judge(judge), 0.9),), Scorer(TASK, "ensemble")),
                record=record,
                in_flight=8,
            )
        )
    assert len(tried) == 1


# ── an endpoint that is gone ─────────────────────────────────────────────────────────────────────


def asked(codes: Sequence[str | None], text: str = "A") -> list[str | None]:
    """What a patient caller sees of these replies, in turn."""
    left = iter(codes)

    async def ask(request: Request) -> Reply:
        return Reply(text, None, "stop", Usage(1), next(left))

    async def main() -> list[str | None]:
        calm = patient(ask, "j")
        return [(await calm(Request((), ("A", "B"), 1, 0.0, False))).failure for _ in codes]

    return asyncio.run(main())


@pytest.mark.parametrize("code", OUTAGES)
def test_ten_requests_in_a_row_without_an_answer_end_a_run(code: str) -> None:
    assert asked([code] * (PATIENCE - 1)) == [code] * (PATIENCE - 1)
    with pytest.raises(ProviderError, match="judge 'j' left 10 requests unanswered: ") as caught:
        asked([code] * PATIENCE)
    assert caught.value.message.endswith(f"{FAILURES[code]}: A")
    assert caught.value.hint == OUTAGES[code]


@pytest.mark.parametrize("between", [None, "refused"])
def test_an_answer_in_between_starts_the_count_again(between: str | None) -> None:
    codes = [*["timeout"] * 9, between, *["timeout"] * 9]
    assert asked(codes) == codes


def test_failures_of_items_never_end_a_run() -> None:
    assert set(OUTAGES) < set(FAILURES)
    assert asked(["refused"] * 50) == ["refused"] * 50
    too_long = "maximum context length is 4096 tokens"
    assert asked(["bad_request"] * 50, too_long) == ["bad_request"] * 50


def test_ten_refusals_in_a_row_end_a_run_with_what_the_server_says() -> None:
    with pytest.raises(ProviderError, match=r"left 10 requests unanswered: .*: stream mode only"):
        asked(["bad_request"] * 50, "stream mode only")


# ── with a real certificate ──────────────────────────────────────────────────────────────────────


def test_a_tier_that_earned_nothing_is_free(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_project(tmp_path, guarantee='path = "tierwise"\n', labelled=120, alpha=0.3)
    project = Project.open(config)
    certificate = asyncio.run(project.calibrate())
    assert certificate.thresholds is not None
    without = replace(certificate, thresholds=(None, *certificate.thresholds[1:]))
    monkeypatch.setattr("trustescalate.cascade.run.read_certificate", lambda folder: without)
    monkeypatch.setattr("trustescalate.cascade.run_folder.must_follow", lambda path, certificate: None)
    calls.asked.clear()
    made = asyncio.run(project.run())
    assert {model for model, _ in calls.asked} == {"M"}
    assert {row.judge for row in made.judgments} == {"large"}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_a_refusal_has_no_tiers(tmp_path: Path) -> None:
    from trustescalate.cascade.runner import must_certify, trusted_cascade

    refusal = calibrate_project(write_project(tmp_path, labelled=60, alpha=0.05))
    assert refusal.thresholds is None
    with pytest.raises(NoCertificate, match="passed its test"):
        trusted_cascade(refusal, [], TASK, "ensemble")
    with pytest.raises(NoCertificate):
        must_certify(refusal, "population", 0.05, 0.2)
