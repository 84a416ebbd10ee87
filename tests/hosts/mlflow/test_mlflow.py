"""A certified cascade as a scorer of MLflow: its decisions, and what an abstention becomes."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Feedback

from tests.support.documents import ROOT
from trustescalate.errors import NoCertificate
from trustescalate.integrations.mlflow import certified_scorer, log_certificate
from trustescalate.integrations.shared import SharedCascade

SCRIPT = ROOT / "examples" / "integrations" / "mlflow_scorer.py"


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv(
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool"
    )  # its pool of SQLite runs out of places
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri(None)


def row_of(item: Mapping[str, Any]) -> dict[str, Any]:
    response, *baseline = item["responses"]
    inputs = {"q": item["prompt"], "id": item["id"]}
    return {"inputs": inputs, "outputs": response, "expectations": {"baseline": "".join(baseline)}}


def test_every_decision_is_that_of_the_run(graded: Any) -> None:
    judge = certified_scorer(graded.config, prompt="q", item_id="id")
    with mlflow.start_run():
        result = mlflow.genai.evaluate([row_of(item) for item in graded.items], scorers=[judge])
    labels = list(graded.labels.values())
    passed, none = labels.count("pass"), labels.count(None)
    # The mean is over the released verdicts; the second one is the coverage.
    assert result.metrics["certified/mean"] == pytest.approx(passed / (len(labels) - none))
    assert result.metrics["certified_released/mean"] == pytest.approx((len(labels) - none) / len(labels))
    assert not result.passed
    assert result.reason.count("Abstained (below threshold at every tier)") >= none
    values = {None: None, "pass": True, "fail": False}
    seen = {}
    for _, row in result.result_df.iterrows():
        named = {each["assessment_name"]: each for each in row["assessments"]}
        verdict = named["certified"]
        name = verdict["metadata"]["item_id"]
        seen[name] = verdict["feedback"].get("value")
        assert verdict["source"]["source_type"] == "LLM_JUDGE"
        assert verdict["source"]["source_id"] == f"trustescalate {verdict['metadata']['certificate']}"
        assert named["certified_released"]["feedback"]["value"] is (graded.labels[name] is not None)
        if graded.labels[name] is None:
            assert verdict["feedback"]["error"]["error_code"] == "ABSTAINED"
    assert seen == {name: values[label] for name, label in graded.labels.items()}


def test_of_a_pair_the_expectations_hold_the_baseline(pairs: Any) -> None:
    values = {None: None, "A": 1.0, "tie": 0.5, "B": 0.0}
    judge = certified_scorer(
        pairs.config, name="wins", threshold=0.5, prompt="q", item_id="id", baseline="baseline"
    )
    for item in pairs.items[:40]:
        first, released = judge.run(**row_of(item))
        label = pairs.labels[item["id"]]
        assert (first.name, first.value, first.error is None) == ("wins", values[label], label is not None)
        assert (released.name, released.value) == ("wins_released", label is not None)
    assert judge.pass_if(1.0)
    assert not judge.pass_if(0.0)


def test_the_metadata_is_text_and_holds_the_certificate(graded: Any) -> None:
    judge = certified_scorer(graded.config, prompt="q", item_id="id")
    first = judge.run(**row_of(graded.items[0]))[0]
    assert isinstance(first, Feedback)
    assert all(isinstance(value, str) for value in first.metadata.values())
    assert first.metadata["alpha"] == "0.1"
    assert json.loads(first.metadata["trail"])[0]["judge"] == "small"
    assert first.metadata["certificate"] in first.rationale


def test_the_certificate_and_the_report_are_artefacts_of_the_run(graded: Any, tmp_path: Path) -> None:
    with SharedCascade(graded.config) as cascade, mlflow.start_run() as run:
        log_certificate(cascade)
        digest = cascade.judge(cascade.item("What is 1 + 1?", "2", item_id="b200")).metadata["certificate"]
    names = {Path(file.path).name for file in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
    assert names == {"trustescalate"}
    folder = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="trustescalate", dst_path=str(tmp_path / "out")
    )
    assert (Path(folder) / "certificate.json").read_bytes() == (
        graded.folder / "certificate.json"
    ).read_bytes()
    (report,) = graded.folder.glob("runs/*/report.html")
    assert (Path(folder) / "report.html").read_bytes() == report.read_bytes()
    assert "<title>" in report.read_text("utf-8")
    assert mlflow.get_run(run.info.run_id).data.tags["trustescalate.certificate"] == digest


def test_the_script_of_the_documentation(graded: Any) -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 20
    (items,) = graded.folder.glob("runs/*/items.jsonl")
    done = subprocess.run(
        [sys.executable, SCRIPT, items], cwd=graded.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    labels = list(graded.labels.values())
    coverage = 1 - labels.count(None) / len(labels)
    assert f"'certified_released/mean': np.float64({coverage})" in done.stdout.splitlines()[-1]


def test_an_error_is_the_error_of_the_row(graded: Any) -> None:
    with pytest.raises(NoCertificate):
        certified_scorer(ROOT / "examples" / "pass-fail" / "trustescalate.toml")
    judge = certified_scorer(graded.config, prompt="question")
    result = mlflow.genai.evaluate([row_of(graded.items[0])], scorers=[judge])
    assert "certified/mean" not in result.metrics
    assert "inputs has no field 'question'; it has q, id" in result.reason
