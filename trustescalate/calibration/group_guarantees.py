"""A guarantee for each value of a field of the items: from aligned rows to records. And evidence beside it.

The test is `stats.groups`, the evidence `stats.shift.leave_one_group_out`. Which values there are is read off
the items, never off labels. Nothing here decides what a value means, or which field to take.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trustescalate.calibration.policy_tests import policy_tests, read_rows
from trustescalate.calibration.protocol import Aligned, GroupRule, LeaveOut, Protocol
from trustescalate.records import GroupGuarantee, LeftOut, PolicyTest, Unseen
from trustescalate.stats.bounds import IntArray, clopper_pearson_lower, clopper_pearson_upper
from trustescalate.stats.certify import Certified
from trustescalate.stats.groups import certify_groups
from trustescalate.stats.paths import Plan
from trustescalate.stats.planning import label_floor
from trustescalate.stats.shift import leave_one_group_out, robustness_radius

LEAST_ROWS = 20
"""A value with fewer rows is not left out: its limits would say nothing."""
MOST_VALUES = 20
"""With more values than this, each is a small part of the others' rows, and the table says little."""


def certify_values(
    protocol: Protocol, rule: GroupRule, rows: Sequence[str], aligned: Aligned, plan: Plan
) -> tuple[GroupGuarantee, ...]:
    """A guarantee, or none, for each value of `rule.by` among the certification rows, in order of the values.

    `rows` are the ids of the aligned rows, which state an opinion; `plan` was laid out for all values alike.
    """
    counts = Counter(rule.values[item_id] for item_id in rows if item_id in rule.values)
    tested = sorted(value for value, n in counts.items() if n >= rule.min_rows)
    alphas = {value: rule.alpha.get(value, protocol.alpha) for value in sorted(set(rule.values.values()))}
    members: dict[str, list[str]] = {value: [] for value in alphas}
    for item_id, value in rule.values.items():
        members[value].append(item_id)
    made = {
        value: GroupGuarantee(value, alpha, tuple(members[value]), counts[value], 0.0, False, *_NOTHING)
        for value, alpha in alphas.items()
    }
    if tested:
        made |= {
            guarantee.value: guarantee
            for guarantee in _tested(protocol, rule, rows, aligned, plan, made, tested)
        }
    return tuple(made.values())


_NOTHING = (None, None, None, (), None)


def _tested(
    protocol: Protocol,
    rule: GroupRule,
    rows: Sequence[str],
    aligned: Aligned,
    plan: Plan,
    untested: dict[str, GroupGuarantee],
    values: Sequence[str],
) -> list[GroupGuarantee]:
    group = _places(rows, rule.values, values)
    some = group >= 0
    read = read_rows(aligned, plan)
    assert read.plan is not None
    found = certify_groups(
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
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
    )
    return [
        _guarantee(untested[value], one, plan, parts, float(spent), bool(done))
        for value, one, parts, spent, done in zip(values, *found, strict=True)
    ]


def _guarantee(
    bare: GroupGuarantee, found: Certified, plan: Plan, parts: IntArray, spent: float, finished: bool
) -> GroupGuarantee:
    tests = policy_tests(found.table, plan, parts)
    return GroupGuarantee(
        bare.value,
        bare.alpha,
        bare.rows,
        bare.n,
        spent,
        finished,
        found.chosen,
        None if found.chosen is None else tests[found.chosen].thresholds,
        found.coverage_lower,
        tests,
        None if found.chosen is None else _radius(tests[found.chosen], bare.alpha),
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
    """Why no value is certified, and what would help."""
    tested = [one for one in guarantees if one.tests]
    if not tested:
        return (
            f"none of {len(guarantees)} values of {rule.by} has {rule.min_rows} labelled certification rows",
            f"label at least {rule.min_rows} rows of each value that matters, or name a field of fewer values",
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


# ── evidence on values that were not seen ────────────────────────────────────────────────────────


def leave_out(
    protocol: Protocol, asked: LeaveOut, rows: Sequence[str], aligned: Aligned, plan: Plan | None
) -> LeftOut | None:
    """Each value with rows enough left out in turn; None where fewer than 2 have enough, or more than 20."""
    counts = Counter(asked.values[item_id] for item_id in rows if item_id in asked.values)
    values = sorted(value for value, n in counts.items() if n >= LEAST_ROWS)
    if not 2 <= len(values) <= MOST_VALUES:
        return None
    group = _places(rows, asked.values, values)
    read = read_rows(aligned, plan)
    found = leave_one_group_out(
        read.scores,
        read.verdicts,
        np.zeros(len(rows), dtype=np.int64),
        group,
        alpha=protocol.alpha,
        delta=protocol.level,
        path="tierwise" if read.plan is None else read.plan,
        procedure=protocol.procedure,
        costs=read.costs,
    )
    unseen = tuple(
        Unseen(
            value,
            int(found.rows[g]),
            bool(np.isfinite(found.thresholds[g]).any()),
            int(found.accepted[g]),
            int(found.errors[g]),
            (float(found.risk[g, 0]), float(found.risk[g, 1])),
            (float(found.coverage[g, 0]), float(found.coverage[g, 1])),
        )
        for g, value in enumerate(values)
    )
    return LeftOut(asked.by, unseen, int((group < 0).sum()))


def _places(rows: Sequence[str], known: Mapping[str, str], values: Sequence[str]) -> IntArray:
    """For each row the place of its value among `values`, -1 where it has another or none."""
    place = {value: g for g, value in enumerate(values)}
    return np.array([place.get(known.get(item_id, ""), -1) for item_id in rows], dtype=np.int64)


def _radius(test: PolicyTest, alpha: float) -> float | None:
    upper = float(clopper_pearson_upper(test.errors, test.accepted, test.level))
    # A p-value that equals its level to the last bit may put its limit a rounding above alpha.
    return robustness_radius(min(upper, alpha), alpha)
