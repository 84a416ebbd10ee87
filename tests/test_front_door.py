"""The Python front door: single decisions inside another program, projects from records, and their `repr`."""

import asyncio
import gc
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import factory
from tests.support.factory import HOSTILE
from tests.support.hostile_run import hostile_run
from tests.support.projects import calibrate, edit, run, write_project
from trustescalate import Annotation, Decision, Item, Project, ReplayJudge
from trustescalate.config import BudgetTable
from trustescalate.errors import BudgetReached, CertificateMismatch, DataError, NoCertificate, UsageError
from trustescalate.judges.simulated import write_demo
from trustescalate.report.document import build, build_calibration

LABELLED, UNLABELLED = 80, 20
TASK = {"kind": "binary", "question": "Is the number even?"}
GUARANTEE = {"alpha": 0.2, "delta": 0.1, "path": "common", "pilot": 10}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a certificate."""
    path = write_project(tmp_path_factory.mktemp("front door"))
    assert calibrate(path).status == "certified"
    return path


async def decide_all(project: Project, items: Sequence[Item], **given: Any) -> list[Decision]:
    async with project.cascade(**given) as cascade:
        return await asyncio.gather(*map(cascade.decide, items))


# ── single decisions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("use_cache", [True, False])
def test_single_decisions_are_those_of_the_run(config: Path, use_cache: bool) -> None:
    recorded = run(config)
    assert {decision.label is None for decision in recorded.decisions} == {True, False}
    decisions = asyncio.run(decide_all(Project.open(config), recorded.items, use_cache=use_cache))
    assert tuple(decisions) == recorded.decisions


@pytest.mark.slow
def test_the_demo_decides_fifty_items_at_once_inside_a_running_loop(tmp_path: Path) -> None:
    write_demo(tmp_path)
    config = tmp_path / "trustescalate.toml"
    calibrate(config)
    recorded = run(config)
    assert len(recorded.items) == 300

    async def program() -> list[Decision]:
        decisions: list[Decision] = []
        async with Project.open(config).cascade(use_cache=False) as cascade:
            for start in range(0, 300, 50):
                decisions += await asyncio.gather(*map(cascade.decide, recorded.items[start : start + 50]))
            assert cascade.spent > 0
            assert cascade.certificate == recorded.header.certificate
        return decisions

    decisions = asyncio.run(program())
    for one, other in zip(decisions, recorded.decisions, strict=True):
        assert (one.label, one.judge, one.score) == (other.label, other.judge, other.score)
        assert (one.reason, one.trail) == (other.reason, other.trail)


def test_a_run_inside_a_running_loop_is_the_same(config: Path) -> None:
    async def program() -> tuple[Decision, ...]:
        return (await Project.open(config).run()).decisions

    assert asyncio.run(program()) == run(config).decisions


def test_a_budget_stops_single_decisions(config: Path) -> None:
    items = run(config).items
    decided: list[Decision] = []

    async def program() -> None:
        async with Project.open(config).cascade(BudgetTable(calls=9), use_cache=False) as cascade:
            for item in items:
                decided.append(await cascade.decide(item))

    with pytest.raises(BudgetReached, match="9 calls"):
        asyncio.run(program())
    assert 0 < len(decided) < 9


@pytest.mark.parametrize(
    ("claim", "old", "new"),
    [
        ("batch", 'path = "common"', 'claim = "batch"\nlabel_budget = 50'),
        ("expected", 'delta = 0.2\npilot = 20\npath = "common"', 'claim = "expected"'),
    ],
)
def test_a_claim_about_a_whole_run_decides_no_single_item(
    tmp_path: Path, claim: str, old: str, new: str
) -> None:
    config = write_project(tmp_path)
    edit(config, old, new)
    with pytest.raises(UsageError, match=f'claim = "{claim}" decides a whole run'):
        asyncio.run(decide_all(Project.open(config), ()))


def test_the_checks_are_those_of_a_run(config: Path, tmp_path: Path) -> None:
    with pytest.raises(CertificateMismatch, match=r"alpha was 0\.3 and is 0\.2"):
        asyncio.run(decide_all(Project.open(config, overrides=["guarantee.alpha=0.2"]), ()))
    with pytest.raises(NoCertificate, match="no certificate yet"):
        asyncio.run(decide_all(Project.open(write_project(tmp_path)), ()))
    with pytest.raises(DataError, match="has 1 response"):
        asyncio.run(decide_all(Project.open(config), [Item("one", "Which?", ("only one",))]))


# ── projects from records ────────────────────────────────────────────────────────────────────────


def records(**more: Any) -> Project:
    items = [Item(f"q{n:03}", f"Number {n}", (str(n),)) for n in range(LABELLED + UNLABELLED)]
    labels = {item.id: "fail" if int(item.responses[0]) % 2 else "pass" for item in items}
    notes = [Annotation(item.id, "ann", labels[item.id]) for item in items[:LABELLED]]
    given = {"task": TASK, "guarantee": GUARANTEE, "ensemble": {"annotators": 1, "shots": 1}}
    given["judges"] = [{"name": "last", "backend": "mock", "reply": "pass", "confidence": 0.6}]
    judges = [ReplayJudge.from_labels(labels, name="first")]
    return Project.from_records(items, notes, {**given, **more}, judges=judges)


def test_records_are_calibrated_and_decided_without_a_file_of_the_users() -> None:
    project = records()
    assert asyncio.run(project.calibrate()).status == "certified"
    decisions = asyncio.run(project.run()).decisions
    assert [decision.label for decision in decisions] == ["pass", "fail"] * (UNLABELLED // 2)
    assert {decision.judge for decision in decisions} == {"first"}
    report, page = project.report()
    assert page.is_relative_to(project.config.folder)
    assert report.kind == "run"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_temporary_folder_is_removed_with_its_project(temporary: Path) -> None:
    project = records()
    (folder,) = temporary.iterdir()
    assert (folder / "items.jsonl").is_file()
    del project
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_records_that_do_not_fit_leave_no_folder(temporary: Path) -> None:
    with pytest.raises(DataError, match="is not one of"):
        records(task={**TASK, "labels": ["yes", "no"]})
    assert list(temporary.iterdir()) == []


def test_an_open_cascade_keeps_its_folder(temporary: Path) -> None:
    project = records()
    asyncio.run(project.calibrate())
    opened, item = project.cascade(), Item("q000", "Number 0", ("0",))
    del project
    gc.collect()

    async def program() -> Decision:
        async with opened as cascade:
            return await cascade.decide(item)

    assert asyncio.run(program()).label == "pass"
    gc.collect()
    assert list(temporary.iterdir()) == []


# ── records in a prompt or a notebook ────────────────────────────────────────────────────────────

SHOWN = {
    "certificate": (factory.certificate(), "<Certificate certificate=certified, claim="),
    "no certificate": (factory.no_certificate(), "<Certificate certificate=none: none of 10 policies"),
    "run": (factory.run(), "<Run id=20250304T0915Z-k3f9, status=complete, decided=300 of 300"),
    "report": (build(factory.run()), "<Report headline="),
    "calibration": (build_calibration(factory.certificate()), "<Report headline="),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_record_shows_its_main_facts(name: str) -> None:
    record, start = SHOWN[name]
    assert repr(record).startswith(start)
    assert len(repr(record)) < 1000
    assert "\n" not in repr(record)
    assert record._repr_html_().startswith("<table><caption>")
    assert len(record._repr_html_()) < 2500


def test_a_notebook_shows_hostile_text_escaped() -> None:
    whole = hostile_run()
    seals = tuple(replace(seal, judge=HOSTILE) for seal in whole.header.certificate.judges)
    for record in (replace(whole.header.certificate, judges=seals), whole, build(whole)):
        page = record._repr_html_()
        assert "<script" not in page.lower()
        assert page.count("<") == page.count("<t") + page.count("</t") + page.count("<caption") + page.count(
            "</caption"
        )
