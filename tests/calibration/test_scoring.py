"""Scores from the configuration to the report: read and decided alike in calibration and in a run."""

import asyncio
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.certificates import TASK, protocol
from tests.support.projects import calibrate, run, simulated, write_project
from tests.support.votes import ballots, judged
from trustescalate.analysis.dry_run import estimate_run
from trustescalate.analysis.monitor import draw_anchors
from trustescalate.analysis.sample_size import plan_from_pilot
from trustescalate.analysis.self_test import self_test_of
from trustescalate.analysis.tune import tune
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.scoring import Scorer
from trustescalate.cascade.runner import Cascade, Tier, decide_item
from trustescalate.errors import ConfigError, DataError
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Decision, Item, Judgment, Task, Vote
from trustescalate.records.jsonl import encode
from trustescalate.report.document import build
from trustescalate.report.markdown import render_markdown

pytestmark = pytest.mark.slow


def test_drawn_scores_go_from_calibration_to_the_report(tmp_path: Path) -> None:
    judges = simulated("small", "XS") + simulated("large", "M")
    config = write_project(tmp_path, judges, ensemble='estimator = "sampled"', labelled=150)
    outcome = calibrate(config)
    assert outcome.status == "certified"
    assert Project.open(config).certificate() == outcome
    done = run(config)
    assert len(done.decisions) == 40
    assert any(decision.label for decision in done.decisions)
    assert done.overall is not None
    assert done.overall.estimate is not None
    assert len(done.shift) > 0
    assert "sampled" in render_markdown(build(done).page())
    project = Project.open(config)
    plan = plan_from_pilot(project.config, wanted=0.5, rows=(50, 100), trials=5)
    assert plan.certified is not None
    assert self_test_of(project.config, 5, 0).results[0].world == "yours"
    assert asyncio.run(estimate_run(project.config)).estimates
    assert any(row.certified for row in tune(project.config).policies)
    assert draw_anchors(project.config, 3).draws == 3
    assert project.gate()[0].checks


