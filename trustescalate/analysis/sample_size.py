"""Compute how many labels a certificate needs."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trustescalate.records import Item
from trustescalate.stats.planning import coverage_ceiling, label_floor, labels_needed, max_errors, power

GUESSED_THRESHOLD = 0.8


def guessed_plan(item: Item | None, labels: set[str]) -> dict[str, Any]:
    if item is not None and len(item.responses) == 2:
        return {"kind": "pairwise"}
    if labels <= {"pass", "fail"}:
        return {"kind": "binary"}
    if all(label.isdecimal() and len(label) < 3 for label in labels) and len(labels) > 1:
        return {"kind": "rating", "scale": [min(map(int, labels)), max(map(int, labels))]}
    return {"kind": "choice", "labels": sorted(labels)}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many certification rows a promise needs. None: no number would do."""

    alpha: float
    delta: float
    disagreement: float
    coverage: float
    floor: int
    needed: int | None
    ceiling: float | None
    rows: tuple[int, ...]
    allowed: tuple[int, ...]
    power: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        needed = "no number of labels up to ten million would do"
        if self.needed is not None:
            needed = f"label about {self.needed:,} rows (power 0.8)"
        said = [
            f"To promise at most {self.alpha:g} disagreement with probability {1 - self.delta:g}:",
            f"  fewer than {self.floor} released certification rows can never do it",
            f"  with {self.disagreement:g} disagreement and {self.coverage:g} released: {needed}",
        ]
        if self.ceiling is not None:
            said.append(f"  no method of any kind can release more than {self.ceiling:.1%} of the items")
        said.append(f"  {'rows':>8} {'errors allowed':>16} {'power':>8}")
        for rows, allowed, chance in zip(self.rows, self.allowed, self.power, strict=True):
            said.append(f"  {rows:>8,} {allowed if allowed >= 0 else '—':>16} {chance:>8.2f}")
        return said


def plan_labels(
    alpha: float, delta: float, disagreement: float, coverage: float, overall: float | None
) -> Plan:
    """Labels that a certificate takes, from guesses: disagreement among released verdicts, share released.

    Raises ValueError when a guess is not a share, or nothing is released. One test at delta; a path of tests
    costs a little more.

    >>> plan_labels(0.15, 0.1, 0.08, 0.7, None).needed
    166
    """
    if not (0 <= disagreement <= 1 and 0 < coverage <= 1):
        raise ValueError(f"disagreement and coverage must be shares, not {disagreement} and {coverage}")
    accepted = labels_needed(disagreement, alpha, delta)
    rows = np.array([50, 100, 200, 300, 500, 1_000, 2_000])
    released = (rows * coverage).astype(np.int64)
    return Plan(
        alpha,
        delta,
        disagreement,
        coverage,
        label_floor(alpha, delta),
        None if accepted is None else int(np.ceil(accepted / coverage)),
        None if overall is None else coverage_ceiling(overall, alpha),
        tuple(map(int, rows)),
        tuple(map(int, max_errors(released, alpha, delta))),
        tuple(map(float, power(released, disagreement, alpha, delta))),
    )
