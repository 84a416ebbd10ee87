"""Show progress: a live panel on a terminal, plain lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from trustescalate.records.progress import Progress

EVERY = 10.0
"""Seconds between two plain lines of a phase."""
WINDOW = 60.0
"""Seconds over which the rate of a phase is measured."""
SHORTEST = 1.0
"""Seconds that a measurement of the rate lasts at least."""
BAR, BAR_ASCII = "━─", "#-"
LONGEST = len("about 23 h 45 min left")
Show = Callable[[Progress], None]
Clock = Callable[[], float]


class Pace:
    """The rate of the last minute. Answers from the cache do not count once there are paid calls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._measured: deque[tuple[float, float, int]] = deque()  # end, seconds, items
        self._began: tuple[float, int, int] | None = None  # time, items, calls

    def see(self, state: Progress) -> None:
        """Take in how far the work is."""
        now = self._clock()
        if self._began is None:
            self._began = now, state.done, state.calls
            return
        since, done, calls = self._began
        if now - since < SHORTEST:
            return
        if state.calls and not calls:
            self._measured.clear()
        elif state.calls > calls or not state.calls:
            self._measured.append((now, now - since, state.done - done))
        self._began = now, state.done, state.calls

    def rate(self) -> float | None:
        """Items a second; None where nothing was done in the last minute."""
        now = self._clock()
        while self._measured and self._measured[0][0] < now - WINDOW:
            self._measured.popleft()
        waiting = max(now - self._measured[-1][0] - EVERY, 0.0) if self._measured else 0.0
        seconds = sum(length for _, length, _ in self._measured) + waiting
        done = sum(items for _, _, items in self._measured)
        return done / seconds if done and seconds >= SHORTEST else None


def rate_text(rate: float | None) -> str:
    """Name a rate in items a second, or a minute where it is below one.

    >>> rate_text(12.34), rate_text(0.25), rate_text(None)
    ('12 items/s', '15 items/min', '')
    """
    if rate is None:
        return ""
    return f"{rate:,.0f} items/s" if rate >= 1 else f"{max(rate * 60, 1):,.0f} items/min"


def left_text(seconds: float | None) -> str:
    """Name the time that is left, rounded as an estimate is.

    >>> [left_text(seconds).removeprefix("about ") for seconds in (3, 42, 200, 8000, 400_000)]
    ['5 s left', '40 s left', '3 min left', '2 h 15 min left', '5 days left']
    """
    if seconds is None:
        return ""
    if seconds < 57.5:
        return f"about {max(round(seconds / 5) * 5, 5)} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min left"
    hours, rest = divmod(round(minutes / 15) * 15, 60)
    if hours < 48:
        return f"about {hours} h {rest} min left" if rest else f"about {hours} h left"
    return f"about {round(hours / 24)} days left"


