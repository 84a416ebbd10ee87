"""Means over all items, score drift, and agreement of annotators, by hand from the factory's numbers."""

from dataclasses import replace

import pytest

from tests.support import factory
from tests.support.report_sections import section, texts
from trustescalate.records import Certificate, Overall, Task, TaskKind
from trustescalate.report.distribution_shift import SHIFT
from trustescalate.report.document import build, build_calibration
from trustescalate.report.pictures import Bars, Intervals
from trustescalate.report.sections import Report


def test_the_mean_over_all_items(report: Report) -> None:
    shown = section(report, "mean-over-all-items")
    assert shown.title == "Win rate over all items"
    assert texts(shown.tables[0]) == [
        ["From predictions and labels", "53.1 %", "49.1 to 57.3 %"],
        ["From labels alone, exact (Clopper-Pearson)", "—", "48.1 to 60.1 %"],
        ["Limits from released verdicts alone", "—", "33.1 to 69.0 %"],
    ]


def test_with_few_labels_only_these_are_shown() -> None:
    few = replace(factory.overall(), usable=False, reason="60 labels, fewer than 100")
    shown = section(build(replace(factory.run(10), overall=few)), "mean-over-all-items")
    assert texts(shown.tables[0])[0][1:] == ["—", "48.1 to 60.1 %"]
    assert "(60 labels, fewer than 100): use the" in shown.text[4]
    assert "shown from 100 labels on" in shown.text[3]
    assert shown.text[0] == (
        "Win rate of A in the population: 48.1 to 60.1 % (95 % interval), from 250 human labels alone."
    )
    (chart,) = shown.pictures
    assert isinstance(chart, Intervals)
    assert [(bar.estimate, bar.limits) for bar in chart.bars] == [(None, (0.4812, 0.6009))]


@pytest.mark.parametrize("given", [factory.certificate(), factory.no_certificate()])
def test_a_calibration_shows_its_mean_certified_or_not(given: Certificate) -> None:
    shown = section(build_calibration(replace(given, overall=factory.overall())), "mean-over-all-items")
    assert texts(shown.tables[0])[0] == ["From predictions and labels", "53.1 %", "49.1 to 57.3 %"]
    assert "whether or not anything is certified" in shown.text[2]


def test_a_coefficient_without_an_interval_says_why() -> None:
    agreement = factory.people()
    bare = replace(agreement.coefficients[0], interval=None, reason="too few rows")
    given = replace(factory.certificate(), annotator_agreement=replace(agreement, coefficients=(bare,)))
    assert (
        f"No interval for {bare.name}: too few rows."
        in section(build_calibration(given), "inter-annotator-agreement").text
    )


def test_a_mean_that_is_not_known_says_why() -> None:
    shown = section(build(factory.incomplete_run()), "mean-over-all-items")
    assert (shown.text, shown.tables) == (
        ("The mean over labelled rows and other items could not be measured: the run is not complete.",),
        (),
    )


@pytest.mark.parametrize(
    ("kind", "labels", "title", "cells"),
    [
        ("binary", ("pass", "fail"), "Pass rate over all items", ["53.1 %", "49.1 to 57.3 %"]),
        ("rating", ("1", "2", "3"), "Mean rating over all items", ["0.53", "0.49 to 0.57"]),
    ],
)
def test_the_mean_is_named_after_the_task(
    kind: str, labels: tuple[str, ...], title: str, cells: list[str]
) -> None:
    run = factory.run(10, annotated=False)
    given = replace(run.header.certificate, task=Task(TaskKind(kind), "?", labels))
    shown = section(build(replace(run, header=replace(run.header, certificate=given))), "mean-over-all-items")
    assert shown.title == title
    assert texts(shown.tables[0])[0][1:] == cells


def test_labels_without_an_order_have_no_such_section() -> None:
    run = factory.run(10, annotated=False)
    given = replace(run.header.certificate, task=Task(TaskKind.CHOICE, "?", ("A", "B", "tie")))
    none = replace(run, header=replace(run.header, certificate=given), overall=Overall(None, "no order"))
    assert "mean-over-all-items" not in [section.slug for section in build(none).sections]


def test_moved_scores_are_a_banner_and_no_measure(report: Report) -> None:
    moved = build(replace(factory.run(), shift=factory.shift(raised=True)))
    assert moved.banners == (SHIFT,)
    assert replace(moved.measures, shift_alarms=report.measures.shift_alarms) == report.measures
    assert moved.measures.shift_alarms.value == 1
    assert texts(section(moved, "distribution-shift-check").tables[0])[1] == [
        "medium-70b", "120", "150", "B", "40.0 %", "68.0 %", "0.281", "0.0004", "shifted",
    ]  # fmt: skip
    lead = section(moved, "distribution-shift-check").text[0]
    assert lead == f"medium-70b: 40.0 % of its verdicts were 'B', here 68.0 %. {SHIFT}"
    assert (
        section(report, "distribution-shift-check")
        .text[0]
        .startswith("No shift was detected (smallest p-value ")
    )


def test_inter_annotator_agreement(report: Report) -> None:
    coefficients, annotators, pairs = section(report, "inter-annotator-agreement").tables
    assert texts(coefficients)[0] == ["Fleiss κ", "0.721", "0.661 to 0.772"]
    assert texts(coefficients)[2] == ["Gwet AC1", "—", "—"]
    assert texts(annotators)[0] == ["ann", "250", "12", "0", "460", "87.2 %"]
    assert texts(annotators)[2] == ["cy", "20", "0", "2", "0", "—"]
    assert texts(pairs) == [["ann", "bob", "230", "87.0 %"]]


def test_the_alternative_annotator_test(report: Report) -> None:
    shown = section(report, "alternative-annotator-test")
    assert "large could replace an annotator" in shown.text[0]
    assert "Left out, with fewer than 30 rows: cy." in shown.text[1]
    (chart,) = shown.pictures
    assert isinstance(chart, Bars)
    assert [(bar.name, bar.texts) for bar in chart.bars] == [
        ("small-7b", ("0", "2")),
        ("large", ("1", "2")),
    ]
    assert texts(shown.tables[0])[2] == ["large", "ann", "230", "90.0 %", "0.0004", "as good"]


def test_without_enough_annotators_the_reason_is_stated() -> None:
    given, agreement = factory.certificate(), factory.people()

    def shown(**changes: object) -> Report:
        return build_calibration(replace(given, **changes))

    two = replace(agreement, annotators=agreement.annotators[:2], stand_ins=())
    for few, reason in ((two, "needs three annotators"), (replace(agreement, stand_ins=()), "there is none")):
        test = section(shown(annotator_agreement=few), "alternative-annotator-test")
        assert reason in test.text[0]
        assert test.tables == ()
    alone = shown(annotator_agreement=None, human_agreement=None)
    slugs = {section.slug for section in alone.sections}
    assert not slugs & {"inter-annotator-agreement", "alternative-annotator-test"}
    assert "one annotator per row" in section(alone, "agreement-with-human-labels").text[1]
