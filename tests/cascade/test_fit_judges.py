"""A cheap judge that learns from the last one: no label is spent, no tested row is learned from."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.support.certificates import protocol
from tests.support.pairs import pairs, text
from tests.support.projects import Calls, calibrate, edit, run, simulated, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_run
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.prepare import select_rows
from trustescalate.cascade.fit_judges import fit_judges, fitting_rows
from trustescalate.config import load_config
from trustescalate.data.batch import draw_rows
from trustescalate.data.clusters import clusters
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import CertificateMismatch, ConfigError, DataError
from trustescalate.judges.classical import ClassicalJudge
from trustescalate.judges.distilled import FittingRows, UnfittedJudge
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Judgment, Task, TaskKind, Vote
from trustescalate.records.votes import all_votes
from trustescalate.stats.validity import violation_limit

FREE = '[[judges]]\nname = "free"\nbackend = "classical"\nfit_on = "last_judge"\n'
TAUGHT = FREE + simulated("large", "M")
PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B"), "drop")
TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "12"))


def project(folder: Path, judges: str = TAUGHT, **settings: Any) -> Path:
    return write_project(folder, judges, **{"labelled": 120, "unlabelled": 90, "pilot": 80, **settings})


def printed(config: Path) -> str:
    return calibrate(config).judges[0].fingerprint


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


# ── in a project ─────────────────────────────────────────────────────────────────────────────────


def test_all_labels_certify_and_a_run_asks_nobody_what_taught(tmp_path: Path, calls: Calls) -> None:
    config = project(tmp_path)
    certificate = calibrate(config)
    assert certificate.status == "certified"
    assert certificate.roles["dev"] == ()
    assert len(certificate.roles["certify"]) + len(certificate.roles["exemplars"]) > 100
    assert certificate.diagnostics[0].cost == 0
    calls.asked.clear()
    (tmp_path / ".trustescalate" / "cache.sqlite").unlink()
    fresh = tmp_path / "fresh.jsonl"
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    fresh.write_text("\n".join(json.dumps({**row, "id": f"new {row['id']}"}) for row in rows[-10:]))
    done = run(config, items=fresh)
    assert {row.judge for row in done.judgments} <= {"free", "large"}
    assert len(done.decisions) == 10
    large = sum(len(row.votes) for row in done.judgments if row.judge == "large")
    assert len(calls.asked) == large


def test_the_last_judge_is_asked_once_about_what_it_teaches(tmp_path: Path, calls: Calls) -> None:
    certificate = calibrate(project(tmp_path))
    asked = {*certificate.roles["certify"], *certificate.roles["pilot"]}
    assert len(calls.asked) == 4 * len(asked)


def test_human_labels_have_no_part_in_the_judge(tmp_path: Path) -> None:
    plain, turned = project(tmp_path / "plain"), project(tmp_path / "turned")
    notes = tmp_path / "turned" / "annotations.jsonl"
    exemplars = select_rows(Project.open(turned).config, load_dataset(load_config(turned))).roles["exemplars"]
    rows = [json.loads(line) for line in notes.read_text().splitlines()]
    rows = [row if row["item_id"] in exemplars else {**row, "label": "tie"} for row in rows]
    notes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert printed(plain) == printed(turned)


def test_another_teacher_or_another_lesson_makes_another_judge(tmp_path: Path) -> None:
    plain, other = project(tmp_path / "plain"), project(tmp_path / "other")
    edit(other, 'model = "M"', 'model = "XS"')
    assert printed(plain) != printed(other)
    row = Project.open(plain).certificate().roles["pilot"][0]
    items = tmp_path / "plain" / "items.jsonl"
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    rows = [{**given, "prompt": "Another?"} if given["id"] == row else given for given in rows]
    items.write_text("".join(json.dumps(given) + "\n" for given in rows))
    with pytest.raises(CertificateMismatch, match="fingerprint of free"):
        run(plain)


def test_a_batch_is_judged_alike_whatever_was_drawn(tmp_path: Path) -> None:
    config = project(tmp_path, guarantee='claim = "batch"\nlabel_budget = 100\npath = "common"', labelled=200)
    given, data = load_config(config), load_dataset(load_config(config))
    roles = select_rows(Project.open(config).config, data).roles
    swapped = {**roles, "certify": roles["undrawn"], "undrawn": roles["certify"]}
    assert fitting_rows(given, data, roles).unlabelled == fitting_rows(given, data, swapped).unlabelled
    assert {item.id for item in fitting_rows(given, data, roles).unlabelled} == set(roles["pilot"])
    assert draw_rows(data.items, 100, 0, 0.0, 0).certify


def test_no_item_of_a_cluster_that_is_tested_teaches(tmp_path: Path) -> None:
    def grouped(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for place, item in enumerate(items):
            item["group"] = f"g{place % 100}"

    config = project(tmp_path, change=grouped)
    data = load_dataset(load_config(config))
    roles = select_rows(Project.open(config).config, data).roles
    taught = {item.id for item in fitting_rows(load_config(config), data, roles).unlabelled}
    assert taught < set(roles["pilot"])
    assert not taught & {*roles["certify"], *roles["exemplars"], *data.annotated}
    for rows in clusters(data.items):
        ids = {item.id for item in rows}
        assert not (ids & taught and ids & set(roles["certify"]))


@pytest.mark.parametrize(
    ("judges", "settings", "message"),
    [
        (simulated("small", "XS") + FREE, {}, "is the last judge itself"),
        (TAUGHT, {"pilot": 0}, "fitted on the pilot"),
        (TAUGHT, {"guarantee": 'claim = "expected"'}, 'set fit_on = "labels"'),
        (TAUGHT.replace("last_judge", "people"), {}, "fit_on"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    tmp_path: Path, judges: str, settings: Mapping[str, Any], message: str
) -> None:
    config = project(tmp_path, judges, **settings)
    if "expected" in settings.get("guarantee", ""):
        edit(config, "delta = 0.2\npilot = 80\n", "")
    with pytest.raises(ConfigError, match=message):
        load_config(config)


def test_too_few_items_are_named_before_and_at_calibration(tmp_path: Path) -> None:
    config = project(tmp_path, pilot=10)
    warnings = inspect_project(Project.open(config).config).warnings
    assert any("10 rows to fit a classical judge on" in line for line in warnings)
    with pytest.raises(DataError, match="10 unlabelled items with a verdict of the last judge"):
        calibrate(config)


def test_a_dry_run_fits_on_what_a_simulated_judge_says(tmp_path: Path) -> None:
    found = asyncio.run(estimate_run(Project.open(project(tmp_path)).config))
    assert {"free", "large"} <= {estimate.judge for estimate in found.estimates}


# ── the verdicts ─────────────────────────────────────────────────────────────────────────────────


def judgment(item: Item, label: str, name: str = "large") -> Judgment:
    vote = Vote(0, "AB", {label: 1.0}) if label else Vote(0, "AB", {}, failure="timeout")
    return Judgment(item.id, name, f"print of {name}", (vote,), 1)


def unfitted() -> UnfittedJudge:
    return UnfittedJudge("free", lambda rows: ClassicalJudge("free", PAIR, rows, fit_on="last_judge"))


def test_what_names_no_label_teaches_nothing() -> None:
    rows = pairs(40, ties=False)
    said = [judgment(row.item, row.label if place < 30 else "") for place, row in enumerate(rows)]
    items = [row.item for row in rows]
    last = ReplayJudge("large", said)
    (free, again) = asyncio.run(fit_judges([unfitted(), last], PAIR, "ensemble", FittingRows((), items)))
    assert free.fingerprint == ClassicalJudge("free", PAIR, rows[:30]).fingerprint
    assert asyncio.run(again.judge(items[0], all_votes)).votes == said[0].votes
    few = FittingRows((), items[:35])
    silent = ReplayJudge("large", [judgment(row.item, "") for row in rows])
    with pytest.raises(DataError, match="has 0 unlabelled items with a verdict"):
        asyncio.run(fit_judges([unfitted(), silent], PAIR, "ensemble", few))
    with pytest.raises(DataError, match="has 0 unlabelled items with a verdict"):
        asyncio.run(unfitted().judge(items[0], all_votes))


def test_recorded_judgments_of_another_judge_are_not_believed() -> None:
    rows = pairs(30, ties=False)
    other = {row.item.id: judgment(row.item, "A", "other") for row in rows}
    last = ReplayJudge("large", [judgment(row.item, row.label) for row in rows])
    given = FittingRows((), [row.item for row in rows], other)
    free, _ = asyncio.run(fit_judges([unfitted(), last], PAIR, "ensemble", given))
    assert free.fingerprint == ClassicalJudge("free", PAIR, rows).fingerprint


# ── the guarantee ────────────────────────────────────────────────────────────────────────────────


ALPHA, DELTA, ERROR = 0.2, 0.1, 0.22
POPULATION = [
    Item(f"p{i}", f"Question {i}?", (text(Random(i), 5 + i % 60), text(Random(-1 - i), 5 + 7 * i % 60)))
    for i in range(300)
]


def certified(rng: np.random.Generator) -> bool:
    """People prefer a response at random, the last judge errs a little more often than alpha everywhere, and
    the first one learns from its verdicts on 40 other items: every certificate is one too many."""
    drawn = rng.permutation(len(POPULATION))
    taught, tested = [POPULATION[at] for at in drawn[:40]], [POPULATION[at] for at in drawn[40:140]]
    truth = {item.id: str(rng.choice(["A", "B"])) for item in POPULATION}
    wrong = {item.id: rng.random() < ERROR for item in POPULATION}
    says = {key: "BA"["AB".index(label)] if wrong[key] else label for key, label in truth.items()}
    last = ReplayJudge("large", [judgment(item, says[item.id]) for item in POPULATION])
    judges = asyncio.run(fit_judges([unfitted(), last], PAIR, "ensemble", FittingRows((), taught)))

    async def judged() -> dict[str, dict[str, Judgment]]:
        return {
            judge.name: {item.id: await judge.judge(item, all_votes) for item in (*taught, *tested)}
            for judge in judges
        }

    ids, pilot = [item.id for item in tested], tuple(item.id for item in taught)
    roles = {"exemplars": (), "dev": (), "holdout": (), "certify": tuple(ids), "pilot": pilot}
    plan = protocol(ids, ("free", "large"), task=PAIR, alpha=ALPHA, delta=DELTA, roles=roles)
    notes = [Annotation(key, "x", truth[key]) for key in ids]
    return certify(plan, notes, asyncio.run(judged()), created="now").status == "certified"


@pytest.mark.slow
def test_a_judge_that_learned_keeps_the_guarantee(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trustescalate.calibration.no_certificate.labels_needed", lambda *_: None)
    rng = np.random.default_rng(0)
    assert sum(certified(rng) for _ in range(TRIALS)) <= violation_limit(TRIALS, DELTA)
