"""Answers on their way back: from the local page, a spreadsheet or another tool into [data] annotations.

All or nothing: whatever cannot be taken is named, and then nothing is written. Why an item was labelled comes
from the queues, never from the answers, so that what a cascade abstained on does not certify by accident.
"""

import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from trustescalate.config import Config
from trustescalate.data.annotation.answers import ANSWERS, Answer, read_answers, standing
from trustescalate.data.annotation.queue import (
    FIRST,
    SECOND,
    Queue,
    content_of,
    load_labels,
    queue_folders,
    read_queue,
)
from trustescalate.data.dataset import Dataset
from trustescalate.data.importers.base import Found, Notes, Plain
from trustescalate.data.importers.files import Rejected, open_foreign
from trustescalate.data.importers.registry import recognise
from trustescalate.errors import DataError, UsageError
from trustescalate.records import SKIP, TIE, Annotation, Item, Label, Purpose, Task, TaskKind
from trustescalate.records.jsonl import decode, encode, to_python, write_atomically

IDS = ("item_id", "id")
"""A CSV of answers has one of these, `annotator`, and `answer` (as shown) or `label` (in the item's own)."""
SPELLINGS = {"1": FIRST, "2": SECOND, "0": TIE}
FLIPPED = {"A": "B", "B": "A"}


DRAWN: Mapping[Purpose, int] = {"region": 1, "sample": 2}
"""Purposes of rows that were drawn, and which one stays where an item was drawn twice: the larger."""


class Given(NamedTuple):
    """One person's label of one item, and where it stands."""

    where: str
    item_id: str
    annotator: str
    label: Label
    purpose: Purpose
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CollectedAnswers:
    """What came back. `merged` was known, with the same label; `promoted` items joined the sample.

    `unanswered` counts the drawn rows without any answer; `sample` all items that can certify by now.
    """

    annotations: str
    added: int
    merged: int
    skips: int
    ties: int
    annotators: int
    promoted: int
    unanswered: int
    sample: int
    purposes: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        people = f"{self.annotators:,} annotator" + ("" if self.annotators == 1 else "s")
        said = [f"added:   {self.added:,} labels of {people} (skips {self.skips:,}, ties {self.ties:,})"]
        if self.merged:
            said.append(f"merged:  {self.merged:,} that were there already, with the same label")
        if self.promoted:
            said.append(f"sample:  {self.promoted:,} items had labels already, and were drawn now")
        said += [f"purpose: {MEANING[purpose]}: {count:,}" for purpose, count in self.purposes.items()]
        if self.unanswered:
            said.append(
                f"open:    {self.unanswered:,} drawn rows have no answer. Answer or skip every one, in their "
                "order: leaving out the hard ones would break the guarantee"
            )
        return said


MEANING: Mapping[str, str] = {
    "sample": "drawn at random, they can certify",
    "region": "drawn at random where the tested policies accept, they can certify",
    "abstained": "the cascade abstained on them; they settle these items and never certify",
    "other": "in no queue; why they were labelled is not known, so they never certify",
}


