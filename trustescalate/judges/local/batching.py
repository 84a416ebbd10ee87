"""Questions asked one by one and answered together: a worker thread, groups, the size of a batch.

Knows no model: what a job is, which jobs go together and how a batch is worked are given. Nothing waits for a
batch to fill: whatever came in while the last batch ran makes up the next ones.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

GAIN = 1.05
"""A batch of twice the size must do this much more work a second, or the smaller one stays."""


def out_of_memory(error: BaseException) -> bool:
    """Whether torch says by this error that memory ran out, on whatever device."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


class BatchSize:
    """How many jobs go into a batch: a given number, or found by trying.

    From 1 the size doubles as long as that makes the work faster, to `most` at the utmost. When memory runs
    out it is halved, given or found, and never raised again; it is never below 1.

    >>> size = BatchSize("auto", most=64)
    >>> size.worked(jobs=1, tokens=300, seconds=0.1)
    >>> size.worked(jobs=2, tokens=600, seconds=0.1)
    >>> size.now
    4
    >>> size.too_large(jobs=4)
    >>> size.now
    2
    """

    def __init__(self, wanted: int | str, *, most: int) -> None:
        self.now = 1 if isinstance(wanted, str) else wanted
        self._most = most
        self._settled = not isinstance(wanted, str)
        self._speed = 0.0

    def worked(self, *, jobs: int, tokens: int, seconds: float) -> None:
        """A batch succeeded. One that was not full says nothing about its size."""
        if self._settled or jobs < self.now or seconds <= 0:
            return
        speed = tokens / seconds
        if speed < GAIN * self._speed:
            self.now, self._settled = max(1, self.now // 2), True
        elif self.now * 2 <= self._most:
            self.now, self._speed = self.now * 2, speed
        else:
            self._settled = True

    def too_large(self, *, jobs: int) -> None:
        """A batch of so many ran out of memory."""
        self.now, self._settled = max(1, min(self.now, jobs) // 2), True


class Task(Protocol):
    """A question, ready to be worked. Tasks of equal `group` can be worked together, of like `size` best."""

    @property
    def group(self) -> Hashable: ...
    @property
    def size(self) -> int: ...


Asked = TypeVar("Asked")
Ready = TypeVar("Ready", bound=Task)
Answer = TypeVar("Answer")


class Batcher(Generic[Asked, Ready, Answer]):
    """Gathers questions and has them worked in one thread, the largest group first, its longest tasks first.

    `prepare` makes a task of a question; it runs in the thread, and what it raises is the answer. `work` gets
    at most `size.now` tasks of a group and answers each, in order. When memory runs out, the batch is halved
    and tried again; what `work` raises otherwise goes to all who asked.
    """

    def __init__(
        self,
        prepare: Callable[[Asked], Ready],
        work: Callable[[Sequence[Ready]], Sequence[Answer]],
        size: BatchSize,
    ) -> None:
        self._prepare = prepare
        self._work = work
        self._size = size
        self._arrived: SimpleQueue[tuple[Asked, Future[Answer]]] = SimpleQueue()
        self._groups: dict[Hashable, list[tuple[Ready, Future[Answer]]]] = defaultdict(list)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-judge")

    async def ask(self, asked: Asked) -> Answer:
        """The answer to one question; others are answered meanwhile."""
        answer: Future[Answer] = Future()
        self._arrived.put((asked, answer))
        self._thread.submit(self._step)
        return await asyncio.wrap_future(answer)

    async def close(self) -> None:
        """Finish the batch under way and drop the rest."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        waiting = [answer for group in self._groups.values() for _, answer in group]
        for answer in [*waiting, *(answer for _, answer in self._arrivals())]:
            answer.cancel()

    def _step(self) -> None:
        """Work one batch. There is a step for each question, so none is left over."""
        self._sort_arrivals()
        if not self._groups:
            return
        group = max(self._groups, key=lambda each: len(self._groups[each]))
        waiting = sorted(self._groups.pop(group), key=lambda pair: -pair[0].size)
        batch, rest = waiting[: self._size.now], waiting[self._size.now :]
        if rest:
            self._groups[group] = rest
        batch = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
        while batch:
            batch = batch[self._worked(batch[: self._size.now]) :]

    def _arrivals(self) -> Iterator[tuple[Asked, "Future[Answer]"]]:
        with suppress(Empty):
            while True:
                yield self._arrived.get_nowait()

    def _sort_arrivals(self) -> None:
        for asked, answer in self._arrivals():
            try:
                task = self._prepare(asked)
                self._groups[task.group].append((task, answer))
            except Exception as error:
                _fail([answer], error)

    def _worked(self, batch: Sequence[tuple[Ready, "Future[Answer]"]]) -> int:
        """Answer a batch; how many that were: none if memory ran out and fewer may fit."""
        start = time.perf_counter()
        waiting = [answer for _, answer in batch]
        try:
            answers = self._work([task for task, _ in batch])
            for answer, given in zip(waiting, answers, strict=True):
                answer.set_result(given)
        except Exception as error:
            if out_of_memory(error) and len(batch) > 1:
                self._size.too_large(jobs=len(batch))
                return 0
            _fail(waiting, error)
            return len(batch)
        seconds, tokens = time.perf_counter() - start, sum(task.size for task, _ in batch)
        self._size.worked(jobs=len(batch), tokens=tokens, seconds=seconds)
        return len(batch)


def _fail(waiting: Iterable["Future[Answer]"], error: Exception) -> None:
    """Nobody waits for ever: whoever has no answer yet gets the error."""
    for answer in waiting:
        with suppress(InvalidStateError):
            answer.set_exception(error)
