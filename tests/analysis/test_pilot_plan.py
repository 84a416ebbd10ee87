"""Plans and comparisons from recorded votes: they agree with the statistics, repeat, and certify nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.test_project import calibrate, edit, shuffled, write_project
from trustescalate.analysis.path_choice import compare_paths
from trustescalate.analysis.pilot_plan import plan_from_pilot, write_plot
from trustescalate.analysis.recorded_votes import read_recorded
from trustescalate.calibration.ledger import read_ledger
from trustescalate.cli import app
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import NoCertificate, NotMeasurable
from trustescalate.project import CERTIFICATE_VOTES, Project
from trustescalate.records import Pooling
from trustescalate.stats.certify import certify
from trustescalate.stats.compare import certify_paths
from trustescalate.stats.paths import PATHS, Basis
from trustescalate.stats.pilot import pilot_ceiling, pilot_power
from trustescalate.stats.policy import evaluate


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was calibrated."""
    path = write_project(tmp_path_factory.mktemp("pilot"), labelled=200)
    assert calibrate(path).status == "certified"
    return path


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# ── the recorded rows ────────────────────────────────────────────────────────────────────────────


def test_recorded_rows_certify_what_the_certificate_says(config: Path) -> None:
    """The arrays are those of the calibration: the same test gives the same counts, costs and thresholds."""
    recorded = read_recorded(Project.open(config))
    certificate = recorded.certificate
    assert certificate.attempt is not None
    again = certify(
        *recorded.certify,
        alpha=certificate.alpha,
        delta=certificate.delta * certificate.attempt.share,
        path=recorded.plan("common"),
        prefer="cost",
    )
    assert len(recorded.certify.truth) == certificate.n
    assert again.table.errors.tolist() == [test.errors for test in certificate.tests]
    assert again.table.cost.tolist() == [test.cost for test in certificate.tests]
    assert again.chosen == certificate.chosen
    assert again.thresholds is not None
    assert tuple(again.thresholds.tolist()) == certificate.thresholds


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    with pytest.raises(NoCertificate):
        read_recorded(Project.open(path))
    calibrate(path)
    with pytest.raises(NotMeasurable, match="fitted on dev rows"):
        read_recorded(Project.open(path)).plan("pareto")
    (tmp_path / CERTIFICATE_VOTES).unlink()
    with pytest.raises(NotMeasurable, match="no recorded votes"):
        read_recorded(Project.open(path))


def test_fitted_paths_find_their_dev_rows(tmp_path: Path) -> None:
    path = write_project(tmp_path, labelled=200, guarantee='path = "stacked"')
    edit(path, "shots = 2", "shots = 2\n[roles]\ndev = 0.3")
    certificate = calibrate(path)
    recorded = read_recorded(Project.open(path))
    assert recorded.dev is not None
    assert len(recorded.dev.truth) == len(certificate.roles["dev"])
    (stack,) = recorded.plan("stacked").readings
    assert stack is not None
    assert certificate.stack == Pooling(
        tuple(tuple((float(a), float(b)) for a, b in tier) for tier in stack.weights), stack.clip
    )
    found = plan_from_pilot(Project.open(path), wanted=0.4, rows=(100,), trials=10)
    assert found.path == "stacked"


# ── plan --pilot ─────────────────────────────────────────────────────────────────────────────────


def test_a_pilot_plan_is_what_the_statistics_say(config: Path) -> None:
    project = Project.open(config)
    found = plan_from_pilot(project, wanted=0.5, rows=(40, 160, 640), trials=40, seed=3)
    rows = read_recorded(project).certify
    expected = pilot_power(
        *rows,
        np.array([40, 160, 640]),
        alpha=0.3,
        delta=0.2 * 0.9,
        wanted=0.5,
        path=read_recorded(project).plan("common"),
        prefer="cost",
        trials=40,
        rng=np.random.default_rng(3),
    )
    assert (found.power, found.cost) == (tuple(expected.power), tuple(expected.cost))
    assert found.ceiling == pilot_ceiling(rows.labels, rows.truth, 0.3)
    assert found.power[0] <= found.power[2]
    assert found.cost[0] >= found.cost[2]
    assert found.needed in (None, 40, 160, 640)
    assert found.pilot == len(rows.truth)


def test_an_abstained_item_has_paid_every_judge(config: Path) -> None:
    found = plan_from_pilot(Project.open(config), wanted=0.5, rows=(5,), trials=5)
    rows = read_recorded(Project.open(config)).certify
    assert found.power == (0.0,)
    assert found.needed is None
    assert found.cost[0] == pytest.approx(found.every_judge)
    assert found.every_judge == pytest.approx(rows.costs.sum(axis=1).mean())
    thresholds = Project.open(config).certificate().thresholds
    assert thresholds is not None
    assert found.certified == float(evaluate(np.array([thresholds], dtype=float), *rows).cost[0])


