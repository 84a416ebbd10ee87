"""Calibrate and run with judges of two addresses: what a dead one costs, and what a different one stops."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import cli
from tests.support.endpoints import judges, simulated
from tests.support.projects import calibrate, run, write_project
from tests.support.servers import Body, Canned, FaultServer, completion
from trustescalate.cascade.runner import PATIENCE
from trustescalate.errors import ProviderError, UsageError
from trustescalate.project import Project
from trustescalate.records import Run

FAST = {"annotators": 1, "shots": 0, "alpha": 0.4, "labelled": 45, "unlabelled": 30}


def project(folder: Path, server: FaultServer, *more: str, **settings: Any) -> Path:
    """A project whose judges answer at a server and at further addresses."""
    text = judges(server, attempts=1, **settings)
    listed = json.dumps([server.url, *more])
    fast = {name: value for name, value in FAST.items() if name in ("alpha", "labelled", "unlabelled")}
    config = write_project(folder, text.replace(f'"{server.url}"', listed), **fast)
    fewer = config.read_text().replace("annotators = 2\nshots = 2", "annotators = 1\nshots = 0")
    config.write_text(fewer)
    return config


def verdicts(made: Run) -> list[tuple[Any, ...]]:
    return [(each.item_id, each.label, each.judge, each.score) for each in made.decisions]


def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def served(model: str) -> Callable[[Body, int], Canned]:
    return lambda body, nth: Canned(200, {**completion(body, simulated(body)), "model": model})


@pytest.mark.slow
def test_a_dead_address_among_two_costs_no_item(tmp_path: Path) -> None:
    with FaultServer(simulated) as server:
        both = project(tmp_path / "both", server, dead_url())
        alone = project(tmp_path / "alone", server)
        certificates = [calibrate(config) for config in (both, alone)]
        runs = [run(config) for config in (both, alone)]
    assert [each.status for each in certificates] == ["certified"] * 2
    assert verdicts(runs[0]) == verdicts(runs[1])
    assert {vote.failure for row in runs[0].judgments for vote in row.votes} == {None}


@pytest.mark.slow
def test_an_address_killed_in_a_run_costs_no_item(tmp_path: Path) -> None:
    with FaultServer(simulated, latency=0.01) as server:
        second = FaultServer(simulated, latency=0.01)
        second.__enter__()
        config = project(tmp_path, server, second.url)
        calibrate(config)
        before = second.stats.requests

        def kill() -> None:
            while second.stats.requests < before + 5:
                pass
            second.__exit__()

        killer = threading.Thread(target=kill)
        killer.start()
        made = run(config)
        killer.join(10)
    assert made.header.status == "complete"
    assert len(made.decisions) == FAST["unlabelled"]
    assert {vote.failure for row in made.judgments for vote in row.votes} == {None}


def test_two_dead_addresses_end_the_command_with_both_named(tmp_path: Path) -> None:
    with FaultServer(simulated) as server:
        config = project(tmp_path, server, dead_url())
        urls = json.loads(config.read_text().partition("base_url = ")[2].partition("\n")[0])
    with pytest.raises(ProviderError, match=f"left {PATIENCE} requests unanswered") as error:
        calibrate(config)
    assert all(url in error.value.message for url in urls)


def test_addresses_of_two_models_stop_the_command(tmp_path: Path) -> None:
    with FaultServer(plan=served("m-1")) as one, FaultServer(plan=served("m-2")) as other:
        config = project(tmp_path, one, other.url)
        with pytest.raises(ProviderError, match=r"answers as 'm-\d', and http.* as 'm-\d'"):
            calibrate(config)
        ping = cli("check", "--ping", "--config", config)
    assert ping.exit_code == 3
    assert f"small at {other.url}" in ping.stdout
    assert "no answer: answers as 'm-" in ping.stdout
    assert "must serve one model" in ping.stdout


def test_a_ping_names_the_dead_address(tmp_path: Path) -> None:
    dead = dead_url()
    with FaultServer(simulated) as server:
        ping = cli("check", "--ping", "--config", project(tmp_path, server, dead))
        alive = server.url
    assert ping.exit_code == 3
    assert f"small at {dead}: no answer: " in ping.stdout
    assert f"small at {alive}: no answer" not in ping.stdout


def test_a_judge_of_two_addresses_has_no_batch_api(tmp_path: Path) -> None:
    with FaultServer(simulated) as server:
        opened = Project.open(project(tmp_path, server, dead_url()))
        with pytest.raises(UsageError, match="at one address"):
            asyncio.run(opened.calibrate(batch=True))
