"""Sample files of other tools' formats, and what a parse of them holds.

Our own lie in tests/data/importers/samples, written to the documented shapes; real ones beside the checkout.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.benchmarks import SHARED
from trustescalate.data.import_files import Imported, import_files
from trustescalate.records import Annotation, Item, Judgment
from trustescalate.records.jsonl import read_rows

OURS = Path(__file__).parents[1] / "data" / "importers" / "samples"
FOLDER = SHARED / "formats"
"""Real files, which a clone does not hold: only tests marked `shared` read them."""

SAMPLES: dict[str, tuple[Path, ...]] = {
    name: tuple(OURS / file for file in files)
    for name, files in {
        "alpaca_eval": ("alpaca_eval.json",),
        "alpaca_eval_people": ("alpaca_eval_people.json",),
        "alpaca_eval_weighted": ("alpaca_eval_weighted.json",),
        "arena": ("arena.jsonl",),
        "arena_battles": ("arena_battles.jsonl",),
        "arena_hard": ("arena_hard.jsonl",),
        "arena_hard_older": ("arena_hard_older.jsonl",),
        "arena_kaggle": ("arena_kaggle.csv",),
        "arena_wrapped": ("arena_wrapped.json",),
        "argilla": ("argilla.json",),
        "columns": ("columns.csv",),
        "deepeval": ("deepeval.json",),
        "inspect_ai": ("inspect_ai.json",),
        "inspect_ai_archive": ("inspect_ai_archive.eval",),
        "inspect_ai_older": ("inspect_ai_older.json",),
        "judgebench": ("judgebench.jsonl",),
        "judgebench_pairs": ("judgebench_pairs.jsonl",),
        "label_studio": ("label_studio.json",),
        "label_studio_choices": ("label_studio_choices.json",),
        "label_studio_criteria": ("label_studio_criteria_1.json", "label_studio_criteria_2.json"),
        "label_studio_csv": ("label_studio.csv",),
        "label_studio_min": ("label_studio_min.json",),
        "llmbar": ("llmbar/Everyday.dataset.json", "llmbar/Everyday.toy-judge.Vanilla.result.json"),
        "llmbar_results": ("llmbar/Everyday.toy-judge.Rating.result.json",),
        "lm_eval": ("lm_eval.jsonl",),
        "lm_eval_choices": ("lm_eval_choices.jsonl",),
        "mlflow": ("mlflow.json",),
        "mt_bench_pair": ("mt_bench_pair.jsonl",),
        "mt_bench_single": (
            "mt_bench/single.jsonl",
            "mt_bench/question.jsonl",
            "mt_bench/model_answer_red-model.jsonl",
        ),
        "mt_bench_single_cut": ("mt_bench/single.jsonl",),
        "mt_bench_votes": ("mt_bench_votes.csv",),
        "openai_batch": ("openai_batch.output.jsonl", "openai_batch.input.jsonl"),
        "openai_responses": ("openai_responses.output.jsonl", "openai_responses.input.jsonl"),
        "pandalm": ("pandalm/testset.json", "pandalm/toy.json"),
        "prometheus": ("prometheus.json",),
        "prometheus_biggen": ("prometheus_biggen.json",),
        "prometheus_lines": ("prometheus_lines.jsonl",),
        "prometheus_pairs": ("prometheus_pairs.json",),
        "prometheus_pairs_autoj": ("prometheus_pairs_autoj.jsonl",),
        "promptfoo": ("promptfoo.json",),
        "promptfoo_lines": ("promptfoo_lines.jsonl",),
        "reward_bench": ("reward_bench.jsonl",),
        "reward_bench_2": ("reward_bench_2.jsonl",),
        "reward_bench_biases": ("reward_bench_biases.json",),
        "reward_bench_llamafactory": ("reward_bench_llamafactory.json",),
        "trl": ("trl.jsonl",),
        "trl_dialogues": ("trl_dialogues.jsonl",),
        "trl_implicit": ("trl_implicit.jsonl",),
        "trl_llamafactory": ("trl_llamafactory.json",),
        "trl_llamafactory_v1": ("trl_llamafactory_v1.jsonl",),
        "trl_transcripts": ("trl_transcripts.jsonl",),
        "trl_unpaired": ("trl_unpaired.jsonl",),
        "trl_unpaired_llamafactory": ("trl_unpaired_llamafactory.json",),
    }.items()
}
"""Our own samples of every format, by the name of a test: files of one import, the main one first."""

REAL: dict[str, tuple[Path, ...]] = {
    name: tuple(FOLDER / file for file in files)
    for name, files in {
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
    }.items()
}
"""The same of real files."""

EVERY = [
    *(pytest.param(name, files, id=name) for name, files in SAMPLES.items()),
    *(pytest.param(name, files, id=f"real-{name}", marks=pytest.mark.shared) for name, files in REAL.items()),
]
"""Both, for tests that hold of any file."""


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


def parse_with(tmp_path: Path, columns: str, *files: Path) -> Parsed:
    """Import files into a new folder, with the text of a columns file."""
    path = tmp_path / "columns.toml"
    path.write_text(columns, encoding="utf-8")
    return parse(tmp_path / "set", *files, columns=path)


def parse_rows(tmp_path: Path, *rows: Any) -> Parsed:
    """Import rows, written as JSON lines."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return parse(tmp_path / "set", path)


def labels_of(parsed: Parsed, item_id: str) -> dict[str, str]:
    """The labels of an item, by annotator."""
    return {who: label for (of, who), label in parsed.annotations.items() if of == item_id}


def judged_better(found: Parsed, item: Item) -> tuple[str, str]:
    """The response that the file calls better, and the other one, wherever they were put."""
    first, second = item.texts
    return (first, second) if found.annotations[item.id, "gold"] == "A" else (second, first)


def expected(name: str) -> list[Any]:
    """The JSON blocks under "Expected" in a format's README, in order."""
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8").partition("## Expected")[2]
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.S | re.M)]


def begins(text: str, wanted: dict[str, Any]) -> bool:
    """Whether a text is the one that an expected block describes by its start and length."""
    return text.startswith(wanted["start"]) and len(text) == wanted["chars"]