def collect_answers(config: Config, files: Sequence[Path] = ()) -> CollectedAnswers:
    """Add answers to [data] annotations: those in `files`, by default those of all queues.

    Takes answers files of the local page, CSV with `item_id`, `annotator` and `answer` or `label`, and the
    exports of tools that `import` knows. Raises DataError that names every answer that cannot be taken: an
    unknown item or label, an item whose texts were changed since, or a person who says two things.
    """
    queues = {queue.header.id: queue for queue in map(read_queue, queue_folders(config))}
    paths = list(files) or [path for queue in queues.values() if (path := queue.folder / ANSWERS).exists()]
    if not paths:
        raise UsageError("there are no answers yet", "`trustescalate label serve`, or name a file of answers")
    desk = _Desk(config.task.task(), load_labels(config), queues)
    given = [each for path in paths for each in desk.read(path)]
    desk.merge(given)
    if desk.problems:
        raise DataError(desk.problems, "nothing was changed; mend the lines named above and try again")
    path = config.path(config.data.annotations)
    promoted = desk.promote() + len(desk.upgraded)
    if desk.new or promoted:
        data = b"".join(encode(note) + b"\n" for note in desk.notes.values())
        write_atomically(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    new = Counter(note.label for note in desk.new)
    after = Dataset(desk.data.items, tuple(desk.notes.values()))
    return CollectedAnswers(
        annotations=str(path),
        added=len(desk.new),
        merged=len(given) - len(desk.new),
        skips=new[SKIP],
        ties=new[TIE],
        annotators=len({note.annotator for note in desk.new}),
        promoted=promoted,
        unanswered=desk.unanswered(),
        sample=len(after.labelled) + len(after.in_region),
        purposes=dict(sorted(Counter(note.purpose for note in desk.new).items())),
    )


class _Desk:
    """What is known of items, queues and labels while answers come in."""

    def __init__(self, task: Task, data: Dataset, queues: Mapping[str, Queue]) -> None:
        self.task = task
        self.data = data
        self.problems: list[str] = []
        self.notes = {(note.item_id, note.annotator): note for note in data.annotations}
        self.new: list[Annotation] = []
        self.upgraded: set[str] = set()
        self._queues = queues
        self._items = {item.id: item for item in data.items}
        self._rows = {name: {row.item_id: row for row in queue.rows} for name, queue in queues.items()}

    def read(self, path: Path) -> Iterator[Given]:
        """Everything that one file says."""
        form = _form(path)
        if form == "answers":
            yield from self._own(path)
        elif form == "table":
            yield from self._table(path)
        else:
            yield from self._foreign(path)

    def merge(self, given: Iterable[Given]) -> None:
        """Put answers among the labels: the same label once, and never two of one person on one item."""
        allowed = self.task.annotation_labels
        for where, item_id, annotator, label, purpose, seconds in given:
            at = f"{where}: item {item_id!r}"
            if item_id not in self._items:
                self.problems.append(f"{at} is not in [data] items; remove the answer, or add the item")
                continue
            if label not in allowed:
                self.problems.append(f"{at}: {label!r} is not one of {', '.join(allowed)}; mend the answer")
                continue
            if not annotator.strip():
                self.problems.append(f"{at} does not say who answered; name the annotator")
                continue
            self._put(at, Annotation(item_id, annotator, label, seconds, purpose))

    def _put(self, at: str, note: Annotation) -> None:
        key = (note.item_id, note.annotator)
        before = self.notes.get(key)
        if before is None:
            self.notes[key] = note
            self.new.append(note)
        elif before.label != note.label:
            self.problems.append(
                f"{at}: {note.annotator!r} says {note.label!r} here, but {before.label!r} before; keep one"
            )
        elif DRAWN.get(note.purpose, 0) > DRAWN.get(before.purpose, 0):
            self.notes[key] = note
            self.upgraded.add(note.item_id)

    def promote(self) -> int:
        """Items that were drawn, and had labels of another purpose: they are in the sample now.

        In the order of the draw, as far as its rows are answered: so whoever stops early has a random sample.
        """
        return sum(self._promote(purpose) for purpose in DRAWN)

    def _promote(self, purpose: Purpose) -> int:
        labelled = {item_id for item_id, _ in self.notes}
        known = {note.item_id for note in self.notes.values() if DRAWN.get(note.purpose, 0) >= DRAWN[purpose]}
        drawn: set[str] = set()
        for queue in self._drawn(purpose):
            rows = [row.item_id for row in queue.rows]
            last = max((n for n, item_id in enumerate(rows) if item_id in known), default=-1)
            drawn |= set(rows if labelled.issuperset(rows) else rows[:last])
        found = (drawn & labelled) - known
        for key, note in self.notes.items():
            if note.item_id in found:
                self.notes[key] = replace(note, purpose=purpose)
        return len(found)

    def _drawn(self, *purposes: Purpose) -> Iterator[Queue]:
        return (queue for queue in self._queues.values() if queue.header.purpose in purposes)

    def unanswered(self) -> int:
        """Drawn rows that nobody has labelled."""
        labelled = {item_id for item_id, _ in self.notes}
        drawn = {row.item_id for queue in self._drawn(*DRAWN) for row in queue.rows}
        return len((drawn & self._items.keys()) - labelled)

    # ── three kinds of files ──

    def _own(self, path: Path) -> Iterator[Given]:
        for row in standing(read_answers(path)).values():
            at = f"{path}: item {row.item_id!r}"
            queue = self._queues.get(row.queue)
            if queue is None:
                self.problems.append(
                    f"{at} is about queue {row.queue!r}, which is not here; bring its folder"
                )
            elif self._is_shown(at, queue, row.item_id):
                yield from self._given(str(path), queue, row, queue.header.purpose)

    def _table(self, path: Path) -> Iterator[Given]:
        for line, row in _table_rows(path):
            at = f"{path}:{line}"
            item_id, annotator = _id(row), row["annotator"].strip()
            if not row.get("answer", "").strip():
                if label := row.get("label", "").strip():
                    yield Given(at, item_id, annotator, label, self._purpose(item_id))
                continue
            queue = self._queue_of(at, item_id)
            if queue is not None and self._is_shown(f"{at}: item {item_id!r}", queue, item_id):
                answer = row["answer"].strip()
                pair = self.task.kind is TaskKind.PAIRWISE
                spelled = SPELLINGS.get(answer, answer.casefold()) if pair else answer
                said = Answer(queue.header.id, item_id, annotator, spelled)
                yield from self._given(at, queue, said, self._purpose(item_id))

    def _foreign(self, path: Path) -> Iterator[Given]:
        found, parts = recognise([open_foreign(path)])
        for taken in found.read(parts, Notes()):
            if isinstance(taken, Rejected):
                self.problems.append(str(taken))
                continue
            item_id, responses, notes = _parts(taken)
            item = self._items.get(item_id)
            turned = item is not None and self._turned(f"{path}: item {item_id!r}", item, responses)
            for annotator, label in notes:
                own = FLIPPED.get(label, label) if turned else label
                yield Given(str(path), item_id, annotator, own, self._purpose(item_id))

    # ── parts ──

    def _given(self, where: str, queue: Queue, said: Answer, purpose: Purpose) -> Iterator[Given]:
        answer, item_id = str(said.answer), said.item_id
        if answer in queue.answers:
            label = queue.label(item_id, answer)
            yield Given(where, item_id, said.annotator, label, purpose, said.seconds)
        else:
            allowed = ", ".join(queue.answers)
            self.problems.append(f"{where}: item {item_id!r}: {answer!r} is not one of {allowed}")

    def _purpose(self, item_id: str) -> Purpose:
        """Why people labelled an item, where the answer does not name its queue.

        What is in two queues counts as abstained on, until the draw comes by (`promote`).
        """
        held = [queue.header.purpose for name, queue in self._queues.items() if item_id in self._rows[name]]
        return "abstained" if "abstained" in held else held[0] if held else "other"

    def _queue_of(self, at: str, item_id: str) -> Queue | None:
        """The queue that an answer in a table is about; if several hold the item, all show it alike."""
        held = [queue for name, queue in self._queues.items() if item_id in self._rows[name]]
        if not held:
            self.problems.append(f"{at}: item {item_id!r} is in no queue; give its `label`, not an `answer`")
            return None
        if len({queue.label(item_id, FIRST) for queue in held}) > 1:
            self.problems.append(
                f"{at}: item {item_id!r} is shown differently in two queues; give its `label`"
            )
            return None
        return held[-1]

    def _is_shown(self, at: str, queue: Queue, item_id: str) -> bool:
        row, item = self._rows[queue.header.id].get(item_id), self._items.get(item_id)
        if row is None:
            self.problems.append(f"{at} is not in queue {queue.header.id}; remove the answer")
        elif item is None:
            self.problems.append(f"{at} is not in [data] items any more; bring it back")
        elif content_of(item) != row.content:
            self.problems.append(f"{at}: its texts were changed since it was shown; queue it again")
        else:
            return True
        return False

    def _turned(self, at: str, item: Item, responses: Sequence[Any]) -> bool:
        """Whether a tool shows an item's responses the other way round."""
        ours = list(to_python(item)["responses"])
        if list(responses) == ours:
            return False
        if list(responses) == ours[::-1]:
            return True
        self.problems.append(f"{at}: its texts are not those of [data] items; label that item again")
        return False


def _parts(taken: Found | Plain) -> tuple[str, Sequence[Any], Sequence[tuple[str, Label]]]:
    if isinstance(taken, Plain):
        return str(taken.item["id"]), taken.item["responses"], taken.notes
    notes = [(note.annotator, note.label) for note in taken.annotations]
    return taken.item.id, to_python(taken.item)["responses"], notes


def _form(path: Path) -> str:
    """What a file of answers looks like."""
    try:
        with path.open("rb") as file:
            first = file.readline(1 << 20)
    except OSError as error:
        raise DataError([f"{path}: cannot be read: {error.strerror}"], "name a file of answers") from None
    if path.suffix == ".csv":
        names = next(csv.reader([first.decode("utf-8-sig", "replace")]), [])
        known = set(map(str.strip, names))
        told = "annotator" in known and known & {"answer", "label"} and known & set(IDS)
        return "table" if told else "foreign"
    try:
        decode(first, Answer)
    except ValueError:
        return "answers" if path.name == ANSWERS else "foreign"
    return "answers"


def _id(row: Mapping[str, str]) -> str:
    return next(row[name].strip() for name in IDS if name in row)


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        for row in rows:
            yield rows.line_num, {name: row.get(name) or "" for name in rows.fieldnames}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError([f"{path}: not a CSV in UTF-8: {error}"], "save it as CSV, UTF-8") from None
