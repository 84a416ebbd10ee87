"""The claim "expected", from files to files: what is kept, how a run is decided, and what is said of it."""

import asyncio
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.batch_server import BatchServer
from tests.support.projects import Calls, calibrate, edit, run, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_calibration, estimate_run
from trustescalate.analysis.recorded_votes import read_recorded
from trustescalate.calibration.expectation import BELOW, LABELLED, SHARED, WEAKER, set_apart
from trustescalate.calibration.scoring import Scorer
from trustescalate.cli import app
from trustescalate.config import load_config
from trustescalate.errors import BudgetReached, CertificateMismatch, ConfigError, NoCertificate
from trustescalate.judges import batch_api
from trustescalate.project import Project
from trustescalate.records import Certificate, Decision, Item, Run
from trustescalate.records.jsonl import read_rows
from trustescalate.report.document import build, build_calibration
from trustescalate.report.gate import MEAN_ONLY
from trustescalate.report.html import render_html
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.pooling import Votes, agreement_stack, stacked_scores

pytestmark = pytest.mark.slow
CLAIM = 'claim = "expected"'
LABELLED_ROWS, FRESH = 80, 60


def alone(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
    """No item shares a group with another one."""
    for item in items:
        item["group"] = None


def write(
    folder: Path, *, guarantee: str = CLAIM, change: Any = alone, more: str = "", **settings: Any
) -> Path:
    settings = {"labelled": LABELLED_ROWS, "unlabelled": FRESH, "alpha": 0.12, **settings}
    if change.__name__ in ("alone", "skipped"):
        more = f'[data]\ncluster = "item"\n{more}'
    config = write_project(folder, guarantee=guarantee, change=change, more=more, **settings)
    text = config.read_text(encoding="utf-8").replace("delta = 0.2\n", "").replace("pilot = 20\n", "")
    config.write_text(text, encoding="utf-8")
    return config


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate, Run]:
    """A calibrated and run project, for tests that only read."""
    config = write(tmp_path_factory.mktemp("expected"))
    return config, calibrate(config), run(config)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def by_hand(certificate: Certificate, judged: Run) -> dict[str, str | None]:
    """What is released, from the certificate's rows and the run's votes, by the procedure's definition."""
    labels, names = certificate.task.labels, [seal.judge for seal in certificate.judges]
    votes = {(row.item_id, row.judge): row for row in judged.judgments}
    ids = [item.id for item in judged.items]
    judgments = {name: {i: votes[i, name] for i in ids} for name in names}
    mine = Scorer.of(certificate).read(names, ids, judgments)
    rows = certificate.calibration
    place = {None: -1, **{label: at for at, label in enumerate(labels)}}
    scores = np.concatenate([mine.scores, [row.scores for row in rows]])
    stated = np.concatenate([mine.labels, [[place[label] for label in row.verdicts] for row in rows]])
    read = stacked_scores(
        agreement_stack(Votes(scores, stated), len(names), len(labels)), Votes(scores, stated)
    )
    score, label = read.scores[:, -1], read.labels[:, -1]
    assert (label >= 0).all()
    wrong = [labels[label[len(ids) + i]] not in row.agreeing for i, row in enumerate(rows)]
    surprise = [
        Fraction(1 + sum(bad and score[len(ids) + i] >= s for i, bad in enumerate(wrong)), len(rows) + 1)
        for s in score[: len(ids)]
    ]
    alpha, ranked = Fraction(str(certificate.alpha)), sorted(surprise)
    passed = [k for k in range(1, len(ids) + 1) if ranked[k - 1] <= alpha * k / len(ids)]
    limit = ranked[passed[-1] - 1] if passed else Fraction(-1)
    return {item_id: labels[label[at]] if surprise[at] <= limit else None for at, item_id in enumerate(ids)}


