"""Write projects whose labels are tested again and again, and read their ledgers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.projects import edit, write_project
from trustescalate.calibration.ledger import read_ledger

Rows = list[dict[str, Any]]


COMMON, HEDGED = 'path = "common"', 'path = "hedged"'


def first(labelled: int) -> Callable[[Rows, Rows], None]:
    """Only the first rows have labels."""

    def change(items: Rows, notes: Rows) -> None:
        known = {item["id"] for item in items[:labelled]}
        notes[:] = [note for note in notes if note["item_id"] in known]

    return change


def world(folder: Path, labelled: int, **settings: Any) -> Path:
    """The first `labelled` of 200 different items have labels; none is shown to a judge."""
    wanted = settings.pop("change", first(labelled))

    def change(items: Rows, notes: Rows) -> None:
        items[:] = list({item.pop("group"): item for item in items}.values())[:200]
        known = {item["id"] for item in items}
        notes[:] = [note for note in notes if note["item_id"] in known]
        wanted(items, notes)

    config = write_project(folder, labelled=300, unlabelled=0, change=change, **settings)
    edit(config, "shots = 2", "shots = 0")
    edit(config, "annotators = 2", "annotators = 1")
    return config


def attempts(folder: Path) -> list[tuple[int, float, str]]:
    """Number, share and outcome of every test in a ledger."""
    ledger = read_ledger(folder)
    outcomes = {line.test: line.outcome for line in ledger.lines}
    return [(line.number, round(line.share, 4), outcomes.get(line.digest, "")) for line in ledger.tests]
