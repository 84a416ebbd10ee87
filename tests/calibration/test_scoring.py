"""Scores from the configuration to the report: fitted on rows set apart, kept exactly, decided alike."""

import asyncio
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.calibration.test_calibrate import TASK, protocol
from tests.calibration.test_votes import ballots, judged
from tests.test_project import Calls, calibrate, run, simulated, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import rehearse
from trustescalate.analysis.monitor import draw_anchors
from trustescalate.analysis.path_choice import compare_paths
from trustescalate.analysis.pilot_plan import plan_from_pilot
from trustescalate.analysis.recorded_votes import read_recorded
from trustescalate.analysis.self_test import self_test_of
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.scoring import FEWEST, Scorer, fit_scorer
from trustescalate.cascade.runner import Cascade, Tier, decide_item
from trustescalate.config import BudgetTable
from trustescalate.errors import BudgetReached, CertificateMismatch, ConfigError, DataError, NotMeasurable
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate, Decision, Fit, Item, Judgment, Task, TaskKind, Vote
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.document import build, build_calibration
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.ordinal import width_threshold

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
    assert any(row.certified for row in compare_paths(project).paths)
    assert draw_anchors(project, 3).draws == 3
    assert project.gate()[0].checks
    assert ("scores" in dict(inspect_project(project).facts)) == fitted


@pytest.mark.parametrize("way", ["learned", "boosted", "isotonic"])
def test_certified_rows_get_the_same_bits_in_a_run(way: str, tmp_path: Path) -> None:
    """Every row that was tested, judged again alone: its score is the one that was tested."""
    config = project_with(tmp_path, way, guarantee='path = "common"\nprefer = "cost"')
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
        asyncio.run(Project.open(cut).run(budget=BudgetTable(calls=40)))
    done, resumed = run(whole), run(cut, resume="latest")
    assert {d.item_id: (d.label, d.score) for d in done.decisions} == {
        d.item_id: (d.label, d.score) for d in resumed.decisions
    }


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


# ── votes that are saved ─────────────────────────────────────────────────────────────────────────

CURVES: Mapping[str, tuple[Fit, ...]] = {
    "none": (),
    "isotonic": (Fit("isotonic", 50, {"knots": [0.3, 0.5, 0.75], "values": [0.2, 0.2, 0.9]}),),
    "platt": (Fit("platt", 50, {"intercept": -0.3, "slope": 0.7}),),
    "flat": (Fit("platt", 50, {"intercept": 0.4, "slope": 0.0}),),
    "temperature": (Fit("temperature", 50, {"temperature": 2.5}),),
    "frozen": (Fit("temperature", 50, {"temperature": None}),),
}


@settings(max_examples=150, deadline=None)
@given(
    ballots(),
    st.sampled_from(["ensemble", "predictive", "sampled", "verbalized"]),
    st.sampled_from(sorted(CURVES)),
    st.floats(0, 1),
)
def test_stopping_early_decides_as_the_whole_ensemble_whatever_the_score(
    drawn: tuple[Task, list[list[Vote]]], estimator: str, curve: str, any_threshold: float
) -> None:
    task, waves = drawn
    votes, item = [vote for wave in waves for vote in wave], Item("x", "p", ("a", "b"))
    scorer = Scorer(task, estimator, 7, {"j": CURVES[curve]})
    whole = scorer.read(["j"], ["x"], {"j": {"x": judged(*votes)}})
    label, score = int(whole.labels[0, 0]), float(whole.scores[0, 0])
    seen = [scorer.bounds(item, "j", votes[:n], len(votes)) for n in range(1, len(votes) + 1)]
    assert (seen[-1].label, seen[-1].low, seen[-1].high) == (label, score, score)
    values = {end for found in seen for end in found[1:]} | {any_threshold}
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
@pytest.mark.parametrize("curve", ["none", "platt"])
def test_stopping_early_saves_votes_under_a_curve_too(estimator: str, curve: str) -> None:
    scorer = Scorer(TASK, estimator, 0, {"j": CURVES[curve]})
    votes = [Vote(i, "AB", {"A": 0.95}) for i in range(10)]
    assert asyncio.run(decided(scorer, votes, 0.3)).trail[0].votes < 10


# ── one estimator at a time ──────────────────────────────────────────────────────────────────────


