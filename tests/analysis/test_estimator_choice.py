"""All estimators side by side: what chooses, and what is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.test_project import calibrate, write_project
from trustescalate.analysis.estimator_choice import compare_scores
from trustescalate.cli import app
from trustescalate.errors import NoCertificate, NotMeasurable, UsageError
from trustescalate.project import Project


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_project(tmp_path_factory.mktemp("scores"), labelled=150)
    calibrate(made)
    return made


def test_all_ways_stand_side_by_side_and_one_is_chosen(config: Path) -> None:
    table = compare_scores(Project.open(config), draws=10)
    names = [row.name for row in table.estimators]
    assert names == ["ensemble", "sampled"]
    assert sum(row.chosen for row in table.estimators) == 1
    assert all(0 <= row.coverage <= 1 and row.judges[0].judge == "small" for row in table.estimators)
    assert compare_scores(Project.open(config), draws=10) == table
    assert compare_scores(Project.open(config), draws=10, seed=1) != table


def test_labels_that_are_looked_at_choose_nothing(config: Path, tmp_path: Path) -> None:
    """Other labels on the rows that stand for all change every figure but what dev rows said."""
    before = compare_scores(Project.open(config), draws=10)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in config.parent.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    made = Project.open(config).certificate()
    order = [made.roles["certify"][at] for at in np.random.default_rng(0).permutation(made.n)]
    dev = set(order[: round(0.3 * made.n)])
    rows = [json.loads(line) for line in (copy / "annotations.jsonl").read_text().splitlines()]
    rows = [row if row["item_id"] in dev else {**row, "label": "tie"} for row in rows]
    (copy / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    after = compare_scores(Project.open(copy / config.name), draws=10)
    chosen = [[row.name for row in table.estimators if row.chosen] for table in (before, after)]
    assert chosen[0] == chosen[1]
    said = [{row.name: row.dev_coverage for row in table.estimators} for table in (before, after)]
    assert said[0] == said[1]
    assert before.estimators[0].coverage != after.estimators[0].coverage


def test_recorded_dev_rows_choose_where_there_are_some(tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=150, guarantee='path = "pareto"', more="[roles]\ndev = 0.4\n")
    made = calibrate(config)
    table = compare_scores(Project.open(config), draws=3)
    assert (table.dev, table.rows) == (len(made.roles["dev"]), made.n)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=50)
    with pytest.raises(NoCertificate):
        compare_scores(Project.open(config))
    calibrate(config)
    with pytest.raises(NotMeasurable, match="too few to choose"):
        compare_scores(Project.open(config))
    with pytest.raises(ValueError, match="dev_share"):
        compare_scores(Project.open(config), dev_share=1.5)


def test_a_promise_for_each_value_is_no_question_for_it(config: Path, tmp_path: Path) -> None:
    copy = tmp_path / config.name
    copy.write_text(config.read_text() + '\n[groups]\nby = "meta.kind"\n')
    with pytest.raises(UsageError, match="`estimators` knows one promise"):
        compare_scores(Project.open(copy))


def test_the_command_prints_and_certifies_nothing(config: Path) -> None:
    before = (config.parent / "certificate.json").read_bytes()
    given = ["estimators", "--config", str(config), "--draws", "5"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0
    assert "> chosen by dev rows: set [ensemble] estimator = " in done.stdout
    assert "nothing was certified" in done.stdout
    assert "AUROC" in done.stdout
    value = json.loads(CliRunner().invoke(app, [*given, "--json"]).stdout)
    assert {row["name"] for row in value["estimators"]} == {"ensemble", "sampled"}
    assert "must not certify again" in value["warning"]
    assert (config.parent / "certificate.json").read_bytes() == before
