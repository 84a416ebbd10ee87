"""The gate: only a measured pass passes, only a measured breach fails, all else is undecided."""

from dataclasses import replace
from itertools import product

import pytest

from trustescalate.config import GateTable
from trustescalate.errors import EXIT_BREACH, EXIT_NOT_MEASURABLE, EXIT_PASSED
from trustescalate.records import TaskKind
from trustescalate.report.figures import Figure, missing
from trustescalate.report.gate import EXIT_CODES, Verdict, decide
from trustescalate.report.sections import GroupFacts, Measures, Report, TaskFacts


def figure(value: float) -> Figure:
    return Figure(value, f"{100 * value:g} %")


def report(**measured: Figure) -> Report:
    given = {name: missing("not measured") for name in Measures.__dataclass_fields__}
    given |= {"certified_agreement": figure(0.85), "failed_votes": figure(0.0), "coverage": figure(0.9)}
    given |= {"excess_failures": Figure(0, "no judge fails oftener")}
    return Report(
        schema=1, kind="run", status="certified", complete=True,
        task=TaskFacts(TaskKind.PAIRWISE, "Which?", ("A", "B"), "class"),
        subject="Run x", headline="Certified", claim="the claim", advice="", assumptions=(), banners=(),
        key_figures=(), measures=Measures(**{**given, **measured}), sections=(), items=(), versions={},
    )  # fmt: skip


def policy(agreement: float | None = 0.85, coverage: float | None = 0.6, failures: float = 0.05) -> GateTable:
    return GateTable(min_agreement=agreement, min_coverage=coverage, max_failure_share=failures)


def failing(verdict: Verdict) -> dict[str, str]:
    return {check.name: check.status for check in verdict.checks if check.status != "pass"}


def test_the_exit_codes() -> None:
    assert EXIT_CODES == {"pass": EXIT_PASSED, "fail": EXIT_BREACH, "undecided": EXIT_NOT_MEASURABLE}
    assert (EXIT_PASSED, EXIT_BREACH, EXIT_NOT_MEASURABLE) == (0, 1, 3)


def test_a_certified_whole_current_run_passes() -> None:
    verdict = decide(report(), policy())
    assert (verdict.status, verdict.exit_code, failing(verdict)) == ("pass", 0, {})


def test_a_value_whose_guarantee_fresh_labels_contradict_is_a_breach() -> None:
    none = missing("nobody labelled any")
    upper_ends = {"de": figure(0.7), "en": figure(0.9), "fi": none}
    facts = tuple(GroupFacts(value, figure(0.8), none, upper) for value, upper in upper_ends.items())
    grouped = replace(report(), groups=facts)
    verdict = decide(grouped, policy())
    assert (verdict.status, failing(verdict)) == ("fail", {"agreement in group 'de'": "fail"})
    assert [check.name for check in verdict.checks if "group" in check.name] == [
        "agreement in group 'de'", "agreement in group 'en'",
    ]  # fmt: skip
    assert decide(grouped, policy(agreement=None)).status == "pass"


def test_too_little_coverage_is_a_breach() -> None:
    verdict = decide(report(coverage=figure(0.59)), policy())
    assert (verdict.status, verdict.exit_code, failing(verdict)) == ("fail", 1, {"coverage": "fail"})
    assert decide(report(coverage=figure(0.6)), policy()).status == "pass"


def test_a_certificate_that_guarantees_less_decides_nothing() -> None:
    verdict = decide(report(certified_agreement=figure(0.84)), policy())
    assert (verdict.status, failing(verdict)) == ("undecided", {"agreement with human labels": "undecided"})


def test_agreement_measured_to_be_too_low_is_a_breach_whatever_was_certified() -> None:
    verdict = decide(report(judged_agreement_upper=figure(0.84)), policy())
    assert (verdict.status, failing(verdict)) == ("fail", {"agreement with human labels": "fail"})


def test_certification_rows_cannot_measure_a_breach_because_they_chose_the_policy() -> None:
    assert decide(report(observed_agreement=figure(0.84)), policy()).status == "pass"


GROUNDS = {
    "run is complete": lambda good: replace(good, complete=False),
    "certificate": lambda good: replace(
        good, measures=replace(good.measures, certified_agreement=missing("none"))
    ),
    "judges answered": lambda good: replace(good, measures=replace(good.measures, failed_votes=figure(0.06))),
}


@pytest.mark.parametrize("ground", GROUNDS)
def test_without_its_grounds_even_a_breach_is_undecided(ground: str) -> None:
    breached = GROUNDS[ground](report(coverage=figure(0.1)))
    verdict = decide(breached, policy())
    assert verdict.status == "undecided"
    assert failing(verdict)[ground] == "undecided"


def test_a_stale_run_is_undecided_and_says_why() -> None:
    verdict = decide(report(coverage=figure(0.1)), policy(), stale="[task] was changed")
    assert (verdict.status, verdict.exit_code) == ("undecided", 3)
    assert "[task] was changed" in {check.message for check in verdict.checks}


def test_a_report_without_a_run_is_undecided() -> None:
    assert decide(replace(report(), kind="calibration"), policy()).status == "undecided"


@pytest.mark.parametrize("name", ["failed_votes", "coverage"])
def test_what_was_not_measured_does_not_pass(name: str) -> None:
    verdict = decide(report(**{name: missing("no vote was asked")}), policy())
    assert verdict.status == "undecided"


def test_what_nobody_asks_for_is_not_checked() -> None:
    verdict = decide(report(coverage=figure(0.0)), policy(None, None))
    assert verdict.status == "pass"
    assert len(verdict.checks) == 4


def test_only_passes_pass() -> None:
    """Over all mixtures of grounds and figures: pass exactly if nothing fails and nothing is undecided."""
    for complete, certified, failures, coverage, stale in product(
        (True, False), (0.9, 0.8, None), (0.0, 0.2, None), (0.9, 0.1, None), ("", "changed")
    ):
        figures = {
            "certified_agreement": missing("") if certified is None else figure(certified),
            "failed_votes": missing("") if failures is None else figure(failures),
            "coverage": missing("") if coverage is None else figure(coverage),
        }
        verdict = decide(replace(report(**figures), complete=complete), policy(), stale=stale)
        statuses = {check.status for check in verdict.checks}
        assert (verdict.status == "pass") == (statuses == {"pass"})
        if verdict.status == "fail":
            assert complete
            assert certified is not None
            assert failures == 0.0
            assert not stale


def test_without_a_limit_failures_are_compared_with_those_of_the_certificate() -> None:
    own = GateTable(min_agreement=0.85, min_coverage=0.6)
    assert decide(report(failed_votes=figure(0.2)), own).status == "pass"
    more = report(
        failed_votes=figure(0.2), excess_failures=Figure(1, "s: 20 % of its votes failed, 1 % at calibration")
    )
    verdict = decide(more, own)
    assert (verdict.status, failing(verdict)) == ("undecided", {"judges answered": "undecided"})
    assert "1 % at calibration" in next(c.message for c in verdict.checks if c.name == "judges answered")
    unknown = report(excess_failures=missing("the certificate holds no votes to compare with"))
    assert decide(unknown, own).status == "undecided"
