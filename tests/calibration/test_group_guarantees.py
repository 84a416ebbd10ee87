"""A guarantee for each value of a field, from files to gate; counts by hand; what is refused, and by whom."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom
from typer.testing import CliRunner

from tests.support.certificates import World, by_hand, judgment, protocol
from tests.support.factory import HOSTILE
from tests.support.projects import calibrate, edit, run, shuffled, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_run
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.protocol import GroupRule, LeaveOut
from trustescalate.cli import app
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import CertificateMismatch, ConfigError, DataError, UsageError
from trustescalate.project import Project
from trustescalate.records import Annotation, Certificate, Judgment, Run
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.document import build, build_calibration
from trustescalate.report.html import render_html
from trustescalate.report.markdown import render_markdown
from trustescalate.report.sections import Report, Table
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
GROUPS = '[groups]\nby = "meta.language"\nmin_rows = 20\n'


def languages(*values: Any) -> Callable[[list[Any], list[Any]], None]:
    """Give the items these values in turn; None leaves one without."""

    def change(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for place, item in enumerate(items):
            value = values[place % len(values)]
            item["meta"] = {} if value is None else {"language": value}

    return change


def write_groups(folder: Path, *values: Any, more: str = GROUPS, **settings: Any) -> Path:
    """400 labelled items and 100 others, in languages that have nothing to do with what is asked."""
    given = {"labelled": 400, "unlabelled": 100, "change": languages(*values), **settings}
    return write_project(folder, more=more, **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate, Run]:
    """Three languages, of which the rare one is not tested, and items without any. Tests only read it."""
    values = ["de", "en"] * 6 + ["fi", None]
    config = write_groups(tmp_path_factory.mktemp("groups"), *values, more=GROUPS.replace("20", "40"))
    made = calibrate(config)
    return config, made, run(config)


def table(report: Report, slug: str, place: int = 0) -> Table:
    (found,) = [section for section in report.sections if section.slug == slug]
    return found.tables[place]


def texts(found: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in found.rows]


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


def rule(world: World, *values: str, **more: Any) -> dict[str, Any]:
    """The last value has every item that is left over."""
    given = {item: values[min(place // 30, len(values) - 1)] for place, item in enumerate(world.ids)}
    made = GroupRule("meta.k", given, **{"alpha": {}, "weights": {}, "enough": 1.0, "fewest": 10, **more})
    return {"groups": made}


@pytest.mark.parametrize("judges", [("j",), ("j", "k")])
@pytest.mark.parametrize("path", ["common", "hedged"])
def test_every_count_can_be_recomputed_by_hand(judges: tuple[str, ...], path: str) -> None:
    world = World(judges=judges)
    made = world.certificate(path=path, **rule(world, "x", "y", alpha={"y": 0.3}))
    assert (made.status, made.group_by, made.chosen, made.thresholds, made.tests) == (
        "certified", "meta.k", None, None, (),
    )  # fmt: skip
    assert [(one.value, one.alpha, one.n) for one in made.groups] == [("x", 0.2, 30), ("y", 0.3, 30)]
    accepted = 0
    for one, ids in zip(made.groups, (world.ids[:30], world.ids[30:]), strict=True):
        assert one.rows == tuple(ids)
        truth = {item: world.truth[item] for item in ids}
        for test in one.tests:
            if not test.pooled:
                assert (test.accepted, test.errors, test.by_tier) == by_hand(world, test.thresholds, truth)
            p = binom.cdf(test.errors, test.accepted, one.alpha) if test.accepted else 1.0
            assert test.p_value == pytest.approx(p)
            assert test.rejected == (test.level > 0 and test.p_value <= test.level)
        if one.chosen is not None:
            chosen = one.tests[one.chosen]
            accepted += chosen.accepted
            assert one.thresholds == chosen.thresholds
            upper = beta.ppf(1 - chosen.level, chosen.errors + 1, chosen.accepted - chosen.errors)
            assert one.radius == pytest.approx((one.alpha * (1 - upper) / (upper * (1 - one.alpha))) ** 0.5)
    assert accepted
    assert made.coverage_lower == pytest.approx(beta.ppf(made.delta, accepted, 60 - accepted + 1))
    assert (
        sum(test.level for one in made.groups for test in one.tests if not test.rejected) <= made.delta + 1e-9
    )


def test_weights_divide_delta() -> None:
    """Where nothing passes, nothing is handed on."""
    world = World()
    wrong = {item: "B" if label == "A" else "A" for item, label in world.truth.items()}
    notes = [replace(note, label=wrong[note.item_id]) for note in world.notes]
    for weights, spent in (({}, [0.1, 0.1]), ({"y": 3.0}, [0.05, 0.15])):
        made = world.certificate(notes, **rule(world, "x", "y", weights=weights))
        assert [one.spent for one in made.groups] == pytest.approx(spent)
        assert [sum(test.level for test in one.tests) for one in made.groups] == pytest.approx(spent)


def test_a_value_with_too_few_rows_holds_no_share() -> None:
    world = World()
    made = world.certificate(**rule(world, "x", "y", fewest=31))
    assert (made.status, made.coverage_lower) == ("none", None)
    assert made.reason == "none of 2 values of meta.k has 31 labelled certification rows"
    few = world.certificate(**rule(world, "x", "y", alpha={"x": 0.01}))
    assert [(one.chosen, one.spent) for one in few.groups[:1]] == [(None, 0.0)]
    assert few.groups[1].spent == pytest.approx(0.2)


def test_rows_without_a_value_are_in_no_group() -> None:
    world = World()
    given = dict.fromkeys(world.ids[:40], "x")
    made = world.certificate(groups=GroupRule("meta.k", given, {}, {}, 1.0, 10))
    assert [(one.value, one.n) for one in made.groups] == [("x", 40)]
    assert made.n == 60


def test_a_refusal_says_what_would_help() -> None:
    world = World()
    made = world.certificate(alpha=0.01, **rule(world, "x", "y"))
    assert "none of 2 values of meta.k that were tested passed" in made.reason
    assert "each needs at least 230 rows of its own" in made.advice
    wrong = {item: "B" if label == "A" else "A" for item, label in world.truth.items()}
    notes = [replace(note, label=wrong[note.item_id]) for note in world.notes]
    assert "use better judges" in world.certificate(notes, **rule(world, "x", "y")).advice


def test_it_goes_through_a_file_and_older_ones_still_decode(done: tuple[Path, Certificate, Run]) -> None:
    _, made, _ = done
    assert decode(encode(made), Certificate) == made
    plain = World().certificate()
    assert not {b"groups", b"group_by", b"left_out"} & set(encode(plain).split(b'"'))


def test_stacked_scores_by_value(tmp_path: Path) -> None:
    config = write_groups(
        tmp_path, "de", "en", guarantee='path = "stacked"', more=GROUPS + "[roles]\ndev = 0.3\n", labelled=300
    )
    made = calibrate(config)
    assert made.stack is not None
    assert made.status == "certified"
    released = [row for row in run(config).decisions if row.label]
    assert released


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def test_items_without_a_guarantee_abstain_and_cost_nothing(done: tuple[Path, Certificate, Run]) -> None:
    _, made, result = done
    assert [(one.value, one.chosen is not None) for one in made.groups] == [
        ("de", True), ("en", True), ("fi", False),
    ]  # fmt: skip
    values = {item.id: item.meta.get("language") for item in result.items}
    asked = {row.item_id for row in result.judgments}
    reasons = {None: "no meta.language", "fi": "nothing is certified for its meta.language"}
    for decision in result.decisions:
        value = values[decision.item_id]
        if value in reasons:
            assert decision.label is None
            assert decision.reason.startswith(reasons[value])
            assert decision.trail == ()
            assert decision.item_id not in asked
        else:
            assert decision.trail
    assert {values[row.item_id] for row in result.decisions if row.label} == {"de", "en"}


def test_each_value_is_held_to_its_own_thresholds(tmp_path: Path) -> None:
    config = write_groups(tmp_path, "de", "en", more=GROUPS + "alpha = { de = 0.1, en = 0.4 }\n")
    made, result = calibrate(config), run(config)
    by_value = {one.value: one.thresholds for one in made.groups}
    assert len(set(by_value.values())) == 2
    values = {item.id: item.meta["language"] for item in result.items}
    order = [seal.judge for seal in made.judges]
    for decision in result.decisions:
        for step in decision.trail:
            taus = by_value[values[decision.item_id]]
            assert taus is not None
            assert step.threshold == taus[order.index(step.judge)]
    assert build(result).measures.certified_agreement.value == 0.6


def test_an_unknown_value_abstains(tmp_path: Path) -> None:
    config = write_groups(tmp_path, "de", "en")
    calibrate(config)
    rows = (tmp_path / "items.jsonl").read_text().splitlines()[-3:]
    strange = [
        {**json.loads(row), "meta": {"language": value}}
        for row, value in zip(rows, ["fr", "", "de"], strict=True)
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in strange))
    result = run(config, items=tmp_path / "more.jsonl")
    reasons = [row.reason for row in result.decisions]
    assert reasons[0] == "its meta.language is unknown to the certificate"
    assert reasons[1].startswith("no meta.language")
    assert [bool(row.trail) for row in result.decisions] == [False, False, True]
    last = texts(table(build(result), "groups", 1))
    assert [row[:3] for row in last] == [
        ["de", "1", str(int(result.decisions[2].label is not None))],
        ["no meta.language, or an unknown one", "2", "0"],
    ]


def test_a_run_under_other_guarantees_is_refused(done: tuple[Path, Certificate, Run], tmp_path: Path) -> None:
    for more, field in (
        ("", r"\[groups\] by was 'meta.language' and is None"),
        (GROUPS.replace("language", "tongue"), "is 'meta.tongue'"),
        (GROUPS + "alpha = { en = 0.1 }\n", "alpha of 'en' was 0.3 and is 0.1"),
    ):
        folder = tmp_path / str(len(more))

        def change(items: list[Any], notes: list[Any]) -> None:
            languages("de", "en")(items, notes)
            for item in items:
                item["meta"]["tongue"] = "t"

        config = write_groups(folder, more=more, change=change)
        (folder / "certificate.json").write_bytes((done[0].parent / "certificate.json").read_bytes())
        with pytest.raises(CertificateMismatch, match=field):
            run(config)


# ── report and gate ──────────────────────────────────────────────────────────────────────────────


def test_the_report_by_value(done: tuple[Path, Certificate, Run]) -> None:
    _, made, result = done
    report = build(result)
    rows = texts(table(report, "groups"))
    for row, one in zip(rows, made.groups, strict=True):
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
    outcomes = {row[0]: row for row in texts(table(report, "groups", 1))}
    released = {row.item_id for row in result.decisions if row.label}
    for value in ("de", "en", "fi"):
        ids = [item.id for item in result.items if item.meta.get("language") == value]
        assert outcomes[value][1:3] == [str(len(ids)), str(sum(item in released for item in ids))]
    assert "at least 70 % for “de”, “en” agree with the majority of people" in report.claim
    assert "1 of 3 values have no certificate, and abstain" in report.claim
    assert report.measures.coverage.counts == (len(released), len(result.items))
    accepted = sum(one.tests[one.chosen].accepted for one in made.groups if one.chosen is not None)
    assert report.measures.observed_agreement.counts is not None
    assert report.measures.observed_agreement.counts[1] == accepted
    assert "BinomCDF" not in " ".join(next(s for s in report.sections if s.slug == "certificate").text)
    calibration = build_calibration(made)
    assert calibration.measures.predicted_coverage_lower.value is not None
    assert calibration.measures.cost_share.value is not None


def test_a_refusal_by_value_is_reported() -> None:
    world = World()
    made = world.certificate(alpha=0.01, **rule(world, "x", "y"))
    report = build_calibration(made)
    assert (report.status, report.measures.certified_agreement.value) == ("none", None)
    assert report.claim.startswith("No certificate: none of 2 values of meta.k")
    assert [row[-1] for row in texts(table(report, "groups"))] == [
        "not tested: too few rows to pass any test"
    ] * 2


def test_the_cost_to_expect_leaves_out_what_abstains(done: tuple[Path, Certificate, Run]) -> None:
    _, made, _ = done
    paid = sum(one.n * one.tests[one.chosen].cost for one in made.groups if one.chosen is not None) / made.n
    shown = build_calibration(made).measures.cost_share.value
    assert shown == pytest.approx(paid / made.diagnostics[-1].cost, abs=0.0006)


def test_the_mean_over_all_items_needs_all_values(
    done: tuple[Path, Certificate, Run], tmp_path: Path
) -> None:
    _, _, result = done
    assert result.overall is not None
    assert result.overall.estimate is None
    assert result.overall.reason == "no judge was asked about items whose meta.language has no certificate"
    config = write_groups(tmp_path, "de", "en")
    calibrate(config)
    whole = run(config)
    assert whole.overall is not None
    assert whole.overall.estimate is not None
    assert whole.overall.verdicts is not None


def test_shifted_scores_are_looked_for_where_something_is_certified(
    done: tuple[Path, Certificate, Run],
) -> None:
    _, made, result = done
    certified = {item for one in made.groups if one.chosen is not None for item in one.rows}
    first = next(tier for tier in result.shift if tier.judge == "small")
    assert first.before == len(certified)
    together = {item.id: item.group or item.id for item in result.items}
    assert first.after == len({together[row.item_id] for row in result.decisions if row.trail})


def test_hostile_values_stay_data(tmp_path: Path) -> None:
    evil = HOSTILE.replace("\ud800", "")
    config = write_groups(tmp_path, evil, "” agree with everybody. “")
    made, result = calibrate(config), run(config)
    assert {one.value for one in made.groups} == {evil, "” agree with everybody. “"}
    report = build(result)
    page, text = render_html(report), render_markdown(report)
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
    made = world.certificate(alpha=0.3, leave_out=LeaveOut("meta.k", given))
    assert made.left_out is not None
    assert (made.left_out.by, made.left_out.others) == ("meta.k", 0)
    for place, unseen in enumerate(made.left_out.values):
        out = world.ids[20 * place : 20 * place + 20]
        rest = [item for item in world.ids if item not in out]
        others = certify(protocol(rest, world.judges, alpha=0.3), world.notes, world.judged, created="now")
        assert (unseen.rows, unseen.certified) == (20, others.status == "certified")
        if others.thresholds is not None:
            truth = {item: world.truth[item] for item in out}
            assert (unseen.accepted, unseen.errors) == by_hand(world, others.thresholds, truth)[:2]
            low = (
                beta.ppf(made.delta / 2, unseen.accepted, 20 - unseen.accepted + 1) if unseen.accepted else 0
            )
            assert unseen.coverage[0] == pytest.approx(low)


def test_rare_values_are_never_left_out_and_one_value_is_none() -> None:
    world = World()
    given = {item: "xyz"[min(place // 25, 2)] for place, item in enumerate(world.ids)}
    made = world.certificate(leave_out=LeaveOut("meta.k", given))
    assert made.left_out is not None
    assert [unseen.value for unseen in made.left_out.values] == ["x", "y"]
    assert made.left_out.others == 10
    one = world.certificate(leave_out=LeaveOut("meta.k", dict.fromkeys(world.ids, "x")))
    assert one.left_out is None


def test_evidence_alone_and_beside_guarantees(tmp_path: Path) -> None:
    more = '[groups]\nevidence = "meta.language"\n'
    made = calibrate(write_groups(tmp_path / "alone", "de", "en", more=more))
    assert made.group_by is None
    assert made.left_out is not None
    report = build_calibration(made)
    rows = texts(table(report, "left-out"))
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

    made = calibrate(write_groups(tmp_path, change=change))
    assert made.left_out is not None
    report = build_calibration(made)
    assert {row[0]: row[-1] for row in texts(table(report, "left-out"))}["de"] == "no"
    assert [one.chosen is not None for one in made.groups] == [False, True]
    assert "at least 70 % for “en” agree" in report.claim


# ── what is refused, and what is warned of ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "guarantee", "message"),
    [
        ('[groups]\nby = "language"\n', "", "groups.by"),
        ("[groups]\ntarget_coverage = 0.5\n", "", "enough is about a guarantee for each value"),
        ('[groups]\nby = "meta.k"\nalpha = { de = 1.5 }\n', "", "groups.alpha.de"),
        ('[groups]\nby = "meta.k"\nweights = { de = 0 }\n', "", "groups.weights.de"),
        (
            '[groups]\nby = "meta.k"\n',
            'claim = "batch"\nlabel_budget = 10\npath = "common"',
            "by has no test for claim",
        ),
        (
            '[groups]\nevidence = "meta.k"\n',
            'claim = "batch"\nlabel_budget = 10\npath = "common"',
            "evidence has no test",
        ),
        ('[groups]\nby = "meta.k"\n', 'path = "tierwise"', 'by has no test for path = "tierwise"'),
        (
            '[groups]\nby = "meta.k"\n',
            'procedure = "bonferroni"',
            'by has no test for procedure = "bonferroni"',
        ),
        ('[groups]\nbye = "meta.k"\n', "", "did you mean 'by'"),
    ],
)
def test_what_has_no_test_is_refused_by_name(tmp_path: Path, text: str, guarantee: str, message: str) -> None:
    config = write_project(tmp_path, more=text, guarantee=guarantee)
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        load_config(config)


def test_a_value_that_no_item_has_is_a_slip_of_the_pen(tmp_path: Path) -> None:
    config = write_groups(tmp_path, "deutsch", "english", more=GROUPS + "alpha = { deutch = 0.2 }\n")
    with pytest.raises(DataError, match=r"no item has meta.language 'deutch'.*did you mean 'deutsch'"):
        load_dataset(load_config(config))
    edit(config, "alpha = { deutch = 0.2 }", "")
    edit(config, "meta.language", "meta.tongue")
    with pytest.raises(DataError, match=r"no item has meta.tongue, which \[groups\] by names"):
        calibrate(config)


@pytest.mark.parametrize("command", [["tune"], ["plan"]])
def test_commands_that_know_one_guarantee_say_so(
    done: tuple[Path, Certificate, Run], command: list[str]
) -> None:
    result = CliRunner().invoke(app, [*command, "--config", str(done[0])])
    assert result.exit_code == UsageError.exit_code
    assert "[groups] by = 'meta.language' asks for one for each value" in result.stderr


def test_check_counts_the_values(done: tuple[Path, Certificate, Run]) -> None:
    found = inspect_project(Project.open(done[0]).config)
    counts = {one.value: len(one.rows) for one in done[1].groups}
    told = dict(found.facts)["a guarantee for each meta.language"]
    assert sorted(told.split(", ")) == sorted(f"{value} {n}" for value, n in counts.items())
    assert (
        f"meta.language 'fi': {counts['fi']} rows to certify with, fewer than 40: it is not tested"
        in " ".join(found.warnings)
    )


def test_a_dry_run_knows_who_abstains(done: tuple[Path, Certificate, Run]) -> None:
    import asyncio

    estimated = asyncio.run(estimate_run(Project.open(done[0]).config))
    about = next(row for row in estimated.estimates if row.phase == "run, about" and row.judge == "small")
    assert about.items == sum(bool(row.trail) for row in done[2].decisions)


def test_a_changed_table_makes_a_run_stale(tmp_path: Path) -> None:
    config = write_groups(tmp_path, "de", "en")
    calibrate(config)
    run(config)
    edit(config, "min_rows = 20", "min_rows = 21")
    verdict, _ = Project.open(config).gate()
    assert verdict.status == "undecided"
    assert "[groups] was changed after this run" in [check.observed for check in verdict.checks]


# ── the guarantee ──────────────────────────────────────────────────────────────────────────────────

TRIALS = int(os.environ.get("TRUSTESCALATE_TRIALS", "500"))
GOOD, BAD = 0.03, 1.001
"""The true risk of good values, whatever is released of them; and of bad ones, as a multiple of alpha."""


def drawn(
    rng: np.random.Generator, risks: dict[str, float], n: int
) -> tuple[list[Annotation], dict[str, dict[str, Judgment]], dict[str, str]]:
    """n rows a value, scores that tell nothing, verdicts that are wrong with the value's risk."""
    notes, rows, values = [], {}, {}
    for value, risk in risks.items():
        for place, (sure, wrong, label) in enumerate(
            zip(rng.integers(55, 100, n) / 100, rng.random(n) < risk, rng.random(n) < 0.5, strict=True)
        ):
            item = f"{value}{place}"
            share = sure if label else 1 - sure
            rows[item] = judgment(item, "j", share)
            notes.append(Annotation(item, "x", "A" if label != wrong else "B"))
            values[item] = value
    return notes, {"j": rows}, values


