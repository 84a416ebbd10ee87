"""A project with a certified judge, and candidates whose responses it judges in runs of their own."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trustescalate.config import GateTable
from trustescalate.judges.replay import ReplayJudge
from trustescalate.project import Project
from trustescalate.records import Annotation, Item, Run
from trustescalate.records.jsonl import write_rows

OLD = 150
TASK: Mapping[str, Any] = {"kind": "binary", "question": "Is the response right?"}


class Products:
    """Old labelled rows, and systems named "a", "b", …, of which each answers the same `size` questions.

    Item "a7" is the response of system a to question 7, of kind "x" or "y". `good` is the truth of each item.
    Of the first system `labelled` responses have labels too. A judge is right on a share of all items, and
    sure of itself on a share of them.
    """

    def __init__(
        self,
        folder: Path,
        systems: Mapping[str, float],
        *,
        size: int = 400,
        right: float = 0.97,
        sure: float = 1.0,
        old: float = 0.5,
        same: float = 0.0,
        group: int = 1,
        labelled: int = 0,
        gate: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        rng = np.random.default_rng(7)
        self.folder = folder
        self.good: dict[str, bool] = {}
        self.runs: dict[str, str] = {}
        votes: dict[str, Mapping[str, float]] = {}
        luck, shared = rng.random(size), rng.random(size) < same

        def add(item_id: str, good: bool) -> None:
            self.good[item_id] = good
            label = "pass" if good == (rng.random() < right) else "fail"
            share = 0.9 if rng.random() < sure else 0.6
            votes[item_id] = {label: share, "fail" if label == "pass" else "pass": round(1 - share, 6)}

        self.olds = [Item(f"old{k}", f"Old {k}?", (f"old {k}",)) for k in range(OLD)]
        for item in self.olds:
            add(item.id, bool(rng.random() < old))
        self.items: dict[str, list[Item]] = {}
        first = next(iter(systems))
        for name, rate in systems.items():
            rows = []
            for k in range(size):
                source = first if shared[k] else name
                meta = {"q": str(k), "kind": "xy"[k % 2]}
                cluster = f"g{k // group}" if group > 1 else None
                rows.append(Item(f"{name}{k}", f"Question {k}?", (f"{source} {k}",), None, cluster, meta))
                if source == name:
                    add(f"{name}{k}", bool(luck[k] < rate))
                else:
                    self.good[f"{name}{k}"], votes[f"{name}{k}"] = (
                        self.good[f"{first}{k}"],
                        votes[f"{first}{k}"],
                    )
            self.items[name] = rows
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(folder / f"{name}.jsonl", rows)
        self.notes = [Annotation(item.id, "ann", self.label(item.id)) for item in self.olds]
        self.notes += [
            Annotation(item.id, "ann", self.label(item.id)) for item in self.items[first][:labelled]
        ]
        config: dict[str, Any] = {"task": dict(TASK), "ensemble": {"annotators": 1, "shots": 0}}
        config.update({"gate": dict(gate or {}), **(more or {})})
        everything = [*self.olds, *(item for rows in self.items.values() for item in rows)]
        judge = ReplayJudge.from_labels(votes, name="judge")
        self.project = Project.from_records(everything, self.notes, config, judges=[judge], folder=folder)

    def label(self, item_id: str) -> str:
        """The label that people give an item."""
        return "pass" if self.good[item_id] else "fail"

    def calibrate(self) -> str:
        """Calibrate on the old rows; give the status."""
        return asyncio.run(self.project.calibrate()).status

    def run(self, name: str, **keys: Any) -> str:
        """Judge the responses of one system; give the id of the run."""
        return asyncio.run(self.project.run(items=self.folder / f"{name}.jsonl", **keys)).header.id

    def annotate(self, ids: Sequence[str], purpose: str = "sample") -> None:
        """Let people label these items too."""
        self.notes += [Annotation(each, "ann", self.label(each), purpose=purpose) for each in ids]  # type: ignore[arg-type]
        write_rows(self.folder / "annotations.jsonl", self.notes)

    def set_gate(self, **keys: Any) -> None:
        """Replace [gate]; items of a baseline match by their question."""
        table = GateTable(**{**({"match": "meta.q"} if "baseline" in keys else {}), **keys})
        self.project = replace(self.project, config=self.project.config.model_copy(update={"gate": table}))

    def toml(self) -> str:
        """The configuration as a file."""
        return (
            'version = 1\n[task]\nkind = "binary"\nquestion = "Is the response right?"\n'
            "[ensemble]\nannotators = 1\nshots = 0\n"
            '[[judges]]\nname = "judge"\nbackend = "replay"\nvotes = "votes-1.jsonl"\n'
        )

    def load(self, run_id: str) -> Run:
        """Load a run with its estimates."""
        return self.project.load_run(run_id)

    def truth(self, name: str) -> float:
        """The share of a system's responses that are good."""
        return float(np.mean([self.good[item.id] for item in self.items[name]]))
