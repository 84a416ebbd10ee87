"""The report of a calibration: its figures, charts and next commands, certified or not."""

from dataclasses import replace

import pytest

from tests.support import factory
from tests.support.report_sections import section
from trustescalate.calibration.attainable import Attainable, Attained
from trustescalate.report.document import build_calibration
from trustescalate.report.pictures import Flow, Power

POWER = Power(
    "Chance", (50, 100, 200), (0.1, 0.55, 0.9), ((0.0, 0.3), (0.4, 0.7), (0.7, 1.0)), "alt", 0.8, 84
)
SEEN = Attainable(Attained(0.2, 60, 6.0, 84), Attained(0.25, 84, 15.0, 84), 150, False, None, 500)


def test_labels_needed_are_those_of_the_whole_test() -> None:
    report = build_calibration(factory.no_certificate(), None, SEEN, POWER)
    best, smallest, needed, human = report.key_figures
    assert smallest.figure.text == "20 %"
    assert smallest.detail.startswith("the cascade releases 71.4 % of the rows")
    assert "guarantees nothing" in smallest.detail
    assert needed.figure.text == "about 170"
    assert "about 150 if only the policy that came closest were tested" in needed.detail
    row = section(report, "what-could-be-had").tables[0].rows[2].cells[1]
    assert row.text == f"about 170 {needed.detail}"
    assert "it takes about 170 rows for a certificate at" in report.advice
    assert "--rows 170` draws fresh rows to label" in section(report, "what-could-be-had").text[1]
    assert human.name.startswith("Human")
    assert best.name == "Best single judge"
    lead = section(report, "power").text[0]
    assert "reaches 80 % with about 170 rows (55.0 % with 100, 90.0 % with 200). 84 rows were tested." in lead
    assert report.pictures[-1] is POWER


@pytest.mark.parametrize(
    ("power", "shown", "lead"),
    [
        ((0.1, 0.9, 0.7), "> 200", "stays below 80 % up to 200 rows"),
        ((0.9, 0.9, 1.0), "about 50", "is 90.0 % with 50 rows"),
    ],
)
def test_a_curve_that_never_or_always_is_high_enough(power: tuple[float, ...], shown: str, lead: str) -> None:
    report = build_calibration(factory.no_certificate(), None, SEEN, replace(POWER, power=power))
    assert report.key_figures[2].figure.text == shown
    assert lead in section(report, "power").text[0]


def test_a_level_of_one_judge_alone_is_named_and_planned_for() -> None:
    alone = SEEN._replace(last=Attained(0.17, 70, 8.0, 84), needed=None)
    report = build_calibration(factory.no_certificate(), None, alone, replace(POWER, power=(0.1, 0.2, 0.3)))
    last = factory.no_certificate().judges[-1].judge
    assert report.key_figures[1].detail.startswith(f"{last} alone releases")
    assert report.key_figures[2].figure.value is None
    followed = section(report, "what-could-be-had").text[1]
    assert "plan --alpha 0.17 " in followed
    assert f"for α = 0.17 of {last} alone" in followed


def test_a_group_is_planned_with_its_share_and_nothing_is_drawn_where_nothing_is_left() -> None:
    several = factory.no_certificate()
    several = replace(several, group_by="meta.kind", groups=factory.grouped_certificate("de", "fi").groups)
    drawn = section(build_calibration(several, None, SEEN), "what-could-be-had").text[1]
    assert ": three times the fewest that could give a certificate" in drawn
    shown = section(build_calibration(several, None, SEEN._replace(free=0)), "what-could-be-had")
    assert f" --delta {several.delta / 2:g} " in shown.text[1]
    assert "label queue" not in shown.text[1]
    assert shown.text[2].startswith("To label fresh rows, first add items")


def test_without_the_votes_the_figures_say_so() -> None:
    report = build_calibration(factory.no_certificate())
    assert [key.figure.value is None for key in report.key_figures] == [False, True, True, False]
    assert report.key_figures[1].detail == "the votes of this calibration are not in place"
    assert report.follow == ()


@pytest.mark.parametrize("make", [factory.certificate, factory.tierwise_certificate])
def test_a_certificate_shows_where_its_rows_go(make: object) -> None:
    certificate = make()  # type: ignore[operator]
    report = build_calibration(certificate)
    [flow] = section(report, "expected-run").pictures
    assert isinstance(flow, Flow)
    assert flow.total == certificate.n == sum(tier.ended for tier in flow.tiers) + flow.review
    assert [tier.asked - tier.ended for tier in flow.tiers] == [
        *(tier.asked for tier in flow.tiers[1:]), flow.review,
    ]  # fmt: skip
    assert "A run is expected to release a verdict for at least" in section(report, "expected-run").text[0]
