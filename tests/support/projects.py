"""A small project in the simulated world, what is done with it, and `Calls` to watch its judges."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from trustescalate.calibration.verify import verify
from trustescalate.config import BudgetTable
from trustescalate.judges.simulated import generate
from trustescalate.judges.simulated.backend import SimulatedBackend
from trustescalate.project import Project
from trustescalate.records import Certificate, Reply, Request, Run
from trustescalate.records.jsonl import encode, to_python
from trustescalate.report.document import build
from trustescalate.report.machine import render_json

LABELLED, UNLABELLED = 90, 40
HEAD = """\
version = 1

[guarantee]
alpha = {alpha}
delta = 0.2
pilot = {pilot}
{guarantee}
[ensemble]
annotators = 2
shots = 2
{ensemble}
[gate]
min_agreement = {min_agreement}
min_coverage = {min_coverage}
{gate}
{more}
"""


SETTINGS: Mapping[str, Any] = {
    "alpha": 0.3,
    "pilot": 20,
    "guarantee": 'path = "common"',
    "ensemble": "",
    "min_agreement": 0.7,
    "min_coverage": 0.3,
    "gate": "",
    "more": "",
}


def simulated(name: str, size: str, **more: str) -> str:
    """A judge of the simulated world, with a price."""
    price = {"XS": "{ input = 0.05, output = 0.05 }", "M": "{ input = 5.0, output = 15.0 }"}[size]
    fields = {"name": f'"{name}"', "backend": '"simulated"', "model": f'"{size}"', "price": price, **more}
    return "[[judges]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())


JUDGES = simulated("small", "XS") + simulated("large", "M")


def write_project(
    folder: Path,
    judges: str = JUDGES,
    *,
    labelled: int = LABELLED,
    unlabelled: int = UNLABELLED,
    change: Callable[[list[dict[str, Any]], list[dict[str, Any]]], None] = lambda items, notes: None,
    **settings: Any,
) -> Path:
    """A small project with sensible labels; `change` edits its rows. Gives the path of its configuration."""
    world = generate(3, labelled + unlabelled)
    items = [json.loads(encode(item)) for item in world.items]
    notes = [json.loads(encode(note)) for note in world.annotations(labelled, 3)]
    change(items, notes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("items.jsonl", items), ("annotations.jsonl", notes)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = folder / "trustescalate.toml"
    config.write_text(HEAD.format(**{**SETTINGS, **settings}) + judges, encoding="utf-8")
    return config


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one occurrence of a text in a file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (old, text)
    path.write_text(text.replace(old, new), encoding="utf-8")


def calibrate(config: Path, **budget: Any) -> Certificate:
    """Calibrate a project. Whatever is made follows from its own counts."""
    made = asyncio.run(Project.open(config).calibrate(BudgetTable(**budget) if budget else None))
    assert verify(made) == ()
    return made


def run(config: Path, **given: Any) -> Run:
    """Run a project."""
    return asyncio.run(Project.open(config).run(**given))


def shuffled(items: Sequence[Any], notes: list[dict[str, Any]]) -> None:
    """Give every label to a random row."""
    labels = [note["label"] for note in notes]
    random.Random(7).shuffle(labels)
    for note, label in zip(notes, labels, strict=True):
        note["label"] = label


class Calls:
    """Counts what simulated models are asked; `then` may answer in their place, or raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, Request]] = []
        self.then: Callable[[Request], Reply | None] = lambda request: None
        complete = SimulatedBackend.complete

        async def counted(backend: SimulatedBackend, request: Request) -> Reply:
            self.asked.append((backend.model, request))
            return self.then(request) or await complete(backend, request)

        monkeypatch.setattr(SimulatedBackend, "complete", counted)


def comparable(run: Run) -> dict[str, Any]:
    """Everything that a run's report says, save when it was made and how."""
    report = json.loads(render_json(build(run)))
    for section in report["sections"]:
        section["tables"] = [
            {
                **table,
                "rows": [row for row in table["rows"] if row["cells"][0]["text"] not in ("Run", "Started")],
            }
            for table in section["tables"]
        ]
        if section["slug"] == "provenance":
            del section["text"]  # the command of the run
    del report["facts"]  # with the id of the run
    return {
        "report": report,
        "decisions": to_python_all(run.decisions),
        "judgments": to_python_all(run.judgments),
    }


def to_python_all(records: Sequence[object]) -> list[Any]:
    return [to_python(record) for record in records]
