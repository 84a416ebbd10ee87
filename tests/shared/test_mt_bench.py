"""MT-Bench judgments: both games in one frame, failures counted, two turns as turns."""

from pathlib import Path

import pytest

from tests.support.formats import FOLDER, begins, expected, parse
from trustescalate.records import Turn

pytestmark = pytest.mark.shared
SET = FOLDER / "mt_bench"


def test_pairs_are_as_expected(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", SET / "gpt-4_pair.jsonl")
    for wanted in expected("mt_bench")[0]:
        item = found.items[wanted["item_id"]]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        assert item.group == str(wanted["cluster"])
        for text, response in zip(item.texts, wanted["responses"], strict=True):
            assert begins(text, response)
        assert [item.meta["model_a"], item.meta["model_b"]] == [each["model"] for each in wanted["responses"]]
        judges = [(each["order"], each["verdict"]) for each in wanted["judge"]]
        assert found.votes(item.id, wanted["judge"][0]["judge"]) == judges
    assert (found.result.items, found.result.refused) == (13, 0)
    assert found.result.judges["gpt-4"].failures == 3


def test_answers_from_their_files_are_those_in_the_prompts(tmp_path: Path) -> None:
    beside = [SET / "question.jsonl", *sorted(SET.glob("model_answer_*.jsonl"))]
    cut = parse(tmp_path / "cut", SET / "gpt-4_pair.jsonl")
    given = parse(tmp_path / "given", SET / "gpt-4_pair.jsonl", *beside)
    assert [item.texts for item in given.items.values()] == [item.texts for item in cut.items.values()]


def test_scores_are_as_expected_and_two_turns_are_turns(tmp_path: Path) -> None:
    beside = [SET / "question.jsonl", *sorted(SET.glob("model_answer_*.jsonl"))]
    found = parse(tmp_path / "set", SET / "gpt-4_single.jsonl", *beside)
    for wanted in expected("mt_bench")[1]:
        assert found.votes(wanted["item_id"], "gpt-4") == [("", str(wanted["score"]))]
    response = found.items["124|phi-3-dpo|turn2"].responses[0]
    assert isinstance(response, tuple)
    assert [turn.role for turn in response] == ["assistant", "user", "assistant"]
    assert all(isinstance(turn, Turn) and turn.content for turn in response)


def test_two_turns_are_cut_from_the_prompt_as_their_files_have_them(tmp_path: Path) -> None:
    beside = [SET / "question.jsonl", *sorted(SET.glob("model_answer_*.jsonl"))]
    cut = parse(tmp_path / "cut", SET / "gpt-4_single.jsonl")
    given = parse(tmp_path / "given", SET / "gpt-4_single.jsonl", *beside)
    assert (cut.result.items, cut.result.refused) == (15, 0)
    for item_id in ("124|phi-3-dpo|turn2", "125|phi-3-dpo|turn2"):
        assert cut.items[item_id].responses == given.items[item_id].responses
