"""Write a set of items, annotations and votes as records come, in memory that does not grow with them.

Earlier records are remembered on disk. A repeated id with the same texts is the same item; with other texts
it is refused, and so is a second label of one annotator on one item unless both are equal. A second verdict
of a judge is a further vote, except where a row only brings another annotator and repeats it. The folder
appears under its name when it is complete, or not at all.
"""

import hashlib
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple, Self

from pydantic_core import to_json

from trustescalate.data.importers.base import Found, Plain, Taken
from trustescalate.data.importers.files import BUFFER, Rejected
from trustescalate.records import Judgment, Vote
from trustescalate.records.jsonl import decode, encode, to_python

BATCH = 100
"""Records that are best added at once. Many more of them alive keep the garbage collector busy."""
AT_ONCE = 500
"""Keys per SELECT statement."""
SAME_ID = (
    "this id came before with other texts, or another group; where ids are of questions, "
    "give their column as group in [import] of a file, --columns FILE"
)
MOST_JUDGES = 200
MOST_DRAWS = 1000
"""Of a judge on an item."""
INDEX_KB = 32_000
"""Memory for the database of what was written."""
Entry = tuple[int, int, int | None, int | None]
"""A key and its value; for a new item, also those of its first label, which halves the insertions."""


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
            if isinstance(taken, Rejected):
                self.reject(taken)
            else:
                rows.append(taken if isinstance(taken, Plain) else _plain_record(taken))
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
        for file in self._votes.values():
            file.flush()
        for judge in self._seen.drawn():
            self._write_draws(self._draft / "votes" / self.judges[judge].file, judge)
        self._close()
        for left in self._draft.glob("seen.*"):
            left.unlink()
        self._draft.chmod(0o755)
        if self._folder.exists():
            self._folder.rmdir()  # empty, or it would not have been given
        self._draft.rename(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def _close(self) -> None:
        self._seen.close()
        for file in (self._items, self._notes, self._refused, *self._votes.values()):
            if file is not None:
                file.close()

    def _add(self, rows: Sequence[Plain]) -> None:
        known = self._seen.recall(hash(row.item["id"]) for row in rows)
        repeated = [row for row in rows if hash(row.item["id"]) in known]  # a new item has no earlier labels
        known |= self._seen.recall(key for row in repeated for key in _label_keys(row))
        self._seen.remember([entry for row in rows for entry in self._add_row(row, to_json(row.item), known)])

    def _add_row(self, row: Plain, line: bytes, known: dict[int, int]) -> list[Entry]:
        """Write what is new of a row and return its entries. `known` maps keys to values, and grows."""
        item_id = row.item["id"]
        key, content = hash(item_id), _content(row, line)
        is_new = key not in known
        if known.setdefault(key, content) != content:
            self.reject(Rejected(item_id, "item", SAME_ID))
            return []
        keys = [key] if is_new else []
        if is_new:
            self._items.write(line + b"\n")
            self.items += 1
        else:
            self.repeated += 1
        labelled = False
        for annotator, label in row.notes:
            key = hash((item_id, annotator))
            if self._is_new(item_id, annotator, key, hash(label), known):
                labelled = True
                keys.append(key)
                note = {"item_id": item_id, "annotator": annotator, "label": label}
                self._notes.write(to_json(note) + b"\n")
                self.annotations += 1
                self.labels[label] += 1
        for criterion, annotator, label in row.on_criteria:
            key = hash((item_id, annotator, criterion, "criterion"))
            if self._is_new(item_id, annotator, key, hash(label), known):
                keys.append(key)
                note = {"item_id": item_id, "annotator": annotator, "label": label, "criterion": criterion}
                self._notes.write(to_json(note) + b"\n")
                self.annotations += 1
                self.labels[label] += 1
        for judgment in row.judgments:
            key, value = _judgment_entry(judgment)
            if key not in known:
                known[key] = value
                keys.append(key)
                self._write_judgment(judgment)
            elif not labelled or known[key] != value:
                self._draw(judgment)
        first = [(keys[0], known[keys[0]], keys[1], known[keys[1]])] if is_new and len(keys) > 1 else []
        return [*first, *((key, known[key], None, None) for key in keys[2 * len(first) :])]

    def _is_new(self, item_id: str, who: str, key: int, value: int, known: dict[int, int]) -> bool:
        if key not in known:
            known[key] = value
            return True
        if known[key] != value:
            self.reject(Rejected(item_id, "annotation", f"{who!r} gave this item another label before"))
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
        self._count(row, 1)

    def _draw(self, row: Judgment) -> None:
        """Keep a further vote of a judge aside, until the first ones are all written."""
        if row.judge in self.judges:
            self._seen.draw(row)
            self._count(row, 0)

    def _write_draws(self, path: Path, judge: str) -> None:
        whole = path.with_suffix(".whole")
        with path.open("rb") as first, whole.open("wb") as file:
            for line in first:
                row = decode(line, Judgment)
                draws = self._seen.draws(judge, row.item_id)
                if len(draws) > MOST_DRAWS:
                    why = f"more than {MOST_DRAWS:,} verdicts of {judge!r}: the first ones are taken"
                    self.reject(Rejected(row.item_id, "judgment", why))
                file.write(encode(_together([row, *draws[:MOST_DRAWS]])) + b"\n" if draws else line)
        whole.replace(path)

    def _count(self, row: Judgment, items: int) -> None:
        count = self.judges[row.judge]
        self.judges[row.judge] = JudgeCount(
            count.file,
            count.judgments + items,
            count.votes + len(row.votes),
            count.failures + sum(vote.failure is not None for vote in row.votes),
            count.cost + row.cost,
            max(count.planned, row.planned),
        )


def _together(rows: Sequence[Judgment]) -> Judgment:
    """All votes of a judge on an item, numbered one after another."""
    votes, planned = list[Vote](), 0
    for row in rows:
        after = max((vote.exemplar_set for vote in votes), default=-1) + 1
        votes += [replace(vote, exemplar_set=vote.exemplar_set + after) for vote in row.votes]
        planned += row.planned
    return replace(rows[0], votes=tuple(votes), planned=planned)


def _plain_record(found: Found) -> Plain:
    item = to_python(found.item)
    kept = {key: item[key] for key in ("reference", "group", "meta", "context") if item.get(key)}
    if not (item["group"] or "").strip():
        kept.pop("group", None)
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


class _Seen:
    """The keys and values of all that was written, in a database beside the draft.

    Both are 64-bit hashes keyed by this process: two of a million are equal once in ten million imports, and
    then a record is refused, never mixed up.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{INDEX_KB}"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE seen (key INTEGER PRIMARY KEY, value, label_key, label_value)")
        self._db.execute("CREATE TABLE draws (judge, item, line)")
        self._db.execute("BEGIN")

    def draw(self, row: Judgment) -> None:
        """Store a further vote."""
        self._db.execute("INSERT INTO draws VALUES (?, ?, ?)", (row.judge, row.item_id, encode(row)))

    def drawn(self) -> list[str]:
        """The judges with further votes."""
        self._db.execute("CREATE INDEX place ON draws (judge, item)")
        return [judge for (judge,) in self._db.execute("SELECT DISTINCT judge FROM draws")]

    def draws(self, judge: str, item_id: str) -> list[Judgment]:
        """The further votes of a judge on an item, in their order; no more than the limit and one."""
        query = "SELECT line FROM draws WHERE judge = ? AND item = ? ORDER BY rowid LIMIT ?"
        rows = self._db.execute(query, (judge, item_id, MOST_DRAWS + 1))
        return [decode(line, Judgment) for (line,) in rows]

    def close(self) -> None:
        """Close the file, which goes with the folder."""
        self._db.close()

    def recall(self, keys: Iterable[int]) -> dict[int, int]:
        """Return the values stored under these keys, and those stored beside them."""
        wanted, known = sorted(set(keys)), dict[int, int]()
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, value, label_key, label_value in self._db.execute(
                f"SELECT * FROM seen WHERE key IN ({marks})", some
            ):
                known[key] = value
                if label_key is not None:
                    known[label_key] = label_value
        return known

    def remember(self, entries: list[Entry]) -> None:
        """Store entries whose keys are new."""
        self._db.executemany("INSERT INTO seen VALUES (?, ?, ?, ?)", sorted(entries))


def _content(row: Plain, line: bytes) -> int:
    """Hash what an item is, without its meta."""
    if "meta" not in row.item:
        return hash(line)
    return hash(to_json({key: value for key, value in row.item.items() if key != "meta"}))


def _judgment_entry(judgment: Judgment) -> tuple[int, int]:
    return hash((judgment.item_id, judgment.judge, "judge")), hash(encode(judgment))


def _label_keys(row: Plain) -> Iterator[int]:
    yield from (hash((row.item["id"], annotator)) for annotator, _ in row.notes)
    yield from (hash((row.item["id"], who, name, "criterion")) for name, who, _ in row.on_criteria)
    yield from (_judgment_entry(judgment)[0] for judgment in row.judgments)
