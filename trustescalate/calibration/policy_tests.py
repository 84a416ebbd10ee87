"""Test the policies of a plan on aligned rows: one signature for every method, and the method that is due.

A test reads votes by the path, looks up what each verdict loses (`losses`), and hands both to `stats`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from trustescalate.calibration.losses import is_binary, right_or_wrong, verdict_losses
from trustescalate.calibration.protocol import Aligned, Protocol
from trustescalate.records import PolicyTest
from trustescalate.records.jsonl import digest
from trustescalate.stats.batch import certify_batch
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.certify import Certified, Table, certify_rows
from trustescalate.stats.clusters import certify_clusters
from trustescalate.stats.losses import certify_losses
from trustescalate.stats.paths import Plan
from trustescalate.stats.pooling import Rows, Votes


class Tested(NamedTuple):
    """The result of the tests, whatever their kind."""

    chosen: int | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]

    @property
    def thresholds(self) -> tuple[float | None, ...] | None:
        """Those of the chosen test; for `tierwise` that of the last tier holds those of all."""
        return None if self.chosen is None else self.tests[self.chosen].thresholds


Kind: TypeAlias = Literal["exact", "batch", "betting", "clusters"]


def kind_of(protocol: Protocol) -> Kind:
    """The test that a protocol calls for, fixed before a label is read."""
    if protocol.claim == "batch":
        return "batch"
    if protocol.clusters is not None:
        return "clusters"
    return "exact" if is_binary(protocol.task, protocol.reference) else "betting"


def run_test(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    """Test every policy of a plan, None for `tierwise`, on the certification rows, in a batch on all of it.

    The first rows of a batch are the labelled ones. Raises ValueError as the functions of `stats`
    that it calls do: the configuration lets nothing through that they refuse.
    """
    return _TESTS[kind_of(protocol)](protocol, rows, plan)


class Read(NamedTuple):
    """Rows as a plan reads them (n, r m), and the plan itself, whose thresholds are for these.

    `verdicts` are right or wrong, against a truth of 0 (`losses.right_or_wrong`).
    """

    scores: FloatArray
    labels: IntArray
    verdicts: IntArray
    costs: FloatArray
    plan: Plan | None


def read_rows(rows: Aligned, plan: Plan | None) -> Read:
    """Read rows in each way that a plan does, and turn verdicts into right or wrong."""
    votes, costs = Votes(rows.scores, rows.labels), rows.costs
    if plan is not None:
        votes, costs = plan.read(votes), plan.spread(costs)
    verdicts = right_or_wrong(votes.labels, rows.losses)
    return Read(*votes, verdicts, costs, None if plan is None else plan._replace(readings=(None,)))


def _test_exactly(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    path: Plan | Literal["tierwise"] = "tierwise" if read.plan is None else read.plan
    truth = np.zeros(len(rows.ids), dtype=np.int64)
    return _as_tested(
        certify_rows(Rows(read.scores, read.verdicts, truth, read.costs), protocol.rule_along(path)), plan
    )


def _test_batch(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    assert read.plan is not None, "the configuration refuses tierwise"
    sample = np.arange(len(protocol.roles["certify"]))
    outcome = certify_batch(
        read.scores,
        read.verdicts,
        sample,
        np.zeros(len(sample), dtype=np.int64),
        read.costs,
        protocol.rule_along(read.plan),
        release_human_labels=protocol.release_human_labels,
    )
    return _as_tested(outcome, plan)


def _test_by_betting(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    assert read.plan is not None, "the configuration refuses tierwise"
    lost, rule = verdict_losses(read.labels, rows.losses), protocol.rule_along(read.plan)
    order = _draw_order(protocol, rows.ids)
    return _as_tested(certify_losses(read.scores, read.labels, lost, read.costs, rule, order=order), plan)


def _test_clusters(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    assert protocol.clusters is not None
    assert read.plan is not None, "the configuration refuses tierwise"
    place = {item_id: g for g, ids in enumerate(protocol.clusters.rows) for item_id in ids}
    names, cluster = np.unique([place[item_id] for item_id in rows.ids], return_inverse=True)
    outcome = certify_clusters(
        read.scores,
        read.verdicts,
        np.zeros(len(rows.ids), dtype=np.int64),
        read.costs,
        cluster,
        protocol.rule_along(read.plan),
        largest=protocol.clusters.largest,
        order=_draw_order(protocol, [min(protocol.clusters.rows[g]) for g in names]),
    )
    return _as_tested(outcome, plan)


def _as_tested(outcome: Certified, plan: Plan | None) -> Tested:
    return Tested(outcome.chosen, outcome.coverage_lower, policy_tests(outcome.table, plan))


_TESTS: Mapping[Kind, Callable[[Protocol, Aligned, Plan | None], Tested]] = {
    "exact": _test_exactly,
    "batch": _test_batch,
    "betting": _test_by_betting,
    "clusters": _test_clusters,
}


def _draw_order(protocol: Protocol, names: Sequence[str]) -> IntArray:
    """The order in which rows or clusters are bet on: by a hash of seed and name, so by no label."""
    lots = [digest("order", protocol.seed, name) for name in names]
    return np.array(sorted(range(len(names)), key=lots.__getitem__), dtype=np.int64)


def policy_tests(table: Table, plan: Plan | None, parts: IntArray | None = None) -> tuple[PolicyTest, ...]:
    """The rows of a table as records, each tier once, whichever way the policy reads it.

    `plan` is None for `tierwise`. `parts` tells the sub-path that each policy belongs to, where a table does
    not hold all of the plan's.
    """
    if parts is None:
        sizes = (len(table.accepted),) if plan is None else plan.sizes
        parts = np.repeat(np.arange(len(sizes)), sizes)
    tests = []
    for t, (policy, by_tier) in enumerate(zip(table.policies, table.by_tier, strict=True)):
        reading, tiers = (0, slice(None)) if plan is None else plan.reading_of(policy)
        tests.append(
            PolicyTest(
                thresholds=finite(policy[tiers]),
                accepted=int(table.accepted[t]),
                errors=int(table.errors[t]),
                by_tier=tuple(map(int, by_tier[tiers])),
                cost=float(table.cost[t]),
                p_value=float(table.p_value[t]),
                level=float(table.level[t]),
                rejected=bool(table.rejected[t]),
                part=int(parts[t]),
                pooled=plan is not None and plan.readings[reading] is not None,
                drawn=None if table.drawn is None else int(table.drawn[t]),
                loss=None if table.total is None else float(table.total[t]),
            )
        )
    return tuple(tests)


def finite(thresholds: FloatArray) -> tuple[float | None, ...]:
    """Thresholds as a certificate holds them: None where a tier never accepts."""
    return tuple(float(tau) if np.isfinite(tau) else None for tau in thresholds)
