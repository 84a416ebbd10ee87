"""Columns in files change no result; `benchmarks.million` measures the memory that they save."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.million import make
from tests.support.command_line import cli
from trustescalate import Project, Run
from trustescalate.judges.registry import recorded_judges
from trustescalate.judges.replay import StoredVotes
from trustescalate.records import columns

pytestmark = pytest.mark.slow
SMALL = {"IN_MEMORY": 256, "BLOCK": 64, "FEW": 1, "NEAR": 8}


@contextmanager
def in_files() -> Iterator[None]:
    """Nearly all of every column in a temporary file."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(columns, name, value)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("million") / "project"
    make(folder, 600)
    asyncio.run(Project.open(folder / "trustescalate.toml").calibrate())
    return folder


def run_and_write(folder: Path) -> tuple[Run, dict[str, str]]:
    """A run with its report, gate and export; what they wrote, without ids and times."""
    opened = Project.open(folder / "trustescalate.toml")
    run = asyncio.run(opened.run())
    opened.report()
    opened.gate()
    home = opened.run_path(run.header.id)
    config, out = folder / "trustescalate.toml", folder / "out.csv"
    exported = cli("export", "--config", config, "--as", "csv", "--to", out)
    assert exported.exit_code == 0, exported.output
    paths = [home / name for name in ("report.items.jsonl", "report.md", "decision.json")]
    texts = {path.name: path.read_text("utf-8") for path in (*paths, out)}
    changing = re.compile(rf"{run.header.id}|20\d\d-\d\d-\d\d\S*|\d+ seconds?|--config [^<]+")
    return run, {name: changing.sub("", text) for name, text in texts.items()}


def test_columns_in_files_change_no_vote_decision_figure_or_row(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "project"
    shutil.copytree(project, other)
    run, texts = run_and_write(project)
    with in_files():
        same, others = run_and_write(other)
    assert same.judgments == run.judgments
    assert same.decisions == run.decisions
    assert same.product == run.product
    assert same.overall == run.overall
    assert same.shift == run.shift
    assert others == texts


def test_replayed_votes_stay_on_disk_and_answer_as_if_they_were_loaded(project: Path) -> None:
    judges = recorded_judges(Project.open(project / "trustescalate.toml").config)
    for judge in judges.values():
        assert isinstance(judge.judgments, StoredVotes)
        assert [row.item_id for row in judge.judgments[:2]] == ["item-0000000", "item-0000001"]
