"""Runs without a certificate: what they judge, record and derive again, and that nothing is released."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.command_line import cli
from tests.support.compared_runs import compared
from tests.support.projects import (
    calibrate,
    comparable,
    edit,
    run,
    shuffled,
    simulated,
    write_project,
)
from trustescalate.analysis.dry_run import estimate_run
from trustescalate.analysis.monitor import watch
from trustescalate.analysis.queues import queue_abstained
from trustescalate.calibration.verify import verify
from trustescalate.config import BudgetTable
from trustescalate.data.annotation.queue import open_queue
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import majority
from trustescalate.errors import BudgetReached, DataError, NoCertificate, UsageError
from trustescalate.project import Project
from trustescalate.records import Run
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build

TAU = {"small": 0.9}


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with labels whose judges were never calibrated, and a run at a named threshold."""
    config = write_project(tmp_path_factory.mktemp("never"), labelled=40, unlabelled=12)
    run(config, uncertified=True, thresholds=TAU)
    return config


def asked(outcome: Run) -> Mapping[str, list[str]]:
    return {row.item_id: [step.judge for step in row.trail] for row in outcome.decisions}


def test_without_any_label_every_judge_judges_every_item_and_nothing_is_released(tmp_path: Path) -> None:
    config, notices = write_project(tmp_path, labelled=0, unlabelled=8), list[str]()
    (tmp_path / "annotations.jsonl").unlink()
    project = Project.open(config, Hooks(notice=notices.append))
    outcome = asyncio.run(project.run(uncertified=True))
    assert "asked without examples" in notices[0]
    assert set(map(tuple, asked(outcome).values())) == {("small", "large")}
    assert all(len(row.votes) == row.planned for row in outcome.judgments)
    assert {(row.label, row.judge, row.reason) for row in outcome.decisions} == {(None, None, "uncertified")}
    assert len(outcome.items) == 8
    assert [outcome.verdict(row) for row in outcome.decisions] == [
        row.trail[-1].label for row in outcome.decisions
    ]
    none = outcome.header.certificate
    assert (none.status, verify(none), none.n) == ("none", (), 0)
    assert "never calibrated" in none.reason
    assert "label queue --for calibration" in none.advice
    assert run(config, resume="latest").decisions == outcome.decisions
    report, page = project.report()
    assert report.status == "uncertified"
    assert "Uncertified" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".md").read_text(encoding="utf-8").startswith("## ⚠️ Uncertified")


def test_all_items_are_judged_but_few_shot_examples(never: Path) -> None:
    project = Project.open(never)
    outcome, data = project.load_run(), load_dataset(project.config)
    shown = set(outcome.header.certificate.roles["exemplars"])
    assert len(shown) == 4
    assert {item.id for item in outcome.items} == {item.id for item in data.items} - shown
    assert {note.item_id for note in outcome.annotations} == data.annotated - shown


def test_a_score_that_reaches_the_named_threshold_ends_the_item(never: Path) -> None:
    outcome = Project.open(never).load_run()
    assert outcome.header.uncertified == TAU
    ended = [row for row in outcome.decisions if len(row.trail) == 1]
    assert 0 < len(ended) < len(outcome.decisions)
    for row in outcome.decisions:
        first, *rest = row.trail
        assert first.accepted == (not rest)
        assert first.score >= 0.9 if not rest else first.score_upper < 0.9 or first.label is None
        assert row.label is None
        for step in rest:  # asked, and never accepts
            assert (step.judge, step.threshold, step.accepted) == ("large", None, False)
            assert step.votes == step.planned


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("decisions.jsonl", '"label":null', '"label":"A"'),
        ("decisions.jsonl", '"accepted":true', '"accepted":false'),
        ("decisions.jsonl", '"reason":"uncertified"', '"reason":"accepted"'),
        ("run.json", '"small":0.9', '"small":0.8'),
        ("run.json", '"uncertified":{"small":0.9}', '"uncertified":null'),
    ],
)
def test_an_edited_row_or_threshold_is_refused(
    file: str, old: str, new: str, never: Path, tmp_path: Path
) -> None:
    project = Project.open(never)
    path = project.run_path(project.run_ids()[-1]) / file
    before = path.read_bytes()
    assert old.encode() in before
    try:
        path.write_bytes(before.replace(old.encode(), new.encode(), 1))
        with pytest.raises(DataError):
            project.load_run()
    finally:
        path.write_bytes(before)


