"""Report how far a command is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is. `spent` and `calls` are what this process paid for, cache hits excluded."""

    doing: str
    done: int
    total: int
    escalated: int
    abstained: int
    spent: float
    calls: int
