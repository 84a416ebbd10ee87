"""Columns in files change no result; `benchmarks.million` measures the memory that they save."""

import asyncio
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.million import KINDS, make
from tests.support.command_line import cli
from tests.support.compared_runs import sides_of
from trustescalate import Project, Run
from trustescalate.analysis.comparison import compare
from trustescalate.analysis.comparison_items import ComparedRows
from trustescalate.analysis.comparison_section import Comparison
from trustescalate.analysis.criteria import criteria_estimates
from trustescalate.analysis.matched_pairs import matched_pairs
from trustescalate.calibration.files import certificate_votes
from trustescalate.data.dataset import load_dataset
from trustescalate.judges.registry import recorded_judges
from trustescalate.judges.replay import StoredVotes
from trustescalate.records import columns
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.judge_counts import count_votes
from trustescalate.records.stored import take_rows
from trustescalate.report.sections import ItemRow

pytestmark = pytest.mark.slow
SMALL = {"IN_MEMORY": 256, "BLOCK": 64, "FEW": 1, "NEAR": 8}


@contextmanager
def in_files() -> Iterator[None]:
    """Nearly all of every column in a temporary file."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(columns, name, value)
        yield


def made(folder: Path, kind: str) -> Path:
    """A calibrated project of one of the kinds of `benchmarks.million`."""
    make(folder, 300, kind)
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


@pytest.mark.parametrize("kind", KINDS)
def test_columns_in_files_change_no_vote_decision_figure_or_row(kind: str, tmp_path: Path) -> None:
    project, other = made(tmp_path / "one", kind), tmp_path / "project"
    shutil.copytree(project, other)
    run, texts = run_and_write(project)
    with in_files():
        same, others = run_and_write(other)
    assert any(decision.label for decision in run.decisions)
    assert same.judgments == run.judgments
    assert same.decisions == run.decisions
    assert same.product == run.product
    assert same.overall == run.overall
    assert same.standings == run.standings
    assert same.criteria == run.criteria
    assert same.shift == run.shift
    assert others == texts


def test_a_part_of_a_run_on_disk_is_that_of_the_run_in_memory(tmp_path: Path) -> None:
    project = Project.open(made(tmp_path / "one", "criteria") / "trustescalate.toml")
    run = asyncio.run(project.run())
    loaded = replace(
        run, items=tuple(run.items), judgments=tuple(run.judgments), decisions=tuple(run.decisions)
    )
    parts: list[Sequence[int]] = [(), [3, 1, 2], range(0, len(run.items), 2)]
    for places in parts:
        one, other = take_rows(run, places), take_rows(loaded, places)
        assert (one.items, one.judgments, one.decisions) == (other.items, other.judgments, other.decisions)
        assert [item.id for item in one.items] == [run.items[place].id for place in places]
        labels = ([(place, row.label) for place, row in placed_decisions(part)] for part in (one, other))
        assert next(labels) == next(labels)
        assert count_votes(one.judgments).whole.votes == sum(len(row.votes) for row in other.judgments)
        nested = [0] if places else []
        assert take_rows(one, nested).decisions == take_rows(other, nested).decisions
    data = load_dataset(project.config)
    votes = certificate_votes(project.config.folder, run.header.certificate) or {}
    estimates = (
        criteria_estimates(project.config, each, votes, data.annotations, data.items)
        for each in (run, loaded)
    )
    assert next(estimates) == next(estimates)


def test_columns_in_files_change_nothing_of_a_comparison(tmp_path: Path) -> None:
    project = Project.open(made(tmp_path / "one", "clusters") / "trustescalate.toml")
    first, second = (asyncio.run(project.run()) for _ in range(2))
    second = replace(second, decisions=tuple(second.decisions)[40:], items=tuple(second.items)[40:])

    def shown() -> tuple[Comparison, list[ItemRow]]:
        pairs = matched_pairs(first, second)
        assert len(pairs) == len(second.items)
        return compare(sides_of(first, second), pairs), list(ComparedRows(pairs, texts=True))

    in_memory = shown()
    with in_files():
        assert shown() == in_memory


def test_replayed_votes_stay_on_disk_and_answer_as_if_they_were_loaded(tmp_path: Path) -> None:
    project = made(tmp_path / "one", "plain")
    judges = recorded_judges(Project.open(project / "trustescalate.toml").config)
    for judge in judges.values():
        assert isinstance(judge.judgments, StoredVotes)
        assert [row.item_id for row in judge.judgments[:2]] == ["item-0000000", "item-0000001"]
