"""`judges bench` and `judges list`: figures against hand counts, and what they must not spend or hide."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import cli
from tests.support.projects import Calls, calibrate, simulated, write_project
from trustescalate.analysis.judge_benchmark import Bench, bench
from trustescalate.analysis.judge_list import describe
from trustescalate.analysis.judge_measures import selective_coverage
from trustescalate.calibration.prepare import select_rows
from trustescalate.config import BudgetTable
from trustescalate.errors import BudgetReached, NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Judgment, Usage, Vote
from trustescalate.records.jsonl import write_rows
from trustescalate.records.progress import Hooks

pytestmark = pytest.mark.slow
DEV = "[roles]\ndev = 0.4"
CALLABLE = '[[judges]]\nname = "mine"\nbackend = "callable"\nfunction = "f:f"\nversion = "1"\n'


def measured(config: Path, **given: Any) -> Bench:
    return asyncio.run(bench(Project.open(config).config, Hooks(), **given))


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────

ITEMS = [
    ("a", "long response", "short", "A"),
    ("b", "short", "long response", "A"),
    ("c", "long response", "short", "B"),
    ("d", "even", "same", "tie"),
]


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Four pairs, two votes each: right on a and d, wrong on c, failed on b; it flips with the order on c."""
    said: dict[str, list[dict[str, float] | str]] = {
        "a": [{"A": 0.9, "B": 0.1}, {"A": 0.7, "B": 0.3}],
        "b": ["timeout", "refused"],
        "c": [{"A": 0.8, "B": 0.2}, {"A": 0.4, "B": 0.6}],
        "d": [{"tie": 0.9}, {"tie": 0.9}],
    }
    rows = [
        Judgment(
            item_id,
            "j",
            "print",
            tuple(
                Vote(0, order, {}, "", vote, usage=Usage(1, 10), cost=0.5)
                if isinstance(vote, str)
                else Vote(0, order, vote, usage=Usage(1, 10, 0, 1), cost=0.5)
                for order, vote in zip(("AB", "BA"), votes, strict=True)
            ),
            2,
        )
        for item_id, votes in said.items()
    ]
    write_rows(tmp_path / "votes.jsonl", rows)
    items = [{"id": i, "prompt": f"?{i}", "responses": [a, b]} for i, a, b, _ in ITEMS]
    notes = [{"item_id": i, "annotator": who, "label": label} for i, _, _, label in ITEMS for who in "xy"]
    for name, records in (("items", items), ("annotations", notes)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    (tmp_path / "trustescalate.toml").write_text(
        "version = 1\n[roles]\ndev = 0.99\n[guarantee]\nalpha = 0.34\n"
        '[[judges]]\nname = "j"\nbackend = "replay"\nvotes = "votes.jsonl"\n'
    )
    return tmp_path / "trustescalate.toml"


def test_every_figure_is_that_of_a_hand_count(by_hand: Path) -> None:
    found = measured(by_hand)
    (row,) = found.standings
    assert (found.n, found.recorded, row.estimator) == (4, False, "ensemble")
    assert (row.agreements, row.votes, dict(row.failures)) == (2, 8, {"refused": 1, "timeout": 1})
    assert (row.flips, row.flippable) == (1, 3)
    # Scores: a .8 right, c .6 wrong, d 1.0 right, b none. At alpha .34: a, c and d hold one error in three.
    assert row.alone == 0.75
    assert row.certified is None
    assert row.auroc == 1.0
    assert row.position_lean == pytest.approx(((0.8 - 0.4) / 4 + (0.6 - -0.2) / 4 + 0) / 3)
    # Of a and c, where both prefer one: it takes the longer twice, people once.
    assert row.length_lean == 0.5
    assert (row.tokens, row.usd, row.seconds) == (1000 * (80 + 6) / 4, 1000.0, None)
    marks = {mark.name: (mark.agreements, mark.n) for mark in found.baselines}
    assert marks == {"always A": (2, 4), "longer response": (1, 4), "human leave-one-out agreement": (8, 8)}


def test_shares_at_one_score_go_together() -> None:
    score, right = np.array([0.9, 0.9, 0.8, 0.0]), np.array([True, False, True, True])
    assert selective_coverage(score, right, 0.34) == 0.75
    assert selective_coverage(score, right, 0.30) == 0.0
    assert selective_coverage(score, ~right & False, 0.5) == 0.0


# ── on a project ─────────────────────────────────────────────────────────────────────────────────


def test_dev_rows_are_used_unless_told_otherwise(tmp_path: Path) -> None:
    config = write_project(tmp_path, more=DEV)
    found = measured(config)
    project = Project.open(config)
    from trustescalate.data.dataset import load_dataset

    roles = select_rows(project.config, load_dataset(project.config)).roles
    assert 0 < found.n <= len(roles["dev"])
    assert (found.rows, found.warning, found.recorded) == ("dev", "", False)
    assert [(row.judge, row.estimator) for row in found.standings] == [
        ("small", "ensemble"),
        ("large", "ensemble"),
    ]
    whole = found.standings[0]
    assert whole.votes == 4 * found.n
    assert whole.seconds is not None


def test_recorded_votes_cost_nothing_and_are_used_only_for_the_judges_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_project(tmp_path)
    certificate = calibrate(config)
    calls = Calls(monkeypatch)
    found = measured(config, rows="certify")
    assert (found.recorded, calls.asked, found.standings[0].seconds) == (True, [], None)
    assert "certified on others" in found.warning
    first = {row.judge: row for row in found.standings if row.estimator == "ensemble"}
    for row in certificate.diagnostics:
        assert row.votes == first[row.judge].votes
        assert row.agreements == first[row.judge].agreements
    config.write_text(config.read_text().replace("shots = 2", "shots = 1"))
    assert not measured(config, rows="certify").recorded


def test_the_budget_is_kept(tmp_path: Path) -> None:
    config = write_project(tmp_path, more=DEV)
    with pytest.raises(BudgetReached):
        measured(config, budget=BudgetTable(calls=5))


def test_without_rows_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(NotMeasurable, match="no row in the role dev") as caught:
        measured(write_project(tmp_path))
    assert "dev = 0.3" in caught.value.hint


def test_a_classical_judge_is_not_flattered_on_its_own_rows(tmp_path: Path) -> None:
    def shuffle(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        rng = np.random.default_rng(1)
        coin = {item["id"]: str(rng.choice(["A", "B"])) for item in items}
        for note in notes:
            note["label"] = coin[note["item_id"]]

    judge = '[[judges]]\nname = "free"\nbackend = "classical"\nmodel = "boosted"\n'
    config = write_project(tmp_path, judge, labelled=160, change=shuffle, more="[roles]\ndev = 0.9")
    (row,) = measured(config).standings
    assert row.agreements / row.n < 0.62
    assert (row.usd, row.tokens, row.failures) == (0.0, 0.0, {})


def test_a_judge_without_a_verdict_has_no_agreement(tmp_path: Path) -> None:
    """Every label is as likely as any other: an exact tie, which is no failed vote."""
    (tmp_path / "f.py").write_text("def f(item): return {'A': 0.5, 'B': 0.5}\n")
    measured_ = measured(write_project(tmp_path, CALLABLE, more=DEV))
    (line,) = (line for line in measured_.lines() if line.split()[:1] == ["mine"])
    assert line.split()[:5] == ["mine", "ensemble", "no", "verdict", "—"]


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_a_name_can_break_neither_table_nor_terminal(tmp_path: Path) -> None:
    judges = simulated("a | b \u202e", "XS")
    config, page = write_project(tmp_path, judges, more=DEV), tmp_path / "bench.md"
    shown = cli("judges", "bench", "--config", config, "--markdown", page)
    assert shown.exit_code == 0, shown.output
    assert "⟨U+202E⟩" in shown.stdout
    table = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    listed = cli("judges", "list", "--config", config)
    assert "⟨U+202E⟩" in listed.stdout


def test_what_is_printed_and_what_is_json(tmp_path: Path) -> None:
    config = write_project(tmp_path, more=DEV)
    printed = cli("judges", "bench", "--config", config)
    for word in (
        "small",
        "always A",
        "longer response",
        "human leave-one-out agreement",
        "Neither is a certificate",
    ):
        assert word in printed.stdout
    value = json.loads(cli("judges", "bench", "--config", config, "--json").stdout)
    assert value["n"] == value["standings"][0]["n"]
    warned = cli("judges", "bench", "--rows", "certify", "--config", config)
    assert "must be certified on others" in warned.stderr
    assert cli("judges", "bench", "--rows", "holdout", "--config", config).exit_code == 2


def test_the_list_names_fingerprints_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f.py").write_text("def f(item): raise SystemExit\n")
    table = '[[judges]]\nname = "api"\nbackend = "openai"\nmodel = "m"\napi_key_env = "NOT_SET"\n'
    config = write_project(tmp_path, simulated("small", "XS") + CALLABLE + table)
    calls = Calls(monkeypatch)
    rows = describe(Project.open(config).config, Hooks())
    assert [(row["name"], row["backend"]) for row in rows] == [
        ("small", "simulated"),
        ("mine", "callable"),
        ("api", "openai"),
    ]
    assert [row["price"] for row in rows] == ["input 0.05, output 0.05", "free", "unknown"]
    assert calls.asked == []
    only = write_project(tmp_path / "one")
    marks = {row["name"]: row["fingerprint"] for row in describe(Project.open(only).config, Hooks())}
    assert {seal.judge: seal.fingerprint for seal in calibrate(only).judges} == marks
