"""Logs of harnesses: graders that failed are failures, checks are judges, and no assertion is no verdict."""

from pathlib import Path

import pytest

from tests.support.formats import FOLDER, begins, expected, parse
from trustescalate.errors import DataError

pytestmark = pytest.mark.shared


def test_promptfoo_rows_are_as_expected(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "promptfoo/results.json")
    assert found.result.refused == 4  # the model failed: there is nothing to judge
    for wanted in expected("promptfoo")[0]:
        items = [
            item
            for item in found.items.values()
            if item.responses == (wanted["output"],) and wanted["vars"]["q"] in str(item.prompt)
        ]
        assert bool(items) == (wanted["output"] is not None)
        for item in items[:1]:
            judges = {judge: row for (of, judge), row in found.judgments.items() if of == item.id}
            assert len(judges) == len(wanted["judge"])
            for each in wanted["judge"]:
                name = each["assert"] + (f" {each['metric']}" if each["metric"] else "")
                unread = "Could not extract JSON" in each["reason"]
                verdict = "invalid" if unread else "pass" if each["pass"] else "fail"
                assert found.votes(item.id, name)[0] == ("", verdict)
    assert not found.annotations


def test_promptfoo_repeats_are_votes_on_one_item(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "promptfoo/results.json")
    votes = [len(row.votes) for row in found.judgments.values()]
    assert votes == [2] * len(votes)
    assert len({item.group for item in found.items.values()}) == 5


def test_promptfoo_csv_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rounds scores") as caught:
        parse(tmp_path / "set", FOLDER / "promptfoo/results.csv")
    assert "results.json" in caught.value.hint


def test_deepeval_cases_are_as_expected(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "deepeval/test_run.json")
    items = list(found.items.values())
    for wanted in expected("deepeval")[0]:
        item = items[wanted["index"]]
        assert (item.prompt, item.responses) == (wanted["prompt"], (wanted["output"],))
        assert item.reference == wanted["expected"]
        assert item.id.startswith(wanted["name"])
        for each in wanted["judge"]:
            name = each["metric"] + (f" {each['judge']}" if each["judge"] else "")
            verdict = "invalid" if each["error"] else "pass" if each["success"] else "fail"
            assert found.votes(item.id, name) == [("", verdict)]


def test_deepeval_upstream_and_cache(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "deepeval/upstream.test_run_sample.json")
    (item_id,) = found.items
    assert found.votes(item_id, "Answer Relevancy gpt-5.4") == [("", "pass")]
    assert found.votes(item_id, "Faithfulness gpt-5.4") == [("", "fail")]
    with pytest.raises(DataError, match="cache"):
        parse(tmp_path / "other", FOLDER / "deepeval/deepeval-cache.json")


def test_lm_eval_samples_are_as_expected(tmp_path: Path) -> None:
    (block,) = expected("lm_eval")
    found = parse(tmp_path / "gen", FOLDER / "lm_eval/samples_local_gen.jsonl")
    for wanted in block["samples_local_gen.jsonl"]:
        item = found.items[f"{wanted['doc_id']}|{wanted['filter']}"]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        assert (item.reference, list(item.responses)) == (wanted["target"], wanted["filtered"])
        verdict = "pass" if wanted["exact_match"] else "fail"
        assert found.votes(item.id, "exact_match") == [("", verdict)]
    assert len(found.items) == 8
    chosen = parse(tmp_path / "mc", FOLDER / "lm_eval/samples_local_mc.jsonl")
    for wanted in block["samples_local_mc.jsonl"]:
        item = chosen.items[f"{wanted['doc_id']}|none"]
        assert (item.meta["choices"], item.meta["loglik"]) == (wanted["choices"], wanted["loglik"])
        assert item.reference == wanted["choices"][wanted["target_index"]]
        assert item.responses == (wanted["choices"][wanted["argmax"]],)
        assert chosen.votes(item.id, "acc") == [("", "pass" if wanted["acc"] else "fail")]
