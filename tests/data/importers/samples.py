"""Real files of other tools, and what a parse of them holds. Nothing of them lies in this repository."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from trustescalate.data.import_files import Imported, import_files
from trustescalate.records import Annotation, Item, Judgment
from trustescalate.records.jsonl import read_rows

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "formats"

SAMPLES: dict[str, tuple[str, ...]] = {
    "alpaca_eval": ("alpaca_eval/annotations.alpaca_eval_gpt4.json",),
    "alpaca_eval_weighted": ("alpaca_eval/annotations.weighted_alpaca_eval_gpt4_turbo.json",),
    "arena_battles": ("chatbot_arena/battles_min.jsonl",),
    "arena_hard": ("arena_hard/judgment.greek.claude-3.5-sonnet-v2.jsonl",),
    "arena_kaggle": ("chatbot_arena/kaggle_lmsys_test.csv",),
    "arena_wrapped": ("chatbot_arena/judge_bench_wrapped_conversations.json",),
    "argilla": ("argilla/records_flat.json",),
    "deepeval": ("deepeval/test_run.json",),
    "inspect_ai": ("inspect_ai/facts_edited.json",),
    "inspect_ai_archive": ("inspect_ai/facts_edited_with_crash.eval",),
    "inspect_ai_older": ("inspect_ai/security-guide.json",),
    "judgebench": ("judgebench/output.arena_hard.claude-3-haiku-20240307.jsonl",),
    "judgebench_pairs": ("judgebench/pairs.gpt-4o-2024-05-13.jsonl",),
    "label_studio": ("label_studio/produced.pairwise.json",),
    "label_studio_choices": ("label_studio/real.lmsys_choices.json",),
    "label_studio_criteria": (
        "label_studio/real.booookscore.formal.annotator1.json",
        "label_studio/real.booookscore.formal.annotator2.json",
        "label_studio/real.booookscore.pilot.annotator3.json",
    ),
    "label_studio_csv": ("label_studio/produced.pairwise.csv",),
    "label_studio_min": ("label_studio/produced.pairwise.min.json",),
    "llmbar": ("llmbar/Natural.dataset.json", "llmbar/Natural.GPT-4.Vanilla.result.json"),
    "llmbar_results": ("llmbar/null_winners.Adversarial.GPTInst.LLaMA2.CoT.result.json",),
    "lm_eval": ("lm_eval/samples_local_gen.jsonl",),
    "lm_eval_choices": ("lm_eval/samples_local_mc.jsonl",),
    "mlflow": ("mlflow/traces.json",),
    "mt_bench_votes": ("csv_pairwise/mt_bench_human_gpt4.csv",),
    "mt_bench_pair": ("mt_bench/gpt-4_pair.jsonl",),
    "mt_bench_single": ("mt_bench/gpt-4_single.jsonl", "mt_bench/question.jsonl"),
    "openai_batch": ("openai_batch/groq.batch_output.jsonl", "openai_batch/groq.batch_input.jsonl"),
    "openai_responses": (
        "openai_batch/openai.responses.batch_results.jsonl",
        "openai_batch/openai.responses.batch_tasks.jsonl",
    ),
    "pandalm": (
        "pandalm/testset-v1.json",
        "pandalm/gpt-3.5-turbo-testset-v1.json",
        "pandalm/pandalm-7b-testset-v1.json",
    ),
    "prometheus": ("prometheus/vicuna_eval.json",),
    "prometheus_biggen": ("prometheus/biggen_sample_evals.first3.json",),
    "prometheus_lines": ("prometheus/v1.vicuna_eval.jsonl_named_json.json",),
    "prometheus_pairs": ("prometheus/hhh_alignment_eval.json",),
    "prometheus_pairs_autoj": ("prometheus/autoj_pairwise.jsonl",),
    "promptfoo": ("promptfoo/results.json",),
    "promptfoo_lines": ("promptfoo/results.first6.jsonl",),
    "reward_bench": ("reward_bench/reward_bench_llamafactory.json",),
    "reward_bench_biases": ("reward_bench/evalbiasbench.json",),
    "trl": ("trl/zen.standard_preference.jsonl",),
    "trl_dialogues": ("trl/zen.conversational_implicit_prompt_preference.jsonl",),
    "trl_llamafactory": ("trl/llamafactory.dpo_en_demo.json",),
    "trl_llamafactory_v1": ("trl/llamafactory.v1_dpo_demo.jsonl",),
    "trl_transcripts": ("trl/hh-rlhf.harmless-base.test.jsonl",),
    "trl_unpaired": ("trl/zen.standard_unpaired_preference.jsonl",),
    "trl_unpaired_llamafactory": ("trl/llamafactory.kto_en_demo.json",),
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
