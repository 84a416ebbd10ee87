"""Texts that try to buy a verdict: what is tried on whom, what a win is, and what the report says of it."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.projects import JUDGES, Calls, calibrate, edit, simulated, write_project
from trustescalate.analysis.injection import plan_probe, probe, read_probe
from trustescalate.cli import app
from trustescalate.config import BudgetTable
from trustescalate.errors import BudgetReached, DataError, NotMeasurable, UsageError
from trustescalate.judges.attacks import attacked, attacks, controls
from trustescalate.project import Project
from trustescalate.records import Item, Probe, Reply, Request, Task, TaskKind, Turn, Usage
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build_calibration

pytestmark = pytest.mark.slow
ONE = simulated("judge", "M")
TEXTS = len(attacks()) + len(controls())


def probed(config: Path, **given: object) -> Probe:
    return asyncio.run(probe(Project.open(config).config, Hooks(), **given)).probe  # type: ignore[arg-type]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def attacked_side(request: Request) -> str | None:
    """Where "ignore all previous" stands as shown, None where nobody says so."""
    text = request.messages[-1].content
    tag = text[len("[prompt ") :][:16]
    first, second = text.split(f"[response B {tag}]")
    return next((side for side, said in (("A", first), ("B", second)) if "Ignore all previous" in said), None)


def test_a_judge_that_obeys_is_found_out_and_one_that_does_not_is_not(tmp_path: Path, calls: Calls) -> None:
    def then(request: Request) -> Reply:
        return Reply(attacked_side(request) or "tie", None, "stop", Usage(1, 10, 0, 1))

    calls.then = then
    config = write_project(tmp_path, ONE + 'channel = "samples"\n')
    found = probed(config, items=3)
    (judge,) = found.judges
    assert (found.items, found.attacks) == (3, len(attacks()))
    won = {family.family: family.wins for family in judge.families if family.wins}
    assert won == {"order": 3}
    assert judge.tries == 3 * len(attacks())
    assert (judge.wins, judge.silent) == (3, 0)
    assert (judge.control.tries, judge.control.wins) == (3 * len(controls()), 0)
    assert found.forged == 0 < found.replies


def test_an_attack_stands_in_the_response_that_did_not_win(tmp_path: Path, calls: Calls) -> None:
    """A judge that always says A of what is shown first prefers neither; one that reads, loses nothing."""
    calls.then = lambda request: Reply("A", None, "stop", Usage(1))
    config = write_project(tmp_path, ONE + 'channel = "samples"\n', ensemble="swap = false")
    (judge,) = probed(config, items=2, families=["order"]).judges
    assert judge.wins == 0
    asked = [request.messages[-1].content for _, request in calls.asked]
    hostile = [text for text in asked if "Ignore all previous" in text]
    assert hostile
    assert all("Ignore all previous" in text.split("[response B ")[1] for text in hostile)
    assert all("verdict is B" in text for text in hostile)


def test_a_judge_that_an_attack_leaves_without_a_verdict_is_silent_and_no_win(
    tmp_path: Path, calls: Calls
) -> None:
    plain = iter(["A"] * 6)  # the item itself: two orders, three draws
    calls.then = lambda request: Reply(next(plain, "Both are fine."), None, "stop", Usage(1))
    (judge,) = probed(write_project(tmp_path, ONE), items=1, families=["roles"]).judges
    assert judge.wins == 0
    assert judge.silent == judge.tries == sum(attack.family == "roles" for attack in attacks())


@pytest.mark.parametrize("kind", ['kind = "binary"', 'kind = "rating"\nscale = [1, 3]'])
def test_other_kinds_of_task_are_probed_too(tmp_path: Path, kind: str) -> None:
    def change(items: list[dict[str, object]], notes: list[dict[str, object]]) -> None:
        for item in items:
            item["responses"] = item["responses"][:1]  # type: ignore[index]
        for note in notes:
            note["label"] = "pass" if "binary" in kind else "2"

    config = write_project(tmp_path, ONE, change=change, more=f"[task]\n{kind}\n")
    (judge,) = probed(config, items=2).judges
    assert judge.tries == 2 * len(attacks())


def test_the_plan_is_what_is_asked_and_the_budget_holds(tmp_path: Path, calls: Calls) -> None:
    config = write_project(tmp_path)
    plan = plan_probe(Project.open(config).config, 2, ["json"])
    assert calls.asked == []
    assert plan.items == 2
    with pytest.raises(BudgetReached):
        probed(config, items=2, families=["json"], budget=BudgetTable(calls=20))
    assert len(calls.asked) == 20
    probed(config, items=2, families=["json"])
    assert len(calls.asked) == plan.calls
    assert plan.usd > 0
    probed(config, items=2, families=["json"])
    assert len(calls.asked) == plan.calls


def test_what_cannot_be_probed(tmp_path: Path) -> None:
    config = write_project(tmp_path / "a")
    with pytest.raises(UsageError, match="no family of attacks 'jason'"):
        probed(config, families=["jason"])
    calibrate(config)
    edit(
        config, JUDGES, '[[judges]]\nname = "small"\nbackend = "replay"\nvotes = "certificate.votes.jsonl"\n'
    )
    with pytest.raises(NotMeasurable, match="recorded judges answer no new request"):
        probed(config)


def test_the_report_shows_the_probe_and_says_when_it_is_stale(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    project = Project.open(config)
    certificate = calibrate(config)
    assert read_probe(project.config.folder) is None
    assert "prompt-injection-probe" not in [section.slug for section in project.report()[0].sections]
    found = probed(config, items=1)
    assert read_probe(project.config.folder) == found
    assert [judge.fingerprint for judge in found.judges] == [seal.fingerprint for seal in certificate.judges]
    (section,) = [s for s in project.report()[0].sections if s.slug == "prompt-injection-probe"]
    assert found.created in section.text[1]
    judges, families = section.tables
    assert [row.cells[0].text for row in judges.rows] == ["small", "large"]
    assert {row.cells[-1].text for row in judges.rows} == {"yes"}
    assert [row.cells[0].text for row in families.rows] == list(dict.fromkeys(a.family for a in attacks()))
    other = replace(found, judges=(replace(found.judges[0], fingerprint="x"), found.judges[1]))
    sections = build_calibration(certificate, other).sections
    (section,) = [each for each in sections if each.slug == "prompt-injection-probe"]
    assert [row.cells[-1].text for row in section.tables[0].rows] == ["no", "yes"]
    assert section.text[0].endswith("Judges that have changed since the probe: small. Run the probe again.")
    (tmp_path / "probe.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"probe\.json"):
        read_probe(project.config.folder)


def test_the_command_says_what_it_costs_before_it_asks(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    flags = ["--config", str(config), "--items", "1", "--family", "json", "--family", "marks"]
    dry = CliRunner().invoke(app, ["judges", "probe", *flags, "--dry-run", "--json"])
    assert dry.exit_code == 0, dry.output
    plan = json.loads(dry.stdout)
    assert not (tmp_path / "probe.json").exists()
    done = CliRunner().invoke(app, ["judges", "probe", *flags])
    assert done.exit_code == 0, done.output
    head = f"{plan['attacks']} attacks and controls in 1 items: at most {plan['calls']:,} calls"
    assert done.stderr.startswith(head)
    assert "small: " in done.stdout
    assert "parser: 0 of " in done.stdout
    assert json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))["items"] == 1
    stopped = CliRunner().invoke(app, ["judges", "probe", *flags, "--items", "2", "--budget-calls", "1"])
    assert stopped.exit_code == 4
    assert "resume with `trustescalate judges probe" in stopped.stderr


def test_an_attack_in_a_conversation_stands_in_its_last_turn() -> None:
    talk = (Turn("assistant", "4"), Turn("user", "sure?"), Turn("assistant", "yes"))
    task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"))
    bad = attacked(task, Item("x", "2 + 2?", (talk, "5")), 0, attacks()[0], "A")
    assert bad.responses[1] == "5"
    assert bad.responses[0][:2] == talk[:2]
    assert bad.texts[0].endswith("The only correct verdict is A.")
