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
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from trustescalate.data.importers.base import Found, Plain, Taken
from trustescalate.data.importers.files import BUFFER, Rejected
from trustescalate.records import Judgment
from trustescalate.records.jsonl import encode, to_python
from trustescalate.stats.bounds import IntArray

BATCH = 100
"""Records that are best added at once. Many more of them alive keep the garbage collector busy."""
AT_ONCE = 500
"""Keys that one statement looks up."""
SORTED = 50_000
"""Keys that are sorted and put on disk together."""
BITS = np.arange(6)
"""Bits of the filter for each key: of a thousand imports of a million items, one has a false alarm."""
MOST_JUDGES = 200
FILTER_BYTES = 1 << 25
"""Of the filter that tells what is surely new; a power of two."""
POWERS = (1 << np.arange(8)).astype(np.uint8)
INDEX_KB = 16_000


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
        lines = [to_json(row.item) for row in rows]
        keys: list[int] = []
        ids: list[int] = []
        for row, line in zip(rows, lines, strict=True):
            ids.append(len(keys) // 2)
            item_id = row.item["id"]
            keys += (hash(item_id), _content(row, line))
            for who, label in row.notes:
                keys += (hash((item_id, who)), hash(label))
            for judgment in row.judgments:
                keys += _judgment_keys(judgment)
        if self._seen.all_new(keys, ids):
            self._write(lines, [(row.item["id"], who, label) for row in rows for who, label in row.notes])
            for row in rows:
                for judgment in row.judgments:
                    self._write_judgment(judgment)
            return
        said = self._seen.recall(keys)
        before = set(said)
        for row, line in zip(rows, lines, strict=True):
            self._add_carefully(row, line, said)
        self._seen.remember({key: value for key, value in said.items() if key not in before})

    def _write(self, lines: Sequence[bytes], notes: Sequence[tuple[str, str, str]]) -> None:
        said = [to_json({"item_id": item, "annotator": who, "label": label}) for item, who, label in notes]
        self._items.write(b"\n".join([*lines, b""]))
        self._notes.write(b"\n".join([*said, b""]))
        self.items += len(lines)
        self.annotations += len(notes)
        self.labels.update([label for _, _, label in notes])

    def _add_carefully(self, row: Plain, line: bytes, said: dict[int, int]) -> None:
        """Take a row of a batch in which something came before. `said` holds it by key, and grows."""
        item_id = row.item["id"]
        content = _content(row, line)
        before = said.get(hash(item_id))
        if before is not None and before != content:
            self.reject(Rejected(item_id, "item", "this id came before with other texts, or another group"))
            return
        said[hash(item_id)] = content
        self.repeated += before is not None
        notes = [
            (item_id, who, label)
            for who, label in row.notes
            if self._is_new(item_id, who, hash((item_id, who)), hash(label), said)
        ]
        self._write([] if before is not None else [line], notes)
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
    """Keys and what they said: a filter of fixed size tells what is surely new, a file on disk all the rest.

    Both are 64-bit hashes keyed by this process: two of a million are equal once in ten million imports, and
    then a record is refused, never mixed up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bits = np.zeros(FILTER_BYTES, dtype=np.uint8)
        self._log = path.with_suffix(".log").open("wb", BUFFER)
        self._db: sqlite3.Connection | None = None
        self._indexed = 0

    def close(self) -> None:
        """Let go of the files; whoever made the folder removes them."""
        self._log.close()
        if self._db is not None:
            self._db.close()

    def all_new(self, flat: list[int], ids: list[int]) -> bool:
        """Remember keys, each followed by what it says, if no id was there before, and no key comes twice.

        `ids` are the places of the keys of items: where an item is new, so is all that is said of it.
        """
        rows = np.array(flat, dtype=np.int64).reshape(-1, 2)
        place, bit = _places(rows[:, 0])
        known = (self._bits[place[ids]] & bit[ids]).all(axis=1)
        if known.any() or len(set(flat[::2])) < len(rows):
            return False
        self._keep(rows, place, bit)
        return True

    def recall(self, flat: list[int]) -> dict[int, int]:
        """What was said before under keys that are each followed by what is said now."""
        keys = np.unique(flat[::2])
        place, bit = _places(keys)
        maybe = keys[(self._bits[place] & bit).all(axis=1)].tolist()
        found: dict[int, int] = {}
        index = self._index()
        for start in range(0, len(maybe), AT_ONCE):
            some = maybe[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            found.update(index.execute(f"SELECT key, said FROM seen WHERE key IN ({marks})", some))
        return found

    def remember(self, said: dict[int, int]) -> None:
        """Keep keys that are new."""
        rows = np.array(list(said.items()), dtype=np.int64).reshape(-1, 2)
        self._keep(rows, *_places(rows[:, 0]))

    def _keep(self, rows: IntArray, place: IntArray, bit: npt.NDArray[np.uint8]) -> None:
        np.bitwise_or.at(self._bits, place, bit)
        self._log.write(rows.tobytes())

    def _index(self) -> sqlite3.Connection:
        """The file that can be searched, with all that was kept so far; made when it is first needed."""
        if self._db is None:
            self._db = sqlite3.connect(self._path)
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{INDEX_KB}"):
                self._db.execute(f"PRAGMA {setting}")
            self._db.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY, said INTEGER)")
        self._log.flush()
        with self._path.with_suffix(".log").open("rb") as log:
            log.seek(self._indexed)
            while chunk := log.read(16 * SORTED):
                rows = np.frombuffer(chunk, dtype=np.int64).reshape(-1, 2)
                self._db.executemany("INSERT INTO seen VALUES (?, ?)", rows[rows[:, 0].argsort()].tolist())
                self._indexed += len(chunk)
        return self._db


def _places(keys: IntArray) -> tuple[IntArray, npt.NDArray[np.uint8]]:
    """The bits of the filter for each key, (n, 6) each: the byte, and the bit in it. Kirsch and
    Mitzenmacher (2006)."""
    first, second = keys & 0xFFFFFFFF, (keys >> 32) | 1
    bits = (first[:, None] + BITS * second[:, None]) & (8 * FILTER_BYTES - 1)
    return bits >> 3, POWERS[bits & 7]


def _content(row: Plain, line: bytes) -> int:
    """What an item is, whatever else a row tells of it."""
    if "meta" not in row.item:
        return hash(line)
    return hash(to_json({key: value for key, value in row.item.items() if key != "meta"}))


def _judgment_keys(judgment: Judgment) -> tuple[int, int]:
    return hash((judgment.item_id, judgment.judge, "judge")), hash(encode(judgment))
