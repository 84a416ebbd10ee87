"""Real files of other tools, and what a parse of them holds. Nothing of them lies in this repository."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from trustescalate.import_data import Imported, import_files
from trustescalate.jsonl import read_rows
from trustescalate.types import Annotation, Item, Judgment

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "formats"

SAMPLES: dict[str, tuple[str, ...]] = {
    "mt_bench_pair": ("mt_bench/gpt-4_pair.jsonl",),
    "mt_bench_single": ("mt_bench/gpt-4_single.jsonl", "mt_bench/question.jsonl"),
}
"""Files that are imported together, by the name of a test. The first is the main one."""


class Parsed(NamedTuple):
    """An imported set, read back."""

    result: Imported
    items: dict[str, Item]
    annotations: dict[tuple[str, str], str]
    judgments: dict[tuple[str, str], Judgment]

    def votes(self, item_id: str, judge: str) -> list[tuple[str, str]]:
        """Order and verdict of each vote of a judge on an item; a failed vote is "invalid"."""
        return [
            (vote.order, "invalid" if vote.failure else max(vote.probs, key=lambda label: vote.probs[label]))
            for vote in self.judgments[item_id, judge].votes
        ]


def parse(folder: Path, *files: Path, **options: Any) -> Parsed:
    """Import files into a new folder, and read that back; whatever it holds is valid."""
    result = import_files(files, folder, **options)
    items, bad = read_rows(folder / "items.jsonl", Item)
    notes, worse = read_rows(folder / "annotations.jsonl", Annotation)
    votes = [read_rows(path, Judgment) for path in sorted(folder.glob("votes/*.jsonl"))]
    assert [*bad, *worse, *(problem for _, problems in votes for problem in problems)] == []
    return Parsed(
        result,
        {row.record.id: row.record for row in items},
        {(row.record.item_id, row.record.annotator): row.record.label for row in notes},
        {(row.record.item_id, row.record.judge): row.record for rows, _ in votes for row in rows},
    )


def expected(name: str) -> list[Any]:
    """The JSON blocks under "Expected" in a format's README, in order."""
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    return [
        json.loads(block)
        for block in re.findall(r"```json\n(.*?)```", text.partition("## Expected")[2], re.S)
    ]


def begins(text: str, wanted: dict[str, Any]) -> bool:
    """Whether a text is the one that an expected block describes by its start and length."""
    return text.startswith(wanted["start"]) and len(text) == wanted["chars"]
