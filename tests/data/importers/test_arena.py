"""Chatbot Arena and Arena-Hard: one frame, turns as turns, and records that were joined wrongly refused."""

import json
from pathlib import Path

import pytest

from tests.data.importers.samples import FOLDER, begins, expected, parse
from trustescalate.errors import DataError

REAL = pytest.mark.skipif(not FOLDER.exists(), reason="the shared data is not here")


@REAL
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


@REAL
def test_arena_hard_games_about_different_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different prompts") as caught:
        parse(tmp_path / "set", FOLDER / "arena_hard/judgment.gpt-4o-batch.llama3_8b.jsonl")
    assert len(caught.value.problems) == len(expected("arena_hard")[2])
    assert not (tmp_path / "set").exists()


@REAL
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


@REAL
def test_battles_without_texts_are_counted_and_nobody_is_asked(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "chatbot_arena/battles_min.jsonl")
    for wanted in expected("chatbot_arena")[3]:
        item_id = f"{wanted['question_id']}|{wanted['model_a']}|{wanted['model_b']}"
        assert ("", wanted["winner"]) in found.votes(item_id, "voter")
    assert sum(len(row.votes) for row in found.judgments.values()) == 60


def _battle(**changed: object) -> dict[str, object]:
    talk = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    other = [{"content": "Hi?", "role": "user"}, {"content": "Go away.", "role": "assistant"}]
    row: dict[str, object] = {"question_id": "q1", "model_a": "x", "model_b": "y", "winner": "model_a"}
    return {**row, "judge": "u", "conversation_a": talk, "conversation_b": other, "turn": 1, **changed}


@pytest.mark.parametrize(
    "spelling", ["tie", "tie (bothbad)", "both_bad", "tie (inconsistent)", "Tie", "model_b"]
)
def test_every_spelling_of_a_tie_is_one(spelling: str, tmp_path: Path) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(json.dumps(_battle(winner=spelling)))
    label = parse(tmp_path / "set", file).annotations["q1", "u"]
    assert label == ("B" if spelling == "model_b" else "tie")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"winner": "nobody"}, "winner"),
        ({"winner": None}, "winner"),
        ({"conversation_a": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"conversation_a": [{"role": "tool", "content": "42"}]}, "tool call"),
        ({"conversation_a": [{"role": "user", "content": "Other?"}]}, "begin with one question"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(
    changed: dict[str, object], why: str, tmp_path: Path
) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(json.dumps(_battle()) + "\n" + json.dumps(_battle(question_id="q2", **changed)))
    found = parse(tmp_path / "set", file)
    assert found.result.items == found.result.refused == 1
    assert why in found.result.rejected[0]
    assert f"{file}:2: " in found.result.rejected[0]


def test_kaggle_winners_are_read_from_their_column(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    head = "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
    cells = '"[""p""]","[""a""]","[""b""]"'
    file.write_text(head + f"1,x,y,{cells},0,1,0\n2,x,y,{cells},0,0,1\n3,x,y,{cells},1,1,0\n")
    found = parse(tmp_path / "set", file)
    assert [found.annotations[each, "voter"] for each in ("1", "2")] == ["B", "tie"]
    assert found.result.refused == 1
