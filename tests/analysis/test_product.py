"""What a run says of the product, end to end: its own items, a baseline, and what [gate] asks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.products import OLD, Products
from trustescalate.errors import UsageError
from trustescalate.records import ItemsMean, Product
from trustescalate.records.jsonl import write_rows
from trustescalate.report.document import build
from trustescalate.report.drawings.intervals import draw_intervals
from trustescalate.report.release import product_pictures

pytestmark = pytest.mark.slow


def product_of(world: Products, run_id: str, **gate: object) -> Product:
    """The product of a run under other keys of [gate]."""
    if gate:
        world.set_gate(**gate)
    product = world.load(run_id).product
    assert product is not None
    return product


def covers(mean: ItemsMean, truth: float) -> bool:
    return all(
        limits.low - 1e-12 <= truth <= limits.high + 1e-12
        for limits in (mean.first, mean.second)
        if limits is not None
    )


# ── these items ──────────────────────────────────────────────────────────────────────────────────


def test_old_labels_say_nothing_of_a_bad_candidate(tmp_path: Path) -> None:
    """Half of the old rows are good and 2.3 % of the candidate's, and the judge is always right."""
    world = Products(tmp_path, {"new": 0.023}, size=300, right=1.0, gate={"min_rate": 0.6, "by": "meta.kind"})
    assert world.calibrate() == "certified"
    run_id, truth = world.run("new"), world.truth("new")
    assert 0 < truth < 0.04
    for labels in (0, 60):
        world.annotate([f"new{k}" for k in range(labels)][len(world.notes) - OLD :])
        run = world.load(run_id)
        product = run.product
        assert product is not None
        mean = product.means[0]
        assert covers(mean, truth)
        assert mean.first.high < 0.5 + 0.1 * (not labels)
        assert mean.first.basis == ("exact" if labels else "verdicts")
        assert not mean.disjoint
        assert any(tier.raised for tier in run.shift)
        assert [(each.key, each.about, each.required) for each in product.requirements] == [
            ("min_rate", None, 0.6),
            ("min_rate", "x", 0.6),
            ("min_rate", "y", 0.6),
        ]
        assert product.requirements[0].needed == 0
        for kind, part in zip("xy", product.means[1:], strict=True):
            rows = [item.id for item in world.items["new"] if item.meta["kind"] == kind]
            assert (part.group, part.first.items) == (kind, 150)
            assert covers(part, float(np.mean([world.good[each] for each in rows])))


def test_limits_from_verdicts_are_those_of_their_counts(tmp_path: Path) -> None:
    """Unknown: abstained items, and released ones that the certificate saw; known: what people labelled."""
    world = Products(tmp_path, {"a": 0.5}, size=400, right=0.97, sure=0.7)
    world.calibrate()
    run_id = world.run("a")
    run = world.load(run_id)
    from trustescalate.calibration.run_errors import run_errors

    limit, released, why = run_errors(run, 0.05)
    assert (why, 0 < limit < released < 400) == ("", True)
    passed = sum(row.label == "pass" for row in run.decisions if row.item_id in run.independent)
    assert run.product is not None
    first = run.product.means[0].first
    assert (first.basis, first.labels, first.confidence) == ("verdicts", 0, pytest.approx(0.85))
    assert first.low == pytest.approx((passed - limit) / 400)
    assert first.high == pytest.approx((passed + limit + 400 - released) / 400)
    # People label what was abstained on: these labels are facts, and no random draw.
    asked = [row.item_id for row in run.decisions if row.label is None]
    world.annotate(asked, "abstained")
    known = product_of(world, run_id).means[0]
    good = sum(world.good[each] for each in asked)
    lost = 400 - released - len(asked)
    assert known.second is None
    assert run.product.requirements == run.product.changes == ()
    assert (known.first.basis, known.first.labels) == ("verdicts", len(asked))
    assert known.first.low == pytest.approx((passed + good - limit) / 400)
    assert known.first.high == pytest.approx((passed + good + limit + lost) / 400)


