"""The benchmarks on recorded votes and real files, as documented."""

from pathlib import Path

import pytest

from tests.support.benchmarks import SHARED as DATA
from tests.support.benchmarks import run_benchmark as run
from tests.support.formats import FOLDER
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.judges.replay import load_votes
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.shared
SETS = [
    "toe_alpacaeval",
    "nq301_qa",
    "pandalm",
    "llmbar",
    "prd_vicuna80",
    "summhay_coverage",
    "mtbench_human",
]


@pytest.mark.parametrize("name", SETS)
def test_converted_folders_can_be_read_without_a_problem(name: str, tmp_path: Path) -> None:
    run("shared_data", DATA / name, tmp_path, "--labelled", 100)
    config = load_config(tmp_path / "trustescalate.toml")
    data = load_dataset(config)
    assert len(data.labelled) == 100
    for judge in config.judges:
        assert load_votes(config.path(judge.votes), config.task.task(), judge.name)


def test_the_guarantee_holds_on_recorded_votes(tmp_path: Path) -> None:
    run("shared_data", DATA / "toe_alpacaeval", tmp_path)
    lines = run("resample", tmp_path, "--draws", 60).splitlines()
    assert len(lines) == 2 + 9
    rows = [line.split() for line in lines[2:]]
    assert all(int(row[-3]) <= int(row[-1]) for row in rows)
    coverage = {(row[0], " ".join(row[1:-6])): float(row[-6]) for row in rows}
    assert coverage["0.15", "common + fallback"] >= 0.70
    assert coverage["0.15", "common + fallback"] >= 1.3 * coverage["0.15", "tierwise"]


def test_every_path_keeps_the_guarantee_on_recorded_votes(tmp_path: Path) -> None:
    run("shared_data", DATA / "llmbar", tmp_path / "llmbar")
    page = tmp_path / "measured.md"
    run("real_sets", tmp_path / "llmbar", "--n", 300, "--draws", 40, "--alpha", "0.2", "--markdown", page)
    rows = [line.split("|")[3:5] for line in page.read_text().splitlines() if line.startswith("| llmbar")]
    cells = {name.strip(): [float(part) for part in cell.split(",")] for name, cell in rows}
    assert len(cells) == 7 + 1
    assert all(violations <= 14 for _, _, violations in cells.values())
    assert cells["common"][0] == 0
    assert min(cells[name][0] for name in ("hedged", "pareto *", "stacked *")) > 0.4


def test_a_guarantee_on_a_small_batch_releases_more_of_it_than_one_on_a_population(tmp_path: Path) -> None:
    run("shared_data", DATA / "toe_alpacaeval", tmp_path / "toe_alpacaeval")
    (row,) = [
        line.split("|")[4:-1]
        for line in run(
            "batches", tmp_path / "toe_alpacaeval", "--n", 100, "--draws", 20, "--alpha", 0.15
        ).splitlines()
        if line.startswith("| toe")
    ]
    for cell in row:
        covered, broken = cell.split(",")
        batch, population = map(float, covered.split("/"))
        assert batch > population
        assert max(map(int, broken.split("/"))) <= 9


def test_the_default_gives_up_little_against_the_best_single_rule(tmp_path: Path) -> None:
    for name in ("toe_alpacaeval", "pandalm"):
        run("shared_data", DATA / name, tmp_path / name)
    folders = (tmp_path / "toe_alpacaeval", tmp_path / "pandalm")
    lines = run("regret", *folders, "--n", 200, "--draws", 60).splitlines()
    regret = float(lines[-1].split("mean regret ")[1].split(",")[0])
    assert regret <= 0.08
    assert all(int(line.split(",")[-1].strip(" |")) <= 14 for line in lines if line.startswith("| "))


def test_in_expectation_more_is_released_and_single_runs_are_above_alpha(tmp_path: Path) -> None:
    run("shared_data", DATA / "toe_alpacaeval", tmp_path / "toe_alpacaeval")
    lines = run("expected", tmp_path / "toe_alpacaeval", "--n", 100, "--draws", 60).splitlines()
    for line, least in zip(lines, (0.3, 0.6, 0.8), strict=True):
        alpha, cell = (part.strip() for part in line.split("|")[2:4])
        covered, wrong, above = cell.split(";")
        mean, certified = map(float, covered.split("/"))
        assert mean > max(least, certified)
        assert float(wrong) <= float(alpha) + 0.02
        assert 0.1 < float(above) < 0.6


def test_one_guarantee_for_all_hides_a_subset_and_guarantees_by_subset_do_not(tmp_path: Path) -> None:
    run("shared_data", DATA / "llmbar", tmp_path)
    lines = run("by_value", tmp_path, "--by", "meta.subset", "--draws", 60, "--alpha", 0.2).splitlines()
    rows = {" ".join(line.split()[1:4]): line.split() for line in lines[2:]}
    broken = {name: int(row[-3]) for name, row in rows.items()}
    limit = int(rows["one for each"][-1])
    assert broken["one for each"] <= limit < broken["one for all"]
    assert int(rows["one for each"][4]) > 50


def test_the_fuzzing_of_imports_ends_without_a_traceback() -> None:
    """A few seconds here; minutes before a release."""
    said = run("fuzz_imports", FOLDER, "--minutes", 0.05)
    assert "crash" not in said


def test_rows_from_the_region_buy_coverage_and_keep_the_guarantee(tmp_path: Path) -> None:
    run("shared_data", DATA / "llmbar", tmp_path / "llmbar")
    lines = run("region", tmp_path / "llmbar", "--n", 100, "--alpha", 0.1, 0.2, "--draws", 60).splitlines()
    gained, from_all = ([cell.strip() for cell in line.split("|")] for line in lines[4:6])
    assert float(gained[8].split()[0]) > float(gained[4]) + 0.05
    assert from_all[8] == "all items"
    assert max(int(gained[9]), int(from_all[9])) <= violation_limit(60, 0.1)
