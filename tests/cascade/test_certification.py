"""What a calibration refuses before it pays for a judge's call."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.calibration.files import certificate_votes
from trustescalate.calibration.ledger import read_ledger
from trustescalate.cascade.renewal import still_standing
from trustescalate.errors import NotMeasurable
from trustescalate.records import Attempt


def test_too_few_rows_end_before_a_call_and_replace_nothing(tmp_path: Path) -> None:
    config = write_project(tmp_path, labelled=60)
    calibrate(config)
    before = (tmp_path / "certificate.json").read_bytes()
    tests = read_ledger(tmp_path).tests
    edit(config, "alpha = 0.3", "alpha = 0.02")
    (tmp_path / ".trustescalate/cache.sqlite").unlink()
    with pytest.raises(NotMeasurable, match=r"cannot certify anything: at alpha = 0\.02") as refused:
        calibrate(config)
    assert "no model call was made" in refused.value.hint
    assert (tmp_path / "certificate.json").read_bytes() == before
    assert read_ledger(tmp_path).tests == tests


def test_a_judge_without_a_usable_vote_ends_the_calibration(tmp_path: Path) -> None:
    mute = '[[judges]]\nname = "mute"\nbackend = "mock"\nreply = "Well, who knows"\n'
    with pytest.raises(NotMeasurable, match=r"no usable vote on its first 10 items: .*holds no verdict"):
        calibrate(write_project(tmp_path, judges=mute))
    assert not (tmp_path / "certificate.json").exists()


TIRED = """
import json, pathlib
HERE = pathlib.Path(__file__).parent
NOTES = [json.loads(line) for line in (HERE / "annotations.jsonl").read_text().splitlines()]
LABELS = {}
for note in NOTES:
    LABELS.setdefault(note["item_id"], []).append(note["label"])
ORDER = sorted(LABELS)

def judge(item):
    votes = LABELS.get(item["id"], ["A"])
    if item["id"] == ORDER[-1] and (HERE / "down").exists():
        raise RuntimeError("asleep")
    label = max(sorted(set(votes)), key=votes.count)
    wrong = item["id"] in ORDER[:20]
    return ("B" if label == "A" else "A") if wrong else label
"""
ALONE = '[[judges]]\nname = "mine"\nbackend = "callable"\nfunction = "tired:judge"\nversion = "1"\n'


def test_a_certificate_stands_where_only_failed_votes_were_asked_again(tmp_path: Path) -> None:
    (tmp_path / "tired.py").write_text(TIRED)
    (tmp_path / "down").touch()
    config = write_project(tmp_path, ALONE, guarantee='path = "tierwise"', ensemble="swap = false")
    first = calibrate(config)
    (tmp_path / "down").unlink()
    assert (first.status, first.diagnostics[0].failures) == ("certified", {"raised": 1})
    assert calibrate(config) == first
    ledger = read_ledger(tmp_path)
    assert [(line.number, round(line.share, 9)) for line in ledger.tests] == [(1, 0.9), (2, 0.05)]
    assert run(config).header.certificate == first

    votes = certificate_votes(tmp_path, first)
    assert votes is not None
    renewed = replace(first, status="none", attempt=Attempt(2, 0.05, ledger.tests[1].digest))
    assert still_standing(tmp_path, ledger, renewed, votes) == first
    (item_id, row), *_ = votes["mine"].items()
    drifted = {
        "mine": {**votes["mine"], item_id: replace(row, votes=(replace(row.votes[0], probs={"A": 0.1}),))}
    }
    assert still_standing(tmp_path, ledger, renewed, drifted) is None, "another judge answers now"
