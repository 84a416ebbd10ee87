"""--batch through LiteLLM's providers: the decisions of live calls at half the price, whatever is lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import write_project
from tests.support.provider_batches import ProviderBatchServer
from trustescalate.errors import ProviderError
from trustescalate.judges import batch_api
from trustescalate.project import Project
from trustescalate.records import Certificate, Run

SENTINEL = "sk-sentinel-0123456789abcdef"
KEY_HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
ROOT = Path(__file__).parents[3]
each = pytest.mark.parametrize("provider", ["anthropic", "gemini"])


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "FIRST_POLL", 0.01)
    monkeypatch.setenv("JUDGE_KEY", SENTINEL)


def project(folder: Path, server: ProviderBatchServer, provider: str) -> Path:
    fields = {
        **{"name": "judge", "backend": "litellm", "model": f"{provider}/M"},
        **{"base_url": server.root, "api_key_env": "JUDGE_KEY"},
    }
    judge = "[[judges]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    judge += "price = { input = 1.0, output = 2.0 }\n"
    settings = {"guarantee": 'path = "common"\nprocedure = "bonferroni"', "ensemble": "samples = 1"}
    return write_project(folder, judge, labelled=30, unlabelled=8, alpha=0.85, pilot=0, **settings)


def calibrated(config: Path, *, batch: bool = True, **given: Any) -> Certificate:
    return asyncio.run(Project.open(config).calibrate(batch=batch, **given))


def ran(config: Path, *, batch: bool = True) -> Run:
    return asyncio.run(Project.open(config).run(batch=batch))


def under_way(config: Path) -> list[str]:
    return sorted(path.name for path in (config.parent / ".trustescalate" / "batches").glob("*"))


@each
def test_decisions_are_those_of_live_calls_at_half_the_price(provider: str, tmp_path: Path) -> None:
    with ProviderBatchServer() as server:
        live, batched = (project(tmp_path / name, server, provider) for name in ("live", "batched"))
        one = calibrated(live, batch=False)
        asked = server.live
        other = calibrated(batched)
        assert server.live == asked + 1, "one question is asked live"
        assert one.thresholds == other.thresholds
        before, after = one.diagnostics[0], other.diagnostics[0]
        assert (after.votes, after.agreements, after.failures) == (before.votes, before.agreements, {})
        assert after.cost / before.cost == pytest.approx(0.5, abs=0.02)
        whole, result = ran(live, batch=False), ran(batched)
        headers = [h for h in server.headers if h.get(KEY_HEADERS[provider])]
    assert [(d.item_id, d.label) for d in result.decisions] == [(d.item_id, d.label) for d in whole.decisions]
    assert {row.served for row in result.judgments} == {("M-served",)}
    assert max(server.answered.values()) == 1
    assert under_way(batched) == []
    assert all(h[KEY_HEADERS[provider]] == SENTINEL for h in headers)
    kept = [path for path in (tmp_path / "batched").rglob("*") if path.is_file()]
    assert not any(SENTINEL.encode() in path.read_bytes() for path in kept)


@each
def test_what_is_left_out_or_fails_for_a_moment_goes_into_the_next_batch(
    provider: str, tmp_path: Path
) -> None:
    with ProviderBatchServer() as server:
        plain = calibrated(project(tmp_path / "plain", server, provider), batch=False)
        server.ends, server.errors = ["expired", "cancelled"], [529, 429]
        certificate = calibrated(project(tmp_path / "a", server, provider))
        assert len(server.batches) == 3
        sizes = [len(batch.requests) for batch in server.batches.values()]
        assert sizes[0] > sizes[1] > sizes[2] > 0
        server.errors = [400]
        refused = calibrated(project(tmp_path / "b", server, provider))
    assert certificate.diagnostics[0].failures == {}
    assert certificate.thresholds == plain.thresholds
    assert sum(refused.diagnostics[0].failures.values()) == 1, "a refused request is a failed vote"


@each
@pytest.mark.parametrize("others", [0, 5])
def test_a_lost_answer_makes_no_second_batch(provider: str, others: int, tmp_path: Path) -> None:
    with ProviderBatchServer() as server:
        server.lose, server.others, server.page = True, others, 2
        certificate = calibrated(project(tmp_path, server, provider))
        assert len(server.batches) == 1
    assert certificate.diagnostics[0].failures == {}


COMMAND = """
import asyncio, sys
from pathlib import Path
from trustescalate.judges import batch_api
batch_api.FIRST_POLL = 0.2
from trustescalate.project import Project
asyncio.run(Project.open(Path(sys.argv[1])).calibrate(batch=True))
"""


@each
@pytest.mark.parametrize("id_is_kept", [True, False])
def test_a_killed_command_pays_nothing_twice(provider: str, id_is_kept: bool, tmp_path: Path) -> None:
    with ProviderBatchServer() as server:
        config = project(tmp_path, server, provider)
        server.pending = True
        command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(config)], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        deadline = time.monotonic() + 200
        while not (server.batches and any('"batch_id":"' in text for text in _tickets(config))):
            assert time.monotonic() < deadline
            assert command.poll() is None
            time.sleep(0.05)
        command.send_signal(signal.SIGKILL)
        command.wait()
        if not id_is_kept:
            for path in (config.parent / ".trustescalate" / "batches").glob("*.json"):
                ticket = json.loads(path.read_text())
                path.write_text(json.dumps({**ticket, "batch_id": None}))
        server.pending = False
        certificate = calibrated(config)
        assert len(server.batches) == 1
    assert certificate.diagnostics[0].failures == {}
    assert max(server.answered.values()) == 1
    assert under_way(config) == []


def _tickets(config: Path) -> list[str]:
    return [path.read_text() for path in (config.parent / ".trustescalate" / "batches").glob("*.json")]


def test_a_batch_that_fails_as_a_whole_says_so(tmp_path: Path) -> None:
    with ProviderBatchServer() as server:
        server.ends = ["failed"]
        with pytest.raises(ProviderError, match="the batch was refused"):
            calibrated(project(tmp_path, server, "gemini"))
