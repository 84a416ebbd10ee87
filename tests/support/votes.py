"""Votes by hand, and ensembles that hypothesis draws."""

import math
from typing import Any

from hypothesis import strategies as st

from trustescalate.records import Judgment, Task, TaskKind, Vote

TASK = Task(TaskKind.PAIRWISE, "?", ("A", "B", "tie"))
FAILED: Any = None


def vote(member: int, probs: dict[str, float] | None) -> Vote:
    return Vote(member, "AB", probs or {}, failure=None if probs else "timeout")


def judged(*votes: Vote, planned: int | None = None, item: str = "x") -> Judgment:
    return Judgment(item, "j", "f", votes, planned or len(votes))


GRID = [0.0, 0.125, 0.25, 0.5, 0.75, 1.0]


@st.composite
def ballots(draw: st.DrawFn) -> tuple[Task, list[list[Vote]]]:
    """A task and an ensemble, wave by wave: exact fractions that tie often, or anything; failures."""
    labels = draw(st.sampled_from([("A", "B"), ("A", "B", "tie")]))
    number = st.sampled_from(GRID) if draw(st.booleans()) else st.floats(0, 1)
    members, orders = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    waves = []
    for member in range(members):
        wave = []
        for _ in range(orders):
            weights = draw(st.none() | st.lists(number, min_size=len(labels), max_size=len(labels)))
            total = math.fsum(weights or ())
            if not weights or total == 0 or not draw(st.integers(0, 9)):
                wave.append(vote(member, FAILED))
            else:
                mass = draw(st.sampled_from([1.0, 0.9, 0.51]))
                probs = {label: w / total * mass for label, w in zip(labels, weights, strict=True)}
                wave.append(vote(member, probs))
        waves.append(wave)
    return Task(TaskKind.PAIRWISE, "?", labels), waves
