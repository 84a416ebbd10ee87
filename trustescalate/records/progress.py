"""Callbacks through which a command talks to the program that it runs in."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trustescalate.records import Certificate, Decision, Item


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is. `spent` and `calls` are what this process paid for, cache hits excluded.

    `failed` counts votes; `spent` is in USD, and so is `budget_usd`, its limit.
    """

    doing: str
    done: int
    total: int
    escalated: int = 0
    abstained: int = 0
    spent: float = 0.0
    calls: int = 0
    failed: int = 0
    budget_usd: float | None = None
    budget_calls: int | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller may watch or replace: notices, progress, the clock, the suffix of ids, functions.

    `decided` is called with each decision of a certified cascade when it is made; it must not raise.
    `functions` are called by judges with backend = "callable", by judge, in place of what their table names.
    `before_asking` is called before judges are opened; what it raises ends the work.
    """

    notice: Callable[[str], None] = field(default=lambda _: None)
    progress: Callable[[Progress], None] = field(default=lambda _: None)
    decided: Callable[["Item", "Decision", "Certificate"], None] | None = None
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    token: Callable[[], str] = field(default=lambda: secrets.token_hex(3))
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    before_asking: Callable[[], None] = field(default=lambda: None)

    def now(self) -> str:
        """The time in UTC, to the second.

        >>> Hooks(clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)).now()
        '2026-01-02T03:04:05Z'
        """
        return f"{self.clock():%Y-%m-%dT%H:%M:%SZ}"

    def new_id(self) -> str:
        """An id that sorts by time: the second, and a random suffix."""
        return f"{self.clock():%Y%m%dT%H%M%SZ}-{self.token()}"
