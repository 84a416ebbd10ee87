"""Set a budget aside before each call, so that it is never exceeded."""

from trustescalate.errors import BudgetReached


class Budget:
    """What may still be spent: set aside before a call, settled after it, so it is never exceeded."""

    def __init__(self, usd: float | None = None, calls: int | None = None) -> None:
        self._usd = usd
        self._calls = calls
        self._reserved = 0.0
        self.spent = 0.0
        self.calls = 0

    def reserve(self, cost: float) -> None:
        """Set aside one call of at most this cost, or raise BudgetReached."""
        if self._calls is not None and self.calls + 1 > self._calls:
            raise BudgetReached(f"the budget of {self._calls} calls is used up", "resume with a larger one")
        if self._usd is not None and self.spent + self._reserved + cost > self._usd:
            raise BudgetReached(
                f"the budget of {self._usd:g} USD cannot pay the next call (spent {self.spent:.4f})",
                "resume with a larger one",
            )
        self.calls += 1
        self._reserved += cost

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside by what was billed."""
        self._reserved -= reserved
        self.spent += cost
