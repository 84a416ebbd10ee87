"""Batch single requests: a worker thread, groups, and an adaptive batch size.

The module is independent of models: callers define jobs, groups and the work. No request waits for a batch to
fill: the arrivals during one batch make up the next ones.
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
"""Least gain in speed for which the batch size doubles."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out, on any device."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


class BatchSize:
    """The number of jobs in a batch: fixed, or tuned at run time.

    From 1 the size doubles as long as that makes the work faster, up to `most`. When memory runs out it is
    halved and never raised again; it is never below 1.

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
        """Record a successful batch; only full ones change the size."""
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
        """Record a batch that ran out of memory."""
        self.now, self._settled = max(1, min(self.now, jobs) // 2), True


class Task(Protocol):
    """A prepared request. Tasks of equal `group` can run together, best with similar `size`."""

    @property
    def group(self) -> Hashable: ...
    @property
    def size(self) -> int: ...


Asked = TypeVar("Asked")
Ready = TypeVar("Ready", bound=Task)
Answer = TypeVar("Answer")


class Batcher(Generic[Asked, Ready, Answer]):
    """Run requests in batches in one thread, the largest group first, its longest tasks first.

    `prepare` makes a task of a request; it runs in the thread, and its errors are the answer. `work` gets at
    most `size.now` tasks of a group and answers each, in order. When memory runs out, the batch is halved and
    tried again; other errors of `work` go to all requests of the batch.
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
        """Answer one request."""
        answer: Future[Answer] = Future()
        self._arrived.put((asked, answer))
        self._thread.submit(self._step)
        return await asyncio.wrap_future(answer)

    async def close(self) -> None:
        """Finish the current batch and drop the rest."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        waiting = [answer for group in self._groups.values() for _, answer in group]
        for answer in [*waiting, *(answer for _, answer in self._arrivals())]:
            answer.cancel()

    def _step(self) -> None:
        """Run one batch. There is a step for each request, so none is left over."""
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
        """Answer a batch and return its size, or 0 if memory ran out and fewer may fit."""
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
    """Set the error for all requests without an answer, so that none waits for ever."""
    for answer in waiting:
        with suppress(InvalidStateError):
            answer.set_exception(error)
