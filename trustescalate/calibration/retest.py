"""Replay the tests of a certificate from its counts, and compute what follows from them.

`calibrate` takes the limits of a certificate from here too, so that each has one definition.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from trustescalate.records import Certificate, Checkpoint, GroupGuarantee, PolicyTest
from trustescalate.stats.batch import batch_pvalue
from trustescalate.stats.bounds import (
    BoolArray,
    FloatArray,
    binomial_pvalue,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from trustescalate.stats.control import PROCEDURES, choose
from trustescalate.stats.region import coverage_lower_limits
from trustescalate.stats.risk_limits import simultaneous_risk_upper
from trustescalate.stats.shift import robustness_radius

CHECKPOINTS = 16
"""So many policies have a limit on their risk: each one more widens the limits of all."""
NEAR = 1e-9
"""Relative tolerance of a recomputed float: libraries differ in the last digits."""
TIERWISE = "tierwise"


def level_of(certificate: Certificate) -> float:
    """The probability of a wrong certificate that its test could spend: delta, or its share of it."""
    share = certificate.attempt or certificate.interim
    return certificate.delta if share is None else certificate.delta * share.share


def counts_errors(certificate: Certificate) -> bool:
    """Whether p-values are those of the binomial test."""
    return certificate.method == "exact" and certificate.batch is None


def radius_of(certificate: Certificate) -> float | None:
    """The least radius of the tests that the guarantee rests on: one, or on a tierwise path one a tier."""
    if certificate.chosen is None or not counts_errors(certificate):
        return None
    tests, tierwise = certificate.tests, certificate.path == TIERWISE
    used = [test for test in tests if test.rejected] if tierwise else [tests[certificate.chosen]]
    return shift_radius(used, certificate.alpha)


def shift_radius(tests: Sequence[PolicyTest], alpha: float) -> float | None:
    """The robustness radius (`shift.robustness_radius`) of the weakest of these tests."""
    upper = max(float(clopper_pearson_upper(test.errors, test.accepted, test.level)) for test in tests)
    # A p-value that equals its level to the last bit may put its limit a rounding above alpha.
    return robustness_radius(min(upper, alpha), alpha)


def simultaneous_limits(certificate: Certificate) -> tuple[Checkpoint, ...]:
    """Limits on evenly spaced policies of the path. Places alone decide which: no label, and no count."""
    tests = certificate.tests
    # Policies are shown with the share of the rows that they accept: of a region's, that is no coverage.
    if not counts_errors(certificate) or certificate.path == TIERWISE or certificate.region or not tests:
        return ()
    places = np.unique(np.linspace(0, len(tests) - 1, min(len(tests), CHECKPOINTS)).round().astype(np.int64))
    errors, accepted = np.array([(test.errors, test.accepted) for test in tests])[places].T
    upper = simultaneous_risk_upper(errors, accepted, level_of(certificate))
    return tuple(Checkpoint(int(test), float(limit)) for test, limit in zip(places, upper, strict=True))


# ── comparing ────────────────────────────────────────────────────────────────────────────────────


def near(stated: object, computed: object) -> bool:
    """Whether two values are the same, floats up to what libraries differ by."""
    if isinstance(stated, float) and isinstance(computed, float | int):
        return math.isclose(stated, computed, rel_tol=NEAR, abs_tol=1e-300)
    if isinstance(stated, tuple) and isinstance(computed, tuple):
        return len(stated) == len(computed) and all(map(near, stated, computed))
    return stated == computed


def differs(place: str, stated: object, computed: object, what: str) -> Iterator[str]:
    if not near(stated, computed):
        yield f"{place}: {shown(stated)} is not {what}, {shown(computed)}"


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(shown, value)) + ")"
    return "none" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


# ── tests ────────────────────────────────────────────────────────────────────────────────────────


class Tests(NamedTuple):
    """The tests of a certificate, or of one value, with what was chosen of them."""

    tests: tuple[PolicyTest, ...]
    alpha: float
    n: int
    chosen: int | None
    thresholds: tuple[float | None, ...] | None
    coverage_lower: float | None
    radius: float | None

    @classmethod
    def of(cls, given: Certificate | GroupGuarantee) -> "Tests":
        chosen, lower = given.chosen, given.coverage_lower
        return cls(given.tests, given.alpha, given.n, chosen, given.thresholds, lower, given.radius)


def retest(given: Certificate, own: Tests, place: str) -> Iterator[str]:
    """The tests of a certificate or of one value (`place`), and all that follows from them."""
    counts = list(_counts(given, own, place))
    yield from counts
    if counts:
        return
    passed = _pass(given, own)
    for t, test in enumerate(own.tests):
        where = f"{place}tests.{t}"
        if passed.p is not None:
            what = f"the p-value of {test.errors} errors at alpha = {own.alpha:g}"
            yield from differs(f"{where}.p_value", test.p_value, float(passed.p[t]), what)
        yield from differs(
            f"{where}.rejected", test.rejected, bool(passed.rejected[t]), "what p-value and level give"
        )
    if given.group_by is None:
        yield from _spent(given, passed.starts)
    rejected = np.array([test.rejected for test in own.tests], dtype=np.bool_)
    if given.prefer == "total" and given.abstention_price is None:
        if own.chosen is not None and not rejected[own.chosen]:
            yield f"{place}chosen: test {own.chosen} did not pass"
    else:
        best = _best(given, own, rejected)
        yield from differs(f"{place}chosen", own.chosen, best, f"the test that prefer = {given.prefer} takes")
    taken = None if own.chosen is None else own.tests[own.chosen]
    if own.thresholds != (taken and taken.thresholds):  # to the last bit: the same number stands twice
        due = shown(taken and taken.thresholds)
        yield f"{place}thresholds: {shown(own.thresholds)} is not those of the chosen test, {due}"
    yield from _coverage(given, own, place)
    if given.group_by is None:
        yield from differs("radius", own.radius, radius_of(given), "that of the chosen test")
        limits = simultaneous_limits(given)
        stated = tuple((each.test, each.upper) for each in given.band)
        computed = tuple((each.test, each.upper) for each in limits)
        yield from differs("band", stated, computed, "the limits that its counts give")
    elif taken is not None:
        yield from differs(f"{place}radius", own.radius, shift_radius([taken], own.alpha), "that of its test")


def _counts(given: Certificate, own: Tests, place: str) -> Iterator[str]:
    tiers, size = len(given.judges), own.n if given.batch is None else given.batch.items
    if own.chosen is not None and not 0 <= own.chosen < len(own.tests):
        yield f"{place}chosen: there is no test {own.chosen}"
    for t, test in enumerate(own.tests):
        where, drawn = f"{place}tests.{t}", test.accepted if test.drawn is None else test.drawn
        if not 0 <= test.errors <= drawn <= test.accepted <= size or drawn > own.n:
            yield f"{where}: {test.errors} errors among {test.accepted} accepted of {size} rows"
        if (
            min(test.by_tier, default=-1) < 0
            or len(test.by_tier) != tiers
            or sum(test.by_tier) != test.accepted
        ):
            yield f"{where}.by_tier: {test.by_tier} does not split {test.accepted} among {tiers} judges"
        if len(test.thresholds) != tiers or any(
            tau is not None and not 0 <= tau <= 1 for tau in test.thresholds
        ):
            yield f"{where}.thresholds: {shown(test.thresholds)} are not {tiers} numbers from 0 to 1"
        if not (0 <= test.p_value <= 1 and 0 <= test.level <= 1 and test.cost >= 0 and test.part >= 0):
            yield f"{where}: p-value, level, cost or part is out of range"
        yield from _kinds(given, own, test, where)
    if any(one.part > two.part for one, two in zip(own.tests, own.tests[1:], strict=False)):
        yield f"{place}tests: sub-paths are not one after the other"


def _kinds(given: Certificate, own: Tests, test: PolicyTest, where: str) -> Iterator[str]:
    """What a test holds for its claim and its method alone."""
    if (test.drawn is None) != (given.batch is None):
        yield f'{where}.drawn: goes with claim = "batch"'
    if (test.loss is None) != (given.method != "betting") or not 0 <= (test.loss or 0) <= test.errors:
        yield f"{where}.loss: {shown(test.loss)} with {test.errors} rows of any loss"
    if (test.seen is None) != (given.region is None):
        yield f"{where}.seen: goes with a region"
    if given.region is not None and not 0 <= (test.seen or 0) <= given.region.judged:
        yield f"{where}.seen: {test.seen} of {given.region.judged} items"
    if test.pooled and given.stack is None:
        yield f"{where}.pooled: there is no stack"
    if (
        not counts_errors(given)
        and given.batch is None
        and test.p_value < (float(binomial_pvalue(0, test.accepted, own.alpha)) * (1 - NEAR))
    ):
        yield f"{where}.p_value: {test.p_value:g} is less than {test.accepted} rows can give"


class _Passed(NamedTuple):
    """p-values (t,), None where they take votes; which tests pass; and the level that starts at each (t,)."""

    p: FloatArray | None
    rejected: BoolArray
    starts: FloatArray


def _pass(given: Certificate, own: Tests) -> _Passed:
    """Replay the procedure: a level that is not explained by the test before it started where it stands."""
    if not own.tests:
        return _Passed(np.zeros(0), np.zeros(0, dtype=np.bool_), np.zeros(0))
    errors, accepted = (
        np.array([getattr(test, name) for test in own.tests]) for name in ("errors", "accepted")
    )
    stated, level = (np.array([getattr(test, name) for test in own.tests]) for name in ("p_value", "level"))
    p, handed = None, stated
    if given.batch is not None:
        drawn = np.array([test.drawn for test in own.tests])
        released = given.batch.release_human_labels
        p = batch_pvalue(errors, drawn, accepted, own.alpha, release_human_labels=released)
        handed = batch_pvalue(errors, drawn, accepted, own.alpha) if released else stated
    elif counts_errors(given):
        p = binomial_pvalue(errors, accepted, own.alpha)
    carries = given.path != TIERWISE and (given.group_by is not None or PROCEDURES[given.procedure].carries)
    starts = level.copy()
    for t in range(1, len(level)) if carries else ():
        before = own.tests[t - 1]
        if before.part == own.tests[t].part and before.level > 0 and handed[t - 1] <= before.level:
            starts[t] = level[t] - before.level
    return _Passed(p, (level > 0) & (stated <= level), starts)


def _spent(given: Certificate, starts: FloatArray) -> Iterator[str]:
    level = level_of(given)
    if starts.size and starts.min() < -NEAR * level:
        yield f"tests.{int(starts.argmin())}.level: less than the test before it, which passed, hands on"
    if starts.clip(0).sum() > level * (1 + NEAR):
        yield f"tests: levels that add up to {starts.clip(0).sum():.10g} spend more than delta, {level:.10g}"
    if (
        given.path == TIERWISE
        and starts.size
        and not np.allclose(starts, level / len(starts), rtol=NEAR, atol=0)
    ):
        yield f"tests: each tier spends delta / {len(starts)}"


def _best(given: Certificate, own: Tests, rejected: BoolArray) -> int | None:
    if given.path == TIERWISE:
        return len(rejected) - 1 if rejected.any() else None
    tests, size = own.tests, max(1, own.n) if given.group_by is not None else own.n
    accepted = np.array([test.accepted for test in tests], dtype=np.int64)
    if given.batch is not None:
        size = given.batch.items
        if given.batch.release_human_labels:
            accepted = accepted - np.array([test.drawn for test in tests], dtype=np.int64)
    if given.region is not None:
        size, accepted = given.region.judged, np.array([test.seen for test in tests], dtype=np.int64)
    cost = np.array([test.cost for test in tests], dtype=np.float64)
    price = given.abstention_price
    return choose(rejected, accepted, cost, given.prefer, n=size, abstention_price=price)  # type: ignore[arg-type]


def _coverage(given: Certificate, own: Tests, place: str) -> Iterator[str]:
    lower: float | None = None
    if own.chosen is not None:
        test, level = own.tests[own.chosen], level_of(given)
        if given.batch is not None:
            lower = test.accepted / given.batch.items
        elif given.region is not None:
            seen = np.array([each.seen for each in own.tests])
            lower = float(coverage_lower_limits(seen, given.region.judged, level)[own.chosen])
        elif given.method == "clusters":  # takes the counts of each cluster
            highest = test.accepted / max(1, own.n)
            if own.coverage_lower is None or not 0 <= own.coverage_lower <= highest:
                yield f"coverage_lower: {shown(own.coverage_lower)} is no lower limit on {highest:.10g}"
            return
        else:
            released = test.accepted
            if given.path == TIERWISE:
                released = sum(each.accepted for each in own.tests)
            lower = float(clopper_pearson_lower(released, own.n, level))
    yield from differs(f"{place}coverage_lower", own.coverage_lower, lower, "the limit of the chosen test")


def retest_groups(given: Certificate) -> Iterator[str]:
    if given.tests or given.chosen is not None or given.thresholds is not None or given.radius is not None:
        yield "tests: with guarantees by value, tests and thresholds stand with the values"
    level, rows, open_shares = level_of(given), set[str](), 0.0
    certify = set(given.roles["certify"])
    for one in given.groups:
        place = f"groups.{one.value}."
        if not 0 < one.alpha < 1:
            yield f"{place}alpha: {one.alpha:g} does not lie between 0 and 1"
            continue
        if not set(one.rows) <= certify or not rows.isdisjoint(one.rows) or not 0 <= one.n <= len(one.rows):
            yield f"{place}rows: {one.n} of them are not certification rows of this value alone"
        rows |= set(one.rows)
        yield from retest(given, Tests.of(one), place)
        if not one.tests:
            continue
        starts = _pass(given, Tests.of(one)).starts
        # A finished sub-path has the share that it would have if it were not: they add up to more.
        largest = np.bincount([test.part for test in one.tests], weights=starts).max()
        if starts.min() < -NEAR * level or max(float(largest), one.spent) > level * (1 + NEAR):
            yield f"{place}tests: levels spend more than delta"
        unfinished = _open_level(one, starts)
        yield from differs(
            f"{place}finished", one.finished, bool(starts.any()) and not unfinished, "what its tests give"
        )
        open_shares += unfinished
    if open_shares > level * (1 + NEAR):
        yield f"groups: open tests that add up to {open_shares:.10g} spend more than delta, {level:.10g}"
    if sum(one.n for one in given.groups) > given.n:
        yield f"groups: they hold more than {given.n} rows"
    used = [one.tests[one.chosen] for one in given.groups if one.chosen is not None]
    accepted = sum(test.accepted for test in used)
    lower = float(clopper_pearson_lower(accepted, given.n, level)) if used else None
    yield from differs("coverage_lower", given.coverage_lower, lower, "the limit of all values")


def _open_level(one: GroupGuarantee, starts: FloatArray) -> float:
    """What starts on the sub-paths of a value where some test from the first start on was not passed."""
    part = np.array([test.part for test in one.tests])
    rejected = np.array([test.rejected for test in one.tests])
    total = 0.0
    for name in np.unique(part):
        begun = (part == name) & (np.cumsum(np.where(part == name, starts, 0.0)) > 0)
        if begun.any() and not rejected[begun].all():
            total += float(starts[part == name].sum())
    return total