def test_the_order_within_a_level_is_drawn_once_and_from_the_seed() -> None:
    votes = tuple(Vote(0, "AB", {label: 1.0}, channel="samples") for label in ("A", "A", "B"))
    said = {"j": {f"i{n}": Judgment(f"i{n}", "j", "f", votes, 3) for n in range(50)}}
    rows = list(said["j"])
    scores = Scorer(TASK, "sampled", 1).read(["j"], rows, said).scores[:, 0]
    assert len(set(scores)) == 50
    assert 2 / 4.5 <= scores.min() < scores.max() < 3 / 4.5
    assert scores.tolist() == Scorer(TASK, "sampled", 1).read(["j"], rows, said).scores[:, 0].tolist()
    assert scores.tolist() != Scorer(TASK, "sampled", 2).read(["j"], rows, said).scores[:, 0].tolist()


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
    made = certify(protocol(ids, estimator="verbalized"), notes, {"j": votes}, created="now")
    assert made.status == "certified"
    counted = {(test.accepted, test.errors) for test in made.tests if 0.6 < (test.thresholds[0] or 0) <= 0.8}
    assert counted == {(60, 0)}
    assert (made.tests[-1].accepted, made.tests[-1].errors) == (80, 20)
    assert made.judges[0].channel == "stated"
    silent = {
        key: replace(row, votes=(Vote(0, "AB", {}, failure="none", channel="stated"),))
        for key, row in votes.items()
    }
    assert (
        certify(protocol(ids, estimator="verbalized"), notes, {"j": silent}, created="now").status == "none"
    )
    said = {key: replace(row, votes=(Vote(0, "AB", {"A": 0.8}),)) for key, row in votes.items()}
    with pytest.raises(DataError, match="states no confidence in its vote on item 'i000'"):
        certify(protocol(ids, estimator="verbalized"), notes, {"j": said}, created="now")


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
    made = calibrate(config)
    assert made.status == "certified"
    done = run(config)
    assert {step.score for row in done.decisions for step in row.trail} <= {0.6, 0.7, 0.8, 0.9, 1.0}
    assert max(shift.gap for shift in done.shift) < 1


RATING = Task(TaskKind.RATING, "How good?", ("1", "2", "3", "4", "5"))


def rated(seed: int = 0, n: int = 300) -> tuple[list[str], list[Annotation], dict[str, Judgment]]:
    """A judge that knows its doubt: sharp where it is right, flat where it is guessing."""
    rng = np.random.default_rng(seed)
    ids, notes, rows = [f"r{i:03}" for i in range(n)], [], {}
    for item in ids:
        truth, sharp = int(rng.integers(1, 6)), rng.random() < 0.5
        centre = truth if sharp or rng.random() < 0.4 else int(rng.integers(1, 6))
        weights = np.exp(-(6.0 if sharp else 0.3) * np.abs(np.arange(1, 6) - centre))
        probs = dict(zip(RATING.labels, (weights / weights.sum() * 0.999).tolist(), strict=True))
        notes.append(Annotation(item, "x", str(truth)))
        rows[item] = Judgment(item, "j", "print of j", (Vote(0, "", probs),), 1)
    return ids, notes, rows


def test_narrow_intervals_of_ratings_are_accepted_first() -> None:
    ids, notes, rows = rated()
    roles = {
        "exemplars": (),
        "dev": tuple(ids[:100]),
        "holdout": (),
        "certify": tuple(ids[100:]),
        "pilot": (),
    }
    plan = protocol(ids, task=RATING, estimator="interval", roles=roles)
    made = certify(plan, notes, {"j": rows}, created="now")
    assert made.status == "certified"
    assert made.scoring is not None
    (fit,) = made.scoring.fits["j"]
    assert (fit.kind, fit.rows) == ("interval", 100)
    widths = {width_threshold(width, 5) for width in range(5)}
    read = Scorer.of(made).read(["j"], ids, {"j": rows})
    assert set(read.scores[:, 0]) <= widths
    chosen = made.tests[made.chosen or 0]
    assert 0.3 < chosen.accepted / 200 < 0.7
    torn = replace(rows[ids[150]], votes=(Vote(0, "", {}, failure="timeout"),))
    assert Scorer.of(made).read(["j"], [ids[150]], {"j": {ids[150]: torn}}).labels.tolist() == [[-1]]
    page = render_markdown(build_calibration(made))
    assert "mass that an interval must hold" in page


