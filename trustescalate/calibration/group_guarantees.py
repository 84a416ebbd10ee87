"""Certify each value of a field of the items, and show how a cascade fares on values it has not seen.

The test is `stats.groups`, the evidence `stats.shift.leave_one_group_out`. Values are read off the items,
never off labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trustescalate.calibration.policy_tests import policy_tests, read_rows
from trustescalate.calibration.protocol import Aligned, GroupRule, Protocol
from trustescalate.calibration.retest import shift_radius
from trustescalate.records import GroupGuarantee, LeftOut, Unseen
from trustescalate.stats.bounds import IntArray, clopper_pearson_lower
from trustescalate.stats.certify import Certified
from trustescalate.stats.groups import certify_groups
from trustescalate.stats.paths import Plan
from trustescalate.stats.planning import label_floor
from trustescalate.stats.rule import TestRule
from trustescalate.stats.shift import leave_one_group_out

LEAST_ROWS = 20
"""A value with fewer rows is not left out: its limits would say nothing."""
MOST_VALUES = 20
"""With more values than this, each is a small part of the others' rows, and the table says little."""


def certify_values(
    protocol: Protocol, rule: GroupRule, rows: Sequence[str], aligned: Aligned, plan: Plan
) -> tuple[GroupGuarantee, ...]:
    """A guarantee, or none, for each value of `rule.by` among the certification rows, in order of the values.

    `rows` are the ids of the aligned rows, which state a label; `plan` was laid out for all values alike.
    """
    counts = Counter(rule.values[item_id] for item_id in rows if item_id in rule.values)
    tested = sorted(value for value, n in counts.items() if n >= rule.min_rows)
    alphas = {
        value: rule.alpha.get(value, protocol.rule.alpha) for value in sorted(set(rule.values.values()))
    }
    members: dict[str, list[str]] = {value: [] for value in alphas}
    for item_id, value in rule.values.items():
        members[value].append(item_id)
    guarantees = {
        value: GroupGuarantee(
            value, alpha, tuple(members[value]), counts[value], 0.0, False, None, None, None, (), None
        )
        for value, alpha in alphas.items()
    }
    if tested:
        passed = _test_values(protocol, rule, rows, aligned, plan, guarantees, tested)
        guarantees |= {guarantee.value: guarantee for guarantee in passed}
    return tuple(guarantees.values())


def _test_values(
    protocol: Protocol,
    rule: GroupRule,
    rows: Sequence[str],
    aligned: Aligned,
    plan: Plan,
    untested: dict[str, GroupGuarantee],
    values: Sequence[str],
) -> list[GroupGuarantee]:
    group = _index_values(rows, rule.values, values)
    some = group >= 0
    read = read_rows(aligned, plan)
    assert read.plan is not None
    outcome = certify_groups(
        read.scores[some],
        read.verdicts[some],
        np.zeros(int(some.sum()), dtype=np.int64),
        read.costs[some],
        group[some],
        alpha=np.array([untested[value].alpha for value in values]),
        delta=protocol.level,
        paths=[read.plan] * len(values),
        weights=np.array([rule.weights.get(value, 1.0) for value in values]),
        target_coverage=rule.target_coverage,
        prefer=protocol.rule.prefer,
        abstention_price=protocol.rule.abstention_price,
    )
    return [
        _record_test(untested[value], one, plan, parts, float(spent), bool(done))
        for value, one, parts, spent, done in zip(values, *outcome, strict=True)
    ]


def _record_test(
    untested: GroupGuarantee, outcome: Certified, plan: Plan, parts: IntArray, spent: float, finished: bool
) -> GroupGuarantee:
    tests = policy_tests(outcome.table, plan, parts)
    chosen = None if outcome.chosen is None else tests[outcome.chosen]
    return replace(
        untested,
        spent=spent,
        finished=finished,
        chosen=outcome.chosen,
        thresholds=None if chosen is None else chosen.thresholds,
        coverage_lower=outcome.coverage_lower,
        tests=tests,
        radius=None if chosen is None else shift_radius([chosen], untested.alpha),
    )


