"""Decide how many requests may be open at an endpoint, when the next one may start, and at which address.

A `Lane` is the concurrency limit of an address and key. It adapts to rate-limit errors and is shared, in
turns, by all judges there. A `Pace` is the limit of one judge per minute, over all its addresses. This module
opens no connection and reads no header; its caller reports the outcomes of requests.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

MINUTE = 60.0
SLACK = 0.05
"""Seconds' worth of requests that may start together, the resolution of timers."""
FAILURES_IN_A_ROW = 3
"""Requests without an answer that set an address aside, where the judge has another one that answers."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until an address that was set aside is tried again: doubled at each failure."""


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
    """The limits of one judge: requests and tokens per minute."""

    def __init__(
        self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Bucket(tokens_per_minute)

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a request of so many tokens may start."""
        wait = 0.0
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


class Lane:
    """The concurrency limit of one address and key, shared by its judges.

    Starts at its ceiling, the largest `concurrency` of its judges. Once per window (as many ended requests as
    may be open, all begun after the last change) the limit moves: up by a thirty-second of the ceiling times
    the share served, down by half times the share of rate-limit errors (Chiu and Jain 1989; the proportion
    after DCTCP, RFC 8257). So errors in one burst count once, and a few random ones leave no server idle.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = 0.0
        self.open = 0
        self.clock = clock
        self._ceiling = 0
        self._window = self._ended = self._refused = 0
        self._places: deque[Place] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    def join(self, concurrency: int, pace: Pace) -> "Turns":
        """The turns of a judge that has this one lane."""
        return Turns([self], concurrency, pace)

    def add(self, place: "Place", concurrency: int) -> None:
        """Share the lane with a judge."""
        self._places.append(place)
        self._ceiling = max(self._ceiling, concurrency)
        self.limit = float(self._ceiling)

    def deal(self) -> None:
        """Start requests of the judges in turn, and schedule the next start."""
        now, idle, soonest = self.clock(), 0, math.inf
        while self.open < int(self.limit) and idle < len(self._places):
            place = self._places[0]
            self._places.rotate(-1)
            wait = place.wait(now)
            if wait > 0:
                idle, soonest = idle + 1, min(soonest, wait)
                continue
            idle = 0
            self.open += 1
            place.admit(now, self._window)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.open < int(self.limit) and soonest < math.inf:
            self._alarm = asyncio.get_running_loop().call_later(soonest, self._wake)

    def close(self, window: int, crowded: bool | None) -> None:
        """A request that began in this window has ended, as in `Turns.end`."""
        self.open -= 1
        if crowded is not None and window == self._window:
            self._ended += 1
            self._refused += crowded
            if self._ended >= int(self.limit):
                self._adapt(self._refused / self._ended)
        self.deal()

    def _wake(self) -> None:
        for place in list(self._places):
            place.turns.deal()

    def _adapt(self, refused: float) -> None:
        step = max(1.0, self._ceiling / 32)
        moved = self.limit * (1 - refused / 2) + step * (1 - refused)
        self.limit = min(max(moved, 1.0), float(self._ceiling))
        self._window, self._ended, self._refused = self._window + 1, 0, 0


class Ticket(NamedTuple):
    """The right to send one request: the number of the judge's address, and the window of its lane."""

    place: int
    window: int


class Place:
    """One judge's place in the lane of one address: never more than its own `concurrency`.

    After a few requests in a row without an answer the place is set aside, as long as the judge has another
    address that answers; from then on one request at a time tries it, after a growing pause.
    """

    def __init__(self, turns: "Turns", number: int, lane: Lane, concurrency: int) -> None:
        self.turns, self.lane, self.answers = turns, lane, True
        self.paused_until = self.aside_until = -math.inf
        self.open = 0
        self._number, self._most = number, concurrency
        self._failures, self._pause = 0, FIRST_PAUSE
        lane.add(self, concurrency)

    def wait(self, now: float) -> float:
        """Seconds until a request of the queue may start here; infinite where time alone changes nothing."""
        aside = not self.answers and self.is_aside
        if self.open >= (1 if aside else self._most):
            return math.inf
        until = max(self.paused_until, self.aside_until) if aside else self.paused_until
        return max(until - now, self.turns.wait(now, self._number))

    def admit(self, now: float, window: int) -> None:
        """Start the next request of the queue here."""
        self.open += 1
        self.turns.admit(now, Ticket(self._number, window))

    @property
    def is_aside(self) -> bool:
        """Whether requests go to other addresses."""
        return not self.answers and any(place.answers for place in self.turns.places)

    def report(self, answered: bool) -> None:
        """A request here was answered, or there was no answer."""
        if answered:
            self._failures, self._pause, self.answers = 0, FIRST_PAUSE, True
            return
        self._failures += 1
        now = self.lane.clock()
        if self._failures < FAILURES_IN_A_ROW or now < self.aside_until:
            return  # requests that were open together fail together
        self._pause = FIRST_PAUSE if self.answers else min(2 * self._pause, LONGEST_PAUSE)
        self.answers, self.aside_until = False, now + self._pause


class Turns:
    """One judge's queue, with its own limits, and its places in the lanes of its addresses.

    A request goes to the least busy address, in order of their numbers.
    """

    def __init__(self, lanes: Sequence[Lane], concurrency: int, pace: Pace) -> None:
        self._pace = pace
        self._queue: deque[tuple[asyncio.Future[Ticket], int, Collection[int]]] = deque()
        self.places = [Place(self, number, lane, concurrency) for number, lane in enumerate(lanes)]

    async def start(self, tokens: int, *, first: bool = False, avoid: Collection[int] = ()) -> Ticket:
        """Wait until a request of about so many tokens may start; return a ticket for `end`.

        `first` puts it before all queued ones; `avoid` are numbers of addresses where it does not go
        while another one answers.
        """
        seat: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if first else self._queue.append)((seat, tokens, avoid))
        self.deal()
        try:
            return await seat
        except asyncio.CancelledError:
            if seat.done() and not seat.cancelled():
                self.end(seat.result(), None)
            raise

    def end(self, ticket: Ticket, crowded: bool | None) -> None:
        """End a request: rate-limited (True), served (False), or neither (None)."""
        place = self.places[ticket.place]
        place.open -= 1
        place.lane.close(ticket.window, crowded)

    def report(self, ticket: Ticket, answered: bool) -> bool:
        """Report whether a request had an answer; return whether its address is set aside or back by that."""
        place = self.places[ticket.place]
        before = place.answers
        place.report(answered)
        if place.answers == before:
            return False
        self.deal()
        return True

    def elsewhere(self, avoid: Collection[int]) -> bool:
        """Whether there is another address than these that is not set aside."""
        return any(n not in avoid and not place.is_aside for n, place in enumerate(self.places))

    def settle(self, tokens: int, used: int) -> None:
        """A request that was started for `tokens` has used so many."""
        self._pace.settle(tokens, used)

    def pause(self, ticket: Ticket, seconds: float) -> None:
        """Start nothing of this judge for so long at the address of a request."""
        place = self.places[ticket.place]
        place.paused_until = max(place.paused_until, place.lane.clock() + seconds)

    def deal(self) -> None:
        """Start what may start, at the least busy address first."""
        if len(self.places) == 1:
            self.places[0].lane.deal()
            return
        for place in sorted(self.places, key=lambda place: place.lane.open):
            place.lane.deal()

    def wait(self, now: float, number: int) -> float:
        """Seconds until the next in the queue for this address may start; infinite where there is none."""
        following = self._next(number)
        return math.inf if following is None else self._pace.wait(now, self._queue[following][1])

    def admit(self, now: float, ticket: Ticket) -> None:
        """Give the next in the queue its ticket."""
        following = self._next(ticket.place)
        assert following is not None, "its wait was finite"
        seat, tokens, _ = self._queue[following]
        del self._queue[following]
        self._pace.take(now, tokens)
        seat.set_result(ticket)

    def _next(self, number: int) -> int | None:
        """Where the next request for this address stands in the queue."""
        while self._queue and self._queue[0][0].done():
            self._queue.popleft()
        if self._queue and not self._queue[0][2]:
            return 0
        for at, (seat, _, avoid) in enumerate(self._queue):
            if not seat.done() and (number not in avoid or not self.elsewhere(avoid)):
                return at
        return None


class Lanes:
    """The lanes of all addresses, each with each key."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], Lane] = {}

    def lane(self, endpoint: str, key: str) -> Lane:
        """The lane of an address and a key."""
        return self._lanes.setdefault((endpoint, key), Lane())
