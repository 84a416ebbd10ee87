"""Every kind of guarantee, from the configuration to certificate, report, run and monitor."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.monitor import watch
from trustescalate.analysis.sample_size import plan_from_pilot
from trustescalate.analysis.self_test import self_test_of
from trustescalate.analysis.tune import tune
from trustescalate.calibration.losses import losses
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import majority
from trustescalate.errors import CertificateMismatch, ConfigError, DataError, NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate, Task, TaskKind
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build, build_calibration
from trustescalate.report.html import render_html
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.batch import batch_pvalue
from trustescalate.stats.bounds import clopper_pearson_interval
from trustescalate.stats.paths import PATHS

pytestmark = pytest.mark.slow
Rows = list[dict[str, Any]]
PATH = 'path = "common"\n'


def page(certificate: Certificate) -> str:
    return render_markdown(build_calibration(certificate).page())


# ── whom verdicts agree with ─────────────────────────────────────────────────────────────────────


def test_against_an_annotator_drawn_at_random(tmp_path: Path) -> None:
    config = write_project(tmp_path, guarantee=PATH + 'reference = "annotator"', labelled=220)
    certificate = calibrate(config)
    assert (certificate.status, certificate.label_policy, certificate.method) == (
        "certified",
        "annotator",
        "betting",
    )
    assert (certificate.radius, certificate.band) == (None, ())
    assert certificate.coverage_lower is not None
    assert certificate.chosen is not None
    test = certificate.tests[certificate.chosen]
    assert test.loss is not None
    assert 0 < test.loss < test.errors <= test.accepted
    assert 6 * test.loss == pytest.approx(round(6 * test.loss))
    stated = page(certificate)
    assert "agree with an annotator drawn at random" in stated
    assert "an annotator drawn at random from those of the item" in " ".join(certificate.assumptions)
    assert "The check needs the recorded votes and the labels" in stated
    assert "no robustness radius" in stated
    assert certificate == replace(calibrate(config), created=certificate.created)


def test_what_is_lost_is_the_share_that_disagrees(tmp_path: Path) -> None:
    """The certificate's sum, by hand: each released verdict against each person."""
    config = write_project(tmp_path, guarantee=PATH + 'reference = "annotator"', labelled=220)
    certificate = calibrate(config)
    project = Project.open(config)
    data = load_dataset(project.config)
    heard: dict[str, list[str]] = {}
    for note in data.annotations:
        if note.label != "skip":
            heard.setdefault(note.item_id, []).append(note.label)
    rows = tmp_path / "certified.jsonl"
    known = set(certificate.roles["certify"])
    lines = (tmp_path / "items.jsonl").read_text().splitlines(keepends=True)
    rows.write_text("".join(line for line in lines if json.loads(line)["id"] in known))
    decided = run(config, items=rows).decisions
    lost = [
        sum(label != row.label for label in heard[row.item_id]) / len(heard[row.item_id])
        for row in decided
        if row.label is not None
    ]
    assert certificate.chosen is not None
    assert len(lost) == certificate.tests[certificate.chosen].accepted
    assert sum(lost) == pytest.approx(certificate.tests[certificate.chosen].loss)
    assert sum(value > 0 for value in lost) == certificate.tests[certificate.chosen].errors


def test_half_ties_count_one_half_everywhere(tmp_path: Path) -> None:
    config = write_project(
        tmp_path, guarantee=PATH, more='[task]\nties = "half"\n', labelled=200, unlabelled=60
    )
    certificate = calibrate(config)
    assert (certificate.status, certificate.method, certificate.task.ties) == ("certified", "betting", "half")
    assert any(2 * (test.loss or 0) % 2 == 1 for test in certificate.tests)
    judged = run(config)
    labelled = [Annotation(row.item_id, "new", "tie") for row in judged.decisions if row.label in ("A", "B")]
    report = build(replace(judged, annotations=tuple(labelled)))
    assert report.measures.judged_agreement.value == 0.5
    assert report.measures.judged_agreement.counts is None
    assert report.measures.judged_agreement_upper.value is not None
    assert "a tie against a preference counts one half" in report.claim
    assert judged.overall is not None
    assert judged.overall.verdicts is None


