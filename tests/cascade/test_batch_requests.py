"""--batch: the same decisions at half the price, whatever is lost, killed, refused or late on the way."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.batch_server import BatchServer
from tests.support.command_line import Forks, cli
from tests.support.projects import simulated, write_project
from tests.support.servers import Body
from trustescalate.config import BudgetTable
from trustescalate.errors import BudgetReached, ProviderError, UsageError
from trustescalate.judges import batch_api
from trustescalate.project import Project
from trustescalate.records import Certificate, Run

pytestmark = pytest.mark.slow
CLAIM = '[guarantee]\nclaim = "batch"\nlabel_budget = 40'
PRICE = "{ input = 1.0, output = 2.0 }"


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "FIRST_POLL", 0.01)


def project(folder: Path, server: BatchServer, **settings: Any) -> Path:
    judges = "".join(
        f'[[judges]]\nname = "{name}"\nbackend = "openai"\nmodel = "{name}-model"\n'
        f'base_url = "{server.url}"\nprice = {PRICE}\n'
        for name in ("small", "large")
    )
    more = {"guarantee": 'path = "common"\nprocedure = "bonferroni"'}  # which needs no pilot to start well
    given = {"labelled": 40, "unlabelled": 12, "alpha": 0.85, "pilot": 0, **more, **settings}
    return write_project(folder, judges, **given)


def calibrated(config: Path, **given: Any) -> Certificate:
    return asyncio.run(Project.open(config).calibrate(batch=True, **given))


def ran(config: Path, **given: Any) -> Run:
    return asyncio.run(Project.open(config).run(batch=True, **given))


def under_way(config: Path) -> list[str]:
    return sorted(path.name for path in (config.parent / ".trustescalate" / "batches").glob("*"))


def test_decisions_are_those_of_a_live_run_at_half_the_price(tmp_path: Path) -> None:
    with BatchServer() as server:
        live, batched = project(tmp_path / "live", server), project(tmp_path / "batched", server)
        one = asyncio.run(Project.open(live).calibrate())
        asked = server.counts.live
        other = calibrated(batched)
        assert server.counts.live == asked + 2, "one question to each judge is asked live"
        assert (server.counts.uploads, server.counts.batches) == (2, 2)
        assert other.thresholds == one.thresholds
        assert [test.errors for test in other.tests] == [test.errors for test in one.tests]
        for before, after in zip(one.diagnostics, other.diagnostics, strict=True):
            assert (after.votes, after.agreements) == (before.votes, before.agreements)
            assert after.cost / before.cost == pytest.approx(0.5, abs=0.01)
        whole, result = asyncio.run(Project.open(live).run()), ran(batched)
    assert [d.label for d in result.decisions] == [d.label for d in whole.decisions]
    assert [d.judge for d in result.decisions] == [d.judge for d in whole.decisions]
    assert all(len(row.votes) == row.planned for row in result.judgments), "a batch pays whole ensembles"
    assert max(server.counts.requests.values()) == 1
    assert under_way(batched) == []


def test_an_uncertified_run_in_batches_has_the_verdicts_of_a_live_one(tmp_path: Path) -> None:
    with BatchServer() as server:
        live, batched = project(tmp_path / "live", server), project(tmp_path / "batched", server)
        given = {"uncertified": True, "thresholds": {"small": 0.7}}
        whole, result = asyncio.run(Project.open(live).run(**given)), ran(batched, **given)
    assert [whole.verdict(row) for row in whole.decisions] == [
        result.verdict(row) for row in result.decisions
    ]
    assert {row.label for row in result.decisions} == {None}
    assert server.counts.batches == 2
    assert under_way(batched) == []


def test_each_tier_is_a_batch_of_what_is_left(tmp_path: Path) -> None:
    with BatchServer() as server:
        config = project(tmp_path, server)
        calibrated(config)
        before = server.counts.batches
        result = ran(config)
    small = {row.item_id for row in result.judgments if row.judge == "small"}
    large = {row.item_id for row in result.judgments if row.judge == "large"}
    assert len(small) == len(result.items)
    accepted = {d.item_id for d in result.decisions if d.judge == "small"}
    assert large <= small - accepted
    assert server.counts.batches - before == 1 + bool(large)


def test_only_judges_with_a_batch_api_wait_for_one(tmp_path: Path) -> None:
    with BatchServer() as server:
        table = f'[[judges]]\nname = "api"\nbackend = "openai"\nmodel = "m"\nbase_url = "{server.url}"\n'
        config = write_project(tmp_path, simulated("small", "XS") + table, alpha=0.6, pilot=0)
        assert calibrated(config).diagnostics[0].failures == {}
        assert server.counts.batches == 1
        ran(config)
    config = write_project(tmp_path / "none", simulated("small", "XS"))
    with pytest.raises(UsageError, match="none with a Batch API"):
        calibrated(config)


def test_answers_without_log_probabilities_take_a_second_batch_of_draws(tmp_path: Path) -> None:
    def refuses(body: Body) -> tuple[int, Body] | None:
        if body.get("logprobs"):
            return 400, {"error": {"message": "logprobs are not supported", "param": "logprobs"}}
        return None

    with BatchServer(refuses=refuses) as server:
        certificate = calibrated(project(tmp_path, server))
    assert [seal.channel for seal in certificate.judges] == ["samples", "samples"]
    assert all(row.failures == {} for row in certificate.diagnostics)


def test_what_an_expired_batch_leaves_goes_into_the_next_or_is_asked_live(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.ends = ["expired", "cancelled", "completed", "completed"]
        first = calibrated(project(tmp_path / "a", server))
        assert (server.counts.batches, server.counts.live) == (4, 2)
        server.ends, server.counts.live = ["expired"] * 4, 0
        second = calibrated(project(tmp_path / "b", server), finish_live=True)
        assert server.counts.batches == 8, "a further batch before the live API"
        assert server.counts.live > 50
    assert first.tests[-1].errors == second.tests[-1].errors
    assert all(row.failures == {} for row in (*first.diagnostics, *second.diagnostics))
    assert second.diagnostics[0].cost > 1.15 * first.diagnostics[0].cost, "live answers cost the full price"


def test_three_batches_that_end_too_early_are_enough(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.ends = ["expired"] * 40
        config = project(tmp_path, server)
        with pytest.raises(ProviderError, match="unanswered after 3 batches") as caught:
            calibrated(config)
        assert "--finish-live" in caught.value.hint
        assert calibrated(config, finish_live=True).diagnostics[0].failures == {}


def test_a_batch_that_is_refused_as_a_whole_says_why_and_can_be_sent_again(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.ends = ["failed", "failed"]
        config = project(tmp_path, server)
        with pytest.raises(ProviderError, match="the batch was refused: The model `m` does not exist"):
            calibrated(config)
        assert under_way(config) == []
        assert calibrated(config).status == "certified"


def test_a_request_that_is_refused_is_a_failed_vote_with_its_reason(tmp_path: Path) -> None:
    def refuses(body: Body) -> tuple[int, Body] | None:
        size = len(body["messages"][-1]["content"]) % 7
        if size == 1:
            return 400, {"error": {"message": "flagged by the content filter"}}
        return (400, {"error": {"message": "maximum context length exceeded"}}) if size == 2 else None

    with BatchServer(refuses=refuses) as server:
        certificate = calibrated(project(tmp_path, server))
    failures = certificate.diagnostics[0].failures
    assert set(failures) == {"refused", "bad_request"}
    assert max(server.counts.requests.values()) == 1, "nobody asks that again"


def test_a_parameter_that_is_not_taken_is_learnt_from_the_live_question(tmp_path: Path) -> None:
    def refuses(body: Body) -> tuple[int, Body] | None:
        if "max_tokens" in body:
            return 400, {
                "error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}
            }
        return None

    with BatchServer(refuses=refuses) as server:
        assert all(row.failures == {} for row in calibrated(project(tmp_path, server)).diagnostics)
    manifests = [content for name, content in server.files.values() if name.endswith(".jsonl")]
    sent = [row for content in manifests for row in content.splitlines()]
    assert sent
    assert all(b"max_completion_tokens" in row for row in sent)


@pytest.mark.parametrize("lost", ["file", "batch", "poll", "content"])
def test_an_answer_that_is_lost_makes_no_second_file_and_no_second_batch(tmp_path: Path, lost: str) -> None:
    with BatchServer() as server:
        server.lose.add(lost)
        calibrated(project(tmp_path, server))
        assert (server.counts.uploads, server.counts.batches) == (2, 2)


def test_many_requests_are_divided_into_files_of_a_size_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api.BatchClient, "most_requests", 50)
    with BatchServer() as server:
        assert all(row.failures == {} for row in calibrated(project(tmp_path, server)).diagnostics)
        sizes = [content.count(b"\n") for name, content in server.files.values() if name.endswith(".jsonl")]
        assert len(sizes) > 4
        assert max(sizes) == 50


def test_no_more_batches_are_in_flight_than_the_judge_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api.BatchClient, "most_requests", 20)
    with BatchServer(polls=3) as server:
        config = project(tmp_path, server)
        text = config.read_text().replace("price = {", "batches_in_flight = 3\nprice = {")
        config.write_text(text)
        certificate = calibrated(config)
    assert server.counts.batches > 12
    assert 4 <= server.counts.peak <= 6, "three of each of two judges"
    assert all(row.failures == {} for row in certificate.diagnostics)


def test_a_batch_that_finds_the_queue_full_waits_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api.BatchClient, "most_requests", 50)
    with BatchServer(polls=2, most_open=2) as server:
        config = project(tmp_path, server)
        config.write_text(config.read_text().partition('[[judges]]\nname = "large"')[0])
        certificate = calibrated(config)
    refused = [batch for batch in server.batches.values() if batch.ends == "failed"]
    assert refused
    assert len({batch.file_id for batch in server.batches.values()}) == server.counts.uploads
    assert certificate.diagnostics[0].failures == {}
    assert under_way(config) == []


def test_a_line_that_fails_for_a_moment_goes_into_the_next_batch(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def refuses(body: Body) -> tuple[int, Body] | None:
        text = json.dumps(body)
        seen[text] += 1
        fails = len(text) % 4 == 1 and seen[text] == 1 and len(seen) > 2
        return (503, {"error": {"message": "overloaded"}}) if fails else None

    with BatchServer(refuses=refuses) as server:
        certificate = calibrated(project(tmp_path, server))
    assert all(row.failures == {} for row in certificate.diagnostics)
    assert max(server.counts.requests.values()) == 2
    assert sum(count == 2 for count in server.counts.requests.values()) > 10
    assert server.counts.live <= 4


def test_later_tiers_go_into_batches_with_finish_live_too(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.ends = ["expired"]
        given = {"uncertified": True, "thresholds": {"small": 0.7}}
        made = ran(project(tmp_path, server), finish_live=True, **given)
    assert any(row.judge == "large" for row in made.judgments)
    assert (server.counts.live, server.counts.batches) == (2, 3)


def test_a_batch_is_found_again_on_a_later_page_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "PAGE", {"limit": "1"})
    with BatchServer() as server:
        calibrated(project(tmp_path / "one", server))
        server.lose |= {"batch", "file"}
        calibrated(project(tmp_path / "two", server))
        assert (server.counts.uploads, server.counts.batches) == (4, 4)


def test_a_budget_is_held_before_anything_is_sent(tmp_path: Path) -> None:
    with BatchServer() as server:
        config = project(tmp_path, server)
        with pytest.raises(BudgetReached):
            calibrated(config, budget=BudgetTable(calls=50))
        assert server.counts.uploads == 0
        assert calibrated(config, budget=BudgetTable(calls=2000, usd=5.0)).n > 0


def test_the_key_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_KEY", "sk-batch-secret")
    with BatchServer() as server:
        server.hold.add("poll")
        config = project(tmp_path, server)
        text = config.read_text().replace(f"price = {PRICE}", f'api_key_env = "BATCH_KEY"\nprice = {PRICE}')
        config.write_text(text)
        server.hold.clear()
        calibrated(config)
        assert {headers["authorization"] for headers in server.counts.headers} == {"Bearer sk-batch-secret"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"sk-batch" in path.read_bytes() for path in files)
    assert not any(b"sk-batch" in content for _, content in server.files.values())


def test_what_cannot_be_combined_is_refused(tmp_path: Path) -> None:
    with BatchServer() as server:
        config = project(tmp_path, server)
        with pytest.raises(UsageError, match="needs the cache"):
            ran(config, use_cache=False)
        config.write_text(config.read_text().replace("[guarantee]", CLAIM))
        with pytest.raises(UsageError, match="items of each tier"):
            calibrated(config)
    assert cli("run", "--finish-live", "--config", config).exit_code == 2


# ── killed ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks") / "said.txt") as started:
        yield started


@pytest.mark.parametrize("moment", ["file", "batch", "poll", "content"])
def test_a_kill_at_any_step_loses_no_batch_and_makes_none_twice(
    tmp_path: Path, forks: Forks, moment: str
) -> None:
    with BatchServer() as server:
        config = project(tmp_path / "one", server)
        asyncio.run(Project.open(config).calibrate())
        again = tmp_path / "two" / config.name
        shutil.copytree(config.parent, again.parent)
        whole = asyncio.run(Project.open(config).run(batch=True))
        before = (server.counts.uploads, server.counts.batches)
        server.hold.add(moment)
        process = forks.start("run", "--batch", "--config", again)
        seen = {
            "file": lambda: server.counts.uploads > before[0],
            "batch": lambda: server.counts.batches > before[1],
            "poll": lambda: server.counts.batches > before[1] and bool(_ticket(again).get("batch_id")),
            "content": lambda: any(batch.output for batch in list(server.batches.values())[before[1] :]),
        }[moment]
        end = time.monotonic() + 30
        while not seen():
            assert time.monotonic() < end
            time.sleep(0.005)
        time.sleep(0.05)
        os.kill(process, signal.SIGKILL)
        assert forks.end()[0] == -signal.SIGKILL
        server.hold.clear()
        code, said = forks("run", "--batch", "--resume", "latest", "--config", again)
        assert code == 0, said
        resumed = Project.open(again).load_run()
        made = (server.counts.uploads - before[0], server.counts.batches - before[1])
    tiers = 1 + any(row.judge == "large" for row in whole.judgments)
    assert made == (tiers, tiers)
    assert resumed.decisions == whole.decisions
    assert resumed.judgments == whole.judgments


def test_the_batches_in_progress_are_shown_from_another_terminal(tmp_path: Path, forks: Forks) -> None:
    with BatchServer(polls=10**6) as server:
        config = project(tmp_path, server)
        assert "no batch is in progress" in cli("check", "--batches", "--config", config).stdout
        process = forks.start("calibrate", "--batch", "--config", config)
        end = time.monotonic() + 30
        while server.counts.batches < 2 or server.counts.polls < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        shown = cli("check", "--batches", "--config", config)
        rows = json.loads(cli("check", "--batches", "--json", "--config", config).stdout)["batches"]
        os.kill(process, signal.SIGKILL)
        forks.end()
        later = json.loads(cli("check", "--batches", "--json", "--config", config).stdout)["batches"]
        for batch in list(server.batches.values()):
            batch.polls = 0
        certificate = calibrated(config)
        assert server.counts.batches == 2
    assert shown.exit_code == 0
    assert "in_progress" in shown.stdout
    assert {row["judge"] for row in rows} == {"small", "large"}
    for row in rows:
        assert row["state"] == "in_progress"
        assert row["answered"] == row["requests"] // 3 > 0
        assert row["begun"].startswith("20")
    assert later == rows, "they are there after the command that waited"
    assert certificate.status == "certified"
    assert under_way(config) == []


def _ticket(config: Path) -> dict[str, Any]:
    for path in (config.parent / ".trustescalate" / "batches").glob("*.json"):
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return {}
