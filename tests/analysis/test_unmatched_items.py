"""Items that only one of two runs has, and groups that hide them, never pass a gate."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.products import Products
from trustescalate.records import Item, Product
from trustescalate.records.jsonl import write_rows

pytestmark = pytest.mark.slow


def run_of(world: Products, name: str, items: list[Item]) -> str:
    world.items[name] = items
    write_rows(world.folder / f"{name}.jsonl", items)
    return world.run(name)


def gate(world: Products, run_id: str, **keys: object) -> tuple[str, dict[str, str], Product]:
    """The status of a gate, that of its product checks, and the product."""
    world.set_gate(**keys)
    product = world.load(run_id).product
    assert product is not None
    verdict, _ = world.project.gate(run_id)
    named = {each.name: each.status for each in verdict.checks if each.name.startswith("pass rate")}
    return verdict.status, named, product


def test_items_without_a_counterpart_may_have_changed_by_anything(tmp_path: Path) -> None:
    world = Products(tmp_path, {"base": 0.6, "new": 0.5}, size=60, right=1.0)
    assert world.calibrate() == "certified"
    base, fresh = world.run("base"), world.items["new"][1:]
    apart = [replace(item, meta={**item.meta, "q": f"other {item.id}"}) for item in fresh]
    one = run_of(world, "single", [world.items["base"][0], *apart])
    status, checks, product = gate(world, one, baseline=base, max_drop=0.02)
    assert (status, checks) == ("undecided", {"pass rate, drop": "undecided"})
    (change,) = product.changes
    assert (change.matched, change.same, product.only_here, product.only_baseline) == (1, 1, 59, 59)
    assert (change.first.low, change.first.high) == pytest.approx((-118 / 119, 118 / 119))
    assert product.requirements[0].needed is None
    most = run_of(world, "most", world.items["base"][:-1])
    status, _, product = gate(world, most, baseline=base, max_drop=0.02)
    assert product.changes[0].first.low == pytest.approx(-1 / 60)
    assert status == "pass"


def test_a_group_that_one_run_lacks_is_undecided_and_so_are_items_without_a_value(tmp_path: Path) -> None:
    world = Products(tmp_path, {"base": 0.6}, size=60, right=1.0)
    assert world.calibrate() == "certified"
    base = world.run("base")
    part = run_of(world, "part", [item for item in world.items["base"] if item.meta["kind"] == "x"])
    status, checks, _ = gate(world, part, baseline=base, max_drop=0.02, by="meta.kind")
    assert status == "undecided"
    assert checks["pass rate, drop, meta.kind = 'y'"] == "undecided"
    status, checks, product = gate(world, base, min_rate=0.0, by="meta.nothing")
    assert (status, list(checks.values())) == ("undecided", ["undecided"])
    assert product.reason == "no item has meta.nothing"
    bare = [
        replace(item, meta={key: value for key, value in item.meta.items() if key != "kind" or k % 2})
        for k, item in enumerate(world.items["base"])
    ]
    half = run_of(world, "half", bare)
    _, checks, _ = gate(world, half, min_rate=0.0, by="meta.kind")
    assert set(checks) == {
        "pass rate", "pass rate, meta.kind = '(no value)'", "pass rate, meta.kind = 'y'",
    }  # fmt: skip


def test_an_alarm_of_the_baseline_takes_the_limits_from_verdicts(tmp_path: Path) -> None:
    world = Products(tmp_path, {"bad": 0.02, "new": 0.5}, size=300, right=1.0)
    assert world.calibrate() == "certified"
    base, now = world.run("bad"), world.run("new")
    assert any(tier.raised for tier in world.load(base).shift)
    assert not any(tier.raised for tier in world.load(now).shift)
    status, checks, product = gate(world, now, baseline=base, max_drop=0.0)
    assert (status, checks) == ("undecided", {"pass rate, drop": "undecided"})
    assert "distribution-shift check of the baseline" in product.changes[0].first.reason
    assert gate(world, now, baseline=base, max_drop=0.0, allow_shift=True)[0] == "pass"


def test_labels_answer_an_alarm_and_its_votes_may_be_lost_to_labels_alone(tmp_path: Path) -> None:
    world = Products(tmp_path, {"new": 0.96}, size=200, right=1.0)
    assert world.calibrate() == "certified"
    run_id = world.run("new")
    assert gate(world, run_id, min_rate=0.6)[0] == "undecided"
    votes = tmp_path / "certificate.votes.jsonl"
    kept = votes.read_bytes()
    votes.unlink()
    assert gate(world, run_id, min_rate=0.6)[0] == "undecided"
    assert gate(world, run_id)[0] == "pass"
    votes.write_bytes(kept)
    world.annotate([f"new{k}" for k in range(100)])
    assert gate(world, run_id, min_rate=0.6)[0] == "pass"
    assert gate(world, run_id, min_rate=0.6, min_agreement=0.8)[0] == "undecided"