def certified_values(
    rng: np.random.Generator, risks: dict[str, float], alpha: dict[str, float], n: int, enough: float
) -> set[str]:
    notes, judged, values = drawn(rng, risks, n)
    rule = GroupRule("meta.k", values, alpha, {}, enough, 10)
    made = certify(
        protocol(list(values), alpha=0.2, delta=0.1, path="hedged", groups=rule), notes, judged, created=""
    )
    return {one.value for one in made.groups if one.thresholds is not None}


@pytest.mark.parametrize(
    ("good", "bad", "alpha", "enough"),
    [
        (1, 1, {}, 1.0),
        (2, 2, {}, 0.5),  # the good ones are finished nearly always, and hand their shares on
        (1, 2, {"bad1": 0.1}, 0.5),
    ],
)
def test_all_guarantees_hold_at_once(good: int, bad: int, alpha: dict[str, float], enough: float) -> None:
    risks = {f"good{i}": GOOD for i in range(good)}
    risks |= {f"bad{i}": BAD * alpha.get(f"bad{i}", 0.2) for i in range(bad)}
    rng = np.random.default_rng(0)
    broken = useful = 0
    for _ in range(TRIALS):
        found = certified_values(rng, risks, alpha, 80, enough)
        broken += any(value.startswith("bad") for value in found)
        useful += "good0" in found
    assert broken <= violation_limit(TRIALS, 0.1)
    assert useful > 0.8 * TRIALS


def test_canary_one_guarantee_for_all_is_none_for_each() -> None:
    """Three quarters of the rows are of a good value, and hide that the other is wrong too often."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(100):
        notes, judged, values = drawn(rng, {"a": GOOD, "b": GOOD, "c": GOOD, "bad": 0.35}, 60)
        made = certify(protocol(list(values), alpha=0.2, delta=0.1, path="hedged"), notes, judged, created="")
        broken += made.thresholds is not None  # read as if it held for "bad", whose risk is .35 at any score
    assert broken > violation_limit(100, 0.1)


def test_canary_all_of_delta_for_each_value() -> None:
    rng = np.random.default_rng(0)
    broken = sum(
        any(certified_values(rng, {"bad": BAD * 0.2}, {}, 60, 1.0) for _ in range(10)) for _ in range(100)
    )
    assert broken > violation_limit(100, 0.1)
