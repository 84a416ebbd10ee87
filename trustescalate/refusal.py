"""When the answer is no: why, and what would help. Nothing here is part of a test."""

from collections.abc import Callable
from math import ceil

import numpy as np

from trustescalate.estimand import is_binary, verdict_losses
from trustescalate.protocol import Aligned, Protocol
from trustescalate.stats.batch import batch_pvalue
from trustescalate.stats.betting import betting_best_pvalue
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.clusters import cluster_pvalue
from trustescalate.stats.losses import evaluate_losses
from trustescalate.stats.planning import label_floor, labels_needed
from trustescalate.stats.policy import common_path

MORE_GROUPS = (
    "label rows of more groups, lower largest_cluster if no group can be so large, or set clusters = "
    '"one_each", which has more power where rows of one group are right or wrong together'
)


def refusal(protocol: Protocol, aligned: Aligned, tested: int) -> tuple[str, str]:
    """Why none of `tested` policies may be used, and what would help."""
    if protocol.claim == "batch":
        return _batch_reason(protocol, aligned, tested), _batch_advice(protocol, aligned)
    advice = _advice(protocol, aligned)
    if protocol.look is not None:
        advice = f"{_next_look(protocol)}; {advice}"
    return _reason(protocol, aligned, tested), advice


def _reason(protocol: Protocol, aligned: Aligned, tested: int) -> str:
    n, floor = len(aligned.truth), _floor(protocol)
    if n < floor:
        return (
            f"{n} labelled rows cannot certify anything: at alpha = {protocol.alpha:g} and delta = "
            f"{protocol.level:g} even {floor - 1} rows without one disagreement would not be enough"
        )
    if _too_few_clusters(protocol, aligned):
        return (
            f"{n} labelled rows in {_clusters(protocol, aligned)} groups cannot certify anything: at alpha = "
            f"{protocol.alpha:g} and delta = {protocol.level:g} not even without one disagreement"
        )
    if _spoken(aligned) < floor:
        return f"the judges gave usable verdicts on {_spoken(aligned)} of {n} rows"
    what = "tiers" if protocol.path == "tierwise" else "policies"
    return (
        f"none of {tested} {what} passed its test: on {n} labelled rows, disagreement "
        f"with people could not be shown to be at most {protocol.alpha:g}"
    )


def _advice(protocol: Protocol, aligned: Aligned) -> str:
    floor = _floor(protocol)
    if len(aligned.truth) < floor:
        return f"label at least {floor} rows for certification, better three times as many"
    if _too_few_clusters(protocol, aligned):
        return MORE_GROUPS
    if _spoken(aligned) < floor:
        return "see the failures by reason below: the judges' replies cannot be read, or they did not answer"
    return _from_what_was_seen(protocol, aligned, floor)


def _from_what_was_seen(protocol: Protocol, aligned: Aligned, floor: int) -> str:
    accepted, lost = _explored(aligned)
    rate = np.where(accepted >= floor, lost / np.maximum(accepted, 1), 1.0)
    best = int(rate.argmin())
    share, observed = accepted[best] / len(aligned.truth), float(rate[best])
    seen = f"{lost[best]:g} of {int(accepted[best])} verdicts disagreed with people"
    if observed >= protocol.alpha:
        return f"at best {seen}: use better judges, clearer instructions, or allow a larger alpha"
    if protocol.clusters is not None:
        return f"at best {seen}: {MORE_GROUPS}"
    needed = labels_needed(observed, protocol.alpha, protocol.level)
    if needed is None:
        return f"at best {seen}: too close to alpha for any number of labels"
    least = "about" if _is_exact(protocol) else "more than"  # betting needs more than counts do
    return (
        f"at best {seen}; if that rate holds, {least} {ceil(needed / share)} fresh labelled rows would do. "
        "A further test of these labels has its own, smaller share of delta"
    )


def _next_look(protocol: Protocol) -> str:
    look = protocol.look
    assert look is not None
    if look.number == len(look.sizes):
        return "this was the last look: begin anew with rows that were never tested"
    rows, size = len(protocol.roles["certify"]), look.sizes[look.number]
    return f"look {look.number + 1} of {len(look.sizes)} takes {size} certification rows, {size - rows} more"


def _is_exact(protocol: Protocol) -> bool:
    return protocol.clusters is None and is_binary(protocol.task, protocol.against)


def _floor(protocol: Protocol) -> int:
    """The fewest rows with which anything could pass; of clusters it is the fewest of these."""
    if _is_exact(protocol):
        return label_floor(protocol.alpha, protocol.level)
    return _fewest(lambda n: betting_best_pvalue(n, protocol.alpha), protocol.level)


def _fewest(best: Callable[[IntArray], FloatArray], level: float) -> int:
    n = 1
    while float(best(np.array([n]))[0]) > level:
        n += 1
    return n


def _clusters(protocol: Protocol, aligned: Aligned) -> int:
    assert protocol.clusters is not None
    known = set(aligned.ids)
    return sum(not known.isdisjoint(rows) for rows in protocol.clusters.rows)


def _too_few_clusters(protocol: Protocol, aligned: Aligned) -> bool:
    """Whether the groups could not pass if every row were released and right."""
    if protocol.clusters is None:
        return False
    known = set(aligned.ids)
    sizes = np.array([len(known.intersection(rows)) for rows in protocol.clusters.rows])
    none = np.zeros_like(sizes)
    return cluster_pvalue(sizes, none, protocol.alpha, protocol.clusters.largest) > protocol.level


def _batch_reason(protocol: Protocol, aligned: Aligned, tested: int) -> str:
    n, size = len(aligned.truth), len(protocol.batch)
    if batch_pvalue(0, n, size, protocol.alpha) > protocol.delta:
        return (
            f"{n} labelled rows of a batch of {size} are too few: at alpha = {protocol.alpha:g} and delta = "
            f"{protocol.delta:g} not even {n} rows without one disagreement would be enough"
        )
    return (
        f"none of {tested} policies passed its test: with {n} of {size} rows labelled, disagreement with "
        f"people on this batch could not be shown to be at most {protocol.alpha:g}"
    )


def _batch_advice(protocol: Protocol, aligned: Aligned) -> str:
    n, size = len(aligned.truth), len(protocol.batch)
    if batch_pvalue(0, n, size, protocol.alpha) > protocol.delta:
        floor = label_floor(protocol.alpha, protocol.delta)
        return (
            f"raise [guarantee] label: about {floor} rows to certify with are the least, better three times"
        )
    if not _spoken(aligned):
        return "see the failures by reason below: the judges' replies cannot be read, or they did not answer"
    return (
        "let people label this batch, or bring better judges to the next one, with more rows to label. "
        "A batch that was tested must not be tested again until it passes"
    )


def _spoken(aligned: Aligned) -> int:
    return int((aligned.labels >= 0).any(axis=1).sum())


def _explored(aligned: Aligned) -> tuple[IntArray, FloatArray]:
    """Released rows and what they lose along a grid, for advice alone: nothing may have been tested so."""
    lost = verdict_losses(aligned.labels, aligned.losses)
    seen = evaluate_losses(
        common_path(None, aligned.scores.shape[1]), aligned.scores, aligned.labels, lost, aligned.costs
    )
    return seen.accepted, seen.total
