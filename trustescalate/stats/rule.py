"""Hold the rule of a test: everything that is decided about it before a label is read."""

from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray
from trustescalate.stats.control import Prefer, choose

P_co = TypeVar("P_co", covariant=True)
Q = TypeVar("Q")


@dataclass(frozen=True, slots=True)
class TestRule(Generic[P_co]):
    """Risk level `alpha`, failure probability `delta`, the `path` of policies, and how they are tested.

    `path` is a name in a protocol, and policies (t, m), a `paths.Plan` or "tierwise" in a test. `procedure`
    is one of `control.PROCEDURES`; `prefer` and `abstention_price` (USD) are those of `control.choose`.

    >>> TestRule(0.1, 0.05, "common").along("pooled").path
    'pooled'
    """

    __test__: ClassVar[bool] = False  # pytest collects classes of this name
    alpha: float
    delta: float
    path: P_co
    procedure: str = "fallback"
    prefer: Prefer = "coverage"
    abstention_price: float | None = None

    def along(self, path: Q) -> "TestRule[Q]":
        """The same rule on another path."""
        return TestRule(self.alpha, self.delta, path, self.procedure, self.prefer, self.abstention_price)

    def choose(self, rejected: BoolArray, accepted: IntArray, cost: FloatArray, n: int) -> int | None:
        """The policy that is used (`control.choose`), of those that are rejected, counted on n rows."""
        return choose(rejected, accepted, cost, self.prefer, n=n, abstention_price=self.abstention_price)
