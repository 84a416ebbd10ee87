"""Compare a report with the gate of the configuration: pass, fail or undecided. It computes no statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from trustescalate.config import GateTable
from trustescalate.errors import EXIT_BREACH, EXIT_NOT_MEASURABLE, EXIT_PASSED
from trustescalate.records.criteria import BY_CRITERION
from trustescalate.report.figures import setting, usd
from trustescalate.report.gate_product import product_checks, rests_on_labels, wants_product
from trustescalate.report.sections import Check, GroupFacts, Measures, Report, Status

MEAN_ONLY = (
    'claim = "expected" limits a mean over runs, and nothing in this run or in the population: min_agreement '
    'needs claim = "population" or "batch"'
)
EXIT_CODES = {"pass": EXIT_PASSED, "fail": EXIT_BREACH, "undecided": EXIT_NOT_MEASURABLE}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a gate: "pass", "fail" (a measured breach), or "undecided" (not measurable).

    `certificate` is the digest of the certificate that the run was made with (`Certificate.digest`).
    """

    status: Status
    checks: tuple[Check, ...]
    certificate: str = ""

    @property
    def exit_code(self) -> int:
        """0 passed, 1 measured breach, 3 not measurable."""
        return EXIT_CODES[self.status]


def decide(
    report: Report,
    policy: GateTable,
    *,
    stale: str = "",
    run: str = "",
    certificate_age: timedelta | None = None,
) -> Verdict:
    """Compare a report with a policy. `stale` states what changed since the run, if anything.

    `run` describes the run (`describe_run`), in a check that always passes; `certificate_age` is that of its
    certificate.

    Only a measured breach is "fail", and only where the run is complete and current and its judges answered:
    otherwise nothing counts as measured and the verdict is "undecided". Agreement, coverage and abstention
    are undecided without a certificate; the product needs none where its limits rest on human labels.
    """
    grounds = [_complete(report), _current(report, stale), _answered(report.measures, policy)]
    stated = [_scope(policy, report)]
    if run:
        stated.append(Check("which run", "pass", "stated", run, run))
    if report.clusters:
        stated.append(Check("what is counted", "pass", "stated", report.clusters, report.clusters))
    product = product_checks(report, policy)
    required = [
        *product,
        _certificate(report, policy),
        *_age(policy.max_certificate_age_days, certificate_age),
        *_shift(report, policy),
        *_agreement(report.measures, policy.min_agreement),
        *_group_agreement(report.groups, policy.min_agreement),
        *_coverage(report.measures, policy.min_coverage),
        *_abstention(report.measures, policy.max_abstention),
        *_cost(report.measures, policy.max_cost_usd),
    ]
    statuses = {check.status for check in required}
    status: Status = "undecided"
    if all(check.status == "pass" for check in grounds):
        status = "fail" if "fail" in statuses else "pass" if statuses <= {"pass"} else "undecided"
    return Verdict(status, (*stated, *product, *grounds, *required[len(product) :]))


def _scope(policy: GateTable, report: Report) -> Check:
    """State what a gate checks; the check always passes."""
    if wants_product(policy, report):
        text = "the product and the judges"
    else:
        several = report.product is not None and report.product.by == BY_CRITERION
        where = "[gate] and [[criteria]] have" if several else "[gate] has"
        text = (
            f"the judges only: {where} no min_rate, and no baseline with max_drop or min_gain, so nothing is "
            "said of the product"
        )
    return Check("what is checked", "pass", "stated", text, text)


def _complete(report: Report) -> Check:
    complete = report.kind == "run" and report.complete
    return Check(
        "run is complete",
        "pass" if complete else "undecided",
        "complete",
        "complete" if complete else "incomplete",
        "every item was decided" if complete else "the run is not complete; resume it",
    )


def _current(report: Report, stale: str) -> Check:
    source = "certificate" if report.measures.expected_agreement.value is None else "calibration"
    message = stale or f"{source} and configuration are those of the run"
    return Check(
        "run is current", "undecided" if stale else "pass", "unchanged", stale or "unchanged", message
    )