@pytest.mark.parametrize(
    ("ensemble", "message"),
    [('estimator = "verbalized"', 'set mode = "stated"'), ('estimator = "lerned"', "ensemble.estimator")],
)
def test_what_cannot_be_read_is_refused_by_name(ensemble: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Project.open(write_project(tmp_path, ensemble=ensemble))


# ── votes that are saved ─────────────────────────────────────────────────────────────────────────


@settings(max_examples=150, deadline=None)
@given(ballots(), st.sampled_from(["ensemble", "sampled", "verbalized"]), st.floats(0, 1))
def test_stopping_early_decides_as_the_whole_ensemble_whatever_the_score(
    drawn: tuple[Task, list[list[Vote]]], estimator: str, any_threshold: float
) -> None:
    task, waves = drawn
    votes, item = [vote for wave in waves for vote in wave], Item("x", "p", ("a", "b"))
    scorer = Scorer(task, estimator, 7)
    whole = scorer.read(["j"], ["x"], {"j": {"x": judged(*votes)}})
    label, score = int(whole.labels[0, 0]), float(whole.scores[0, 0])
    seen = [scorer.bounds(item, votes[:n], len(votes)) for n in range(1, len(votes) + 1)]
    assert (seen[-1].label, seen[-1].low, seen[-1].high) == (label, score, score)
    values = {end for result in seen for end in result[1:]} | {any_threshold}
    for tau in sorted({near for v in values for near in (v, math.nextafter(v, 2), math.nextafter(v, -1))}):
        decision = asyncio.run(decided(scorer, votes, tau))
        assert decision.label == (task.labels[label] if label >= 0 and score >= tau else None)
        assert decision.trail[0].score <= score <= decision.trail[0].score_upper


async def decided(scorer: Scorer, votes: Sequence[Vote], tau: float) -> Decision:
    """What the cascade does with one item; votes come wave by wave, until enough."""
    judge = ReplayJudge("j", [judged(*votes)])
    cascade = Cascade((Tier(judge, tau),), scorer)
    return (await decide_item(Item("x", "p", ("a", "b")), cascade))[1]


@pytest.mark.parametrize("estimator", ["ensemble", "sampled", "verbalized"])
def test_stopping_early_saves_votes(estimator: str) -> None:
    scorer = Scorer(TASK, estimator)
    votes = [Vote(i, "AB", {"A": 0.95}) for i in range(10)]
    assert asyncio.run(decided(scorer, votes, 0.3)).trail[0].votes < 10


# ── one estimator at a time ──────────────────────────────────────────────────────────────────────


def test_the_order_within_a_level_is_drawn_once_and_from_the_seed() -> None:
    votes = tuple(Vote(0, "AB", {label: 1.0}, channel="samples") for label in ("A", "A", "B"))
    verdicts = {"j": {f"i{n}": Judgment(f"i{n}", "j", "f", votes, 3) for n in range(50)}}
    rows = list(verdicts["j"])
    scores = Scorer(TASK, "sampled", 1).read(["j"], rows, verdicts).scores[:, 0]
    assert len(set(scores)) == 50
    assert 2 / 4.5 <= scores.min() < scores.max() < 3 / 4.5
    assert scores.tolist() == Scorer(TASK, "sampled", 1).read(["j"], rows, verdicts).scores[:, 0].tolist()
    assert scores.tolist() != Scorer(TASK, "sampled", 2).read(["j"], rows, verdicts).scores[:, 0].tolist()


def stated(label: str, sure: float) -> Vote:
    return Vote(0, "AB", {label: sure}, channel="stated")


def spoken(n: int, sure: float, label: str = "A", name: str = "j") -> dict[str, Judgment]:
    return {
        f"i{i:03}": Judgment(f"i{i:03}", name, f"print of {name}", (stated(label, sure),), 1)
        for i in range(n)
    }


def test_stated_confidence_is_read_as_it_is_stated() -> None:
    ids = [f"i{n:03}" for n in range(80)]
    votes = spoken(80, 0.8) | {
        key: replace(row, votes=(stated("B", 0.6),)) for key, row in spoken(20, 0.6).items()
    }
    notes = [Annotation(item, "x", "A") for item in ids]
    outcome = certify(protocol(ids, estimator="verbalized"), notes, {"j": votes}, created="now")
    assert outcome.status == "certified"
    counted = {
        (test.accepted, test.errors) for test in outcome.tests if 0.6 < (test.thresholds[0] or 0) <= 0.8
    }
    assert counted == {(60, 0)}
    assert (outcome.tests[-1].accepted, outcome.tests[-1].errors) == (80, 20)
    assert outcome.judges[0].channel == "stated"
    silent = {
        key: replace(row, votes=(Vote(0, "AB", {}, failure="none", channel="stated"),))
        for key, row in votes.items()
    }
    assert (
        certify(protocol(ids, estimator="verbalized"), notes, {"j": silent}, created="now").status == "none"
    )
    verdicts = {key: replace(row, votes=(Vote(0, "AB", {"A": 0.8}),)) for key, row in votes.items()}
    with pytest.raises(DataError, match="states no confidence in its vote on item 'i000'"):
        certify(protocol(ids, estimator="verbalized"), notes, {"j": verdicts}, created="now")


def test_replayed_votes_that_state_their_confidence(tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=120, ensemble="")
    items = [json.loads(line)["id"] for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    notes = [json.loads(line) for line in (tmp_path / "annotations.jsonl").read_text().splitlines()]
    truth = {note["item_id"]: note["label"] for note in notes}
    rng = random.Random(5)
    rows = []
    for item in items:
        sure = rng.choice([0.6, 0.7, 0.8, 0.9, 1.0])
        right = truth.get(item, "A")
        label = right if right in ("A", "B") and rng.random() < sure else rng.choice("AB")
        rows.append(Judgment(item, "told", "print", (stated(label, sure),), 1))
    (tmp_path / "votes.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in rows))
    text = config.read_text().replace("annotators = 2\nshots = 2\n", 'estimator = "verbalized"\nshots = 0\n')
    head = text[: text.index("[[judges]]")].replace("alpha = 0.3", "alpha = 0.45")
    judge = '[[judges]]\nname = "told"\nbackend = "replay"\nvotes = "votes.jsonl"\n'
    config.write_text(head + judge)
    outcome = calibrate(config)
    assert outcome.status == "certified"
    done = run(config)
    assert {step.score for row in done.decisions for step in row.trail} <= {0.6, 0.7, 0.8, 0.9, 1.0}
    assert max(shift.gap for shift in done.shift) < 1
