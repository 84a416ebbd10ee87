"""Votes and labels of worlds just above alpha, for the validity tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.certificates import protocol_of
from trustescalate.calibration.protocol import Protocol
from trustescalate.records import Judgment, Task, TaskKind, Vote

ALPHA, DELTA = 0.2, 0.1
ABOVE = 1.01 * ALPHA
PAIR = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
LEVELS = (0.55, 0.65, 0.75, 0.85, 0.95)


def said(label: str, other: str) -> tuple[Judgment, ...]:
    """What a judge says that is for `label`, at five levels of confidence."""
    return tuple(
        Judgment("any", "j", "print", (Vote(0, "AB", {label: level, other: 1 - level}),), 1)
        for level in LEVELS
    )


FOR_A, FOR_3 = said("A", "B"), said("3", "1")


def protocol(ids: Sequence[str], task: Task, **more: Any) -> Protocol:
    given: dict[str, Any] = {
        "task": task, "alpha": ALPHA, "delta": DELTA, "claim": "population", "path": "common",
        "estimator": "ensemble", "judges": (("j", "print"),), "grouped": False, "seed": 0, "version": "0",
        "roles": {"exemplars": (), "dev": (), "holdout": (), "certify": tuple(ids), "pilot": ()},
    }  # fmt: skip
    return protocol_of({**given, **more})


def ids(n: int) -> list[str]:
    return [f"i{place:04}" for place in range(n)]


def heard(rng: np.random.Generator, n: int = 100, people: int = 3) -> dict[str, list[str]]:
    """Everybody disagrees with every verdict with a probability just above alpha."""
    wrong = rng.random((n, people)) < ABOVE
    return {item: ["B" if no else "A" for no in row] for item, row in zip(ids(n), wrong, strict=True)}


MANY = tuple(range(30, 250, 10))
