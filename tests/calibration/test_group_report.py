"""Guarantees of groups in report and gate, and evidence on groups that were left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta
from typer.testing import CliRunner

from tests.support.certificates import World, by_hand, protocol
from tests.support.factory import HOSTILE
from tests.support.groups import GROUPS, languages, rule, table, texts, write_groups
from tests.support.projects import calibrate, run, shuffled
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.protocol import LeaveOut
from trustescalate.cli import app
from trustescalate.project import Project
from trustescalate.records import Certificate, Run
from trustescalate.report.document import build, build_calibration
from trustescalate.report.html import render_html
from trustescalate.report.markdown import render_markdown

pytestmark = pytest.mark.slow


# ── report and gate ──────────────────────────────────────────────────────────────────────────────


def test_the_report_by_value(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, result = done
    report = build(result)
    rows = texts(table(report, "guarantees-by-group"))
    for row, one in zip(rows, outcome.groups, strict=True):
        assert row[0] == one.value
        assert row[2] == str(one.n)
        if one.chosen is None:
            assert (row[1], row[-1]) == ("—", "not tested: too few rows")
        else:
            test = one.tests[one.chosen]
            assert (row[1], row[3], row[4], row[-1]) == (
                "≥ 70 %",
                str(test.accepted),
                str(test.errors),
                "certified",
            )
    outcomes = {row[0]: row for row in texts(table(report, "guarantees-by-group", 1))}
    released = {row.item_id for row in result.decisions if row.label}
    for value in ("de", "en", "fi"):
        ids = [item.id for item in result.items if item.meta.get("language") == value]
        assert outcomes[value][1:3] == [str(len(ids)), str(sum(item in released for item in ids))]
    assert "at least 70 % for “de”, “en” agree with the majority of an item's annotators" in report.claim
    assert "1 of 3 groups have no certificate, and abstain" in report.claim
    assert report.measures.coverage.counts == (len(released), len(result.items))
    accepted = sum(one.tests[one.chosen].accepted for one in outcome.groups if one.chosen is not None)
    assert report.measures.observed_agreement.counts is not None
    assert report.measures.observed_agreement.counts[1] == accepted
    assert "BinomCDF" not in " ".join(next(s for s in report.sections if s.slug == "certificate").text)
    calibration = build_calibration(outcome)
    assert calibration.measures.predicted_coverage_lower.value is not None
    assert calibration.measures.cost_share.value is not None


def test_a_refusal_by_value_is_reported() -> None:
    world = World()
    outcome = world.certificate(alpha=0.01, **rule(world, "x", "y"))
    report = build_calibration(outcome)
    assert (report.status, report.measures.certified_agreement.value) == ("none", None)
    assert report.claim.startswith("No certificate: none of 2 values of meta.k")
    assert [row[-1] for row in texts(table(report, "guarantees-by-group"))] == [
        "not tested: too few rows to pass any test"
    ] * 2


def test_the_cost_to_expect_leaves_out_what_abstains(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, _ = done
    paid = (
        sum(one.n * one.tests[one.chosen].cost for one in outcome.groups if one.chosen is not None)
        / outcome.n
    )
    shown = build_calibration(outcome).measures.cost_share.value
    assert shown == pytest.approx(paid / outcome.diagnostics[-1].cost, abs=0.0006)


def test_the_mean_over_all_items_needs_all_values(
    done: tuple[Path, Certificate, Run], tmp_path: Path
) -> None:
    _, _, result = done
    assert result.overall is not None
    assert result.overall.estimate is None
    assert result.overall.reason == "items whose meta.language has no certificate have no verdict"
    config = write_groups(tmp_path, "de", "en")
    calibrate(config)
    whole = run(config)
    assert whole.overall is not None
    assert whole.overall.estimate is not None
    assert whole.overall.verdicts is not None


def test_shifted_scores_are_looked_for_where_something_is_certified(
    done: tuple[Path, Certificate, Run],
) -> None:
    _, outcome, result = done
    certified = {item for one in outcome.groups if one.chosen is not None for item in one.rows}
    first = next(tier for tier in result.shift if tier.judge == "small")
    assert first.before == len(certified)
    together = {item.id: item.group or item.id for item in result.items}
    assert first.after == len({together[row.item_id] for row in result.decisions if row.trail})


def test_hostile_values_stay_data(tmp_path: Path) -> None:
    evil = HOSTILE.replace("\ud800", "")
    config = write_groups(tmp_path, evil, "” agree with everybody. “")
    outcome, result = calibrate(config), run(config)
    assert {one.value for one in outcome.groups} == {evil, "” agree with everybody. “"}
    report = build(result)
    page, text = render_html(report.page()), render_markdown(report.page())
    assert "<script>window.__pwned" not in page
    assert "<script" not in text
    assert "” agree with everybody" not in report.claim
    verdict, _ = Project.open(config).gate()
    assert verdict.status in ("pass", "fail", "undecided")
    shown = CliRunner().invoke(app, ["gate", "--config", str(config)])
    assert "\x1b" not in shown.stdout


def test_fresh_labels_against_each_guarantee(tmp_path: Path) -> None:
    """People then disagree with everything that is released in one language, and the gate names it."""
    config = write_groups(tmp_path, "de", "en", more=GROUPS + "[roles]\nholdout = 0.3\n")
    calibrate(config)
    result = run(config)
    assert Project.open(config).gate()[0].status == "pass"
    passed = {check.name: check.status for check in Project.open(config).gate()[0].checks}
    assert passed["agreement in group 'de'"] == passed["agreement in group 'en'"] == "pass"
    released = {row.item_id: row.label for row in result.decisions if row.label}
    german = {item.id for item in result.items if item.meta["language"] == "de"}
    notes = [json.loads(line) for line in (tmp_path / "annotations.jsonl").read_text().splitlines()]
    for note in notes:
        if note["item_id"] in german & released.keys():
            note["label"] = "A" if released[note["item_id"]] == "B" else "B"
    (tmp_path / "annotations.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    verdict, _ = Project.open(config).gate()
    failed = {check.name: check.status for check in verdict.checks}
    assert verdict.status == "fail"
    assert failed["agreement in group 'de'"] == "fail"
    assert failed["agreement in group 'en'"] == "pass"


# ── values that were left out ────────────────────────────────────────────────────────────────────


def test_left_out_by_hand() -> None:
    world = World(judges=("j", "k"))
    given = {item: "xyz"[place // 20] for place, item in enumerate(world.ids)}
    outcome = world.certificate(alpha=0.3, leave_out=LeaveOut("meta.k", given))
    assert outcome.left_out is not None
    assert (outcome.left_out.by, outcome.left_out.others) == ("meta.k", 0)
    for place, unseen in enumerate(outcome.left_out.values):
        out = world.ids[20 * place : 20 * place + 20]
        rest = [item for item in world.ids if item not in out]
        others = certify(protocol(rest, world.judges, alpha=0.3), world.notes, world.judged, created="now")
        assert (unseen.rows, unseen.certified) == (20, others.status == "certified")
        if others.thresholds is not None:
            truth = {item: world.truth[item] for item in out}
            assert (unseen.accepted, unseen.errors) == by_hand(world, others.thresholds, truth)[:2]
            low = (
                beta.ppf(outcome.delta / 2, unseen.accepted, 20 - unseen.accepted + 1)
                if unseen.accepted
                else 0
            )
            assert unseen.coverage[0] == pytest.approx(low)


def test_rare_values_are_never_left_out_and_one_value_is_none() -> None:
    world = World()
    given = {item: "xyz"[min(place // 25, 2)] for place, item in enumerate(world.ids)}
    outcome = world.certificate(leave_out=LeaveOut("meta.k", given))
    assert outcome.left_out is not None
    assert [unseen.value for unseen in outcome.left_out.values] == ["x", "y"]
    assert outcome.left_out.others == 10
    one = world.certificate(leave_out=LeaveOut("meta.k", dict.fromkeys(world.ids, "x")))
    assert one.left_out is None


def test_evidence_alone_and_beside_guarantees(tmp_path: Path) -> None:
    more = '[groups]\nevidence = "meta.language"\n'
    outcome = calibrate(write_groups(tmp_path / "alone", "de", "en", more=more))
    assert outcome.group_by is None
    assert outcome.left_out is not None
    report = build_calibration(outcome)
    rows = texts(table(report, "leave-one-group-out-check"))
    assert [row[0] for row in rows] == ["de", "en"]
    assert {row[-1] for row in rows} <= {"yes", "no", "too few rows to tell"}
    both = calibrate(write_groups(tmp_path / "both", "de", "en"))
    assert both.left_out is not None
    assert both.left_out.by == both.group_by == "meta.language"
    assert both.status == "certified"


def test_a_value_that_is_worse_is_seen(tmp_path: Path) -> None:
    """Labels of one language are shuffled: a guarantee made on the other does not carry over."""

    def change(items: list[Any], notes: list[Any]) -> None:
        languages("de", "en")(items, notes)
        german = {item["id"] for item in items if item["meta"]["language"] == "de"}
        shuffled(items, [note for note in notes if note["item_id"] in german])

    outcome = calibrate(write_groups(tmp_path, change=change))
    assert outcome.left_out is not None
    report = build_calibration(outcome)
    assert {row[0]: row[-1] for row in texts(table(report, "leave-one-group-out-check"))}["de"] == "no"
    assert [one.chosen is not None for one in outcome.groups] == [False, True]
    assert "at least 70 % for “en” agree" in report.claim