# ── the configuration ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("delta = 0.1", "nothing that holds with probability"),
        ('path = "common"', "remove path"),
        ('procedure = "bonferroni"', "remove procedure"),
        ('prefer = "cost"', "remove prefer"),
        ("pilot = 50", "remove pilot"),
        ("label_budget = 50", "remove label"),
        ('cluster_test = "betting"\nlargest_cluster = 3', "remove cluster_test"),
        ("interim = [20, 40]", "remove interim"),
        ('weight = "meta.w"\nweight_bound = 2.0\nweight_source = "known"', "remove weight"),
        ("release_human_labels = true", "remove release_human_labels"),
        ('reference = "annotator"', 'set reference = "majority"'),
        ('[groups]\nby = "meta.language"', r"\[groups\] by has no test"),
        ('[task]\nties = "half"', 'set ties = "class"'),
        ('[task]\nties = "drop"', 'set ties = "class"'),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(tmp_path: Path, key: str, message: str) -> None:
    table = key.startswith("[")
    config = write(tmp_path, guarantee=CLAIM if table else f"{CLAIM}\n{key}", more="" if not table else key)
    with pytest.raises(ConfigError, match=message):
        load_config(config)


# ── calibration ──────────────────────────────────────────────────────────────────────────────────


def test_calibration_keeps_what_judges_and_people_say_and_certifies_nothing(
    done: tuple[Path, Certificate, Run],
) -> None:
    config, outcome, _ = done
    assert (outcome.status, outcome.claim, outcome.delta, outcome.reason) == (
        "expected",
        "expected",
        1.0,
        WEAKER,
    )
    assert (outcome.thresholds, outcome.chosen, outcome.coverage_lower, outcome.tests, outcome.band) == (
        None,
        None,
        None,
        (),
        (),
    )
    assert outcome.roles["pilot"] == ()
    assert tuple(row.item_id for row in outcome.calibration) == outcome.roles["certify"]
    assert outcome.n == len(outcome.calibration) == LABELLED_ROWS - 4
    assert sum(not row.agreeing for row in outcome.calibration) == outcome.no_majority
    assert Project.open(config).certificate() == outcome


