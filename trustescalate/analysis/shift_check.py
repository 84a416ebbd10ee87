"""Test the verdicts and scores of a run for a shift since calibration."""

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from trustescalate.calibration.judged_rows import ASKED_ONLY, first_shares, tier_reached
from trustescalate.calibration.population import Groups, Judged, first_of_each, one_of_each
from trustescalate.calibration.scoring import Scorer
from trustescalate.records import Judgment, Run, TierShift
from trustescalate.records.policies import Policy, policies_of_rows
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.shift import verdict_alarm

ALARM_LEVEL = 0.01
"""The false alarm rate per run without drift."""


def tier_shifts(run: Run, judged: Judged, groups: Groups) -> tuple[TierShift, ...]:
    """Test for a shift of verdicts and scores since calibration, at each tier in use.

    Compares the certification rows and the run's items that reach the tier under the certified thresholds, by
    the shares that the first prompt gives the labels: full scores are unknown after early stopping. One item
    per group; no human label is used.
    """
    certificate = run.header.certificate
    scorer = Scorer.of(certificate)
    if certificate.status == "none" or not run.decisions:
        return ()
    rows = first_of_each(certificate.roles["certify"], groups)
    trusted = zip(rows, policies_of_rows(certificate, rows), strict=True)
    policies = {item_id: policy for item_id, policy in trusted if policy is not None}
    if certificate.status == "expected":
        policies = dict.fromkeys(rows, Policy((ASKED_ONLY,) * len(certificate.judges), pooled=False))
    reached, taken = tier_reached(certificate, judged, policies, scorer), one_of_each(run, groups)
    now = _shares_now(scorer, run, taken)
    distinct = set(policies.values())
    asked = [j for j in range(len(certificate.judges)) if any(p.thresholds[j] is not None for p in distinct)]
    before, after = [], []
    for j in asked:
        name = certificate.judges[j].judge
        seen = [
            judged[name][item_id]
            for (item_id, policy), last in zip(policies.items(), reached, strict=True)
            if policy.thresholds[j] is not None and j <= last
        ]
        before.append(_shares(scorer, seen))
        after.append(_as_rows(scorer, now[name]))
    alarm = verdict_alarm(before, after, ALARM_LEVEL)
    return tuple(
        TierShift(
            certificate.judges[j].judge,
            len(before[i]),
            len(after[i]),
            certificate.task.labels[int(alarm.label[i])],
            (float(alarm.share[i, 0]), float(alarm.share[i, 1])),
            float(alarm.gap[i]),
            float(alarm.p_value[i]),
            bool(alarm.raised[i]),
        )
        for i, j in enumerate(asked)
    )


def _shares_now(scorer: Scorer, run: Run, taken: Collection[str]) -> Mapping[str, Sequence[float]]:
    """The shares of the items `taken` by judge, one item after the other."""
    now: dict[str, array[float]] = defaultdict(lambda: array("d"))
    for row, shares in first_shares(scorer, (row for row in run.judgments if row.item_id in taken)):
        now[row.judge].extend(shares.mean(axis=0).tolist())
    return now


def _shares(scorer: Scorer, judgments: Iterable[Judgment]) -> FloatArray:
    """The mean shares (n, c) that the votes of the first prompt give the labels."""
    means = (shares.mean(axis=0) for _, shares in first_shares(scorer, judgments))
    return _as_rows(scorer, [share for mean in means for share in mean.tolist()])


def _as_rows(scorer: Scorer, shares: Sequence[float]) -> FloatArray:
    return np.asarray(shares, dtype=np.float64).reshape(-1, len(scorer.task.labels))