def test_a_plan_repeats_and_its_seed_matters(config: Path) -> None:
    one, two, other = (
        plan_from_pilot(Project.open(config), wanted=0.6, rows=(60,), trials=60, seed=s) for s in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_a_refusal_can_be_planned_from(tmp_path: Path) -> None:
    path = write_project(tmp_path, change=shuffled)
    assert calibrate(path).status == "none"
    found = plan_from_pilot(Project.open(path), wanted=0.5, rows=(50, 200), trials=10)
    assert (found.needed, found.certified) == (None, None)
    assert "no number of labels up to 200" in "\n".join(found.lines())


def test_the_plot_is_the_same_every_time(config: Path, tmp_path: Path) -> None:
    found = plan_from_pilot(Project.open(config), wanted=0.5, rows=(40, 160), trials=5)
    write_plot(found, tmp_path / "a.svg")
    write_plot(found, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "labelled certification rows" in text
    assert text.lstrip().startswith("<?xml")


def test_the_plan_command(config: Path, tmp_path: Path) -> None:
    given = ("plan", "--pilot", "--config", config, "--coverage", 0.5, "--trials", 5)
    shown = cli(*given, "--plot", tmp_path / "power.svg")
    assert shown.exit_code == 0
    assert "must not certify again" in shown.stdout
    assert (tmp_path / "power.svg").is_file()
    value = json.loads(cli(*given, "--json", "--alpha", 0.4).stdout)
    assert (value["alpha"], value["delta"], value["trials"]) == (0.4, 0.2, 5)
    assert "must not certify again" in value["warning"]
    refused = cli("plan", "--plot", tmp_path / "no.svg")
    assert (refused.exit_code, (tmp_path / "no.svg").exists()) == (2, False)
    assert cli("plan", "--pilot", "--config", write_project(tmp_path / "new")).exit_code == 3


# ── paths ────────────────────────────────────────────────────────────────────────────────────────


def test_paths_are_those_of_the_statistics(config: Path) -> None:
    project = Project.open(config)
    recorded = read_recorded(project)
    found = compare_paths(project, dev_share=0.4, seed=5)
    n = len(recorded.certify.truth)
    dev = np.zeros(n, dtype=bool)
    dev[np.random.default_rng(5).permutation(n)[: round(0.4 * n)]] = True
    rules = {"alpha": 0.3, "delta": 0.2 * 0.9, "classes": recorded.classes, "prefer": "coverage"}
    expected = certify_paths(recorded.certify, dev, pilot=recorded.pilot, **rules)  # type: ignore[arg-type]
    assert (found.dev, found.rows) == (int(dev.sum()), int((~dev).sum()))
    assert [row.path for row in found.paths] == [*PATHS, "tierwise"]
    assert [row.chosen for row in found.paths].index(True) == expected.chosen
    for row, result in zip(found.paths, expected.results, strict=False):
        assert row.certified == (result.certified.chosen is not None)
        assert row.coverage_lower == result.certified.coverage_lower
        if result.certified.chosen is not None:
            assert row.errors == result.certified.table.errors[result.certified.chosen]
    assert not found.paths[-1].chosen


def test_labels_of_certification_rows_choose_nothing(config: Path) -> None:
    """With every label of theirs turned round, the choice and what dev rows said stay as they were."""
    recorded = read_recorded(Project.open(config))
    rows, dev = recorded.certify, np.arange(len(recorded.certify.truth)) % 3 == 0
    turned = rows._replace(truth=np.where(dev, rows.truth, 1 - rows.truth))
    rules = {"alpha": 0.3, "delta": 0.2, "classes": recorded.classes, "pilot": recorded.pilot}
    one, two = (certify_paths(some, dev, **rules) for some in (rows, turned))  # type: ignore[arg-type]
    assert one.chosen == two.chosen
    assert [row.coverage for row in one.results] == [row.coverage for row in two.results]
    assert [row.certified.chosen for row in one.results] != [row.certified.chosen for row in two.results]


def test_tierwise_counts_all_its_tiers(config: Path) -> None:
    (paper,) = [row for row in compare_paths(Project.open(config)).paths if row.path == "tierwise"]
    recorded = read_recorded(Project.open(config))
    dev = np.zeros(len(recorded.certify.truth), dtype=bool)
    dev[np.random.default_rng(0).permutation(len(dev))[: round(0.3 * len(dev))]] = True
    if paper.thresholds is not None:
        thresholds = np.array([np.inf if tau is None else tau for tau in paper.thresholds])
        seen = evaluate(thresholds[None], *recorded.certify.take(~dev))
        assert (paper.accepted, paper.errors) == (int(seen.accepted[0]), int(seen.errors[0]))
        assert paper.cost == float(seen.cost[0])


def test_the_paths_command_writes_to_the_ledger_alone(config: Path) -> None:
    compare_paths(Project.open(config))
    assert read_ledger(config.parent).lines[-1].event == "choice"
    before = {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")}
    shown = cli("paths", "--config", config)
    assert shown.exit_code == 0
    assert "set [guarantee] path = " in shown.stdout
    assert "nothing was certified" in shown.stdout
    value = json.loads(cli("paths", "--config", config, "--json", "--seed", 3).stdout)
    assert (value["seed"], len(value["paths"])) == (3, len(PATHS) + 1)
    assert {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")} == before
    assert cli("paths", "--config", config, "--dev-share", 1).exit_code == 2
    with pytest.raises(NotMeasurable, match="cannot be split"):
        compare_paths(Project.open(config), dev_share=0.001)
    with pytest.raises(ValueError, match="dev_share"):
        compare_paths(Project.open(config), dev_share=1.0)


def test_reading_asks_nobody_and_reads_only_its_rows(config: Path) -> None:
    recorded = read_recorded(Project.open(config))
    data = load_dataset(Project.open(config).config)
    assert len(recorded.certify.truth) <= len(data.labelled)
    assert recorded.pilot is not None
    assert recorded.plan("hedged").parts[0].tolist() == (
        PATHS["hedged"].build(Basis(None, recorded.pilot, 2, recorded.classes)).parts[0].tolist()
    )
