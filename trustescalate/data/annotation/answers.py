"""Append answers of annotators to a file, one line each, flushed to the disk at once.

A later line of the same annotator on the same row replaces an earlier one; one without an answer withdraws
it. The queue translates answers to the item's own frame.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from trustescalate.errors import DataError, UsageError
from trustescalate.records import STRICT, Json
from trustescalate.records.appending import append, lock
from trustescalate.records.jsonl import encode, read_appended, truncate_torn

ANSWERS = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or with None its withdrawal. `seconds` is the time that the row was shown."""

    queue: str
    item_id: str
    annotator: str
    answer: str | None
    seconds: float | None = None
    at: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


Standing = dict[tuple[str, str], Answer]
"""The current answers by annotator and item, oldest first."""


def read_answers(path: Path) -> list[Answer]:
    """Read an answers file without a torn last line. Raises DataError where another line is damaged."""
    try:
        return read_appended(path, Answer)[0]
    except DataError as error:
        raise DataError(error.problems, "the file was edited or damaged; fix the lines named above") from None


def standing(answers: Iterable[Answer]) -> Standing:
    """Return the current answers.

    >>> rows = [Answer("q", "x", "ann", "first"), Answer("q", "y", "ann", "tie")]
    >>> rows += [Answer("q", "x", "ann", "second"), Answer("q", "y", "ann", None)]
    >>> [(who, item, row.answer) for (who, item), row in standing(rows).items()]
    [('ann', 'x', 'second')]
    """
    current: Standing = {}
    for row in answers:
        _update(current, row)
    return current


def _update(current: Standing, row: Answer) -> None:
    current.pop((row.annotator, row.item_id), None)
    if row.answer is not None:
        current[row.annotator, row.item_id] = row


class AnswerFile:
    """The answers of one queue, open for writing by one process at a time."""

    def __init__(self, folder: Path) -> None:
        path = folder / ANSWERS
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags, 0o644)
        if not lock(self._file):
            self.close()
            raise UsageError(
                f"{path}: another process is writing to it", "the page is served already; use that one"
            )
        try:
            truncate_torn(path)
            self.standing = standing(read_answers(path))
        except BaseException:
            self.close()
            raise

    def add(self, row: Answer) -> None:
        """Write one line to the disk. A failure leaves no partial line."""
        size = os.fstat(self._file).st_size
        try:
            append(self._file, encode(row) + b"\n")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        _update(self.standing, row)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
