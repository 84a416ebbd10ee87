"""Plans agree with the statistics, repeat, and certify nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.support.projects import calibrate, edit, shuffled, write_project
from trustescalate.analysis.recorded_votes import read_recorded
from trustescalate.analysis.sample_size import plan_from_guesses, plan_from_pilot, plan_labels, write_plot
from trustescalate.calibration.files import CERTIFICATE_VOTES
from trustescalate.calibration.ledger import read_ledger
from trustescalate.cli import app
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import NoCertificate, NotMeasurable, UsageError
from trustescalate.project import Project
from trustescalate.records import Pooling
from trustescalate.stats.certify import certify
from trustescalate.stats.paths import PATHS, Basis
from trustescalate.stats.pilot import pilot_ceiling, pilot_power
from trustescalate.stats.planning import coverage_ceiling, label_floor, labels_needed, max_errors, power
from trustescalate.stats.policy import evaluate
from trustescalate.stats.rule import TestRule

pytestmark = pytest.mark.slow


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
    recorded = read_recorded(Project.open(config).config)
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
        read_recorded(Project.open(path).config)
    calibrate(path)
    with pytest.raises(NotMeasurable, match="fitted on dev rows"):
        read_recorded(Project.open(path).config).plan("pareto")
    (tmp_path / CERTIFICATE_VOTES).unlink()
    with pytest.raises(NotMeasurable, match="no recorded votes"):
        read_recorded(Project.open(path).config)


def test_fitted_paths_find_their_dev_rows(tmp_path: Path) -> None:
    path = write_project(tmp_path, labelled=200, guarantee='path = "stacked"')
    edit(path, "shots = 2", "shots = 2\n[roles]\ndev = 0.3")
    certificate = calibrate(path)
    recorded = read_recorded(Project.open(path).config)
    assert recorded.dev is not None
    assert len(recorded.dev.truth) == len(certificate.roles["dev"])
    (stack,) = recorded.plan("stacked").readings
    assert stack is not None
    assert certificate.stack == Pooling(
        tuple(tuple((float(a), float(b)) for a, b in tier) for tier in stack.weights), stack.clip
    )
    found = plan_from_pilot(Project.open(path).config, wanted=0.4, rows=(100,), trials=10)
    assert found.path == "stacked"


# ── from recorded votes ──────────────────────────────────────────────────────────────────────────


def test_a_pilot_plan_is_what_the_statistics_say(config: Path) -> None:
    project = Project.open(config)
    found = plan_from_pilot(project.config, wanted=0.5, rows=(40, 160, 640), trials=40, seed=3)
    rows = read_recorded(project.config).certify
    expected = pilot_power(
        *rows,
        np.array([40, 160, 640]),
        TestRule(0.3, 0.2 * 0.9, read_recorded(project.config).plan("common"), prefer="cost"),
        wanted=0.5,
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
    found = plan_from_pilot(Project.open(config).config, wanted=0.5, rows=(5,), trials=5)
    rows = read_recorded(Project.open(config).config).certify
    assert found.power == (0.0,)
    assert found.needed is None
    assert found.cost[0] == pytest.approx(found.every_judge)
    assert found.every_judge == pytest.approx(rows.costs.sum(axis=1).mean())
    thresholds = Project.open(config).certificate().thresholds
    assert thresholds is not None
    assert found.certified == float(evaluate(np.array([thresholds], dtype=float), *rows).cost[0])


def test_a_plan_repeats_and_its_seed_matters(config: Path) -> None:
    one, two, other = (
        plan_from_pilot(Project.open(config).config, wanted=0.6, rows=(60,), trials=60, seed=s)
        for s in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_a_refusal_can_be_planned_from(tmp_path: Path) -> None:
    path = write_project(tmp_path, change=shuffled)
    assert calibrate(path).status == "none"
    found = plan_from_pilot(Project.open(path).config, wanted=0.5, rows=(50, 200), trials=10)
    assert (found.needed, found.certified) == (None, None)
    assert "no number of labels up to 200" in "\n".join(found.lines())


def test_the_plot_is_the_same_every_time(config: Path, tmp_path: Path) -> None:
    found = plan_from_pilot(Project.open(config).config, wanted=0.5, rows=(40, 160), trials=5)
    write_plot(found, tmp_path / "a.svg")
    write_plot(found, tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert "labelled certification rows" in text
    assert text.lstrip().startswith("<?xml")


def test_the_plan_command(config: Path, tmp_path: Path) -> None:
    given = ("plan", "--config", config, "--coverage", 0.5, "--trials", 5)
    shown = cli(*given, "--plot", tmp_path / "power.svg")
    assert shown.exit_code == 0
    assert "must not certify again" in shown.stdout
    assert (tmp_path / "power.svg").is_file()
    value = json.loads(cli(*given, "--json", "--alpha", 0.4).stdout)
    assert (value["alpha"], value["delta"], value["trials"]) == (0.4, 0.2, 5)
    assert "must not certify again" in value["warning"]
    refused = cli(*given, "--disagreement", 0.1, "--plot", tmp_path / "no.svg")
    assert (refused.exit_code, (tmp_path / "no.svg").exists()) == (2, False)


def test_a_plan_takes_what_its_configuration_says(config: Path, tmp_path: Path) -> None:
    before = read_ledger(config.parent).lines
    guessed = plan_labels(Project.open(config).config, disagreement=0.1, coverage=0.5)
    assert guessed == plan_from_guesses(0.3, 0.2, 0.1, 0.5, None)
    assert read_ledger(config.parent).lines == before, "guesses read no label"
    new = Project.open(write_project(tmp_path / "new")).config
    assert plan_labels(new) == plan_from_guesses(0.3, 0.2, 0.08, 0.7, None), "no votes are recorded yet"
    assert plan_labels(new, alpha=0.1, delta=0.05) == plan_from_guesses(0.1, 0.05, 0.08, 0.7, None)
    assert plan_labels(None) == plan_from_guesses(0.15, 0.1, 0.08, 0.7, None)
    with_votes = plan_labels(Project.open(config).config, alpha=0.4, delta=0.3, coverage=0.5, trials=2)
    assert with_votes == plan_from_pilot(
        Project.open(config).config, wanted=0.5, alpha=0.4, delta=0.3, trials=2
    )


def test_a_plan_finds_the_configuration_it_stands_in(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(cli("plan", "--json").stdout)["alpha"] == 0.15
    monkeypatch.chdir(config.parent)
    assert json.loads(cli("plan", "--json", "--disagreement", 0.1).stdout)["alpha"] == 0.3
    assert json.loads(cli("plan", "--json", "--trials", 2).stdout)["pilot"] > 0
    assert cli("plan", "--config", tmp_path / "nowhere.toml").exit_code == 2


def test_groups_with_guarantees_of_their_own_are_planned_one_by_one(config: Path, tmp_path: Path) -> None:
    copy = tmp_path / config.name
    copy.write_text(f"{config.read_text()}\n[groups]\nby = 'meta.kind'\n")
    with pytest.raises(UsageError, match="`plan` supports one guarantee"):
        plan_labels(Project.open(copy).config)
    assert plan_labels(Project.open(copy).config, alpha=0.2, delta=0.05) == plan_from_guesses(
        0.2, 0.05, 0.08, 0.7, None
    )


def test_reading_asks_nobody_and_reads_only_its_rows(config: Path) -> None:
    recorded = read_recorded(Project.open(config).config)
    data = load_dataset(Project.open(config).config)
    assert len(recorded.certify.truth) <= len(data.labelled)
    assert recorded.pilot is not None
    assert recorded.plan("hedged").parts[0].tolist() == (
        PATHS["hedged"].build(Basis(None, recorded.pilot, 2, recorded.classes)).parts[0].tolist()
    )


# ── from guesses ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("alpha", "delta", "risk", "share"), [(0.15, 0.1, 0.08, 0.7), (0.05, 0.05, 0.01, 1.0)]
)
def test_a_plan_is_what_the_statistics_say(alpha: float, delta: float, risk: float, share: float) -> None:
    plan = plan_from_guesses(alpha, delta, risk, share, 0.2)
    needed = labels_needed(risk, alpha, delta)
    assert needed is not None
    assert plan.needed is not None
    assert (plan.needed - 1) * share < needed <= plan.needed * share
    assert plan.floor == label_floor(alpha, delta)
    assert plan.ceiling == coverage_ceiling(0.2, alpha)
    released = np.array([int(rows * share) for rows in plan.rows])
    assert list(plan.allowed) == max_errors(released, alpha, delta).tolist()
    assert list(plan.power) == power(released, risk, alpha, delta).tolist()


def test_a_plan_that_no_number_of_labels_can_meet() -> None:
    plan = plan_from_guesses(0.1, 0.1, 0.1, 0.5, None)
    assert plan.needed is None
    assert "no number of labels" in "\n".join(plan.lines())


@pytest.mark.parametrize(
    "guess", [{"alpha": 0.0}, {"delta": 1.0}, {"disagreement": -0.1}, {"coverage": 0.0}, {"overall": 2.0}]
)
def test_guesses_that_are_no_shares_are_refused(guess: dict[str, float]) -> None:
    given: dict[str, Any] = {
        "alpha": 0.1,
        "delta": 0.1,
        "disagreement": 0.05,
        "coverage": 0.5,
        "overall": None,
    }
    with pytest.raises(ValueError, match=r"must|shares"):
        plan_from_guesses(**{**given, **guess})
