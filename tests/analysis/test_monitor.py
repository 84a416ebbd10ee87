"""Watching: labels count once, alarms come when they should, the state belongs to its certificate."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from typer.testing import CliRunner, Result

from tests.support.projects import Calls, calibrate, edit, run, write_project
from trustescalate.analysis.monitor import Watch, _sequence, _test_state, draw_anchors, watch
from trustescalate.analysis.monitor_state import STATE, State, Used
from trustescalate.calibration.ledger import undated
from trustescalate.cli import app
from trustescalate.errors import CertificateMismatch, DataError, NoCertificate, NotMeasurable, UsageError
from trustescalate.judges.simulated.backend import SimulatedBackend
from trustescalate.project import Project
from trustescalate.records import Certificate
from trustescalate.records.progress import Hooks
from trustescalate.stats.drift import drift
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
LEVEL = 0.05


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and a run of 150 items under it."""
    config = write_project(tmp_path_factory.mktemp("made"), unlabelled=150)
    calibrate(config)
    run(config)
    return config


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made.parent, tmp_path / "copy")
    return tmp_path / "copy" / made.name


def released(config: Path) -> list[tuple[str, str]]:
    """What the run released, as (item, label), save pilot items."""
    project = Project.open(config)
    pilot = set(project.certificate().roles["pilot"])
    decisions = project.load_run().decisions
    return [(row.item_id, row.label) for row in decisions if row.label and row.item_id not in pilot]


def audit(config: Path, wrong: Callable[[int], bool], most: int = 1000, name: str = "audit.jsonl") -> Path:
    """Annotations of released verdicts; `wrong` says which place in the run people disagree with."""
    rows = []
    for place, (item, label) in enumerate(released(config)[:most]):
        other = "B" if label == "A" else "A"
        rows.append({"item_id": item, "annotator": "ann", "label": other if wrong(place) else label})
    return write(config.parent / name, rows)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def watched(config: Path, **given: Any) -> Watch:
    return watch(Project.open(config).config, Hooks(), **given)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_guarantees_by_value_are_watched_together(tmp_path: Path) -> None:
    """Against the largest alpha that was certified; rows of values without a guarantee are no anchors."""

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for place, item in enumerate(items):
            item["meta"] = {"language": ("de", "en", "fi")[place % 3] if place % 2 else "de"}

    more = '[groups]\nby = "meta.language"\nmin_rows = 60\nalpha = { de = 0.35 }\n'
    config = write_project(tmp_path, labelled=300, unlabelled=150, more=more, change=change)
    certificate = calibrate(config)
    run(config)
    assert [one.thresholds is not None for one in certificate.groups] == [True, False, False]
    found = watched(config, audit=audit(config, lambda place: place % 10 == 0))
    assert (found.verdict, found.alpha) == ("none", 0.35)
    assert found.audit.labels == len(released(config))
    drawn = draw_anchors(Project.open(config).config, 40)
    again = run(config, items=drawn.path, use_cache=False)
    anchors = watched(config, anchors=again.header.id).anchors
    assert 0 < anchors.labels < 40


# ── the audit ────────────────────────────────────────────────────────────────────────────────────


def test_labels_as_guaranteed_raise_no_alarm(config: Path) -> None:
    found = watched(config, audit=audit(config, lambda place: place % 10 == 0))
    assert (found.verdict, found.exit_code) == ("none", 0)
    assert found.audit.labels == found.added == len(released(config)) > 60
    assert found.anchors.labels == 0


def test_a_population_that_changed_is_found_where_the_statistics_say(config: Path) -> None:
    wrong = np.arange(len(released(config))) % 3 > 0
    found = watched(config, audit=audit(config, lambda place: place % 3 > 0))
    expected = drift(np.zeros(0, dtype=bool), wrong, 0.3, LEVEL)
    assert found.verdict == expected.verdict == "population"
    assert (found.audit.alarm, found.audit.log_evidence) == (expected.audit_alarm, expected.audit_evidence)
    assert found.exit_code == 1
    assert "Calibrate again" in found.lines()[-1]


