"""Collect answers from the local page, a spreadsheet or another tool into [data] annotations.

All or nothing: every invalid answer is named, and then nothing is written. The purpose of a label comes from
the queues, never from the answers, so that abstained items do not certify by accident.
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
from trustescalate.data.annotation.answers import ANSWERS, Answer, count_reasons, read_answers, standing
from trustescalate.data.annotation.queue import (
    FIRST,
    SECOND,
    Queue,
    load_labels,
    queue_folders,
    read_queue,
)
from trustescalate.data.clusters import content_of
from trustescalate.data.criteria import labels_of_rows, note_of_item
from trustescalate.data.dataset import CONTENT, FIX_LINES, Dataset
from trustescalate.data.importers.base import Found, Notes, Plain
from trustescalate.data.importers.files import Rejected, open_foreign
from trustescalate.data.importers.registry import recognise
from trustescalate.data.importers.verdicts import SWAPPED
from trustescalate.errors import DataError, UsageError
from trustescalate.records import SKIP, TIE, Annotation, Item, Label, Purpose, TaskKind, visible
from trustescalate.records.bounded import open_file, read_whole
from trustescalate.records.criteria import CRITERION, RowName, row_id, row_name
from trustescalate.records.item_columns import items_by_id
from trustescalate.records.jsonl import decode, encode, to_python, write_atomically

IDS = ("item_id", "id")
"""A CSV of answers has one of these, `annotator`, and `answer` (as shown) or `label` (of the item); with
[[criteria]] also `criterion`."""
SPELLINGS = {"1": FIRST, "2": SECOND, "0": TIE}
DRAWN: Mapping[Purpose, int] = {"region": 1, "sample": 2}
"""Purposes of drawn rows; the larger one wins where an item was drawn twice."""


class Given(NamedTuple):
    """One annotator's label of one item, and its place in a file; `shown`: the texts are those of now."""

    where: str
    item_id: str
    annotator: str
    label: Label
    purpose: Purpose
    seconds: float | None = None
    shown: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CollectedAnswers:
    """Counts of collected labels. `merged` were known before; `promoted` items joined the sample.

    `skip_reasons` counts the reasons of the added skips.

    `unanswered` counts the drawn rows without any answer; `sample` all items that can certify.
    """

    annotations: str
    added: int
    merged: int
    skips: int
    skip_reasons: Mapping[str, int]
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
        annotators = f"{self.annotators:,} annotator" + ("" if self.annotators == 1 else "s")
        lines = [f"added:   {self.added:,} labels of {annotators} (skips {self.skips:,}, ties {self.ties:,})"]
        if self.skips:
            reasons = (f"{reason} ({count:,})" for reason, count in self.skip_reasons.items())
            lines.append(f"skipped: {', '.join(reasons)}")
        if self.merged:
            lines.append(f"merged:  {self.merged:,} that were there already, with the same label")
        if self.promoted:
            lines.append(f"sample:  {self.promoted:,} items had labels already, and were drawn now")
        lines += [f"purpose: {MEANING[purpose]}: {count:,}" for purpose, count in self.purposes.items()]
        if self.unanswered:
            lines.append(
                f"open:    {self.unanswered:,} drawn rows have no answer. Answer or skip every one, in their "
                "order: leaving out the hard ones would break the guarantee"
            )
        return lines


MEANING: Mapping[str, str] = {
    "sample": "drawn at random; they can certify",
    "region": "drawn at random where the tested policies accept; they can certify",
    "abstained": "abstained on by the cascade; they settle these items and never certify",
    "other": "in no queue, labelled for an unknown reason; they never certify",
}


