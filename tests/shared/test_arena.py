"""Chatbot Arena and Arena-Hard: real battles and judgments, as their README describes them."""

from pathlib import Path

import pytest

from tests.support.formats import FOLDER, begins, expected, parse
from trustescalate.errors import DataError

pytestmark = pytest.mark.shared


@pytest.mark.parametrize(
    ("file", "block"),
    [
        ("judgment.v0.1.gpt-3.5-turbo-0125.Athene-V2-Chat.jsonl", 0),
        ("judgment.greek.claude-3.5-sonnet-v2.jsonl", 1),
    ],
)
def test_arena_hard_judgments_are_as_expected(file: str, block: int, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "arena_hard" / file)
    assert found.result.refused == 0
    for wanted in expected("arena_hard")[block]:
        item = found.items[f"{wanted['item_id']}|{wanted['model']}"]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        assert item.group == wanted["item_id"]
        for text, response in zip(item.texts, wanted["responses"], strict=True):
            assert begins(text, response)
        verdicts = [(each["order"], each["verdict"]) for each in wanted["judge"]]
        assert found.votes(item.id, wanted["judge_name"]) == verdicts


def test_arena_hard_games_about_different_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different prompts") as caught:
        parse(tmp_path / "set", FOLDER / "arena_hard/judgment.gpt-4o-batch.llama3_8b.jsonl")
    assert len(caught.value.problems) == len(expected("arena_hard")[2])
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("file", "block"),
    [
        ("judge_bench_wrapped_conversations.json", 0),
        ("kaggle_lmsys_test.csv", 1),
        ("preference_dissection_sample.jsonl", 2),
    ],
)
def test_arena_rows_are_as_expected(file: str, block: int, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "chatbot_arena" / file)
    for wanted in expected("chatbot_arena")[block]:
        item = found.items[str(wanted["item_id"])]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        for response, described in zip(item.responses, wanted["responses"], strict=True):
            first = response if isinstance(response, str) else response[0].content
            assert begins(first, described)
            turns = 1 if isinstance(response, str) else (len(response) + 1) // 2
            assert turns == wanted.get("turns", wanted.get("turn", 1))
        said = [(who, label) for (of, who), label in found.annotations.items() if of == item.id]
        assert [label for _, label in said] == [each["label"] for each in wanted["labels"]]
        if block == 0:
            assert said[0][0] == wanted["labels"][0]["annotator"]


def test_battles_without_texts_are_counted_and_nobody_is_asked(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "chatbot_arena/battles_min.jsonl")
    for wanted in expected("chatbot_arena")[3]:
        item_id = f"{wanted['question_id']}|{wanted['model_a']}|{wanted['model_b']}"
        assert ("", wanted["winner"]) in found.votes(item_id, "voter")
    assert sum(len(row.votes) for row in found.judgments.values()) == 60