def test_a_label_counts_once_whatever_happens_in_between(config: Path) -> None:
    """In two parts, with a restart, twice over: as if fed at once."""
    some = audit(config, lambda place: place % 4 == 0, most=30, name="some.jsonl")
    everything = audit(config, lambda place: place % 4 == 0)
    first = watched(config, audit=some)
    state = (config.parent / STATE).read_bytes()
    assert watched(config, audit=some) == replace(first, added=0)
    assert (config.parent / STATE).read_bytes() == state
    both = watched(config, audit=everything)
    assert (both.added, both.audit.labels) == (both.audit.labels - 30, len(released(config)))
    (config.parent / STATE).unlink()
    assert watched(config, audit=everything) == replace(both, added=both.audit.labels)
    assert watched(config) == replace(both, added=0)


def test_a_second_opinion_does_not_change_what_was_counted(config: Path) -> None:
    (item, label), *_ = released(config)
    other = "B" if label == "A" else "A"
    notes = [{"item_id": item, "annotator": "ann", "label": label}]
    first = watched(config, audit=write(config.parent / "one.jsonl", notes))
    notes += [{"item_id": item, "annotator": name, "label": other} for name in ("bob", "cy")]
    second = watched(config, audit=write(config.parent / "one.jsonl", notes))
    assert (first.audit.errors, second.audit.errors, second.added) == (0, 0, 0)


def test_what_says_nothing_about_production_is_not_counted(config: Path) -> None:
    project = Project.open(config)
    certify = project.certificate().roles["certify"][0]
    abstained = next(row.item_id for row in project.load_run().decisions if row.label is None)
    (skipped, _), (good, label), (picked, _), *_ = released(config)
    notes = [(certify, "A"), (abstained, "A"), ("elsewhere", "A"), (skipped, "skip"), (good, label)]
    rows = [{"item_id": item, "annotator": "ann", "label": said} for item, said in notes]
    rows.append({"item_id": picked, "annotator": "ann", "label": "A", "purpose": "abstained"})
    found = watched(config, audit=write(config.parent / "odd.jsonl", rows))
    assert (found.audit.labels, found.audit.errors) == (2, 1), "a skip is an answer: nobody agrees"
    assert sorted(found.left_out.values()) == [1, 1, 2]
    assert any("2 audited items not counted" in line for line in found.lines())


def test_people_without_a_majority_disagree_with_any_verdict(config: Path) -> None:
    (item, _), *_ = released(config)
    rows = [{"item_id": item, "annotator": name, "label": said} for name, said in (("a", "A"), ("b", "B"))]
    assert watched(config, audit=write(config.parent / "split.jsonl", rows)).audit.errors == 1


def test_bad_lines_are_all_named_and_nothing_is_counted(config: Path) -> None:
    (item, label), *_ = released(config)
    other = "B" if label == "A" else "A"
    rows = [(item, label), (item, label), (item, other), (item, "C")]
    path = write(config.parent / "bad.jsonl", [{"item_id": i, "annotator": "a", "label": x} for i, x in rows])
    with pytest.raises(DataError) as raised:
        watched(config, audit=path)
    assert [problem.split(":")[1] for problem in raised.value.problems] == ["3", "4"]
    assert not (config.parent / STATE).exists()
    with pytest.raises(DataError, match="cannot be read"):
        watched(config, audit=config.parent / "missing.jsonl")


def test_an_id_that_means_two_texts_must_name_its_run(config: Path) -> None:
    project = Project.open(config)
    (item, label), *_ = released(config)
    items = [json.loads(line) for line in (config.parent / "items.jsonl").read_text().splitlines()]
    (other,) = [row for row in items if row["id"] == item]
    donor = next(row for row in items if row["id"] == released(config)[1][0])
    again = write(config.parent / "again.jsonl", [{**donor, "id": item, "group": "new"}])
    second = run(config, items=again)
    assert other["prompt"] != donor["prompt"]
    assert second.decisions[0].label is not None
    path = write(config.parent / "a.jsonl", [{"item_id": item, "annotator": "a", "label": label}])
    with pytest.raises(DataError, match="different texts"):
        watched(config, audit=path)
    first = project.run_ids()[0]
    assert watched(config, audit=path, run_id=first).audit.labels == 1
    assert watched(config, audit=path, run_id=second.header.id).audit.labels == 2


# ── the anchors ──────────────────────────────────────────────────────────────────────────────────


