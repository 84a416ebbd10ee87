"""The ledger: which test of its labels a calibration is, what that may spend, and what nobody can hide."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.support.certificates import protocol
from tests.support.ledgers import COMMON, HEDGED, Rows, attempts, first, world
from tests.support.projects import calibrate, edit, run
from trustescalate.analysis.checks import inspect_project
from trustescalate.analysis.judge_benchmark import bench
from trustescalate.analysis.risk_band import limits_at
from trustescalate.analysis.sample_size import plan_from_pilot
from trustescalate.analysis.self_test import self_test_of
from trustescalate.analysis.tune import tune
from trustescalate.calibration.attempts import due_attempt
from trustescalate.calibration.ledger import LEDGER, Labels, Ledger, Line, read_ledger
from trustescalate.calibration.prepare import record_choice, write_roles
from trustescalate.cli import app
from trustescalate.errors import CertificateMismatch, NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Attempt
from trustescalate.records.progress import Hooks
from trustescalate.report.document import build_calibration
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.sequential import attempt_share

pytestmark = pytest.mark.slow


# ── which test it is ─────────────────────────────────────────────────────────────────────────────


def test_the_first_test_is_written_down_and_said_everywhere(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    made = calibrate(config)
    (line, outcome) = read_ledger(tmp_path).lines
    assert made.attempt == Attempt(1, 0.9, line.digest)
    assert (outcome.event, outcome.test, outcome.outcome) == ("outcome", line.digest, made.status)
    assert len(line.rows) == len(made.roles["certify"])
    assert max(test.level for test in made.tests) <= 0.9 * 0.2 + 1e-12
    page = render_markdown(build_calibration(made).page())
    assert "This is test 1 of these labels. It may spend 90 % of δ" in page
    assert not any("test 1" in text for text in made.assumptions)
    run(config)
    verdict, _ = Project.open(config).gate()
    assert [check.observed for check in verdict.checks if check.name == "certificate"] == [
        "certified, test 1 of these labels"
    ]
    shown = CliRunner().invoke(app, ["calibrate", "--config", str(config)])
    assert "test 1 of these labels" in shown.stdout


def test_labelling_more_is_the_next_test_of_these_labels(tmp_path: Path) -> None:
    calibrate(world(tmp_path, 100))
    made = calibrate(world(tmp_path, 150))
    assert made.attempt is not None
    assert (made.attempt.number, made.attempt.share) == (2, pytest.approx(0.05))
    assert max(test.level for test in made.tests) <= 0.05 * 0.2 + 1e-12
    assert any(
        text.startswith("this is test 2 of these labels, and may spend 0.05") for text in made.assumptions
    )
    assert "test 2 of these labels" in render_markdown(build_calibration(made).page())
    third = calibrate(world(tmp_path, 200))
    assert third.attempt is not None
    assert [(number, share) for number, share, _ in attempts(tmp_path)] == [(1, 0.9), (2, 0.05), (3, 0.0167)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (COMMON, HEDGED),
        ("alpha = 0.3", "alpha = 0.25"),
        ("version = 1", "version = 1\n[roles]\nseed = 1\ndev = 0.2"),
        ('model = "M"', 'model = "S"'),
    ],
)
def test_another_test_of_the_same_labels_counts(tmp_path: Path, old: str, new: str) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    edit(config, old, new)
    made = calibrate(config)
    assert made.attempt is not None
    assert made.attempt.number == 2


def test_the_same_test_again_is_the_same_test(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    made = calibrate(config)
    kept = (tmp_path / LEDGER).read_bytes()
    edit(config, COMMON, HEDGED)
    other = calibrate(config)
    assert other.attempt != made.attempt
    edit(config, HEDGED, COMMON)
    again = calibrate(config)
    assert replace(again, created=made.created) == made
    assert (tmp_path / LEDGER).read_bytes().startswith(kept)
    assert len(attempts(tmp_path)) == 2


def test_which_certified_policy_is_used_and_what_it_costs_are_no_test(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    made = calibrate(config)
    edit(config, COMMON, COMMON + '\nprefer = "coverage"')
    edit(config, "input = 5.0", "input = 6.0")
    other = calibrate(config)
    assert other.attempt == made.attempt
    assert [test.p_value for test in other.tests] == [test.p_value for test in made.tests]
    assert [test.rejected for test in other.tests] == [test.rejected for test in made.tests]


def test_labels_are_known_under_other_names_and_in_another_order(tmp_path: Path) -> None:
    calibrate(world(tmp_path, 120))

    def renamed(items: Rows, notes: Rows) -> None:
        first(120)(items, notes)
        for row in items:
            row["id"] = f"new {row['id']}"
            row["reference"] = "said later"
        for row in notes:
            row["item_id"] = f"new {row['item_id']}"
            row["annotator"] = f"new {row['annotator']}"
        items.reverse()

    made = calibrate(world(tmp_path, 120, change=renamed))
    assert made.attempt is not None
    assert made.attempt.number == 2


def test_a_changed_opinion_is_a_label_of_the_same_row(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    row = calibrate(config).roles["certify"][0]
    notes = tmp_path / "annotations.jsonl"
    notes.write_text(
        notes.read_text() + json.dumps({"item_id": row, "annotator": "late", "label": "A"}) + "\n"
    )
    made = calibrate(config)
    assert made.attempt is not None
    assert made.attempt.number == 2


def test_labels_of_dev_rows_and_votes_are_part_of_a_test(tmp_path: Path) -> None:
    config = world(tmp_path, 150, guarantee='path = "pareto"')
    edit(config, "version = 1", "version = 1\n[roles]\ndev = 0.3")
    dev = calibrate(config).roles["dev"][0]
    notes = tmp_path / "annotations.jsonl"
    kept = notes.read_text()
    notes.write_text(kept + json.dumps({"item_id": dev, "annotator": "late", "label": "A"}) + "\n")
    calibrate(config)
    assert [number for number, *_ in attempts(tmp_path)] == [1, 2]


def test_votes_that_were_asked_for_again_are_another_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    digests = iter(["others"])
    monkeypatch.setattr("trustescalate.calibration.attempts.votes_digest", lambda _: next(digests))
    made = calibrate(config)
    assert made.attempt is not None
    assert made.attempt.number == 2


def test_fresh_rows_begin_anew(tmp_path: Path) -> None:
    calibrate(world(tmp_path, 100))

    def others(items: Rows, notes: Rows) -> None:
        known = {item["id"] for item in items[100:]}
        notes[:] = [note for note in notes if note["item_id"] in known]

    made = calibrate(world(tmp_path, 100, change=others))
    assert made.attempt is not None
    assert (made.attempt.number, made.attempt.share) == (1, 0.9)
    both = calibrate(world(tmp_path, 200))
    assert both.attempt is not None
    assert both.attempt.number == 2


def test_another_row_of_a_tested_cluster_is_no_fresh_row(tmp_path: Path) -> None:
    def paired(labelled: slice) -> Callable[[Rows, Rows], None]:
        def change(items: Rows, notes: Rows) -> None:
            for place, item in enumerate(items):
                item["group"] = f"g{place % 100}"
            known = {item["id"] for item in items[labelled]}
            notes[:] = [note for note in notes if note["item_id"] in known]

        return change

    calibrate(world(tmp_path, 100, change=paired(slice(0, 100))))
    made = calibrate(world(tmp_path, 100, change=paired(slice(100, 200))))
    assert made.attempt is not None
    assert made.attempt.number == 2


def test_a_batch_that_is_tested_again_is_counted(tmp_path: Path) -> None:
    batch = f'{COMMON}\nclaim = "batch"\nlabel_budget = 120'
    config = world(tmp_path, 200, guarantee=batch)
    calibrate(config)
    edit(config, "alpha = 0.3", "alpha = 0.25")
    made = calibrate(config)
    assert made.attempt is not None
    assert made.attempt.number == 2
    assert any("test 2 of these labels" in text for text in made.assumptions)


# ── over all tests of a label ────────────────────────────────────────────────────────────────────


def labels(rows: Sequence[int], clusters: Sequence[int] = ()) -> Labels:
    return Labels(tuple((f"row {row}", "label") for row in rows), tuple(f"cluster {one}" for one in clusters))


def entered(ledger: Ledger, given: Labels, name: str) -> Ledger:
    """A ledger with one more test, in memory."""
    attempt, made = due_attempt(ledger, replace(PLAIN, version=name), given, (), None)
    assert not made
    line = Line("", "test", attempt.number, attempt.share, name, "", given.rows, given.clusters)
    return Ledger(ledger.folder, (*ledger.lines, line))


PLAIN = protocol([])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 3))), max_size=12))
def test_the_shares_of_all_tests_of_a_label_sum_to_at_most_one(tests: Sequence[Any]) -> None:
    ledger = Ledger(Path())
    for place, (rows, clusters) in enumerate(tests):
        ledger = entered(ledger, labels(sorted(rows), sorted(clusters)), f"protocol {place}")
    spent, numbers = Counter[str](), Counter[tuple[str, int]]()
    for line in ledger.tests:
        for key in line.labels.keys:
            spent[key] += line.share  # type: ignore[assignment]
            numbers[key, line.number] += 1
    assert max(spent.values(), default=0) <= 1 + 1e-12
    assert max(numbers.values(), default=0) <= 1, "two tests of one label have the same number"


def test_a_chain_of_tests_is_counted_to_its_end() -> None:
    """Sliding windows: the third shares no label with the first, and is number 3 nevertheless."""
    ledger = Ledger(Path())
    for start in range(4):
        ledger = entered(ledger, labels(range(start, start + 2)), f"protocol {start}")
    assert [line.number for line in ledger.tests] == [1, 2, 3, 4]
    apart = entered(entered(Ledger(Path()), labels([1]), "a"), labels([2]), "b")
    assert [line.number for line in entered(apart, labels([1, 2]), "c").tests] == [1, 1, 2]


def test_the_shares_sum_to_one() -> None:
    assert sum(attempt_share(k) for k in range(1, 10_000)) == pytest.approx(1, abs=1e-4)
    assert all(attempt_share(k) > attempt_share(k + 1) > 0 for k in range(1, 50))
    for wrong in ((0, 0.9), (1, 0.0), (1, 1.0)):
        with pytest.raises(ValueError, match="number must be at least 1"):
            attempt_share(*wrong)


# ── one attempt ──────────────────────────────────────────────────────────────────────────────────


def test_one_attempt_has_all_of_delta_and_no_second(tmp_path: Path) -> None:
    config = world(tmp_path, 120, guarantee=f"{COMMON}\nattempts = 1")
    made = calibrate(config)
    assert made.attempt is not None
    assert (made.attempt.number, made.attempt.share) == (1, 1.0)
    assert "It may spend all of δ" in render_markdown(build_calibration(made).page())
    assert replace(calibrate(config), created=made.created) == made
    edit(config, COMMON, HEDGED)
    with pytest.raises(NotMeasurable, match="attempts = 1 gives all of delta to one test") as caught:
        calibrate(config)
    assert "label rows that were never tested" in caught.value.hint
    assert CliRunner().invoke(app, ["calibrate", "--config", str(config)]).exit_code == 3
    edit(config, "attempts = 1", "")
    with pytest.raises(NotMeasurable, match="nothing is left for another"):
        calibrate(config)
    assert replace(Project.open(config).certificate(), created=made.created) == made
    assert len(attempts(tmp_path)) == 1


def test_a_second_test_cannot_be_the_only_one(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    edit(config, COMMON, f"{HEDGED}\nattempts = 1")
    with pytest.raises(NotMeasurable, match="these labels were tested before"):
        calibrate(config)


def test_the_hint_works_tested_rows_may_be_given_the_role_dev(tmp_path: Path) -> None:
    config = world(tmp_path, 100, guarantee=f"{COMMON}\nattempts = 1")
    tested = set(calibrate(config).roles["certify"])
    config = world(tmp_path, 200, guarantee=f"{COMMON}\nattempts = 1")
    write_roles(Project.open(config).config)
    roles = json.loads((tmp_path / "roles.json").read_text())
    roles["dev"] += [item_id for item_id in roles["certify"] if item_id in tested]
    roles["certify"] = [item_id for item_id in roles["certify"] if item_id not in tested]
    (tmp_path / "roles.json").write_text(json.dumps(roles))
    edit(config, "version = 1", 'version = 1\n[roles]\nfile = "roles.json"')
    made = calibrate(config)
    assert made.attempt is not None
    assert (made.attempt.number, made.attempt.share) == (1, 1.0)


def test_looks_begin_with_labels_that_were_never_tested(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    edit(config, COMMON, f"{COMMON}\ninterim = [40, 80]")
    with pytest.raises(CertificateMismatch, match="planned after labels of these rows were tested"):
        calibrate(config)


def test_a_look_is_not_repeated_on_other_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = world(tmp_path, 60, guarantee=f"{COMMON}\ninterim = [40, 140]")
    calibrate(config)
    monkeypatch.setattr("trustescalate.calibration.attempts.votes_digest", lambda _: "others")
    with pytest.raises(CertificateMismatch, match="votes on rows of interim analysis 1 are not those"):
        calibrate(config)


# ── labels that were read to choose by ───────────────────────────────────────────────────────────

STUDIES: Mapping[str, Callable[[Project], object]] = {
    "tune": lambda project: tune(project.config),
    "plan": lambda project: plan_from_pilot(project.config, wanted=0.5, rows=(50,), trials=2),
    "self-test": lambda project: self_test_of(project.config, 2, 0),
    "report --alpha": lambda project: project.report(more=limits_at(project.config, (0.4,))),
}


@pytest.mark.parametrize("command", STUDIES)
def test_what_labels_were_read_to_choose_is_not_tested_on_them(tmp_path: Path, command: str) -> None:
    config = world(tmp_path, 120)
    made = calibrate(config)
    STUDIES[command](Project.open(config))
    STUDIES[command](Project.open(config))
    lines = [line for line in read_ledger(tmp_path).lines if line.event == "choice"]
    assert [line.command for line in lines] == [command]
    assert replace(calibrate(config), created=made.created) == made, "the same test may be repeated"
    edit(config, COMMON, HEDGED)
    with pytest.raises(NotMeasurable, match=f"`{command}` read labels of these rows to choose by"):
        calibrate(config)
    facts = dict(inspect_project(Project.open(config).config).facts)
    assert command in facts["used for choices"]
    fresh = calibrate(world(tmp_path, 200, guarantee=HEDGED))
    assert fresh.attempt is not None
    assert fresh.attempt.number == 1
    assert set(made.roles["certify"]) == set(fresh.roles["dev"])
    assert not set(made.roles["certify"]) & set(fresh.roles["certify"])


def test_a_report_without_an_alpha_chooses_nothing(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    calibrate(config)
    assert CliRunner().invoke(app, ["report", "--config", str(config)]).exit_code == 0
    assert {line.event for line in read_ledger(tmp_path).lines} == {"test", "outcome"}


def test_judges_that_were_compared_on_labels_are_not_tested_on_them(tmp_path: Path) -> None:
    config = world(tmp_path, 120)
    asyncio.run(bench(Project.open(config).config, Hooks(), rows="certify"))
    with pytest.raises(NotMeasurable, match="labels of every row that could certify were read"):
        calibrate(config)


def test_a_batch_whose_labels_were_read_is_refused(tmp_path: Path) -> None:
    batch = f'{COMMON}\nclaim = "batch"\nlabel_budget = 120'
    config = world(tmp_path, 200, guarantee=batch)
    compare = calibrate(config)
    record_choice(Project.open(config).config, "tune", compare.roles["certify"])
    edit(config, COMMON, HEDGED)
    with pytest.raises(NotMeasurable, match="`tune` read labels"):
        calibrate(config)


def test_planned_looks_go_on_whatever_was_read(tmp_path: Path) -> None:
    """Everything was fixed before the first label, so nothing that is tested depends on what was read."""
    looks = f"{COMMON}\ninterim = [40, 80]"
    config = world(tmp_path, 60, guarantee=looks)
    made = calibrate(config)
    record_choice(Project.open(config).config, "tune", made.roles["certify"])
    second = calibrate(world(tmp_path, 120, guarantee=looks))
    assert second.interim is not None
    assert second.interim.number == 2
    assert set(made.roles["certify"]) < set(second.roles["certify"])
