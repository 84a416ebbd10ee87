"""Keep a certified cascade open for a program that judges item after item, from any thread or event loop."""

import asyncio
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trustescalate.calibration.population import label_values
from trustescalate.cascade.decide import CertifiedCascade
from trustescalate.errors import UsageError
from trustescalate.project import Project
from trustescalate.records import Certificate, Decision, Item, Label, Task, TaskKind, Turn
from trustescalate.records.jsonl import digest
from trustescalate.records.progress import Hooks
from trustescalate.report.verdict import decision_metadata, explain_decision

Text = str | Sequence[Turn]


def passing_value(task: Task, threshold: float | None = None) -> float:
    """Return the value from which a verdict passes: `threshold`, or 0.5 for pass or fail and for pairs.

    Raises UsageError for a rating without a threshold, and for a choice, whose labels have no order.

    >>> passing_value(Task(TaskKind.BINARY, "Is it right?", ("pass", "fail")))
    0.5
    """
    if task.kind is TaskKind.CHOICE:
        raise UsageError("the labels of a choice have no order: none of them is a pass", "use the label")
    if threshold is None and task.kind is TaskKind.RATING:
        raise UsageError("a rating passes from a threshold on, and there is none", "give `threshold`")
    return 0.5 if threshold is None else threshold


@dataclass(frozen=True, slots=True)
class CertifiedVerdict:
    """A decision of the cascade on one item, with the certificate that covers it.

    A host shows `label`, `value`, `explanation` and `metadata`. An abstention has no label and no value: it
    is neither a pass nor a failure, and a person is needed.
    """

    item: Item
    decision: Decision
    certificate: Certificate

    @property
    def label(self) -> Label | None:
        """The released verdict; None for an abstention."""
        return self.decision.label

    @property
    def value(self) -> float | None:
        """The verdict as a number, larger is better: pass 1 and fail 0, a rating as it is, for a pair 1 where
        the first response wins and 0.5 for a tie. None for an abstention and for labels without an order.
        """
        values = label_values(self.certificate.task)
        return None if values is None or self.label is None else values[self.label]

    @property
    def outcome(self) -> bool | float | str | None:
        """The verdict as other tools take it: pass or fail as a truth value, a label with an order as a
        number, any other as it is. None for an abstention.
        """
        if self.value is None:
            return self.label
        return self.value == 1.0 if self.certificate.task.kind is TaskKind.BINARY else self.value

    @property
    def explanation(self) -> str:
        """One sentence: what was decided, by whom and why, and under which certificate."""
        return explain_decision(self.decision, self.certificate)

    @property
    def metadata(self) -> dict[str, Any]:
        """Plain JSON values: the certificate's id and terms, who decided, and what happened at each tier."""
        return decision_metadata(self.decision, self.certificate)


