"""From aligned rows to tested policies: each kind of test behind one signature, and the one that is due.

A test reads votes by the path, looks up what each verdict loses against people, and hands both to `stats`.
Nothing here decides what people meant (`estimand`) or which rows are tested (`selection`).
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
from trustescalate.stats.certify import Certified, Table, certify
from trustescalate.stats.clusters import certify_clusters
from trustescalate.stats.losses import certify_losses
from trustescalate.stats.paths import Plan
from trustescalate.stats.pooling import Votes


class Tested(NamedTuple):
    """What the tests say, whatever their kind."""

    chosen: int | None
    coverage_lower: float | None
    tests: tuple[PolicyTest, ...]

    @property
    def thresholds(self) -> tuple[float | None, ...] | None:
        """Those of the chosen test; for `tierwise` that of the last tier holds those of all."""
        return None if self.chosen is None else self.tests[self.chosen].thresholds


Kind: TypeAlias = Literal["exact", "batch", "betting", "clusters"]


def kind_of(protocol: Protocol) -> Kind:
    """Which test a protocol calls for: fixed before a label is read."""
    if protocol.claim == "batch":
        return "batch"
    if protocol.clusters is not None:
        return "clusters"
    return "exact" if is_binary(protocol.task, protocol.reference) else "betting"


def run_test(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    """Test every policy of a plan, None for `tierwise`, on the certification rows, in a batch on all of it.

    The first rows of a batch are those that people labelled. Raises ValueError as the functions of `stats`
    that it calls do: the configuration lets nothing through that they refuse.
    """
    return _TESTS[kind_of(protocol)](protocol, rows, plan)


class Read(NamedTuple):
    """Rows as a plan reads them (n, r m), and the plan itself, whose thresholds are for these.

    `verdicts` are right or wrong, against a truth of 0 (`estimand.right_or_wrong`).
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


def _exact(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    found = certify(
        read.scores,
        read.verdicts,
        np.zeros(len(rows.ids), dtype=np.int64),
        read.costs,
        alpha=protocol.alpha,
        delta=protocol.level,
        path="tierwise" if read.plan is None else read.plan,
        procedure=protocol.procedure,
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
    )
    return _tested(found, plan)


def _on_batch(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    assert read.plan is not None, "the configuration refuses tierwise"
    sample = np.arange(len(protocol.roles["certify"]))
    found = certify_batch(
        read.scores,
        read.verdicts,
        sample,
        np.zeros(len(sample), dtype=np.int64),
        read.costs,
        alpha=protocol.alpha,
        delta=protocol.level,
        path=read.plan,
        procedure=protocol.procedure,
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
        release_human_labels=protocol.release_human_labels,
    )
    return _tested(found, plan)


def _by_betting(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    assert read.plan is not None, "the configuration refuses tierwise"
    found = certify_losses(
        read.scores,
        read.labels,
        verdict_losses(read.labels, rows.losses),
        read.costs,
        alpha=protocol.alpha,
        delta=protocol.level,
        path=read.plan,
        order=_order(protocol, rows.ids),
        procedure=protocol.procedure,
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
    )
    return _tested(found, plan)


def _on_clusters(protocol: Protocol, rows: Aligned, plan: Plan | None) -> Tested:
    read = read_rows(rows, plan)
    assert protocol.clusters is not None
    assert read.plan is not None, "the configuration refuses tierwise"
    place = {item_id: g for g, ids in enumerate(protocol.clusters.rows) for item_id in ids}
    names, cluster = np.unique([place[item_id] for item_id in rows.ids], return_inverse=True)
    found = certify_clusters(
        read.scores,
        read.verdicts,
        np.zeros(len(rows.ids), dtype=np.int64),
        read.costs,
        cluster,
        alpha=protocol.alpha,
        delta=protocol.level,
        path=read.plan,
        largest=protocol.clusters.largest,
        order=_order(protocol, [min(protocol.clusters.rows[g]) for g in names]),
        procedure=protocol.procedure,
        prefer=protocol.prefer,
        abstention_price=protocol.abstention_price,
    )
    return _tested(found, plan)


def _tested(found: Certified, plan: Plan | None) -> Tested:
    return Tested(found.chosen, found.coverage_lower, policy_tests(found.table, plan))


_TESTS: Mapping[Kind, Callable[[Protocol, Aligned, Plan | None], Tested]] = {
    "exact": _exact,
    "batch": _on_batch,
    "betting": _by_betting,
    "clusters": _on_clusters,
}


def _order(protocol: Protocol, names: Sequence[str]) -> IntArray:
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
    found = []
    for t, (policy, by_tier) in enumerate(zip(table.policies, table.by_tier, strict=True)):
        reading, tiers = (0, slice(None)) if plan is None else plan.reading_of(policy)
        found.append(
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
    return tuple(found)


def finite(thresholds: FloatArray) -> tuple[float | None, ...]:
    """Thresholds as a certificate holds them: None where a tier never accepts."""
    return tuple(float(tau) if np.isfinite(tau) else None for tau in thresholds)
