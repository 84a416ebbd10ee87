"""Record what the simulated judges say about every item of the demo set, in calibration_sets/demo/votes.

    python calibration_sets/record_votes.py

Full ensembles, so that any path, estimator or threshold can be tried on them at no cost.
"""

import asyncio
import gzip
from pathlib import Path

from trustescalate.calibration.prepare import select_rows
from trustescalate.cascade.runner import collect_judgments
from trustescalate.config import load_config
from trustescalate.data.dataset import load_dataset
from trustescalate.judges.exemplars import exemplars_of
from trustescalate.judges.registry import open_judges
from trustescalate.records import Judgment
from trustescalate.records.jsonl import encode, write_atomically

DEMO = Path(__file__).parent / "demo"


async def record(folder: Path) -> dict[str, bytes]:
    """The judgments of each judge on all items, in the order of the items, as gzipped JSON lines."""
    config = load_config(folder / "trustescalate.toml")
    data = load_dataset(config)
    exemplars = exemplars_of(config, data, select_rows(config, data).roles["exemplars"])
    judges, _ = open_judges(config, exemplars, wrap=lambda ask, *_: ask, notice=lambda _: None)
    judgments: list[Judgment] = []
    await collect_judgments(data.items, judges, collect=judgments.append, in_flight=16)
    place = {item.id: i for i, item in enumerate(data.items)}
    judgments.sort(key=lambda judgment: place[judgment.item_id])
    return {
        judge.name: gzip.compress(
            b"".join(encode(row) + b"\n" for row in judgments if row.judge == judge.name), mtime=0
        )
        for judge in judges
    }


if __name__ == "__main__":
    for name, rows in asyncio.run(record(DEMO)).items():
        write_atomically(DEMO / "votes" / f"{name}.jsonl.gz", rows)