def rejudged(config: Path, draws: int) -> str:
    drawn = draw_anchors(Project.open(config).config, draws)
    return run(config, items=drawn.path, use_cache=False).header.id


def test_a_judge_that_stayed_the_same_raises_no_alarm(config: Path) -> None:
    first = watched(config, anchors=rejudged(config, 60))
    assert first.verdict == "none"
    assert first.anchors.labels > 30
    again = Project.open(config).run_ids()[-1]
    assert watched(config, anchors=again) == replace(first, added=0)
    state = json.loads((config.parent / STATE).read_text())
    assert state["draws"] >= 60
    more = watched(config, anchors=rejudged(config, 40))
    assert more.anchors.labels > first.anchors.labels
    chosen = Project.open(config).certificate()
    assert chosen.chosen is not None
    test = chosen.tests[chosen.chosen]
    most = binom.ppf(1 - 1e-6, more.anchors.labels, test.errors / test.accepted)
    assert more.anchors.errors <= most


def test_a_judge_that_changed_is_found_if_it_is_asked_afresh(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the same name, every judge now prefers the other response; old replies do not show it."""
    probs = SimulatedBackend._probs

    def turned(*given: Any) -> list[float]:
        first, second, *rest = probs(*given)
        return [second, first, *rest]

    monkeypatch.setattr(SimulatedBackend, "_probs", turned)
    calls = Calls(monkeypatch)
    path = draw_anchors(Project.open(config).config, 60).path
    stale = run(config, items=path)
    assert not calls.asked
    assert watched(config, anchors=stale.header.id).verdict == "none"
    found = watched(config, anchors=rejudged(config, 60))
    assert calls.asked
    assert (found.verdict, found.exit_code) == ("judge", 1)
    assert found.anchors.alarm is not None
    assert found.anchors.alarm <= found.anchors.labels
    assert "judge drift" in found.lines()[-1]
    assert watched(config, audit=audit(config, lambda place: True)).verdict == "judge"


def test_drawing_depends_on_the_certificate_alone(config: Path) -> None:
    project = Project.open(config)
    first = draw_anchors(project.config, 25)
    text = first.path.read_bytes()
    assert draw_anchors(project.config, 25) == first
    assert first.path.read_bytes() == text
    assert first.items == len(text.splitlines()) <= first.draws == 25
    sequence = list(islice(_sequence(project.certificate(), 0), 400))
    assert set(sequence) <= set(project.certificate().roles["certify"])
    assert sequence[25:60] == list(islice(_sequence(project.certificate(), 25), 35))
    assert len(set(sequence)) < len(sequence)


def test_a_run_without_the_next_anchor_says_what_to_do(config: Path) -> None:
    with pytest.raises(NotMeasurable) as raised:
        watched(config, anchors="latest")
    assert "monitor --draw" in raised.value.hint


def test_an_anchor_with_other_texts_is_refused(config: Path) -> None:
    path = draw_anchors(Project.open(config).config, 5).path
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["responses"][0] += " changed"
    made = run(config, items=write(path, rows))
    with pytest.raises(DataError, match="other texts"):
        watched(config, anchors=made.header.id)


# ── false alarms, exactly as many as allowed ─────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["audit", "anchors"])
def test_false_alarms_stay_below_the_level(config: Path, what: str) -> None:
    """At a true risk of alpha exactly: audits as fair draws, anchors as drawn by each certificate."""
    trials, labels, level = 300, 120, 0.2
    certificate, rng, alarms = Project.open(config).certificate(), np.random.default_rng(0), 0
    ids = certificate.roles["certify"]
    wrong = set(ids[: int(0.3 * len(ids))])
    for trial in range(trials):
        mine = replace(certificate, seed=trial)
        drawn = list(islice(_sequence(mine, 0), labels))
        errors = [item in wrong for item in drawn] if what == "anchors" else rng.random(labels) < 0.3
        used = tuple(Used("i", "c", "r", bool(error)) for error in errors)
        state = replace(State(1, undated(mine), level), **{what: used})
        alarms += _test_state(state, mine, added=0, left_out={}).verdict != "none"
    assert 0 < alarms <= violation_limit(trials, level / 2)


# ── whose state it is ────────────────────────────────────────────────────────────────────────────


def test_the_state_of_another_certificate_is_refused(config: Path) -> None:
    path = audit(config, lambda place: False, most=5)
    watched(config, audit=path)
    edit(config, "alpha = 0.3", "alpha = 0.35")
    calibrate(config)
    with pytest.raises(CertificateMismatch, match="another certificate") as raised:
        watched(config)
    assert "move it away" in raised.value.hint
    with pytest.raises(CertificateMismatch):
        draw_anchors(Project.open(config).config, 5)
    (config.parent / STATE).unlink()
    with pytest.raises(CertificateMismatch, match="under another"):
        watched(config, audit=path, run_id="latest")
    with pytest.raises(NotMeasurable):
        watched(config, audit=path)


def test_the_same_certificate_made_again_keeps_its_state(config: Path) -> None:
    found = watched(config, audit=audit(config, lambda place: False, most=5))
    again: Certificate = calibrate(config)
    assert again.status == "certified"
    assert watched(config) == replace(found, added=0)


def test_the_level_is_fixed_at_the_start(config: Path) -> None:
    path = audit(config, lambda place: False, most=5)
    assert watched(config, audit=path, level=0.1).limit == 20
    assert watched(config, level=0.1).level == watched(config).level == 0.1
    with pytest.raises(UsageError, match=r"fixed at 0\.1"):
        watched(config, level=0.2)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"schema": 9, "certificate": "x", "level": 0.05}', '{"extra": 1}']
)
def test_a_damaged_state_is_named_and_left_alone(config: Path, text: str) -> None:
    (config.parent / STATE).write_text(text)
    with pytest.raises(DataError, match=r"monitor\.json"):
        watched(config)
    assert (config.parent / STATE).read_text() == text


def test_without_a_certificate_there_is_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(NoCertificate):
        watched(write_project(tmp_path))


def test_a_kill_while_writing_leaves_the_old_state(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched(config, audit=audit(config, lambda place: False, most=5))
    before = (config.parent / STATE).read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        watched(config, audit=audit(config, lambda place: False))
    monkeypatch.undo()
    assert (config.parent / STATE).read_bytes() == before
    assert watched(config, audit=audit(config, lambda place: False)).audit.labels == len(released(config))


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_exit_codes(config: Path) -> None:
    nothing = cli("monitor", "--config", config)
    assert (nothing.exit_code, nothing.stdout) == (3, "")
    assert "hint: annotate released verdicts" in nothing.stderr
    fine = cli("monitor", "--config", config, "--audit", audit(config, lambda place: False, most=10))
    assert (fine.exit_code, "monitor: none" in fine.stdout) == (0, True)
    bad = cli("monitor", "--config", config, "--audit", audit(config, lambda place: True), "--json")
    value = json.loads(bad.stdout)
    assert (bad.exit_code, value["verdict"], value["limit"]) == (1, "population", 40.0)
    assert value["audit"]["alarm"] > 10
    assert cli("monitor", "--config", config).exit_code == 1
    assert cli("monitor", "--config", config, "--level", "0.2").exit_code == 2
    assert cli("monitor", "--config", config, "--run", "latest").exit_code == 2
    assert cli("monitor", "--config", config, "--draw", 5, "--level", 0.05).exit_code == 2


def test_the_way_from_a_draw_to_a_verdict_is_printed(config: Path) -> None:
    drawn = cli("monitor", "--config", config, "--draw", 20)
    assert drawn.exit_code == 0
    assert f"run --config {config} --no-cache --items {drawn.stdout.strip()}" in drawn.stderr
    again = cli("run", "--config", config, "--no-cache", "--items", drawn.stdout.strip(), "--json")
    run_id = json.loads(again.stdout)["run"]
    watched_now = cli("monitor", "--config", config, "--anchors", run_id)
    assert (watched_now.exit_code, "note: " in watched_now.stderr) == (0, False)


def test_anchors_from_the_cache_are_said_to_show_nothing(config: Path) -> None:
    drawn = cli("monitor", "--config", config, "--draw", 20).stdout.strip()
    again = cli("run", "--config", config, "--items", drawn, "--json")
    shown = cli("monitor", "--config", config, "--anchors", json.loads(again.stdout)["run"])
    assert (shown.exit_code, "note: run" in shown.stderr) == (0, True)
    assert "without --no-cache" in shown.stderr
