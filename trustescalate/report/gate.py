"""A report held against what CI asks for: passed, breached, or undecided. It computes no statistics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trustescalate.calibration.files import read_certificate
from trustescalate.config import Config, GateTable, verdict_keys
from trustescalate.errors import EXIT_BREACH, EXIT_NOT_MEASURABLE, EXIT_PASSED, NoCertificate
from trustescalate.records import Run
from trustescalate.report.figures import setting
from trustescalate.report.sections import GroupFacts, Measures, Report

Status = Literal["pass", "fail", "undecided"]
MEAN_ONLY = (
    'claim = "expected" limits a mean over runs, and nothing in this run or in the population: min_agreement '
    'takes claim = "population" or "batch"'
)
EXIT_CODES = {"pass": EXIT_PASSED, "fail": EXIT_BREACH, "undecided": EXIT_NOT_MEASURABLE}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked for. `required` and `observed` are as printed in the report."""

    name: str
    status: Status
    required: str
    observed: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says. Only "pass" passes; "fail" is a measured breach; the rest could not be measured."""

    status: Status
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 measured breach, 3 not measurable."""
        return EXIT_CODES[self.status]


def decide(report: Report, policy: GateTable, *, stale: str = "") -> Verdict:
    """Hold a report against a policy.

    Without a whole, certified, current run with judges that answered, nothing else counts as measured, so
    those checks come first and make the verdict "undecided". `stale` says what changed since the run, if so.
    """
    grounds = [_complete(report), _certified(report), _current(stale), _answered(report.measures, policy)]
    if report.measures.expected_agreement.value is not None:
        grounds[1:3] = [_in_expectation(report), _current(stale, "calibration")]
    asked = [
        *_agreement(report.measures, policy.min_agreement),
        *_group_agreement(report.groups, policy.min_agreement),
        *_coverage(report.measures, policy.min_coverage),
        *_clusters(report),
    ]
    return Verdict(_overall(grounds, asked), (*grounds, *asked))


def _overall(grounds: Sequence[Check], asked: Sequence[Check]) -> Status:
    if any(check.status != "pass" for check in grounds):
        return "undecided"
    if any(check.status == "fail" for check in asked):
        return "fail"
    return "pass" if all(check.status == "pass" for check in asked) else "undecided"


def _complete(report: Report) -> Check:
    done = report.kind == "run" and report.complete
    message = "every item was decided" if done else "the run is not complete; resume it"
    observed = "complete" if done else report.status
    return Check("run is complete", "pass" if done else "undecided", "complete", observed, message)


def _certified(report: Report) -> Check:
    certified = report.measures.certified_agreement.value is not None
    status: Status = "pass" if certified else "undecided"
    message = f"{report.claim} {report.run_claim}".rstrip()
    observed = "certified" if certified else "none"
    if report.tested:
        observed = f"{observed}, {report.tested}"
    return Check("certificate", status, "certified", observed, message)


def _in_expectation(report: Report) -> Check:
    """In the place of the certificate: a mean over runs is enough ground for coverage, not for agreement."""
    mean = report.measures.expected_agreement
    return Check("guarantee in expectation", "pass", "a mean over runs", f"≥ {mean.text}", MEAN_ONLY)


def _current(stale: str, made: str = "certificate") -> Check:
    message = stale or f"{made} and configuration are those of the run"
    return Check(
        "run is current", "undecided" if stale else "pass", "unchanged", stale or "unchanged", message
    )


def _answered(measures: Measures, policy: GateTable) -> Check:
    failed, most = measures.failed_votes, setting(policy.max_failures)
    name, required = "judges answered", f"at most {most.text} failed votes"
    if not isinstance(failed.value, float | int):
        return Check(name, "undecided", required, failed.text, failed.note)
    ok = failed.value <= policy.max_failures
    message = (
        "votes that failed are abstentions, not verdicts" if ok else "too many judge calls failed to conclude"
    )
    return Check(name, "pass" if ok else "undecided", required, failed.text, message)


def _agreement(measures: Measures, least: float | None) -> list[Check]:
    if least is None:
        return []
    name, required = "agreement with people", f"at least {setting(least).text}"
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
    """Whether fresh labels contradict what was guaranteed for a value by itself."""
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
                f"at least {guaranteed.text}, its own guarantee",
                f"at most {upper.text}",
                "fresh labels contradict the guarantee" if broken else "fresh labels do not contradict it",
            )
        )
    return checks


def _clusters(report: Report) -> list[Check]:
    """Say what the certificate counts, where that is not simply verdicts. It breaches nothing."""
    if not report.clusters:
        return []
    return [Check("what is counted", "pass", "said", report.clusters, report.clusters)]


def _coverage(measures: Measures, least: float | None) -> list[Check]:
    if least is None:
        return []
    name, required, seen = "coverage", f"at least {setting(least).text}", measures.coverage
    if not isinstance(seen.value, float | int):
        return [Check(name, "undecided", required, seen.text, seen.note)]
    ok = seen.value >= least
    message = "items released without a person" if ok else "too many items need a person"
    return [Check(name, "pass" if ok else "fail", required, seen.text, message)]


def why_stale(config: Config, run: Run) -> str:
    """What was changed since a run that its figures rest on; empty where nothing was."""
    try:
        if read_certificate(config.folder) != run.header.certificate:
            what = "calibration" if run.header.certificate.status == "expected" else "certificate"
            return f"the {what} was renewed after this run"
    except NoCertificate as error:
        return error.message
    recorded, now = verdict_keys(run.header.config), verdict_keys(config.model_dump(mode="json"))
    changed = [key for key in now if now[key] != recorded.get(key)]
    return f"[{changed[0]}] was changed after this run" if changed else ""