def skipping(items: Rows, notes: Rows) -> None:
    """On every third item everybody skips."""
    passed = {item["id"] for item in items[::3]}
    for note in notes:
        note["label"] = "skip" if note["item_id"] in passed else note["label"]


def test_rows_that_everybody_skips_are_counted_from_files_to_page(tmp_path: Path) -> None:
    certificate = {}
    for skips in ("disagree", "outside"):
        config = write_project(
            tmp_path / skips,
            guarantee=PATH,
            more=f'[task]\nskips = "{skips}"\n',
            change=skipping,
            labelled=200,
            unlabelled=60,
        )
        certificate[skips] = calibrate(config)
        assert run(config).header.status == "complete" if certificate[skips].status == "certified" else True
    inside, outside = certificate["disagree"], certificate["outside"]
    assert inside.status == "none", "a third of all released verdicts have nobody's agreement"
    assert outside.status == "certified"
    assert inside.skipped == outside.skipped == inside.n - outside.n > 40
    assert inside.roles == outside.roles
    shown = render_html(build_calibration(inside).page())
    assert "rows skipped by every annotator, counted as disagreement" in shown
    assert f"not skipped by every annotator ({outside.skipped} of {inside.n} labelled rows" in page(outside)
    assert f"Rows outside the claim (skipped by every annotator) | {outside.skipped}" in page(outside)


def grade(items: Rows, notes: Rows) -> None:
    """Pairs become single answers that people rate; the simulated judges answer whatever they are asked."""
    place = {"A": "5", "B": "1", "tie": "3"}
    for item in items:
        item["responses"] = item["responses"][:1]
    for number, note in enumerate(notes):
        note["label"] = place.get(note["label"], "skip") if number % 3 else "4"


def test_a_rating_within_the_tolerance_agrees() -> None:
    task = Task(TaskKind.RATING, "How good?", ("1", "2", "3", "4", "5"), tolerance=1)
    notes = [Annotation("x", "ann", "4"), Annotation("y", "ann", "1"), Annotation("y", "bob", "2")]
    result = losses(task, "majority", notes)
    assert result["x"] == {"1": 1, "2": 1, "3": 0, "4": 0, "5": 0}
    assert set(result["y"].values()) == {1}
    assert losses(task, "annotator", notes)["y"] == {"1": 0, "2": 0, "3": 0.5, "4": 1, "5": 1}


def test_ratings_are_tested_exactly_and_rehearsed(tmp_path: Path) -> None:
    task = '[task]\nkind = "rating"\ntolerance = {}\n'
    certificate = {}
    for tolerance in (0, 2):
        folder = tmp_path / str(tolerance)
        config = write_project(
            folder, guarantee=PATH, more=task.format(tolerance), change=grade, labelled=150
        )
        edit(config, "alpha = 0.3", "alpha = 0.7")
        certificate[tolerance] = calibrate(config)
    assert all(one.method == "exact" for one in certificate.values())
    strict, lax = (one.tests[-1] for one in certificate.values())
    assert strict.accepted == lax.accepted
    assert strict.errors > lax.errors > 0
    assert all(test.loss is None for test in certificate[2].tests)
    for small, large in zip(certificate[0].diagnostics, certificate[2].diagnostics, strict=True):
        assert small.agreements < large.agreements
    assert "a rating at most 2 away from theirs agrees" in page(certificate[2])
    project = Project.open(config)
    assert plan_from_pilot(project.config, wanted=0.3, rows=(100,), trials=10).pilot == certificate[2].n
    assert self_test_of(project.config, 5, 0).holds
    beside = tune(project.config)
    kept = [*(name for name in PATHS if name not in ("pooled", "stacked")), "tierwise"]
    assert [row.path for row in beside.policies if row.estimator == "ensemble"] == kept
    assert "pooled and stacked are left out: with [task] tolerance" in "\n".join(beside.lines())
    assert "left out" not in "\n".join(tune(Project.open(tmp_path / "0" / config.name).config).lines())


# ── groups ───────────────────────────────────────────────────────────────────────────────────────


def grouped(items: Rows, notes: Rows) -> None:
    for place, item in enumerate(items):
        item["group"] = f"g{place // 2}"


BET = PATH + 'cluster_test = "betting"\nlargest_cluster = 2'


