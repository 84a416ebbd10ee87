"""Two runs over the same items, in worlds whose truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.support.runs import world
from trustescalate.analysis.comparison import compare
from trustescalate.analysis.comparison_change import Compared, Sides
from trustescalate.analysis.comparison_section import Comparison
from trustescalate.analysis.matched_pairs import matched_pairs
from trustescalate.config import Config, parse_config
from trustescalate.data.dataset import Dataset
from trustescalate.records import Annotation, Run

BETTER = 0.1
BASE = world(0, items=400)[0]


def systems(seed: int, *, labels: int = 200, better: float = BETTER, picked: bool = False) -> tuple[Run, Run]:
    """Two systems on the same prompts, the second better; easy prompts are easy for both."""
    rng = np.random.default_rng(seed)
    base = BASE
    easy = rng.random(400)
    runs, wins = [], []
    for k in (0, 1):
        won = rng.random(400) < 0.2 + 0.5 * easy + k * better
        share = np.clip(0.2 + 0.5 * won + 0.15 * k + 0.15 * rng.normal(size=400), 0.01, 0.99)
        items = tuple(replace(item, responses=(f"{k} {item.id}", "b")) for item in base.items)
        judgments = tuple(
            replace(row, votes=tuple(replace(v, probs={"A": share[n], "B": 1 - share[n]}) for v in row.votes))
            for row in base.judgments
            for n in [int(row.item_id[1:])]
        )
        steps = [replace(base.decisions[n].trail[0], score=max(share[n], 1 - share[n])) for n in range(400)]
        decisions = tuple(
            replace(row, label="A" if share[n] > 0.5 else "B", trail=(steps[n],))
            if steps[n].score > 0.7
            else replace(row, label=None, trail=(steps[n],))
            for n, row in enumerate(base.decisions)
        )
        runs.append(replace(base, items=items, judgments=judgments, decisions=decisions))
        wins.append(won)
    order = np.argsort([row.label is not None for row in runs[0].decisions], kind="stable")
    drawn = order[:labels] if picked else rng.choice(400, labels, replace=False)
    ids = [item.id for item in base.items]
    told = [tuple(Annotation(ids[n], "x", "A" if won[n] else "B") for n in drawn) for won in wins]
    return replace(runs[0], annotations=told[0]), replace(runs[1], annotations=told[1])


def judges() -> tuple[Run, Run]:
    """The same texts: the second judge releases everything, and is right where the first is or is silent."""
    first = systems(3)[0]
    flip = {"A": "B", "B": "A", None: None}
    worse = [row if n % 4 else replace(row, label=flip[row.label]) for n, row in enumerate(first.decisions)]
    first = replace(first, decisions=tuple(worse))
    truth = {note.item_id: note.label for note in first.annotations}
    decisions = tuple(replace(row, label=truth.get(row.item_id, "A"), score=0.9) for row in first.decisions)
    return first, replace(first, decisions=decisions)


CONFIG = parse_config({"version": 1, "judges": [{"name": "small", "backend": "mock"}]}, Path("t.toml"))


def sides_of(first: Run, second: Run, config: Config = CONFIG) -> Sides:
    """Each run with its own items and annotations as the data of its project."""
    one, other = (Compared(config, run, Dataset(run.items, run.annotations)) for run in (first, second))
    return one, other


def compared(first: Run, second: Run, by: str | None = None) -> Comparison:
    """The comparison of two runs by their own labels."""
    return compare(sides_of(first, second), matched_pairs(first, second, by))