def duration(seconds: float) -> str:
    """Name a time that passed.

    >>> duration(8.4), duration(75), duration(7380)
    ('8 s', '1 min 15 s', '2 h 3 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def counts(state: Progress, votes: str = " votes") -> list[str]:
    """The counts of a phase, the most important first; calls, which `Phase.panel` shows last, at the end.

    >>> counts(Progress("judging", 120, 300, 40, 9, 0.0312, 2400, failed=3, budget_usd=5.0))
    ['3 failed votes', 'USD 0.0312 of 5.00', '40 escalated', '9 abstained', '2,400 calls']
    """
    if state.doing == "importing":
        return []
    parts = [f"{state.failed:,} failed{votes[: -1 if state.failed == 1 else None]}"]
    limit = "" if state.budget_usd is None else f" of {_amount(state.budget_usd)}"
    parts += [f"USD {_amount(state.spent)}{limit}"] if state.spent or limit else []
    if state.doing == "judging":
        parts += [f"{state.escalated:,} escalated", f"{state.abstained:,} abstained"]
    limit = "" if state.budget_calls is None else f" of {state.budget_calls:,}"
    return [*parts, f"{state.calls:,}{limit} calls"]


def _amount(usd: float) -> str:
    return f"{usd:,.2f}" if usd >= 1 else f"{usd:.4f}"


class Phase:
    """One phase of the work: its last state, since when it runs, and its pace."""

    def __init__(self, state: Progress, clock: Clock) -> None:
        self.state, self.clock, self.began, self.pace = state, clock, clock(), Pace(clock)
        self.printed_at, self.printed = self.began, -1

    def see(self, state: Progress) -> None:
        """Take in how far the phase is."""
        self.state = state
        self.pace.see(state)

    @property
    def left(self) -> float | None:
        """Seconds that are left at the rate of the last minute."""
        rate, todo = self.pace.rate(), self.state.total - self.state.done
        return todo / rate if rate and todo > 0 else None

    def line(self, *, ended: bool = False) -> str:
        """The whole state on one line."""
        state = self.state
        done = f"{state.doing}: {state.done:,} of {state.total:,}"
        if ended:
            return ", ".join([f"{done} in {duration(self.clock() - self.began)}", *counts(state)])
        parts = [done, *counts(state), rate_text(self.pace.rate()), left_text(self.left)]
        return ", ".join(filter(None, parts))

    def panel(self, width: int, bar: str = BAR) -> Group:
        """Two lines that fit the width: bar and time left; counts, as many as have room."""
        state, full, empty = self.state, bar[0], bar[1]
        most = f"{state.total:,} of {state.total:,}"
        done = f"{state.done:,} of {state.total:,}".rjust(len(most))
        end = left_text(self.left) or duration(self.clock() - self.began)
        room = min(width - len(state.doing) - len(done) - LONGEST - 8, width // 2)
        first = Text(f"  {state.doing}  ")
        if room >= 5:
            filled = min(room, room * state.done // max(state.total, 1))
            first.append(full * filled, style="cyan").append(empty * (room - filled), style="dim").append(
                "  "
            )
        first.append(f"{done}  {end}")
        second = ""
        *parts, calls = counts(state, votes="") or [""]
        for part in (*parts, rate_text(self.pace.rate()), calls):
            longer = f"{second}, {part}" if second else f"  {part}"
            if part and len(longer) <= width:
                second = longer
        first.truncate(width, overflow="ellipsis")
        return Group(first, second)


@contextmanager
def panel(console: Console, clock: Clock = time.monotonic) -> Iterator[Show]:
    """Show a live panel, and a line for each phase that ends; it starts late: a question may come first."""
    current: list[Phase] = []
    live: Live | None = None
    bar = BAR if console.encoding.startswith("utf") else BAR_ASCII

    def shown() -> Group:
        return current[-1].panel(console.width - 1, bar) if current else Group()

    def end_phase() -> None:
        nonlocal live
        if live is not None:
            live.stop()
            live = None
        if current:
            console.print(current.pop().line(ended=True), markup=False, highlight=False, soft_wrap=True)

    def show(state: Progress) -> None:
        nonlocal live
        if current and current[-1].state.doing != state.doing:
            end_phase()
        if not current:
            current.append(Phase(state, clock))
        current[-1].see(state)
        if live is None:
            live = Live(
                get_renderable=shown,
                console=console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
            )
            live.start()

    try:
        yield show
    finally:
        end_phase()


@contextmanager
def lines(say: Callable[[str], None], clock: Clock = time.monotonic) -> Iterator[Show]:
    """Print a line every ten seconds, and one for each phase that ends."""
    current: list[Phase] = []

    def end_phase() -> None:
        if current:
            say(current.pop().line(ended=True))

    def show(state: Progress) -> None:
        if current and current[-1].state.doing != state.doing:
            end_phase()
        if not current:
            current.append(Phase(state, clock))
        phase = current[-1]
        phase.see(state)
        if clock() - phase.printed_at >= EVERY and state.done < state.total:
            phase.printed_at = clock()
            say(phase.line())

    try:
        yield show
    finally:
        end_phase()
