"""`plan --items`: the cost of many items, each way, with its arithmetic."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.support.command_line import cli
from trustescalate import Project
from trustescalate.analysis.scale import ScalePlan, plan_items
from trustescalate.errors import NotMeasurable

PAID = """version = 1
[task]
kind = "binary"
question = "Is the answer right?"
[ensemble]
annotators = 1
shots = 0
[[judges]]
name = "small"
backend = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "m"
concurrency = 50
price = {{input = 1.0, output = 2.0}}
[[judges]]
name = "large"
backend = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "n"
concurrency = 50
requests_per_minute = 600
{last}
"""


def project(folder: Path, last: str = "price = {input = 10.0, output = 20.0}") -> Path:
    config = folder / "trustescalate.toml"
    config.write_text(PAID.format(last=last), encoding="utf-8")
    rows = [{"id": f"q{n}", "prompt": f"What is {n} + {n}?", "responses": [str(2 * n)]} for n in range(120)]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return config


def plan(config: Path, items: int) -> ScalePlan:
    return asyncio.run(plan_items(Project.open(config).config, items))


def test_counts_and_cost_grow_with_the_items(tmp_path: Path) -> None:
    config = project(tmp_path)
    one, ten = plan(config, 100_000), plan(config, 1_000_000)
    assert ten.each[0].items == 1_000_000
    for few, many in zip(one.each, ten.each, strict=True):
        assert many.calls == pytest.approx(10 * few.calls, rel=1e-3)
        assert many.usd == pytest.approx(10 * few.usd, rel=1e-3)
    assert ten.disk == pytest.approx(10 * one.disk, rel=1e-3)


def test_the_arithmetic_that_is_shown_gives_the_figures(tmp_path: Path) -> None:
    planned = plan(project(tmp_path), 1_000_000)
    text = "\n".join(planned.lines()).replace(",", "")
    small, large = planned.each
    items, each, calls = re.search(r"small: (\d+) items x ([\d.]+) calls = (\d+) calls", text).groups()
    assert int(calls) == small.calls
    assert int(items) * float(each) == pytest.approx(int(calls), rel=0.02)
    count, seconds, at_once, hours = re.search(
        r"(\d+) calls x ([\d.]+) s / (\d+) at once / 3600: ([\d.]+) hours", text
    ).groups()
    assert int(count) * float(seconds) / int(at_once) / 3600 == pytest.approx(float(hours), rel=0.02)
    assert int(at_once) == 50
    paced = re.search(r"or its limit per minute: ([\d.]+) hours", text)
    assert float(paced[1]) == pytest.approx(large.calls / 600 / 60, rel=0.01)
    whole = {way.name: way for way in planned.ways}
    assert whole["one process"].hours == pytest.approx(max(row.minutes for row in planned.each) / 60)
    assert whole["one process"].usd == pytest.approx(small.usd + large.usd)
    assert whole["Batch API"].usd == pytest.approx(whole["one process"].usd / 2)
    assert whole["Batch API"].hours == 48


def test_an_unknown_price_makes_no_figure(tmp_path: Path) -> None:
    planned = plan(project(tmp_path, last=""), 5000)
    assert {way.usd for way in planned.ways} == {None}
    assert "price unknown" in "\n".join(planned.lines())


def test_hours_of_a_model_in_this_process_are_not_guessed(tmp_path: Path) -> None:
    config = project(tmp_path)
    text = config.read_text("utf-8")
    config.write_text(
        f'{text}[[judges]]\nname = "own"\nbackend = "local"\nmodel = "./tiny"\n', encoding="utf-8"
    )
    planned = plan(config, 5000)
    assert planned.ways[0].hours is None
    assert "judges test --judge own" in "\n".join(planned.lines())


def test_the_claim_about_a_batch_has_no_run_to_plan(tmp_path: Path) -> None:
    config = project(tmp_path)
    text = config.read_text("utf-8")
    text += '[guarantee]\nclaim = "batch"\nlabel_budget = 20\n[roles]\nexemplars = 0\n'
    config.write_text(text, encoding="utf-8")
    with pytest.raises(NotMeasurable, match="makes no model calls"):
        plan(config, 5000)


def test_the_command_prints_json_and_takes_no_label_options(tmp_path: Path) -> None:
    config = project(tmp_path)
    done = cli("plan", "--items", 1000, "--config", config, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["items"] == 1000
    refused = cli("plan", "--items", 1000, "--alpha", 0.1, "--config", config)
    assert refused.exit_code == 2
    assert "leave out --items" in refused.output