def coverage_lower(guarantees: Sequence[GroupGuarantee], n: int, delta: float) -> float | None:
    """A lower limit on the share of items of all values that is released; None where nothing is certified."""
    used = [one.tests[one.chosen] for one in guarantees if one.chosen is not None]
    if not used:
        return None
    return float(clopper_pearson_lower(sum(test.accepted for test in used), n, delta))


def explain_by_value(
    protocol: Protocol, rule: GroupRule, guarantees: Sequence[GroupGuarantee]
) -> tuple[str, str]:
    """Explain why no value is certified, and what would help."""
    tested = [one for one in guarantees if one.tests]
    if not tested:
        return (
            f"none of {len(guarantees)} values of {rule.by} has {rule.min_rows} labelled certification rows",
            f"label at least {rule.min_rows} rows of each value that matters, or name a field of fewer "
            "values",
        )
    reason = (
        f"none of {len(tested)} values of {rule.by} that were tested passed: disagreement with people could "
        "not be shown to be at most alpha in any of them"
    )
    weights = np.array([rule.weights.get(one.value, 1.0) for one in tested])
    floors = [
        label_floor(one.alpha, protocol.level * weight)
        for one, weight in zip(tested, weights / weights.sum(), strict=True)
    ]
    if all(one.n < floor for one, floor in zip(tested, floors, strict=True)):
        advice = (
            f"delta is divided among {len(tested)} values, and each needs at least {min(floors)} rows of its "
            "own, better three times as many: label more, or name a field of fewer values"
        )
    else:
        advice = (
            "use better judges, allow a larger alpha, label more rows of the values that matter or give them "
            "more weight; one guarantee for all values together, without [groups] by, takes fewer labels. "
            "A further test of these labels has its own, smaller share of delta"
        )
    return reason, advice


# ── evidence on unseen values ────────────────────────────────────────────────────────────────────


def leave_out(protocol: Protocol, rows: Sequence[str], aligned: Aligned, plan: Plan | None) -> LeftOut | None:
    """Leave out each value with enough rows in turn; None where fewer than 2 have enough, or more than 20."""
    field = protocol.leave_out
    if field is None:
        return None
    counts = Counter(field.values[item_id] for item_id in rows if item_id in field.values)
    values = sorted(value for value, n in counts.items() if n >= LEAST_ROWS)
    if not 2 <= len(values) <= MOST_VALUES:
        return None
    group = _index_values(rows, field.values, values)
    read = read_rows(aligned, plan)
    evidence = leave_one_group_out(
        read.scores,
        read.verdicts,
        np.zeros(len(rows), dtype=np.int64),
        group,
        TestRule(
            protocol.rule.alpha,
            protocol.level,
            "tierwise" if read.plan is None else read.plan,
            protocol.rule.procedure,
        ),
        read.costs,
    )
    unseen = tuple(
        Unseen(
            value,
            int(evidence.rows[g]),
            bool(np.isfinite(evidence.thresholds[g]).any()),
            int(evidence.accepted[g]),
            int(evidence.errors[g]),
            (float(evidence.risk[g, 0]), float(evidence.risk[g, 1])),
            (float(evidence.coverage[g, 0]), float(evidence.coverage[g, 1])),
        )
        for g, value in enumerate(values)
    )
    return LeftOut(field.by, unseen, int((group < 0).sum()))


def _index_values(rows: Sequence[str], known: Mapping[str, str], values: Sequence[str]) -> IntArray:
    """For each row the place of its value among `values`, -1 where it has another or none."""
    place = {value: g for g, value in enumerate(values)}
    return np.array([place.get(known.get(item_id, ""), -1) for item_id in rows], dtype=np.int64)
