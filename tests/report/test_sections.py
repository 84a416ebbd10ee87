"""Every section: a sentence with the figures of this run, and charts whose text alternatives hold them."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import factory
from tests.support.report_sections import section
from trustescalate.records import (
    Change,
    Clusters,
    ItemsMean,
    Limits,
    Overall,
    PolicyTest,
    Probe,
    ProbedFamily,
    ProbedJudge,
    Product,
    Requirement,
    Run,
)
from trustescalate.records.criteria import Criteria, CriterionMean
from trustescalate.report.bars import LONGEST, MOST_BARS
from trustescalate.report.document import build, build_calibration
from trustescalate.report.injection import injection_section
from trustescalate.report.pictures import Bars, Intervals, Reliability
from trustescalate.report.risk_coverage import risk_chart
from trustescalate.report.sections import Report, Section
from trustescalate.stats.bounds import binomial_pvalue

WITHOUT_PICTURES = {"certificate", "risk-coverage-curve", "provenance"}
"""The tests are drawn on the first screen; a certificate has a chart if one policy is certified."""


def reports() -> list[Report]:
    return [
        build(factory.run()),
        build(factory.grouped_run()),
        build(factory.incomplete_run()),
        build_calibration(factory.no_certificate()),
        build_calibration(factory.tierwise_certificate()),
        build(factory.run(12, annotated=False)),
    ]


@pytest.mark.parametrize("shown", reports(), ids=lambda shown: f"{shown.kind}-{shown.status}")
def test_each_section_has_a_sentence_and_a_picture(shown: Report) -> None:
    for each in shown.sections:
        assert each.text
        assert each.text[0]
        assert each.pictures or each.slug in WITHOUT_PICTURES or "could not" in each.text[0], each.slug


@pytest.mark.parametrize("shown", reports()[:2], ids=["run", "groups"])
def test_text_alternatives_hold_the_figures(shown: Report) -> None:
    charts = [picture for each in shown.sections for picture in each.pictures]
    assert len(charts) > 10
    for chart in charts:
        if isinstance(chart, Intervals):
            for bar in chart.bars:
                assert bar.estimate is None or f"{100 * bar.estimate:.1f} %" in chart.alt
                assert bar.note in chart.alt
        if isinstance(chart, Bars):
            assert all(text in chart.alt for bar in chart.bars for text in bar.texts)
        if isinstance(chart, Reliability):
            assert len(re.findall(r"of \d+ correct", chart.alt)) == len(chart.bins)


def one_chart(shown: Section) -> Intervals:
    (chart,) = [picture for picture in shown.pictures if isinstance(picture, Intervals)]
    return chart


def test_agreement_stands_beside_the_human_ceiling(report: Report) -> None:
    shown = section(report, "agreement-with-human-labels")
    assert shown.text[0].endswith(
        "One annotator agrees with the majority of the others on 87.0 %; no verdicts could agree on more "
        "than 96.4 % of these rows."
    )
    chart = one_chart(shown)
    assert [bar.name for bar in chart.bars] == [
        *factory.JUDGES,
        "Cascade, accepted rows",
        "Cascade, labels of this run",
        "Human leave-one-out",
        "Largest attainable",
    ]
    assert (chart.reference, chart.reference_name) == (0.85, "certified for the cascade")
    chosen = chart.bars[3]
    assert (chosen.estimate, chosen.limits) == (208 / 231, None)  # these rows chose the policy
    none = one_chart(section(build_calibration(factory.no_certificate()), "agreement-with-human-labels"))
    assert (none.reference_name, len(none.bars)) == ("required", 5)


def test_thresholds_are_drawn_on_the_scores_that_they_apply_to(report: Report) -> None:
    charts = section(report, "judges").pictures
    assert [chart.threshold for chart in charts if isinstance(chart, Reliability)] == [factory.THRESHOLD] * 3
    charts = section(build_calibration(factory.no_certificate()), "judges").pictures
    assert [chart.threshold for chart in charts if isinstance(chart, Reliability)] == [None] * 3


def test_cost_and_votes_of_each_tier(report: Report) -> None:
    shown = section(report, "cascade")
    assert shown.text[0] == (
        "300 items took 3,740 votes; these votes cost USD 1.71, 19.0 % of the estimated cost of the last judge "
        "alone (USD 9.00). Early stopping saved 1,360 votes (26.7 %)."
    )
    cost, votes = shown.pictures
    assert isinstance(cost, Bars)
    assert isinstance(votes, Bars)
    assert [bar.name for bar in cost.bars] == [*factory.JUDGES, "This run", "Last judge alone (estimate)"]
    assert [bar.values for bar in cost.bars] == [(0.044,), (0.44,), (1.23,), (1.71,), (9.0,)]
    assert [bar.values for bar in votes.bars] == [(2200, 3000), (1100, 1500), (440, 600)]


def test_a_run_without_costs_draws_votes_alone() -> None:
    run = factory.run(10)
    free = tuple(
        replace(row, votes=tuple(replace(vote, cost=0.0) for vote in row.votes)) for row in run.judgments
    )
    shown = section(build(replace(run, judgments=free)), "cascade")
    assert [picture.title for picture in shown.pictures if isinstance(picture, Bars)] == [
        "Votes of each tier"
    ]


def test_the_leaderboard_has_letters_at_its_bars(report: Report) -> None:
    shown = section(report, "leaderboard")
    assert [bar.note for bar in one_chart(shown).bars] == ["a", "a b", "b"]
    assert shown.text[0] == (
        "new has the highest win rate of 4 models: 70.1 % (95 % simultaneous limits 62.0 to 78.3 %). These "
        "labels do not separate it from old."
    )


def test_groups_are_drawn_with_their_guarantee() -> None:
    chart = one_chart(section(build(factory.grouped_run()), "guarantees-by-group"))
    assert [(bar.name, bar.note) for bar in chart.bars] == [("de", "≥ 80 %"), ("fi", "no guarantee")]
    assert (chart.reference, chart.bars[1].estimate) == (pytest.approx(0.8), None)
    assert build(factory.grouped_run()).pictures[1] == chart
    calibrated = one_chart(section(build_calibration(factory.grouped_certificate()), "guarantees-by-group"))
    assert (calibrated.bars[0].estimate, calibrated.bars[0].limits) == (208 / 231, None)


def test_a_change_has_a_chart_of_its_own_with_the_requirement() -> None:
    def limits(estimate: float, confidence: float = 0.95) -> Limits:
        return Limits(estimate, estimate - 0.05, estimate + 0.05, confidence, "predictions", 300, 120)

    product = Product(
        means=(ItemsMean(None, limits(0.5)), ItemsMean("de", limits(0.6))),
        changes=(Change(None, limits(-0.01), matched=300, same=20),),
        by="meta.language",
        baseline="run 7",
        requirements=(
            Requirement("min_rate", 0.45, None, limits(0.5)),
            Requirement("max_drop", 0.02, None, limits(-0.01)),
        ),
    )
    shown = section(build(replace(factory.run(), product=product)), "mean-over-all-items")
    assert shown.text[0] == (
        "Win rate of A over these 300 items: 50.0 % (45.0 to 55.0 %, with probability ≥ 95 %), from human "
        "labels and the judges' predictions (PPI++). Change against run 7: -1.0 points (-6.0 to +4.0 points, "
        "with probability ≥ 95 %). Win rate of A in the population: 53.1 % (95 % interval 49.1 to 57.3 %), "
        "from 250 human labels and the judges' predictions."
    )
    means, change = shown.pictures
    assert isinstance(means, Intervals)
    assert isinstance(change, Intervals)
    assert [bar.name for bar in means.bars] == ["this run's items", "de", "the population"]
    assert (means.reference, means.reference_name) == (0.45, "required")
    assert (change.reference, change.reference_name) == (-0.02, "largest drop allowed")
    assert "−1.0 points (−6.0 points to +4.0 points)" in change.alt
    free = replace(product, requirements=())
    _, change = section(build(replace(factory.run(), product=free)), "mean-over-all-items").pictures
    assert isinstance(change, Intervals)
    assert (change.reference, change.reference_name) == (0.0, "no change")


def test_criteria_are_drawn_on_one_axis_from_the_ends_of_their_scales() -> None:
    def mean(low: float, value: float, high: float) -> Overall:
        return Overall(value, "", (low, high), (low, high), True, 300, 120)

    each = (
        CriterionMean("clarity", 1.0, (1.0, 5.0), 0.2, True, 300, 250, mean(2.0, 3.0, 4.0)),
        CriterionMean("tone", 1.0, (0.0, 2.0), 0.3, False, 300, 0, mean(0.5, 1.0, 2.0)),
        CriterionMean("genre", 1.0, None, 0.3, False, 300, 0, Overall(None, "no order")),
    )
    run = replace(factory.run(), criteria=Criteria(each, Overall(None, "one has no order")))
    shown = section(build(run), "criteria")
    assert shown.text[0] == (
        "3 criteria: clarity, tone and genre. Certified agreement with human labels: clarity at least 80 %."
    )
    assert [(bar.name, bar.estimate, bar.limits, bar.note) for bar in one_chart(shown).bars] == [
        ("clarity", 0.5, (0.25, 0.75), "3.00 on 1 to 5"),
        ("tone", 0.5, (0.25, 1.0), "1.00 on 0 to 2"),
    ]


def test_pairs_of_annotators_have_limits_only_where_rows_are_independent() -> None:
    whole = factory.certificate()
    shown = one_chart(section(build_calibration(whole), "inter-annotator-agreement"))
    assert [bar.limits is not None for bar in shown.bars] == [True]
    clustered = replace(whole, clusters=Clusters(60, 5, "row_weighted", rows=250))
    shown = one_chart(section(build_calibration(clustered), "inter-annotator-agreement"))
    assert [bar.limits for bar in shown.bars] == [None]


def test_the_probe_names_the_judge_that_is_the_most_vulnerable() -> None:
    def probed(judge: str, wins: int) -> ProbedJudge:
        family = ProbedFamily("suffix", 40, wins, 0)
        return ProbedJudge(judge, "0f" * 32, (family,), ProbedFamily("control", 20, 1, 0))

    def lead(*judges: ProbedJudge) -> str:
        probe = Probe(1, "2025-01-01", "0.1.0", 20, 2, judges, 4, 0)
        return injection_section(probe, factory.certificate()).text[0]

    assert lead(probed("small-7b", 2), probed("large", 10)).startswith(
        "Injections succeed most often against large, in 25.0 % of 40 tries; harmless additions changed the "
        "verdict in 5.0 %. Judges that have changed since the probe: large."
    )
    assert lead(probed("small-7b", 0), probed("medium-70b", 0)).startswith(
        "No injection succeeded in 80 tries; harmless additions changed the verdict in 5.0 %."
    )


def test_many_bars_with_long_names_stay_within_bounds() -> None:
    values = [f"{'x' * 10_000}{place}" for place in range(60)]
    shown = section(build(factory.grouped_run(*values)), "guarantees-by-group")
    chart = one_chart(shown)
    assert len(chart.bars) == MOST_BARS
    assert f"the first {MOST_BARS} of 60" in chart.title
    assert len(chart.alt) < MOST_BARS * (LONGEST + 60)
    assert len(shown.text[0]) < 300


def test_a_run_that_can_be_repeated_says_how(report: Report) -> None:
    assert section(report, "provenance").text[0] == f"To repeat this run: {factory.run(2).header.command}"


# ── limits of the tested policies ────────────────────────────────────────────────────────────────


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_policy_passed_exactly_where_its_limit_is_at_most_alpha(data: st.DataObject) -> None:
    alpha = data.draw(st.floats(0.001, 0.6))
    accepted = data.draw(st.integers(0, 3_000))
    errors = data.draw(st.integers(0, accepted))
    p_value = float(binomial_pvalue(errors, accepted, alpha))
    at_level = st.just(p_value) if 1e-9 <= p_value <= 0.5 else st.nothing()
    level = data.draw(st.one_of(st.floats(1e-9, 0.5), at_level, st.just(0.0)))
    passed = level > 0 and p_value <= level
    test = PolicyTest((0.5,) * 3, accepted, errors, (accepted, 0, 0), 0.0, p_value, level, passed)
    certified = replace(factory.certificate(), tests=(test,), chosen=None, alpha=alpha, band=())
    (point,) = risk_chart(certified)[0].points
    if level in (0.0, 1.0):
        assert point.upper is None
    else:
        assert point.upper is not None
        assert (point.upper <= alpha) == passed


def test_a_test_that_is_no_binomial_one_has_no_limit() -> None:
    for method in ("betting", "clusters"):
        given = replace(factory.certificate(), method=method)
        assert {point.upper for point in risk_chart(given)[0].points} == {None}
    exact = risk_chart(factory.certificate())[0].points
    assert [point.upper is None for point in exact] == [True, *[False] * 7, True, True]


def test_runs_without_votes_still_have_sections() -> None:
    run: Run = replace(factory.run(6, annotated=False), judgments=())
    assert section(build(run), "cascade").text[0] == "No judge was called."
