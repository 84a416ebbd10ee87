"""AlpacaEval: real annotations, as their README describes them."""

from pathlib import Path

import pytest

from tests.support.formats import FOLDER, begins, expected, parse

pytestmark = pytest.mark.shared
FILES = [
    ("annotations.alpaca_eval_gpt4.json", 0, slice(None)),
    ("annotations.weighted_alpaca_eval_gpt4_turbo.json", 1, slice(None)),
    ("annotations.legacy_zero_and_null.json", 2, slice(None)),
    ("annotations.reordered_8keys.json", 3, slice(2)),
    ("annotations.nullmodel_attack.json", 3, slice(2, None)),
]


@pytest.mark.parametrize(("file", "block", "part"), FILES)
def test_annotations_are_as_expected(file: str, block: int, part: slice, tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "alpaca_eval" / file)
    assert found.result.refused == 0
    items = list(found.items.values())
    for wanted in expected("alpaca_eval")[block][part]:
        item, judge = items[wanted["index"]], wanted["judge"][0]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        for text, response in zip(item.texts, wanted["responses"], strict=True):
            assert begins(text, response)
        assert [item.meta["model_a"], item.meta["model_b"]] == [each["model"] for each in wanted["responses"]]
        vote = found.judgments[item.id, judge["judge"]].votes[0]
        assert found.votes(item.id, judge["judge"]) == [("", judge["verdict"])]
        if judge["p_B"] is None:
            assert vote.failure == "none"
        elif judge["verdict"] != "tie":
            assert vote.probs.get("B", 0.0) == pytest.approx(judge["p_B"], abs=1e-9)
        assert (item.texts[0] == item.texts[1]) == wanted["identical_outputs"]


def test_prices_are_kept(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "alpaca_eval/annotations.alpaca_eval_gpt4.json")
    assert found.result.judges["alpaca_eval_gpt4"].cost > 0
