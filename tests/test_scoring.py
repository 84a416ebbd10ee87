"""Scores from the configuration to the report: fitted on rows set apart, kept exactly, decided alike."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.test_project import Calls, calibrate, run, simulated, write_project
from trustescalate.errors import BudgetReached, CertificateMismatch, ConfigError, NotMeasurable
from trustescalate.inspection import rehearse
from trustescalate.pilot_plan import plan_from_pilot
from trustescalate.project import Project
from trustescalate.recorded import read_recorded
from trustescalate.report.facts import build
from trustescalate.report.markdown import render_markdown
from trustescalate.scoring import FEWEST
from trustescalate.selftest import self_test_of

WAYS: Mapping[str, str] = {
    "sampled": 'estimator = "sampled"',
    "learned": 'estimator = "learned"',
    "boosted": 'estimator = "boosted"',
    "isotonic": 'recalibrate = "isotonic"',
    "platt": 'estimator = "sampled"\nrecalibrate = "platt"',
    "temperature": 'recalibrate = "temperature"',
    "dearest": 'estimator = "learned"\nlearn_from = "dearest"',
    "dearest, curve": 'recalibrate = "platt"\nlearn_from = "dearest"',
}
MORE = "[roles]\ndev = 0.4\n"


def project_with(folder: Path, way: str, **more: Any) -> Path:
    judges = simulated("small", "XS") + simulated("large", "M")
    given = {"labelled": 150, "unlabelled": 40, "guarantee": 'path = "hedged"', "more": MORE, **more}
    return write_project(folder, judges, ensemble=WAYS.get(way, way), **given)


def replayed(config: Path) -> Path:
    """The same project with the recorded votes in the place of its judges."""
    text = config.read_text()
    head = text[: text.index("[[judges]]")]
    for name in ("small", "large"):
        head += f'[[judges]]\nname = "{name}"\nbackend = "replay"\nvotes = "all.jsonl"\n'
    config.write_text(head)
    return config


# ── the whole way ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_score_goes_from_calibration_to_the_report(way: str, tmp_path: Path) -> None:
    config = project_with(tmp_path, way)
    made = calibrate(config)
    assert made.status == "certified"
    assert Project.open(config).certificate() == made
    fitted = way != "sampled"
    assert (made.scoring is not None) == fitted
    if made.scoring is not None:
        assert set(made.scoring.fits) == {"small"} | ({"large"} if "dearest" not in way else set())
        assert all(fit.rows >= FEWEST and fit.numbers for fits in made.scoring.fits.values() for fit in fits)
    done = run(config)
    assert len(done.decisions) == 40
    assert any(decision.label for decision in done.decisions)
    assert done.overall is not None
    assert done.overall.estimate is not None
    assert len(done.shift) > 0
    page = render_markdown(build(done))
    assert made.estimator in page
    assert ("What was fitted" in page) == fitted
    project = Project.open(config)
    plan = plan_from_pilot(project, wanted=0.5, rows=(50, 100), trials=5)
    assert plan.certified is not None
    assert self_test_of(project, 5, 0).results[0].world == "yours"
    assert asyncio.run(rehearse(project, None)).estimates


@pytest.mark.parametrize("way", ["learned", "boosted", "isotonic"])
def test_certified_rows_get_the_same_bits_in_a_run(way: str, tmp_path: Path) -> None:
    """Every row that was tested, judged again alone: its score is the one that was tested."""
    config = project_with(tmp_path, way)
    made = calibrate(config)
    project = Project.open(config)
    recorded = read_recorded(project)
    wanted = set(made.roles["certify"])
    again = tmp_path / "again.jsonl"
    lines = (tmp_path / "items.jsonl").read_text().splitlines()
    again.write_text("\n".join(line for line in lines if json.loads(line)["id"] in wanted))
    done = run(config, items=again)
    place = {item_id: row for row, item_id in enumerate(made.roles["certify"])}
    seen = 0
    for decision in done.decisions:
        for step in decision.trail:
            tier = ["small", "large"].index(step.judge)
            score = recorded.certify.scores[place[decision.item_id], tier]
            assert step.score <= score <= step.score_upper
            assert step.score == score or way == "isotonic"
            seen += 1
    assert seen > len(wanted)
    released = sum(decision.label is not None for decision in done.decisions)
    assert released == made.tests[made.chosen or 0].accepted


@pytest.mark.parametrize("way", ["learned", "dearest"])
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(way: str, tmp_path: Path) -> None:
    whole, cut = project_with(tmp_path / "whole", way), project_with(tmp_path / "cut", way)
    assert replace(calibrate(whole), created="") == replace(calibrate(cut), created="")
    with pytest.raises(BudgetReached):
        asyncio.run(Project.open(cut).run(budget=_budget(40)))
    done, resumed = run(whole), run(cut, resume="latest")
    assert {d.item_id: (d.label, d.score) for d in done.decisions} == {
        d.item_id: (d.label, d.score) for d in resumed.decisions
    }


def _budget(calls: int) -> Any:
    from trustescalate.config import BudgetTable

    return BudgetTable(calls=calls)


def test_a_score_that_needs_all_votes_asks_for_all_votes(tmp_path: Path) -> None:
    learned, dearest = (project_with(tmp_path / way, way) for way in ("learned", "dearest"))
    assert all(map(Scorer.of(calibrate(learned)).needs_all, ("small", "large")))
    assert all(len(row.votes) == row.planned for row in run(learned).judgments)
    taught = Scorer.of(calibrate(dearest))
    assert (taught.needs_all("small"), taught.needs_all("large")) == (True, False)


def test_a_batch_with_learned_scores_releases_what_was_counted(tmp_path: Path) -> None:
    promise = 'claim = "batch"\nlabel = 120\npath = "hedged"'
    config = project_with(tmp_path, "learned", labelled=190, unlabelled=0, guarantee=promise)
    made = calibrate(config)
    assert made.status == "certified"
    assert made.scoring is not None
    done = run(config)
    released = sum(decision.label is not None for decision in done.decisions)
    assert released == made.tests[made.chosen or 0].accepted


def test_a_certificate_fits_only_the_scores_it_was_made_with(tmp_path: Path) -> None:
    config = project_with(tmp_path, "isotonic")
    calibrate(config)
    text = config.read_text()
    for new, said in (
        ('recalibrate = "platt"', "recalibrate was 'isotonic' and is 'platt'"),
        ("", "recalibrate was 'isotonic' and is None"),
        ('recalibrate = "isotonic"\nlearn_from = "dearest"', "learn_from was 'people' and is 'dearest'"),
        ('estimator = "learned"', "estimator was 'ensemble' and is 'learned'"),
    ):
        config.write_text(text.replace('recalibrate = "isotonic"', new))
        with pytest.raises(CertificateMismatch, match=said):
            run(config)


# ── what can be written ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ensemble", "more", "said"),
    [
        ('estimator = "learned"', "", 'learned" is fitted on dev rows: set .roles. dev'),
        ('recalibrate = "platt"', "", 'platt" is fitted on dev rows'),
        ('estimator = "boosted"\nrecalibrate = "platt"', MORE, "calibrated already"),
        ('learn_from = "dearest"', "", "needs something to fit"),
        ('estimator = "interval"', MORE, 'is for kind = "rating"'),
        ('estimator = "interval"\nlearn_from = "dearest"', MORE, "learns from people"),
        ('estimator = "verbalized"', "", 'set mode = "stated"'),
        ('estimator = "lerned"', "", "ensemble.estimator"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(
    ensemble: str, more: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        Project.open(project_with(tmp_path, ensemble, more=more))


def test_the_dearest_needs_somebody_to_teach_and_rows_to_teach_on(tmp_path: Path) -> None:
    way = WAYS["dearest"]
    with pytest.raises(ConfigError, match="a dearer judge"):
        Project.open(write_project(tmp_path / "one", simulated("large", "M"), ensemble=way))
    with pytest.raises(ConfigError, match="learns on the pilot"):
        Project.open(project_with(tmp_path / "none", way, more="", pilot=0))


def test_too_few_rows_are_refused_before_a_judge_is_asked(tmp_path: Path, calls: Calls) -> None:
    few = project_with(tmp_path / "few", "learned", labelled=60, more="[roles]\ndev = 0.1\n")
    with pytest.raises(NotMeasurable, match=r"scores are to be fitted on \d rows"):
        calibrate(few)
    pilot = project_with(tmp_path / "pilot", "dearest", more="", pilot=5)
    with pytest.raises(NotMeasurable, match="fitted on 5 rows"):
        calibrate(pilot)
    assert calls.asked == []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)
