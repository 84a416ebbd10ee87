"""Decide how many requests may be open at an endpoint, and when the next one may start.

A `Lane` is the concurrency limit of an endpoint and key. It adapts to rate-limit errors and is shared, in
turns, by all judges there. A `Pace` is the limit of one judge per minute. This module opens no connection and
reads no header; its caller reports the outcomes of requests.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

MINUTE = 60.0
SLACK = 0.05
"""Seconds' worth of requests that may start together, the resolution of timers."""


class Bucket:
    """Spread a limit per minute evenly: no minute ever exceeds it.

    Amounts are whole numbers, none above half the limit; a larger one is let through after its wait, and may
    break the limit by itself.

    >>> bucket = Bucket(60)
    >>> bucket.take(0.0, 1)
    >>> bucket.wait(0.0, 1)
    1.0
    """

    def __init__(self, per_minute: float) -> None:
        self._limit = per_minute
        self._slack = SLACK if per_minute * SLACK >= MINUTE else 0.0
        self._largest = 1
        self._next = -math.inf

    def wait(self, now: float, amount: int) -> float:
        """Seconds until this amount may be taken."""
        unforeseen = max(0, amount - self._largest)
        return max(0.0, self._next + unforeseen * self._seconds - self._slack - now)

    def take(self, now: float, amount: int) -> None:
        """Spend an amount now."""
        self._largest = max(self._largest, amount)
        self._next = max(now, self._next) + amount * self._seconds

    def settle(self, taken: int, used: int) -> None:
        """Replace what was taken on a guess by what was used."""
        self._next += (used - taken) * self._seconds

    @property
    def _seconds(self) -> float:
        """Seconds per unit, with room for the largest amount at the end of its minute."""
        return (MINUTE + self._slack) / max(self._limit - self._largest + 1, self._limit / 2)


class Pace:
    """The limits of one judge: requests and tokens per minute, and pauses."""

    def __init__(
        self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute)
        self._paused_until = -math.inf

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a request of so many tokens may start."""
        wait = max(0.0, self._paused_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now, 1))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now, tokens))
        return wait

    def take(self, now: float, tokens: int) -> None:
        """One request starts."""
        if self._requests is not None:
            self._requests.take(now, 1)
        if self._tokens is not None:
            self._tokens.take(now, tokens)

    def settle(self, tokens: int, used: int) -> None:
        """A request that was taken for `tokens` has used so many."""
        if self._tokens is not None:
            self._tokens.settle(tokens, used)

    def pause(self, until: float) -> None:
        """Let nothing start before a moment."""
        self._paused_until = max(self._paused_until, until)


class Lane:
    """The concurrency limit of one endpoint and key, shared by its judges.

    Starts at its ceiling, the largest `concurrency` of its judges. Once per window (as many ended requests as
    may be open, all begun after the last change) the limit moves: up by a thirty-second of the ceiling times
    the share served, down by half times the share of rate-limit errors (Chiu and Jain 1989; the proportion
    after DCTCP, RFC 8257). So errors in one burst count once, and a few random ones leave no server idle.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = 0.0
        self._ceiling = 0
        self._open = 0
        self._window = self._ended = self._refused = 0
        self._judges: deque[Turns] = deque()
        self._clock = clock
        self._alarm: asyncio.TimerHandle | None = None

    def join(self, concurrency: int, pace: Pace) -> "Turns":
        """A judge's place in this lane."""
        turns = Turns(self, concurrency, pace)
        self._judges.append(turns)
        self._ceiling = max(self._ceiling, concurrency)
        self.limit = float(self._ceiling)
        return turns

    def _deal(self) -> None:
        """Start requests of the judges in turn, and schedule the next start."""
        now, idle, soonest = self._clock(), 0, math.inf
        while self._open < int(self.limit) and idle < len(self._judges):
            judge = self._judges[0]
            self._judges.rotate(-1)
            wait = judge._wait(now)
            if wait > 0:
                idle, soonest = idle + 1, min(soonest, wait)
                continue
            idle = 0
            self._open += 1
            judge._admit(now)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._open < int(self.limit) and soonest < math.inf:
            self._alarm = asyncio.get_running_loop().call_later(soonest, self._deal)

    def _close(self, window: int, crowded: bool | None) -> None:
        self._open -= 1
        if crowded is not None and window == self._window:
            self._ended += 1
            self._refused += crowded
            if self._ended >= int(self.limit):
                self._adapt(self._refused / self._ended)
        self._deal()

    def _adapt(self, refused: float) -> None:
        step = max(1.0, self._ceiling / 32)
        moved = self.limit * (1 - refused / 2) + step * (1 - refused)
        self.limit = min(max(moved, 1.0), float(self._ceiling))
        self._window, self._ended, self._refused = self._window + 1, 0, 0


class Turns:
    """One judge's place in a lane: its queue, its own limits, and never more than its own `concurrency`."""

    def __init__(self, lane: Lane, concurrency: int, pace: Pace) -> None:
        self._lane, self._most, self._pace = lane, concurrency, pace
        self._open = 0
        self._queue: deque[tuple[asyncio.Future[int], int]] = deque()

    async def start(self, tokens: int, *, first: bool = False) -> int:
        """Wait until a request of about so many tokens may start; return a ticket for `end`.

        `first` puts it before all queued ones.
        """
        place: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if first else self._queue.append)((place, tokens))
        self._lane._deal()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.end(place.result(), None)
            raise

    def end(self, ticket: int, crowded: bool | None) -> None:
        """End a request: rate-limited (True), served (False), or neither (None)."""
        self._open -= 1
        self._lane._close(ticket, crowded)

    def settle(self, tokens: int, used: int) -> None:
        """A request that was started for `tokens` has used so many."""
        self._pace.settle(tokens, used)

    def pause(self, seconds: float) -> None:
        """Start nothing of this judge for so long."""
        self._pace.pause(self._lane._clock() + seconds)

    def _wait(self, now: float) -> float:
        """Seconds until the first in the queue may start; infinite where time alone changes nothing."""
        while self._queue and self._queue[0][0].done():
            self._queue.popleft()
        if not self._queue or self._open >= self._most:
            return math.inf
        return self._pace.wait(now, self._queue[0][1])

    def _admit(self, now: float) -> None:
        place, tokens = self._queue.popleft()
        self._open += 1
        self._pace.take(now, tokens)
        place.set_result(self._lane._window)


class Lanes:
    """The lanes of all endpoints, each with each key."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], Lane] = {}

    def lane(self, endpoint: str, key: str) -> Lane:
        """The lane of an endpoint and a key."""
        return self._lanes.setdefault((endpoint, key), Lane())
