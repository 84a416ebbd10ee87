"""Judge each output of an application in a test of its own: pytest pytest_outputs.py"""

import json
from pathlib import Path

import pytest

ROWS = [json.loads(line) for line in Path("outputs.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_output(certified_cascade, row):
    response = row["response"]  # call your application here
    verdict = certified_cascade(row["prompt"], response, item_id=row["id"])
    assert verdict.label == "pass", verdict.explanation


def test_release(trustescalate_run, assert_gate):
    assert_gate(trustescalate_run)
