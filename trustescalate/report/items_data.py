"""Pack the items of a page as inert JSON, of bounded size: an index of all, and details of the first ones.

Both are written for `items.js`. A column of the index is a list of values with a code for each item; a code
is one character of `CODES` where there are few values. Details are in chunks that are parsed when they are
needed. What does not fit is counted, and is in report.items.jsonl.
"""

import json
import re
from array import array
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from trustescalate.records.failures import reason_in_words
from trustescalate.records.judging import FAILURES
from trustescalate.report.items import LaidOut
from trustescalate.report.sections import Block, ItemRow, TrailRow, VoteRow
from trustescalate.report.text import visible

ITEMS = "report.items.jsonl"
COLUMNS = (
    "state",
    "verdict",
    "judge",
    "people",
    "group",
    "failed",
    "disagrees",
    "least",
    "baseline",
    "changed",
)
CODES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
MAX_TEXT = 20_000
"""A longer text is cut, with a note."""
MAX_LABELS, MAX_VOTES = 50, 400
"""Of one item, and of one judge on it; the rest is in report.items.jsonl."""
MAX_WORD = 300
"""Of a name in a column: a label, a judge, a group."""
CHUNK = 128_000
INDEX_SHARE = 0.85
"""Of the room, that the index may take before it is cut."""
_LONE = re.compile("[\ud800-\udfff]")
_PER_ITEM = 18
"""Bytes of an item in the index, apart from its id: a code in each column, and a score."""


class Packed(NamedTuple):
    """JSON texts that can stand in a script element, and how many items they hold."""

    table: str
    chunks: tuple[str, ...]
    indexed: int
    detailed: int


def pack(items: Sequence[ItemRow], limit: int, options: Sequence[str] = ()) -> Packed:
    """Pack as many items as fit into `limit` bytes; the index goes before details.

    `options` name the configuration in the commands of the page.
    """
    index = _Index()
    for row in items.briefs() if isinstance(items, LaidOut) else items:
        if not index.add(row, limit * INDEX_SHARE):
            break
    details = _Details()
    for row in islice(items, len(index.ids)):
        if not details.add(row, limit - index.size):
            break
    return Packed(
        table=inert(
            {
                "run": items[0].run if items else "",
                "options": list(options),
                "total": len(items),
                "ids": index.ids,
                "shown": index.shown,
                "scores": index.scores,
                **{name: column.packed() for name, column in index.columns.items()},
                "words": [_word(text) for text in details.words],
                "failures": {code: FAILURES[code] for code in details.words if code in FAILURES},
                "chunks": details.starts,
                "detailed": details.rows,
            }
        ),
        chunks=tuple(f"[{','.join(chunk)}]" for chunk in details.chunks),
        indexed=len(index.ids),
        detailed=details.rows,
    )


def inert(value: object) -> str:
    """JSON that ends no script element, and that can be encoded with lone surrogates in it.

    >>> inert("</script>")
    '"\\\\u003c/script>"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _LONE.sub(lambda one: f"\\u{ord(one.group()):04x}", text.replace("<", "\\u003c"))


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """A text of bounded length, with a note on what is left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} more characters: {ITEMS} has the whole text."


class _Column:
    """Values of all items, each as its place in the list of different ones; 0 is no value."""

    def __init__(self) -> None:
        self.places: dict[Hashable, int] = {None: 0}
        self.codes = array("l")

    def add(self, value: Hashable) -> int:
        """Append a value; return about how many bytes it takes."""
        new = value not in self.places
        place = self.places.setdefault(value, len(self.places))
        self.codes.append(place)
        return (len(_word(value).encode()) + 3 if new else 0) + (0 if place < len(CODES) else 6)

    def packed(self) -> dict[str, object]:
        values = [_word(value) for value in self.places if value is not None]
        few = len(values) < len(CODES)
        codes = "".join(map(CODES.__getitem__, self.codes)) if few else list(self.codes)
        return {"values": values, "codes": codes}


