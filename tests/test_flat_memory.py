"""A run takes no more memory for more items, and columns in files change no result (`benchmarks.million`)."""

import asyncio
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
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


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def commands(folder: Path, number: int) -> dict[str, int]:
    """The peaks of commands on a project of so many items."""
    make(folder, number)
    config, count, peaks = folder / "trustescalate.toml", iter(range(9)), {}
    asyncio.run(Project.open(config).calibrate())

    def done(*words: object) -> None:
        target = ["--to", folder / f"out{next(count)}.csv"] if "export" in words else []
        ended = cli(*words, *target, "--config", config)
        assert ended.exit_code in (0, 3), ended.output

    with in_files():
        for words in (["run"], ["gate"], ["export", "--as", "csv"]):
            peaks[" ".join(words)] = peak(lambda words=words: done(*words))
    return peaks


def test_the_peak_of_a_command_hardly_depends_on_the_number_of_items(tmp_path: Path) -> None:
    """Python's own objects of 100 and of 400 items; each item's texts and votes are some 3,000 bytes.

    `check` compares texts of up to 20,000 items with one another, and is flat beyond them.
    """
    commands(tmp_path / "imported", 50)  # what is imported and computed once
    few, many = (commands(tmp_path / str(number), number) for number in (100, 400))
    grown = {words: (many[words] - few[words]) / 300 for words in few}
    assert max(grown.values()) < 500, f"bytes for each further item: {grown}"
