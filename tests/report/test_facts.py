"""The facts against figures worked out by hand from the factory's round numbers."""

from dataclasses import replace

from tests.support import factory
from tests.support.report_sections import section, texts
from tests.support.words import denied
from trustescalate.records import Annotation, Clusters, Run, Unseen
from trustescalate.report.document import SECTIONS, SIMULATED, build, build_calibration
from trustescalate.report.groups import carried_over
from trustescalate.report.judges import judges_section
from trustescalate.report.markdown import render_markdown
from trustescalate.report.pictures import RiskCoverage
from trustescalate.report.sections import Report

TIMEOUT = "no answer in time, after all attempts"


def test_the_claim(report: Report) -> None:
    assert report.claim == (
        "With probability at least 90 % over the draw of the 250 labelled rows, at least 85 % of the "
        "verdicts that this cascade releases on items from the same population agree with the "
        "majority of an item's annotators. This run released 270 of 300 (90.0 %)."
    )
    assert (report.status, report.complete, report.banners) == ("certified", True, ())


def test_measures(report: Report) -> None:
    measures = report.measures
    assert measures.certified_agreement.value == 0.85
    assert measures.confidence.value == 0.9
    assert (measures.observed_agreement.counts, measures.observed_agreement.text) == ((208, 231), "90.0 %")
    assert (measures.coverage.counts, measures.coverage.value) == ((270, 300), 0.9)
    assert measures.predicted_coverage_lower.value == 0.897
    assert measures.human_agreement.counts == (611, 702)
    assert measures.abstained.value == 30
    assert measures.failed_votes.counts == (30, 3740)
    assert measures.cost.value == 1.71
    assert measures.cost_share.value == 0.19


def test_intervals_are_exact_and_rounded_outwards(report: Report) -> None:
    from scipy.stats import binomtest

    limits = binomtest(48, 54).proportion_ci(0.95, "exact")
    assert report.measures.judged_agreement_lower.value == int(limits.low * 1000) / 1000
    assert report.measures.judged_agreement_upper.value == (int(limits.high * 1000) + 1) / 1000


def test_what_chose_the_policy_has_no_interval_and_the_last_judge_has_one_either_way() -> None:
    for given in (factory.certificate(), factory.no_certificate()):
        rows = {
            row[0]: row
            for row in texts(section(build_calibration(given), "agreement-with-human-labels").tables[0])
        }
        assert rows["Observed on accepted certification rows"][3] == "—"
        assert rows["The last judge alone, on every certification row"][3].endswith(" %")
        assert rows["Upper limit: rows that have a majority"][1:3] == ["241 of 250", "96.4 %"]


def test_items_of_one_cluster_are_one_draw() -> None:
    """Where each item counts once all are compared, and whole clusters are what was drawn."""
    whole = factory.run(60)
    alone = build(whole).measures
    given = replace(whole.header.certificate, clusters=Clusters(60, 5, "row_weighted", rows=60))
    counted = replace(whole, header=replace(whole.header, certificate=given))
    for size in (1, 5):
        items = tuple(replace(item, group=f"g{k // size}") for k, item in enumerate(whole.items))
        measures = build(replace(counted, items=items)).measures
        assert measures.judged_agreement == alone.judged_agreement
        assert (measures.judged_agreement_lower == alone.judged_agreement_lower) == (size == 1)
    assert measures.judged_agreement_lower.value < alone.judged_agreement_lower.value


def test_where_each_cluster_counts_once_one_item_of_each_is_compared() -> None:
    whole = factory.run(60)
    items = tuple(replace(item, group=f"g{k // 5}") for k, item in enumerate(whole.items))
    measures = build(replace(whole, items=items)).measures.judged_agreement
    assert measures.counts is not None
    assert measures.counts[1] <= 12
    single = tuple(replace(item, group=f"g{k}") for k, item in enumerate(whole.items))
    assert build(replace(whole, items=single)).measures.judged_agreement.counts == (48, 54)


def test_judged_agreement_counts_a_torn_majority_as_disagreement(report: Report) -> None:
    # Of 60 labelled items the cascade abstained on 6. Of the 54 others, the only opinion on items 0, 15, 30
    # and 45 is another one, and on items 1 and 31 two people differ.
    assert report.measures.judged_agreement.counts == (48, 54)
    [_, _, _, text] = section(report, "agreement-with-human-labels").text
    assert "60 of the items have human labels; on 6 of them" in text
    assert "those without a majority (2) count as disagreement" in text
    assert "certifies nothing" in text