def test_baseline_and_run_are_drawn_at_one_level(tmp_path: Path) -> None:
    """A comparison shares the level between both runs; each interval of a chart states its probability."""
    world = Products(tmp_path, {"a": 0.5, "b": 0.6}, size=120, right=0.97)
    world.calibrate()
    old, new = world.run("a"), world.run("b")
    world.set_gate(baseline=old, max_drop=0.1)
    run = world.load(new)
    product = run.product
    assert product is not None
    assert product.baseline_mean is not None
    levels = [mean.first.confidence for mean in (product.baseline_mean, product.means[0])]
    assert levels == [pytest.approx(0.875)] * 2
    pair, change = product_pictures(build(run), product)
    assert pair.title.endswith("(limits with probability ≥ 87.5 %)")
    assert not pair.points
    assert change.title.endswith(", in points (limits with probability ≥ 85 %)")
    assert change.points
    axis = draw_intervals(change).partition(">baseline")[0]
    assert " %<" not in axis
    assert " %<" in draw_intervals(pair)


def test_a_label_of_every_item_leaves_no_doubt(tmp_path: Path) -> None:
    world = Products(tmp_path, {"a": 0.5}, size=60, right=0.9)
    world.calibrate()
    run_id = world.run("a")
    world.annotate([f"a{k}" for k in range(40)], "abstained")
    world.annotate([f"a{k}" for k in range(40, 60)])
    first = product_of(world, run_id, min_rate=0.5).means[0].first
    truth = world.truth("a")
    assert (first.estimate, first.low, first.high, first.basis) == (truth, truth, truth, "all labelled")
    assert (first.confidence, first.labels) == (1.0, 60)


def test_counts_alone_choose_what_is_read_first(tmp_path: Path) -> None:
    world = Products(tmp_path, {"a": 0.5}, size=200)
    world.calibrate()
    run_id = world.run("a")
    for labels, first, second in (
        (1, "verdicts", None),
        (19, "verdicts", "exact"),
        (20, "exact", "verdicts"),
    ):
        world.annotate([f"a{k}" for k in range(len(world.notes) - OLD, labels)])
        mean = product_of(world, run_id).means[0]
        assert (mean.first.basis, mean.second and mean.second.basis) == (first, second)


def test_labels_of_one_outcome_are_no_random_draw(tmp_path: Path) -> None:
    world = Products(tmp_path, {"a": 0.5}, size=250)
    world.calibrate()
    run_id = world.run("a")
    world.annotate([f"a{k}" for k in range(250) if world.good[f"a{k}"]][:60])
    mean = product_of(world, run_id).means[0]
    assert (mean.first.basis, mean.second) == ("verdicts", None)
    assert "selected, not drawn at random" in mean.first.reason
    assert mean.first.labels == 60


def test_rows_of_the_certificate_are_known_and_no_draw(tmp_path: Path) -> None:
    """A run over old and new items: the old labels are facts about the old items alone."""
    world = Products(tmp_path, {"a": 0.1}, size=200, right=1.0, old=0.9)
    world.calibrate()
    everything = [*world.olds, *world.items["a"]]
    write_rows(tmp_path / "all.jsonl", everything)
    run_id = world.run("all")
    mean = product_of(world, run_id).means[0]
    truth = float(np.mean([world.good[item.id] for item in everything]))
    assert (mean.first.basis, mean.first.labels, mean.second) == ("verdicts", OLD, None)
    assert covers(mean, truth)
    assert mean.first.high - mean.first.low < 0.4