class SharedCascade:
    """The certified cascade of a configuration file, opened at the first item.

    The judges live in an event loop of their own, so that `judge` and `judge_async` may be called from any
    thread and any loop, many at a time; limits, cache and budget are shared. The caller trusts what the file
    names. `judge` and `judge_async` raise the errors of `CertifiedCascade.decide` and `Project.cascade`.

    >>> from trustescalate import Item
    >>> with SharedCascade("examples/pass-fail/trustescalate.toml") as cascade:
    ...     cascade.judge(Item("new", "What is 2 + 2?", ("4",)))
    Traceback (most recent call last):
    ...
    trustescalate.errors.NoCertificate: examples/pass-fail/certificate.json: there is no certificate yet
    """

    def __init__(
        self,
        config: str | Path = "trustescalate.toml",
        *,
        overrides: Sequence[str] = (),
        hooks: Hooks | None = None,
    ) -> None:
        self.path = Path(config)
        self.project = Project.open(self.path, hooks, overrides=overrides)
        self._lock, self._process = threading.Lock(), os.getpid()
        self._open: _Open | None = None
        self._close: weakref.finalize[..., Any] | None = None

    @classmethod
    def of(cls, cascade: "SharedCascade | str | Path") -> "SharedCascade":
        """The cascade itself, or the one of a configuration file."""
        return cascade if isinstance(cascade, SharedCascade) else cls(cascade)

    @property
    def task(self) -> Task:
        """The task of the configuration."""
        return self.project.config.task.task()

    def judge(self, item: Item) -> CertifiedVerdict:
        """Decide one item; blocks until it is decided."""
        opened = self._opened()
        decision = asyncio.run_coroutine_threadsafe(opened.cascade.decide(item), opened.loop).result()
        return CertifiedVerdict(item, decision, opened.cascade.certificate)

    async def judge_async(self, item: Item) -> CertifiedVerdict:
        """Decide one item without blocking the running event loop."""
        opened = self._open
        if opened is None or opened.process != os.getpid():
            opened = await asyncio.to_thread(self._opened)
        future = asyncio.run_coroutine_threadsafe(opened.cascade.decide(item), opened.loop)
        return CertifiedVerdict(item, await asyncio.wrap_future(future), opened.cascade.certificate)

    def certificate(self) -> Certificate:
        """Return the certificate of the open cascade, which is opened where it is not. Raises its errors."""
        return self._opened().cascade.certificate

    def item(
        self,
        prompt: Text,
        response: Text,
        *,
        baseline: Text | None = None,
        reference: str | None = None,
        context: Sequence[str] = (),
        item_id: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Item:
        """Make an item of the task: of a pair, `response` is A and `baseline` is B.

        Without `item_id`, the id is a digest of the texts. Raises UsageError for a pair without a `baseline`,
        and for a `baseline` where the task has one response.
        """
        pair = self.task.kind is TaskKind.PAIRWISE
        if pair and baseline is None:
            raise UsageError("a pairwise task compares two responses", "give the baseline's response too")
        if not pair and baseline is not None:
            raise UsageError(f"a {self.task.kind} task has one response", "leave out the baseline")
        responses = (response,) if baseline is None else (response, baseline)
        texts = tuple(text if isinstance(text, str) else tuple(text) for text in responses)
        asked = prompt if isinstance(prompt, str) else tuple(prompt)
        given = Item(item_id or "", asked, texts, reference, None, dict(meta or {}), tuple(context))
        return given if item_id else replace(given, id=digest(given.shown)[:16])

    def close(self) -> None:
        """Close the judges; a later item opens them again. It also happens when the program ends."""
        with self._lock:
            if self._close is not None:
                self._close()
            self._open = self._close = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> "_Open":
        if self._process != os.getpid():  # a forked process has no thread of ours: it opens its own
            self._lock, self._process = threading.Lock(), os.getpid()
            self._open = self._close = None
        with self._lock:
            if self._open is None:
                self._open = _start(self.project)
                self._close = weakref.finalize(self, _stop, self._open)
            return self._open


@dataclass(frozen=True, slots=True)
class _Open:
    """A cascade with the process, the loop and the thread that it lives in."""

    process: int
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    stack: AsyncExitStack
    cascade: CertifiedCascade


def _start(project: Project) -> _Open:
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever, name="trustescalate", daemon=True)
    thread.start()
    try:
        entering = stack.enter_async_context(project.cascade())
        return _Open(
            os.getpid(), loop, thread, stack, asyncio.run_coroutine_threadsafe(entering, loop).result()
        )
    except BaseException:
        _end(loop, thread)
        raise


def _stop(opened: _Open) -> None:
    if opened.process != os.getpid():
        return
    try:
        asyncio.run_coroutine_threadsafe(_shut(opened.stack), opened.loop).result()
    finally:
        _end(opened.loop, opened.thread)


async def _shut(stack: AsyncExitStack) -> None:
    """Close the judges, and cancel what waits for them: its callers get a CancelledError."""
    await stack.aclose()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
