"""What must hold with any model behind a server: a vote is read or a failure, and nothing is asked twice."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.real_servers import RealServer, write_sums
from trustescalate import Project, Run
from trustescalate.errors import BudgetReached
from trustescalate.records.failures import FAILURES

MODES = {
    "direct": {"mode": "direct"},
    "direct, samples": {"mode": "direct", "channel": "samples"},
    "reason": {"mode": "reason", "max_tokens": 40},
    "structured": {"mode": "structured", "max_tokens": 40},
    "stated": {"mode": "stated", "max_tokens": 40},
}
PATIENT = {"timeout": 120.0, "give_up_after": 200.0, "attempts": 2}


def few(config: Path, items: int) -> Path:
    """A file with the last items of the project, which have no labels."""
    path = config.with_name("few.jsonl")
    lines = config.with_name("items.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[-items:]), encoding="utf-8")
    return path


def judged(config: Path, items: int, **more: Any) -> Run:
    return asyncio.run(Project.open(config).run(items=few(config, items), uncertified=True, **more))


def asked_in(server: RealServer, work: Callable[[], object]) -> list[str]:
    """The bodies of the requests that reach the server meanwhile, each as one text."""
    before = len(server.proxy.asked)
    work()
    return [json.dumps(exchange.body, sort_keys=True) for exchange in server.proxy.asked[before:]]


@pytest.mark.parametrize("mode", MODES)
def test_each_vote_is_read_or_a_failure_with_a_reason(server: RealServer, tmp_path: Path, mode: str) -> None:
    ensemble = "annotators = 1\nshots = 0\nsamples = 2"
    config = write_sums(tmp_path / "project", server, ensemble, **PATIENT, **MODES[mode])
    run = judged(config, 1)
    votes = [vote for judgment in run.judgments for vote in judgment.votes]
    assert votes
    for vote in votes:
        assert bool(vote.probs) == (vote.failure is None)
        assert vote.failure is None or vote.failure in FAILURES
        assert set(vote.probs) <= {"pass", "fail"}
        assert all(0 <= p <= 1 for p in vote.probs.values())
        assert sum(vote.probs.values()) <= 1 + 1e-9
    assert all(judgment.served for judgment in run.judgments), "the model that answered is recorded"
    if mode == "direct":
        expected = "logprobs" if server.has_logprobs else "samples"
        assert {vote.channel for vote in votes if vote.failure is None} <= {expected}
    if mode == "direct" and server.has_logprobs:
        assert any(0 < p < 1 for vote in votes for p in vote.probs.values())


def test_what_was_answered_is_not_asked_again(server: RealServer, tmp_path: Path) -> None:
    config = write_sums(tmp_path / "project", server, **PATIENT)
    first: list[Run] = []
    asked = asked_in(server, lambda: first.append(judged(config, 2)))
    assert asked
    failed = any(vote.failure for judgment in first[0].judgments for vote in judgment.votes)
    again = asked_in(server, lambda: judged(config, 2))
    assert set(again) <= set(asked)
    assert failed or again == []


def test_a_resumed_run_repeats_nothing(server: RealServer, tmp_path: Path) -> None:
    config = write_sums(tmp_path / "project", server, "annotators = 1\nshots = 0\nsamples = 2", **PATIENT)
    project = Project.open(config)
    limit = project.config.budget.model_copy(update={"calls": 1})

    def stopped() -> None:
        with pytest.raises(BudgetReached):
            judged(config, 3, budget=limit)

    before = asked_in(server, stopped)
    done: list[Run] = []
    after = asked_in(
        server,
        lambda: done.append(
            asyncio.run(project.run(items=few(config, 3), uncertified=True, resume="latest"))
        ),
    )
    assert before
    assert after
    assert len(done[0].decisions) == 3
    if not any(vote.failure for judgment in done[0].judgments for vote in judgment.votes):
        assert not {*before} & {*after}


def test_calibrate_run_and_gate_end_with_a_documented_code(server: RealServer, tmp_path: Path) -> None:
    config = write_sums(tmp_path / "project", server, **PATIENT)
    calibrated = cli("calibrate", "--config", config, "--json")
    assert calibrated.exit_code in (0, 3), calibrated.output
    ran = cli("run", "--config", config)
    assert ran.exit_code == (0 if calibrated.exit_code == 0 else 3), ran.output
    assert cli("gate", "--config", config).exit_code in (0, 1, 3)


def test_a_ping_is_answered_and_an_unknown_model_is_named(server: RealServer, tmp_path: Path) -> None:
    config = write_sums(tmp_path / "project", server, **PATIENT)
    answered = cli("check", "--ping", "--config", config, "--json")
    assert answered.exit_code in (0, 3), answered.output
    listed = [exchange for exchange in server.proxy.exchanges if exchange.path == "/v1/models"]
    assert all(row["id"] == server.model for exchange in listed for row in exchange.reply["data"])
