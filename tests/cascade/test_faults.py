"""Calibrate and run through an endpoint that misbehaves: each item gets its reason, nothing is paid twice."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.endpoints import judges, simulated
from tests.support.projects import edit, write_project
from tests.support.servers import Body, Canned, FaultServer, Plan, canonical, seeded
from trustescalate.cascade.runner import PATIENCE
from trustescalate.cli import app
from trustescalate.judges.cache import Cache
from trustescalate.project import Project
from trustescalate.records import FAILURES, Reply, Run

pytestmark = pytest.mark.slow
RATES = {
    "retry_seconds": 0.05, "retry_ms": 0.05, "error_500": 0.05, "drop": 0.02, "garbage": 0.01, "hang": 0.004,
    "html_200": 0.01, "html_502": 0.01, "cut_json": 0.01, "no_choices": 0.01, "refusal": 0.01,
    "content_filter": 0.01, "no_logprobs": 0.01, "spaced": 0.02, "bold": 0.02, "bracketed": 0.02, "led": 0.02,
    "wrong_type": 0.01,
}  # fmt: skip
UNPAID = {"retry_seconds", "retry_ms", "error_500", "drop", "garbage", "hang", "html_502"}
UNCLEAR = {"html_200", "cut_json", "no_choices"}
FAILED = {"refusal", "content_filter", "no_logprobs", "wrong_type"}
"""Answers whose votes fail, so that the next command asks again."""


class Ledger:
    """A plan that keeps count of the good answers it lets through, by body."""

    def __init__(self, plan: Plan) -> None:
        self.good: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._plan = plan

    def __call__(self, body: Body, nth: int) -> str | Canned | None:
        fault = self._plan(body, nth)
        self.faults[str(fault)] += 1
        self.good[canonical(body)] += fault is None or fault not in UNPAID | UNCLEAR | FAILED
        return fault


def calibrate_and_run(config: Path) -> Run:
    project = Project.open(config)
    certificate = asyncio.run(project.calibrate())
    assert certificate.status == "certified", certificate.reason
    return asyncio.run(project.run())


def test_every_item_ends_with_a_decision_or_a_reason_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    ledger = Ledger(seeded(RATES, seed=4))
    with FaultServer(simulated, ledger) as server:
        run = calibrate_and_run(write_project(tmp_path, judges(server)))
    assert set(RATES) <= set(ledger.faults), "a fault never happened"
    assert run.header.status == "complete"
    assert [decision.item_id for decision in run.decisions] == [item.id for item in run.items]
    for decision in run.decisions:
        assert (decision.label is None) == (decision.reason != "accepted")
        assert decision.reason
    votes = [vote for row in run.judgments for vote in row.votes]
    assert {vote.failure for vote in votes} <= {None, *FAILURES}
    assert {"refused", "no_logprobs"} & {vote.failure for vote in votes}
    assert max(ledger.good.values()) == 1, "a good answer was paid twice"
    assert sum(decision.label is not None for decision in run.decisions) > 10


def test_what_people_would_say_survives_the_faults(tmp_path: Path) -> None:
    """Retried faults change nothing at all: the decisions are those of a server without them."""
    retried = {name: rate for name, rate in RATES.items() if name in UNPAID | UNCLEAR and name != "hang"}
    runs = []
    for name, plan in (("calm", lambda body, nth: None), ("stormy", seeded(retried, seed=2))):
        with FaultServer(simulated, plan) as server:
            config = write_project(tmp_path / name, judges(server), labelled=45, unlabelled=15, alpha=0.4)
            runs.append(calibrate_and_run(config))
    calm, stormy = runs
    assert [(d.item_id, d.label, d.judge, d.score) for d in calm.decisions] == [
        (d.item_id, d.label, d.judge, d.score) for d in stormy.decisions
    ]


def test_what_the_server_refuses_is_all_that_is_asked_again(tmp_path: Path) -> None:
    """Under 10 % 429 and 5 % 500: no call is wasted beyond the refused ones, and none follows a success."""
    ledger = Ledger(seeded({"retry_seconds": 0.1, "error_500": 0.05}, seed=9))
    with FaultServer(simulated, ledger) as server:
        calibrate_and_run(write_project(tmp_path, judges(server)))
    refused = ledger.faults["retry_seconds"] + ledger.faults["error_500"]
    assert 0.1 * server.stats.requests < refused < 0.2 * server.stats.requests
    assert server.stats.requests == server.stats.answered.total() + refused
    assert set(server.stats.answered.values()) == {1}


def test_cached_tokens_are_counted_and_billed_at_their_price(tmp_path: Path) -> None:
    with FaultServer(simulated) as server:
        text = judges(server).replace("output = 5.0", "output = 7.0, cached_input = 0.5, request = 0.001")
        run = calibrate_and_run(write_project(tmp_path, text))
    votes = [vote for row in run.judgments if row.judge == "large" for vote in row.votes]
    assert votes
    for vote in votes:
        used = vote.usage
        assert (used.calls, used.cached_tokens, used.output_tokens) == (1, 1, 1)
        billed = (5.0 * (used.input_tokens - 1) + 0.5 * 1 + 7.0 * 1) / 1e6 + 0.001
        assert vote.cost == pytest.approx(billed)


def test_concurrency_never_exceeds_its_limit(tmp_path: Path) -> None:
    """No hangs here: a server notices that a caller has left only after the caller has come back."""
    rates = {name: rate for name, rate in RATES.items() if name != "hang"}
    with FaultServer(simulated, seeded(rates, seed=6), latency=0.002) as server:
        one = judges(server, concurrency=5).partition("\n[[judges]]")[0] + "\n"
        config = write_project(tmp_path, one.replace('"XS"', '"M"'), alpha=0.35)
        asyncio.run(Project.open(config).calibrate())
    assert server.stats.requests > 200
    assert server.stats.peak == 5


# ── a provider that is dead ──────────────────────────────────────────────────────────────────────

REFUSED_KEY = Canned(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
NO_QUOTA = Canned(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
NO_MODEL = Canned(404, {"error": {"message": "no such model", "code": "model_not_found"}})
DEATHS = {
    "key": (REFUSED_KEY, "the key is missing or refused", "check the environment variable JUDGE_KEY"),
    "quota": (NO_QUOTA, "no quota left", "add credit to the account of the environment variable JUDGE_KEY"),
    "model": (NO_MODEL, "no such model or address", "check model = 'XS'"),
    "down": ("drop", f"left {PATIENCE} requests unanswered: the connection failed", "check base_url"),
    "captive": ("html_200", f"left {PATIENCE} requests unanswered: the server's answer", "check base_url"),
    "overloaded": ("error_500", f"left {PATIENCE} requests unanswered: the server kept", "wait until"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-canary-0123456789abcdef")


def cli(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("death", DEATHS)
def test_a_dead_provider_ends_calibration_and_run_with_the_fix_named(tmp_path: Path, death: str) -> None:
    fault, message, hint = DEATHS[death]
    state: dict[str, Any] = {"dead": False}
    with FaultServer(simulated, lambda body, nth: fault if state["dead"] else None) as server:
        more = {"attempts": 1, "api_key_env": "JUDGE_KEY"}
        config = write_project(tmp_path, judges(server, **more), pilot=0)
        state["dead"] = True
        code, said = cli("calibrate", "--config", config)
        assert (code, message in said, hint in said) == (3, True, True), said
        assert not (tmp_path / "certificate.json").exists()
        state["dead"] = False
        assert cli("calibrate", "--config", config)[0] == 0
        state["dead"] = True
        code, said = cli("run", "--config", config)
        assert (code, message in said, hint in said) == (3, True, True), said
        run_id = Project.open(config).run_ids()[-1]
        assert f"resume with `trustescalate run --config {config} --resume {run_id}`" in said
        assert json.loads((tmp_path / "runs" / run_id / "run.json").read_text())["status"] == "stopped"
        assert len(Project.open(config).load_run().decisions) <= PATIENCE
        state["dead"] = False
        assert cli("run", "--config", config, "--resume", run_id)[0] == 0
    assert len(Project.open(config).load_run().decisions) == 40


def test_connection_refused_is_an_exit_3_not_a_refusal_that_replaces_the_certificate(tmp_path: Path) -> None:
    with FaultServer(simulated) as server:
        config = write_project(tmp_path, judges(server, attempts=1), pilot=0)
        assert cli("calibrate", "--config", config)[0] == 0
    before = (tmp_path / "certificate.json").read_bytes()
    (tmp_path / ".trustescalate/cache.sqlite").unlink()
    code, said = cli("calibrate", "--config", config)
    assert code == 3
    assert "error: judge 'small' left 10 requests unanswered: the connection failed" in said
    assert "hint: check base_url and the network; then resume with `trustescalate calibrate" in said
    assert (tmp_path / "certificate.json").read_bytes() == before


def test_a_missing_key_is_named_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(simulated) as server:
        config = write_project(tmp_path, judges(server))
        edit(config, 'name = "large"\n', 'name = "large"\napi_key_env = "JUDGE_KEY"\n')
        monkeypatch.delenv("JUDGE_KEY")
        code, said = cli("calibrate", "--config", config)
    assert code == 3
    assert "error: M: the environment variable JUDGE_KEY is not set" in said
    assert "hint: export JUDGE_KEY=" in said
    assert server.stats.requests == 0


# ── what is no answer ──────────────────────────────────────────────────────────────────────────────


def test_a_number_that_is_none_is_a_failed_vote_and_ends_nothing(tmp_path: Path) -> None:
    choice = '{"message": {"content": "A"}, "logprobs": {"content": [{"token": "A", "logprob": NaN}]}}'
    usage = '{"prompt_tokens": NaN, "completion_tokens": -1}'
    bad = Canned(200, f'{{"choices": [{choice}], "usage": {usage}}}')
    state = {"bad": False}

    def plan(body: Body, nth: int) -> Canned | None:
        return bad if state["bad"] and len(canonical(body)) % 11 == 0 else None

    with FaultServer(simulated, plan) as server:
        config = write_project(tmp_path, judges(server))
        assert cli("calibrate", "--config", config)[0] == 0
        state["bad"] = True
        assert cli("run", "--config", config)[0] == 0
        run = Project.open(config).load_run()
        assert {vote.failure for row in run.judgments for vote in row.votes if vote.failure} == {"bad_reply"}
        asked = server.stats.requests
        state["bad"] = False
        assert cli("run", "--config", config)[0] == 0
        assert 0 < server.stats.requests - asked < asked / 4, "failed votes alone are asked again"


def test_ten_refusals_end_a_command_with_the_words_of_the_server_before_the_rest_is_asked(
    tmp_path: Path,
) -> None:
    refusal = Canned(400, {"error": {"message": "this model supports streams only"}})
    with FaultServer(simulated, lambda body, nth: refusal) as server:
        config = write_project(tmp_path, judges(server), pilot=0)
        code, words = cli("calibrate", "--config", config)
    assert code == 3
    assert "note:" in words
    assert words.count("this model supports streams only") == 3, "one note a judge, and the error"
    assert server.stats.requests <= 2 * PATIENCE + 6, "two judges"
    assert not (tmp_path / "certificate.json").exists()


def test_a_budget_near_the_price_is_spent_and_never_passed_by_much(tmp_path: Path) -> None:
    with FaultServer(simulated) as server:
        config = write_project(tmp_path, judges(server))
        assert cli("calibrate", "--config", config)[0] == 0
        assert cli("run", "--config", config)[0] == 0
        whole = Project.open(config).load_run()
        cost = sum(row.cost for row in whole.judgments)
        assert cli("run", "--no-cache", "--config", config, "--budget-usd", f"{cost * 1.02}")[0] == 0
        code, words = cli("run", "--no-cache", "--config", config, "--budget-usd", f"{cost / 2}")
    assert code == 4, words
    spent = float(words.partition("(spent ")[2].partition(")")[0])
    assert cost / 2 * 0.8 <= spent <= cost / 2 * 1.02


def test_when_the_cache_cannot_be_written_what_is_in_flight_is_recorded_and_no_more_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(simulated) as server:
        config = write_project(tmp_path, judges(server))
        assert cli("calibrate", "--config", config)[0] == 0
        before, put = server.stats.requests, Cache.put

        def full(cache: Cache, key: str, reply: Reply) -> None:
            if server.stats.requests > before + 40:
                cache._db.execute("PRAGMA query_only=ON")
            put(cache, key, reply)

        monkeypatch.setattr(Cache, "put", full)
        code, words = cli("run", "--config", config)
        assert code == 2
        assert "not a usable cache" in words
        assert server.stats.requests <= before + 40 + 2 * 6
        monkeypatch.undo()
        monkeypatch.setenv("JUDGE_KEY", "x")
        assert cli("run", "--config", config, "--resume", "latest")[0] == 0
