"""Our own sample of every format: what each record becomes, and what is refused.

The samples ask everyday questions. Every human label in them prefers the right answer, so a frame that
is turned round shows in the texts, whatever `expected.json` holds.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import OURS, SAMPLES, Parsed, parse
from trustescalate.data.importers.registry import COLUMNS, FORMATS
from trustescalate.errors import DataError
from trustescalate.records import Turn

EXPECTED = json.loads((OURS / "expected.json").read_text(encoding="utf-8"))
RIGHT = {
    "A spider has eight legs.",
    "Water freezes at zero degrees Celsius.",
    "June comes after May.",
    "Eleven is prime.",
    "A ripe lemon is yellow.",
    "Die Hauptstadt heißt Wien.",
}


def shown(text: str | tuple[Turn, ...]) -> Any:
    if isinstance(text, str):
        return text
    return [{"role": turn.role, "content": turn.content} for turn in text]


def is_right(response: str | tuple[Turn, ...]) -> bool:
    texts = (response,) if isinstance(response, str) else tuple(turn.content for turn in response)
    return not RIGHT.isdisjoint(texts)


def described(parsed: Parsed) -> dict[str, Any]:
    """What a parse holds, as `expected.json` says it."""
    items = {}
    for item in parsed.items.values():
        row = {"prompt": shown(item.prompt), "responses": [shown(each) for each in item.responses]}
        more = {"reference": item.reference, "group": item.group}
        labels = {who: label for (of, who), label in parsed.annotations.items() if of == item.id}
        judges = [judge for of, judge in parsed.judgments if of == item.id]
        votes = {judge: [list(vote) for vote in parsed.votes(item.id, judge)] for judge in judges}
        items[item.id] = row | {key: value for key, value in more.items() if value}
        items[item.id] |= {"labels": labels, "votes": votes}
    refused = [problem.rsplit("/", 1)[-1] for problem in parsed.result.rejected]
    return {"format": parsed.result.format, "refused": refused, "items": items}


def test_every_format_has_a_sample() -> None:
    assert {EXPECTED[name]["format"] for name in SAMPLES} == {*FORMATS, COLUMNS}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_read_as_expected(name: str, tmp_path: Path) -> None:
    assert described(parse(tmp_path / "set", *SAMPLES[name])) == EXPECTED[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_people_prefer_the_right_answer_wherever_it_stands(name: str, tmp_path: Path) -> None:
    parsed = parse(tmp_path / "set", *SAMPLES[name])
    for (item_id, _), label in parsed.annotations.items():
        right = [is_right(response) for response in parsed.items[item_id].responses]
        if label in ("A", "B"):
            assert right == [label == "A", label == "B"]
        elif label in ("pass", "fail", "correct", "incorrect"):
            assert right == [label in ("pass", "correct")]


def test_answers_cut_from_a_prompt_are_those_of_their_files(tmp_path: Path) -> None:
    given, cut = (
        parse(tmp_path / name, *SAMPLES[name]) for name in ("mt_bench_single", "mt_bench_single_cut")
    )
    assert {key: item.responses for key, item in cut.items.items()} == {
        key: item.responses for key, item in given.items.items()
    }


@pytest.mark.parametrize("name", ["label_studio_min", "label_studio_csv"])
def test_other_exports_of_the_same_labels_say_the_same(name: str, tmp_path: Path) -> None:
    whole = parse(tmp_path / "whole", *SAMPLES["label_studio"])
    assert parse(tmp_path / "set", *SAMPLES[name]).annotations == whole.annotations


def test_addresses_stay_where_they_are(tmp_path: Path) -> None:
    parse(tmp_path / "set", *SAMPLES["label_studio"])
    assert "@" in SAMPLES["label_studio"][0].read_text(encoding="utf-8")
    for file in (tmp_path / "set").rglob("*.json*"):
        assert "@" not in file.read_text(encoding="utf-8")


def test_prices_and_models_are_kept(tmp_path: Path) -> None:
    parsed = parse(tmp_path / "priced", *SAMPLES["alpaca_eval"])
    assert parsed.result.judges["toy_judge"].cost == pytest.approx(6 * 0.012)
    item = next(iter(parse(tmp_path / "named", *SAMPLES["pandalm"]).items.values()))
    assert (item.meta["model_a"], item.meta["model_b"]) == ("red-model", "green-model")


def test_a_probability_is_kept(tmp_path: Path) -> None:
    parsed = parse(tmp_path / "set", *SAMPLES["alpaca_eval_weighted"])
    shares = [row.votes[0].probs.get("B", 0.0) for row in parsed.judgments.values()]
    assert shares == pytest.approx([0.0625, 0.75, 0.0, 0.999])


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (["arena_hard_crossed.jsonl"], "different prompts"),
        (["argilla_nested.json"], "submitted"),
        (["deepeval_cache.json"], "cache"),
        (["inspect_ai_no_samples.json"], "no samples"),
        (["openai_batch.output.jsonl"], "no input file"),
        (["openai_batch_errors.jsonl"], "the request failed"),
        (["promptfoo.csv"], "rounds scores"),
    ],
)
def test_what_says_too_little_is_refused_by_name(files: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=why):
        parse(tmp_path / "set", *(OURS / file for file in files))
    assert not (tmp_path / "set").exists()
