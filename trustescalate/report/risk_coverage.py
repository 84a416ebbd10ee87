"""Report the risk-coverage curve: selective risk and coverage of every tested policy."""

import math

from trustescalate.calibration.retest import counts_errors
from trustescalate.records import Certificate, PolicyTest
from trustescalate.report import figures
from trustescalate.report.certificate_figures import (
    NEVER,
    accepted_rows,
    compared_rows,
    count_cells,
    count_columns,
    covered_rows,
    is_tierwise,
    outcome,
    policy_coverage,
    total_loss,
    used_tests,
)
from trustescalate.report.figures import count, share
from trustescalate.report.pictures import Point, RiskCoverage
from trustescalate.report.sections import Column, Row, Section, Table, numbers

_NEAR = 1e-6
"""Relative tolerance of a limit at a level near 0, of which 1 - level keeps few digits."""
_OWN_LIMITS = (
    "The upper limit of a policy is that on its true risk at the level of its own test: it passed exactly "
    "where this limit is at most α. These limits do not hold simultaneously: choose no α from them."
)
_A_CASCADE = "a whole cascade, from the strictest thresholds on the left to the loosest on the right"


def risk_section(certificate: Certificate) -> Section | None:
    """Report how much every tested policy accepts and how often it is wrong; None without such tests."""
    if not certificate.tests:
        return None
    point = "one tier, on the rows that earlier tiers left over" if is_tierwise(certificate) else _A_CASCADE
    text = [
        _lead(certificate),
        f"Each point is {point}. Selective risk is the share of errors among accepted items; coverage is the "
        "share of items accepted. A filled point passed its test. A hollow point did not, and is never used, "
        "wherever it lies.",
    ]
    text += [_OWN_LIMITS] if any(point.upper is not None for point in _points(certificate)) else []
    text += [_limits_text(certificate)] if certificate.band else []
    tables = (*([_limits_table(certificate)] if certificate.band else []), _tests_table(certificate))
    return Section("risk-coverage-curve", "Risk-coverage curve: tested policies", tuple(text), tables=tables)


def _lead(certificate: Certificate) -> str:
    """Count the policies that passed, and state the risk and coverage of the chosen one."""
    tests, alpha = certificate.tests, figures.setting(certificate.alpha).text
    passed = sum(test.rejected for test in tests)
    lead = f"{passed:,} of {len(tests):,} policies passed their test at α = {alpha}"
    used = used_tests(certificate)
    if not used:
        return (
            f"{lead}; none is used."
            if passed
            else f"None of {len(tests):,} policies passed its test at α = {alpha}."
        )
    accepted, errors = accepted_rows(certificate)
    lead += f"; the chosen one has a selective risk of {share(errors, accepted).text} at a coverage of "
    lead += _covered(certificate)
    return f"{lead}."


def risk_chart(certificate: Certificate) -> tuple[RiskCoverage, ...]:
    """Draw the tested policies; none where none was tested."""
    if not certificate.tests:
        return ()
    points = _points(certificate)
    limits = tuple(
        (seen.coverage, seen.risk, check.upper)
        for check in certificate.band
        if (seen := points[check.test]).risk is not None
    )
    joined = not is_tierwise(certificate)
    alt = _alt_text(certificate)
    return (RiskCoverage("Risk and coverage", certificate.alpha, points, joined, alt, limits),)


def _limits_text(certificate: Certificate) -> str:
    sure = figures.complement(certificate.delta).text
    return (
        f"The whiskers are upper limits on the true selective risk of {len(certificate.band)} of these "
        f"policies. With probability at least {sure} all of them hold simultaneously, so α may be chosen "
        "from them afterwards. This has a price: a policy may have passed its test at the α fixed "
        "beforehand and still have a limit above it here. Policies without a whisker have no limit. The "
        "test and the limits are two guarantees, each with its own δ."
    )


def _limits_table(certificate: Certificate) -> Table:
    rows = []
    for check in certificate.band:
        test = certificate.tests[check.test]
        cells = (
            *(count(check.test + 1), count(test.accepted), policy_coverage(certificate, test)),
            share(test.errors, test.accepted, "the policy accepted no row"),
            figures.at_most(check.upper),
        )
        rows.append(Row(cells, "chosen" if test in used_tests(certificate) else ""))
    titles = numbers("Accepted", "Coverage", "Selective risk", "True selective risk at most")
    caption = f"Simultaneous limits, with probability {figures.complement(certificate.delta).text}"
    return Table(caption, (Column("Policy"), *titles), tuple(rows), folded=True)


def _points(certificate: Certificate) -> tuple[Point, ...]:
    return tuple(
        Point(
            upper=_upper(certificate, test),
            coverage=seen[0] / seen[1] if (seen := policy_coverage(certificate, test).counts) else 0.0,
            risk=total_loss(test) / rows if (rows := compared_rows(test)) else None,
            certified=test.rejected,
            chosen=test in used_tests(certificate),
            part=test.part,
        )
        for test in certificate.tests
    )


def _upper(certificate: Certificate, test: PolicyTest) -> float | None:
    """Limit the true risk of a policy at the level of its own test: at most α exactly where it passed.

    None where the test is no binomial one, or had no level to spend.
    """
    from trustescalate.stats.bounds import clopper_pearson_upper

    alpha = certificate.alpha
    if not counts_errors(certificate) or not 0 < test.level < 1 or test.loss is not None:
        return None
    upper = float(clopper_pearson_upper(test.errors, test.accepted, test.level))
    if test.rejected == (upper <= alpha):
        return upper
    # A p-value that equals its level to the last bits may put its limit a rounding off alpha.
    if math.isclose(upper, alpha, rel_tol=_NEAR):
        return alpha if test.rejected else math.nextafter(alpha, 1.0)
    return None


def _covered(certificate: Certificate) -> str:
    """The coverage of the policies in use, as printed."""
    used = used_tests(certificate)
    if certificate.region is not None:
        return policy_coverage(certificate, used[0]).text
    return share(sum(test.accepted for test in used), covered_rows(certificate)).text


def _alt_text(certificate: Certificate) -> str:
    passed = sum(test.rejected for test in certificate.tests)
    alpha = figures.setting(certificate.alpha).text
    tested = len(certificate.tests)
    head = f"Selective risk against coverage for {tested} policies; {passed} passed at α = {alpha}."
    if certificate.band:
        head += f" Whiskers show upper limits for {len(certificate.band)} of them."
    used = used_tests(certificate)
    if not used:
        return f"{head} None was chosen."
    accepted, errors = accepted_rows(certificate)
    risk = share(errors, accepted).text
    return f"{head} The chosen one: selective risk {risk} at coverage {_covered(certificate)}."


def _tests_table(certificate: Certificate) -> Table:
    common = all(len(set(test.thresholds)) == 1 for test in certificate.tests)
    titles = ["Common threshold"] if common else [f"Threshold of {one.judge}" for one in certificate.judges]
    first = Column("Tier" if is_tierwise(certificate) else "Policy")
    rows = []
    for index, test in enumerate(certificate.tests):
        shown = test.thresholds[:1] if common else test.thresholds
        cells = (
            count(index + 1),
            *(figures.exact(threshold, NEVER) for threshold in shown),
            *count_cells(certificate, test),
            *figures.compared(test.p_value, test.level),
            outcome(test),
        )
        rows.append(Row(cells, "chosen" if test in used_tests(certificate) else ""))
    columns = (first, *numbers(*titles), *count_columns(certificate), Column("Test"))
    return Table("All tested policies, in test order", columns, tuple(rows), folded=True)
