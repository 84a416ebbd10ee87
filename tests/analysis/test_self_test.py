"""The self-test counts violations, in standard worlds and in one made from recorded votes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.projects import calibrate, write_project
from trustescalate.analysis.self_test import OWN, SHARP, SHARPER, main, own_world, self_test, self_test_of
from trustescalate.errors import EXIT_BREACH, EXIT_PASSED, EXIT_USAGE, NoCertificate
from trustescalate.project import Project
from trustescalate.stats.pooling import Rows
from trustescalate.stats.validity import world

pytestmark = pytest.mark.slow


def test_the_self_test_holds_and_would_notice_if_it_did_not() -> None:
    found = self_test(0.15, 0.1, 200, 2, 60, 0)
    assert found.holds
    assert all(row.violations <= row.limit < row.trials for row in found.results)
    assert {row.trials for row in found.results if row.world != SHARP} == {60}
    assert {row.trials for row in found.results if row.world == SHARP} == {60 * SHARPER}
    assert any(row.certified >= 50 for row in found.results)
    hopeless = [row for row in found.results if row.world == "hopeless"]
    assert sum(row.certified for row in hopeless) <= sum(row.limit for row in hopeless)
    broken = replace(found, results=(replace(found.results[0], violations=found.results[0].limit + 1),))
    assert not broken.holds
    assert "VIOLATED" in broken.lines()[-1]
    assert found.as_dict()["holds"] is True


def test_the_self_test_depends_on_its_seed_alone() -> None:
    assert self_test(0.2, 0.1, 100, 1, 20, 3) == self_test(0.2, 0.1, 100, 1, 20, 3)
    assert self_test(0.2, 0.1, 100, 1, 20, 3) != self_test(0.2, 0.1, 100, 1, 20, 4)


# ── one's own world ──────────────────────────────────────────────────────────────────────────────


def test_a_world_keeps_the_shape_of_its_rows() -> None:
    """Many rows of a known world give its error back, bin by bin, and its scores."""
    known = world("monotone", 0.2, 2)
    sample = known.draw(20_000, np.random.default_rng(0))
    mine = own_world(Rows(*sample, np.zeros(sample.scores.shape)))
    assert mine.scores.shape == sample.scores.shape
    assert abs(mine.scores - sample.scores).max() < 0.06
    assert mine.scores.mean() == pytest.approx(sample.scores.mean())
    wrong = (sample.labels != sample.truth[:, None]).mean(axis=0)
    assert mine.error.mean(axis=0) == pytest.approx(wrong, abs=1e-3)
    for thresholds in (np.array([0.9, 0.9]), np.array([0.7, 0.8])):
        assert mine.risk_coverage(thresholds) == pytest.approx(known.risk_coverage(thresholds), abs=0.05)


def test_few_rows_are_smoothed_and_silence_is_an_error() -> None:
    scores, truth = np.linspace(0.5, 1, 40)[:, None], np.zeros(40, dtype=int)
    quiet = own_world(Rows(scores, np.where(scores < 0.6, -1, 0), truth, np.zeros((40, 1))))
    assert np.all((quiet.error > 0) & (quiet.error < 1))
    assert quiet.error[0, 0] > 0.5 > quiet.error[-1, 0]
    with pytest.raises(ValueError, match="rows"):
        own_world(Rows(scores[:0], scores[:0].astype(int), truth[:0], scores[:0]))


def test_ones_own_setting_stands_beside_the_standard_worlds(tmp_path: Path) -> None:
    config = write_project(tmp_path)
    with pytest.raises(NoCertificate):
        self_test_of(Project.open(config).config, 10, 0)
    certificate = calibrate(config)
    found = self_test_of(Project.open(config).config, 20, 0)
    assert (found.alpha, found.delta, found.rows, found.tiers) == (0.3, 0.2, certificate.n, 2)
    assert [row.world for row in found.results].count(OWN) == 1
    assert found.results[0].procedure == "fallback, common"
    assert found.results[0].certified > 0
    assert found.holds
    assert found == self_test_of(Project.open(config).config, 20, 0)
    assert "yours" in "\n".join(found.lines())


def test_it_takes_a_configuration_or_a_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_project(tmp_path)
    calibrate(config)
    given = ["--config", str(config), "--trials", "5"]
    assert main([*given, "--json", "--set", "guarantee.alpha=0.4"]) == EXIT_PASSED
    value = json.loads(capsys.readouterr().out)
    assert (value["results"][0]["world"], value["alpha"]) == (OWN, 0.4)
    assert main(["--config", str(tmp_path / "nowhere.toml")]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith("error: ")
    assert main(["--trials", "3", "--rows", "50", "--tiers", "1"]) == EXIT_PASSED
    assert "the guarantee holds" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [
        ["--config", "trustescalate.toml", "--rows", "9"],
        ["--alpha", "1"],
        ["--delta", "3"],
        ["--rows", "0"],
        ["--tiers", "9"],
        ["--trials", "0"],
        ["--seed", "-1"],
    ],
    ids=" ".join,
)
def test_what_is_out_of_range_is_usage(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == EXIT_USAGE
    assert "error: " in capsys.readouterr().err


def test_too_many_violations_end_as_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = self_test(0.2, 0.1, 50, 1, 2, 0)
    broken = replace(broken, results=(replace(broken.results[0], violations=99),))
    monkeypatch.setattr("trustescalate.analysis.self_test.self_test", lambda *_: broken)
    assert main([]) == EXIT_BREACH