def test_a_row_that_everybody_skipped_counts_as_wrong_whatever_is_said(tmp_path: Path) -> None:
    def skipped(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        alone(items, notes)
        for note in notes:
            note["label"] = "skip" if note["item_id"] in gone else note["label"]

    gone = {row.item_id for row in calibrate(write(tmp_path)).calibration[:10]}
    outcome = calibrate(write(tmp_path, change=skipped))
    assert {row.item_id for row in outcome.calibration if not row.agreeing} >= gone
    assert outcome.n == LABELLED_ROWS - 4


def test_too_few_labelled_rows_are_said_before_a_run(tmp_path: Path) -> None:
    config = write(tmp_path, labelled=8)
    assert any(
        "fewer than 8 can release nothing" in text
        for text in inspect_project(Project.open(config).config).warnings
    )
    result = CliRunner().invoke(app, ["calibrate", "--config", str(config)])
    assert result.exit_code == 3
    assert "No guarantee in expectation: 6 labelled rows, 6 of them with a verdict, are too" in " ".join(
        result.stdout.split()
    )
    with pytest.raises(NoCertificate, match="too few for any run"):
        run(config)
    report = build_calibration(Project.open(config).certificate())
    assert (report.status, report.measures.expected_agreement.value) == ("none", None)


def test_a_dry_run_asks_every_judge_about_every_item(done: tuple[Path, Certificate, Run]) -> None:
    config, _, _ = done
    project = Project.open(config)
    actual = (asyncio.run(estimate_calibration(project.config)), asyncio.run(estimate_run(project.config)))
    phases = {(row.phase, row.judge): row.items for each in actual for row in each.estimates}
    assert phases == {
        ("calibrate", "small"): LABELLED_ROWS - 4,
        ("calibrate", "large"): LABELLED_ROWS - 4,
        ("run, every judge", "small"): FRESH,
        ("run, every judge", "large"): FRESH,
    }
    assert (
        "every judge judges every item"
        in dict(inspect_project(Project.open(config).config).facts)["guarantee"]
    )


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def test_decisions_are_those_of_the_procedure_by_hand(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, judged = done
    assert {row.item_id: row.label for row in judged.decisions} == by_hand(outcome, judged)
    released = [row for row in judged.decisions if row.label is not None]
    assert 0 < len(released) < FRESH
    thresholds = {row.trail[-1].threshold for row in judged.decisions}
    assert len(thresholds) == 1
    assert min(row.score or 0 for row in released) == thresholds.pop()
    assert {row.reason for row in judged.decisions if row.label is None} == {BELOW}
    assert all(step.votes == step.planned for row in judged.decisions for step in row.trail)
    assert len(judged.judgments) == 2 * FRESH


def test_one_judge_goes_by_its_own_score(tmp_path: Path) -> None:
    from tests.support.projects import simulated

    config = write(tmp_path, judges=simulated("large", "M"), alpha=0.2)
    outcome = calibrate(config)
    judged = run(config)
    own = {row.item_id: row.scores[0] for row in outcome.calibration}
    assert len(own) == outcome.n
    scorer, stated = Scorer.of(outcome), {row.item_id: row for row in judged.judgments}
    for row in judged.decisions:
        score = scorer.read(["large"], [row.item_id], {"large": stated}).scores[0, 0]
        assert row.trail[0].score == score


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_that_was_stopped_decides_nothing_and_pays_nothing_twice(
    tmp_path: Path, done: tuple[Path, Certificate, Run], calls: Calls, fresh: bool
) -> None:
    config = write(tmp_path)
    calibrate(config)
    calls.asked.clear()
    with pytest.raises(BudgetReached):
        run(config, use_cache=not fresh, budget=load_config(config).budget.model_copy(update={"calls": 200}))
    paid = len(calls.asked)
    assert paid == 200
    stopped = Project.open(config).load_run()
    assert (stopped.header.status, stopped.decisions) == ("budget", ())
    assert stopped.judgments
    assert build(stopped).status == "incomplete"
    verdict, _ = Project.open(config).gate()
    assert verdict.exit_code == 3

    whole = run(config, resume="latest", use_cache=not fresh)
    recorded = {(row.item_id, row.judge) for row in stopped.judgments}
    # What was under way when the budget ended is asked again by a fresh run: its cache is its own.
    assert len(calls.asked) - paid <= 2 * 4 * FRESH - 4 * len(recorded)
    assert not fresh or len(calls.asked) - paid == 2 * 4 * FRESH - 4 * len(recorded)
    assert fresh or len(calls.asked) == 2 * 4 * FRESH
    assert [row.label for row in whole.decisions] == [row.label for row in done[2].decisions]


def test_a_kill_amid_the_decisions_changes_none_of_them(tmp_path: Path, calls: Calls) -> None:
    config = write(tmp_path)
    calibrate(config)
    whole = run(config)
    path = config.parent / "runs" / whole.header.id / "decisions.jsonl"
    kept = path.read_bytes()
    path.write_bytes(kept[: len(kept) // 2])
    calls.asked.clear()
    again = run(config, resume="latest")
    assert again.decisions == whole.decisions
    assert not calls.asked
    rows, problems = read_rows(path, Decision)
    assert (len(rows), problems) == (FRESH, [])


def test_items_that_hang_together_or_were_labelled_take_no_part(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, judged = done
    fresh = list(judged.items[:5])
    labelled = Item(outcome.calibration[0].item_id, "old", ("x", "y"), group="seen")
    items = [
        Item("a", "p1", ("x", "y"), group="g"),
        Item("b", "p2", ("x", "y"), group="g"),
        Item("c", "p3", ("x", "y"), group="seen"),
        Item("d", "same", ("x", "y")),
        Item("e", "same", ("y", "x")),
        *fresh,
    ]
    reasons = set_apart(outcome, items, [labelled])
    apart = {item.id: why for item, why in zip(items, reasons, strict=True) if why}
    assert apart["c"] == LABELLED
    assert [list(apart.values()).count(why) for why in (LABELLED, SHARED)] == [1, 2]
    assert len({"a", "b"} & set(apart)) == len({"d", "e"} & set(apart)) == 1
    assert list(set_apart(outcome, [labelled, *fresh], [labelled])) == [LABELLED, *[None] * 5]


def test_of_each_group_one_item_takes_part_and_nobody_is_asked_about_the_others(
    tmp_path: Path, calls: Calls
) -> None:
    def paired(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        alone(items, notes)
        for place in range(LABELLED_ROWS, LABELLED_ROWS + 20):
            items[place]["group"] = f"pair {place // 2}"

    config = write(tmp_path, change=paired)
    calibrate(config)
    calls.asked.clear()
    judged = run(config)
    reasons = [row.reason for row in judged.decisions]
    assert (len(reasons), reasons.count(SHARED)) == (FRESH, 10)
    assert len(calls.asked) == 8 * (FRESH - 10)
    assert judged.overall is not None
    assert judged.overall.reason == "items that share a group have no verdict"


def test_one_claim_is_never_taken_for_another(tmp_path: Path) -> None:
    config = write(tmp_path)
    calibrate(config)
    run(config)
    edit(config, CLAIM, 'claim = "population"')
    with pytest.raises(NoCertificate, match="certifies nothing"):
        run(config)
    calibrate(config)
    edit(config, 'claim = "population"', CLAIM)
    with pytest.raises(CertificateMismatch, match="claim was 'population' and is 'expected'"):
        run(config)


def test_other_judges_or_another_alpha_are_refused(tmp_path: Path) -> None:
    config = write(tmp_path)
    calibrate(config)
    edit(config, "alpha = 0.12", "alpha = 0.2")
    with pytest.raises(CertificateMismatch, match=r"alpha was 0\.12 and is 0\.2"):
        run(config)
    edit(config, "alpha = 0.2", "alpha = 0.12")
    edit(config, "shots = 2", "shots = 1")
    with pytest.raises(CertificateMismatch, match="fingerprint"):
        run(config)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────


def test_the_report_says_what_it_is_and_what_it_is_not(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, judged = done
    report = build(judged)
    assert (report.status, report.headline) == ("expected", "In expectation only")
    assert "the mean share of released verdicts that disagree" in report.claim
    assert "often above 12 %; where it was measured, in up to about half of the runs" in report.claim
    assert "This is no certificate, neither of one run nor of the population" in report.claim
    assert (
        f"This run released {sum(row.label is not None for row in judged.decisions)} of {FRESH}"
        in report.claim
    )
    measures = report.measures
    assert (measures.certified_agreement.value, measures.confidence.value) == (None, None)
    assert (measures.expected_agreement.value, measures.expected_agreement.text) == (0.88, "88 %")
    assert (measures.predicted_coverage_lower.value, measures.observed_agreement.value) == (None, None)
    assert any("exchangeable" in text for text in report.assumptions)
    for shown in (render_markdown(report.page()), render_html(report.page())):
        assert "Guarantee in expectation" in shown
        assert "With probability at least" not in shown
        assert "Certified" not in shown
        assert "δ" not in shown
    assert render_markdown(report.page()).startswith("## ⚠️ In expectation only")
    assert build_calibration(outcome).measures.cost_share.value is not None
    assert judged.overall is not None
    assert (judged.overall.verdicts, judged.overall.estimate is None) == (None, False)
    assert [tier.judge for tier in judged.shift] == ["small", "large"]


def test_the_check_line_can_be_computed_by_hand(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, judged = done
    (section,) = (section for section in build(judged).sections if section.slug == "certificate")
    line = section.text[0]
    released = sum(row.label is not None for row in judged.decisions)
    threshold = judged.decisions[0].trail[-1].threshold
    assert f"{released} of these items and " in line
    assert f"score {threshold!r} or above" in line
    assert f"{FRESH} × (1 + wrong rows) ≤ 0.12 × items × {outcome.n + 1}" in line


def test_the_gate_measures_coverage_and_never_agreement(tmp_path: Path) -> None:
    config = write(tmp_path)
    calibrate(config)
    run(config)
    runner = CliRunner()

    def gate() -> tuple[int, str]:
        result = runner.invoke(app, ["gate", "--config", str(config)])
        folder = Project.open(config).load_run().header.id
        files = [config.parent / "runs" / folder / name for name in ("decision.json", "junit.xml")]
        stated = result.stdout + "".join(path.read_text(encoding="utf-8") for path in files)
        stated = re.sub(r'certificate".{1,14}?[0-9a-f]{64}', "", stated)  # the digest of the file
        assert "certif" not in stated.lower()
        return result.exit_code, stated

    code, stated = gate()
    assert code == 3
    assert json.dumps(MEAN_ONLY)[1:-1] in stated
    edit(config, "min_agreement = 0.7\n", "")
    assert gate()[0] == 0
    edit(config, "min_coverage = 0.3", "min_coverage = 1.0")
    assert gate()[0] == 1
    edit(config, "min_coverage = 1.0", "min_coverage = 0.3")
    calibrate(config)
    assert gate()[0] == (0 if Project.open(config).gate()[0].status == "pass" else 3)


def test_labels_on_the_run_that_contradict_the_gate_are_a_breach(tmp_path: Path) -> None:
    config = write(tmp_path, min_agreement=0.9)
    calibrate(config)
    judged = run(config)
    opposite = {"A": "B", "B": "A", "tie": "A"}
    with (tmp_path / "annotations.jsonl").open("a", encoding="utf-8") as file:
        for row in judged.decisions:
            if row.label is not None:
                note = {"item_id": row.item_id, "annotator": "late", "label": opposite[row.label]}
                file.write(json.dumps(note) + "\n")
    verdict, _ = Project.open(config).gate()
    assert verdict.exit_code == 1


def test_what_needs_a_certificate_says_that_there_is_none(done: tuple[Path, Certificate, Run]) -> None:
    config, _, _ = done
    runner = CliRunner()
    for command in (["monitor", "--draw", "3"], ["report", "--alpha", "0.2"]):
        assert runner.invoke(app, [*command, "--config", str(config)]).exit_code == 3
    with pytest.raises(ConfigError, match='claim = "expected" is not supported by'):
        read_recorded(Project.open(config).config)


def test_an_export_names_no_certificate(done: tuple[Path, Certificate, Run], tmp_path: Path) -> None:
    config, _, _ = done
    to = tmp_path / "pairs.jsonl"
    result = CliRunner().invoke(app, ["export", "--as", "trl", "--config", str(config), "--to", str(to)])
    assert result.exit_code == 0, result.output
    assert "the guarantee is a mean over runs" in result.output
    assert all(
        "calibration" in row and "certificate" not in row
        for row in map(json.loads, to.read_text().splitlines())
    )


def test_a_batch_api_answers_all_judges_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_api, "FIRST_POLL", 0.01)
    with BatchServer() as server:
        judges = "".join(
            f'[[judges]]\nname = "{name}"\nbackend = "openai"\nmodel = "{name}"\nbase_url = "{server.url}"\n'
            for name in ("small", "large")
        )
        config = write(tmp_path, judges=judges, alpha=0.85)
        asyncio.run(Project.open(config).calibrate(batch=True))
        before = server.counts.batches
        judged = asyncio.run(Project.open(config).run(batch=True))
        assert server.counts.batches - before == 2
    assert len(judged.judgments) == 2 * len(judged.decisions) == 2 * FRESH