def _certificate(report: Report, policy: GateTable) -> Check:
    mean = report.measures.expected_agreement
    if mean.value is not None:  # the basis of coverage, not of agreement
        observed = f"≥ {mean.text}"
        return Check("guarantee in expectation", "pass", "a mean over runs", observed, MEAN_ONLY)
    certified = _is_certified(report.measures)
    observed = ", ".join(filter(None, ("certified" if certified else "none", report.tested)))
    if not certified and rests_on_labels(report, policy):
        return Check(
            "certificate",
            "pass",
            "not required",
            observed,
            "the checks of the product rest on human labels of the run's items, and need no certificate",
        )
    claim = f"{report.claim} {report.run_claim}".rstrip()
    return Check("certificate", "pass" if certified else "undecided", "certified", observed, claim)


def _is_certified(measures: Measures) -> bool:
    return measures.certified_agreement.value is not None


def _age(most: float | None, age: timedelta | None) -> list[Check]:
    if most is None:
        return []
    name, required = "age of the certificate", f"at most {most:g} days"
    if age is None:
        return [Check(name, "undecided", required, "unknown", "the run has no certificate")]
    days = age.total_seconds() / 86400
    observed = f"{days:,.1f} days"
    if 0 <= days <= most:
        return [Check(name, "pass", required, observed, "the certificate is recent enough")]
    why = "it was made at a time that is still to come" if days < 0 else "calibrate again on fresh labels"
    return [Check(name, "undecided", required, observed, why)]


def _shift(report: Report, policy: GateTable) -> list[Check]:
    """An alarm breaks what rests on the certificate; so does a check without the certificate's votes."""
    alarms, name = report.measures.shift_alarms, "distribution shift"
    if isinstance(alarms.value, str):  # nothing that a shift could break
        return []
    required = "any" if policy.allow_shift else "no alarm"
    observed = alarms.text if alarms.value else "no alarm"
    if alarms.value is None:
        requirements = () if report.product is None else report.product.requirements
        needed = policy.allow_shift is False or any(each.limits.basis == "verdicts" for each in requirements)
        status: Status = "undecided" if needed and not policy.allow_shift else "pass"
        return [Check(name, status, required, "not compared", alarms.note)]
    if alarms.value and rests_on_labels(report, policy):
        why = "every limit rests on human labels of the run's items, which a shift does not break"
        return [Check(name, "pass", "not required", observed, f"{alarms.note}; {why}")]
    if policy.allow_shift or alarms.value == 0:
        return [Check(name, "pass", required, observed, alarms.note or "no alarm, which proves nothing")]
    hint = "label some of these items, or set [gate] allow_shift = true"
    return [Check(name, "undecided", required, observed, f"{alarms.note}: {hint}")]


def _abstention(measures: Measures, most: float | None) -> list[Check]:
    if most is None:
        return []
    name, required, seen = "abstention", f"at most {setting(most).text}", measures.abstention
    if not isinstance(seen.value, float | int):
        return [Check(name, "undecided", required, seen.text, seen.note)]
    if not _can_release(measures):
        return [Check(name, "undecided", required, seen.text, UNCERTIFIED)]
    if seen.value <= most:
        return [Check(name, "pass", required, seen.text, "items that need human review")]
    least = measures.abstention_without_failures
    if isinstance(least.value, float | int) and least.value <= most:
        return [Check(name, "undecided", required, f"{least.text} to {seen.text}", least.note)]
    return [Check(name, "fail", required, seen.text, "too many items need human review")]


def _cost(measures: Measures, most: float | None) -> list[Check]:
    if most is None:
        return []
    name, required, cost = "cost", f"at most {usd(most).text}", measures.cost
    if not isinstance(cost.value, float | int):
        return [Check(name, "undecided", required, cost.text, cost.note)]
    if cost.value > most:
        return [Check(name, "fail", required, cost.text, cost.note or "the judges' calls cost more")]
    if cost.note:  # only a part of the calls has a price
        return [Check(name, "undecided", required, cost.text, cost.note)]
    return [Check(name, "pass", required, cost.text, "the cost of the judges' calls")]


