"""Checks and dry runs make no model calls, need no key, and agree with what a run asks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import LABELLED, calibrate, edit, simulated, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_calibration, estimate_run
from trustescalate.calibration.prepare import select_rows
from trustescalate.config import BudgetTable, load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import ConfigError, DataError, UsageError
from trustescalate.project import Project

pytestmark = pytest.mark.slow
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
    found = asyncio.run(estimate_run(Project.open(write_project(tmp_path, OPENAI)).config))
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
    found = asyncio.run(estimate_calibration(Project.open(write_project(tmp_path, OPENAI)).config))
    plain = Project.open(tmp_path / "trustescalate.toml")
    roles = select_rows(plain.config, load_dataset(plain.config)).roles
    foreseen = {row.judge: row.calls for row in found.estimates if row.phase == "calibrate"}
    rows = len(roles["certify"]) + len(roles["pilot"])
    assert foreseen == {"cheap": rows * 4, "dear": rows * 4}


@pytest.mark.usefixtures("offline")
def test_a_dry_run_honours_the_budget(tmp_path: Path) -> None:
    project = Project.open(write_project(tmp_path, OPENAI))
    free = asyncio.run(estimate_run(project.config))
    most, about = free.totals
    assert (most.phase, most.covered, most.items) == ("run, at most", most.items, 40)
    assert about.usd <= most.usd
    assert "budget" not in "\n".join(free.lines())
    limits = BudgetTable(usd=most.usd / 2, calls=most.calls // 4)
    tight = asyncio.run(estimate_run(project.config, budget=limits))
    assert tight.estimates == free.estimates
    assert tight.totals[0].covered == 10
    assert "calls covers about 10 of 40 items" in "\n".join(tight.lines())
    wide = asyncio.run(estimate_calibration(project.config, BudgetTable(usd=1e6)))
    assert wide.lines()[-1].endswith("the budget of 1e+06 USD covers it")
    priceless = write_project(tmp_path / "free", OPENAI.replace("price =", "extra ="))
    with pytest.raises(ConfigError, match="needs the price of 'cheap'"):
        asyncio.run(estimate_run(Project.open(priceless).config, budget=BudgetTable(usd=1.0)))


@pytest.mark.usefixtures("offline")
def test_a_dry_run_of_a_batch_takes_its_discount_and_its_day(tmp_path: Path) -> None:
    project = Project.open(write_project(tmp_path, f"{OPENAI}\nbatch_discount = 0.25"))
    for estimate in (estimate_calibration, estimate_run):
        live, batch = asyncio.run(estimate(project.config)), asyncio.run(estimate(project.config, batch=True))
        for one, other in zip(live.estimates, batch.estimates, strict=True):
            share = 0.5 if one.judge == "cheap" else 0.25
            assert other.usd == pytest.approx(share * one.usd)
            assert other.minutes == (24 * 60 if one.calls else 0)
        assert "answers of a Batch API within a day" in batch.lines()[0]
    with pytest.raises(UsageError, match="none with a Batch API"):
        asyncio.run(estimate_run(Project.open(write_project(tmp_path / "sim")).config, batch=True))


def test_samples_are_foreseen(tmp_path: Path) -> None:
    judge = simulated("small", "XS", channel='"samples"')
    config = write_project(tmp_path, judge, ensemble="samples = 5")
    (first, *_) = asyncio.run(estimate_run(Project.open(config).config)).estimates
    assert first.calls == first.items * 2 * 2 * 5


def test_a_dry_run_of_a_file(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    found = asyncio.run(estimate_run(Project.open(config).config, tmp_path / "items.jsonl"))
    assert found.items == 130
    about = [row for row in found.estimates if row.phase == "run, about"]
    assert about[0].items == 130
    assert "run, about" in "\n".join(found.lines())


# ── check ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("offline")
def test_check_warns_of_what_will_go_wrong(tmp_path: Path) -> None:
    config = write_project(tmp_path, OPENAI, labelled=20, unlabelled=0, alpha=0.05)
    found = inspect_project(Project.open(config).config)
    said = "\n".join(found.warnings)
    assert "certification rows; fewer than 34 can certify nothing" in said
    assert "judge cheap: the variable NO_SUCH_KEY is not set" in said
    assert "judge dear: the variable OPENAI_API_KEY is not set" in said
    assert "every item is labelled, so `run` needs --items" in said


def test_check_knows_its_numbers(tmp_path: Path) -> None:
    facts = dict(inspect_project(Project.open(write_project(tmp_path)).config).facts)
    assert facts["items"] == f"130, of which {LABELLED} are labelled"
    assert facts["votes per item"] == "up to 4 per judge"
    certificate = calibrate(tmp_path / "trustescalate.toml")
    assert f"certify {len(certificate.roles['certify'])}" in facts["roles"]
    assert f"pilot {len(certificate.roles['pilot'])}" in facts["roles"]


def test_check_warns_of_prompts_that_cannot_be_filled(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    edit(config, "shots = 2", "shots = 2\n[roles]\nexemplars = 1")
    found = inspect_project(Project.open(config).config)
    assert any("a prompt of 2 examples needs 2 usable exemplar rows" in line for line in found.warnings)


def test_check_names_items_that_share_a_prompt(tmp_path: Path) -> None:
    def same(items: list[dict[str, Any]], notes: object) -> None:
        for item in items[:2]:
            item["prompt"] = "the same"
        items[0]["group"], items[1]["group"] = "one", "two"

    config = write_project(tmp_path, change=same)
    found = inspect_project(Project.open(config).config)
    assert any("share a prompt and no group" in line for line in found.warnings)
    edit(config, "[gate]", '[data]\ncluster = "item"\n[gate]')
    assert not any("share a prompt" in line for line in inspect_project(Project.open(config).config).warnings)


# ── what calibrate would read ────────────────────────────────────────────────────────────────────

REPLAY = """
[[judges]]
name = "small"
backend = "replay"
votes = "votes.jsonl"
"""


def recorded(folder: Path, *votes: str, label: str = "A", items: int = 3) -> Path:
    """A project with recorded votes: the rows of votes.jsonl by label, for the items q0, q1, …"""
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"id": f"q{i}", "prompt": f"p{i}", "responses": ["x", "y"]}) for i in range(items)]
    notes = [json.dumps({"item_id": f"q{i}", "annotator": "ann", "label": label}) for i in range(items)]
    head = {"judge": "small", "fingerprint": "f", "planned": 1}
    cast = [[{"exemplar_set": 0, "order": "", "probs": {vote: 1.0}}] for vote in votes]
    recorded_rows = [json.dumps({"item_id": f"q{i}", **head, "votes": row}) for i, row in enumerate(cast)]
    for name, lines in (("items", rows), ("annotations", notes if label else []), ("votes", recorded_rows)):
        (folder / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    text = f"version = 1\n[ensemble]\nannotators = 1\nshots = 0\nswap = false\n{REPLAY}"
    (folder / "trustescalate.toml").write_text(text, "utf-8")
    return folder / "trustescalate.toml"


def test_the_problems_of_all_files_come_at_once_and_few_of_each(tmp_path: Path) -> None:
    config = load_config(recorded(tmp_path, *["Q"] * 3000, label="Z", items=3000))
    with pytest.raises(DataError, match="6,000 problems") as caught:
        inspect_project(config)
    assert len(caught.value.problems) == 6000
    assert caught.value.message.count("… and 2,995 more like this") == 2
    assert len(caught.value.message.splitlines()) < 20


def test_votes_that_are_not_recorded_are_said_with_their_number(tmp_path: Path) -> None:
    warnings = inspect_project(load_config(recorded(tmp_path, "A", "B"))).warnings
    assert "judge small: no votes are recorded on 1 of 3 items (q2): they count as failed" in warnings


def test_a_prompt_file_is_read(tmp_path: Path) -> None:
    config = recorded(tmp_path, "A", "B", "A")
    edit(config, 'backend = "replay"\nvotes = "votes.jsonl"', 'backend = "mock"\nprompt = "none.txt"')
    with pytest.raises(ConfigError, match=r"none\.txt"):
        inspect_project(load_config(config))


def test_without_labels_the_command_that_gets_them_is_said(tmp_path: Path) -> None:
    config = load_config(recorded(tmp_path / "set", "A", label=""))
    (first, *_) = inspect_project(config).warnings
    assert f"label queue --for calibration --rows 200 --config {tmp_path}/set/trustescalate.toml" in first
