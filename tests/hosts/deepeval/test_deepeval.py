"""A certified cascade as a metric of DeepEval: its decisions, and what an abstention becomes."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from deepeval import assert_test, evaluate
from deepeval.evaluate.configs import AsyncConfig, CacheConfig, DisplayConfig, ErrorConfig
from deepeval.test_case import LLMTestCase

from tests.support.documents import ROOT
from trustescalate.errors import NoCertificate, UsageError
from trustescalate.integrations.deepeval import CertifiedMetric
from trustescalate.integrations.shared import SharedCascade

SCRIPT = ROOT / "examples" / "integrations" / "deepeval_metric.py"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DEEPEVAL_TELEMETRY_OPT_OUT", "DEEPEVAL_NO_INSPECT_PROMPT", "CI"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def case_of(item: Mapping[str, Any]) -> LLMTestCase:
    response, *baseline = item["responses"]
    return LLMTestCase(
        name=item["id"],
        input=item["prompt"],
        actual_output=response,
        expected_output=baseline[0] if baseline else item.get("reference"),
    )


def judge(
    certified: Any, items: Any, *, ignore: bool = False, together: bool = True, **more: Any
) -> dict[str, Any]:
    """DeepEval's row of each item."""
    done = evaluate(
        list(map(case_of, items)),
        [CertifiedMetric(certified.config)],
        async_config=AsyncConfig(run_async=together, max_concurrent=32),
        error_config=ErrorConfig(ignore_errors=ignore),
        display_config=DisplayConfig(show_indicator=False, print_results=False, inspect_after_run=False),
        cache_config=CacheConfig(**more),
    )
    return {result.name: (result.success, *result.metrics_data) for result in done.test_results}


@pytest.mark.parametrize("together", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("ignore", [True, False], ids=["ignoring errors", "strict"])
def test_every_decision_is_that_of_the_run_and_an_abstention_never_passes(
    graded: Any, ignore: bool, together: bool
) -> None:
    rows = judge(graded, graded.items, ignore=ignore, together=together)
    assert {name: row.score for name, (_, row) in rows.items()} == {
        name: None if label is None else float(label == "pass") for name, label in graded.labels.items()
    }
    for name, (passed, row) in rows.items():
        assert passed is row.success is (graded.labels[name] == "pass")
        if graded.labels[name] is None:
            assert row.error.startswith("Abstained (below threshold at every tier): human review is needed")
        else:
            assert row.error is None
            assert "certificate" in row.reason
    assert None in graded.labels.values()


def test_of_a_pair_the_expected_output_is_the_baseline(pairs: Any) -> None:
    items = pairs.items[:60]
    values = {None: None, "A": 1.0, "tie": 0.5, "B": 0.0}
    rows = judge(pairs, items)
    assert {name: row.score for name, (_, row) in rows.items()} == {
        item["id"]: values[pairs.labels[item["id"]]] for item in items
    }


def test_the_confidence_is_the_score_of_the_judge(graded: Any) -> None:
    metric = CertifiedMetric(graded.config)
    for item in graded.items:
        metric.measure(case_of(item))
        assert metric.confidence == graded.decisions[item["id"]].get("score")
        assert (metric.error is None) is (metric.confidence is not None)


def test_an_abstention_fails_assert_test(graded: Any) -> None:
    one = {label: item for item in graded.items for label in [graded.labels[item["id"]]]}
    metric = CertifiedMetric(graded.config)
    assert_test(case_of(one["pass"]), [metric])
    with pytest.raises(AssertionError, match="error: None, reason: 'fail' by judge"):
        assert_test(case_of(one["fail"]), [metric])
    with pytest.raises(AssertionError, match=r"score: None.*error: Abstained \(below threshold"):
        assert_test(case_of(one[None]), [metric])
    with pytest.raises(AssertionError, match=r"error: Abstained \(below threshold"):
        assert_test(case_of(one[None]), [metric], run_async=False)


@pytest.mark.parametrize("options", [[], ["--ignore-errors"], ["--use-cache"]], ids=" ".join)
def test_deepeval_test_run_fails_on_an_abstention(graded: Any, tmp_path: Path, options: list[str]) -> None:
    one = {label: item for item in graded.items for label in [graded.labels[item["id"]]]}
    file = tmp_path / "test_answers.py"
    file.write_text(
        "import pytest\nfrom deepeval import assert_test\nfrom deepeval.test_case import LLMTestCase\n"
        "from trustescalate.integrations.deepeval import CertifiedMetric\n"
        f"metric = CertifiedMetric({str(graded.config)!r})\n"
        f"@pytest.mark.parametrize('row', [{one['pass']!r}, {one[None]!r}], ids=['pass', 'abstained'])\n"
        "def test_answer(row):\n"
        "    case = LLMTestCase(name=row['id'], input=row['prompt'], actual_output=row['responses'][0])\n"
        "    assert_test(case, [metric])\n"
    )
    deepeval = [
        str(Path(sys.executable).with_name("deepeval")),
        "test",
        "run",
        file.name,
        *options,
        "--color",
        "no",
    ]
    for _ in range(2 if "--use-cache" in options else 1):
        done = subprocess.run(deepeval, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "1 failed, 1 passed" in done.stdout
        assert "Abstained (below threshold at every tier)" in done.stdout


def test_the_script_of_the_documentation(graded: Any) -> None:
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 20
    (items,) = graded.folder.glob("runs/*/items.jsonl")
    done = subprocess.run(
        [sys.executable, SCRIPT, items], cwd=graded.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    labels = list(graded.labels.values())
    passed, none = labels.count("pass"), labels.count(None)
    assert done.stdout.splitlines()[-1] == f"{passed} of {len(labels)} pass, {none} abstained"
    assert done.stdout.count("ERROR ") == none
    assert f"passed={passed} | failed={len(labels) - passed}" in done.stdout  # an abstention fails
    assert f" {passed / (len(labels) - none):.2f} " in done.stdout  # and is not in the average


def test_what_cannot_be_judged_is_an_error(graded: Any, tmp_path: Path) -> None:
    with pytest.raises(NoCertificate):
        CertifiedMetric(ROOT / "examples" / "pass-fail" / "trustescalate.toml")
    metric = CertifiedMetric(graded.config)
    silent = LLMTestCase(name="b200", input="What is 1 + 1?")
    with pytest.raises(UsageError, match="no actual_output"):
        evaluate([silent], [metric], error_config=ErrorConfig(skip_on_missing_params=True))
    (result,) = evaluate([silent], [metric], error_config=ErrorConfig(ignore_errors=True)).test_results
    assert (result.success, result.metrics_data[0].error) == (False, "the test case has no actual_output")


def test_a_rating_needs_a_threshold() -> None:
    rating = SharedCascade(ROOT / "examples" / "rating" / "trustescalate.toml")
    with pytest.raises(UsageError, match="a rating passes from a threshold on"):
        CertifiedMetric(rating)


def test_a_new_certificate_is_another_evaluation_model(graded: Any) -> None:
    metric = CertifiedMetric(graded.config)
    assert metric.evaluation_model.startswith("certificate ")
    assert (
        metric.evaluation_model.split()[1]
        in metric.cascade.judge(metric._item(case_of(graded.items[0]))).explanation
    )
