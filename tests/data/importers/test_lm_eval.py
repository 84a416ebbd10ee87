"""lm-evaluation-harness, older and newer: what the model said is judged, and a bad metric costs its vote."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.formats import Parsed, parse, parse_rows

NEW = {"gen_args_0": {"arg_0": "2+2?", "arg_1": {}}}


def sample(**more: Any) -> dict[str, Any]:
    row = {"doc_id": 0, "doc": {}, "target": "4", "arguments": NEW, "filter": "none", "metrics": ["em"]}
    return {**row, "resps": [["It is four."]], "filtered_resps": ["4"], "em": 1.0, **more}


def only(found: Parsed) -> Any:
    (item,) = found.items.values()
    return item


def test_older_rows_list_their_arguments_and_name_no_filter_and_no_metrics(tmp_path: Path) -> None:
    row = sample(arguments=[["2+2?", {"until": ["\n"]}]], acc=False, note="x", target=4)
    del row["filter"], row["metrics"]
    found = parse_rows(tmp_path, row)
    assert (only(found).id, only(found).prompt, only(found).reference) == ("0|none", "2+2?", "4")
    assert found.votes("0|none", "em") == [("", "pass")]
    assert found.votes("0|none", "acc") == [("", "fail")]
    assert {judge for _, judge in found.judgments} == {"em", "acc"}


@pytest.mark.parametrize(
    ("resps", "taken", "shown"),
    [
        ([["It is four."]], ["[invalid]"], "It is four."),
        ([["five", "it is 4", "4!"]], ["4"], "it is 4"),
        ([[""]], [""], ""),
        (["said"], ["said"], "said"),
        ([[]], ["only"], "only"),
    ],
)
def test_what_the_model_said_is_judged_not_what_a_filter_made_of_it(
    resps: Any, taken: Any, shown: str, tmp_path: Path
) -> None:
    assert only(parse_rows(tmp_path, sample(resps=resps, filtered_resps=taken))).responses == (shown,)


def test_every_filter_of_a_document_is_an_item_of_one_group(tmp_path: Path) -> None:
    found = parse_rows(tmp_path, sample(filter="strict"), sample(filter="flexible", em=0.0))
    assert {(item.id, item.group) for item in found.items.values()} == {
        ("0|strict", "0"),
        ("0|flexible", "0"),
    }


@pytest.mark.parametrize("bad", [[1.0, 2.0], None, "x", 0.3, {"a": 1}])
def test_a_metric_that_cannot_be_read_costs_its_own_vote(bad: Any, tmp_path: Path) -> None:
    found = parse_rows(tmp_path, sample(metrics=["em", "f1", "gone"], f1=bad))
    votes = {judge: found.votes("0|none", judge) for _, judge in found.judgments}
    assert votes == {"em": [("", "pass")], "f1": [("", "invalid")], "gone": [("", "invalid")]}
    assert found.result.refused == 0


TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]


@pytest.mark.parametrize("context", [json.dumps(TALK), [json.dumps(TALK)], TALK])
def test_a_chat_is_a_conversation(context: Any, tmp_path: Path) -> None:
    prompt = only(parse_rows(tmp_path, sample(arguments={"gen_args_0": {"arg_0": context}}))).prompt
    assert [(turn.role, turn.content) for turn in prompt] == [("system", "Be brief."), ("user", "2+2?")]


def test_where_the_contexts_of_choices_differ_what_differs_is_the_choice(tmp_path: Path) -> None:
    asked = [["The cup fell on the floor as the", " broke."], ["The cup fell on the rug as the", " broke."]]
    scored = [[-2.0, False], [-1.0, True]]
    row = sample(arguments=asked, resps=[[each] for each in scored], filtered_resps=scored, target="1")
    item = only(parse_rows(tmp_path, row))
    assert (item.prompt, item.responses) == (
        "The cup fell on the \n\nA) floor as the broke.\nB) rug as the broke.",
        ("rug as the broke.",),
    )
    assert item.reference == "rug as the broke."


def test_documents_of_several_tasks_do_not_meet(tmp_path: Path) -> None:
    paths = [tmp_path / f"samples_{task}_2024-01-01T00-00-00.0.jsonl" for task in ("gsm8k", "arc_easy")]
    for path in paths:
        path.write_text(json.dumps(sample(arguments=[[path.name, {}]])), "utf-8")
    found = parse(tmp_path / "set", *paths)
    assert set(found.items) == {"gsm8k|0|none", "arc_easy|0|none"}


def test_a_likelihood_is_nothing_that_was_said(tmp_path: Path) -> None:
    good, bad = sample(doc_id=1), sample(resps=[[[-1.0, True]]], filtered_resps=[[-1.0, True]])
    found = parse_rows(tmp_path, good, bad)
    assert list(found.items) == ["1|none"]
    assert "not what the model said" in found.result.rejected[0]
