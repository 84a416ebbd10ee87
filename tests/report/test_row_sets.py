"""Sections name the rows that their figures rest on, and what a judge or a draw of labels does not give."""

from dataclasses import replace

from tests.support import factory
from tests.support.report_sections import section
from trustescalate.records import ItemsMean, Limits, Product, Run
from trustescalate.records.diagnostics import Bin
from trustescalate.records.product import PICKED
from trustescalate.report.document import build, build_calibration
from trustescalate.report.pictures import Reliability


def uncertified(reason: str) -> Run:
    """An uncertified run whose mean over its items has no limits."""
    whole = factory.run()
    limits = Limits(None, 0.0, 1.0, 1.0, "none", len(whole.items), reason=f"{reason}, and it is uncertified")
    product = Product((ItemsMean(None, limits),))
    header = replace(whole.header, certificate=factory.no_certificate(), uncertified={})
    return replace(whole, header=header, product=product)


def test_the_tile_and_the_sections_agree_that_labels_are_no_random_draw() -> None:
    report = build(uncertified(PICKED))
    mean, agreement, *_ = report.key_figures
    assert (mean.name, mean.figure.value, mean.detail) == ("Win rate of A", None, PICKED)
    assert "has no limits" in section(report, "mean-over-all-items").text[0]
    assert "; not drawn at random; uncertified" in agreement.detail
    details = section(report, "uncertified-verdicts").text[1]
    assert "they were selected, not drawn at random" in details
    assert "drawn as a sample" not in details


def test_few_labels_that_were_drawn_are_called_a_sample() -> None:
    report = build(uncertified("fewer than 30 of these items have human labels"))
    assert report.key_figures[0].figure.value is None
    assert "not drawn at random" not in report.key_figures[1].detail
    assert "that were drawn as a sample" in section(report, "uncertified-verdicts").text[1]


def test_two_comparisons_with_human_labels_name_their_rows() -> None:
    report = build(uncertified(PICKED))
    here, before = (section(report, slug) for slug in ("uncertified-verdicts", "agreement-with-human-labels"))
    assert "on the labelled items of this run" in here.pictures[0].title
    assert "on the certification rows" in before.pictures[0].title
    assert "labelled items of this run (95 % interval" in here.text[0]
    for shown in (here, before):
        assert ", the highest observed of 3 judges" in shown.text[0]
        assert "best" not in shown.text[0]
    certified = section(build(factory.run()), "agreement-with-human-labels")
    assert "on the certification rows and on this run" in certified.pictures[0].title


def test_a_judge_with_one_score_has_no_reliability_diagram() -> None:
    given = factory.certificate()
    first, *others = given.diagnostics
    empty = tuple(Bin(k / 10, (k + 1) / 10, 0, 0.0, 0) for k in range(9))
    bins = (*empty, Bin(0.9, 1.0, 250, 1.0, 200))
    one = replace(first, bins=bins, ece=0.2, brier=0.2, auroc=0.5)
    shown = section(build_calibration(replace(given, diagnostics=(one, *others))), "judges")
    assert f"{one.judge} gives no graded score" in shown.text[0]
    charts = [picture for picture in shown.pictures if isinstance(picture, Reliability)]
    assert [chart.judge for chart in charts] == [judge.judge for judge in others]
    assert [cell.value for cell in shown.tables[0].rows[0].cells[4:7]] == [None] * 3
    alone = section(build_calibration(replace(given, diagnostics=(one,))), "judges")
    assert alone.text[0].startswith("No judge gives a graded score")
    assert "points" not in alone.text[0]
    spread = replace(one, bins=(*empty, Bin(0.9, 1.0, 250, 0.95, 200)), brier=0.19)
    graded = section(build_calibration(replace(given, diagnostics=(spread,))), "judges")
    assert len(graded.pictures) == 1


def test_the_share_of_comparisons_and_the_coefficient_state_their_weights() -> None:
    shown = section(build_calibration(factory.certificate()), "inter-annotator-agreement").text[0]
    assert "of comparisons, where each comparison weighs the same." in shown
    assert "where each row weighs the same, is " in shown
