"""The limit for a run's own verdicts: what is printed, with which probability, and where nothing is."""

from dataclasses import replace

import pytest
from scipy.stats import binom, hypergeom

from tests.support import factory
from trustescalate.config import GateTable
from trustescalate.records import Batch, Certificate, Clusters, InterimAnalysis, Run, Weighting
from trustescalate.report import this_run
from trustescalate.report.document import build, build_calibration
from trustescalate.report.gate import decide
from trustescalate.report.html import render_html
from trustescalate.report.junit import render_junit
from trustescalate.report.markdown import render_markdown
from trustescalate.stats.this_run import two_step_loss_upper

pytestmark = pytest.mark.slow


def with_certificate(run: Run, **changes: object) -> Run:
    changed = replace(run.header.certificate, **changes)  # type: ignore[arg-type]
    return replace(run, header=replace(run.header, certificate=changed))


def by_hand(certificate: Certificate, released: int, *, looks: int = 1) -> tuple[int, int]:
    """Both limits: half of 5 % each, for the chosen of ten policies that are one sub-path."""
    assert certificate.chosen is not None
    test = certificate.tests[certificate.chosen]
    level = 0.025 * (0.5 / 10) / looks  # not the last: half of the level, shared by ten
    size = test.accepted + released
    errors = [
        more
        for more in range(released + 1)
        if hypergeom.cdf(test.errors, size, test.errors + more, test.accepted) > level
    ]
    return int(binom.ppf(0.975, released, certificate.alpha)), max(errors)


def test_the_sentence() -> None:
    run = factory.run()
    report = build(run)
    limit = min(by_hand(run.header.certificate, 270))
    assert limit == 52
    assert report.run_claim == (
        "Of the 270 verdicts that this run released, at most 52 (19.3 %) disagree with the majority of "
        "an item's annotators, with probability at least 85 % over the draw of the labelled rows and of this "
        "run's items."
    )
    figure = report.measures.run_errors_upper
    assert (figure.value, figure.text, figure.counts) == (52, "52", (52, 270))
    assert figure.note == "of 270, with probability at least 85 %"


def test_few_errors_among_the_labelled_rows_lower_the_limit() -> None:
    run = factory.run()
    tests = tuple(replace(test, errors=2) for test in factory.certificate().tests)
    two_step, direct = by_hand(replace(run.header.certificate, tests=tests), 270)
    assert direct < two_step
    assert this_run.errors_upper(with_certificate(run, tests=tests)).value == direct
    looked = with_certificate(run, tests=tests, interim=InterimAnalysis(1, (250, 400), (0.4, 0.6)))
    assert this_run.errors_upper(looked).value == by_hand(looked.header.certificate, 270, looks=2)[1] > direct


def test_verdicts_that_are_not_independent_are_left_out_and_counted() -> None:
    run = factory.run()
    report = build(replace(run, independent=run.independent[:100]))
    assert report.run_claim.startswith(
        "Of the 270 verdicts that this run released, 90 are on items that are independent of one another and "
        "of those that the certificate was calibrated on; of these, at most 20 (22.3 %) disagree with"
    )
    agreement = next(section for section in report.sections if section.slug == "agreement-with-human-labels")
    assert any(
        text.startswith("The limit for this run leaves out 180 of its verdicts") for text in agreement.text
    )
    [row] = [
        row for row in agreement.tables[0].rows if row.cells[0].text == "Independent verdicts of this run"
    ]
    assert [cell.text for cell in row.cells[1:]] == ["≥ 70 of 90", "≥ 77.7 %", "with probability ≥ 85 %"]


def test_it_stands_on_the_page_in_markdown_and_in_what_the_gate_says() -> None:
    report = build(factory.run())
    start = "Of the 270 verdicts that this run released, at most 52"
    assert start in render_html(report.page())
    assert start in render_markdown(report.page())
    verdict = decide(report, GateTable(min_agreement=0.85))
    messages = {check.name: check.message for check in verdict.checks}
    assert messages["certificate"] == f"{report.claim} {report.run_claim}"
    assert messages["agreement with human labels"] == "over items from the same population"
    xml = render_junit("gate", [(check.name, check.status, check.message) for check in verdict.checks])
    assert start in xml


