"""A guarantee for each value of a field, from files to gate; counts by hand; what is refused, and by whom."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta, binom
from typer.testing import CliRunner

from tests.support.certificates import World, by_hand
from tests.support.groups import GROUPS, languages, rule, table, texts, write_groups
from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.dry_run import estimate_run
from trustescalate.calibration.protocol import GroupRule
from trustescalate.cli import app
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import CertificateMismatch, ConfigError, DataError, UsageError
from trustescalate.project import Project
from trustescalate.records import Certificate, Run
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.document import build

pytestmark = pytest.mark.slow


# ── the certificate ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("judges", [("j",), ("j", "k")])
@pytest.mark.parametrize("path", ["common", "hedged"])
def test_every_count_can_be_recomputed_by_hand(judges: tuple[str, ...], path: str) -> None:
    world = World(judges=judges)
    outcome = world.certificate(path=path, **rule(world, "x", "y", alpha={"y": 0.3}))
    assert (outcome.status, outcome.group_by, outcome.chosen, outcome.thresholds, outcome.tests) == (
        "certified", "meta.k", None, None, (),
    )  # fmt: skip
    assert [(one.value, one.alpha, one.n) for one in outcome.groups] == [("x", 0.2, 30), ("y", 0.3, 30)]
    accepted = 0
    for one, ids in zip(outcome.groups, (world.ids[:30], world.ids[30:]), strict=True):
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
    assert outcome.coverage_lower == pytest.approx(beta.ppf(outcome.delta, accepted, 60 - accepted + 1))
    assert (
        sum(test.level for one in outcome.groups for test in one.tests if not test.rejected)
        <= outcome.delta + 1e-9
    )


def test_weights_divide_delta() -> None:
    """Where nothing passes, nothing is handed on."""
    world = World()
    wrong = {item: "B" if label == "A" else "A" for item, label in world.truth.items()}
    notes = [replace(note, label=wrong[note.item_id]) for note in world.notes]
    for weights, spent in (({}, [0.1, 0.1]), ({"y": 3.0}, [0.05, 0.15])):
        outcome = world.certificate(notes, **rule(world, "x", "y", weights=weights))
        assert [one.spent for one in outcome.groups] == pytest.approx(spent)
        assert [sum(test.level for test in one.tests) for one in outcome.groups] == pytest.approx(spent)


def test_a_value_with_too_few_rows_holds_no_share() -> None:
    world = World()
    outcome = world.certificate(**rule(world, "x", "y", min_rows=31))
    assert (outcome.status, outcome.coverage_lower) == ("none", None)
    assert outcome.reason == "none of 2 values of meta.k has 31 labelled certification rows"
    few = world.certificate(**rule(world, "x", "y", alpha={"x": 0.01}))
    assert [(one.chosen, one.spent) for one in few.groups[:1]] == [(None, 0.0)]
    assert few.groups[1].spent == pytest.approx(0.2)


def test_rows_without_a_value_are_in_no_group() -> None:
    world = World()
    given = dict.fromkeys(world.ids[:40], "x")
    outcome = world.certificate(groups=GroupRule("meta.k", given, {}, {}, 1.0, 10))
    assert [(one.value, one.n) for one in outcome.groups] == [("x", 40)]
    assert outcome.n == 60


def test_a_refusal_says_what_would_help() -> None:
    world = World()
    outcome = world.certificate(alpha=0.01, **rule(world, "x", "y"))
    assert "none of 2 values of meta.k that were tested passed" in outcome.reason
    assert "each needs at least 230 rows of its own" in outcome.advice
    wrong = {item: "B" if label == "A" else "A" for item, label in world.truth.items()}
    notes = [replace(note, label=wrong[note.item_id]) for note in world.notes]
    assert "use better judges" in world.certificate(notes, **rule(world, "x", "y")).advice


def test_it_goes_through_a_file_and_older_ones_still_decode(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, _ = done
    assert decode(encode(outcome), Certificate) == outcome
    plain = World().certificate()
    assert not {b"groups", b"group_by", b"left_out"} & set(encode(plain).split(b'"'))


def test_stacked_scores_by_value(tmp_path: Path) -> None:
    config = write_groups(
        tmp_path, "de", "en", guarantee='path = "stacked"', more=GROUPS + "[roles]\ndev = 0.3\n", labelled=300
    )
    outcome = calibrate(config)
    assert outcome.stack is not None
    assert outcome.status == "certified"
    released = [row for row in run(config).decisions if row.label]
    assert released


# ── the run ──────────────────────────────────────────────────────────────────────────────────────


def test_items_without_a_guarantee_abstain_and_cost_nothing(done: tuple[Path, Certificate, Run]) -> None:
    _, outcome, result = done
    assert [(one.value, one.chosen is not None) for one in outcome.groups] == [
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
    outcome, result = calibrate(config), run(config)
    by_value = {one.value: one.thresholds for one in outcome.groups}
    assert len(set(by_value.values())) == 2
    values = {item.id: item.meta["language"] for item in result.items}
    order = [seal.judge for seal in outcome.judges]
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
    last = texts(table(build(result), "guarantees-by-group", 1))
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
        for name in ("certificate.json", "ledger.jsonl"):
            (folder / name).write_bytes((done[0].parent / name).read_bytes())
        with pytest.raises(CertificateMismatch, match=field):
            run(config)


# ── what is refused, and what is warned of ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "guarantee", "message"),
    [
        ('[groups]\nby = "language"\n', "", "groups.by"),
        ("[groups]\ntarget_coverage = 0.5\n", "", "target_coverage is about a guarantee for each value"),
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
    assert "[groups] by = 'meta.language' asks for one per value" in result.stderr


def test_check_counts_the_values(done: tuple[Path, Certificate, Run]) -> None:
    actual = inspect_project(Project.open(done[0]).config)
    counts = {one.value: len(one.rows) for one in done[1].groups}
    shown = dict(actual.facts)["a guarantee for each meta.language"]
    assert sorted(shown.split(", ")) == sorted(f"{value} {n}" for value, n in counts.items())
    assert f"meta.language 'fi': {counts['fi']} certification rows, fewer than 40: not tested" in " ".join(
        actual.warnings
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
    seen = [check.observed for check in verdict.checks]
    assert "groups.min_rows: 20 → 21 was changed after this run" in seen
