"""The codes of a column are decided as a whole, before any row, or asked about with the lines that answer."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, parse, parse_with
from trustescalate.errors import DataError


def _pairs(tmp_path: Path, labels: Sequence[Any], name: str = "label", **more: Any) -> Path:
    rows = [
        {"prompt": f"q{i}", "response_a": "x", "response_b": "y", name: label, **more}
        for i, label in enumerate(labels)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _singles(tmp_path: Path, labels: Sequence[Any]) -> Path:
    rows = [{"prompt": f"q{i}", "response": "x", "label": label} for i, label in enumerate(labels)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _labels(found: Parsed) -> list[str]:
    by_item = {item_id: label for (item_id, _), label in found.annotations.items()}
    return [by_item[item_id] for item_id in found.items if item_id in by_item]


@pytest.mark.parametrize(
    ("codes", "labels"),
    [
        ([1, 2, 1], ["A", "B", "A"]),
        ([1.0, "2", 1.5], ["A", "B", "tie"]),
        (["model_a", "model_b", "tie (bothbad)"], ["A", "B", "tie"]),
        (["[[A]]", "[[B]]", "[[C]]"], ["A", "B", "tie"]),
        (["Response A", "response b", "Equal"], ["A", "B", "tie"]),
        (["A>B", "B>>A", "A=B"], ["A", "B", "tie"]),
        (["A", None, "skip", "perhaps"], ["A", "skip"]),
    ],
)
def test_codes_with_one_meaning_are_taken(codes: list[Any], labels: list[str], tmp_path: Path) -> None:
    assert _labels(parse(tmp_path / "set", _pairs(tmp_path, codes))) == labels


@pytest.mark.parametrize(
    "codes",
    [
        [0, 1, 1],
        [0, 1, 2],
        [-1, 0, 1],
        [-1, 1],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [-3, 3, 2, 1],
        [0, 0.5, 1],
        [True, False],
        ["A", "B", 1],
        ["A", "B", 0],
        ["win", "lose", "win", "lose"],
        ["A", "B", "C", "C"],
        [1] * 300 + [2] * 300 + [0],
    ],
)
def test_codes_with_several_meanings_are_asked_about_and_no_row_is_taken(
    codes: list[Any], tmp_path: Path
) -> None:
    path = _pairs(tmp_path, codes)
    with pytest.raises(DataError, match=r"column 'label' holds .*; no row was taken") as refused:
        parse(tmp_path / "set", path)
    assert not (tmp_path / "set").exists()
    answers = re.findall(r"labels = \{.*?\}", refused.value.hint or "")
    assert answers
    for i, line in enumerate(answers):  # each one answers the question
        answer = line.replace('"..."', '"tie"')
        folder = tmp_path / str(i)
        folder.mkdir()
        found = parse_with(folder, f"[import]\n{answer}", path)
        assert (found.result.refused, len(found.annotations)) == (0, len(codes))


def test_an_answer_replaces_the_usual_meaning_of_other_numbers(tmp_path: Path) -> None:
    """With 0 for B, 1 can be no A without a word; with 0 for a tie, 1 and 2 mean what they always do."""
    path = _pairs(tmp_path, [0, 1, 2])
    with pytest.raises(DataError, match="does not define all"):
        parse_with(tmp_path, '[import]\nlabels = { 0 = "B" }', path)
    folder = tmp_path / "tie"
    folder.mkdir()
    assert _labels(parse_with(folder, '[import]\nlabels = { 0 = "tie" }', path)) == ["tie", "A", "B"]


def test_the_last_row_decides_too(tmp_path: Path) -> None:
    """Empty cells now and values later: neither the task nor the codes are those of the first rows."""
    late = _singles(tmp_path, [None] * 100 + ["3", "4"])
    with pytest.raises(DataError, match="no known meaning") as refused:
        parse(tmp_path / "set", late)
    assert 'kind = "rating", scale = [3, 4]' in (refused.value.hint or "")
    rows = [{"prompt": f"q{i}", "response_a": "x", "response_b": "y"} for i in range(100)]
    path = tmp_path / "later.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {**rows[0], "prompt": "last", "winner": "B"}])))
    assert _labels(parse(tmp_path / "later", path)) == ["B"]


def test_a_judges_column_is_decided_as_a_whole_too(tmp_path: Path) -> None:
    config = '[import]\njudges = { j = "gpt" }'
    for codes in ([0, 1, 0, 1], [-1, 1, 0]):
        with pytest.raises(DataError, match="column 'gpt' holds"):
            parse_with(tmp_path, config, _pairs(tmp_path, codes, "gpt"))
    folder = tmp_path / "sentinel"
    folder.mkdir()
    found = parse_with(folder, config, _pairs(tmp_path, [1, 2, -1, "error", "nonsense"], "gpt"))
    votes = [found.votes(item_id, "j")[0][1] for item_id in found.items]
    assert votes == ["A", "B", "invalid", "invalid", "invalid"]


@pytest.mark.parametrize(
    ("grades", "labels"),
    [
        (["good", "poor", "fair", "good"], ("poor", "fair", "good")),
        (["High", "Low", "Medium"], ("Low", "Medium", "High")),
        (["silver", "gold", "bronze"], ("bronze", "silver", "gold")),
    ],
)
def test_known_scales_are_in_the_order_of_their_meaning(
    grades: list[str], labels: tuple[str, ...], tmp_path: Path
) -> None:
    found = parse(tmp_path / "set", _singles(tmp_path, grades))
    assert tuple(found.result.labels) == labels
    assert f"from the lowest: {', '.join(labels)}" in " ".join(found.result.assumed)
    assert _labels(found) == grades
    table = (tmp_path / "set" / "trustescalate.toml").read_text()
    assert f"labels = [{', '.join(map(json.dumps, labels))}]" in table


@pytest.mark.parametrize("grades", [["alpha", "omega", "beta"], [1, 2, 3, 4, 5], [0, 1, 2], [-1, 1]])
def test_unknown_scales_are_asked_about(grades: list[Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no known meaning") as refused:
        parse(tmp_path / "set", _singles(tmp_path, grades))
    assert "[task]" in (refused.value.hint or "")


def test_numbers_of_tools_are_decided_as_a_whole(tmp_path: Path) -> None:
    record = {"prompt": "q", "response_a": "x", "response_b": "y"}
    rows = [
        {
            "id": str(i),
            **record,
            "preference.responses": [code],
            "preference.responses.users": ["u"],
            "preference.responses.status": ["submitted"],
        }
        for i, code in enumerate("012")
    ]
    path = tmp_path / "argilla.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(DataError, match="can mean different things"):
        parse(tmp_path / "set", path)
    tasks = [
        {
            "id": i,
            "data": {**record, "id": f"t{i}"},
            "annotations": [
                {
                    "completed_by": 1,
                    "result": [{"type": "choices", "from_name": "label", "value": {"choices": [code]}}],
                }
            ],
        }
        for i, code in enumerate("012")
    ]
    path = tmp_path / "label_studio.json"
    path.write_text(json.dumps(tasks))
    with pytest.raises(DataError, match="can mean different things"):
        parse(tmp_path / "set", path)


# ── probabilities ────────────────────────────────────────────────────────────────────────────────


def test_log_probabilities_of_labels_in_columns_are_a_vote(tmp_path: Path) -> None:
    text = (
        "id,prompt,response_a,response_b,logprob_A,logprob_B,judge_2_prob_a,judge_2_prob_b,judge_2_prob_tie\n"
    )
    text += '1,q,x,y,-0.2231,-1.6094,0.2,0.7,0.1\n2,r,x,y,-2.4,"-0,1",1,0,0\n3,s,x,y,,-0.1,0.9,0.9,0.9\n'
    path = tmp_path / "rows.csv"
    path.write_text(text)
    found = parse(tmp_path / "set", path)
    probs = [[vote.probs for vote in row.votes] for row in found.judgments.values()]
    by_judge = {key: row.votes[0] for key, row in found.judgments.items()}
    assert by_judge["1", "judge"].probs == pytest.approx({"A": 0.8, "B": 0.2}, abs=1e-3)
    assert by_judge["2", "judge"].probs["B"] == pytest.approx(0.9048, abs=1e-3)
    assert by_judge["3", "judge"].failure == by_judge["3", "judge_2"].failure == "none"
    assert by_judge["1", "judge_2"].probs == {"A": 0.2, "B": 0.7, "tie": 0.1}
    assert len(probs) == 6


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        (("gpt_logprob_A", "gpt_logprob_B"), {"A", "B"}),
        (("gpt_A_logprob", "gpt_B_logprob"), {"A", "B"}),
        (("gpt.logp.response_a", "gpt.logp.response_b"), {"A", "B"}),
        (("gpt_logprob_A",), set()),
        (("gpt_logprob_total", "logprob"), set()),
    ],
)
def test_columns_of_all_labels_are_known_by_their_names(
    columns: tuple[str, ...], labels: set[str], tmp_path: Path
) -> None:
    row = {"prompt": "q", "response_a": "x", "response_b": "y", **dict.fromkeys(columns, -0.7)}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    found = parse(tmp_path / "set", path)
    assert {judge for _, judge in found.judgments} == ({"gpt"} if labels else set())
    assert {label for each in found.judgments.values() for label in each.votes[0].probs} == labels


def test_columns_of_labels_can_be_named(tmp_path: Path) -> None:
    config = '[task]\nkind = "rating"\nscale = [1, 3]\n'
    config += '[import]\nprobabilities = { j = { 1 = "l", 2 = "m", 3 = "h" } }'
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "q", "response": "x", "l": 0.1, "m": 0.2, "h": 0.7}))
    found = parse_with(tmp_path, config, path)
    assert [row.votes[0].probs for row in found.judgments.values()] == [{"1": 0.1, "2": 0.2, "3": 0.7}]


def test_probabilities_and_logarithms_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = "".join(f"q{i},x,y,{'-0.5' if i % 2 else '0.5'},-1\n" for i in range(10))
    path.write_text("prompt,response_a,response_b,logprob_A,logprob_B\n" + rows)
    with pytest.raises(DataError, match="above and below 0"):
        parse(tmp_path / "set", path)
