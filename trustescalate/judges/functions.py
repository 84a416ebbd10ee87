"""Call a user-defined Python function as a judge, in this process, with an item as plain values.

    def judge(item):    # or async def
        return "A"      # a label; or {"A": 0.7, "B": 0.3}; or 0.7, for the first label; or None, no verdict

`item` is a dictionary of its own for each call: id, prompt (a string, or a list of {"role", "content"}, which
may have tool_calls with name, arguments and id, or a tool_call_id), responses (a list of such), reference,
group, meta, and context where there are passages. An exception or an invalid return value is a failed vote,
never a verdict. User code is imported when judges are opened.
"""

import ast
import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Any

from trustescalate.errors import ConfigError
from trustescalate.judges.base import Ask, Tariff, all_done, are_probabilities, forget
from trustescalate.judges.prompts import Order, orders, swapped_index
from trustescalate.records import (
    Channel,
    Item,
    Judgment,
    Label,
    Message,
    Reply,
    Request,
    Task,
    TaskKind,
    Usage,
    Vote,
)
from trustescalate.records.criteria import row_name
from trustescalate.records.jsonl import canonical, digest, to_python
from trustescalate.records.votes import Enough

Function = Callable[[dict[str, Any]], Any]


class FunctionBackend:
    """Calls a function with the item that a request holds, and answers with what it returned, as JSON.

    `function` is "module:name", the module in `folder` or installed, or the function itself. At most
    `concurrency` calls run at a time, one that is not async in a thread; `timeout` bounds each, in seconds
    from its start. A thread cannot be stopped: a call that never returns keeps its thread, and the process.

    Raises ConfigError if the function cannot be imported.
    """

    def __init__(
        self,
        *,
        function: str | Function,
        version: str,
        folder: Path = Path(),
        concurrency: int = 4,
        timeout: float = 60.0,
    ) -> None:
        named = function_identity(function, version, folder) if isinstance(function, str) else None
        self._function = _load(function, folder) if isinstance(function, str) else function
        self.identity = named or digest(version, _source(self._function))
        self._is_async = inspect.iscoroutinefunction(self._function)
        self._slots, self._timeout = asyncio.Semaphore(concurrency), timeout
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="callable-judge")

    async def complete(self, request: Request) -> Reply:
        """Call the function once."""
        item = json.loads(request.messages[0].content)
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await self._call(item)
            except TimeoutError:
                return _failed("timeout", "")
            except Exception as error:  # user code may raise anything
                return _failed("raised", _whereabouts(error))
        if answer is None:
            return _failed("none", "")
        try:
            plain = dict(answer) if isinstance(answer, Mapping) else answer
            text = json.dumps(plain, allow_nan=False, default=float)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return _failed("bad_return", type(answer).__name__)
        return Reply(text, None, "stop", Usage(1))

    async def close(self) -> None:
        """Drop the calls that have not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, item: dict[str, Any]) -> Any:
        if self._is_async:
            return await self._function(item)
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._function, item)
        return await answer if inspect.isawaitable(answer) else answer


class FunctionJudge:
    """One vote per item, or with `swap` one for each order of a pair, each a separate call.

    With several `criteria` each row is a call of its own, with the name of its criterion in `meta`.
    """

    channel: Channel = "logprobs"

    def __init__(
        self,
        name: str,
        fingerprint: str,
        task: Task,
        ask: Ask,
        *,
        swap: bool,
        tariff: Tariff | None = None,
        criteria: Mapping[str, Task] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._task, self._criteria = task, criteria
        self._ask = ask
        self._tariff = tariff or Tariff()
        self._orders = orders(task, swap=swap)

    async def judge(self, item: Item, enough: Enough) -> Judgment:  # noqa: ARG002
        """Call the function; never raises for its errors."""
        votes = await all_done(self._vote(item, order) for order in self._orders)
        return Judgment(item.id, self.name, self.fingerprint, tuple(votes), len(self._orders))

    async def _vote(self, item: Item, order: Order) -> Vote:
        task = self._criteria.get(row_name(item).criterion, self._task)
        plain = to_python(item)
        if order == "BA":
            plain["responses"] = plain["responses"][::-1]
        shown = Message("user", canonical(plain))
        request = Request((shown,), task.labels, 0, 0.0, logprobs=False)
        reply = await self._ask(request)
        probs = None if reply.failure else read_answer(task, reply.text)
        failure = reply.failure or (None if probs else "bad_return")
        if failure and not reply.failure:
            forget(self._ask, request)
        if probs and order == "BA":
            mirror = [task.labels[i] for i in swapped_index(task)]
            probs = {label: probs[other] for label, other in zip(task.labels, mirror, strict=True)}
        cost = self._tariff.cost(reply.usage)
        return Vote(0, order, probs or {}, reply.text, failure, self.channel, reply.usage, cost)


def read_answer(task: Task, text: str) -> Mapping[Label, float] | None:
    """Convert a return value to probabilities of the labels; None if it is of no documented kind.

    >>> task = Task(TaskKind.PAIRWISE, "Which is better?", ("A", "B", "tie"))
    >>> read_answer(task, '"B"'), read_answer(task, "0.75")
    ({'A': 0.0, 'B': 1.0, 'tie': 0.0}, {'A': 0.75, 'B': 0.25, 'tie': 0.0})
    >>> read_answer(task, '{"A": 0.75}'), read_answer(task, '"C"'), read_answer(task, "true")
    ({'A': 0.75, 'B': 0.0, 'tie': 0.0}, None, None)
    """
    answer = json.loads(text)
    if isinstance(answer, str):
        answer = {answer: 1.0}
    if _is_share(answer) and task.kind in (TaskKind.PAIRWISE, TaskKind.BINARY):
        answer = dict(zip(task.labels, (float(answer), 1.0 - answer), strict=False))
    if not isinstance(answer, dict) or not answer.keys() <= set(task.labels):
        return None
    probs = {label: answer.get(label, 0.0) for label in task.labels}
    if not all(map(_is_share, probs.values())) or not are_probabilities(probs.values()):
        return None
    return {label: float(p) for label, p in probs.items()}


def _is_share(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= 1


def _failed(failure: str, text: str) -> Reply:
    return Reply(text, None, "stop", Usage(1), failure)


def _whereabouts(error: Exception) -> str:
    """Describe an error by its kind and place, without its message, which may hold a key."""
    *_, last = [None, *traceback.extract_tb(error.__traceback__)]
    place = f" at {Path(last.filename).name}:{last.lineno}" if last else ""
    return type(error).__name__ + place


# ── finding the function ───────────────────────────────────────────────────────────────────────────


def function_identity(reference: str, version: str, folder: Path) -> str | None:
    """The identity of a function that a file of the folder defines, from its text: nothing is imported.

    None where the file binds the name in another way, or where the module is an installed one.
    """
    module, _, name = reference.partition(":")
    try:
        text = _path(module, folder).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    bound = [node for node in tree.body if getattr(node, "name", None) == name]
    if len(bound) != 1 or not isinstance(bound[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    first = min([bound[0].lineno, *(part.lineno for part in bound[0].decorator_list)])
    lines = text.splitlines(keepends=True)[first - 1 : bound[0].end_lineno]
    return digest(version, "".join(lines))


def _path(module: str, folder: Path) -> Path:
    return folder.joinpath(*module.split(".")).with_suffix(".py")


def _load(reference: str, folder: Path) -> Function:
    module, _, name = reference.partition(":")
    path = _path(module, folder)
    hint = f"{path} or an installed module {module!r} must hold a function {name!r} that takes one item"
    try:
        with _importable(folder):
            function: Function = getattr(_module_at(path) if path.exists() else import_module(module), name)
    except Exception as error:  # user code may raise anything
        raise ConfigError(f"{reference} cannot be imported: {type(error).__name__}: {error}", hint) from error
    if not callable(function):
        raise ConfigError(f"{reference} is no function", hint)
    return function


def _module_at(path: Path) -> Any:
    """Import a file under a unique module name: another project may have a file of the same name."""
    name = f"trustescalate_callable_{digest(str(path.resolve()))[:12]}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


def _source(function: Function) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # compiled, or an object with __call__: its version alone speaks for it
        return ""