def test_all_rows_of_whole_groups_are_tested(tmp_path: Path) -> None:
    config = write_project(tmp_path, guarantee=BET, change=grouped, labelled=240)
    certificate = calibrate(config)
    one_per_cluster = calibrate(write_project(tmp_path / "one", change=grouped, labelled=240))
    assert (certificate.status, certificate.method) == ("certified", "clusters")
    assert certificate.n > 1.8 * one_per_cluster.n
    assert certificate.clusters is not None
    assert certificate.clusters.count == one_per_cluster.n
    assert (certificate.radius, certificate.band) == (None, ())
    assert certificate.chosen is not None
    share = certificate.tests[certificate.chosen].accepted / certificate.n
    assert 0 < (certificate.coverage_lower or 0) < share
    assert all(test.loss is None for test in certificate.tests)
    stated = page(certificate)
    assert f"in {certificate.clusters.count} clusters" in stated
    assert "cluster by cluster" in stated
    assert certificate.diagnostics[-1].interval[0] < one_per_cluster.diagnostics[-1].interval[1]
    wide = clopper_pearson_interval(certificate.diagnostics[-1].agreements, certificate.n, 0.05)
    assert certificate.diagnostics[-1].interval != wide
    assert certificate.overall is not None
    assert certificate.overall.grouped
    judged = run(config)
    assert judged.overall is not None
    assert judged.overall.verdicts is None
    assert "clusters" in dict(inspect_project(Project.open(config).config).facts)


def test_a_group_that_is_too_large_is_named(tmp_path: Path) -> None:
    config = write_project(tmp_path, guarantee=BET.replace("= 2", "= 1"), change=grouped)
    with pytest.raises(DataError) as caught:
        calibrate(config)
    assert "group 'g" in caught.value.message
    assert "has 2 labelled rows" in caught.value.message
    assert "largest_cluster = 1" in caught.value.hint


def test_too_few_groups_are_refused_with_what_would_help(tmp_path: Path) -> None:
    with pytest.raises(NotMeasurable, match="clusters cannot certify anything") as refused:
        calibrate(write_project(tmp_path, guarantee=BET.replace("= 2", "= 60"), change=grouped))
    assert "one_per_cluster" in refused.value.hint


# ── weights ──────────────────────────────────────────────────────────────────────────────────────


def heavier(items: Rows, notes: Rows) -> None:
    for place, item in enumerate(items):
        item["meta"] = {**item.get("meta", {}), "w": 2.0 if place % 3 == 0 else 0.5}


WEIGHT = PATH + 'weight = "meta.w"\nweight_bound = 2\nweight_source = "{}"'


@pytest.mark.parametrize("source", ["known", "estimated"])
def test_rows_are_kept_by_their_weights(tmp_path: Path, source: str) -> None:
    config = write_project(tmp_path, guarantee=WEIGHT.format(source), change=heavier, labelled=240)
    certificate = calibrate(config)
    assert certificate.status == "certified"
    assert certificate.weighting is not None
    assert certificate.weighting.kept == certificate.n == len(certificate.roles["certify"])
    assert certificate.weighting.offered == certificate.n + len(certificate.roles["aside"])
    weights = {item.id: item.meta["w"] for item in load_dataset(Project.open(config).config).items}
    assert all(weights[item_id] == 0.5 for item_id in certificate.roles["aside"])
    light = sum(weights[item_id] == 0.5 for item_id in certificate.roles["certify"])
    assert 0.1 < light / (light + len(certificate.roles["aside"])) < 0.45
    stated = page(certificate)
    assert ("Approximately" in stated) == (source == "estimated")
    assert ("approximate" in " ".join(certificate.assumptions)) == (source == "estimated")
    assert certificate.radius is not None
    assert "weights" in dict(inspect_project(Project.open(config).config).facts)


@pytest.mark.parametrize("wrong", [None, -1, 2.5, "2", True])
def test_weights_that_are_none_are_named(tmp_path: Path, wrong: Any) -> None:
    def spoil(items: Rows, notes: Rows) -> None:
        heavier(items, notes)
        items[7]["meta"]["w"] = wrong

    config = write_project(tmp_path, guarantee=WEIGHT.format("known"), change=spoil)
    with pytest.raises(DataError) as caught:
        calibrate(config)
    (line,) = caught.value.problems
    assert load_dataset(Project.open(config).config).items[7].id in line


