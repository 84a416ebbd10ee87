"""Serve one queue to the local page: rows to show, answers to store, answers to withdraw.

This module has no network code, and shows no annotator the labels of others or of a judge.
"""

import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from trustescalate.data.annotation.agreement import agreement
from trustescalate.data.annotation.answers import Answer, AnswerFile
from trustescalate.data.annotation.queue import FIRST, SECOND, Queue, QueueRow, Text
from trustescalate.errors import UsageError
from trustescalate.records import SKIP, TIE, TaskKind, parts, visible

LONGEST_NAME = 80
LONGEST_SECONDS = 86_400.0
"""A longer time on a row is an error of measurement."""
PAIR_KEYS = {FIRST: ("1", "a"), SECOND: ("2", "b"), TIE: ("0", "t")}
PAIR_TITLES = {FIRST: "Response 1", SECOND: "Response 2", TIE: "Tie"}


class AnnotationSession:
    """The annotation session behind the page. Rows are counted from 0, in the order of the queue.

    Raises UsageError for a name, a row or an answer that does not exist; nothing is written then.
    """

    def __init__(
        self, queue: Queue, answers: AnswerFile, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._queue = queue
        self._rows = queue.asked
        self._place = {row.item_id: n for n, row in enumerate(self._rows)}
        self._answers = answers
        self._clock = clock

    def task(self) -> dict[str, Any]:
        """The question, the answers with their keys, and who has answered how many rows."""
        task = self._queue.header.task
        people: dict[str, int] = {}
        for annotator, item_id in self._answers.standing:
            people[annotator] = people.get(annotator, 0) + (item_id in self._place)
        return {
            "queue": self._queue.header.id,
            "question": task.question,
            "kind": str(task.kind),
            "rows": len(self._rows),
            "options": options(self._queue),
            "people": [{"name": name, "done": done} for name, done in sorted(people.items())],
        }

    def start(self, annotator: str) -> dict[str, Any]:
        """Return the answers of one annotator so far, by row, and the name as it is stored."""
        name = clean_name(annotator)
        own = self._own(name)
        return {"annotator": name, "answers": {str(self._place[row.item_id]): row.answer for row in own}}

    def row(self, place: int) -> dict[str, Any]:
        """Return the texts of a row, without its id; of several criteria its question and its options too."""
        row = self._row(place)
        shown = {
            "row": place,
            "prompt": [*_turns(row.prompt), *_passages(row.context)],
            "responses": [_turns(response) for response in row.responses],
            "reference": row.reference,
        }
        if not row.criterion:
            return shown
        own = options(self._queue, self._queue.answers_to(row))
        return {**shown, "question": f"{row.criterion}: {row.question}", "options": own}

    def answer(self, annotator: str, place: int, answer: str, seconds: float | None) -> dict[str, Any]:
        """Store an answer on the disk."""
        row = self._row(place)
        if answer not in self._queue.answers_to(row):
            raise UsageError(f"{answer!r} is no answer here")
        if seconds is not None and not 0 <= seconds <= LONGEST_SECONDS:
            seconds = None
        name = clean_name(annotator)
        self._add(row.item_id, name, answer, None if seconds is None else round(seconds, 1))
        return {"done": len(self._own(name))}

    def undo(self, annotator: str) -> dict[str, Any]:
        """Withdraw an annotator's last answer; `row` is its row, None where there is no answer."""
        name = clean_name(annotator)
        own = self._own(name)
        if not own:
            return {"row": None, "done": 0}
        self._add(own[-1].item_id, name, None, None)
        return {"row": self._place[own[-1].item_id], "done": len(own) - 1}

    def agreement(self, annotator: str) -> dict[str, Any]:
        """Return the inter-annotator agreement to an annotator who is done; it could bias the others."""
        if len(self._own(clean_name(annotator))) < len(self._rows):
            return {"pairs": [], "alpha": None}
        pairs, alpha = agreement(self._queue.answers, self._answers.standing.values())
        return {"pairs": [pair._asdict() for pair in pairs], "alpha": alpha}

    def _own(self, name: str) -> list[Answer]:
        answers = self._answers.standing.items()
        return [row for (who, item_id), row in answers if who == name and item_id in self._place]

    def _row(self, place: int) -> QueueRow:
        if not 0 <= place < len(self._rows):
            raise UsageError(f"there is no row {place}")
        return self._rows[place]

    def _add(self, item_id: str, annotator: str, answer: str | None, seconds: float | None) -> None:
        at = f"{self._clock():%Y-%m-%dT%H:%M:%SZ}"
        self._answers.add(Answer(self._queue.header.id, item_id, annotator, answer, seconds, at))


def clean_name(name: str) -> str:
    """Normalise a name, so that one person is one annotator. Raises UsageError for no name.

    >>> clean_name("  Ann   Lee ")
    'Ann Lee'
    """
    kept = "".join(char if char.isprintable() else " " for char in unicodedata.normalize("NFC", name))
    kept = " ".join(kept.split())
    if not 0 < len(kept) <= LONGEST_NAME:
        raise UsageError(f"a name has 1 to {LONGEST_NAME} characters")
    return kept


def options(queue: Queue, answers: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return all answers, or these, each with a title and its keys. The key `u` undoes; no key has two uses.

    >>> from pathlib import Path
    >>> from trustescalate.data.annotation.queue import QueueHeader
    >>> from trustescalate.records import Task
    >>> task = Task(TaskKind.RATING, "How good is it?", tuple("12345"))
    >>> queue = Queue(QueueHeader(1, "q", "sample", task, 0, ""), (), Path())
    >>> [(each["answer"], each["keys"]) for each in options(queue)][3:]
    [('4', ['4']), ('5', ['5']), ('skip', ['s'])]
    """
    labels = [answer for answer in answers or queue.answers if answer != SKIP]
    kind = queue.header.task.kind
    if kind is TaskKind.PAIRWISE:
        keys = [list(PAIR_KEYS[label]) for label in labels]
    elif kind is TaskKind.RATING:
        keys = [
            [label] if len(label) == 1 else ["0"] if (label, labels[0]) == ("10", "1") else []
            for label in labels
        ]
    else:
        keys = _choice_keys(labels)
    titles = [PAIR_TITLES.get(label, label) if kind is TaskKind.PAIRWISE else label for label in labels]
    rows = zip([*labels, SKIP], [*titles, "Skip"], [*keys, ["s"]], strict=True)
    return [{"answer": answer, "title": title, "keys": own} for answer, title, own in rows]


def _choice_keys(labels: list[str]) -> list[list[str]]:
    """Digits in order, and the first letter where it is unique to one label."""
    firsts = [label[:1].casefold() for label in labels]
    keys = []
    for n, first in enumerate(firsts):
        alone = firsts.count(first) == 1 and first.isalpha() and first not in "su"
        keys.append(([str(n + 1)] if n < 9 else []) + ([first] if alone else []))
    return keys


def _turns(text: Text) -> list[dict[str, str]]:
    if isinstance(text, str):
        return [{"role": "", "text": visible(text)}]
    return [{"role": what, "text": shown} for _, what, shown in parts(text, visible)]


def _passages(context: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": f"passage {place}", "text": text} for place, text in enumerate(context, 1)]