def collect_answers(config: Config, files: Sequence[Path] = ()) -> CollectedAnswers:
    """Add answers to [data] annotations: those in `files`, by default those of all queues.

    Reads answers files of the local page, CSV with `item_id`, `annotator` and `answer` or `label`, and the
    formats of `import`. Raises DataError with every invalid answer: an unknown item or label, an item whose
    texts were changed since, or two labels of one annotator.
    """
    queues = {queue.header.id: queue for queue in map(read_queue, queue_folders(config))}
    paths = list(files) or [path for queue in queues.values() if (path := queue.folder / ANSWERS).exists()]
    if not paths:
        raise UsageError("there are no answers yet", "`trustescalate label serve`, or name a file of answers")
    collection = _Collection(config, load_labels(config), queues)
    given = [each for path in paths for each in collection.read(path)]
    collection.merge(given)
    if collection.problems:
        raise DataError(collection.problems, FIX_LINES)
    path = config.path(config.data.annotations)
    promoted = collection.promote() + len(collection.upgraded)
    if collection.new or promoted:
        data = b"".join(encode(note) + b"\n" for note in collection.written())
        write_atomically(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    new = Counter(note.label for note in collection.new)
    after = Dataset(collection.data.items, tuple(collection.notes.values()))
    return CollectedAnswers(
        annotations=str(path),
        added=len(collection.new),
        merged=len(given) - len(collection.new),
        skips=new[SKIP],
        skip_reasons=count_reasons(note.reason for note in collection.new if note.label == SKIP),
        ties=new[TIE],
        annotators=len({note.annotator for note in collection.new}),
        promoted=promoted,
        unanswered=collection.unanswered(),
        sample=len(after.labelled) + len(after.in_region),
        purposes=dict(sorted(Counter(note.purpose for note in collection.new).items())),
    )


class _Collection:
    """Items, queues and labels while answers are merged."""

    def __init__(self, config: Config, data: Dataset, queues: Mapping[str, Queue]) -> None:
        self.config, self.data = config, data
        self.task = config.task.task()
        self.problems: list[str] = []
        self.notes = {(note.item_id, note.annotator): note for note in data.annotations}
        self.new: list[Annotation] = []
        self.upgraded: set[str] = set()
        self._queues = queues
        self._items = items_by_id(data.items)
        self._rows = {name: {row.item_id: row for row in queue.rows} for name, queue in queues.items()}

    def read(self, path: Path) -> Iterator[Given]:
        """Read all labels of one file."""
        form = _form(path)
        if form == "answers":
            yield from self._own(path)
        elif form == "table":
            yield from self._table(path)
        else:
            yield from self._foreign(path)

    def merge(self, given: Iterable[Given]) -> None:
        """Merge labels: the same label once, and never two of one annotator on one item."""
        labels = {name: task.annotation_labels for name, task in labels_of_rows(self.config).items()}
        for where, item_id, annotator, label, purpose, seconds, shown, reason in given:
            at = f"{where}: {self._named(item_id)}"
            item = self._items.get(item_id)
            if item is None:
                self.problems.append(f"{at} {self._why_unknown(item_id)}")
                continue
            allowed = labels[row_name(item).criterion if self.config.criteria else ""]
            if label not in allowed:
                self.problems.append(f"{at}: {label!r} is not one of {', '.join(allowed)}; fix the answer")
                continue
            if not annotator.strip():
                self.problems.append(f"{at} has no annotator; name the annotator")
                continue
            content = content_of(item)[:CONTENT] if shown else None
            note = Annotation(
                item_id, annotator, label, seconds, purpose, content=content, reason=reason or None
            )
            self._put(at, note)

    def _named(self, item_id: str) -> str:
        """An item as messages name it; of a row of several criteria its item and its criterion."""
        item = self._items.get(item_id)
        name = RowName(item_id, "") if item is None else row_name(item)
        return f"item {name.item_id!r}" + (f" on {name.criterion!r}" if name.criterion else "")

    def _why_unknown(self, item_id: str) -> str:
        names = [each.name for each in self.config.criteria]
        if any(row_id(item_id, name) in self._items for name in names):
            return (
                f"has no criterion; a column criterion says which one an answer is about: {', '.join(names)}"
            )
        return "is not in [data] items; remove the answer, or add the item"

    def written(self) -> Iterator[Annotation]:
        """The annotations as the file has them."""
        return (note_of_item(note, self._items.get(note.item_id)) for note in self.notes.values())

    def _put(self, at: str, note: Annotation) -> None:
        key = (note.item_id, note.annotator)
        before = self.notes.get(key)
        if before is None:
            self.notes[key] = note
            self.new.append(note)
        elif before.label != note.label:
            self.problems.append(
                f"{at}: {note.annotator!r} gives {note.label!r} here, and {before.label!r} before; keep one"
            )
        elif DRAWN.get(note.purpose, 0) > DRAWN.get(before.purpose, 0):
            self.notes[key] = note
            self.upgraded.add(note.item_id)

    def promote(self) -> int:
        """Move drawn items with labels of another purpose into the sample, and count them.

        Only up to the last answered row of the draw, so that an incomplete draw is a random sample.
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
        promoted = (drawn & labelled) - known
        for key, note in self.notes.items():
            if note.item_id in promoted:
                self.notes[key] = replace(note, purpose=purpose)
        return len(promoted)

    def _drawn(self, *purposes: Purpose) -> Iterator[Queue]:
        return (queue for queue in self._queues.values() if queue.header.purpose in purposes)

    def unanswered(self) -> int:
        """Count the drawn rows without a label."""
        labelled = {item_id for item_id, _ in self.notes}
        drawn = {row.item_id for queue in self._drawn(*DRAWN) for row in queue.rows}
        return len((drawn & self._items.keys()) - labelled)

    # ── three kinds of files ──

    def _own(self, path: Path) -> Iterator[Given]:
        for row in standing(read_answers(path)).values():
            at = f"{path}: {self._named(row.item_id)}"
            queue = self._queues.get(row.queue)
            if queue is None:
                self.problems.append(f"{at} is about queue {row.queue!r}, which is missing; copy its folder")
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
            if queue is not None and self._is_shown(f"{at}: {self._named(item_id)}", queue, item_id):
                answer = row["answer"].strip()
                pair = self.task.kind is TaskKind.PAIRWISE
                spelled = SPELLINGS.get(answer, answer.casefold()) if pair else answer
                given = Answer(
                    queue.header.id, item_id, annotator, spelled, reason=row.get("reason", "").strip() or None
                )
                yield from self._given(at, queue, given, self._purpose(item_id))

    def _foreign(self, path: Path) -> Iterator[Given]:
        source, parts = recognise([open_foreign(path)])
        for taken in source.read(parts, Notes()):
            if isinstance(taken, Rejected):
                self.problems.append(str(taken))
                continue
            item_id, responses, notes = _parts(taken)
            item = self._items.get(item_id)
            swapped = item is not None and self._is_swapped(
                f"{path}: {self._named(item_id)}", item, responses
            )
            for annotator, label in notes:
                own = SWAPPED.get(label, label) if swapped else label
                yield Given(str(path), item_id, annotator, own, self._purpose(item_id))

    # ── parts ──

    def _given(self, where: str, queue: Queue, row: Answer, purpose: Purpose) -> Iterator[Given]:
        answer, item_id = str(row.answer), row.item_id
        answers = queue.answers_to(self._rows[queue.header.id][item_id])
        if answer in answers:
            label = queue.label(item_id, answer)
            reason = row.reason if label == SKIP else None
            yield Given(where, item_id, row.annotator, label, purpose, row.seconds, True, reason)
        else:
            allowed = ", ".join(answers)
            self.problems.append(f"{where}: {self._named(item_id)}: {answer!r} is not one of {allowed}")

    def _purpose(self, item_id: str) -> Purpose:
        """The purpose of a label without a named queue.

        An item in two queues counts as abstained, until `promote` moves it into the sample.
        """
        purposes = [queue.header.purpose for queue in self._queues_with(item_id)]
        return "abstained" if "abstained" in purposes else purposes[0] if purposes else "other"

    def _queues_with(self, item_id: str) -> list[Queue]:
        return [queue for name, queue in self._queues.items() if item_id in self._rows[name]]

    def _queue_of(self, at: str, item_id: str) -> Queue | None:
        """The queue of an answer in a table; several queues with the item must show it alike."""
        queues = self._queues_with(item_id)
        if not queues:
            self.problems.append(
                f"{at}: {self._named(item_id)} is in no queue; give its `label`, not an `answer`"
            )
            return None
        if len({queue.label(item_id, FIRST) for queue in queues}) > 1:
            self.problems.append(
                f"{at}: {self._named(item_id)} is shown differently in two queues; give its `label`"
            )
            return None
        return queues[-1]

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

    def _is_swapped(self, at: str, item: Item, responses: Sequence[Any]) -> bool:
        """Whether a tool shows the responses of an item in reverse."""
        ours, theirs = list(map(_visible, to_python(item)["responses"])), list(map(_visible, responses))
        if theirs == ours:
            return False
        if theirs == ours[::-1]:
            return True
        self.problems.append(f"{at}: its texts are not those of [data] items; label that item again")
        return False


def _visible(response: Any) -> Any:
    return visible(response) if isinstance(response, str) else response


def _parts(taken: Found | Plain) -> tuple[str, Sequence[Any], Sequence[tuple[str, Label]]]:
    if isinstance(taken, Plain):
        return str(taken.item["id"]), taken.item["responses"], taken.notes
    notes = [(note.annotator, note.label) for note in taken.annotations]
    return taken.item.id, to_python(taken.item)["responses"], notes


def _form(path: Path) -> str:
    """The kind of a file of answers: "answers", "table" or "foreign"."""
    try:
        with open_file(path) as file:
            first = file.readline(1 << 20)
    except OSError as error:
        raise DataError([f"{path}: cannot be read: {error.strerror}"], "name a file of answers") from None
    if path.suffix == ".csv":
        names = next(csv.reader([first.decode("utf-8-sig", "replace")]), [])
        known = set(map(str.strip, names))
        is_table = "annotator" in known and known & {"answer", "label"} and known & set(IDS)
        return "table" if is_table else "foreign"
    try:
        decode(first, Answer)
    except ValueError:
        return "answers" if path.name == ANSWERS else "foreign"
    return "answers"


def _id(row: Mapping[str, str]) -> str:
    named = next(row[name].strip() for name in IDS if name in row)
    criterion = row.get(CRITERION, "").strip()
    return row_id(named, criterion) if criterion else named


def _table_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = read_whole(path).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        for row in rows:
            yield rows.line_num, {name: row.get(name) or "" for name in rows.fieldnames}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError([f"{path}: not a CSV in UTF-8: {error}"], "save it as CSV, UTF-8") from None
