"""A certificate's counts, recomputed by hand from votes and labels; what does and does not change it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import TASK, World, by_hand, judgment, protocol
from tests.support.projects import JUDGES, calibrate, run, shuffled, write_project
from trustescalate.calibration.calibrate import calibrate as certify
from trustescalate.calibration.protocol import Clustering, GroupRule, Judged, LeaveOut, Protocol, RegionRule
from trustescalate.project import Project
from trustescalate.records import (
    Annotation,
    Attempt,
    Certificate,
    Clusters,
    InterimAnalysis,
    Judgment,
    Task,
    TaskKind,
    Vote,
    Weighting,
)
from trustescalate.report.document import build_calibration
from trustescalate.stats.rule import TestRule


@pytest.mark.parametrize("judges", [("j",), ("j", "k")])
def test_every_count_can_be_recomputed_by_hand(judges: tuple[str, ...]) -> None:
    world = World(judges=judges)
    outcome = world.certificate()
    assert outcome.n == 60
    assert len(outcome.tests) > 10
    for test in outcome.tests:
        assert (test.accepted, test.errors, test.by_tier) == by_hand(world, test.thresholds, world.truth)
    chosen = outcome.tests[outcome.chosen or 0]
    assert outcome.thresholds == chosen.thresholds
    assert chosen.rejected
    assert chosen.p_value <= chosen.level


def test_votes_without_a_verdict_stay_in_the_denominator() -> None:
    world = World()
    item = world.ids[0]
    world.judged["j"][item] = judgment(item, "j", 1.0, -1.0)
    full = world.certificate()
    assert full.diagnostics[0].failures == {"timeout": 1}
    strict = [test for test in full.tests if (test.thresholds[0] or 0) > 0.5]
    assert all(test.accepted == by_hand(world, test.thresholds, world.truth)[0] for test in strict)
    world.judged["j"][item] = judgment(item, "j", -1.0, -1.0)
    assert world.certificate().tests[-1].accepted == 59


def test_a_row_without_a_majority_is_an_error_when_it_is_released() -> None:
    world = World()
    torn = world.ids[:4]
    notes = [note for note in world.notes if note.item_id not in torn]
    notes += [Annotation(item, who, label) for item in torn for who, label in (("x", "A"), ("y", "B"))]
    outcome = world.certificate(notes)
    assert (outcome.n, outcome.no_majority) == (60, 4)
    truth = {item: None if item in torn else label for item, label in world.truth.items()}
    assert outcome.tests[-1].errors == by_hand(world, outcome.tests[-1].thresholds, truth)[1]
    assert outcome.tests[-1].errors >= world.certificate().tests[-1].errors


def test_rows_that_everybody_skipped_disagree_or_are_outside_the_claim() -> None:
    world = World()
    passed = world.ids[:5]
    notes = [replace(note, label="skip") if note.item_id in passed else note for note in world.notes]
    outcome = world.certificate(notes)
    assert (outcome.n, outcome.skipped, outcome.no_majority) == (60, 5, 5)
    truth = {item: None if item in passed else label for item, label in world.truth.items()}
    for test in outcome.tests:
        assert (test.accepted, test.errors, test.by_tier) == by_hand(world, test.thresholds, truth)
    assert "counts as a disagreement, as 5 of 60 labelled rows do" in " ".join(outcome.assumptions)
    out = world.certificate(notes, task=replace(TASK, skips="outside"))
    assert (out.n, out.skipped, out.no_majority) == (55, 5, 0)
    assert "everybody skips are outside the claim, as 5 of 60" in " ".join(out.assumptions)
    claim = build_calibration(out).claim
    assert "not skipped by every annotator (5 of 60 labelled rows were skipped" in claim
    heard = [replace(note, label="skip") if note.annotator == "x" else note for note in world.notes]
    assert world.certificate(heard).skipped == 0


def test_a_random_annotator_of_a_row_that_everybody_skipped_disagrees() -> None:
    world = World()
    notes = [replace(note, label="skip") if note.item_id in world.ids[:5] else note for note in world.notes]
    outcome = world.certificate(notes, reference="annotator")
    assert outcome.n == 60
    lax = outcome.tests[-1]
    assert lax.loss == lax.errors == world.certificate(notes).tests[-1].errors


def test_a_third_of_the_rows_skipped_is_no_certificate_on_the_others() -> None:
    """The judge is right where people answer; where everybody skips, nobody says that it is."""
    ids = [f"i{n:03}" for n in range(400)]
    judged: Judged = {"j": {item: judgment(item, "j", 0.9, 0.9) for item in ids}}
    notes = [Annotation(item, "x", "skip" if n % 3 == 0 else "A") for n, item in enumerate(ids)]
    for skips, status, n in (("disagree", "none", 400), ("outside", "certified", 266)):
        task = Task(TaskKind.PAIRWISE, "?", ("A", "B", "tie"), skips=skips)  # type: ignore[arg-type]
        outcome = certify(protocol(ids, task=task, alpha=0.1, delta=0.1), notes, judged, created="now")
        assert (outcome.status, outcome.n, outcome.skipped) == (status, n, 134)
        stated = build_calibration(outcome).claim
        assert ("not skipped by every annotator (134 of 400 labelled rows" in stated) == (skips == "outside")


def test_dropped_ties_are_outside_the_claim_and_counted() -> None:
    world = World()
    notes = [replace(note, label="tie") if note.item_id in world.ids[:3] else note for note in world.notes]
    outcome = world.certificate(notes, task=Task(TaskKind.PAIRWISE, "Which?", ("A", "B"), "drop"))
    assert (outcome.n, outcome.dropped_ties, outcome.contested_ties) == (57, 3, 0)
    contested = [
        replace(note, label="tie") if note.annotator == "x" and note.item_id in world.ids[3:7] else note
        for note in notes
    ]
    outcome = world.certificate(contested, task=Task(TaskKind.PAIRWISE, "Which?", ("A", "B"), "drop"))
    assert (outcome.n, outcome.dropped_ties, outcome.contested_ties) == (57, 3, 4)
    report = build_calibration(outcome)
    assert "annotators do not call a tie (3 of 60 labelled rows were called" in report.claim
    assert "leaving out those who call it a tie" in report.claim
    assert "elsewhere those who call a tie are left out, on 4 rows" in " ".join(outcome.assumptions)


def counts(outcome: Certificate) -> list[tuple[Any, ...]]:
    return [(t.thresholds, t.accepted, t.errors, t.by_tier, t.p_value, t.level) for t in outcome.tests]


def test_the_order_of_rows_changes_no_count() -> None:
    world = World(judges=("j", "k"))
    before = counts(world.certificate())
    random.Random(3).shuffle(world.ids)
    random.Random(4).shuffle(world.notes)
    assert counts(world.certificate()) == before


def test_the_names_of_judges_and_labels_change_no_count() -> None:
    world = World()
    before = counts(world.certificate())
    renamed: Judged = {"other": {i: replace(row, judge="other") for i, row in world.judged["j"].items()}}
    outcome = certify(protocol(world.ids, ("other",)), world.notes, renamed, created="now")
    assert counts(outcome) == before
    words = {"A": "yes", "B": "no", "tie": "perhaps"}
    task = Task(TaskKind.CHOICE, "Good?", ("yes", "no", "perhaps"))
    notes = [replace(note, label=words[note.label]) for note in world.notes]
    spoken: Judged = {
        "j": {
            i: replace(
                row,
                votes=tuple(
                    replace(vote, probs={words[k]: p for k, p in vote.probs.items()}) for vote in row.votes
                ),
            )
            for i, row in world.judged["j"].items()
        }
    }
    outcome = certify(protocol(world.ids, task=task), notes, spoken, created="now")
    assert counts(outcome) == before


# ── the protocol ─────────────────────────────────────────────────────────────────────────────────


def test_the_protocol_does_not_depend_on_labels() -> None:
    world = World()
    labels = [note.label for note in world.notes]
    random.Random(5).shuffle(labels)
    notes = [replace(note, label=label) for note, label in zip(world.notes, labels, strict=True)]
    first, second = world.certificate(), world.certificate(notes)
    assert first.protocol == second.protocol
    assert first.data_digest != second.data_digest
    assert counts(first) != counts(second)


RULE_CHANGES: Mapping[str, Any] = {
    "alpha": 0.21, "delta": 0.21, "path": "tierwise", "procedure": "bonferroni", "prefer": "cost",
    "abstention_price": 1.0,
}  # fmt: skip
CHANGES: Mapping[str, Any] = {
    "task": replace(TASK, question="Which is worse?"), "claim": "batch", "estimator": "sampled",
    "groups": GroupRule("meta.k", {}, {}, {}, 1.0, 30), "leave_out": LeaveOut("meta.k", {}),
    "judges": (("j", "another print"),), "grouped": True, "seed": 1, "version": "1",
    "reference": "annotator", "clusters": Clustering((("i00",),), 2),
    "interim": InterimAnalysis(1, (9, 20), (0.3, 0.7)),
    "weighting": Weighting("meta.w", 2.0, "known", 9, 3), "release_human_labels": True,
    "attempt": Attempt(2, 0.05),
    "drawn_from": Clusters(9, None, "one_per_cluster"),
    "region": RegionRule(0.3, 0.4, "", ("i02",)),
    "roles": {"exemplars": (), "dev": (), "holdout": (), "certify": ("i01",), "pilot": ()},
}  # fmt: skip


def test_the_protocol_depends_on_everything_else() -> None:
    plain = protocol(["i00"])
    assert {*CHANGES, "rule"} == set(Protocol.__dataclass_fields__)
    assert set(RULE_CHANGES) == {field.name for field in fields(TestRule)}
    rules = [{"rule": replace(plain.rule, **{name: value})} for name, value in RULE_CHANGES.items()]
    changes = [*rules, *({name: value} for name, value in CHANGES.items())]
    digests = {replace(plain, **change).digest for change in changes}
    assert len(digests | {plain.digest}) == len(changes) + 1


def test_the_protocol_of_a_project_is_sealed_against_its_labels(tmp_path: Path) -> None:
    def relabel(items: Sequence[Any], notes: list[dict[str, Any]]) -> None:
        certified = set(first.roles["certify"])
        rows = [note for note in notes if note["item_id"] in certified]
        shuffled(items, rows)

    first = calibrate(write_project(tmp_path / "one"))
    second = calibrate(write_project(tmp_path / "two", change=relabel))
    assert first.protocol == second.protocol
    assert first.roles == second.roles
    assert counts(first) != counts(second)


# ── roles ────────────────────────────────────────────────────────────────────────────────────────


def test_one_row_of_each_group_is_certified(tmp_path: Path) -> None:
    def group(items: list[dict[str, Any]], notes: Sequence[Any]) -> None:
        for place, item in enumerate(items):
            item["group"] = f"g{place // 3}"

    outcome = calibrate(write_project(tmp_path, change=group))
    data = {item.id: item.group for item in _data(tmp_path).items}
    certified = outcome.roles["certify"]
    assert len({data[item] for item in certified}) == len(certified) > 15
    assert any(
        "one row of each was tested, so each cluster counts once" in text for text in outcome.assumptions
    )
    roles = {role: {data[item] for item in ids} for role, ids in outcome.roles.items() if role != "pilot"}
    assert not roles["certify"] & roles["exemplars"]


def _data(folder: Path) -> Any:
    from trustescalate.data.dataset import load_dataset

    return load_dataset(Project.open(folder / "trustescalate.toml").config)


def test_dev_rows_lay_out_the_path_where_every_item_is_labelled(tmp_path: Path) -> None:
    outcome = calibrate(
        write_project(tmp_path, unlabelled=0, guarantee='path = "common"\n[roles]\ndev = 0.3\n')
    )
    assert outcome.roles["pilot"]
    assert set(outcome.roles["pilot"]) <= set(outcome.roles["dev"])
    assert not set(outcome.roles["pilot"]) & set(outcome.roles["certify"])


def test_without_a_pilot_the_path_is_an_even_grid(tmp_path: Path) -> None:
    outcome = calibrate(write_project(tmp_path, pilot=0))
    assert outcome.roles["pilot"] == ()
    assert outcome.status == "certified"


# ── tier by tier ─────────────────────────────────────────────────────────────────────────────────


def test_the_tierwise_path_end_to_end(tmp_path: Path) -> None:
    config = write_project(tmp_path, guarantee='path = "tierwise"\n', labelled=120)
    outcome = calibrate(config)
    assert outcome.status == "certified"
    assert outcome.roles["pilot"] == ()
    assert (outcome.path, outcome.procedure) == ("tierwise", "fixed_sequence")
    assert len(outcome.tests) == 2
    assert all(test.level == pytest.approx(0.9 * 0.1) for test in outcome.tests)
    assert run(config).header.status == "complete"


def test_a_tierwise_refusal_says_what_was_seen() -> None:
    world = World()
    outcome = world.certificate(path="tierwise", alpha=0.05, delta=0.1)
    assert outcome.status == "none"
    assert "none of 1 tiers passed its test: on 60 labelled rows" in outcome.reason
    assert outcome.advice.startswith("label more rows, use better judges")


# ── when the answer is no ────────────────────────────────────────────────────────────────────────


def test_too_few_rows() -> None:
    world = World()
    world.ids = world.ids[:5]
    outcome = world.certificate()
    assert outcome.thresholds is None
    assert outcome.reason.startswith("5 labelled rows cannot certify anything")
    assert "label at least 8 rows" in outcome.advice


def test_no_row_at_all() -> None:
    outcome = certify(protocol([]), [], {"j": {}}, created="now")
    assert (outcome.status, outcome.n, outcome.thresholds, outcome.tests) == ("none", 0, None, ())


@pytest.mark.parametrize("path", ["common", "tierwise"])
def test_judges_that_never_answer(path: str) -> None:
    world = World()
    world.judged["j"] = {item: judgment(item, "j", -1.0, -1.0) for item in world.ids}
    outcome = world.certificate(path=path)
    assert outcome.reason == "the judges gave usable verdicts on 0 of 60 rows"
    assert outcome.diagnostics[0].failures == {"timeout": 120}
    assert outcome.diagnostics[0].agreements == 0
    assert "120 timeout (no answer in time, after all attempts)" in outcome.advice


def test_a_no_certificate_that_failures_caused_says_what_the_server_said() -> None:
    world = World()
    refused = Vote(0, "AB", {}, "temperature is\x1b[31m deprecated\n" + "x" * 900, "bad_request")
    world.judged["j"] = {item: Judgment(item, "j", "print", (refused,), 1) for item in world.ids}
    outcome = world.certificate()
    assert "for example: temperature is [31m deprecated xxx" in outcome.advice


def test_better_judges_are_advised_where_labels_cannot_help() -> None:
    world = World()
    wrong = {item: "B" if label == "A" else "A" for item, label in world.truth.items()}
    notes = [replace(note, label=wrong[note.item_id]) for note in world.notes]
    outcome = world.certificate(notes)
    assert outcome.status == "none"
    assert "use better judges" in outcome.advice


@pytest.mark.parametrize("path", ["common", "tierwise"])
def test_a_hopeless_world_certifies_nothing(tmp_path: Path, path: str) -> None:
    extra = f'path = "{path}"\n'
    outcome = calibrate(write_project(tmp_path, JUDGES, change=shuffled, guarantee=extra))
    assert (outcome.status, outcome.thresholds, outcome.chosen, outcome.coverage_lower) == (
        "none",
        None,
        None,
        None,
    )
    assert outcome.tests
    assert not any(test.rejected for test in outcome.tests)
