"""Chatbot Arena and Arena-Hard: one frame, turns as turns, and records that were joined wrongly refused."""

import json
from pathlib import Path

import pytest

from tests.support.formats import parse
from trustescalate.records import Turn


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
        ({"conversation_a": [{"role": "tool", "content": "42"}]}, "begin with one question"),
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


def test_tool_calls_of_a_battle_stay_in_its_turn(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "[2, 2]"}}
    used = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    plain = [used[0], {"role": "assistant", "content": "4"}]
    file = tmp_path / "battles.jsonl"
    file.write_text(json.dumps(_battle(conversation_a=used, conversation_b=plain, turn=1)))
    first, second = parse(tmp_path / "set", file).items["q1"].responses
    assert [turn.role for turn in first] == ["assistant", "tool", "assistant"]
    assert second == (Turn("assistant", "4"),)


def test_kaggle_winners_are_read_from_their_column(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    head = "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
    cells = '"[""p""]","[""a""]","[""b""]"'
    file.write_text(head + f"1,x,y,{cells},0,1,0\n2,x,y,{cells},0,0,1\n3,x,y,{cells},1,1,0\n")
    found = parse(tmp_path / "set", file)
    assert [found.annotations[each, "voter"] for each in ("1", "2")] == ["B", "tie"]
    assert found.result.refused == 1
