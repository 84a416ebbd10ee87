"""Append answers of annotators to a file, one line each, flushed to the disk at once.

A later line of the same annotator on the same row replaces an earlier one; one without an answer withdraws
it. The queue translates answers to the item's own frame.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from trustescalate.errors import DataError, UsageError
from trustescalate.records import STRICT, Json
from trustescalate.records.appending import append, lock
from trustescalate.records.jsonl import encode, read_appended, truncate_torn, write_atomically

ANSWERS = "answers.jsonl"
DRAFTS = "drafts.json"
SKIP_REASONS = (
    "I cannot decide",
    "I lack the knowledge",
    "The question does not fit",
    "A text is broken or incomplete",
    "I cannot read the language",
)
"""Reasons to skip that the page offers; an annotator may type another."""
OTHER_REASON, NO_REASON = "another reason", "no reason given"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or with None its withdrawal. `seconds` is the time that the row was shown.

    `reason` is why an annotator skipped.
    """

    queue: str
    item_id: str
    annotator: str
    answer: str | None
    seconds: float | None = None
    at: str = ""
    reason: str | None = None
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


def count_reasons(reasons: Iterable[str | None]) -> dict[str, int]:
    """Count reasons to skip, in the order of `SKIP_REASONS`; typed ones are counted together.

    >>> count_reasons(["I cannot decide", "too long", None, "I cannot decide"])
    {'I cannot decide': 2, 'another reason': 1, 'no reason given': 1}
    """
    counts = Counter(
        reason if reason in SKIP_REASONS else OTHER_REASON if reason else NO_REASON for reason in reasons
    )
    order = (*SKIP_REASONS, OTHER_REASON, NO_REASON)
    return {name: counts[name] for name in order if counts[name]}


def _update(current: Standing, row: Answer) -> None:
    current.pop((row.annotator, row.item_id), None)
    if row.answer is not None:
        current[row.annotator, row.item_id] = row


class AnswerFile:
    """The answers of one queue, open for writing by one process at a time.

    `history` holds every line, oldest first. A draft is a reason that an annotator is still typing.
    """

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
            self.history = read_answers(path)
            self.standing = standing(self.history)
            self._folder = folder
            self._drafts = _read_drafts(folder / DRAFTS)
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
        self.history.append(row)
        if self.draft(row.annotator)[0] == row.item_id:
            self.keep_draft(row.annotator, "", "")

    def draft(self, annotator: str) -> tuple[str, str]:
        """The item and the text of an annotator's draft; empty where there is none."""
        return self._drafts.get(annotator, ("", ""))

    def keep_draft(self, annotator: str, item_id: str, text: str) -> None:
        """Replace the draft of an annotator on the disk; an empty text removes it."""
        self._drafts.pop(annotator, None)
        if text:
            self._drafts[annotator] = (item_id, text)
        write_atomically(self._folder / DRAFTS, json.dumps(self._drafts).encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_drafts(path: Path) -> dict[str, tuple[str, str]]:
    """Read the drafts; a file that holds none is no error, since nothing recorded depends on it."""
    try:
        drafts = json.loads(path.read_bytes())
        return {str(who): (str(item_id), str(text)) for who, (item_id, text) in drafts.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
