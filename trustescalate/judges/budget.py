"""Set a budget aside for what is in flight, and stop asking when nothing more may be spent."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

from trustescalate.errors import BudgetReached, TrustEscalateError
from trustescalate.records import Usage
from trustescalate.records.progress import Progress

FIRST_OUTPUT = 256
"""Tokens of output that a judge is taken to write before it was seen to."""
FIRST_BYTES = 3.0
"""Bytes a token of input, before any was counted."""


class Budget:
    """What may still be spent: the estimated cost of a call is set aside while it is in flight.

    A call that the rest cannot pay waits for those in flight, whose bills may leave enough. So spending
    passes the budget by no more than the calls in flight cost above their estimates. After `stop` every
    further call raises that error.
    """

    def __init__(self, usd: float | None = None, calls: int | None = None) -> None:
        self._usd = usd
        self._most_calls = calls
        self._reserved = 0.0
        self._in_flight = 0
        self._stopped: TrustEscalateError | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.spent = 0.0
        self.calls = 0

    def progress(
        self, doing: str, done: int, total: int, *, failed: int = 0, escalated: int = 0, abstained: int = 0
    ) -> Progress:
        """How far the work is, with what was spent."""
        return Progress(
            doing,
            done,
            total,
            escalated,
            abstained,
            self.spent,
            self.calls,
            failed,
            self._usd,
            self._most_calls,
        )

    def stop(self, error: TrustEscalateError) -> None:
        """Let no further call begin: each raises this error."""
        self._stopped = self._stopped or error
        self._wake()

    def must_go_on(self) -> None:
        """Raise what `stop` was given."""
        if self._stopped is not None:
            raise self._stopped

    def begin(self, cost: float, *, waits: bool = True) -> bool:
        """Set aside one call of about this cost; False where what is in flight may leave enough for it.

        Raises BudgetReached where nothing may, or the call cannot wait, and what `stop` was given.
        """
        self.must_go_on()
        if self._most_calls is not None and self.calls + 1 > self._most_calls:
            raise BudgetReached(f"the budget of {self._most_calls} calls is used up", "give a larger one")
        if self._usd is not None and self.spent + self._reserved + cost > self._usd:
            if self._in_flight and waits:
                return False
            raise BudgetReached(
                f"the budget of {self._usd:g} USD cannot pay the next call (spent {self.spent:.4f})",
                "give a larger one",
            )
        self.calls += 1
        self._in_flight += 1
        self._reserved += cost
        return True

    async def freed(self) -> None:
        """Wait until a call in flight has ended."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ended)
        await ended

    def settle(self, reserved: float, cost: float) -> None:
        """Replace what was set aside for a call by what was billed."""
        self._in_flight -= 1
        self._reserved = self._reserved - reserved if self._in_flight else 0.0
        self.spent += cost
        self._wake()

    def bill(self, cost: float) -> None:
        """Count what was set aside by an earlier command."""
        self.spent += cost

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ended in waiting:
            if not ended.done():
                ended.set_result(None)


class Spending:
    """What the calls of one judge are estimated to use, learnt from those that were answered.

    Input is counted by length, at the most tokens a byte so far; output is the most so far.

    >>> spending = Spending()
    >>> spending.expected(3000, 4000).input_tokens, spending.expected(3000, 4000).output_tokens
    (1000, 256)
    >>> spending.learn(3000, Usage(1, 750, 0, 600))
    >>> spending.expected(3000, 4000).input_tokens, spending.expected(3000, 4000).output_tokens
    (750, 600)
    """

    def __init__(self) -> None:
        self._share, self._output = 0.0, 0

    def expected(self, size: int, max_tokens: int) -> Usage:
        """The usage of a request of so many bytes, with this limit of output tokens."""
        share = self._share or 1 / FIRST_BYTES
        output = self._output or min(max_tokens, FIRST_OUTPUT)
        return Usage(calls=1, input_tokens=round(size * share), output_tokens=output)

    def learn(self, size: int, usage: Usage) -> None:
        """Take in what a request of so many bytes used."""
        self._share = max(self._share, usage.input_tokens / max(size, 1))
        self._output = max(self._output, usage.output_tokens)


class Admission:
    """One call's part of a budget, set aside when it is sent and not while it waits for a slot."""

    def __init__(self, budget: Budget, estimate: Callable[[], float]) -> None:
        self._budget, self._estimate = budget, estimate
        self._reserved: float | None = None

    def begin(self) -> bool:
        """Set the estimate aside, once; see `Budget.begin`. Raises what stops all calls, also later."""
        self._budget.must_go_on()
        if self._reserved is None:
            cost = self._estimate()
            if self._budget.begin(cost):
                self._reserved = cost
        return self._reserved is not None

    async def freed(self) -> None:
        """Wait until another call has ended."""
        await self._budget.freed()

    def end(self, cost: float) -> None:
        """Replace what was set aside by what was billed."""
        if self._reserved is not None:
            self._budget.settle(self._reserved, cost)


admission: ContextVar[Admission | None] = ContextVar("admission", default=None)
"""The admission of the call under way; a backend with slots begins it when the call has one."""
