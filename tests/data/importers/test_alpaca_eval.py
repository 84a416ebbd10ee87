"""AlpacaEval: preferences are probabilities of the second output, identical outputs ties, null a failure."""

import json
from pathlib import Path

import pytest

from tests.data.importers.samples import FOLDER, begins, expected, parse

REAL = pytest.mark.skipif(not FOLDER.exists(), reason="the shared data is not here")
FILES = [
    ("annotations.alpaca_eval_gpt4.json", 0, slice(None)),
    ("annotations.weighted_alpaca_eval_gpt4_turbo.json", 1, slice(None)),
    ("annotations.legacy_zero_and_null.json", 2, slice(None)),
    ("annotations.reordered_8keys.json", 3, slice(2)),
    ("annotations.nullmodel_attack.json", 3, slice(2, None)),
]


@REAL
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


@REAL
def test_prices_are_kept(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "alpaca_eval/annotations.alpaca_eval_gpt4.json")
    assert found.result.judges["alpaca_eval_gpt4"].cost > 0


def _row(**changed: object) -> dict[str, object]:
    row = {
        "instruction": "Say hi.",
        "output_1": "Hi.",
        "generator_1": "x",
        "output_2": "Ho.",
        "generator_2": "y",
    }
    return {**row, "annotator": "judge", "preference": 2, **changed}


def test_what_people_said_is_theirs(tmp_path: Path) -> None:
    file = tmp_path / "cross.json"
    rows = [_row(annotator_index=i, preference=said) for i, said in enumerate([1, 2, 1.5, None])]
    file.write_text(json.dumps(rows))
    found = parse(tmp_path / "set", file)
    (item_id,) = found.items
    said = {who: label for (_, who), label in found.annotations.items()}
    assert said == {"0": "A", "1": "B", "2": "tie"}
    assert not found.judgments
    assert found.items[item_id].group


@pytest.mark.parametrize(
    ("preference", "verdict"),
    [(1, "A"), (2.0, "B"), (1.5, "tie"), (0, "tie"), (None, "invalid"), (-1, "invalid"), (3, "invalid")],
)
def test_every_preference_is_a_verdict_or_a_failure(
    preference: float | None, verdict: str, tmp_path: Path
) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([_row(preference=preference)]))
    found = parse(tmp_path / "set", file)
    assert found.votes(next(iter(found.items)), "judge") == [("", verdict)]
