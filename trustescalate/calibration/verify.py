"""Recompute what follows from a certificate itself, and name every statement in it that does not.

A certificate is derived, from counts and by fixed rules: no figure in it is believed that can be computed
from others. What takes votes and labels is recomputed by `evidence`; the ledger holds a digest of all.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import combinations

from trustescalate.calibration.ledger import Ledger, undated
from trustescalate.calibration.losses import is_binary
from trustescalate.calibration.retest import NEAR, TIERWISE, Tests, differs, retest, retest_groups, shown
from trustescalate.records import Certificate
from trustescalate.stats.conformal import fewest_rows
from trustescalate.stats.control import PROCEDURES
from trustescalate.stats.paths import PATHS
from trustescalate.stats.sequential import attempt_share

APART = ("exemplars", "dev", "certify", "holdout", "region", "waiting", "aside", "undrawn")
"""Roles that share no item; `pilot` needs no label and may hold rows of others."""


def verify(certificate: Certificate, ledger: Ledger | None = None) -> tuple[str, ...]:
    """What does not follow in a certificate, sentence by sentence; empty where everything does.

    Recomputed are p-values from counts, levels and the tests that pass, the chosen test, thresholds, limits
    on coverage and risk, the status, and whether alpha, delta, rows and roles fit. P-values by betting and
    where tests start take votes: for these only limits are known. A `ledger` must hold the test, and the
    certificate must be the one that it ended in.
    """
    problems = list(_not_numbers(certificate, ""))
    if not problems:  # nothing can be computed from NaN
        try:
            for problem in _inconsistencies(certificate):
                problems.append(problem)
        except (ValueError, IndexError, KeyError) as error:
            problems.append(f"its figures cannot be computed with: {error}")
    return tuple(problems) or tuple(_against(certificate, ledger))


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────


def _not_numbers(value: object, place: str) -> Iterator[str]:
    """Numbers anywhere in a record that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{place}: {value} is not a finite number"
    elif is_dataclass(value):
        for field in fields(value):
            yield from _not_numbers(getattr(value, field.name), f"{place}.{field.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_numbers(inner, f"{place}.{key}")
    elif isinstance(value, tuple):
        for at, inner in enumerate(value):
            yield from _not_numbers(inner, f"{place}.{at}")


# ── what follows ─────────────────────────────────────────────────────────────────────────────────


def _inconsistencies(certificate: Certificate) -> Iterator[str]:
    yield from _claim(certificate)
    yield from _rows(certificate)
    yield from _share(certificate)
    yield from _sampled(certificate)
    yield from _names(certificate)
    if certificate.claim == "expected":
        yield from _expectation(certificate)
    elif certificate.group_by is None:
        yield from retest(certificate, Tests.of(certificate), "")
    else:
        yield from retest_groups(certificate)
    yield from _status(certificate)


def _claim(given: Certificate) -> Iterator[str]:
    if not 0 < given.alpha < 1:
        yield f"alpha: {given.alpha:g} does not lie between 0 and 1"
    if given.claim == "expected":
        yield from differs("delta", given.delta, 1.0, 'that of claim = "expected"')
        return
    if not 0 < given.delta < 1:
        yield f"delta: {given.delta:g} does not lie between 0 and 1"
    if given.path not in (TIERWISE, *PATHS):
        yield f"path: there is no {given.path!r}"
    if given.procedure not in PROCEDURES:
        yield f"procedure: there is no {given.procedure!r}"
    if given.path == TIERWISE:
        yield from differs("procedure", given.procedure, "fixed_sequence", "that of a tierwise path")
    if (given.claim == "batch") != (given.batch is not None):
        yield f'claim: "{given.claim}" {"has no" if given.batch else "needs a"} batch'
    if (given.group_by is None) and given.groups:
        yield "group_by: is missing, and there are guarantees for groups"
    yield from differs("method", given.method, _method(given), "the test of this task, claim and clusters")
    if given.calibration:
        yield "calibration: rows are kept for the claim expected alone"


def _method(given: Certificate) -> str:
    of = given.clusters
    if given.batch is not None:
        return "exact"
    if of is not None and of.test == "betting" and of.largest is not None:
        return "clusters"
    return "exact" if is_binary(given.task, given.label_policy) else "betting"


def _rows(given: Certificate) -> Iterator[str]:
    roles = {role: ids for role, ids in given.roles.items() if role in APART}
    if not {"certify", "exemplars", "dev", "holdout"} <= roles.keys():
        yield "roles: certify, exemplars, dev or holdout is missing"
        return
    for role, ids in given.roles.items():
        if len(set(ids)) < len(ids):
            yield f"roles.{role}: an item stands there twice"
    for (one, first), (two, second) in combinations(roles.items(), 2):
        for both in sorted(set(first) & set(second))[:1]:
            yield f"roles: {both!r} stands in {one} and in {two}"
    tested = len(given.roles["certify"]) + len(given.roles.get("region", ()))
    counts = (given.no_majority, given.dropped_ties, given.skipped, given.contested_ties)
    if min(given.n, *counts) < 0 or max(given.n, *counts) > tested:
        yield f"n: {given.n} rows, {counts} of them without a label, are not among {tested}"
    whole = given.claim != "population"
    outside = 0 if whole else given.dropped_ties + (given.skipped if given.task.skips == "outside" else 0)
    yield from differs("n", given.n, tested - outside, f"the rows of the claim among {tested} tested")
    if given.no_majority > given.n:
        yield f"no_majority: {given.no_majority} of {given.n} rows"


def _share(given: Certificate) -> Iterator[str]:
    interim, attempt, certify = given.interim, given.attempt, len(given.roles["certify"])
    if attempt is not None and (attempt.number < 1 or not 0 < attempt.share <= 1):
        yield f"attempt: test {attempt.number} with a share {attempt.share:g} of delta"
    elif interim is not None:
        if len(interim.sizes) != len(interim.shares) or sum(interim.shares) > 1 + NEAR:
            yield "interim: each analysis has a size and a share of delta, and shares add up to at most 1"
        if not 1 <= interim.number <= len(interim.sizes):
            yield f"interim: there is no analysis {interim.number}"
            return
        yield from differs("interim.sizes", interim.sizes[interim.number - 1], certify, "its number of rows")
        if attempt is not None:
            yield from differs("attempt.share", attempt.share, interim.share, "the share that was planned")
    elif attempt is not None and not (attempt.number == 1 and attempt.share == 1):
        due = attempt_share(attempt.number)
        yield from differs("attempt.share", attempt.share, due, f"that of test {attempt.number}")


def _sampled(given: Certificate) -> Iterator[str]:
    weighting, region, certify = given.weighting, given.region, len(given.roles["certify"])
    drawn = given.clusters
    if drawn is not None:
        low, median, high = drawn.sizes
        if not 1 <= low <= median <= high <= (drawn.largest or high) or not 0 <= drawn.kept <= drawn.count:
            yield f"clusters: {drawn.kept} kept of {drawn.count}, of {shown(drawn.sizes)} rows"
        elif drawn.kept and drawn.test != "betting" and weighting is None and given.interim is None:
            yield from differs("clusters.kept", drawn.kept, certify, "the number of certification rows")
    if weighting is not None:
        if not 0 <= weighting.kept <= weighting.offered or weighting.bound <= 0:
            yield f"weighting: {weighting.kept} of {weighting.offered} rows kept"
        elif given.interim is None:
            yield from differs("weighting.kept", weighting.kept, certify, "the number of certification rows")
    if given.batch is not None:
        size = certify + len(given.roles.get("undrawn", ()))
        yield from differs("batch.items", given.batch.items, size, "the number of items in its roles")
    if (region is not None) != ("region" in given.roles):
        yield (
            "region: rows have that role, and there is no region" if region is None else "region: has no rows"
        )
    elif region is not None:
        yield from differs(
            "region.rows", region.uniform + region.rows, given.n, "the rows, with uniform ones"
        )
        if not (0 < region.inside <= region.judged and region.uniform >= 0 and 0 < region.most <= 1):
            yield f"region: {region.inside} of {region.judged} items, coverage up to {region.most:g}"


def _names(given: Certificate) -> Iterator[str]:
    names = [seal.judge for seal in given.judges]
    if not names or len(set(names)) < len(names):
        yield "judges: there are none, or two of one name"
    seen = tuple(row.judge for row in given.diagnostics)
    yield from differs("diagnostics", seen, tuple(names), "the judges that the certificate is bound to")
    for row in given.diagnostics:
        low, high = row.interval
        if not 0 <= row.agreements <= row.n <= max(given.n, 0) or not 0 <= low <= high <= 1 or row.cost < 0:
            yield f"diagnostics: {row.agreements} agreements of {row.judge} on {row.n} rows"


def _status(given: Certificate) -> Iterator[str]:
    if given.claim == "expected":
        spoken = sum(any(label is not None for label in row.verdicts) for row in given.calibration)
        status = "expected" if spoken >= fewest_rows(given.alpha) else "none"
    else:
        passed = given.chosen is not None or any(one.chosen is not None for one in given.groups)
        status = "certified" if passed else "none"
    yield from differs("status", given.status, status, "what its tests give")
    if (given.status == "certified") == bool(given.reason):
        yield "reason: stands there exactly where nothing is certified"


def _expectation(given: Certificate) -> Iterator[str]:
    fixed = ("conformal_selection", "benjamini_hochberg", "coverage")
    stated = (given.path, given.procedure, given.prefer)
    yield from differs("path, procedure, prefer", stated, fixed, "those of the claim expected")
    if given.tests or given.groups or given.chosen is not None or given.thresholds is not None:
        yield "tests: the claim expected tests nothing and has no thresholds"
    if given.coverage_lower is not None or given.band or given.radius is not None:
        yield "coverage_lower: the claim expected has no limits"
    yield from differs("method", given.method, _method(given), "the test of this task, claim and clusters")
    rows = tuple(row.item_id for row in given.calibration)
    yield from differs("calibration", rows, tuple(given.roles["certify"]), "one row for each in certify")
    labels = set(given.task.labels)
    for row in given.calibration:
        if not len(row.verdicts) == len(row.scores) == len(given.judges) or any(
            not 0 <= score <= 1 for score in row.scores
        ):
            yield f"calibration: {row.item_id!r} needs a verdict and a score in [0, 1] of each judge"
        if not {*row.agreeing, *(verdict for verdict in row.verdicts if verdict is not None)} <= labels:
            yield f"calibration: {row.item_id!r} has a label that the task has not"


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────


def _against(certificate: Certificate, ledger: Ledger | None) -> Iterator[str]:
    """What the ledger says otherwise; a test that was entered in none says nothing where there is none."""
    attempt = certificate.attempt
    if ledger is None or (not ledger.lines and (attempt is None or not attempt.ledger)):
        return
    if attempt is None:
        if ledger.tests:
            yield f"attempt: is missing, and {ledger.path} records every test"
        return
    line = ledger.digests.get(attempt.ledger)
    if line is None or line.event != "test":
        yield (
            f"attempt: {ledger.path} does not hold the test that the certificate is from (restore it): "
            "without it the number of tests of these labels is unknown"
        )
        return
    yield from differs("attempt.number", attempt.number, line.number, "that of the ledger")
    yield from differs("attempt.share", attempt.share, line.share, "that of the ledger")
    outcomes = [each for each in ledger.lines if each.test == attempt.ledger]
    if not outcomes:
        yield f"attempt: {ledger.path} does not hold the outcome of the certificate's test; restore it"
        return
    if certificate.status not in {each.outcome for each in outcomes}:
        yield f"status: {certificate.status} is not the outcome in {ledger.path}, {outcomes[-1].outcome}"
    known = {each.certificate for each in outcomes if each.certificate}
    if known and undated(certificate) not in known:
        yield f"it is not the certificate that {ledger.path} records: something in it was changed"
