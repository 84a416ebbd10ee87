"""Restrict a plan to the region that its tested policies accept, and count coverage on unlabelled rows.

A policy is tested on the rows that it accepts. So rows drawn uniformly from the *region*, all rows that any
policy of the plan accepts, test it exactly as rows from the whole population do, and none of them is wasted.
The region must be fixed without labels: by constants and a pilot of unlabelled rows. Coverage and cost are
not those of the region's rows: they are counted on unlabelled rows of the whole population.
"""

from math import ceil, sqrt

import numpy as np

from trustescalate.stats.bounds import BoolArray, FloatArray, IntArray, clopper_pearson_lower
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Votes

SMALLEST, SLOPE, LARGEST = 0.3, 0.3, 0.55
"""`proposed_region`: by `benchmarks/region.py`, whose sets they were chosen on."""
WORTHWHILE = 0.75
"""A region that holds more of the pilot than this saves too few labels for the policies that it gives up."""


def truncated(plan: Plan, most: float) -> Plan:
    """The policies of a plan whose expected coverage is above 0 and at most `most`.

    A sub-path without any is left out, and the others share its part of delta: one whose strictest policy
    accepts nearly everything would make the region the whole population. Raises ValueError where no policy
    is left, or unless 0 < most <= 1.

    >>> plan = Plan((np.ones((3, 1)), np.ones((1, 1))), (0.4, 0.6), (np.array([0.1, 0.3, 0.9]), np.ones(1)))
    >>> cut = truncated(plan, 0.3)
    >>> cut.sizes, cut.shares, cut.coverage[0].tolist()
    ((2,), (1.0,), [0.1, 0.3])
    """
    if not 0 < most <= 1:
        raise ValueError(f"the expected coverage must lie above 0 and at most at 1, not at {most}")
    keep = [(coverage > 0) & (coverage <= most) for coverage in plan.coverage]
    left = [place for place, policies in enumerate(keep) if policies.any()]
    if not left:
        raise ValueError(f"no policy is expected to accept at most {most:g} of the rows")
    shares = [plan.shares[place] for place in left]
    return plan._replace(
        parts=tuple(plan.parts[place][keep[place]] for place in left),
        shares=tuple(share * sum(plan.shares) / sum(shares) for share in shares),
        coverage=tuple(plan.coverage[place][keep[place]] for place in left),
    )


def reachable(plan: Plan, most: float) -> float:
    """`most`, or where no policy accepts so little, the least coverage that any does, in whole per cent up.

    Where judges give bare verdicts there are few levels, and the strictest policy accepts a good part. Raises
    ValueError where no policy is expected to accept anything.

    >>> plan = Plan((np.ones((2, 1)),), (1.0,), (np.array([0.515, 0.8]),))
    >>> reachable(plan, 0.3), reachable(plan, 0.6)
    (0.52, 0.6)
    """
    coverage = np.concatenate(plan.coverage)
    if not (coverage > 0).any():
        raise ValueError("no policy is expected to accept anything")
    return max(most, ceil(100 * float(coverage[coverage > 0].min())) / 100)


def in_region(plan: Plan, votes: Votes) -> BoolArray:
    """Whether any policy of the plan accepts a row (n,). `votes` (n, m) as they are, not yet read.

    >>> plan = Plan.of(np.array([[0.9], [0.8]]))
    >>> in_region(plan, Votes(np.array([[0.85], [0.7]]), np.zeros((2, 1), dtype=int))).tolist()
    [True, False]
    """
    read = plan.read(votes)
    inside = np.zeros(len(read.scores), dtype=np.bool_)
    for policy in plan.policies:
        inside |= decide(policy, *read) >= 0
    return inside


def expected_among(plan: Plan, uniform: int, inside: int, share: float) -> Plan:
    """The plan with the coverage that is expected among the rows drawn: what its tests are placed by.

    `uniform` rows are drawn from the whole population and `inside` rows from the region, which holds a
    `share` of the pilot: there, a policy accepts 1 / share as many. Constants and unlabelled rows only.
    Raises ValueError unless 0 < share <= 1 and there are rows.

    >>> plan = Plan((np.ones((2, 1)),), (1.0,), (np.array([0.1, 0.2]),))
    >>> expected_among(plan, uniform=0, inside=100, share=0.25).coverage[0].tolist()
    [0.4, 0.8]
    >>> expected_among(plan, uniform=50, inside=50, share=0.25).coverage[0].tolist()
    [0.25, 0.5]
    """
    if not 0 < share <= 1 or uniform + inside <= 0:
        raise ValueError(f"a share of {share} and {uniform} + {inside} rows: nothing to expect")
    factor = (uniform + inside / share) / (uniform + inside)
    return plan._replace(coverage=tuple(np.minimum(1.0, factor * part) for part in plan.coverage))


def coverage_lower_limits(accepted: IntArray, rows: int, delta: float) -> FloatArray:
    """Lower limits (t,) on the true coverage of t policies, which all hold at once with 1 - delta.

    `accepted` (t,) of `rows` unlabelled rows, a number fixed beforehand, drawn from the whole population.
    Whatever picks a policy afterwards, labels of these very rows included, its limit holds.
    Source: Clopper and Pearson 1934; Bonferroni's inequality over the policies.

    >>> coverage_lower_limits(np.array([50, 80]), 100, 0.1).round(2).tolist()
    [0.41, 0.72]
    """
    return np.asarray(clopper_pearson_lower(accepted, rows, delta / max(1, len(accepted))))


def proposed_region(alpha: float, rows: int) -> float | None:
    """The expected coverage up to which policies are tested with so many rows; None where none is worth it.

    max(.3, .3 alpha sqrt(rows)), to two digits: the fewer the rows and the smaller alpha, the less of the
    population can be certified at all. Above .55 rows of the whole population do as well, and leave all
    policies to be tested. No label is used: scores of judges say too little of what alpha they can keep.
    Chosen by `benchmarks/region.py`.

    >>> proposed_region(0.1, 100), proposed_region(0.1, 200), proposed_region(0.2, 500)
    (0.3, 0.42, None)
    """
    most = round(max(SMALLEST, SLOPE * alpha * sqrt(rows)), 2)
    return most if most <= LARGEST else None