def test_items_that_everybody_skips_are_disagreed_on() -> None:
    whole = factory.run(20, annotated=False)
    skips = tuple(Annotation(item.id, "ann", "skip") for item in whole.items)
    measures = build(replace(whole, annotations=skips)).measures
    released = sum(row.label is not None for row in whole.decisions)
    assert measures.judged_agreement.counts == (0, released)
    given = whole.header.certificate
    outside = replace(given, task=replace(given.task, skips="outside"))
    given = replace(whole, header=replace(whole.header, certificate=outside), annotations=skips)
    assert build(given).measures.judged_agreement.value is None
    assert "no item with a released verdict" in build(given).measures.judged_agreement.note


def test_tiers(report: Report) -> None:
    tiers, saved, cost = section(report, "cascade").tables
    (failures, _) = section(report, "failed-votes").tables
    assert texts(tiers) == [
        ["small-7b", "300", "150", "50.0 %", "2,200", "3,000", "26.7 %", "0", "USD 0.0440"],
        ["medium-70b", "150", "90", "30.0 %", "1,100", "1,500", "26.7 %", "0", "USD 0.440"],
        ["large", "60", "30", "10.0 %", "440", "600", "26.7 %", "30", "USD 1.23"],
    ]
    assert [row[:2] for row in texts(saved)] == [
        ["This run", "3,740"],
        ["The same judges, full ensembles", "5,100"],
        ["Always the last judge", "3,000"],
    ]
    assert [row[2] for row in texts(saved)][1] == "26.7 %"
    assert [row[3] for row in texts(saved)][::2] == ["USD 1.71", "USD 9.00"]
    assert [row[4] for row in texts(saved)][2] == "81.0 %"
    assert texts(failures) == [["large", "no answer in time, after all attempts", "timeout", "30", "—"]]
    assert [row[1] for row in texts(cost)] == ["USD 1.71", "USD 5.71", "USD 9.00", "19.0 %"]


def test_abstentions(report: Report) -> None:
    [table] = section(report, "abstentions").tables
    assert texts(table) == [
        ["below threshold at every tier", "15", "50.0 %"],
        [f"below threshold at every tier, with failed votes: {TIMEOUT}", "15", "50.0 %"],
    ]


def test_the_certificate_can_be_checked(report: Report) -> None:
    certificate = section(report, "certificate")
    assert certificate.text[0] == (
        "To check by hand: 23 errors on 231 accepted rows at α = 15 %; BinomCDF(23; 231, 0.15) = 0.0163 ≤ "
        "0.1, the level of its test."
    )
    assert certificate.text[1].startswith("Assumptions: the certification rows were drawn independently")
    assert certificate.text[2].startswith("Not guaranteed: that any one verdict is right; ")
    assert certificate.text[2].endswith("is wrong for at most 10 % of all draws of the labelled rows.")
    assert "BinomCDF(23; 231, 0.15) = 0.0163; it was tested at level 0.1" in certificate.text[3]
    policy, test, _ = certificate.tables
    assert texts(policy)[0] == ["1", "small-7b", "0.7312", "0.7312499999999998", "115", "46.0 %"]
    assert texts(test)[0][1:5] == ["231", "92.4 %", "23", "10.0 %"]


def risk_coverage(report: Report) -> RiskCoverage:
    (chart,) = [picture for picture in report.pictures if isinstance(picture, RiskCoverage)]
    return chart


def test_risk_points(report: Report) -> None:
    chart = risk_coverage(report)
    assert [point.certified for point in chart.points] == [False] + [True] * 6 + [False] * 3
    assert [index for index, point in enumerate(chart.points) if point.chosen] == [factory.CHOSEN]
    assert chart.points[6].coverage == 231 / 250
    assert chart.points[6].risk == 23 / 231
    assert chart.alt.endswith("The chosen one: selective risk 10.0 % at coverage 92.4 %.")


def test_an_early_stop_gives_a_range(report: Report) -> None:
    early = next(row for row in report.items if row.id == "item-0001")
    assert early.score.text == "≥ 0.8225"
    [step] = early.trail
    assert (step.score.text, step.votes, step.outcome) == ("0.823 to 0.902", "6 of 10", "accepted")


def test_failed_votes_are_counted_in_the_trail(report: Report) -> None:
    row = next(row for row in report.items if row.id == "item-0009")
    assert [step.failures for step in row.trail] == ["", "", f"{TIMEOUT} × 2"]


def test_no_certificate() -> None:
    report = build_calibration(factory.no_certificate())
    assert (report.kind, report.status, report.headline) == ("calibration", "none", "No certificate")
    assert report.claim.startswith("No certificate: none of 10 policies passed its test")
    assert report.advice.startswith("At best 36 of 84 verdicts disagreed")
    assert report.assumptions == ()
    assert report.measures.certified_agreement.value is None
    assert all(key.detail for key in report.key_figures)
    assert [section.slug for section in report.sections] == [
        "agreement-with-human-labels",
        "judges",
        "failed-votes",
        "inter-annotator-agreement",
        "alternative-annotator-test",
        "certificate",
        "risk-coverage-curve",
        "provenance",
    ]