def test_labels_of_the_certificate_count_in_a_run_over_the_items_that_they_were_drawn_from(
    tmp_path: Path,
) -> None:
    """A project with the responses of one system, of which people labelled a part at random."""
    world = Products(tmp_path, {"a": 0.5}, size=500, labelled=250)
    assert world.calibrate() == "certified"
    run_id = world.run("a")
    mean = product_of(world, run_id).means[0]
    assert (mean.first.basis, mean.first.labels) == ("exact", 250)
    assert covers(mean, world.truth("a"))
    assert mean.second is not None
    assert (mean.second.basis, mean.second.labels) == ("verdicts", 250)


def test_items_of_one_cluster_say_little_of_one_another(tmp_path: Path) -> None:
    """One verdict of each cluster is under the limit, the others are unknown."""
    alone = Products(tmp_path / "alone", {"a": 0.5}, size=200)
    groups = Products(tmp_path / "groups", {"a": 0.5}, size=200, group=4)
    wide = []
    for world in (alone, groups):
        world.calibrate()
        run_id = world.run("a")
        first = product_of(world, run_id).means[0].first
        wide.append(first.high - first.low)
        assert first.low <= world.truth("a") <= first.high
    assert wide[1] >= 0.75 > wide[0]
    groups.annotate([f"a{k}" for k in range(0, 200, 2)])
    labelled = product_of(groups, run_id).means[0].first
    assert labelled.basis in ("predictions", "student", "betting")
    assert labelled.low <= groups.truth("a") <= labelled.high


def test_a_draw_of_one_item_of_each_cluster_does_not_favour_small_clusters(tmp_path: Path) -> None:
    """Items of single clusters are good, those of clusters of five mostly bad; a queue asks one of each."""
    world = Products(tmp_path, {"a": 0.9}, size=150, right=1.0)
    world.calibrate()
    rows = [
        replace(item, group=None if k < 50 else f"g{(k - 50) // 5}")
        for k, item in enumerate(world.items["a"])
    ]
    world.good.update({item.id: k < 50 or k % 4 == 0 for k, item in enumerate(rows)})
    write_rows(tmp_path / "a.jsonl", rows)
    run_id = world.run("a")
    world.annotate([f"a{k}" for k in (*range(0, 50, 2), *(50 + 5 * g for g in range(0, 20, 2)))])
    first = product_of(world, run_id).means[0].first
    truth = float(np.mean([world.good[item.id] for item in rows]))
    assert first.basis == "betting"
    assert first.labels == 35
    assert first.estimate == pytest.approx(50 / 150 + 100 / 150 * 0.5)
    assert first.low < truth == 0.5 < first.high


def test_without_a_certificate_labels_are_all_there_is(tmp_path: Path) -> None:
    """The judge is wrong on three of ten: nothing is certified, and labels of these items correct it."""
    world = Products(tmp_path, {"a": 0.5, "b": 0.3}, size=250, right=0.7, labelled=150)
    assert world.calibrate() == "none"
    before, run_id = (world.run(name, uncertified=True) for name in "ab")
    assert covers(product_of(world, before).means[0], world.truth("a"))
    world.set_gate(min_rate=0.4, baseline=before, max_drop=0.02)
    nothing = product_of(world, run_id)
    for limits in (nothing.means[0].first, nothing.changes[0].first):
        assert (limits.basis, limits.high) == ("none", 1)
        assert "of these items have human labels, and the run is uncertified" in limits.reason
    assert [each.needed is not None and 20 <= each.needed <= 500 for each in nothing.requirements] == [
        True
    ] * 2
    verdict, _ = world.project.gate(run_id)
    messages = [check.message for check in verdict.checks if check.name.startswith("pass rate")]
    assert all("more human labels would decide it" in message for message in messages)
    world.annotate([f"b{k}" for k in range(150)])
    labelled = product_of(world, run_id)
    assert labelled.means[0].first.basis == "predictions"
    assert covers(labelled.means[0], world.truth("b"))
    [change] = labelled.changes
    assert change.first.low <= world.truth("b") - world.truth("a") <= change.first.high < 0