class _Index:
    """What the table shows of each item, column by column."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.shown: dict[int, str] = {}
        self.scores: list[int | None] = []
        self.columns = {name: _Column() for name in COLUMNS}
        self.size = 2_000

    def add(self, row: ItemRow, limit: float) -> bool:
        """Append an item, unless it does not fit."""
        shown = visible(row.id)
        size = len(inert(row.id).encode()) + _PER_ITEM
        size += len(inert(shown).encode()) + 8 if shown != row.id else 0
        if self.size + size > limit:
            return False
        if shown != row.id:
            self.shown[len(self.ids)] = shown
        self.ids.append(row.id)
        score = row.score.value
        self.scores.append(round(score * 10_000) if isinstance(score, float) and isfinite(score) else None)
        values = {
            "state": row.state,
            "verdict": row.verdict.value,
            "judge": row.judge.value,
            "people": row.people.value,
            "group": row.group,
            "failed": row.failed or None,
            "disagrees": row.disagrees or None,
            "least": row.score.text.startswith("≥") or None,
            "baseline": None if row.baseline is None else row.baseline.text,
            "changed": row.changed or None,
        }
        self.size += size + sum(self.columns[name].add(value) for name, value in values.items())
        return True


class _Details:
    """Texts, votes and trails, as arrays that `items.js` reads by position."""

    def __init__(self) -> None:
        self.words: dict[str, int] = {}
        self.chunks: list[list[str]] = []
        self.starts: list[int] = []
        self.rows = self.size = self._filled = 0

    def add(self, row: ItemRow, limit: float) -> bool:
        """Append an item, unless it does not fit."""
        before, known = self.size, len(self.words)
        text = inert(self._row(row))
        size = len(text.encode()) + 1
        if self.size + size > limit:
            self.size, self.words = before, dict(islice(self.words.items(), known))
            return False
        if not self.chunks or self._filled + size > CHUNK:
            self.chunks.append([])
            self.starts.append(self.rows)
            self.size, self._filled = self.size + 80, 0
        self.chunks[-1].append(text)
        self.rows, self.size, self._filled = self.rows + 1, self.size + size, self._filled + size
        return True

    def _row(self, row: ItemRow) -> list[Any]:
        return [
            visible(cut(reason_in_words(row.reason))),
            _blocks(row.prompt),
            [_blocks(blocks) for blocks in row.responses],
            None if row.reference is None else visible(cut(row.reference)),
            [[_word(annotator), _word(label)] for annotator, label in row.labels[:MAX_LABELS]],
            [self._step(step) for step in row.trail],
            row.pairs,
        ]

    def _step(self, step: TrailRow) -> list[Any]:
        cast = [code for vote in step.cast[:MAX_VOTES] for code in self._vote(vote)]
        return [
            self._code(step.judge),
            self._code(step.verdict.text),
            step.score.text,
            step.threshold.text,
            step.threshold.value,
            _place(step.low),
            _place(step.high),
            self._code(step.outcome),
            step.votes,
            self._code(step.failures),
            cast,
        ]

    def _vote(self, vote: VoteRow) -> tuple[int, ...]:
        texts = (vote.order, vote.label or "", vote.probability.text, vote.failure, vote.cost.text)
        return (vote.examples, *map(self._code, texts))

    def _code(self, text: str) -> int:
        if text not in self.words:
            self.words[text] = len(self.words)
            self.size += len(inert(_word(text)).encode()) + 1
            self.size += len(FAILURES.get(text, "")) + len(text)
        return self.words[text]


def _blocks(blocks: Iterable[Block]) -> list[list[str]]:
    return [[visible(block.title), visible(cut(block.text))] for block in blocks]


def _word(value: object) -> str:
    text = visible(str(value)[: MAX_WORD + 1])
    return text if len(text) <= MAX_WORD else f"{text[:MAX_WORD]} …"


def _place(score: float) -> float | None:
    return round(score, 4) if isfinite(score) else None