# ── people's labels in the place of verdicts ─────────────────────────────────────────────────────

REPLACED = PATH + 'claim = "batch"\nlabel_budget = 120\nrelease_human_labels = true'


def test_rows_that_people_labelled_are_released_with_their_labels(tmp_path: Path) -> None:
    config = write_project(tmp_path, guarantee=REPLACED, labelled=300, unlabelled=0)
    certificate = calibrate(config)
    assert certificate.status == "certified"
    assert certificate.batch is not None
    assert certificate.batch.release_human_labels
    test = certificate.tests[certificate.chosen or 0]
    expected = batch_pvalue(
        test.errors, test.drawn or 0, test.accepted, certificate.alpha, release_human_labels=True
    )
    assert test.p_value == float(expected)
    judged = run(config)
    by_people = {row.item_id: row for row in judged.decisions if row.reason == "labelled by people"}
    assert set(by_people) <= set(certificate.roles["certify"])
    stated = majority(certificate.task, load_dataset(Project.open(config).config).annotations)
    assert all(row.label == stated[item_id] is not None for item_id, row in by_people.items())
    torn = [row for row in judged.decisions if row.reason.endswith("have no majority")]
    assert len(by_people) + len(torn) == len(certificate.roles["certify"])
    report = build(judged)
    assert "are human labels" in report.claim
    assert f"{len(by_people):,} with human labels" in report.claim
    by_judges = [row for row in judged.decisions if row.judge is not None]
    assert report.measures.coverage.counts == (len(by_judges), len(judged.items))
    assert f"HypergeomCDF({test.errors}; {test.accepted}, " in render_markdown(report.page())
    assert run(config, resume="latest").decisions == judged.decisions
    with pytest.raises(NotMeasurable, match="release_human_labels"):
        watch(Project.open(config).config, Hooks())
    notes = tmp_path / "annotations.jsonl"
    first = certificate.roles["certify"][0]
    notes.write_text(
        notes.read_text() + json.dumps({"item_id": first, "annotator": "x", "label": "A"}) + "\n"
    )
    with pytest.raises(CertificateMismatch, match="not the labels of this certificate"):
        run(config)


# ── what is watched, and what cannot be rehearsed ────────────────────────────────────────────────


def test_the_watch_counts_shares_as_often_as_they_are(tmp_path: Path) -> None:
    config = write_project(tmp_path, guarantee=PATH + 'reference = "annotator"', labelled=220, unlabelled=200)
    calibrate(config)
    released = [row for row in run(config).decisions if row.label is not None]
    flipped = {"A": "B", "B": "A", "tie": "A"}
    notes = [
        {
            "item_id": row.item_id,
            "annotator": who,
            "label": flipped[row.label or ""] if who == "c" else row.label,
        }
        for row in released
        for who in "abc"
    ]
    audit = tmp_path / "audit.jsonl"
    audit.write_text("".join(json.dumps(note) + "\n" for note in notes))
    seen = watch(Project.open(config).config, Hooks(), audit=audit)
    assert seen.audit.labels == len(released) - sum(seen.left_out.values()) > 60
    assert 0.2 < seen.audit.errors / seen.audit.labels < 0.47
    assert watch(Project.open(config).config, Hooks(), audit=audit) == replace(seen, added=0)


@pytest.mark.parametrize(
    ("guarantee", "more", "named"),
    [
        (PATH + 'reference = "annotator"', "", 'reference = "annotator"'),
        (PATH, '[task]\nties = "half"\n', 'ties = "half"'),
        (PATH + 'cluster_test = "betting"\nlargest_cluster = 5', "", 'cluster_test = "betting"'),
        (PATH + "interim = [40]", "", "interim"),
        (REPLACED, "", "release_human_labels"),
    ],
)
def test_what_cannot_be_rehearsed_is_named(tmp_path: Path, guarantee: str, more: str, named: str) -> None:
    project = Project.open(write_project(tmp_path, guarantee=guarantee, more=more))
    calls: Sequence[Any] = (
        lambda: plan_from_pilot(project.config, wanted=0.5),
        lambda: tune(project.config),
        lambda: self_test_of(project.config, 5, 0),
    )
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        assert named in caught.value.message
