"""Paths and estimators side by side on recorded votes: dev rows choose, the others certify."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.support.projects import calibrate, simulated, write_project
from trustescalate.analysis.recorded_votes import read_recorded
from trustescalate.analysis.tune import Population, compare_policies, split_rows, tune
from trustescalate.calibration.ledger import read_ledger
from trustescalate.cli import app
from trustescalate.errors import NoCertificate, NotMeasurable, UsageError
from trustescalate.project import Project
from trustescalate.stats.compare import certify_paths, wish
from trustescalate.stats.confidence import ESTIMATORS
from trustescalate.stats.paths import PATHS
from trustescalate.stats.policy import evaluate
from trustescalate.stats.rule import TestRule


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was calibrated."""
    path = write_project(tmp_path_factory.mktemp("tune"), labelled=200)
    assert calibrate(path).status == "certified"
    return path


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_path_stands_beside_every_estimator_and_one_is_chosen(config: Path) -> None:
    table = tune(Project.open(config).config, dev_share=0.4, seed=5)
    estimators = [name for name in ESTIMATORS if name not in ("verbalized", *table.same)]
    wanted = [(name, path) for name in estimators for path in (*PATHS, "tierwise")]
    assert [(row.estimator, row.path) for row in table.policies] == wanted
    assert {"ensemble", "sampled"} <= set(estimators)
    (chosen,) = [row for row in table.policies if row.chosen]
    prefer = Project.open(config).config.guarantee.prefer
    tried = [row for row in table.policies if row.dev_coverage is not None and row.dev_cost is not None]
    assert chosen == min(tried, key=lambda row: wish(row.dev_coverage or 0, row.dev_cost or 0, prefer, 0))
    assert tune(Project.open(config).config, dev_share=0.4, seed=5) == table
    assert tune(Project.open(config).config, dev_share=0.4, seed=6) != table


def test_the_figures_are_those_of_the_statistics(config: Path) -> None:
    recorded, table = (
        read_recorded(Project.open(config).config),
        tune(Project.open(config).config, dev_share=0.4, seed=5),
    )
    dev, guarantee = split_rows(len(recorded.certify.truth), 0.4, 5), Project.open(config).config.guarantee
    rule = TestRule(0.3, 0.2 * 0.9, None, prefer=guarantee.prefer)
    expected = certify_paths(recorded.certify, dev, rule, classes=recorded.classes, pilot=recorded.pilot)
    assert (table.dev, table.rows) == (int(dev.sum()), int((~dev).sum()))
    rows = [row for row in table.policies if row.estimator == "ensemble"]
    for row, result in zip(rows, expected.results, strict=False):
        assert (row.dev_coverage, row.dev_cost) == (result.coverage, result.cost)
        assert row.certified == (result.certified.chosen is not None)
        assert row.coverage_lower == result.certified.coverage_lower
        if result.certified.chosen is not None:
            assert row.errors == result.certified.table.errors[result.certified.chosen]
    paper = rows[-1]
    assert (paper.path, paper.chosen, paper.dev_coverage) == ("tierwise", False, None)
    assert paper.thresholds is not None
    thresholds = np.array([np.inf if tau is None else tau for tau in paper.thresholds])
    seen = evaluate(thresholds[None], *recorded.certify.take(~dev))
    assert (paper.accepted, paper.errors) == (int(seen.accepted[0]), int(seen.errors[0]))
    assert paper.cost == float(seen.cost[0])


def test_labels_of_certification_rows_choose_nothing(config: Path) -> None:
    """With every label of theirs turned round, the choice and what dev rows say stay as they were."""
    recorded, guarantee = read_recorded(Project.open(config).config), Project.open(config).config.guarantee
    dev = np.arange(len(recorded.certify.truth)) % 3 == 0
    truth = np.where(dev, recorded.certify.truth, 1 - recorded.certify.truth)
    one, two = (
        compare_policies(
            {"ensemble": Population(rows, recorded.pilot)}, dev, guarantee, classes=3, pools=True
        )
        for rows in (recorded.certify, recorded.certify._replace(truth=truth))
    )
    assert [(row.chosen, row.dev_coverage) for row in one] == [(row.chosen, row.dev_coverage) for row in two]
    assert [row.certified for row in one] != [row.certified for row in two]


def test_stated_confidences_leave_one_estimator(tmp_path: Path) -> None:
    judge = simulated("small", "XS", mode='"stated"')
    path = write_project(tmp_path, judge, labelled=120, ensemble='estimator = "verbalized"')
    calibrate(path)
    assert {row.estimator for row in tune(Project.open(path).config).policies} == {"verbalized"}


def test_what_is_missing_is_named(config: Path, tmp_path: Path) -> None:
    with pytest.raises(NoCertificate):
        tune(Project.open(write_project(tmp_path / "new")).config)
    with pytest.raises(NotMeasurable, match="cannot be split"):
        tune(Project.open(config).config, dev_share=0.001)
    with pytest.raises(ValueError, match="dev_share"):
        tune(Project.open(config).config, dev_share=1.0)
    copy = tmp_path / config.name
    copy.write_text(f"{config.read_text()}\n[groups]\nby = 'meta.kind'\n")
    with pytest.raises(UsageError, match="`tune` supports one guarantee"):
        tune(Project.open(copy).config)


def test_the_command_writes_to_the_ledger_alone(config: Path) -> None:
    tune(Project.open(config).config)
    assert read_ledger(config.parent).lines[-1].event == "choice"
    before = {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")}
    shown = cli("tune", "--config", config)
    assert shown.exit_code == 0
    assert "> chosen by dev rows: set [guarantee] path = " in shown.stdout
    assert "Nothing was certified" in shown.stdout
    value = json.loads(cli("tune", "--config", config, "--json", "--seed", 3).stdout)
    assert value["seed"] == 3
    assert "must not certify again" in value["warning"]
    assert {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")} == before
    assert cli("tune", "--config", config, "--dev-share", 1).exit_code == 2
