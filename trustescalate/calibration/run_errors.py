"""Limit the wrong verdicts of one run, where its certificate and its items prove it (`stats.this_run`)."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from trustescalate.data.item_sets import mask_of
from trustescalate.records import Certificate, Run
from trustescalate.records.decisions import placed_decisions
from trustescalate.records.item_columns import ids_of
from trustescalate.records.item_fields import values_of
from trustescalate.records.policies import certified_groups

NO_POLICY = "no policy passed its test"


class RunErrors(NamedTuple):
    """At most `limit` of `released` verdicts on independent items are wrong, or lose so much in all.

    `why` is why nothing is proven of this run alone; empty where a limit is.
    """

    limit: int
    released: int
    why: str = ""


def run_errors(run: Run, level: float) -> RunErrors:
    """Limit the wrong ones among the verdicts of `run.independent`, except with probability delta + `level`.

    An alarm of the shift check (`run.shift`) leaves the limit that rests on alpha alone: labelled rows and
    this run's are then not exchangeable.
    """
    certificate = run.header.certificate
    guarantees = _released_by_alpha(run)
    why = _why_none(run, level, any_released=bool(guarantees))
    if why:
        return RunErrors(0, 0, why)
    shifted = any(tier.raised for tier in run.shift)
    return RunErrors(_limit(certificate, guarantees, level, shifted), sum(guarantees.values()))


def _why_none(run: Run, level: float, *, any_released: bool) -> str:
    certificate = run.header.certificate
    weights = certificate.weighting
    complete = run.header.status == "complete" and len(run.decisions) == run.header.items
    reasons = (
        (run.uncertified, "the run is uncertified"),
        (certificate.status == "none", NO_POLICY),
        (
            certificate.status == "expected",
            "the claim is a mean over runs, and no statement about a single run",
        ),
        (certificate.batch is not None, "the certificate is about the items of the run themselves"),
        (
            certificate.method == "clusters",
            "the certificate is about whole clusters, whose verdicts depend on one another",
        ),
        (
            weights is not None and weights.source == "estimated",
            "the weights of the labelled rows were estimated",
        ),
        (
            not complete,
            "not every item was decided, and the decided ones are no random sample of all",
        ),
        (certificate.delta + level >= 1 - 1e-12, "δ leaves no probability for it"),
        (
            not any_released,
            "no verdict was released on an item that is independent of those that the certificate was "
            "calibrated on",
        ),
    )
    return next((why for holds, why in reasons if holds), "")


def _released_by_alpha(run: Run) -> Mapping[float, int]:
    """Count the released verdicts on independent items by the α of their guarantee."""
    certificate, free = run.header.certificate, mask_of(run.independent, run.items)
    rows = placed_decisions(run)
    released = (place for place, row in rows if row.judge is not None and free[place])
    if certificate.group_by is None:
        return Counter(certificate.alpha for _ in released)
    alphas = {guarantee.value: guarantee.alpha for guarantee in certified_groups(certificate)}
    values, ids = values_of(run.items, certificate.group_by), ids_of(run.items)
    return Counter(alphas[values[ids[place]]] for place in released)


def _limit(certificate: Certificate, guarantees: Mapping[float, int], level: float, shifted: bool) -> int:
    from trustescalate.stats.this_run import policy_weights, run_errors_upper, two_step_loss_upper

    released, alpha = list(guarantees.values()), list(guarantees)
    if certificate.method == "betting":
        return two_step_loss_upper(sum(released), certificate.alpha, level)
    repeated = certificate.attempt is not None and certificate.attempt.number > 1
    # Which policies are tested tier by tier, or again, may depend on these labels.
    alone = certificate.chosen is None or certificate.path == "tierwise" or repeated
    if certificate.chosen is None or alone:
        return run_errors_upper(released, alpha, level)
    if shifted:  # the same part of the level as without an alarm, which must not lower the limit
        return run_errors_upper(released, alpha, level / 2)
    test = certificate.tests[certificate.chosen]
    analyses = 1 if certificate.interim is None else len(certificate.interim.sizes)
    weight = policy_weights([test.part for test in certificate.tests])[certificate.chosen] / analyses
    labelled = test.errors, test.accepted
    return run_errors_upper(released, alpha, level, labelled=labelled, weight=float(weight))