def test_ratings_by_intervals_from_the_configuration_to_the_run(tmp_path: Path) -> None:
    ids, notes, rows = rated(1)
    (tmp_path / "items.jsonl").write_bytes(
        b"".join(encode(Item(item, f"question {item}", ("answer",))) + b"\n" for item in ids)
    )
    (tmp_path / "annotations.jsonl").write_bytes(b"".join(encode(note) + b"\n" for note in notes[:240]))
    (tmp_path / "votes.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in rows.values()))
    config = tmp_path / "trustescalate.toml"
    config.write_text(
        'version = 1\n[task]\nkind = "rating"\nquestion = "How good?"\n[guarantee]\nalpha = 0.2\n[roles]\n'
        'dev = 0.3\n[ensemble]\nshots = 0\nestimator = "interval"\nrecalibrate = "platt"\n'
        '[[judges]]\nname = "j"\nbackend = "replay"\nvotes = "votes.jsonl"\n'
    )
    made = calibrate(config)
    assert made.status == "certified"
    assert made.scoring is not None
    assert [fit.kind for fit in made.scoring.fits["j"]] == ["interval", "platt"]
    done = run(config)
    released = sum(decision.label is not None for decision in done.decisions)
    assert 0.3 < released / len(done.decisions) < 0.7


def test_a_judge_that_said_too_little_on_dev_rows_is_trusted_with_nothing() -> None:
    ids = [f"i{n:03}" for n in range(200)]
    silent = (Vote(0, "AB", {}, failure="timeout"),)
    rows = {i: Judgment(i, "j", "print of j", (Vote(0, "AB", {"A": 0.9, "B": 0.1}),), 1) for i in ids}
    rows |= {i: replace(rows[i], votes=silent) for i in ids[9:60]}
    roles = {"exemplars": (), "dev": tuple(ids[:60]), "holdout": (), "certify": tuple(ids[60:]), "pilot": ()}
    plan = protocol(ids, roles=roles, recalibrate="platt")
    made = certify(plan, [Annotation(i, "x", "A") for i in ids], {"j": rows}, created="now")
    assert made.scoring is not None
    assert made.scoring.fits == {"j": (Fit("platt", 9, {}),)}
    assert made.status == "none"
    assert "What was fitted" in render_markdown(build_calibration(made))


def learnable(n: int, seed: int, swapped: bool = False) -> tuple[Any, list[Annotation], Any, dict[str, Item]]:
    """Two judges in both orders, whose errors show in the gap between the orders."""
    rng, other = np.random.default_rng(seed), {"A": "B", "B": "A"}
    notes, items, judged_rows = [], {}, {"j": {}, "k": {}}
    for i in range(n):
        item, truth, lean = f"i{i:03}", str(rng.choice(["A", "B"])), rng.uniform(0, 0.4)
        lengths = rng.integers(20, 400, size=2)
        right = rng.random() < (0.95 if lean < 0.2 else 0.5)
        said = truth if right else other[truth]
        texts = tuple("x" * int(length) for length in lengths)
        items[item] = Item(item, "p", texts[::-1] if swapped else texts)
        notes.append(Annotation(item, "x", other[truth] if swapped else truth))
        for name, noise in (("j", 0.1), ("k", 0.0)):
            sure = rng.uniform(0.6, 0.9)
            votes = [
                Vote(member, order, turned({said: p, other[said]: 1 - p}, swapped))
                for member in range(2)
                for order, p in (
                    ("AB", min(1.0, sure + lean / 2 + noise * rng.random())),
                    ("BA", sure - lean / 2),
                )
            ]
            if swapped:
                votes = [replace(votes[at], order=votes[at ^ 1].order) for at in (1, 0, 3, 2)]
            judged_rows[name][item] = Judgment(item, name, f"print of {name}", tuple(votes), 4)
    ids = list(items)
    roles = {
        "exemplars": (),
        "dev": tuple(ids[: n // 2]),
        "holdout": (),
        "certify": tuple(ids[n // 2 :]),
        "pilot": (),
    }
    task = Task(TaskKind.PAIRWISE, "Which?", ("A", "B"), "drop")
    plan = protocol(ids, ("j", "k"), task=task, estimator="learned", roles=roles)
    return plan, notes, judged_rows, items


def turned(probs: Mapping[str, float], swapped: bool) -> Mapping[str, float]:
    return {{"A": "B", "B": "A"}[label]: p for label, p in probs.items()} if swapped else probs


@pytest.mark.parametrize("estimator", ["learned", "boosted"])
def test_a_learned_score_finds_the_signs_and_knows_no_sides(estimator: str) -> None:
    plan, notes, votes, items = learnable(300, 3)
    plan = replace(plan, estimator=estimator)
    made = certify(plan, notes, votes, created="now", items=items)
    assert made.scoring is not None
    assert [fit.earlier for fit in (made.scoring.fits["j"][0], made.scoring.fits["k"][0])] == [(), ("j",)]
    plain = certify(replace(plan, estimator="ensemble"), notes, votes, created="now")
    assert (made.diagnostics[0].auroc or 0) > (plain.diagnostics[0].auroc or 0) + 0.1
    _, notes, votes, items = learnable(300, 3, swapped=True)
    other = certify(plan, notes, votes, created="now", items=items)
    assert [(t.thresholds, t.accepted, t.errors) for t in other.tests] == [
        (t.thresholds, t.accepted, t.errors) for t in made.tests
    ]
    assert decode(encode(made), Certificate) == made


def test_signs_of_texts_need_the_texts() -> None:
    plan, notes, votes, _ = learnable(60, 0)
    with pytest.raises(ValueError, match="reads the texts of item 'i000'"):
        certify(plan, notes, votes, created="now")


@pytest.mark.parametrize(
    ("path", "read"), [("common", ("j", "k")), ("hedged", ()), ("pareto", ()), ("tierwise", ())]
)
def test_a_judge_that_may_be_passed_over_is_no_sign(path: str, read: tuple[str, ...]) -> None:
    plan, notes, votes, items = learnable(80, 0)
    votes["l"] = {item: replace(row, judge="l") for item, row in votes["k"].items()}
    judges = tuple((name, f"print of {name}") for name in ("j", "k", "l"))
    fits = fit_scorer(replace(plan, judges=judges, path=path), notes, votes, items).fits
    assert fits["l"][0].earlier == read
    assert fits["k"][0].earlier == (("j",) if path in ("common", "hedged") else ())


def test_scores_depend_on_no_label_that_is_tested() -> None:
    plan, notes, votes, items = learnable(200, 1)
    tested = set(plan.roles["certify"])
    flipped = [replace(note, label="B") if note.item_id in tested else note for note in notes]
    first, second = (certify(plan, rows, votes, created="now", items=items) for rows in (notes, flipped))
    assert first.scoring == second.scoring
    assert [test.thresholds for test in first.tests] == [test.thresholds for test in second.tests]


def test_the_dearest_judge_teaches_without_a_human_label() -> None:
    plan, notes, votes, items = learnable(200, 1)
    plan = replace(plan, learn_from="dearest")
    tested = [note for note in notes if note.item_id in set(plan.roles["certify"])]
    first, second = (certify(plan, rows, votes, created="now", items=items) for rows in (notes, tested))
    assert first.scoring is not None
    assert first.scoring == second.scoring
    assert set(first.scoring.fits) == {"j"}
    assert first.tests == second.tests


def test_draws_in_one_order_stand_together() -> None:
    """Three draws in each order: the gap is between the orders, whatever the draws of one order say."""

    def votes(ab: str, ba: str) -> tuple[Vote, ...]:
        return tuple(
            Vote(0, order, {label: 1.0}, channel="samples")
            for order, labels in (("AB", ab), ("BA", ba))
            for label in labels
        )  # type: ignore[arg-type]

    rows = {"same": votes("AAB", "AAB"), "gap": votes("AAA", "ABB")}
    said = {"j": {name: Judgment(name, "j", "f", each, 6) for name, each in rows.items()}}
    items = {name: Item(name, "p", ("a", "b")) for name in rows}
    seen = Scorer(TASK, "learned", items=items).signs("j", ["same", "gap"], said, (6, 3), ())
    assert seen.x[:, 2].round(3).tolist() == [0.0, 0.667]


def test_few_rows_to_fit_on_are_a_warning(tmp_path: Path) -> None:
    few = project_with(tmp_path / "few", "learned", more="[roles]\ndev = 0.15\n")
    assert any("rows to fit scores on" in line for line in inspect_project(Project.open(few)).warnings)
    many = project_with(tmp_path / "many", "learned")
    assert not any("rows to fit scores on" in line for line in inspect_project(Project.open(many)).warnings)
