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
    seconds = most["cheap"].calls + most["cheap"].output_tokens / 50
    assert most["cheap"].minutes == pytest.approx(seconds / 4 / 60, rel=1e-3)
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
def test_a_dry_run_counts_one_call_an_item_for_a_decision_model(tmp_path: Path) -> None:
    judges = OPENAI.partition("[[judges]]")[2].partition("[[judges]]")[0]
    table = f"[[judges]]{judges}".replace('"openai"', '"decisions"')
    (row,) = asyncio.run(estimate_calibration(Project.open(write_project(tmp_path, table)).config)).estimates
    assert row.calls == row.items
    assert row.input_tokens > 100 * row.calls
    assert row.usd is not None
    assert row.usd > 0


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


# ── counts that were wrong ─────────────────────────────────────────────────────────────────────────


def facts(config: Path) -> dict[str, str]:
    return dict(inspect_project(Project.open(config).config).facts)


@pytest.mark.parametrize(
    ("task", "swap", "most"),
    [
        ('kind = "binary"', "true", 2),
        ('kind = "rating"', "true", 2),
        ('kind = "choice"\nlabels = ["x", "y", "z"]', "true", 2),
        ('kind = "pairwise"', "true", 4),
        ('kind = "pairwise"', "false", 2),
    ],
)
def test_only_pairs_are_shown_in_two_orders(tmp_path: Path, task: str, swap: str, most: int) -> None:
    label = {"binary": "pass", "rating": "3", "choice": "x"}

    def single(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        kind = task.split('"')[1]
        for item in items:
            item["responses"] = item["responses"][:1] if kind in label else item["responses"]
        for note in notes:
            note["label"] = label.get(kind, note["label"])

    head = {"more": f"[task]\n{task}\n", "ensemble": f"swap = {swap}"}
    config = write_project(tmp_path, change=single, **head)
    assert facts(config)["votes per item"] == f"up to {most} per judge"
    measured = asyncio.run(estimate_run(Project.open(config).config))
    first = measured.estimates[0]
    assert first.calls == first.items * most


def test_judges_with_other_votes_are_named(tmp_path: Path) -> None:
    mine = '[[judges]]\nname = "mine"\nbackend = "callable"\nfunction = "f:f"\nversion = "1"\n'
    drawn = simulated("drawn", "XS", channel='"samples"')
    shown = facts(write_project(tmp_path, OPENAI + mine + drawn))["votes per item"]
    auto = "up to 4 (12 without log-probabilities)"
    assert shown == f"cheap {auto}, dear {auto}, mine up to 2, drawn up to 12"


def test_why_not_every_labelled_row_certifies(tmp_path: Path) -> None:
    def cluster(items: list[dict[str, Any]], _: list[dict[str, Any]]) -> None:
        for number, item in enumerate(items[:60]):
            item["group"] = f"g{number // 6}"

    config = write_project(tmp_path, change=cluster, more="[roles]\ndev = 0.2\n")
    shown = facts(config)["certification rows"]
    roles = select_rows(Project.open(config).config, load_dataset(Project.open(config).config)).roles
    head, *reasons = shown.replace(";", ",").split(", ")
    assert head == f"{len(roles['certify'])} of {LABELLED} labelled rows"
    counts = {name: int(count) for count, _, name in (reason.partition(" ") for reason in reasons)}
    assert (counts["exemplars"], counts["dev"]) == (len(roles["exemplars"]), len(roles["dev"]))
    assert counts["in a cluster with a row that is used"] > 0
    assert len(roles["certify"]) + sum(counts.values()) == LABELLED
    alone = write_project(tmp_path / "alone", more='[data]\ncluster = "item"\n')
    edit(alone, "annotators = 2\nshots = 2", "shots = 0")
    assert "certification rows" not in facts(alone)


@pytest.mark.usefixtures("offline")
def test_a_price_that_is_not_set_is_not_free(tmp_path: Path) -> None:
    unset = OPENAI.replace("price = { input = 1.0, output = 2.0 }\n", "")
    measured = asyncio.run(estimate_run(Project.open(write_project(tmp_path, unset)).config))
    assert {row.judge: row.usd is None for row in measured.estimates} == {"cheap": True, "dear": False}
    text = "\n".join(measured.lines())
    assert "unknown" in text
    assert "(price unknown: cheap)" in text
    free = unset.replace("concurrency = 4", "price = {}")
    measured = asyncio.run(estimate_run(Project.open(write_project(tmp_path / "b", free)).config))
    assert {row.usd for row in measured.estimates if row.judge == "cheap"} == {0.0}


@pytest.mark.usefixtures("offline")
def test_the_limits_of_the_rate_count_in_the_minutes(tmp_path: Path) -> None:
    slow = OPENAI.replace("concurrency = 4", "concurrency = 64\nrequests_per_minute = 10")
    measured = asyncio.run(estimate_run(Project.open(write_project(tmp_path, slow)).config))
    (row,) = (row for row in measured.estimates if (row.phase, row.judge) == ("run, at most", "cheap"))
    assert row.minutes == pytest.approx(row.calls / 10)
    free = asyncio.run(estimate_run(Project.open(write_project(tmp_path / "b")).config))
    assert {row.minutes for row in free.estimates} == {0.0}, "a simulated judge takes no time"


def test_tokens_of_recorded_votes_replace_the_guess(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    guessed = asyncio.run(estimate_run(Project.open(config).config))
    calibrate(config)
    votes = tmp_path / "certificate.votes.jsonl"
    rows = [json.loads(line) for line in votes.read_text().splitlines()]
    for row in rows:
        for vote in row["votes"]:
            vote["usage"]["output_tokens"] = 700
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = asyncio.run(estimate_run(Project.open(config).config))
    assert all(row.recorded and row.output_tokens == 700 * row.calls for row in known.estimates if row.calls)
    assert known.totals[0].usd > guessed.totals[0].usd
    assert "as in the certificate's votes" in known.lines()[0]


@pytest.mark.parametrize("label", ["A", "B", "tie"])
def test_items_that_state_a_verdict_are_counted_whichever_label_it_is(tmp_path: Path, label: str) -> None:
    def state(items: list[dict[str, Any]], _: list[dict[str, Any]]) -> None:
        items[3]["responses"][0] += f"\nFinal verdict: {label}"

    before = inspect_project(Project.open(write_project(tmp_path / "plain")).config).warnings
    warnings = inspect_project(Project.open(write_project(tmp_path / "marked", change=state)).config).warnings
    assert not any("hold a verdict" in warning for warning in before)
    assert [warning for warning in warnings if "hold a verdict in their texts (sim-0004" in warning], warnings


@pytest.mark.parametrize("stated", ['{"criterion_1": "5", "criterion_2": "5"}', "2: 3", "kind: 1"])
def test_items_that_state_a_verdict_on_a_criterion_are_counted(tmp_path: Path, stated: str) -> None:
    item = {"id": "q", "prompt": "Hello?", "responses": [f"A poem.\n{stated}"]}
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")
    (tmp_path / "annotations.jsonl").write_text("")
    config = tmp_path / "trustescalate.toml"
    head = 'version = 1\n[task]\nkind = "rating"\nscale = [1, 5]\nquestion = "How good?"\n'
    judge = '[[judges]]\nname = "m"\nbackend = "mock"\n'
    named = (f'[[criteria]]\nname = "{name}"\nquestion = "How {name}?"\n' for name in ("short", "kind"))
    config.write_text(head + "".join(named) + judge)
    warnings = inspect_project(Project.open(config).config).warnings
    assert [warning for warning in warnings if "1 items hold a verdict in their texts (q)" in warning], (
        warnings
    )
