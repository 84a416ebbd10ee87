"""A set of items, annotations and votes, written as records come, in memory that does not grow with them.

What was written before is remembered on disk. An item that comes again with the same texts is the same item;
an id that comes again with other texts is refused, and so is a second opinion of one person on one item
unless it says the same. The set appears under its name when it is whole, or not at all.
"""

import hashlib
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from pydantic_core import to_json

from trustescalate.data.importers.base import Found, Plain, Taken
from trustescalate.data.importers.files import BUFFER, Rejected
from trustescalate.records import Judgment
from trustescalate.records.jsonl import encode, to_python

BATCH = 100
"""Records that are best added at once. Many more of them alive keep the garbage collector busy."""
AT_ONCE = 500
"""Keys that one statement looks up."""
MOST_JUDGES = 200
INDEX_KB = 32_000
"""Memory for the database of what was written."""


class JudgeCount(NamedTuple):
    """What a set holds of one judge."""

    file: str
    judgments: int
    votes: int
    failures: int
    cost: float
    planned: int


class ImportedSet:
    """A folder that is being filled: items.jsonl, annotations.jsonl, votes/<judge>.jsonl, rejected.jsonl.

    `add` takes records in any number; `close` on an exception leaves nothing behind. Counts are of what was
    written. `rejected` holds the first few; all of them are in rejected.jsonl.
    """

    SHOWN = 20

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        self._items = (self._draft / "items.jsonl").open("wb", BUFFER)
        self._notes = (self._draft / "annotations.jsonl").open("wb", BUFFER)
        self._refused: IO[bytes] | None = None
        self._votes: dict[str, IO[bytes]] = {}
        self._seen = _Seen(self._draft / "seen.sqlite")
        self.items = self.annotations = self.repeated = self.refused = 0
        self.labels: Counter[str] = Counter()
        self.rejected: list[Rejected] = []
        self.judges: dict[str, JudgeCount] = {}

    def add(self, batch: Iterable[Taken]) -> None:
        """Take some records, and count those that could not be taken. A few hundred at a time are fast."""
        rows = []
        for taken in batch:
            if isinstance(taken, Plain):
                rows.append(taken)
            elif isinstance(taken, Rejected):
                self.reject(taken)
            else:
                rows.append(_plain_record(taken))
        self._add(rows)

    def reject(self, problem: Rejected) -> None:
        """Count what could not be taken, and write it down."""
        self.refused += 1
        if len(self.rejected) < self.SHOWN:
            self.rejected.append(problem)
        if self._refused is None:
            self._refused = (self._draft / "rejected.jsonl").open("wb")
        self._refused.write(to_json(problem._asdict()) + b"\n")

    def write(self, name: str, data: bytes) -> None:
        """Put a file beside the rows."""
        (self._draft / name).write_bytes(data)

    def finish(self) -> None:
        """Give the folder its name."""
        self._close()
        for left in self._draft.glob("seen.*"):
            left.unlink()
        self._draft.chmod(0o755)
        if self._folder.exists():
            self._folder.rmdir()  # empty, or it would not have been given
        self._draft.rename(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def _close(self) -> None:
        self._seen.close()
        for file in (self._items, self._notes, self._refused, *self._votes.values()):
            if file is not None:
                file.close()

    def _add(self, rows: Sequence[Plain]) -> None:
        said = self._seen.recall(hash(row.item["id"]) for row in rows)
        again = [row for row in rows if hash(row.item["id"]) in said]  # of a new item nothing was said before
        said |= self._seen.recall(key for row in again for key in _opinion_keys(row))
        before = set(said)
        for row in rows:
            self._add_row(row, to_json(row.item), said)
        self._seen.remember({key: value for key, value in said.items() if key not in before})

    def _add_row(self, row: Plain, line: bytes, said: dict[int, int]) -> None:
        """Take a row, as far as it is new. `said` holds what came before by key, and grows."""
        item_id = row.item["id"]
        content = _content(row, line)
        before = said.get(hash(item_id))
        if before is not None and before != content:
            self.reject(Rejected(item_id, "item", "this id came before with other texts, or another group"))
            return
        said[hash(item_id)] = content
        if before is None:
            self._items.write(line + b"\n")
            self.items += 1
        else:
            self.repeated += 1
        for who, label in row.notes:
            if self._is_new(item_id, who, hash((item_id, who)), hash(label), said):
                note = {"item_id": item_id, "annotator": who, "label": label}
                self._notes.write(to_json(note) + b"\n")
                self.annotations += 1
                self.labels[label] += 1
        for judgment in row.judgments:
            if self._is_new(item_id, judgment.judge, *_judgment_keys(judgment), said):
                self._write_judgment(judgment)

    def _is_new(self, item_id: str, who: str, key: int, value: int, said: dict[int, int]) -> bool:
        if key not in said:
            said[key] = value
            return True
        if said[key] != value:
            self.reject(Rejected(item_id, "opinion", f"{who!r} said something else of this item before"))
        return False

    def _write_judgment(self, row: Judgment) -> None:
        if row.judge not in self._votes:
            if len(self._votes) >= MOST_JUDGES:
                self.reject(Rejected(row.item_id, "judgment", f"more than {MOST_JUDGES} judges"))
                return
            file = _file_name(row.judge, {count.file for count in self.judges.values()})
            (self._draft / "votes").mkdir(exist_ok=True)
            self._votes[row.judge] = (self._draft / "votes" / file).open("wb")
            self.judges[row.judge] = JudgeCount(file, 0, 0, 0, 0.0, 0)
        self._votes[row.judge].write(encode(row) + b"\n")
        count = self.judges[row.judge]
        self.judges[row.judge] = JudgeCount(
            count.file,
            count.judgments + 1,
            count.votes + len(row.votes),
            count.failures + sum(vote.failure is not None for vote in row.votes),
            count.cost + row.cost,
            max(count.planned, row.planned),
        )


def _plain_record(found: Found) -> Plain:
    item = to_python(found.item)
    kept = {key: item[key] for key in ("reference", "group", "meta") if item[key]}
    return Plain(
        {"id": item["id"], "prompt": item["prompt"], "responses": item["responses"], **kept},
        [(note.annotator, note.label) for note in found.annotations],
        found.judgments,
    )


def _file_name(judge: str, taken: set[str]) -> str:
    """A file for a judge: its name is data, and may be no path."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", judge).strip(".-")[:60] or "judge"
    if f"{safe}.jsonl" not in taken:
        return f"{safe}.jsonl"
    return f"{safe}-{hashlib.sha256(judge.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}.jsonl"


# ── what was written before ──────────────────────────────────────────────────────────────────────


class _Seen:
    """Keys and what they said, in a database beside the draft.

    Both are 64-bit hashes keyed by this process: two of a million are equal once in ten million imports, and
    then a record is refused, never mixed up.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{INDEX_KB}"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY, said INTEGER)")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Let go of the file; whoever made the folder removes it."""
        self._db.close()

    def recall(self, keys: Iterable[int]) -> dict[int, int]:
        """What was said before under these keys."""
        wanted, known = sorted(set(keys)), dict[int, int]()
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            known.update(self._db.execute(f"SELECT key, said FROM seen WHERE key IN ({marks})", some))
        return known

    def remember(self, said: Mapping[int, int]) -> None:
        """Keep keys that are new."""
        self._db.executemany("INSERT INTO seen VALUES (?, ?)", sorted(said.items()))


def _content(row: Plain, line: bytes) -> int:
    """What an item is, whatever else a row tells of it."""
    if "meta" not in row.item:
        return hash(line)
    return hash(to_json({key: value for key, value in row.item.items() if key != "meta"}))


def _judgment_keys(judgment: Judgment) -> tuple[int, int]:
    return hash((judgment.item_id, judgment.judge, "judge")), hash(encode(judgment))


def _opinion_keys(row: Plain) -> Iterator[int]:
    yield from (hash((row.item["id"], who)) for who, _ in row.notes)
    yield from (_judgment_keys(judgment)[0] for judgment in row.judgments)