def test_nothing_at_all_to_show() -> None:
    bare = replace(factory.no_certificate(), n=0, tests=(), diagnostics=(), human_agreement=None, judges=())
    report = build_calibration(bare)
    assert report.measures.human_agreement.note == "one annotator per row: human agreement cannot be measured"
    assert report.measures.observed_agreement.value is None


def test_a_calibration_shows_what_to_expect() -> None:
    report = build_calibration(factory.certificate())
    assert [key.figure.text for key in report.key_figures] == ["≥ 85 %", "≥ 89.7 %", "−97.0 %", "87.0 %"]
    assert report.items == ()


def test_a_tierwise_certificate_adds_its_tiers_up() -> None:
    report = build_calibration(factory.tierwise_certificate())
    assert report.measures.observed_agreement.counts == (179, 190)
    policy, tests, _ = section(report, "certificate").tables
    assert [row[4] for row in texts(policy)] == ["120", "70", "0"]
    assert [row[0] for row in texts(tests)] == ["tier 1", "tier 2"]
    assert len([text for text in section(report, "certificate").text if "by hand" in text]) == 2


def test_an_incomplete_run_says_so() -> None:
    report = build(factory.incomplete_run())
    assert (report.status, report.complete, report.headline) == ("incomplete", False, "Incomplete run")
    [banner] = report.banners
    assert "stopped when its budget was reached" in banner
    assert "180 of 300 items are decided, 120 are not" in banner
    assert report.claim.endswith("This run released 162 of 300 (54.0 %) so far.")
    assert [row.state for row in report.items].count("undecided") == 120


def test_a_run_is_not_complete_because_it_says_so() -> None:
    run = factory.incomplete_run()
    report = build(replace(run, header=replace(run.header, status="complete")))
    assert not report.complete
    assert "but not every item was decided" in report.banners[0]


def test_a_run_without_decisions() -> None:
    run = factory.run(10, annotated=False)
    empty: Run = replace(run, header=replace(run.header, status="running"), judgments=(), decisions=())
    measures = build(empty).measures
    assert measures.failed_votes.note == "no judge was called"
    assert measures.cost_per_1000.note == "no item has been decided"
    assert measures.coverage.text == "0 %"


def test_simulated_judges_are_named_as_such() -> None:
    assert build(factory.simulated_run()).banners == (SIMULATED,)
    run = factory.run(10)
    config = {"judges": [{"name": "small", "backend": "simulated"}]}
    assert build(replace(run, header=replace(run.header, config=config))).banners == (SIMULATED,)


def test_sections_carry_their_own_name(report: Report) -> None:
    certified = [slug for slug in SECTIONS if slug not in ("uncertified-verdicts", "criteria")]
    plain = [slug for slug in certified if slug not in ("guarantees-by-group", "leave-one-group-out-check")]
    assert [section.slug for section in report.sections] == plain
    by_value = [
        slug for slug in certified if slug != "risk-coverage-curve"
    ]  # each value has tests of its own
    assert [section.slug for section in build(factory.grouped_run()).sections] == by_value


def test_headings_and_sentences_use_the_terms_of_the_field(report: Report) -> None:
    assert "; ".join(section.title for section in report.sections) == (
        "Agreement with human labels; Win rate over all items; Leaderboard; Judges: calibration of scores; "
        "Judges: position and length bias; Failed votes by reason; Cascade: decisions and cost per tier; "
        "Abstentions (human review queue); Distribution-shift check; Inter-annotator agreement; "
        "Alternative-annotator test; Certificate; Risk-coverage curve: tested policies; Provenance"
    )
    page = render_markdown(report.page()) + render_markdown(build(factory.grouped_run()).page())
    assert all(term in page for term in ("selective risk", "held out", "Position bias", "Length bias"))
    assert not list(denied(page))


