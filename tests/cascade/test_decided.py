"""A program hears of each decision of a certified cascade once, when it is made."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.support.documents import ROOT
from trustescalate import Certificate, Decision, Hooks, Item, Project


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("decided") / "project"
    shutil.copytree(ROOT / "examples" / "pass-fail", home)
    asyncio.run(Project.open(home / "trustescalate.toml").calibrate())
    return home


def watched(folder: Path) -> tuple[Project, list[Decision]]:
    seen: list[Decision] = []

    def decided(item: Item, decision: Decision, certificate: Certificate) -> None:
        assert (item.id, certificate) == (decision.item_id, project.certificate())
        seen.append(decision)

    project = Project.open(folder / "trustescalate.toml", Hooks(decided=decided))
    return project, seen


def test_a_run_tells_each_decision_once(folder: Path) -> None:
    project, seen = watched(folder)
    run = asyncio.run(project.run())
    assert seen == list(run.decisions)
    assert len(seen) == 100
    asyncio.run(project.run(resume="latest"))
    assert len(seen) == 100


def test_an_open_cascade_tells_its_decisions(folder: Path) -> None:
    project, seen = watched(folder)
    items = project.load_run().items[:3]

    async def decide() -> list[Decision]:
        async with project.cascade() as cascade:
            return [await cascade.decide(item) for item in items]

    assert asyncio.run(decide()) == seen
    assert len(seen) == 3


def test_an_uncertified_run_tells_nothing(folder: Path) -> None:
    project, seen = watched(folder)
    asyncio.run(project.run(uncertified=True))
    assert seen == []


def test_decisions_made_together_are_told_too(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "p")
    config = tmp_path / "p" / "trustescalate.toml"
    text = config.read_text("utf-8").replace("delta = 0.10", 'claim = "expected"').replace("pilot = 50", "")
    config.write_text(text, "utf-8")
    project, seen = watched(tmp_path / "p")
    asyncio.run(project.calibrate())
    run = asyncio.run(project.run())
    assert seen == list(run.decisions)
    assert seen
