"""Serve one queue to the local page: rows to show, answers to store, answers to withdraw.

This module has no network code, and shows no annotator the labels of others or of a judge: only, after ten
shared items, on how many of one's first answers others agree (`agreement.RunningAgreement`).
"""

import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from trustescalate.data.annotation.agreement import RunningAgreement, agreement
from trustescalate.data.annotation.answers import SKIP_REASONS, Answer, AnswerFile
from trustescalate.data.annotation.markdown import formatted
from trustescalate.data.annotation.queue import FIRST, SECOND, Queue, QueueRow, Text
from trustescalate.errors import UsageError
from trustescalate.records import SKIP, TIE, TaskKind, parts, visible

LONGEST_NAME = 80
LONGEST_REASON = 200
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
        self._running = RunningAgreement(answers.history)

    def task(self) -> dict[str, Any]:
        """The question, its instructions, the answers with their keys, and who has answered how many rows."""
        header = self._queue.header
        task = header.task
        people: dict[str, int] = {}
        for annotator, item_id in self._answers.standing:
            people[annotator] = people.get(annotator, 0) + (item_id in self._place)
        return {
            "queue": header.id,
            "question": task.question,
            "kind": str(task.kind),
            "rows": len(self._rows),
            "by_criterion": any(row.criterion for row in self._rows),
            "options": options(self._queue),
            "reasons": list(SKIP_REASONS),
            "rubric": _text("", header.rubric) if header.rubric else None,
            "criteria": list(header.criteria),
            "people": [{"name": name, "done": done} for name, done in sorted(people.items())],
        }

    def start(self, annotator: str) -> dict[str, Any]:
        """Return the answers of one annotator so far, by row, and the name as it is stored.

        With the `reasons` of skips, a `draft` of one, and the running `agreement`, where there are any.
        """
        name = clean_name(annotator)
        own = self._own(name)
        so_far: dict[str, Any] = {
            "annotator": name,
            "answers": {str(self._place[row.item_id]): row.answer for row in own},
        }
        if reasons := {str(self._place[row.item_id]): row.reason for row in own if row.reason}:
            so_far["reasons"] = reasons
        item_id, text = self._answers.draft(name)
        if item_id in self._place:
            so_far["draft"] = {"row": self._place[item_id], "text": text}
        return so_far | self._so_far(name)

    def row(self, place: int) -> dict[str, Any]:
        """Return the texts of a row, without its id; of several criteria its question and its options too."""
        row = self._row(place)
        shown = {
            "row": place,
            "prompt": [*_turns(row.prompt), *_passages(row.context)],
            "responses": [_turns(response) for response in row.responses],
            "reference": None if row.reference is None else [_text("", row.reference)],
        }
        if not row.criterion:
            return shown
        own = options(self._queue, self._queue.answers_to(row))
        return {**shown, "question": f"{row.criterion}: {row.question}", "options": own}

    def answer(
        self, annotator: str, place: int, answer: str, seconds: float | None, reason: str | None = None
    ) -> dict[str, Any]:
        """Store an answer on the disk, of a skip with its reason."""
        row = self._row(place)
        if answer not in self._queue.answers_to(row):
            raise UsageError(f"{answer!r} is no answer here")
        if reason is not None:
            if answer != SKIP:
                raise UsageError("only a skip has a reason")
            reason = _clean(reason)
            if not 0 < len(reason) <= LONGEST_REASON:
                raise UsageError(f"a reason has 1 to {LONGEST_REASON} characters")
        if seconds is not None and not 0 <= seconds <= LONGEST_SECONDS:
            seconds = None
        name = clean_name(annotator)
        self._add(row.item_id, name, answer, None if seconds is None else round(seconds, 1), reason)
        return {"done": len(self._own(name)), **self._so_far(name)}

    def draft(self, annotator: str, place: int, text: str) -> dict[str, Any]:
        """Keep the reason that an annotator is typing; an empty one removes it."""
        if len(text) > LONGEST_REASON:
            raise UsageError(f"a reason has 1 to {LONGEST_REASON} characters")
        self._answers.keep_draft(clean_name(annotator), self._row(place).item_id, text)
        return {}

    def undo(self, annotator: str) -> dict[str, Any]:
        """Record that an annotator's last answer is withdrawn; `row` is its row, None without an answer."""
        name = clean_name(annotator)
        own = self._own(name)
        if not own:
            return {"row": None, "done": 0}
        self._add(own[-1].item_id, name, None, None)
        return {"row": self._place[own[-1].item_id], "done": len(own) - 1, **self._so_far(name)}

    def agreement(self, annotator: str) -> dict[str, Any]:
        """Return the inter-annotator agreement to an annotator who is done; it could bias the others."""
        if len(self._own(clean_name(annotator))) < len(self._rows):
            return {"pairs": [], "alpha": None}
        pairs, alpha = agreement(self._queue.answers, self._answers.standing.values())
        return {"pairs": [pair._asdict() for pair in pairs], "alpha": alpha}

    def _so_far(self, name: str) -> dict[str, Any]:
        figure = self._running.of(name)
        return {} if figure is None else {"agreement": figure}

    def _own(self, name: str) -> list[Answer]:
        answers = self._answers.standing.items()
        return [row for (who, item_id), row in answers if who == name and item_id in self._place]

    def _row(self, place: int) -> QueueRow:
        if not 0 <= place < len(self._rows):
            raise UsageError(f"there is no row {place}")
        return self._rows[place]

    def _add(
        self,
        item_id: str,
        annotator: str,
        answer: str | None,
        seconds: float | None,
        reason: str | None = None,
    ) -> None:
        at = f"{self._clock():%Y-%m-%dT%H:%M:%SZ}"
        row = Answer(self._queue.header.id, item_id, annotator, answer, seconds, at, reason)
        self._answers.add(row)
        self._running.add(row)


def clean_name(name: str) -> str:
    """Normalise a name, so that one person is one annotator. Raises UsageError for no name.

    >>> clean_name("  Ann   Lee ")
    'Ann Lee'
    """
    kept = _clean(name)
    if not 0 < len(kept) <= LONGEST_NAME:
        raise UsageError(f"a name has 1 to {LONGEST_NAME} characters")
    return kept


def _clean(text: str) -> str:
    kept = "".join(char if char.isprintable() else " " for char in unicodedata.normalize("NFC", text))
    return " ".join(kept.split())


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


def _turns(text: Text) -> list[dict[str, Any]]:
    if isinstance(text, str):
        return [_text("", visible(text))]
    return [_text(what, shown) for _, what, shown in parts(text, visible)]


def _passages(context: Sequence[str]) -> list[dict[str, Any]]:
    return [_text(f"passage {place}", text) for place, text in enumerate(context, 1)]


def _text(role: str, text: str) -> dict[str, Any]:
    """A text as the page receives it: with its Markdown as a tree where it has any; a tool has none."""
    tree = None if "tool" in role else formatted(text)
    return {"role": role, "text": text} if tree is None else {"role": role, "text": text, "tree": tree}