def test_guarantees_by_value() -> None:
    report = build(factory.grouped_run())
    guarantees, outcomes, tests, policies, every = section(report, "guarantees-by-group").tables
    assert texts(guarantees) == [
        ["de", "≥ 80 %", "250", "231", "23", "89.7 %", "1.30", "certified"],
        ["fi", "—", "1", "—", "—", "—", "—", "not tested: too few rows"],
    ]
    assert [row[:4] for row in texts(outcomes)] == [
        ["de", "20", "20", "100 %"],
        ["fi", "10", "0", "0 %"],
        ["no meta.language, or an unknown one", "10", "0", "0 %"],
    ]
    assert texts(tests) == [["de", "20 %", "23", "231", "0.0163", "0.1", "passed on"]]
    assert [row[1] for row in texts(policies)] == list(factory.JUDGES)
    assert [row.mark for row in every.rows].count("chosen") == 1
    assert len(every.rows) == 7
    assert "at least 80 % for “de” agree" in report.claim
    assert "1 of 2 groups have no certificate" in report.claim
    assert report.measures.certified_agreement.text == "80 %"
    [facts] = report.groups
    assert (facts.value, facts.certified_agreement.value) == ("de", 0.8)
    assert facts.judged_agreement.counts is not None
    assert build(factory.run()).groups == ()


def test_values_left_out() -> None:
    shown = section(build(factory.grouped_run()), "leave-one-group-out-check")
    assert texts(shown.tables[0]) == [
        ["de", "250", "200", "74.0 to 85.0 %", "50", "20.0 to 31.0 %", "no"],
        ["fi", "40", "—", "—", "—", "—", "no guarantee: the others gave no certificate"],
    ]
    assert shown.text[0].startswith(
        "A guarantee from all other groups carries over to 0 of 2 held-out groups"
    )
    assert "3 rows of rare groups" in shown.text[2]
    for limits, agreement in (((0.02, 0.149), "yes"), ((0.1, 0.2), "too few rows to tell")):
        assert carried_over(Unseen("x", 99, True, 90, 5, limits, (0.8, 1.0)), 0.15) == agreement
    assert carried_over(Unseen("x", 99, True, 0, 0, (0.0, 1.0), (0.0, 0.1)), 0.15) == "nothing was released"


def test_a_free_judge_has_no_cost_to_compare_with() -> None:
    run = factory.run(10)
    given = run.header.certificate
    free = replace(given, diagnostics=tuple(replace(row, cost=0.0) for row in given.diagnostics))
    figure = build(replace(run, header=replace(run.header, certificate=free))).measures.cost_share
    assert (figure.text, figure.note) == ("—", "the last judge has no recorded cost")


def test_a_price_that_is_not_set_is_unknown() -> None:
    run = factory.run(10)
    names = sorted({row.judge for row in run.judgments})
    judges = [{"name": name, "backend": "openai", "price": {"input": 0.0}} for name in names]
    priced = replace(run, header=replace(run.header, config={"judges": judges}))
    figure = build(priced).measures.cost
    assert figure.value
    assert figure.note == f"at least: no price is set for {', '.join(names)}"
    rows = tuple(
        replace(row, votes=tuple(replace(vote, cost=0.0) for vote in row.votes)) for row in run.judgments
    )
    figure = build(replace(priced, judgments=rows)).measures.cost
    assert (figure.text, figure.value) == ("—", None)
    assert figure.note.startswith("price unknown")


def test_a_judge_without_a_verdict_has_no_agreement() -> None:
    given = factory.run(10).header.certificate
    silent = replace(
        given.diagnostics[0], agreements=0, ece=None, brier=None, auroc=None, kappa=None, cost=0.0
    )
    section_ = judges_section(replace(given, diagnostics=(silent,)))
    assert section_ is not None
    cells = section_.tables[0].rows[0].cells
    assert [cell.text for cell in cells[1:3]] == ["—", "—"]
    assert cells[1].note == "no row has a verdict"
    assert (cells[-1].text, cells[-1].value) == ("—", None)


def test_the_radius_in_plain_words(report: Report) -> None:
    text = section(report, "certificate").text[-1]
    assert text.startswith("Robustness radius Γ* = 1.07: if no type of released item becomes more than 1.07")
    assert "not part of the guarantee" in text
    assert not any(
        "radius" in t for t in section(build_calibration(factory.no_certificate()), "certificate").text
    )


def test_the_band(report: Report) -> None:
    risk = section(report, "risk-coverage-curve")
    chart = risk_coverage(report)
    assert chart.limits[2] == (231 / 250, 23 / 231, 0.1612)
    assert "Whiskers show upper limits for 4 of them." in chart.alt
    assert (
        "With probability at least 90 % all of them hold simultaneously, so α may be chosen" in risk.text[3]
    )
    band = risk.tables[0]
    assert texts(band)[2] == ["7", "231", "92.4 %", "10.0 %", "16.2 %"]
    assert [row.mark for row in band.rows] == ["", "", "chosen", ""]


def test_without_a_band_nothing_is_said_of_it() -> None:
    report = build_calibration(factory.tierwise_certificate())
    risk = section(report, "risk-coverage-curve")
    assert risk_coverage(report).limits == ()
    assert (len(risk.text), len(risk.tables)) == (3, 1)
