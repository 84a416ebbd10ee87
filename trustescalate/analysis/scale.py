"""State what each way to judge many items costs: calls, USD, hours, memory and disk, with the arithmetic."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from trustescalate.analysis.dry_run import LATENCY, SPEED, Estimate, estimate_run
from trustescalate.config import (
    Config,
    EndpointTable,
    JudgeTable,
    MockJudge,
    ModelTable,
    RewardJudge,
    SimulatedJudge,
)
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import ConfigError, NotMeasurable, UsageError
from trustescalate.records.jsonl import encode
from trustescalate.report.terminal import table_lines

ABOUT = ("run, about", "run, every judge")
BATCH_HOURS = 24.0
"""Of one tier: a Batch API answers within a day, and the next tier begins when it has."""
WORKERS = 4
"""GPUs, or machines, of the example."""
VOTE, DECISION, REPLY = 100, 250, 600
"""Bytes on disk of a vote, a decision, and a cached reply: `benchmarks.million`, and chat completions."""
MEMORY = (117, 170)
"""MB at the peak of `run`, for 100,000 and for 1,000,000 items: `benchmarks.million`."""
SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Way:
    """A way to judge all items; `usd` is None where a price is not set, `hours` where nobody can know it."""

    name: str
    command: str
    usd: float | None
    hours: float | None


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """What so many items cost: judges as the cascade asks them, the arithmetic, the ways; disk in bytes."""

    items: int
    each: tuple[Estimate, ...]
    sums: tuple[str, ...]
    ways: tuple[Way, ...]
    disk: int

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {"simulated": True, **asdict(self), "memory_mb": list(MEMORY)}

    def lines(self) -> list[str]:
        """For a terminal."""
        rows = [
            (
                way.name,
                "unknown" if way.usd is None else f"{way.usd:,.2f}",
                "to be timed" if way.hours is None else f"{way.hours:,.1f}",
                way.command,
            )
            for way in self.ways
        ]
        return [
            f"{self.items:,} items, from votes of simulated judges on up to {SAMPLE} of yours:",
            *self.sums,
            "",
            *table_lines(("way", "USD", "hours", "command"), rows, "<>><"),
            "",
            f"memory: {MEMORY[0]} MB at the peak of `run` on 100,000 items, {MEMORY[1]} MB on 1,000,000",
            f"disk:   about {self.disk / 1e9:,.1f} GB: items, votes, decisions, cached replies, report",
            "",
            "Judges work at the same time, and the slowest takes the hours; tiers of batches wait in turn.",
            "Shards and workers share the limits of an endpoint and its key.",
        ]


async def plan_items(config: Config, items: int) -> ScalePlan:
    """Estimate what `items` items like those of [data] cost, each way.

    Raises NotMeasurable with the claim "batch", whose run asks nobody; otherwise as `estimate_run` does.
    """
    live = await estimate_run(config, count=items)
    each = tuple(row for row in live.estimates if row.phase in ABOUT)
    if not each:
        raise NotMeasurable(
            "calibration judges the whole batch, and a run makes no model calls",
            "`trustescalate calibrate --dry-run`",
        )
    tables = {table.name: table for table in config.judges}
    usd, hours = _sum_usd(each), max(row.minutes / 60 for row in each)
    whole = None if any(row.calls and _is_here(tables[row.judge]) for row in each) else hours
    ways = [
        Way("one process", "run", usd, whole),
        Way(f"{WORKERS} shards", f"run --shard 1/{WORKERS}, …, merge", usd, whole),
        Way("a Ray cluster", "run --engine ray --address …", usd, whole),
    ]
    with suppress(ConfigError, UsageError):  # no judge has a Batch API
        batched = await estimate_run(config, batch=True, count=items)
        tiers = [row for row in batched.estimates if row.phase in ABOUT]
        waits = BATCH_HOURS * sum(bool(row.calls) for row in tiers)
        ways.append(Way("Batch API", "run --batch", _sum_usd(tiers), waits))
    sums = tuple(line for row in each for line in _sum(row, tables[row.judge]))
    return ScalePlan(items, each, sums, tuple(ways), _disk(config, each, items))


def _sum_usd(rows: Sequence[Estimate]) -> float | None:
    return None if any(row.usd is None and row.calls for row in rows) else sum(row.usd or 0.0 for row in rows)


def _is_here(table: JudgeTable) -> bool:
    """Whether a judge is a model in this process, whose speed depends on the machine."""
    free = isinstance(table, MockJudge | SimulatedJudge | EndpointTable)
    return isinstance(table, ModelTable | RewardJudge) and not free


def _disk(config: Config, each: Sequence[Estimate], items: int) -> int:
    sample = load_dataset(config).items[:SAMPLE]
    size = sum(len(encode(item)) for item in sample) / len(sample)
    calls = sum(row.calls for row in each)
    return int(items * 2 * (size + DECISION) + calls * (VOTE + REPLY))


def _sum(row: Estimate, table: JudgeTable) -> list[str]:
    """The arithmetic of one judge."""
    if not row.calls:
        return [f"  {row.judge}: {row.items:,} items, no call"]
    each = row.calls / max(1, row.items)
    read, written = row.input_tokens / row.calls, row.output_tokens / row.calls
    lines = [f"  {row.judge}: {row.items:,} items x {each:.1f} calls = {row.calls:,} calls"]
    price = "price unknown" if row.usd is None else f"USD {row.usd:,.2f}"
    lines.append(f"    {row.calls:,} calls x ({read:,.0f} input + {written:,.1f} output tokens): {price}")
    if _is_here(table):
        return [*lines, f"    hours: time it with `trustescalate judges test --judge {row.judge}`"]
    if isinstance(table, EndpointTable):
        seconds, at_once = LATENCY + written / SPEED, table.concurrency
        text = f"    {row.calls:,} calls x {seconds:.2f} s / {at_once:,} at once / 3,600"
        slower = row.minutes / 60 > 1.001 * row.calls * seconds / at_once / 3600
        lines.append(f"{text}{', or its limit per minute' if slower else ''}: {row.minutes / 60:,.1f} hours")
    return lines
