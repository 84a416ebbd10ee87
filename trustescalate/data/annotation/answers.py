"""What people answered, as they answered it: a file that only grows, a line each, on the disk at once.

A later line of the same person on the same row replaces an earlier one; one without an answer takes it back.
What an answer means in the item's own frame is said by its queue.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from trustescalate.errors import DataError, UsageError
from trustescalate.records import STRICT, Json
from trustescalate.records.appending import append, lock
from trustescalate.records.jsonl import encode, read_appended, truncate_torn

ANSWERS = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or, with None, that it is taken back. `seconds` is how long the person looked."""

    queue: str
    item_id: str
    annotator: str
    answer: str | None
    seconds: float | None = None
    at: str = ""
    __pydantic_config__: ClassVar[Mapping[str, Json]] = STRICT


Standing = dict[tuple[str, str], Answer]
"""By annotator and item, oldest first: what everybody says by now."""


def read_answers(path: Path) -> list[Answer]:
    """All lines of an answers file; a torn last one is dropped. Raises DataError where another is damaged."""
    try:
        return read_appended(path, Answer)[0]
    except DataError as error:
        raise DataError(
            error.problems, "the file was edited or damaged; mend the lines named above"
        ) from None


def standing(answers: Iterable[Answer]) -> Standing:
    """What holds in the end.

    >>> said = [Answer("q", "x", "ann", "first"), Answer("q", "y", "ann", "tie")]
    >>> said += [Answer("q", "x", "ann", "second"), Answer("q", "y", "ann", None)]
    >>> [(who, item, row.answer) for (who, item), row in standing(said).items()]
    [('ann', 'x', 'second')]
    """
    holds: Standing = {}
    for row in answers:
        holds.pop((row.annotator, row.item_id), None)
        if row.answer is not None:
            holds[row.annotator, row.item_id] = row
    return holds


class AnswerFile:
    """The answers of one queue, open for more; only one process may hold it."""

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
        """Write one line; when this returns, it is on the disk. What fails leaves nothing behind."""
        size = os.fstat(self._file).st_size
        try:
            append(self._file, encode(row) + b"\n")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self.standing.pop((row.annotator, row.item_id), None)
        if row.answer is not None:
            self.standing[row.annotator, row.item_id] = row

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
