"""Record every attempt to run, so that one that failed is not taken for the run before it.

`runs/.attempts.jsonl` is only appended to: a line when an attempt begins, one when it ends. The numbers order
attempts and runs, whatever the clock says.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from trustescalate.errors import TrustEscalateError
from trustescalate.records.appending import append, lock
from trustescalate.records.jsonl import encode, read_appended, truncate_torn
from trustescalate.records.task import STRICT, Json

ATTEMPTS = ".attempts.jsonl"
LONGEST = 500
"""Characters of a recorded error."""


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """A line: an attempt that began, ended or failed. `run` is the id of its run, once there is one."""

    number: int
    event: Literal["began", "ended", "failed"]
    time: str
    run: str = ""
    command: str = ""
    error: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


@dataclass(slots=True)
class Attempt:
    """An attempt under way: its number, and the id of the run that it makes or resumes."""

    number: int
    run: str


@contextmanager
def recorded_attempt(
    runs: Path, now: Callable[[], str], command: str, *, run: str = "", after: int = 0
) -> Iterator[Attempt]:
    """Record an attempt to make a run or to resume `run`; its number is above `after` and all others.

    Raises OSError, before anything is done, where nothing can be written.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with _opened(runs) as file:
        number = 1 + max([after, *(row.number for row in read_attempts(runs))])
        _write(file, RunAttempt(number, "began", now(), run, command))
    begun = Attempt(number, run)
    try:
        yield begun
    except BaseException as error:
        with suppress(OSError), _opened(runs) as file:
            _write(file, RunAttempt(number, "failed", now(), begun.run, error=_describe(error)))
        raise
    with _opened(runs) as file:
        _write(file, RunAttempt(number, "ended", now(), begun.run))


def read_attempts(runs: Path) -> list[RunAttempt]:
    """Return all lines. Raises DataError for a damaged one."""
    return read_appended(runs / ATTEMPTS, RunAttempt)[0]


def last_attempt(runs: Path) -> RunAttempt | None:
    """Return the last line of the attempt with the largest number; None without any."""
    rows = read_attempts(runs)
    last = max((row.number for row in rows), default=0)
    return next((row for row in reversed(rows) if row.number == last), None)


def _describe(error: BaseException) -> str:
    """Describe an error without what a bug might have put into its text."""
    if isinstance(error, TrustEscalateError):
        return "; ".join(map(str.strip, error.message.splitlines()))[:LONGEST]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "interrupted" if not isinstance(error, Exception) else f"internal error: {type(error).__name__}"


def _write(file: int, row: RunAttempt) -> None:
    append(file, encode(row) + b"\n")


@contextmanager
def _opened(runs: Path) -> Iterator[int]:
    """Open the log for this process alone; others wait for the few milliseconds that a line takes."""
    path = runs / ATTEMPTS
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    file = os.open(path, flags, 0o644)
    try:
        while not lock(file):
            time.sleep(0.005)
        truncate_torn(path)
        yield file
    finally:
        os.close(file)
