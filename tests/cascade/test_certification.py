"""What a calibration refuses before it pays for a judge's call."""

from pathlib import Path

import pytest

from tests.support.projects import calibrate, edit, write_project
from trustescalate.calibration.ledger import read_ledger
from trustescalate.errors import NotMeasurable


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
