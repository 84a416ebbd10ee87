"""Votes that failed: what a run, its resumption, its gate and a calibration make of each kind."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.projects import Calls, calibrate, comparable, edit, run, write_project
from trustescalate.cascade.certification import must_be_answered
from trustescalate.errors import NotMeasurable, ProviderError
from trustescalate.project import Project
from trustescalate.records import FAILURES, Judgment, Reply, Request, Usage, Vote
from trustescalate.records.failures import KINDS
from trustescalate.records.progress import Hooks

EXPECTED = 'claim = "expected"'
FREE = Usage()


def test_every_failure_has_a_kind() -> None:
    assert KINDS.keys() >= FAILURES.keys()


def failing(failure: str, every: int, usage: Usage = FREE) -> Callable[[Request], Reply | None]:
    """Let one of so many requests fail."""
    asked = 0

    def reply(request: Request) -> Reply | None:
        nonlocal asked
        asked += 1
        return Reply("", None, "stop", usage, failure) if asked % every == 0 else None

    return reply


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ['path = "common"', EXPECTED])
def test_a_resumed_run_asks_again_what_got_no_answer(tmp_path: Path, calls: Calls, guarantee: str) -> None:
    config = write_project(tmp_path, guarantee=guarantee)
    if "expected" in guarantee:
        edit(config, "delta = 0.2\npilot = 20\n", "")
        edit(config, "alpha = 0.3", "alpha = 0.12")
    calibrate(config)
    asked = len(calls.asked)
    whole = run(config)
    once = len(calls.asked) - asked
    (tmp_path / ".trustescalate/cache.sqlite").unlink()
    calls.then, notices = failing("timeout", 3), []
    project = Project.open(config, Hooks(notice=notices.append))
    broken = asyncio.run(project.run())
    assert broken.header.status == "complete"
    lost = {row.item_id for row in broken.decisions if row.label is None}
    assert any(row.label for row in whole.decisions)
    assert broken.decisions != whole.decisions
    assert "went to people with failed votes" in "".join(notices)
    calls.then, before = lambda request: None, len(calls.asked)
    mended = run(config, resume="latest")
    assert 0 < len(calls.asked) - before < once
    assert not any(vote.failure for row in mended.judgments for vote in row.votes if row.item_id in lost)
    if "expected" in guarantee:
        assert comparable(mended)["decisions"] == comparable(whole)["decisions"]
    else:
        assert [row.label for row in mended.decisions if row.item_id in lost] == [
            row.label for row in whole.decisions if row.item_id in lost
        ]
    before = len(calls.asked)
    assert run(config, resume="latest").decisions == mended.decisions
    assert len(calls.asked) == before


def test_a_paid_reply_of_a_judge_that_is_no_longer_asked_still_costs(tmp_path: Path, calls: Calls) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    (tmp_path / ".trustescalate/cache.sqlite").unlink()
    paid = Usage(1000, 10)
    calls.then = failing("timeout", 3, paid)
    run(config)
    calls.then = lambda request: None
    mended = run(config, resume="latest")
    asked = {(row.item_id, step.judge) for row in mended.decisions for step in row.trail}
    unasked = [row for row in mended.judgments if (row.item_id, row.judge) not in asked]
    assert unasked
    assert {row.judge for row in unasked} == {"large"}
    assert all(vote.usage == paid for row in unasked for vote in row.votes if vote.failure)


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["refused", "timeout", "none", "echo"])
def test_coverage_that_failures_took_is_undecided_and_never_a_breach(
    tmp_path: Path, calls: Calls, failure: str
) -> None:
    config = write_project(tmp_path, min_coverage=0.0, gate="max_failure_share = 1.0")
    calibrate(config)
    covered = sum(row.label is not None for row in run(config).decisions) / 40
    (tmp_path / ".trustescalate/cache.sqlite").unlink()
    calls.then = failing(failure, 2)
    run(config)
    edit(config, "min_coverage = 0.0", f"min_coverage = {covered}")
    verdict, _ = Project.open(config).gate()
    (check,) = [check for check in verdict.checks if check.name == "coverage"]
    assert (verdict.status, verdict.exit_code, check.status) == ("undecided", 3, "undecided")
    assert f"{KINDS[failure]} ({failure})" in check.message
    edit(config, f"min_coverage = {covered}", "min_coverage = 1.0")
    calls.then = lambda request: None
    run(config)
    assert Project.open(config).gate()[0].exit_code == 1


@pytest.mark.slow
@pytest.mark.parametrize(("failure", "every"), [("server_error", 5), ("none", 1), ("bad_request", 1)])
def test_a_calibration_that_failures_spoiled_replaces_nothing(
    tmp_path: Path, calls: Calls, failure: str, every: int
) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    first = len(calls.asked)
    files = [tmp_path / name for name in ("certificate.json", "certificate.votes.jsonl", "ledger.jsonl")]
    before = [file.read_bytes() for file in files]
    (tmp_path / ".trustescalate/cache.sqlite").unlink()
    calls.then = failing(failure, every)
    with pytest.raises(
        NotMeasurable, match="votes open" if every > 1 else "gave no usable vote|left 10 requests unanswered"
    ):
        calibrate(config)
    assert [file.read_bytes() for file in files] == before
    asked = len(calls.asked)
    calls.then = lambda request: None
    assert calibrate(config).status == "certified"
    if every > 1:
        assert len(calls.asked) - asked == (asked - first) // every, "an answer was asked for again"
    assert files[2].read_bytes().startswith(before[2])


def votes(*failures: str | None) -> dict[str, dict[str, Judgment]]:
    rows = {
        f"q{n}": Judgment(
            f"q{n}", "j", "f", (Vote(0, "", {} if failure else {"A": 1.0}, failure=failure),), 1
        )
        for n, failure in enumerate(failures)
    }
    return {"j": rows}


def test_what_spoils_a_calibration() -> None:
    must_be_answered(votes(*["timeout"] * 5, *[None] * 95), 0.05)
    must_be_answered(votes(*["none"] * 50, *[None] * 50), 0.05)
    must_be_answered(votes(*["not_recorded"] * 90, *[None] * 10), 0.05)
    with pytest.raises(ProviderError, match=r"left 6 of 100 votes open: 6 down \(timeout\)"):
        must_be_answered(votes(*["timeout"] * 6, *[None] * 94), 0.05)
    with pytest.raises(NotMeasurable, match=r"on 51 of 100 rows: 51 unreadable \(none\)"):
        must_be_answered(votes(*["none"] * 51, *[None] * 49), 0.05)
