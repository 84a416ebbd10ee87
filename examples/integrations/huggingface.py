"""Certify a cascade on datasets, then judge the rows that have no label."""

import asyncio
import tomllib
from pathlib import Path

from datasets import load_dataset

from trustescalate import Project

items = load_dataset("json", data_files="items.jsonl", split="train")
labels = load_dataset("json", data_files="annotations.jsonl", split="train")
config = tomllib.loads(Path("trustescalate.toml").read_text("utf-8"))
project = Project.from_records(items, labels, config, folder=Path())
asyncio.run(project.calibrate())
run = asyncio.run(project.run())
released = sum(decision.label is not None for decision in run.decisions)
print(f"{released} of {len(run.decisions)} released, the others need human review")
