"""Preference sets, RewardBench and Prometheus: gold that always stands first is moved, nothing guessed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.formats import judged_better, parse, parse_rows
from trustescalate.errors import DataError

# ── TRL ──────────────────────────────────────────────────────────────────────────────────────────


def _talk(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def test_a_better_response_is_on_either_side_about_as_often(tmp_path: Path) -> None:
    rows = [{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": "bad"} for i in range(400)]
    found = parse_rows(tmp_path, *rows)
    counts = Counter(found.annotations.values())
    assert 150 < counts["A"] < 250  # a fair coin leaves this once in a million
    for item in found.items.values():
        assert judged_better(found, item)[0].startswith("good")


def test_a_pair_in_reverse_contradicts_itself(tmp_path: Path) -> None:
    row = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
    found = parse_rows(tmp_path, row, {"prompt": "2+2?", "chosen": "5", "rejected": "4"})
    assert (found.result.items, found.result.refused, len(found.annotations)) == (1, 1, 1)


def test_ultrafeedback_repeats_the_prompt_in_its_dialogues(tmp_path: Path) -> None:
    row = {
        "prompt": "Hi?",
        "prompt_id": "p",
        "chosen": _talk("Hi?", "Hello!"),
        "rejected": _talk("Hi?", "No."),
    }
    found = parse_rows(tmp_path, row, {**row, "prompt": "Ho?"})
    (item,) = found.items.values()
    assert (item.prompt, item.group, set(item.texts)) == ("Hi?", "p", {"Hello!", "No."})
    assert "does not begin with the prompt" in found.result.rejected[0]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"chosen": _talk("a", "b"), "rejected": _talk("x", "c")}, "differ before the last answer"),
        ({"chosen": _talk("a"), "rejected": _talk("a")}, "does not end with an answer"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "both responses are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "images": ["x.png"]}, "images cannot be judged"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "rejected is null"),
        ({"chosen": {"from": "observation", "value": "42"}, "rejected": "c"}, "does not end with an answer"),
        (
            {
                "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c",
                "rejected": "\n\nHuman: a\n\nAssistant: d",
            },
            "does not end with an answer",
        ),
        ("no object", "not an object"),
    ],
)
def test_a_row_that_cannot_be_used_costs_itself_alone(row: Any, why: str, tmp_path: Path) -> None:
    found = parse_rows(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"}, row)
    assert (found.result.items, found.result.refused) == (1, 1)
    assert why in found.result.rejected[0]


# ── RewardBench ──────────────────────────────────────────────────────────────────────────────────


def test_reward_bench_names_models_on_the_side_where_they_are(tmp_path: Path) -> None:
    row = {"prompt": "2+2?", "chosen": "4", "rejected": "5", "subset": "math"}
    row |= {"chosen_model": "gpt-4", "rejected_model": "tiny"}
    found = parse_rows(tmp_path, *({**row, "id": i, "prompt": f"{i}?"} for i in range(20)))
    for item in found.items.values():
        models = (item.meta["model_a"], item.meta["model_b"])
        assert dict(zip(item.texts, models, strict=True)) == {"4": "gpt-4", "5": "tiny"}
    assert found.result.format == "reward_bench"


def test_reward_bench_2_pairs_each_better_with_each_worse_response(tmp_path: Path) -> None:
    row = {
        "id": "7",
        "prompt": "2+2?",
        "chosen": ["4", "four"],
        "rejected": ["5", "6", "7"],
        "subset": "Ties",
    }
    row |= {"num_correct": 2, "num_incorrect": 3, "total_completions": 5, "models": ["a"] * 5}
    found = parse_rows(tmp_path, row)
    assert len(found.items) == 6
    assert {item.group for item in found.items.values()} == {"7"}
    assert {judged_better(found, item)[0] for item in found.items.values()} == {"4", "four"}


# ── Prometheus ───────────────────────────────────────────────────────────────────────────────────


# ── MT-Bench's votes, joined ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "cell", ["[" * 5000, "__import__('os').getpid()", "[('a','user')]", "['a'] * 10**9", "[(1,2)]"]
)
def test_a_list_that_is_none_is_refused_and_never_evaluated(cell: str, tmp_path: Path) -> None:
    good = "[('Hi?','user'),('Hello','assistant')]"
    head = "question_id,model_a,model_b,winner_x,judge_x,conversation_a_x,conversation_b_x,"
    head += "turn_x,winner_y,judge_y,turn_y"
    lines = [
        head,
        *(f'1,m{i},n,model_a,ann,"{text}","{good}",1,tie,gpt4,1' for i, text in enumerate([good, cell])),
    ]
    (tmp_path / "votes.csv").write_text("\n".join(lines), encoding="utf-8")
    found = parse(tmp_path / "set", tmp_path / "votes.csv")
    assert (found.result.items, found.result.refused) == (1, 1)
    assert "conversation_a_x" in found.result.rejected[0]


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": JSON}),
    max_size=4,
)
FIRST: list[dict[str, Any]] = [
    {"prompt": "p", "chosen": "a", "rejected": "b"},
    {"prompt": "p", "completion": "a", "label": True},
    {"id": 1, "prompt": "p", "chosen": ["a"], "rejected": ["b"], "subset": "s"},
    {"prompt": "p", "response 1": "a", "response 2": "b", "label": 0},
]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), first=st.sampled_from(FIRST))
def test_whatever_comes_is_taken_or_counted(
    data: st.DataObject, first: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = dict.fromkeys(first, JSON | MESSAGES | st.text("ab", min_size=1, max_size=2))
    rows = data.draw(st.lists(st.fixed_dictionaries({}, optional=keys) | JSON, max_size=6))
    tmp_path = tmp_path_factory.mktemp("rows")
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, [first, *rows])), encoding="utf-8")
    try:
        found = parse(tmp_path / "set", path)
    except DataError:
        return
    assert set(found.annotations.values()) <= {"A", "B", "tie", "pass", "fail"}
    if first["prompt"] == "p" and "id" not in first:  # RewardBench 2 makes several pairs of a row
        assert found.result.items + found.result.repeated + found.result.refused >= len(rows) + 1
