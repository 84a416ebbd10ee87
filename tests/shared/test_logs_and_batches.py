"""Inspect AI, MLflow, Argilla and batch files: whose opinion it is decides what it becomes."""

from pathlib import Path

import pytest

from tests.support.formats import FOLDER, begins, expected, parse
from trustescalate.errors import DataError

pytestmark = pytest.mark.shared
GRADER = "model_graded_fact mockllm/judge"
PASSED = {"C": "pass", "I": "fail", None: "invalid"}


def test_inspect_scores_are_the_judges_and_edits_are_peoples(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "inspect_ai/facts_edited.json")
    for wanted in expected("inspect_ai")[0]:
        item = found.items[f"{wanted['item_id']}|epoch{wanted['epoch']}"]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        assert item.responses == (wanted["responses"][0]["text"],)
        assert (item.reference, item.group) == (wanted["target"], str(wanted["item_id"]))
        for each in wanted["judge"]:
            judge = GRADER if "judge" in each else each["scorer"]
            assert found.votes(item.id, judge) == [("", PASSED[each["value"]])]
        said = {who: label for (of, who), label in found.annotations.items() if of == item.id}
        assert said == {each["annotator"]: PASSED[each["value"]] for each in wanted["labels"]}
    second = {("6", "pass"), ("q1", "pass"), ("q3", "fail")}
    assert {(i, found.votes(f"{i}|epoch2", GRADER)[0][1]) for i in ("6", "q1", "q3")} == second
    assert found.annotations == {("q3|epoch1", "reviewer_1"): "pass", ("q1|epoch2", "reviewer_2"): "fail"}


def test_inspect_archives_are_read_and_crashed_samples_counted(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "inspect_ai/facts_edited_with_crash.eval")
    assert (found.result.items, found.result.refused) == (8, 2)
    assert set(found.result.labels) == {"correct", "incorrect"}  # some grade is partial: no pass or fail


def test_inspect_older_logs_and_logs_without_samples(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "inspect_ai/security-guide.json")
    assert [found.votes(f"{i}|epoch1", "model_graded_fact") for i in (1, 2, 3)] == [[("", "pass")]] * 3
    with pytest.raises(DataError, match="no samples"):
        parse(tmp_path / "none", FOLDER / "inspect_ai/no-samples.json")


def test_mlflow_counts_valid_assessments_by_their_source(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "mlflow/traces.json")
    for wanted in expected("mlflow")[0]:
        item = found.items[wanted["item_id"]]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        assert item.responses == (wanted["output"],)
        assert item.reference == (wanted["expectation"] or [None])[0]
        (judge,) = wanted["judge"]
        verdict = {True: "pass", "yes": "pass", None: "invalid"}[judge["value"]]
        assert found.votes(item.id, f"{judge['name']} {judge['judge']}") == [("", verdict)]
        said = {who: label for (of, who), label in found.annotations.items() if of == item.id}
        binary = [each for each in wanted["labels"] if each["valid"] and isinstance(each["value"], bool)]
        assert said == {each["annotator"]: "pass" if each["value"] else "fail" for each in binary}


def test_argilla_takes_what_was_submitted(tmp_path: Path) -> None:
    found = parse(tmp_path / "set", FOLDER / "argilla/records_flat.json")
    spelled = {"response_a": "A", "response_b": "B", "tie": "tie"}
    for wanted in expected("argilla")[0]:
        item = found.items[wanted["item_id"]]
        assert isinstance(item.prompt, str)
        assert begins(item.prompt, wanted["prompt"])
        for text, response in zip(item.texts, wanted["responses"], strict=True):
            assert begins(text, response)
        said = {who: label for (of, who), label in found.annotations.items() if of == item.id}
        kept = {
            each["annotator"]: "skip" if each["status"] == "discarded" else spelled[each["value"]]
            for each in wanted["labels"]
            if each["status"] != "draft"
        }
        assert said == kept
    with pytest.raises(DataError, match="submitted"):
        parse(tmp_path / "nested", FOLDER / "argilla/records.json")


@pytest.mark.parametrize(
    ("block", "output", "source"),
    [
        (0, "groq.batch_output.jsonl", "groq.batch_input.jsonl"),
        (1, "openai.responses.batch_results.jsonl", "openai.responses.batch_tasks.jsonl"),
    ],
)
def test_batch_answers_are_joined_by_their_id(block: int, output: str, source: str, tmp_path: Path) -> None:
    folder = FOLDER / "openai_batch"
    found = parse(tmp_path / "set", folder / output, folder / source)
    for wanted in expected("openai_batch")[block]:
        item = found.items[wanted["custom_id"]]
        assert begins(item.texts[0], wanted["text"])
        assert (item.meta["model"], item.meta["finish"]) == (wanted["model"], wanted["finish"])


def test_batch_errors_are_refused_by_their_code(tmp_path: Path) -> None:
    folder = FOLDER / "openai_batch"
    with pytest.raises(DataError, match="the request failed") as caught:
        parse(tmp_path / "set", folder / "openai.responses.batch_errors.first3.jsonl")
    assert len(caught.value.problems) == 3
    with pytest.raises(DataError, match="no input file"):
        parse(tmp_path / "alone", folder / "groq.batch_output.jsonl")