def test_without_a_run_there_is_none() -> None:
    report = build_calibration(factory.certificate())
    assert report.run_claim == ""
    assert report.measures.run_errors_upper.note == "no run yet"


WEIGHTS = Weighting("meta.w", 2.0, "estimated", 500, 250)
NONE = {
    "the items of the run themselves": {"claim": "batch", "batch": Batch(300, "d", "v")},
    "whole clusters": {"method": "clusters", "clusters": Clusters(40, 12)},
    "were estimated": {"weighting": WEIGHTS},
    "δ leaves no probability": {"delta": 0.95},
}


@pytest.mark.parametrize("reason", NONE)
def test_where_nothing_is_proven_the_reason_is_said(reason: str) -> None:
    run = with_certificate(factory.run(), **NONE[reason])
    assert this_run.sentence(run) == ""
    assert reason in this_run.errors_upper(run).note
    [text] = this_run.agreement_text(run)
    assert text.startswith("There is no limit for the verdicts of this run alone: ")
    assert reason in text


def test_an_incomplete_run_has_none_since_easy_items_are_decided_first() -> None:
    run = factory.incomplete_run()
    assert "no random sample of all" in this_run.errors_upper(run).note
    assert build(run).run_claim == ""


def test_no_independent_verdict_and_too_few_of_them() -> None:
    run = factory.run()
    assert "no verdict was released" in this_run.errors_upper(replace(run, independent=())).note
    few = this_run.errors_upper(replace(run, independent=run.independent[:1]))
    assert (few.value, few.note) == (
        None,
        "too few verdicts on independent items (1): all of them may be wrong",
    )


def test_known_weights_change_nothing() -> None:
    run = factory.run()
    weighted = with_certificate(run, weighting=replace(WEIGHTS, source="known"))
    assert this_run.errors_upper(weighted) == this_run.errors_upper(run)
    assert "releases on items as the weights meta.w describe them agree" in build(weighted).claim


def test_guarantees_of_groups_add_up() -> None:
    run = factory.grouped_run()
    released = sum(row.judge is not None for row in run.decisions)
    [certified] = [one for one in run.header.certificate.groups if one.thresholds is not None]
    assert this_run.errors_upper(run).counts == (int(binom.ppf(0.95, released, certified.alpha)), released)


def test_tier_by_tier_the_guarantee_alone_bears_it() -> None:
    run = factory.run()
    header = replace(run.header, certificate=factory.tierwise_certificate())
    assert this_run.errors_upper(replace(run, header=header)).value == binom.ppf(0.95, 270, factory.ALPHA)


def test_where_verdicts_lose_shares_the_shares_add_up() -> None:
    run = with_certificate(factory.run(), method="betting", label_policy="annotator")
    limit = two_step_loss_upper(270, factory.ALPHA, 0.05)
    assert this_run.sentence(run).startswith(
        "Over the 270 verdicts that this run released, disagreement with an annotator drawn at random from "
        f"those of the item adds up to at most {limit} ({100 * limit / 270:.1f} %), with probability at "
        "least 85 % over the draw"
    )
    some = this_run.sentence(replace(run, independent=run.independent[:100]))
    assert "calibrated on; over these, disagreement with an annotator" in some


def test_an_alarm_leaves_the_limit_that_rests_on_alpha_alone() -> None:
    run = factory.run()
    tests = tuple(replace(test, errors=2) for test in factory.certificate().tests)
    few = with_certificate(run, tests=tests)
    alarmed = replace(few, shift=factory.shift(raised=True))
    calm, raised = (this_run.errors_upper(each).value for each in (few, alarmed))
    assert raised == by_hand(few.header.certificate, 270)[0]
    assert calm == by_hand(few.header.certificate, 270)[1]
    assert isinstance(calm, int)
    assert isinstance(raised, int)
    assert calm < raised