def test_a_population_is_limited_more_widely_than_its_items(tmp_path: Path) -> None:
    world = Products(tmp_path, {"a": 0.5, "b": 0.5}, size=180, same=0.5)
    world.calibrate()
    before, run_id = world.run("a"), world.run("b")
    widths = []
    for labels in (0, 90):
        world.annotate([f"{name}{k}" for k in range(labels) for name in "ab"])
        for target in ("items", "population"):
            product = product_of(world, run_id, target=target, by="meta.kind", max_drop=0.1, baseline=before)
            assert [change.first.basis == "none" for change in product.changes] == [
                False,
                *[target == "population" and not labels] * 2,
            ]
            for mean in (product.means[0], product.changes[0]):
                widths.append(mean.first.high - mean.first.low)
    few, more = widths[:4], widths[4:]
    assert few[2] > few[0]
    assert more[2] > more[0]
    assert more[3] > more[1]


# ── a baseline ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Products:
    """Three systems with every label on "same" and "worse": "same" differs from "a" in words alone."""
    folder = tmp_path_factory.mktemp("releases")
    world = Products(folder, {"a": 0.5, "same": 0.5, "worse": 0.45}, size=500, right=0.96)
    assert world.calibrate() == "certified"
    for name in ("a", "same", "worse"):
        world.runs[name] = world.run(name)
    return world


def test_an_equal_candidate_passes_and_a_worse_one_fails_with_enough_labels(releases: Products) -> None:
    order = np.random.default_rng(5).permutation(500)
    releases.set_gate(baseline=releases.runs["a"], max_drop=0.02)
    seen: dict[str, list[str]] = {"same": [], "worse": []}
    for labels in (slice(0, 0), slice(0, 30), slice(30, 430)):
        for name in ("a", "same", "worse"):
            releases.annotate([f"{name}{k}" for k in order[labels]])
        for name, statuses in seen.items():
            product = product_of(releases, releases.runs[name])
            [change], [requirement] = product.changes, product.requirements
            truth = releases.truth(name) - releases.truth("a")
            assert change.matched == 500
            for limits in (change.first, change.second):
                assert limits is None or limits.low <= truth <= limits.high
            low, high = change.first.low, change.first.high
            statuses.append("pass" if low >= -0.02 else "fail" if high < -0.02 else "undecided")
            assert (requirement.needed == 0) == (statuses[-1] != "undecided")
            if not labels.stop:
                assert change.first.basis == "verdicts"
                assert requirement.needed is not None
                assert 100 < requirement.needed <= 1000
    assert seen == {"same": ["undecided", "undecided", "pass"], "worse": ["undecided", "undecided", "fail"]}
    verdict, _ = releases.project.gate(releases.runs["worse"])
    assert verdict.status == "fail"


def test_equal_texts_change_nothing_and_need_no_label(tmp_path: Path) -> None:
    world = Products(tmp_path, {"a": 0.5, "b": 0.5}, size=200, same=1.0)
    world.calibrate()
    before, run_id = world.run("a"), world.run("b")
    product = product_of(world, run_id, baseline=before, max_drop=0.0, by="meta.kind")
    for change in product.changes:
        assert (change.same, change.first.low, change.first.high) == (change.matched, 0, 0)
        assert change.first.basis == "equal"
        assert change.first.labels == 0
    assert {each.needed for each in product.requirements} == {0}


def test_labels_of_different_items_on_both_sides_are_compared_by_their_means(tmp_path: Path) -> None:
    world = Products(tmp_path, {"a": 0.6, "b": 0.2}, size=320, same=0.25)
    world.calibrate()
    before, run_id = world.run("a"), world.run("b")
    for low, high in ((0, 120), (120, 140)):
        world.annotate([f"a{k}" for k in range(low, high)])
        world.annotate([f"b{k}" for k in range(320 - high, 320 - low)])
    [change] = product_of(world, run_id, baseline=before, max_drop=0.05).changes
    assert "each mean is estimated by itself" in change.first.reason
    assert change.first.basis in ("predictions", "exact")
    truth = world.truth("b") - world.truth("a")
    assert change.first.low <= truth <= change.first.high < -0.05
    assert 180 < change.first.labels < 240
    # Twenty that have labels in both are read as pairs.
    world.annotate([f"a{k}" for k in range(280, 320)])
    [change] = product_of(world, run_id).changes
    assert change.first.labels < 60
    assert change.first.reason.endswith("fewer than 100")


