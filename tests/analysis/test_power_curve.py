"""The power curve of a calibration is that of `plan`, from the recorded rows, and it spends nothing."""

from pathlib import Path

import pytest

from tests.support.projects import calibrate, write_project
from trustescalate.analysis.power_curve import power_curve
from trustescalate.analysis.sample_size import plan_from_pilot
from trustescalate.calibration.files import CERTIFICATE_VOTES
from trustescalate.calibration.ledger import LEDGER
from trustescalate.config import load_config
from trustescalate.project import Project
from trustescalate.report.calibration_page import TRIALS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_project(tmp_path_factory.mktemp("power"), alpha=0.03)
    assert calibrate(path).status == "none"
    return path


def test_the_curve_is_that_of_plan_and_spends_nothing(config: Path) -> None:
    before = (config.parent / LEDGER).read_bytes()
    curve = power_curve(load_config(config))
    assert curve is not None
    assert curve == power_curve(load_config(config))
    assert (config.parent / LEDGER).read_bytes() == before
    assert curve.now == Project.open(config).certificate().n
    plan = plan_from_pilot(load_config(config), wanted=1e-9, rows=curve.rows, trials=TRIALS)
    assert (curve.power, curve.limits) == (plan.power, plan.limits)
    assert (config.parent / LEDGER).read_bytes() != before


def test_no_curve_without_votes_or_with_a_guarantee_for_each_group(config: Path, tmp_path: Path) -> None:
    grouped = write_project(tmp_path / "grouped", more='[groups]\nby = "meta.kind"\n')
    assert power_curve(load_config(grouped)) is None
    (config.parent / CERTIFICATE_VOTES).rename(tmp_path / "votes")
    assert power_curve(load_config(config)) is None
    (tmp_path / "votes").rename(config.parent / CERTIFICATE_VOTES)


def test_the_page_without_a_run_says_what_the_rows_say(config: Path) -> None:
    report, path = Project.open(config).report()
    assert "Chance of a certificate at α = 3 %" in path.read_text(encoding="utf-8")
    page = report.page()
    assert (page.kind, page.headline) == ("calibration", "No certificate")
    assert [figure.name for figure in page.figures] == [
        "Best single judge",
        "Smallest α that these rows pass",
        "Fresh labels for α = 3 %",
        "Human leave-one-out agreement",
    ]
    assert [type(picture).__name__ for picture in page.pictures] == ["RiskCoverage", "Power"]
    assert page.sections[0].slug == "what-could-be-had"
    assert page.follow[0] == f"trustescalate run --config {config} --uncertified"
    assert len(page.follow) == 3