UNCERTIFIED = "nothing is certified, so nothing is released"


def _can_release(measures: Measures) -> bool:
    return _is_certified(measures) or measures.expected_agreement.value is not None


def _answered(measures: Measures, policy: GateTable) -> Check:
    failed, name = measures.failed_votes, "judges answered"
    if policy.max_failure_share is None:
        return _answered_as_before(name, measures)
    required = f"at most {setting(policy.max_failure_share).text} failed votes"
    if not isinstance(failed.value, float | int):
        return Check(name, "undecided", required, failed.text, failed.note)
    if failed.value <= policy.max_failure_share:
        return Check(name, "pass", required, failed.text, "failed votes are abstentions, not verdicts")
    return Check(name, "undecided", required, failed.text, "too many calls of judges failed")


def _answered_as_before(name: str, measures: Measures) -> Check:
    """Without a limit of its own, no judge's votes may fail significantly oftener than at calibration."""
    failed, excess = measures.failed_votes, measures.excess_failures
    required = "no significant rise of failed votes over calibration (one-sided test at 1 %)"
    if failed.value == 0:
        return Check(name, "pass", required, f"{failed.text} failed votes", "no vote failed")
    if failed.value is None or excess.value is None:
        return Check(name, "undecided", required, failed.text, failed.note or excess.note)
    observed = f"{failed.text} failed votes"
    if excess.value:
        return Check(name, "undecided", required, observed, excess.text)
    message = f"{excess.text}. Failed votes are abstentions, not verdicts"
    return Check(name, "pass", required, observed, message)


def _agreement(measures: Measures, least: float | None) -> list[Check]:
    if least is None:
        return []
    name, required = "agreement with human labels", f"at least {setting(least).text}"
    measured = measures.judged_agreement_upper  # not on certification rows: they chose the policy
    if isinstance(measured.value, float | int) and measured.value < least:
        return [Check(name, "fail", required, f"at most {measured.text}", measured.note)]
    mean = measures.expected_agreement
    if mean.value is not None:
        return [Check(name, "undecided", required, f"≥ {mean.text} in the mean over runs", MEAN_ONLY)]
    certified = measures.certified_agreement
    if isinstance(certified.value, float | int) and certified.value >= least:
        return [Check(name, "pass", required, f"certified ≥ {certified.text}", certified.note)]
    message = f"the certificate guarantees {certified.text}; calibrate with a smaller alpha to guarantee more"
    return [Check(name, "undecided", required, f"certified ≥ {certified.text}", message)]


def _group_agreement(groups: Sequence[GroupFacts], least: float | None) -> list[Check]:
    """Check whether fresh labels contradict the guarantee of a group."""
    checks = []
    for group in groups if least is not None else ():
        upper, guaranteed = group.judged_agreement_upper, group.certified_agreement
        if not (isinstance(upper.value, float | int) and isinstance(guaranteed.value, float | int)):
            continue
        broken = upper.value < guaranteed.value
        checks.append(
            Check(
                f"agreement in group {group.value!r}",
                "fail" if broken else "pass",
                f"at least {guaranteed.text}, the guarantee of the group",
                f"at most {upper.text}",
                "fresh labels contradict the guarantee" if broken else "fresh labels do not contradict it",
            )
        )
    return checks


def _coverage(measures: Measures, least: float | None) -> list[Check]:
    if least is None:
        return []
    name, required, seen = "coverage", f"at least {setting(least).text}", measures.coverage
    if not isinstance(seen.value, float | int):
        return [Check(name, "undecided", required, seen.text, seen.note)]
    if not _can_release(measures):
        return [Check(name, "undecided", required, seen.text, UNCERTIFIED)]
    if seen.value >= least:
        return [Check(name, "pass", required, seen.text, "items released without human review")]
    most = measures.coverage_without_failures
    if isinstance(most.value, float | int) and most.value >= least:
        return [Check(name, "undecided", required, f"{seen.text} to {most.text}", most.note)]
    return [Check(name, "fail", required, seen.text, "too many items need human review")]
