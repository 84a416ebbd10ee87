"""Planned interim analyses, from the configuration to certificate and ledger."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.projects import calibrate, edit, run, write_project
from trustescalate.analysis.checks import inspect_project
from trustescalate.calibration.ledger import LEDGER, read_ledger
from trustescalate.cli import app
from trustescalate.data.dataset import load_dataset
from trustescalate.errors import CertificateMismatch, DataError, NotMeasurable
from trustescalate.project import Project
from trustescalate.records import Certificate
from trustescalate.report.document import build_calibration
from trustescalate.report.markdown import render_markdown

pytestmark = pytest.mark.slow
Rows = list[dict[str, Any]]
LOOKS = 'path = "common"\ninterim = [40, 70, 140]'


def page(outcome: Certificate) -> str:
    return render_markdown(build_calibration(outcome).page())


def world(folder: Path, labelled: int, guarantee: str = LOOKS, alpha: float = 0.3) -> Path:
    """The first `labelled` of 260 fixed items have labels."""

    def some(items: Rows, notes: Rows) -> None:
        known = {item["id"] for item in items[:labelled]}
        notes[:] = [note for note in notes if note["item_id"] in known]

    return write_project(
        folder, labelled=200, unlabelled=60, change=some, guarantee=guarantee, alpha=alpha, more=""
    )


def relabel(folder: Path, labelled: int) -> Path:
    (folder / "annotations.jsonl").unlink()
    return world(folder, labelled)


def test_a_look_is_made_when_there_are_rows_for_it(tmp_path: Path) -> None:
    config = world(tmp_path, 40)
    with pytest.raises(NotMeasurable, match="the first interim analysis takes 40 rows") as caught:
        calibrate(config)
    assert caught.value.hint.startswith("label at least")
    assert not (tmp_path / LEDGER).exists()
    warnings = inspect_project(Project.open(config).config).warnings
    assert any("first interim analysis needs" in text for text in warnings)
    first = calibrate(relabel(tmp_path, 60))
    assert first.interim is not None
    assert (first.interim.number, first.n) == (1, 40)
    assert max(test.level for test in first.tests) <= 0.2 / 6 + 1e-12
    assert len(first.roles["waiting"]) > 0
    again = calibrate(relabel(tmp_path, 70))
    assert again.roles["certify"] == first.roles["certify"]
    assert again.tests == first.tests
    second = calibrate(relabel(tmp_path, 110))
    assert second.interim is not None
    assert (second.interim.number, second.n) == (2, 70)
    assert set(first.roles["certify"]) < set(second.roles["certify"])
    for role in ("exemplars", "dev", "holdout", "pilot"):
        assert second.roles[role] == first.roles[role]
    assert second.judges == first.judges
    tests = read_ledger(tmp_path).tests
    assert [(test.number, test.interim and test.interim.number) for test in tests] == [(1, 1), (2, 2)]
    assert [test.share for test in tests] == [pytest.approx(1 / 6), pytest.approx(2 / 6)]
    assert "This is interim analysis 2 of 3" in page(second)
    last = calibrate(relabel(tmp_path, 200))
    assert last.interim is not None
    assert last.interim.number == 3
    assert last.status == "certified"
    assert run(config).header.status == "complete"


def test_a_row_that_was_tested_stays_when_its_group_fills_up(tmp_path: Path) -> None:
    """Later labels may fall on rows that lay out the path, and are clustered with rows that were tested."""

    def paired(labelled: int) -> Path:
        def some(items: Rows, notes: Rows) -> None:
            for place, item in enumerate(items):
                item["group"] = f"g{place % 130}"
            known = {item["id"] for item in items[:labelled]}
            notes[:] = [note for note in notes if note["item_id"] in known]

        return write_project(tmp_path, labelled=250, unlabelled=10, change=some, guarantee=LOOKS, pilot=60)

    first = calibrate(paired(60))
    second = calibrate(paired(250))
    assert set(first.roles["pilot"]) & {note.item_id for note in load_dataset(_config(tmp_path)).annotations}
    assert set(first.roles["certify"]) < set(second.roles["certify"])
    tested = set(second.roles["certify"])
    assert not tested & set(second.roles["pilot"])
    groups = {item.id: item.group for item in load_dataset(_config(tmp_path)).items}
    assert len({groups[item_id] for item_id in tested}) == len(tested)


def _config(folder: Path) -> Any:
    return Project.open(folder / "trustescalate.toml").config


def test_a_refused_look_says_how_many_rows_the_next_one_takes(tmp_path: Path) -> None:
    config = world(tmp_path, 70, alpha=0.02)
    outcome = calibrate(config)
    assert outcome.status == "none"
    assert outcome.interim is not None
    assert outcome.interim.number == 1
    assert outcome.advice.startswith("interim analysis 2 of 3 takes 70 certification rows, 30 more")
    assert CliRunner().invoke(app, ["calibrate", "--config", str(config)]).exit_code == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("alpha = 0.3", "alpha = 0.31"),
        ("interim = [40, 70, 140]", "interim = [40, 71, 140]"),
        ("interim = [40, 70, 140]", ""),
        ('path = "common"', 'path = "hedged"'),
        ("shots = 2", "shots = 1"),
    ],
)
def test_nothing_can_be_changed_between_looks(tmp_path: Path, old: str, new: str) -> None:
    config = world(tmp_path, 60)
    outcome = calibrate(config)
    edit(config, old, new)
    with pytest.raises(CertificateMismatch, match="protocol was changed after interim analysis 1") as caught:
        calibrate(config)
    assert "with rows that were never tested" in caught.value.hint
    assert Project.open(config).certificate() == outcome


def test_a_look_is_not_repeated_with_other_rows_or_labels(tmp_path: Path) -> None:
    config = world(tmp_path, 60)
    outcome = calibrate(config)
    notes = tmp_path / "annotations.jsonl"
    kept = notes.read_text()
    gone = outcome.roles["certify"][0]
    notes.write_text("".join(line for line in kept.splitlines(keepends=True) if f'"{gone}"' not in line))
    with pytest.raises(CertificateMismatch, match="rows of interim analysis 1 are gone"):
        calibrate(config)
    notes.write_text(kept + json.dumps({"item_id": gone, "annotator": "late", "label": "tie"}) + "\n")
    with pytest.raises(
        CertificateMismatch, match="texts or labels of rows in interim analysis 1 were changed"
    ):
        calibrate(config)
    notes.write_text(kept)
    assert replace(calibrate(config), created=outcome.created) == outcome
    (tmp_path / LEDGER).write_text("{}\n")
    with pytest.raises(DataError, match="is missing"):
        calibrate(config)
