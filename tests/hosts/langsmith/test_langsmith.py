"""A certified cascade as an evaluator of LangSmith, without its cloud, and where openevals has one."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from langsmith import Client, aevaluate, evaluate
from langsmith.schemas import Example
from openevals.types import EvaluatorResult, SimpleEvaluator

from tests.support.documents import ROOT
from trustescalate.errors import NoCertificate
from trustescalate.integrations.langsmith import certified_evaluator

SCRIPT = ROOT / "examples" / "integrations" / "langsmith_evaluator.py"
NOWHERE = {"LANGSMITH_TRACING": "false", "LANGSMITH_ENDPOINT": "http://127.0.0.1:9"}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    return Client(api_url=NOWHERE["LANGSMITH_ENDPOINT"], api_key="none", info={}, auto_batch_tracing=False)


def example_of(item: Mapping[str, Any]) -> Example:
    _, *baseline = item["responses"]
    inputs = {"q": item["prompt"], "id": item["id"]}
    return Example(id=uuid4(), inputs=inputs, outputs={"baseline": "".join(baseline)})


def scores_of(rows: Any) -> dict[str, tuple[Any, Any]]:
    """Score of the verdict, and whether one was released, by item."""
    return {
        row["example"].inputs["id"]: tuple(each.score for each in row["evaluation_results"]["results"])
        for row in rows
    }


@pytest.mark.parametrize("together", [False, True], ids=["evaluate", "aevaluate"])
def test_every_decision_is_that_of_the_run(graded: Any, client: Client, together: bool) -> None:
    answers = {item["id"]: {"answer": item["responses"][0]} for item in graded.items}
    judge = certified_evaluator(graded.config, prompt="q", item_id="id")
    data = [example_of(item) for item in graded.items]
    options: dict[str, Any] = {
        "data": data, "evaluators": [judge], "client": client, "upload_results": False, "max_concurrency": 8
    }  # fmt: skip

    async def answer(inputs: dict[str, Any]) -> dict[str, Any]:
        return answers[inputs["id"]]

    async def gathered() -> Any:
        return await aevaluate(answer, **options)

    results = (
        asyncio.run(gathered()) if together else evaluate(lambda inputs: answers[inputs["id"]], **options)
    )
    values = {None: (None, False), "pass": (1.0, True), "fail": (0.0, True)}
    frame = results.to_pandas()
    rows = results._results
    assert scores_of(rows) == {name: values[label] for name, label in graded.labels.items()}
    for row in rows:
        first = row["evaluation_results"]["results"][0]
        assert first.comment.startswith("Abstained") is (first.score is None)
        assert first.metadata["certificate"] in first.comment
    labels = list(graded.labels.values())
    released = len(labels) - labels.count(None)
    # LangSmith's table leaves an abstention empty: a mean is over the released verdicts.
    assert frame["feedback.certified"].isna().sum() == labels.count(None)
    assert frame["feedback.certified"].astype(float).mean() == pytest.approx(labels.count("pass") / released)
    assert frame["feedback.certified_released"].astype(float).mean() == pytest.approx(released / len(labels))


def test_an_error_is_an_error_of_the_row_and_no_score(graded: Any, client: Client) -> None:
    with pytest.raises(NoCertificate):
        certified_evaluator(ROOT / "examples" / "pass-fail" / "trustescalate.toml")
    judge = certified_evaluator(graded.config, prompt="question")
    results = evaluate(
        lambda inputs: {"answer": "It is 4."},
        data=[example_of(graded.items[0])],
        evaluators=[judge],
        client=client,
        upload_results=False,
    )
    (row,) = results
    for each in row["evaluation_results"]["results"]:
        assert each.score is None
        assert "inputs has no field 'question'; it has q, id" in each.comment


def test_it_is_an_evaluator_of_openevals_with_its_result(pairs: Any) -> None:
    judge: SimpleEvaluator = certified_evaluator(
        pairs.config, key="wins", prompt="q", item_id="id", baseline="baseline"
    )
    values = {None: None, "A": 1.0, "tie": 0.5, "B": 0.0}
    for item in pairs.items[:40]:
        example = example_of(item)
        results = judge(
            inputs=example.inputs, outputs=item["responses"][0], reference_outputs=example.outputs
        )
        for result in results:
            assert set(result) | {"source_run_id"} == set(EvaluatorResult.__annotations__)
        assert [result["key"] for result in results] == ["wins", "wins_released"]
        assert results[0]["score"] == values[pairs.labels[item["id"]]]


def test_the_script_of_the_documentation(graded: Any) -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 20
    (items,) = graded.folder.glob("runs/*/items.jsonl")
    done = subprocess.run(
        [sys.executable, SCRIPT, items],
        cwd=graded.folder,
        env={**os.environ, **NOWHERE},
        capture_output=True,
        text=True,
        check=False,
    )
    labels = list(graded.labels.values())
    expected = f"{labels.count('pass')} of {len(labels)} pass, {labels.count(None)} abstained"
    assert done.stdout.splitlines()[-1] == expected, done.stderr
