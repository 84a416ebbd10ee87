"""LLMBar, PandaLM and JudgeBench: pairs with labels, and recorded verdicts on them."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import FOLDER, Parsed, begins, expected, parse

pytestmark = pytest.mark.shared


def _is_as_expected(found: Parsed, item_id: str, wanted: dict[str, Any]) -> None:
    item = found.items[item_id]
    assert isinstance(item.prompt, str)
    if "input" not in wanted:
        assert begins(item.prompt, wanted["prompt"])
    for text, response in zip(item.texts, wanted["responses"], strict=True):
        assert begins(text, response)
    said = {who: label for (of, who), label in found.annotations.items() if of == item_id}
    assert list(said.values()) == [each["label"] for each in wanted["labels"]]


def test_llmbar_items_and_labels(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "llmbar/Natural.dataset.json")
    for wanted in expected("llmbar")[0]:
        _is_as_expected(found, wanted["item_id"], wanted)
    assert set(found.annotations.values()) == {"A", "B"}


@pytest.mark.parametrize(
    ("file", "kind", "judge"),
    [
        ("Natural.GPT-4.Vanilla.result.json", "Vanilla", "GPT-4 Vanilla"),
        ("Natural.GPT-4.Swap.result.json", "Swap", "GPT-4 Swap"),
        ("Natural.GPT-4.Rating.result.json", "Rating", "GPT-4 Rating"),
        ("Natural.GPT-4.Reference.result.json", "Reference", "GPT-4 Reference"),
        (
            "null_winners.Adversarial.GPTInst.LLaMA2.CoT.result.json",
            "null_winners",
            "Adversarial GPTInst LLaMA2 CoT",
        ),
    ],
)
def test_llmbar_results_are_in_the_items_own_frame(file: str, kind: str, judge: str, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "llmbar" / file)
    ids = list(found.items)
    for wanted in expected("llmbar")[1][kind]:
        item_id = ids[wanted["index"]]
        assert found.annotations[item_id, "gold"] == wanted["label"]
        verdicts = [(each["order"], each["verdict"]) for each in wanted["judge"]]
        assert found.votes(item_id, judge) == verdicts


def test_llmbar_results_belong_to_the_items_of_the_dataset(tmp_path: Path) -> None:
    folder = FOLDER / "llmbar"
    found = parse(
        tmp_path / "set", folder / "Natural.GPT-4.Rating.result.json", folder / "Natural.dataset.json"
    )
    assert found.result.items == 100
    assert {item_id for item_id, _ in found.judgments} <= {f"Natural/{i}" for i in range(100)}


def test_pandalm_has_three_opinions_and_two_judges(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", *sorted((FOLDER / "pandalm").glob("*.json")))
    for wanted in expected("pandalm")[0]:
        item_id = str(wanted["item_id"])
        _is_as_expected(found, item_id, wanted)
        item = found.items[item_id]
        assert [item.meta["model_a"], item.meta["model_b"]] == [each["model"] for each in wanted["responses"]]
        assert len(str(item.prompt)) == wanted["prompt"]["chars"] + 2 + wanted["input"]["chars"]
        for judge in wanted["judge"]:
            assert found.votes(item_id, judge["judge"]) == [("AB", judge["verdict"])]
    garbage = [row for row in found.judgments.values() if row.votes[0].failure]
    assert {row.item_id for row in garbage} == {"114", "116"}


def test_judgebench_pairs(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "judgebench/pairs.claude-3-5-sonnet-20240620.jsonl")
    for wanted in expected("judgebench")[0]:
        _is_as_expected(found, wanted["item_id"], wanted)
        assert found.items[wanted["item_id"]].group == str(wanted["cluster"])


@pytest.mark.parametrize(
    ("file", "block"),
    [
        ("output.arena_hard.claude-3-haiku-20240307.jsonl", 1),
        ("output.reward_model.Skywork-Reward-Llama-3.1-8B.jsonl", 2),
        ("output.arena_hard.o1-mini-2024-09-12.jsonl", 3),
    ],
)
def test_judgebench_outputs_undo_the_swap(file: str, block: int, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "judgebench" / file)
    assert found.result.refused == 0
    for wanted in expected("judgebench")[block]:
        judge = f"{wanted['judge_name']} {wanted['judge_model']}"
        verdicts = [(each["order"], each["verdict"]) for each in wanted["judge"]]
        assert found.votes(wanted["item_id"], judge) == verdicts
        assert found.annotations[wanted["item_id"], "objective"] == wanted["label"]
