"""The gate: only a measured pass passes, only a measured breach fails, all else is undecided."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from trustescalate.config import GateTable
from trustescalate.errors import EXIT_BREACH, EXIT_NOT_MEASURABLE, EXIT_PASSED
from trustescalate.records import Change, ItemsMean, Limits, Product, Requirement, TaskKind
from trustescalate.records.product import Basis
from trustescalate.report.figures import Figure, missing
from trustescalate.report.gate import EXIT_CODES, Verdict, decide
from trustescalate.report.sections import GroupFacts, Measures, Report, TaskFacts


def figure(value: float) -> Figure:
    return Figure(value, f"{100 * value:g} %")


def report(**measured: Figure) -> Report:
    given = {name: missing("not measured") for name in Measures.__dataclass_fields__}
    given |= {"certified_agreement": figure(0.85), "failed_votes": figure(0.0), "coverage": figure(0.9)}
    given |= {"excess_failures": Figure(0, "no judge fails oftener"), "abstention": figure(0.1)}
    given |= {"shift_alarms": Figure(0, "0 of 2 tiers"), "cost": Figure(3.5, "USD 3.50")}
    return Report(
        schema=1, kind="run", status="certified", complete=True,
        task=TaskFacts(TaskKind.PAIRWISE, "Which?", ("A", "B"), "class"),
        headline="Certified", claim="the claim", advice="", assumptions=(), banners=(),
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
    names = [check.name for check in verdict.checks]
    assert names == [
        "what is checked", "run is complete", "run is current", "judges answered", "certificate",
        "distribution shift",
    ]  # fmt: skip


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
    none = missing("the certificate holds no votes to compare with")
    assert decide(report(failed_votes=figure(0.01), excess_failures=none), own).status == "undecided"
    assert decide(report(excess_failures=none), own).status == "pass"  # no vote failed


# ── abstention, cost, age and shift ──────────────────────────────────────────────────────────────


PARTLY_PRICED = Figure(3.5, "USD 3.50", "at least: no price is set for x")


def alone(**keys: object) -> GateTable:
    return GateTable(max_failure_share=0.05, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "measured", "status"),
    [
        ({"max_abstention": 0.1}, {}, "pass"),
        ({"max_abstention": 0.09}, {"abstention_without_failures": figure(0.1)}, "fail"),
        ({"max_abstention": 0.09}, {"abstention_without_failures": figure(0.05)}, "undecided"),
        ({"max_abstention": 0.1}, {"abstention": missing("no item")}, "undecided"),
        ({"max_abstention": 0.1}, {"certified_agreement": missing("none")}, "undecided"),
        ({"max_cost_usd": 3.5}, {}, "pass"),
        ({"max_cost_usd": 3.49}, {}, "fail"),
        ({"max_cost_usd": 4.0}, {"cost": PARTLY_PRICED}, "undecided"),
        ({"max_cost_usd": 3.0}, {"cost": PARTLY_PRICED}, "fail"),
        ({"max_cost_usd": 3.5}, {"cost": missing("price unknown")}, "undecided"),
        ({}, {"shift_alarms": Figure(1, "1 of 2 tiers", "s: moved")}, "undecided"),
        ({"allow_shift": True}, {"shift_alarms": Figure(1, "1 of 2 tiers", "s: moved")}, "pass"),
        ({}, {"shift_alarms": missing("could not be compared")}, "pass"),
        ({"allow_shift": False}, {"shift_alarms": missing("could not be compared")}, "undecided"),
        ({"allow_shift": False}, {"shift_alarms": Figure(1, "1 of 2 tiers", "s: moved")}, "undecided"),
        ({}, {"shift_alarms": Figure("not applicable", "not applicable")}, "pass"),
    ],
)  # fmt: skip
def test_abstention_cost_and_shift(keys: dict, measured: dict, status: str) -> None:
    assert decide(report(**measured), alone(**keys)).status == status


@pytest.mark.parametrize(
    ("age", "status"), [(29.9, "pass"), (30.1, "undecided"), (-1.0, "undecided"), (None, "undecided")]
)
def test_the_age_of_the_certificate(age: float | None, status: str) -> None:
    days = None if age is None else timedelta(days=age)
    assert decide(report(), alone(max_certificate_age_days=30), certificate_age=days).status == status


# ── the product ──────────────────────────────────────────────────────────────────────────────────


def limits(low: float, high: float, basis: Basis = "exact") -> Limits:
    return Limits((low + high) / 2, low, high, 0.95, basis, 300, 120)


def product_of(
    key: str, required: float, bound: Limits, *, about: str | None = None, second: Limits | None = None
) -> Product:
    rate, change = ItemsMean(about, bound, second), Change(about, bound, second, 300, 0)
    requirement = Requirement(key, required, about, bound, needed=250)  # type: ignore[arg-type]
    return Product((rate,), (change,), "meta.lang", "20260101T000000Z-aaaaaa", 0, 0, (requirement,))


REQUIRED = {
    "min_rate": (0.6, {"pass": (0.6, 0.7), "undecided": (0.59, 0.6), "fail": (0.5, 0.599)}),
    "max_drop": (0.02, {"pass": (-0.02, 0.1), "undecided": (-0.021, -0.02), "fail": (-0.1, -0.021)}),
    "min_gain": (0.05, {"pass": (0.05, 0.1), "undecided": (0.04, 0.05), "fail": (-0.1, 0.049)}),
}


@pytest.mark.parametrize("key", REQUIRED)
@pytest.mark.parametrize("about", [None, "de"])
@pytest.mark.parametrize("basis", ["all labelled", "predictions", "exact", "betting", "student", "verdicts"])
def test_a_limit_passes_fails_or_is_undecided(key: str, about: str | None, basis: Basis) -> None:
    """The table of truth: both limits on the right side pass, both on the wrong side fail."""
    required, outcomes = REQUIRED[key]
    rule = alone(**{key: required}, **({} if key == "min_rate" else {"baseline": "x"}))
    for status, ends in outcomes.items():
        given = replace(report(), product=product_of(key, required, limits(*ends, basis), about=about))
        verdict = decide(given, rule)
        (check,) = (each for each in verdict.checks if each.name.startswith("win rate"))
        assert (check.status, verdict.status) == (status, status), (ends, check)
        assert ("250 more human labels would decide it" in check.message) == (status == "undecided")
        assert ("meta.lang = 'de'" in check.name) == (about is not None)


@pytest.mark.parametrize("key", REQUIRED)
def test_what_was_not_measured_of_the_product_is_undecided(key: str) -> None:
    required, outcomes = REQUIRED[key]
    rule, good = alone(**{key: required}), limits(*outcomes["pass"])
    for measured in (
        None,
        Product((), reason="the baseline is not complete"),
        product_of("min_rate" if key == "max_drop" else "max_drop", 0.0, good),
        product_of(key, required, limits(*outcomes["fail"], "none")),
    ):
        assert decide(replace(report(), product=measured), rule).status == "undecided"


def test_limits_that_exclude_each_other_decide_nothing() -> None:
    for low, high in ((0.5, 0.55), (0.7, 0.8)):
        both = product_of("min_rate", 0.6, limits(low, high), second=limits(0.58, 0.65, "verdicts"))
        verdict = decide(replace(report(), product=both), alone(min_rate=0.6))
        assert verdict.status == "undecided"
        assert any("no value in common" in check.message for check in verdict.checks)


@pytest.mark.parametrize("key", REQUIRED)
@pytest.mark.parametrize("outcome", ["pass", "fail", "undecided"])
@pytest.mark.parametrize("ground", [*GROUNDS, "stale", "none"])
def test_the_product_and_its_grounds(key: str, outcome: str, ground: str) -> None:
    """Without complete, current, answered nothing is measured; labels need no certificate."""
    required, outcomes = REQUIRED[key]
    for basis in ("exact", "verdicts"):
        given = replace(
            report(),
            product=product_of(key, required, limits(*outcomes[outcome], basis)),  # type: ignore[arg-type]
        )
        given = GROUNDS[ground](given) if ground in GROUNDS else given
        verdict = decide(given, alone(**{key: required}), stale="changed" if ground == "stale" else "")
        wanted = outcome
        if ground in ("run is complete", "judges answered", "stale") or (
            ground == "certificate" and basis == "verdicts" and outcome == "pass"
        ):
            wanted = "undecided"
        assert verdict.status == wanted, (basis, verdict)


def test_without_a_certificate_agreement_and_coverage_are_undecided_though_the_product_passes() -> None:
    bound = product_of("min_rate", 0.6, limits(0.6, 0.7))
    given = replace(GROUNDS["certificate"](report()), product=bound)
    assert decide(given, alone(min_rate=0.6)).status == "pass"
    for keys in ({"min_agreement": 0.8}, {"min_coverage": 0.1}, {"max_abstention": 1.0}):
        assert decide(given, alone(min_rate=0.6, **keys)).status == "undecided"
    broken = replace(given, product=product_of("min_rate", 0.8, limits(0.6, 0.7)))
    assert decide(broken, alone(min_rate=0.8, min_agreement=0.8)).status == "fail"


def test_the_first_line_says_whether_the_product_was_checked() -> None:
    first = decide(report(), policy()).checks[0]
    assert first.observed.startswith("the judges only: [gate] has no min_rate, and no baseline")
    bound = product_of("min_rate", 0.6, limits(0.6, 0.7))
    checked = decide(replace(report(), product=bound), alone(min_rate=0.6))
    assert checked.checks[0].observed == "the product and the judges"


def test_rounding_never_moves_a_limit_across_its_requirement() -> None:
    for low, status in ((0.59999999, "undecided"), (0.6 - 1e-12, "pass"), (0.6, "pass")):
        bound = product_of("min_rate", 0.6, limits(low, 0.7))
        assert decide(replace(report(), product=bound), alone(min_rate=0.6)).status == status
