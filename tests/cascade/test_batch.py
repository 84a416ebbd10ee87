"""The claim "batch", from files to files: the draw, what is judged, the certificate, the release."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import hypergeom
from typer.testing import CliRunner

from tests.support.projects import Calls, calibrate, edit, run, shuffled, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_calibration
from trustescalate.calibration.alignment import lay_out, rows_to_judge
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.prepare import draw_batch
from trustescalate.calibration.protocol import Protocol
from trustescalate.calibration.scoring import Scorer
from trustescalate.cli import app
from trustescalate.config import load_config
from trustescalate.data.batch import DRAW, TO_LABEL, Draw, draw_rows, items_digest
from trustescalate.data.dataset import load_dataset
from trustescalate.data.labels import majority
from trustescalate.errors import BudgetReached, CertificateMismatch, ConfigError, NotMeasurable
from trustescalate.judges.simulated import generate
from trustescalate.project import Project
from trustescalate.records import Certificate, Item, Judgment
from trustescalate.records.jsonl import decode, read_rows
from trustescalate.report.document import build, build_calibration
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.batch import errors_allowed
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
BATCH, LABEL = 300, 120
CLAIM = f'path = "{{path}}"\nclaim = "batch"\nlabel_budget = {LABEL}'


def write_batch(folder: Path, *, path: str = "common", labelled: int = BATCH, **settings: Any) -> Path:
    """300 items, of which the first `labelled` have annotations."""
    guarantee = CLAIM.format(path=path)
    return write_project(
        folder, labelled=labelled, unlabelled=BATCH - labelled, guarantee=guarantee, **settings
    )


def drawn(config: Path) -> Draw:
    project = Project.open(config)
    draw = draw_batch(project.config, load_dataset(project.config))
    assert draw is not None
    return draw


def judgments(config: Path) -> dict[str, dict[str, Judgment]]:
    rows, problems = read_rows(config.parent / "certificate.votes.jsonl", Judgment)
    assert not problems
    found: dict[str, dict[str, Judgment]] = {}
    for _, row in rows:
        found.setdefault(row.judge, {})[row.item_id] = row
    return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate]:
    """A certified batch, for tests that only read."""
    config = write_batch(tmp_path_factory.mktemp("batch"))
    return config, calibrate(config)


# ── the draw ─────────────────────────────────────────────────────────────────────────────────────


def test_the_draw_depends_on_items_and_seed_alone(tmp_path: Path) -> None:
    """Not on which rows are labelled, with what, nor on the order of the file."""

    def backwards(items: list[Any], notes: list[Any]) -> None:
        items.reverse()
        shuffled(items, notes)

    one = drawn(write_batch(tmp_path / "one"))
    assert one == drawn(write_batch(tmp_path / "few labels", labelled=20))
    assert one == drawn(write_batch(tmp_path / "other order", change=backwards))
    other = drawn(write_batch(tmp_path / "other seed", more="[roles]\nseed = 1\n"))
    assert len(one.drawn & other.drawn) < LABEL / 2 + 20
    assert len(one.drawn) == LABEL
    assert (len(one.exemplars), len(one.dev), len(one.certify), one.size) == (4, 0, LABEL - 4, BATCH - 4)


def test_any_change_of_the_items_is_another_draw() -> None:
    items = generate(0, 50).items
    first = draw_rows(items, 20, 2, 0.0, 0)
    changed = draw_rows((*items[:-1], replace(items[-1], reference="new")), 20, 2, 0.0, 0)
    assert first.drawn != changed.drawn
    assert first.batch == items_digest([item for item in items if item.id not in first.exemplars])


def test_every_row_is_drawn_equally_often() -> None:
    """2,000 seeds, 10 of 25 rows to certify with, after 3 exemplars and 2 dev rows: 800 ± 6 sd each."""
    items = generate(0, 25).items
    counts = dict.fromkeys((item.id for item in items), 0)
    for seed in range(2000):
        for item_id in draw_rows(items, 15, 3, 0.1, seed).certify:
            counts[item_id] += 1
    assert all(abs(count - 800) < 6 * (2000 * 0.4 * 0.6) ** 0.5 for count in counts.values())


def test_a_draw_that_is_not_possible() -> None:
    items = generate(0, 25).items
    with pytest.raises(ConfigError, match="there are 25 items"):
        draw_rows(items, 26, 0, 0.0, 0)
    with pytest.raises(ConfigError, match="none is left to certify with"):
        draw_rows(items, 10, 8, 0.2, 0)


# ── labels that are missing ──────────────────────────────────────────────────────────────────────


def test_rows_without_a_label_are_exported_and_nothing_is_asked(tmp_path: Path, calls: Calls) -> None:
    config = write_batch(tmp_path, labelled=100)
    wanted = drawn(config).drawn
    with pytest.raises(NotMeasurable, match=f"of {LABEL} rows that were drawn have no label yet") as caught:
        calibrate(config)
    assert caught.value.exit_code == 3
    data = load_dataset(load_config(config))
    rows, problems = read_rows(tmp_path / TO_LABEL, Item)
    exported = [row.record for row in rows]
    assert not problems
    assert exported == [item for item in data.unlabelled if item.id in wanted]
    assert decode((tmp_path / DRAW).read_bytes(), Draw) == drawn(config)
    assert not calls.asked
    assert not (tmp_path / "certificate.json").exists()

    result = CliRunner().invoke(app, ["calibrate", "--config", str(config)])
    assert result.exit_code == 3
    assert f"{len(exported)} of {LABEL} rows" in result.stderr
    assert TO_LABEL in result.stderr
    facts = dict(inspect_project(Project.open(config).config).facts)
    assert facts["batch"] == f"296 items; 120 rows drawn for annotation, {len(exported)} without a label"
    with pytest.raises(NotMeasurable):
        asyncio.run(estimate_calibration(Project.open(config).config))


def test_with_all_labels_the_list_goes_away(tmp_path: Path) -> None:
    config = write_batch(tmp_path)
    (tmp_path / TO_LABEL).write_text("old")
    calibrate(config)
    assert not (tmp_path / TO_LABEL).exists()


def test_labels_that_were_not_drawn_are_no_evidence(done: tuple[Path, Certificate], tmp_path: Path) -> None:
    config, certificate = done
    keep = drawn(config).drawn

    def less(items: list[Any], notes: list[Any]) -> None:
        notes[:] = [note for note in notes if note["item_id"] in keep]

    other = calibrate(write_batch(tmp_path, change=less))
    assert replace(other, created=certificate.created) == certificate


def test_drawn_rows_that_everybody_skipped_count_as_errors_when_released(tmp_path: Path) -> None:
    def skipped(items: list[Any], notes: list[Any]) -> None:
        for note in notes:
            note["label"] = "skip" if note["item_id"] in gone else note["label"]

    gone = set(drawn(write_batch(tmp_path)).certify[:30])
    made = calibrate(write_batch(tmp_path, change=skipped))
    assert made.n == LABEL - 4
    assert made.no_majority >= 30
    lax = made.tests[-1]
    assert lax.errors >= 25
    assert lax.drawn == made.n


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


def test_every_p_value_can_be_recomputed_from_its_counts(done: tuple[Path, Certificate]) -> None:
    _, made = done
    assert (made.claim, made.status, made.batch.items if made.batch else 0) == ("batch", "certified", 296)
    for test in made.tests:
        assert test.drawn is not None
        marked = int(errors_allowed(test.accepted, made.alpha)) + 1
        by_hand = hypergeom.cdf(test.errors, test.accepted, marked, test.drawn) if test.drawn else 1.0
        assert test.p_value == pytest.approx(by_hand, abs=1e-12)
        assert test.rejected == (test.level > 0 and test.p_value <= test.level)
        assert sum(test.by_tier) == test.accepted
    assert made.chosen is not None
    assert made.coverage_lower == made.tests[made.chosen].accepted / 296


def test_the_report_and_the_check_line(done: tuple[Path, Certificate]) -> None:
    _, made = done
    assert made.chosen is not None
    test = made.tests[made.chosen]
    report = build_calibration(made)
    assert "of the verdicts that this cascade releases on this batch of 296 items agree" in report.claim
    assert f"it releases {test.accepted} of them" in report.claim
    assert report.measures.observed_agreement.counts == ((test.drawn or 0) - test.errors, test.drawn)
    marked = int(errors_allowed(test.accepted, made.alpha)) + 1
    text = render_markdown(report.page())
    assert f"HypergeomCDF({test.errors}; {test.accepted}, {marked}, {test.drawn})" in text
    assert "no assumption is made on how the items arose" in text
    assert "BinomCDF" not in text


def test_dear_judges_are_asked_where_a_policy_could_visit_them(done: tuple[Path, Certificate]) -> None:
    config, made = done
    votes = judgments(config)
    assert len(votes["small"]) == 296
    assert 50 < len(votes["large"]) < 296
    small, large = made.diagnostics
    assert small.n == LABEL - 4
    assert 0 < large.n < LABEL - 4


def test_the_order_of_asking_tells_nothing_of_the_draw(done: tuple[Path, Certificate]) -> None:
    config, made = done
    project = Project.open(config)
    protocol, nobody = _protocol(project, made), {seal.judge: {} for seal in made.judges}
    swapped = {**made.roles, "certify": made.roles["undrawn"], "undrawn": made.roles["certify"]}
    votes = judgments(config)
    scorer = Scorer(made.task, made.estimator)
    plan = lay_out(protocol, (), votes, scorer)
    assert plan is not None
    asked = rows_to_judge(protocol, plan, nobody, 0, scorer)
    assert asked == rows_to_judge(replace(protocol, roles=swapped), plan, nobody, 0, scorer)
    assert set(asked) == {*made.roles["certify"], *made.roles["undrawn"]}


def test_every_set_of_rows_is_drawn_as_often() -> None:
    items = [Item(name, f"question {name}", ("a", "b")) for name in "abcde"]
    seen = Counter(frozenset(draw_rows(items, 2, 0, 0.0, seed).certify) for seed in range(4000))
    assert len(seen) == 10
    assert min(seen.values()) > 320


@pytest.mark.parametrize("path", ["hedged", "pareto"])
def test_other_paths(tmp_path: Path, path: str) -> None:
    more = "" if path == "hedged" else "[roles]\ndev = 0.4\n"
    config = write_batch(tmp_path, path=path, more=more)
    made = calibrate(config)
    assert made.path == path
    assert {test.part for test in made.tests} == ({0, 1, 2} if path == "hedged" else {0})
    assert len(made.roles["dev"]) == (0 if path == "hedged" else 48)
    if made.status == "certified":
        assert len(run(config).decisions) == made.batch.items if made.batch else False


def test_a_hopeless_batch_is_refused_and_says_why(tmp_path: Path) -> None:
    made = calibrate(write_batch(tmp_path, change=shuffled))
    assert (made.status, made.thresholds, made.coverage_lower) == ("none", None, None)
    assert "with 116 of 296 rows labelled, disagreement with people on this batch" in made.reason
    few = write_batch(tmp_path / "few")
    edit(few, f"label_budget = {LABEL}", "label_budget = 5")
    with pytest.raises(NotMeasurable, match="3 labelled rows of a batch of 298 are too few"):
        calibrate(few)


# ── the release ──────────────────────────────────────────────────────────────────────────────────


def test_a_run_releases_what_was_certified_and_asks_nobody(tmp_path: Path, calls: Calls) -> None:
    config = write_batch(tmp_path)
    made = calibrate(config)
    asked = len(calls.asked)
    result = run(config)
    assert len(calls.asked) == asked
    assert made.chosen is not None
    released = [decision for decision in result.decisions if decision.label is not None]
    assert len(released) == made.tests[made.chosen].accepted
    assert {row.item_id for row in result.decisions} == {*made.roles["certify"], *made.roles["undrawn"]}
    assert not result.annotations
    assert f"This run released {len(released)} of 296" in build(result).claim
    verdict, _ = Project.open(config).gate()
    assert verdict.status == "pass"


def test_a_batch_other_than_the_certified_one_is_refused(tmp_path: Path) -> None:
    config = write_batch(tmp_path)
    calibrate(config)
    items = tmp_path / "items.jsonl"
    lines = items.read_text().splitlines(keepends=True)
    more = json.dumps({"id": "new", "prompt": "p", "responses": ["a", "b"]}) + "\n"
    for name, text in (("more", "".join([*lines, more])), ("fewer", "".join(lines[:200]))):
        (tmp_path / name).write_text(text)
        with pytest.raises(CertificateMismatch, match="another batch of 296 items than these"):
            run(config, items=tmp_path / name)
    assert len(run(config, items=items).decisions) == 296
    items.write_text("".join([*lines, more]))
    with pytest.raises(CertificateMismatch, match="another batch of 296 items than these 297"):
        run(config)


def test_other_votes_and_other_claims_are_refused(tmp_path: Path) -> None:
    config = write_batch(tmp_path)
    calibrate(config)
    votes = tmp_path / "certificate.votes.jsonl"
    kept = votes.read_bytes()
    votes.write_bytes(b"".join(kept.splitlines(keepends=True)[1:]))
    with pytest.raises(CertificateMismatch, match="not the votes of this certificate"):
        run(config)
    votes.write_bytes(kept)
    edit(config, f'claim = "batch"\nlabel_budget = {LABEL}', "")
    with pytest.raises(CertificateMismatch, match="claim was 'batch' and is 'population'"):
        run(config)


def test_a_budget_ends_calibration_and_the_next_one_goes_on(
    tmp_path: Path, done: tuple[Path, Certificate]
) -> None:
    config = write_batch(tmp_path)
    with pytest.raises(BudgetReached):
        calibrate(config, calls=700)
    assert not (tmp_path / "certificate.json").exists()
    assert replace(calibrate(config), created=done[1].created) == done[1]


# ── the guarantee ──────────────────────────────────────────────────────────────────────────────────


def test_the_guarantee_holds_over_the_draw(tmp_path: Path) -> None:
    """Judges, labels and items fixed; 60 draws. Near the judges' own error rate, so that some do break it."""
    config = write_batch(tmp_path, path="hedged")
    project, alpha, draws = Project.open(config), 0.14, 60
    made = calibrate(config)
    data, votes = load_dataset(project.config), judgments(config)
    task = project.config.task.task()
    truth = majority(task, data.annotations)
    outside = set(made.roles["exemplars"])
    batch = [item for item in data.items if item.id not in outside]
    broken = certified = 0
    for seed in range(draws):
        draw = draw_rows(batch, LABEL, 0, 0.0, seed)
        drawn_rows = set(draw.certify)
        roles = {
            **made.roles,
            "certify": draw.certify,
            "undrawn": tuple(item.id for item in batch if item.id not in drawn_rows),
        }
        protocol = _protocol(project, made)
        protocol = replace(protocol, rule=replace(protocol.rule, alpha=alpha), roles=roles)
        found = certify(protocol, data.annotations, votes, created="", batch_digest=draw.batch)
        if found.thresholds is None or found.chosen is None:
            continue
        certified += 1
        wrong = sum(_wrong(found, item.id, votes, truth) for item in batch)
        broken += wrong > errors_allowed(found.tests[found.chosen].accepted, alpha)
    assert certified >= 10
    assert broken <= violation_limit(draws, made.delta)


def _protocol(project: Project, made: Certificate) -> Protocol:
    guarantee = project.config.guarantee
    return Protocol(
        task=made.task,
        rule=TestRule(made.alpha, made.delta, guarantee.path, guarantee.procedure),
        claim="batch",
        estimator=project.config.ensemble.estimator,
        judges=tuple((seal.judge, seal.fingerprint) for seal in made.judges),
        roles=made.roles,
        grouped=False,
        seed=0,
        version="0",
    )


def _wrong(made: Certificate, item_id: str, votes: dict[str, dict[str, Judgment]], truth: Any) -> bool:
    """Whether the certified cascade releases a verdict on this item that people do not share."""
    for seal, tau in zip(made.judges, made.thresholds or (), strict=True):
        if tau is None:
            continue
        rows = votes[seal.judge][item_id].votes
        mean = {
            label: sum(vote.probs.get(label, 0.0) for vote in rows) / len(rows) for label in made.task.labels
        }
        label, score = max(mean.items(), key=lambda pair: pair[1])
        if round(score, 12) >= round(tau, 12):
            return label != truth.get(item_id)
    return False
