"""What is said before money is spent: it asks nobody, needs no key, and agrees with the statistics."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_project import LABELLED, calibrate, edit, simulated, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import rehearse
from trustescalate.analysis.sample_size import plan_labels
from trustescalate.data.dataset import load_dataset
from trustescalate.project import Project
from trustescalate.stats.planning import coverage_ceiling, label_floor, labels_needed, max_errors, power

OPENAI = """
[[judges]]
name = "cheap"
backend = "openai"
model = "m"
base_url = "http://127.0.0.1:9/v1"
api_key_env = "NO_SUCH_KEY"
price = { input = 1.0, output = 2.0 }
concurrency = 4

[[judges]]
name = "dear"
backend = "openai"
model = "gpt"
price = { input = 10.0, output = 20.0 }
"""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and no way out."""
    for name in ("NO_SUCH_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("somebody was called")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.setattr("socket.getaddrinfo", forbidden)
    monkeypatch.setattr("trustescalate.judges.registry.open_backend", forbidden)


@pytest.mark.usefixtures("offline")
def test_a_dry_run_calls_nobody_and_needs_no_key(tmp_path: Path) -> None:
    found = asyncio.run(rehearse(Project.open(write_project(tmp_path, OPENAI)), None))
    assert not (tmp_path / ".trustescalate").exists()
    assert not (tmp_path / "runs").exists()
    assert {row.judge for row in found.estimates} == {"cheap", "dear"}
    most = {row.judge: row for row in found.estimates if row.phase == "run, at most"}
    about = {row.judge: row for row in found.estimates if row.phase == "run, about"}
    for name, row in most.items():
        assert row.calls == row.items * 2 * 2
        assert about[name].calls <= row.calls
        assert about[name].usd <= row.usd
        price = (1.0, 2.0) if name == "cheap" else (10.0, 20.0)
        assert row.usd == pytest.approx(
            (row.input_tokens * price[0] + row.output_tokens * price[1]) / 1e6, rel=1e-3
        )
    assert most["cheap"].minutes == pytest.approx(most["cheap"].calls / 4 / 60)
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.usefixtures("offline")
def test_a_dry_run_foresees_what_a_real_one_asks(tmp_path: Path) -> None:
    found = asyncio.run(rehearse(Project.open(write_project(tmp_path, OPENAI)), None))
    plain = Project.open(tmp_path / "trustescalate.toml")
    roles = plain.roles(load_dataset(plain.config))
    foreseen = {row.judge: row.calls for row in found.estimates if row.phase == "calibrate"}
    rows = len(roles["certify"]) + len(roles["pilot"])
    assert foreseen == {"cheap": rows * 4, "dear": rows * 4}


def test_samples_are_foreseen(tmp_path: Path) -> None:
    judge = simulated("small", "XS", channel='"samples"')
    config = write_project(tmp_path, judge, ensemble="samples = 5")
    (first, *_) = asyncio.run(rehearse(Project.open(config), None)).estimates
    assert first.calls == first.items * 2 * 2 * 5


def test_a_dry_run_of_a_file(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    found = asyncio.run(rehearse(Project.open(config), tmp_path / "items.jsonl"))
    assert found.items == 130
    about = [row for row in found.estimates if row.phase == "run, about"]
    assert about[0].items == 130
    assert "run, about" in "\n".join(found.lines())


# ── check ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("offline")
def test_check_warns_of_what_will_go_wrong(tmp_path: Path) -> None:
    config = write_project(tmp_path, OPENAI, labelled=20, unlabelled=0, alpha=0.05)
    found = inspect_project(Project.open(config))
    said = "\n".join(found.warnings)
    assert "rows to certify with; fewer than 34 can certify nothing" in said
    assert "judge cheap: the variable NO_SUCH_KEY is not set" in said
    assert "judge dear: the variable OPENAI_API_KEY is not set" in said
    assert "every item is labelled, so `run` needs --items" in said


def test_check_knows_its_numbers(tmp_path: Path) -> None:
    facts = dict(inspect_project(Project.open(write_project(tmp_path))).facts)
    assert facts["items"] == f"130, of which {LABELLED} are labelled"
    assert facts["votes an item"] == "up to 4 a judge"
    certificate = calibrate(tmp_path / "trustescalate.toml")
    assert f"certify {len(certificate.roles['certify'])}" in facts["roles"]
    assert f"pilot {len(certificate.roles['pilot'])}" in facts["roles"]


def test_check_warns_of_prompts_that_cannot_be_filled(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    edit(config, "shots = 2", "shots = 2\n[roles]\nexemplars = 1")
    found = inspect_project(Project.open(config))
    assert any("a prompt of 2 examples needs 2 usable exemplar rows" in line for line in found.warnings)


def test_check_names_items_that_share_a_prompt(tmp_path: Path) -> None:
    def same(items: list[dict[str, Any]], notes: object) -> None:
        for item in items[:2]:
            item["prompt"] = "the same"
        items[0]["group"], items[1]["group"] = "one", "two"

    config = write_project(tmp_path, change=same)
    found = inspect_project(Project.open(config))
    assert any("share a prompt and no group" in line for line in found.warnings)
    edit(config, "[gate]", '[data]\ngroup = "item"\n[gate]')
    assert not any("share a prompt" in line for line in inspect_project(Project.open(config)).warnings)


# ── plan ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("alpha", "delta", "risk", "share"), [(0.15, 0.1, 0.08, 0.7), (0.05, 0.05, 0.01, 1.0)]
)
def test_a_plan_is_what_the_statistics_say(alpha: float, delta: float, risk: float, share: float) -> None:
    plan = plan_labels(alpha, delta, risk, share, 0.2)
    needed = labels_needed(risk, alpha, delta)
    assert needed is not None
    assert plan.needed is not None
    assert (plan.needed - 1) * share < needed <= plan.needed * share
    assert plan.floor == label_floor(alpha, delta)
    assert plan.ceiling == coverage_ceiling(0.2, alpha)
    released = np.array([int(rows * share) for rows in plan.rows])
    assert list(plan.allowed) == max_errors(released, alpha, delta).tolist()
    assert list(plan.power) == power(released, risk, alpha, delta).tolist()


def test_a_plan_that_no_number_of_labels_can_meet() -> None:
    plan = plan_labels(0.1, 0.1, 0.1, 0.5, None)
    assert plan.needed is None
    assert "no number of labels" in "\n".join(plan.lines())


@pytest.mark.parametrize(
    "guess", [{"alpha": 0.0}, {"delta": 1.0}, {"disagreement": -0.1}, {"coverage": 0.0}, {"overall": 2.0}]
)
def test_guesses_that_are_no_shares_are_refused(guess: dict[str, float]) -> None:
    given: dict[str, Any] = {
        "alpha": 0.1,
        "delta": 0.1,
        "disagreement": 0.05,
        "coverage": 0.5,
        "overall": None,
    }
    with pytest.raises(ValueError, match=r"must|shares"):
        plan_labels(**{**given, **guess})