def test_what_one_side_lacks_is_counted_and_groups_are_compared_by_themselves(releases: Products) -> None:
    write_rows(releases.folder / "part.jsonl", releases.items["same"][100:400])
    run_id = releases.run("part")
    product = product_of(releases, run_id, baseline=releases.runs["a"], by="meta.kind", max_drop=0.05)
    assert (product.only_here, product.only_baseline) == (0, 200)
    assert [(each.group, each.matched) for each in product.changes] == [(None, 300), ("x", 150), ("y", 150)]
    assert [each.about for each in product.requirements] == [None, "x", "y"]
    back = product_of(releases, releases.runs["a"], baseline=run_id, min_gain=0.0)
    assert (back.only_here, back.only_baseline) == (200, 0)


def test_a_baseline_may_be_a_folder_of_another_project(releases: Products, tmp_path: Path) -> None:
    other = Products(tmp_path / "other", {"z": 0.5}, size=50)
    other.calibrate()
    foreign = other.project.run_path(other.run("z"))
    other.annotate([f"z{k}" for k in range(50)])
    (tmp_path / "other" / "trustescalate.toml").write_text(other.toml(), encoding="utf-8")
    product = product_of(releases, releases.runs["a"], baseline=str(foreign), max_drop=0.1)
    assert (product.baseline, product.changes[0].matched) == (foreign.name, 50)
    (tmp_path / "other" / "trustescalate.toml").unlink()
    alone = product_of(releases, releases.runs["a"])
    assert alone.changes[0].first.basis == "none"
    assert "independent" in alone.changes[0].first.reason


WRONG: dict[str, tuple[Callable[[Products], str], str]] = {
    "unknown": (lambda world: "20200101T000000Z-000000000000", "there is no run '20200101T"),
    "itself": (lambda world: world.runs["same"], "is this run itself"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_baseline_is_an_error_of_the_gate_and_a_reason_in_a_report(
    releases: Products, case: str
) -> None:
    name, message = WRONG[case]
    releases.set_gate(baseline=name(releases), max_drop=0.1)
    with pytest.raises(UsageError, match=message):
        releases.project.gate(releases.runs["same"])
    product = product_of(releases, releases.runs["same"])
    assert message in product.reason
    assert product.changes == ()
    assert [each.limits.basis for each in product.requirements] == ["none"]
    assert product.means[0].first.basis != "none"


def test_items_that_never_match_are_an_error(releases: Products) -> None:
    releases.set_gate(baseline=releases.runs["a"], match=None, max_drop=0.1)
    with pytest.raises(UsageError, match="no item of one run matches"):
        releases.project.gate(releases.runs["same"])


def test_an_incomplete_baseline_leaves_the_gate_undecided(releases: Products) -> None:
    from trustescalate.analysis.product import product
    from trustescalate.data.dataset import load_dataset

    releases.set_gate(match="meta.q", max_drop=0.1, baseline="some")
    config, data = releases.project.config, load_dataset(releases.project.config)
    run, other = (releases.load(releases.runs[name]) for name in ("same", "a"))
    other = replace(other, header=replace(other.header, status="budget"), decisions=other.decisions[:-1])
    found = product(config, run, data, (other, data))
    assert found.reason == "of the baseline: the run is not complete"
    assert [each.limits.basis for each in found.requirements] == ["none"]
    whole = product(config, other, data)
    assert (whole.means[0].first.basis, whole.reason) == ("none", "the run is not complete")
