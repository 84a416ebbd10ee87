"""The evaluator in pydantic-evals itself: decisions, abstentions, pairs and errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_evals import Case, Dataset
from pydantic_evals.reporting import EvaluationReport

from trustescalate.errors import NoCertificate, UsageError
from trustescalate.integrations.pydantic_evals import CertifiedCascade

ROOT = Path(__file__).parents[3]
NAME = "certified_cascade"


def evaluated(certified: Any, evaluator: CertifiedCascade, *, baseline: str = "expected") -> EvaluationReport:
    rows = {item["id"]: item for item in certified.items}

    async def application(inputs: str) -> str:
        return next(answers)

    answers = (item["responses"][0] for item in certified.items)
    cases = [
        Case(
            name=item_id,
            inputs=item["prompt"],
            expected_output=(item["responses"][1:] or [None])[0] if baseline == "expected" else None,
            metadata={"baseline": (item["responses"][1:] or [""])[0]},
        )
        for item_id, item in rows.items()
    ]
    dataset = Dataset(name="cases", cases=cases, evaluators=[evaluator])
    return dataset.evaluate_sync(application, progress=False, max_concurrency=1)


def abstained(report: EvaluationReport) -> set[str]:
    """The cases whose only result is a failure of the evaluator that names an abstention."""
    failed = [case for case in report.cases if case.evaluator_failures]
    for case in failed:
        (failure,) = case.evaluator_failures
        assert (case.assertions, case.scores, case.labels) == ({}, {}, {})
        assert failure.error_type == "Abstained"
        assert failure.error_message.startswith("Abstained: (")
        assert case.attributes[NAME]["abstained"] is True
        assert failure.evaluator_version == case.attributes[NAME]["certificate"]
    return {case.name for case in failed}


def test_pass_and_fail_are_assertions_and_all_decisions_are_those_of_the_command_line(graded: Any) -> None:
    report = evaluated(graded, CertifiedCascade(str(graded.config)))
    seen: dict[str, str | None] = dict.fromkeys(abstained(report))
    for case in report.cases:
        if case.name not in seen:
            result = case.assertions[NAME]
            seen[case.name] = "pass" if result.value else "fail"
            assert result.evaluator_version == case.attributes[NAME]["certificate"]
            assert case.attributes[NAME]["judge"] == graded.decisions[case.name]["judge"]
            assert repr(graded.decisions[case.name]["judge"]) in str(result.reason)
    assert seen == graded.labels
    assert None in seen.values()
    passed = [label for label in seen.values() if label is not None].count("pass")
    averages = report.averages()
    assert averages is not None
    assert averages.assertions == passed / sum(label is not None for label in seen.values())


@pytest.mark.parametrize("baseline", ["expected", "metadata"])
def test_the_outcome_of_a_pair_is_a_score(baseline: str, pairs: Any) -> None:
    field = None if baseline == "expected" else "baseline"
    report = evaluated(pairs, CertifiedCascade(str(pairs.config), baseline=field), baseline=baseline)
    seen: dict[str, str | None] = dict.fromkeys(abstained(report))
    names = {1.0: "A", 0.0: "B", 0.5: "tie"}
    seen |= {case.name: names[case.scores[NAME].value] for case in report.cases if case.name not in seen}
    assert seen == pairs.labels


def test_cases_that_run_together_get_the_same_decisions(graded: Any) -> None:
    responses = {item["prompt"]: item["responses"][0] for item in graded.items}

    async def application(inputs: str) -> str:
        return responses[inputs]

    cases = [Case(name=item["id"], inputs=item["prompt"]) for item in graded.items]
    evaluator = CertifiedCascade(str(graded.config))
    report = Dataset(name="many", cases=cases, evaluators=[evaluator]).evaluate_sync(
        application, progress=False
    )
    seen = {case.name: case.assertions.get(NAME) for case in report.cases}
    labels = {True: "pass", False: "fail"}
    assert {name: each and labels[each.value] for name, each in seen.items()} == graded.labels


def test_an_error_of_a_case_is_a_failure_and_a_missing_certificate_ends_all(
    graded: Any, tmp_path: Path
) -> None:
    evaluator = CertifiedCascade(str(graded.config), context="passages")
    report = Dataset(name="one", cases=[Case(inputs="2 + 2?")], evaluators=[evaluator]).evaluate_sync(
        lambda inputs: "4", progress=False
    )
    (failure,) = report.cases[0].evaluator_failures
    assert failure.error_type == UsageError.__name__
    shutil.copytree(ROOT / "examples" / "pass-fail", tmp_path / "project")
    with pytest.raises(NoCertificate, match="there is no certificate yet"):
        CertifiedCascade(str(tmp_path / "project" / "trustescalate.toml"))


def test_the_script_shows_abstentions_in_the_report(graded: Any) -> None:
    keys = ("id", "prompt")
    rows = [{key: item[key] for key in keys} | {"response": item["responses"][0]} for item in graded.items]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (graded.folder / "outputs.jsonl").write_text(lines, "utf-8")
    script = ROOT / "examples" / "integrations" / "pydantic_evals_cases.py"
    assert len(script.read_text("utf-8").splitlines()) <= 20
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=graded.folder,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "COLUMNS": "200"},
    )
    assert "Evaluator Failures" in done.stdout
    left = list(graded.labels.values()).count(None)
    assert done.stdout.count("certified_cascade: Abstained: (") == left > 0
