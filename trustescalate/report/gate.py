"""Compare a report with the gate of the configuration: pass, fail or undecided. It computes no statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from trustescalate.calibration.files import read_certificate
from trustescalate.config import Config, GateTable, changes, verdict_keys
from trustescalate.errors import (
    EXIT_BREACH,
    EXIT_NOT_MEASURABLE,
    EXIT_PASSED,
    CertificateMismatch,
    NoCertificate,
)
from trustescalate.records import Run
from trustescalate.report.figures import setting
from trustescalate.report.sections import GroupFacts, Measures, Report

Status = Literal["pass", "fail", "undecided"]
MEAN_ONLY = (
    'claim = "expected" limits a mean over runs, and nothing in this run or in the population: min_agreement '
    'needs claim = "population" or "batch"'
)
EXIT_CODES = {"pass": EXIT_PASSED, "fail": EXIT_BREACH, "undecided": EXIT_NOT_MEASURABLE}


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement and its outcome. `required` and `observed` are as printed in the report."""

    name: str
    status: Status
    required: str
    observed: str
    message: str


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


def decide(report: Report, policy: GateTable, *, stale: str = "", run: str = "") -> Verdict:
    """Compare a report with a policy. `stale` states what changed since the run, if anything.

    `run` describes the run (`describe_run`), in a check that always passes.

    Unless the run is complete, certified and current, and its judges answered, nothing else counts as
    measured and the verdict is "undecided".
    """
    grounds = _grounds(report, policy, stale)
    if run:
        grounds.insert(0, Check("which run", "pass", "stated", run, run))
    required = [
        *_agreement(report.measures, policy.min_agreement),
        *_group_agreement(report.groups, policy.min_agreement),
        *_coverage(report.measures, policy.min_coverage),
    ]
    if report.clusters:  # what the certificate counts; this check always passes
        required.append(Check("what is counted", "pass", "stated", report.clusters, report.clusters))
    statuses = {check.status for check in required}
    status: Status = "undecided"
    if all(check.status == "pass" for check in grounds):
        status = "fail" if "fail" in statuses else "pass" if statuses <= {"pass"} else "undecided"
    return Verdict(status, (*grounds, *required))


def _grounds(report: Report, policy: GateTable, stale: str) -> list[Check]:
    complete = report.kind == "run" and report.complete
    completeness = Check(
        "run is complete",
        "pass" if complete else "undecided",
        "complete",
        "complete" if complete else report.status,
        "every item was decided" if complete else "the run is not complete; resume it",
    )
    mean, certified = (
        report.measures.expected_agreement,
        report.measures.certified_agreement.value is not None,
    )
    current: Status = "undecided" if stale else "pass"
    source = "certificate" if mean.value is None else "calibration"
    message = stale or f"{source} and configuration are those of the run"
    currency = Check("run is current", current, "unchanged", stale or "unchanged", message)
    answered = _answered(report.measures, policy)
    if mean.value is not None:  # grounds for the check on coverage, not on agreement
        observed = f"≥ {mean.text}"
        guarantee = Check("guarantee in expectation", "pass", "a mean over runs", observed, MEAN_ONLY)
        return [completeness, guarantee, currency, answered]
    observed = ", ".join(filter(None, ("certified" if certified else "none", report.tested)))
    claim = f"{report.claim} {report.run_claim}".rstrip()
    certificate = Check("certificate", "pass" if certified else "undecided", "certified", observed, claim)
    return [completeness, certificate, currency, answered]


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
    """Without a limit of its own, a run may fail as often as the calibration did."""
    failed, excess = measures.failed_votes, measures.excess_failures
    required = "votes fail no oftener than at calibration"
    if failed.value is None or excess.value is None:
        return Check(name, "undecided", required, failed.text, failed.note or excess.note)
    observed = f"{failed.text} failed votes"
    if excess.value:
        return Check(name, "undecided", required, observed, excess.text)
    return Check(name, "pass", required, observed, "failed votes are abstentions, not verdicts")


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
    if seen.value >= least:
        return [Check(name, "pass", required, seen.text, "items released without human review")]
    most = measures.coverage_without_failures
    if isinstance(most.value, float | int) and most.value >= least:
        return [Check(name, "undecided", required, f"{seen.text} to {most.text}", most.note)]
    return [Check(name, "fail", required, seen.text, "too many items need human review")]


def why_stale(config: Config, run: Run, changed: Sequence[str] = ()) -> str:
    """State which basis of a run's figures was changed after it; empty where none was.

    `changed` are what changed of the files that the configuration points to, of the judges and the items.
    """
    try:
        if read_certificate(config.folder) != run.header.certificate:
            what = "calibration" if run.header.certificate.status == "expected" else "certificate"
            return f"the {what} was renewed after this run"
    except (NoCertificate, CertificateMismatch) as error:
        return error.message
    recorded, now = verdict_keys(run.header.config), verdict_keys(config.model_dump(mode="json"))
    order = [[judge["name"] for judge in each["judges"]] for each in (recorded, now)]
    before, after = order
    exchanged = [f"judge {name} was removed after this run" for name in before if name not in after]
    exchanged += [f"judge {name} was added after this run" for name in after if name not in before]
    for each in (recorded, now):
        each["judges"] = [judge for judge in each["judges"] if judge["name"] in {*before} & {*after}]
    keys = [f"{key} was changed after this run" for key in (*changes(recorded, now), *_reordered(*order))]
    every = [*exchanged, *keys, *changed]
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return "; ".join(every[:NAMED]) + more


NAMED = 3
"""The most changes that are named at once."""


def _reordered(before: list[str], now: list[str]) -> list[str]:
    return ["the order of the judges"] if before != now and set(before) == set(now) else []


def describe_run(run: Run, now: datetime) -> str:
    """Name a run, its age, its items and its judges."""
    header = run.header
    judges = " → ".join(seal.judge for seal in header.certificate.judges)
    created = datetime.fromisoformat(header.created)
    return f"{header.id} ({_age(now - created)}), {header.items:,} items, judges {judges}"


def _age(age: timedelta) -> str:
    """Describe an age in its largest unit.

    >>> _age(timedelta(hours=2, minutes=50)), _age(timedelta(days=-1))
    ('2 hours old', 'made at a time that is still to come')
    """
    seconds = age.total_seconds()
    if seconds < 0:
        return "made at a time that is still to come"
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number:,} {unit}{'s' if number > 1 else ''} old"
    return "less than a minute old"