def test_a_run_that_stopped_and_was_resumed_is_the_uninterrupted_one(never: Path, tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=40, unlabelled=12)
    with pytest.raises(BudgetReached):
        run(config, uncertified=True, thresholds=TAU, budget=BudgetTable(calls=60), use_cache=False)
    stopped = Project.open(config).load_run()
    assert 0 < len(stopped.decisions) < len(stopped.items)
    assert build(stopped).status == "uncertified"
    assert not build(stopped).complete
    with pytest.raises(UsageError, match="keeps its thresholds"):
        run(config, resume="latest", uncertified=True, thresholds={"small": 0.5})
    resumed = run(config, resume="latest", use_cache=False)
    assert resumed.header.uncertified == TAU
    whole = Project.open(never).load_run()
    assert comparable(resumed)["decisions"] == comparable(whole)["decisions"]


def test_the_no_certificate_in_place_goes_into_the_run_and_a_certificate_does_not(tmp_path: Path) -> None:
    config = write_project(tmp_path, alpha=0.1, labelled=60, change=shuffled)
    none = calibrate(config)
    assert none.status == "none"
    with pytest.raises(NoCertificate) as refused:
        run(config)
    assert "run --uncertified" in refused.value.hint
    without = run(config, uncertified=True)
    assert without.header.certificate == none
    labelled = {note.item_id for note in without.annotations}
    assert {*none.roles["certify"]} <= labelled  # their labels count in the mean, once each
    assert without.overall is not None
    units = {item.group or item.id for item in without.items if item.id in labelled}
    assert without.overall.labels == len(units)

    certified = write_project(tmp_path / "certified")
    assert calibrate(certified).status == "certified"
    notices = list[str]()
    project = Project.open(certified, Hooks(notice=notices.append))
    outcome = asyncio.run(project.run(uncertified=True))
    assert "the certificate in place is not used" in notices[0]
    assert outcome.header.certificate.status == "none"
    assert all(row.label is None for row in outcome.decisions)
    assert build(outcome).measures.certified_agreement.value is None
    plain = run(certified)
    assert not plain.uncertified
    told = "\n".join(compared(outcome, plain).lines())
    assert f"Uncertified: {outcome.header.id} released nothing" in " ".join(told.split())


def test_other_judges_than_those_of_the_run_are_refused(tmp_path: Path) -> None:
    config = write_project(tmp_path, simulated("small", "XS"), labelled=0, unlabelled=6)
    run(config, uncertified=True)
    edit(config, 'model = "XS"', 'model = "M"')
    with pytest.raises(Exception, match="does not fit"):
        run(config, resume="latest", uncertified=True)


def test_nothing_of_it_is_measured_by_the_gate(never: Path) -> None:
    project = Project.open(never)
    report, (verdict, _) = build(project.load_run()), project.gate()
    assert (report.status, report.headline) == ("uncertified", "Uncertified")
    assert verdict.exit_code == 3
    status = {check.name: check.status for check in verdict.checks}
    assert (status["agreement with human labels"], status["coverage"]) == ("undecided", "undecided")
    for figure in (report.measures.coverage, report.measures.abstained, report.measures.judged_agreement):
        assert figure.value is None
    assert {row.state for row in report.items} == {"uncertified"}
    assert {row.verdict.note for row in report.items if row.verdict.value} == {"uncertified"}


