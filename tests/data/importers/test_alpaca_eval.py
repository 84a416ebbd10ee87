"""AlpacaEval: preferences are probabilities of the second output, identical outputs ties, null a failure."""

import json
from pathlib import Path

import pytest

from tests.support.formats import parse


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
