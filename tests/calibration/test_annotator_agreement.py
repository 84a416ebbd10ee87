"""How long people took: read, shown, and remarked on where it goes with another opinion."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import factory
from tests.support.certificates import TASK
from tests.support.projects import calibrate, write_project
from trustescalate.calibration.annotator_agreement import measure_agreement
from trustescalate.errors import DataError
from trustescalate.records import Annotation, AnnotatorAgreement
from trustescalate.records.jsonl import decode, encode
from trustescalate.report.annotators import annotator_section
from trustescalate.report.sections import Section, Table

pytestmark = pytest.mark.slow
NAMES = ("ann", "bob", "cy", "<b>di</b>")
FLIP = {"A": "B", "B": "A"}


def asked(seconds: dict[str, float], rows: int = 80, hasty: str = "<b>di</b>") -> list[Annotation]:
    """Everybody says what is true in nine of ten rows, save one who tosses a coin."""
    rng = random.Random(2)
    notes = []
    for n in range(rows):
        truth = rng.choice("AB")
        for name in NAMES:
            right = rng.random() < (0.5 if name == hasty else 0.9)
            label = truth if right else FLIP[truth]
            notes.append(Annotation(f"i{n}", name, label, seconds.get(name)))
    return notes


def found(seconds: dict[str, float], **more: Any) -> AnnotatorAgreement:
    notes = asked(seconds, **more)
    outcome = measure_agreement(TASK, notes, sorted({note.item_id for note in notes}), {})
    assert outcome is not None
    return outcome


def section(outcome: AnnotatorAgreement) -> Section:
    shown = annotator_section(replace(factory.certificate(), annotator_agreement=outcome))
    assert shown is not None
    return shown


def table(shown: Section) -> Table:
    return next(table for table in shown.tables if table.caption == "Agreement per annotator")


def test_the_median_is_over_the_answers_whose_time_is_known() -> None:
    notes = [Annotation("i0", "ann", "A", 3.0), Annotation("i1", "ann", "skip", 9.0)]
    notes += [Annotation("i2", "ann", "A", 4.0), Annotation("i3", "ann", "B"), Annotation("i0", "bob", "A")]
    outcome = measure_agreement(TASK, notes, ["i0", "i1", "i2", "i3"], {})
    assert outcome is not None
    ann, bob = outcome.annotators
    assert (ann.timed, ann.seconds) == (3, 4.0)
    assert (bob.timed, bob.seconds) == (0, None)
    assert [row.cells[-1].text for row in table(section(outcome)).rows] == ["4.0", "—"]


def test_without_times_there_is_no_column_for_them() -> None:
    assert "Median seconds" not in [column.title for column in table(section(found({}))).columns]


def test_fast_annotators_with_low_agreement_are_named() -> None:
    usual = dict.fromkeys(NAMES, 20.0)
    assert "Fast annotators" in " ".join(section(found({**usual, "<b>di</b>": 4.0})).text)
    assert ": <b>di</b>." in " ".join(section(found({**usual, "<b>di</b>": 4.0})).text)
    for innocent in (usual, {**usual, "ann": 4.0}, {"<b>di</b>": 4.0}, {}):
        assert "Fast annotators" not in " ".join(section(found(innocent)).text)
    few = found({**usual, "<b>di</b>": 4.0}, rows=8)
    assert "Fast annotators" not in " ".join(section(few).text), "eight rows are too few"


def test_files_of_before_are_read_and_written_as_before() -> None:
    line = b'{"item_id":"q1","annotator":"ann","label":"A"}'
    assert encode(decode(line, Annotation)) == line
    assert decode(b'{"item_id":"q1","annotator":"ann","label":"A","seconds":7}', Annotation).seconds == 7


def test_times_reach_the_certificate_and_change_nothing_else(tmp_path: Path) -> None:
    def clocked(items: list[dict[str, Any]], notes: list[dict[str, Any]]) -> None:
        for n, note in enumerate(notes):
            note["seconds"] = 5 + n % 3

    plain, timed = (
        calibrate(write_project(tmp_path / "p")),
        calibrate(write_project(tmp_path / "t", change=clocked)),
    )
    assert timed.annotator_agreement is not None
    assert all(each.timed >= each.opinions and each.seconds for each in timed.annotator_agreement.annotators)
    assert replace(timed, annotator_agreement=None, created="") == replace(
        plain, annotator_agreement=None, created=""
    )


@pytest.mark.parametrize("seconds", [-1, "NaN", '"soon"'])
def test_a_time_that_cannot_be_is_named(tmp_path: Path, seconds: object) -> None:
    config = write_project(tmp_path)
    path = config.parent / "annotations.jsonl"
    first, _, rest = path.read_text().partition("\n")
    path.write_text(first.replace("}", f', "seconds": {seconds}}}') + "\n" + rest)
    with pytest.raises(DataError, match=r"annotations.jsonl:1: .*(seconds|JSON)"):
        calibrate(config)