def test_agreement_of_each_judge_is_counted_on_the_labelled_items(never: Path) -> None:
    outcome = Project.open(never).load_run()
    (section,) = [each for each in build(outcome).sections if each.slug == "uncertified-verdicts"]
    labels = majority(outcome.header.certificate.task, outcome.annotations)
    for row in section.tables[0].rows[:2]:
        judge = row.cells[0].text
        seen = [
            (labels[each.item_id], step.label)
            for each in outcome.decisions
            for step in each.trail
            if step.judge == judge and each.item_id in labels
        ]
        assert row.cells[1].text == f"{sum(a == b for a, b in seen):,} of {len(seen):,}"
        assert row.mark == "uncertified"
    given = [
        (labels[row.item_id], outcome.verdict(row)) for row in outcome.decisions if row.item_id in labels
    ]
    assert section.tables[0].rows[2].cells[1].text == f"{sum(a == b for a, b in given)} of {len(given)}"


def test_the_least_confident_unlabelled_items_are_queued_first(never: Path) -> None:
    project = Project.open(never)
    outcome = project.load_run()
    queued = queue_abstained(project.config, project.hooks)
    score = {row.item_id: row.trail[-1].score for row in outcome.decisions}
    ids = [row.item_id for row in open_queue(project.config).rows]
    labelled = {note.item_id for note in outcome.annotations}
    assert sorted(ids) == sorted(score.keys() - labelled)
    assert [score[item_id] for item_id in ids] == sorted(score[item_id] for item_id in ids)
    assert "never certify" in queued.why


def test_there_is_nothing_to_monitor(never: Path) -> None:
    project = Project.open(never)
    with pytest.raises(NoCertificate, match="nothing to monitor"):
        watch(project.config, project.hooks)


def test_exported_verdicts_do_not_look_released(never: Path, tmp_path: Path) -> None:
    result = cli("export", "--as", "jsonl", "--to", tmp_path / "run.jsonl", "--config", never)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(row["verdict"], row["reason"]) for row in rows} == {(None, "uncertified")}
    assert all(row["uncertified judge:small"] for row in rows)
    assert "judge:small" not in rows[0]
    result = cli("export", "--as", "alpaca_eval", "--to", tmp_path / "a.json", "--config", never)
    marked = {row["annotator"] for row in json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))}
    assert marked == {"small (uncertified)", "large (uncertified)"}
    result = cli("export", "--as", "csv", "--to", tmp_path / "r.csv", "--only", "released", "--config", never)
    assert result.exit_code == 3
    assert "no item of the run is released" in result.stderr


def test_what_is_named_wrongly_is_a_usage_error(never: Path) -> None:
    for words, why in (
        (["--uncertified", "--threshold", "tiny=0.5"], "there is no judge 'tiny'"),
        (["--uncertified", "--threshold", "small=1.5"], "between 0 and 1"),
        (["--uncertified", "--threshold", "small"], "JUDGE=SCORE"),
        (["--uncertified", "--threshold", "small=1", "--threshold", "small=0"], "two thresholds"),
        (["--threshold", "small=0.5"], "--threshold needs --uncertified"),
    ):
        result = cli("run", "--config", never, *words)
        assert result.exit_code == 2, result.output
        assert why in " ".join(result.stderr.split()), result.stderr
    with pytest.raises(UsageError, match="uncertified run"):
        run(never, thresholds=TAU)


def test_a_dry_run_counts_the_calls_of_every_judge(never: Path) -> None:
    config = Project.open(never).config
    whole = asyncio.run(estimate_run(config, thresholds={}))
    assert [(row.judge, row.items) for row in whole.estimates] == [("small", 48), ("large", 48)]
    some = asyncio.run(estimate_run(config, thresholds={"small": 0.0}))
    assert [row.calls for row in some.estimates if row.phase == "run, about"][1] == 0


def test_a_header_with_a_certificate_that_releases_is_no_uncertified_run(never: Path) -> None:
    from trustescalate.cascade.run_folder import _unusable

    header = Project.open(never).load_run().header
    assert _unusable(header) == ""
    assert "no judge" in _unusable(replace(header, uncertified={"tiny": 0.5}))
    assert "no judge" in _unusable(replace(header, uncertified={"small": 2.0}))


def test_the_terminal_names_the_next_commands(never: Path) -> None:
    result = cli("run", "--uncertified", "--config", never)
    assert result.exit_code == 0, result.output
    assert "! Uncertified" in result.stdout
    assert "Certified agreement" not in result.stdout
    assert "label queue --config" in result.stderr
