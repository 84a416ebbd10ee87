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
    "alpaca_eval": ("alpaca_eval/annotations.alpaca_eval_gpt4.json",),
    "alpaca_eval_weighted": ("alpaca_eval/annotations.weighted_alpaca_eval_gpt4_turbo.json",),
    "arena_battles": ("chatbot_arena/battles_min.jsonl",),
    "arena_hard": ("arena_hard/judgment.greek.claude-3.5-sonnet-v2.jsonl",),
    "arena_kaggle": ("chatbot_arena/kaggle_lmsys_test.csv",),
    "arena_wrapped": ("chatbot_arena/judge_bench_wrapped_conversations.json",),
    "judgebench": ("judgebench/output.arena_hard.claude-3-haiku-20240307.jsonl",),
    "judgebench_pairs": ("judgebench/pairs.gpt-4o-2024-05-13.jsonl",),
    "llmbar": ("llmbar/Natural.dataset.json", "llmbar/Natural.GPT-4.Vanilla.result.json"),
    "llmbar_results": ("llmbar/null_winners.Adversarial.GPTInst.LLaMA2.CoT.result.json",),
    "mt_bench_pair": ("mt_bench/gpt-4_pair.jsonl",),
    "mt_bench_single": ("mt_bench/gpt-4_single.jsonl", "mt_bench/question.jsonl"),
    "pandalm": (
        "pandalm/testset-v1.json",
        "pandalm/gpt-3.5-turbo-testset-v1.json",
        "pandalm/pandalm-7b-testset-v1.json",
    ),
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
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8").partition("## Expected")[2]
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.S | re.M)]


def begins(text: str, wanted: dict[str, Any]) -> bool:
    """Whether a text is the one that an expected block describes by its start and length."""
    return text.startswith(wanted["start"]) and len(text) == wanted["chars"]
