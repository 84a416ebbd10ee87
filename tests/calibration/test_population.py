"""Beside the guarantee: people's agreement by hand, the mean over all items in worlds whose mean is known."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, binom

from tests.support.certificates import TASK, World
from tests.support.runs import TAU, world
from trustescalate.analysis.shift_check import tier_shifts
from trustescalate.calibration.annotator_agreement import measure_agreement
from trustescalate.calibration.population import label_values, overall
from trustescalate.records import Annotation, Certificate, Judgment, Run, Task, TaskKind, Vote
from trustescalate.records.jsonl import decode, encode
from trustescalate.stats.agreement import fleiss_kappa

pytestmark = pytest.mark.slow


# ── the certificate's additions ──────────────────────────────────────────────────────────────────


def test_the_radius_is_that_of_the_limit_at_the_level_of_the_test() -> None:
    outcome = World().certificate()
    chosen = outcome.tests[outcome.chosen or 0]
    upper = beta.ppf(1 - chosen.level, chosen.errors + 1, chosen.accepted - chosen.errors)
    assert outcome.radius == pytest.approx(np.sqrt(0.2 * (1 - upper) / (upper * 0.8)))
    assert outcome.radius >= 1


def test_a_tierwise_radius_is_the_least_of_its_tiers() -> None:
    outcome = World(judges=("j", "k")).certificate(path="tierwise", alpha=0.3)
    passed = [test for test in outcome.tests if test.rejected]
    radii = []
    for test in passed:
        upper = beta.ppf(1 - test.level, test.errors + 1, test.accepted - test.errors)
        radii.append(np.sqrt(0.3 * (1 - upper) / (upper * 0.7)))
    assert outcome.radius == pytest.approx(min(radii))
    assert outcome.band == ()


def test_the_mean_and_the_judges_are_printed_whatever_came_of_the_test() -> None:
    """The same figures from the same labels, with a certificate and without."""
    passed, refused = (World().certificate(alpha=alpha) for alpha in (0.2, 0.05))
    assert (passed.status, refused.status) == ("certified", "none")
    assert passed.overall == refused.overall
    assert passed.diagnostics == refused.diagnostics
    assert passed.human_agreement == refused.human_agreement
    assert passed.overall is not None
    assert passed.overall.label_only is not None
    low, high = passed.overall.label_only
    assert 0 < low < high < 1


def test_a_refusal_has_no_radius_and_still_a_band() -> None:
    outcome = World().certificate(alpha=0.05)
    assert (outcome.status, outcome.radius) == ("none", None)
    assert outcome.band


def test_the_band_shares_delta_over_its_checkpoints() -> None:
    outcome = World().certificate()
    assert len(outcome.band) == 16
    assert (outcome.band[0].test, outcome.band[-1].test) == (0, len(outcome.tests) - 1)
    for check in outcome.band:
        test = outcome.tests[check.test]
        wanted = 1.0
        if test.errors < test.accepted:
            wanted = beta.ppf(1 - outcome.delta / 16, test.errors + 1, test.accepted - test.errors)
        assert check.upper == pytest.approx(wanted)


def test_a_certificate_of_before_still_decodes() -> None:
    outcome = World().certificate()
    old = encode(replace(outcome, radius=None, band=(), annotator_agreement=None))
    assert not {b"radius", b"band", b"annotator_agreement"} & set(old.split(b'"'))
    assert decode(old, Certificate).annotator_agreement is None
    assert decode(encode(outcome), Certificate) == outcome


# ── people ───────────────────────────────────────────────────────────────────────────────────────


def notes(*rows: str, names: str = "xyz") -> list[Annotation]:
    """One string a row, one letter a person: A, B, t(ie), s(kip), or - for nothing."""
    labels = {"A": "A", "B": "B", "t": "tie", "s": "skip"}
    return [
        Annotation(f"i{n}", who, labels[stated])
        for n, row in enumerate(rows)
        for who, stated in zip(names, row, strict=False)
        if stated != "-"
    ]


def test_people_by_hand() -> None:
    result = measure_agreement(TASK, notes("AAB", "tts", "BB-", "A-s"), [f"i{n}" for n in range(4)], {})
    assert result is not None
    x, y, z = result.annotators
    assert (x.opinions, x.ties, x.skips, x.agreements, x.comparisons) == (4, 1, 0, 3, 4)
    assert (z.opinions, z.ties, z.skips, z.agreements, z.comparisons) == (1, 0, 2, 0, 2)
    assert [(p.first, p.second, p.agreements, p.comparisons) for p in result.pairs] == [
        ("x", "y", 3, 3), ("x", "z", 0, 1), ("y", "z", 0, 1),
    ]  # fmt: skip
    counts = np.array([[2, 1, 0], [0, 0, 2], [0, 2, 0], [1, 0, 0]])
    kappa, alpha, ac1 = result.coefficients
    assert (kappa.name, kappa.value, kappa.interval) == ("Fleiss κ", fleiss_kappa(counts), None)
    assert (alpha.name, ac1.name) == ("Krippendorff α, nominal", "Gwet AC1")
    assert y.comparisons == 4
    assert result.stand_ins == ()


def test_one_person_alone_agrees_with_nobody() -> None:
    assert measure_agreement(TASK, notes("A", "B"), ["i0", "i1"], {}) is None
    assert measure_agreement(TASK, notes("As", "Bs"), ["i0", "i1"], {}) is None


def test_ratings_have_an_ordinal_coefficient() -> None:
    task = Task(TaskKind.RATING, "How good?", ("1", "2", "3"))
    stated = [Annotation(f"i{n}", who, str(1 + (n + k) % 3)) for n in range(9) for k, who in enumerate("xy")]
    result = measure_agreement(task, stated, [f"i{n}" for n in range(9)], {})
    assert result is not None
    assert "Krippendorff α, ordinal" in [each.name for each in result.coefficients]


def test_a_judge_is_held_against_each_person_with_rows_enough() -> None:
    rng = random.Random(3)
    truth = [rng.choice("AB") for _ in range(60)]
    flip = {"A": "B", "B": "A"}
    rows = ["".join(t if rng.random() < 0.8 else flip[t] for _ in range(3)) for t in truth]
    rows = [row + (rng.choice("AB") if n < 20 else "-") for n, row in enumerate(rows)]
    stated = notes(*rows, names="wxyz")
    right = np.array(["AB".index(t) for t in truth])
    result = measure_agreement(
        TASK, stated, [f"i{n}" for n in range(60)], {"good": right, "mute": np.full(60, -1)}
    )
    assert result is not None
    assert {(row.judge, row.annotator) for row in result.stand_ins} == {("good", who) for who in "wxy"}
    assert all(row.beaten and row.rows == 60 for row in result.stand_ins)


# ── runs in a world whose mean is known ──────────────────────────────────────────────────────────


def test_the_intervals_cover_the_mean_and_the_alarm_is_silent() -> None:
    draws, missed, missed_labels, missed_verdicts, alarms, naive, width = 100, 0, 0, 0, 0, 0.0, [0.0, 0.0]
    for seed in range(draws):
        run, judged, stated = world(seed)
        result = overall(run, judged, stated, {})
        assert result.interval is not None
        assert result.label_only is not None
        assert result.verdicts is not None
        limits = (result.interval, result.label_only, result.verdicts)
        missed, missed_labels, missed_verdicts = (
            count + (not low <= 1 / 3 <= high)
            for count, (low, high) in zip((missed, missed_labels, missed_verdicts), limits, strict=True)
        )
        width = [total + high - low for total, (low, high) in zip(width, limits, strict=False)]
        alarms += any(tier.raised for tier in tier_shifts(run, judged, {}))
        released = [row.label for row in run.decisions if row.label]
        naive += released.count("A") / len(released) / draws
    allowed = binom.ppf(1 - 1e-6, draws, 0.05)
    assert max(missed, missed_labels, missed_verdicts) <= allowed
    assert alarms <= binom.ppf(1 - 1e-6, draws, 0.01)
    assert width[0] < 0.9 * width[1], "predictions are worth something"
    assert abs(naive - 1 / 3) > 0.02, f"released verdicts alone would mislead: {naive}"


def test_moved_scores_raise_the_alarm() -> None:
    run, judged, _ = world(1, labels=400, items=600, shift=3.0)
    assert any(tier.raised for tier in tier_shifts(run, judged, {}))


def test_an_early_stop_changes_nothing() -> None:
    few, judged, stated = world(5, votes=2)
    whole, _, _ = world(5, votes=4)
    assert overall(few, judged, stated, {}) == overall(whole, judged, stated, {})
    assert tier_shifts(few, judged, {}) == tier_shifts(whole, judged, {})


def test_the_tiers_see_the_rows_that_reach_them() -> None:
    run, judged, _ = world(6)
    small, large = tier_shifts(run, judged, {})
    firm = sum(max(row.votes[0].probs.values()) >= TAU for row in judged["small"].values())
    assert (small.before, small.after) == (150, 300)
    assert large.before == 150 - firm
    assert large.after == sum(len(row.trail) == 2 for row in run.decisions)


def test_a_tier_that_never_accepts_is_not_looked_at() -> None:
    run, judged, stated = world(6)
    outcome = replace(run.header.certificate, thresholds=(TAU, None))
    one = tuple(replace(row, trail=row.trail[:1]) for row in run.decisions)
    alone = replace(run, header=replace(run.header, certificate=outcome), decisions=one)
    assert [tier.judge for tier in tier_shifts(alone, judged, {})] == ["small"]
    assert overall(alone, judged, stated, {}).estimate is not None


def test_a_group_counts_once() -> None:
    run, judged, stated = world(7)
    groups = {f"r{n}": "all" if n < 200 else None for n in range(300)}
    result = overall(run, judged, stated, groups)
    assert (result.grouped, result.items, result.labels) == (True, 150 + 1 + 100, 150)
    assert tier_shifts(run, judged, groups)[0].after == 101


def test_items_whose_labels_made_the_certificate_do_not_count_twice() -> None:
    run, judged, stated = world(8)
    roles = {**run.header.certificate.roles, "exemplars": ("r0", "r1")}
    outcome = replace(run.header.certificate, roles=roles)
    result = overall(replace(run, header=replace(run.header, certificate=outcome)), judged, stated, {})
    assert result.items == 150 + 298


def test_few_labels_are_not_usable() -> None:
    run, judged, stated = world(9, labels=60)
    result = overall(run, judged, stated, {})
    assert not result.usable
    assert result.reason == "60 labels, fewer than 100"


def test_a_failed_or_missing_vote_predicts_the_middle() -> None:
    run, judged, stated = world(10)
    failed = Vote(0, "AB", {}, failure="timeout")
    for votes in ((failed,), ()):
        broken = replace(run, judgments=tuple(replace(row, votes=votes) for row in run.judgments))
        assert overall(broken, judged, stated, {}).estimate is not None
        assert tier_shifts(broken, judged, {})[0].raised


def refused(run: Run, judged: dict[str, dict[str, Judgment]], stated: Sequence[Annotation]) -> str:
    result = overall(run, judged, stated, {})
    assert result.estimate is None
    return result.reason


def test_what_cannot_be_measured_says_why() -> None:
    run, judged, stated = world(11, items=20)
    header, outcome = run.header, run.header.certificate
    assert refused(replace(run, decisions=run.decisions[:3]), judged, stated) == "the run is not complete"
    ties = replace(run, header=replace(header, certificate=replace(outcome, dropped_ties=2)))
    assert "tie" in refused(ties, judged, stated)
    choice = replace(outcome, task=Task(TaskKind.CHOICE, "Which?", ("A", "B", "C")))
    assert "order" in refused(replace(run, header=replace(header, certificate=choice)), judged, stated)
    known = replace(outcome, roles={**outcome.roles, "dev": tuple(item.id for item in run.items)})
    assert "labelled" in refused(replace(run, header=replace(header, certificate=known)), judged, stated)


def test_what_labels_count() -> None:
    assert label_values(Task(TaskKind.BINARY, "Good?", ("pass", "fail"))) == {"pass": 1.0, "fail": 0.0}
    assert label_values(Task(TaskKind.RATING, "How good?", ("1", "2", "3"))) == {"1": 1, "2": 2, "3": 3}
    assert label_values(Task(TaskKind.CHOICE, "Which?", ("a", "b"))) is None


def test_ratings_have_a_mean_and_no_verdict_limits() -> None:
    run, judged, stated = world(12)
    task = Task(TaskKind.RATING, "How good?", ("1", "2"))
    rated = {"A": "1", "B": "2"}

    def turned(row: Judgment) -> Judgment:
        votes = (replace(v, probs={rated[k]: p for k, p in v.probs.items()}) for v in row.votes)
        return replace(row, votes=tuple(votes))

    ratings = [replace(note, label=rated[note.label]) for note in stated]
    ratings += [replace(ratings[0], annotator="y", label="1" if ratings[0].label == "2" else "2")]
    result = overall(
        replace(
            run,
            header=replace(run.header, certificate=replace(run.header.certificate, task=task)),
            judgments=tuple(map(turned, run.judgments)),
        ),
        {name: {i: turned(row) for i, row in rows.items()} for name, rows in judged.items()},
        ratings,
        {},
    )
    assert result.verdicts is None
    assert result.estimate is not None
    assert 1 < result.estimate < 2
