"""When the answer is no: why, and what would help. Nothing here is part of a test."""

from math import ceil

import numpy as np

from trustescalate.protocol import Aligned, Protocol
from trustescalate.stats.batch import batch_pvalue
from trustescalate.stats.bounds import IntArray
from trustescalate.stats.planning import label_floor, labels_needed
from trustescalate.stats.policy import common_path, evaluate


def refusal(protocol: Protocol, aligned: Aligned, tested: int) -> tuple[str, str]:
    """Why none of `tested` policies may be used, and what would help."""
    if protocol.claim == "batch":
        return _batch_reason(protocol, aligned, tested), _batch_advice(protocol, aligned)
    return _reason(protocol, aligned, tested), _advice(protocol, aligned)


def _reason(protocol: Protocol, aligned: Aligned, tested: int) -> str:
    n, floor = len(aligned.truth), label_floor(protocol.alpha, protocol.delta)
    if n < floor:
        return (
            f"{n} labelled rows cannot certify anything: at alpha = {protocol.alpha:g} and delta = "
            f"{protocol.delta:g} even {floor - 1} rows without one disagreement would not be enough"
        )
    if _spoken(aligned) < floor:
        return f"the judges gave usable verdicts on {_spoken(aligned)} of {n} rows"
    what = "tiers" if protocol.path == "tierwise" else "policies"
    return (
        f"none of {tested} {what} passed its test: on {n} labelled rows, disagreement "
        f"with people could not be shown to be at most {protocol.alpha:g}"
    )


def _advice(protocol: Protocol, aligned: Aligned) -> str:
    floor = label_floor(protocol.alpha, protocol.delta)
    if len(aligned.truth) < floor:
        return f"label at least {floor} rows for certification, better three times as many"
    if _spoken(aligned) < floor:
        return "see the failures by reason below: the judges' replies cannot be read, or they did not answer"
    accepted, errors = _explored(aligned)
    rate = np.where(accepted >= floor, errors / np.maximum(accepted, 1), 1.0)
    best = int(rate.argmin())
    share, observed = accepted[best] / len(aligned.truth), float(rate[best])
    seen = f"{int(errors[best])} of {int(accepted[best])} verdicts disagreed with people"
    if observed >= protocol.alpha:
        return f"at best {seen}: use better judges, clearer instructions, or allow a larger alpha"
    needed = labels_needed(observed, protocol.alpha, protocol.delta)
    if needed is None:
        return f"at best {seen}: too close to alpha for any number of labels"
    return (
        f"at best {seen}; if that rate holds, about {ceil(needed / share)} fresh labelled rows would do. "
        "Labels that were already tested must not be tested again until they pass"
    )


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


def _explored(aligned: Aligned) -> tuple[IntArray, IntArray]:
    """Released rows and errors along a grid, for advice alone: tier by tier nothing may have been tested."""
    seen = evaluate(
        common_path(None, aligned.scores.shape[1]),
        aligned.scores,
        aligned.labels,
        aligned.truth,
        aligned.costs,
    )
    return seen.accepted, seen.errors
