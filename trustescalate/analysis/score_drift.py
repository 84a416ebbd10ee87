"""Test whether a run's scores differ from those at calibration."""

from collections.abc import Sequence

import numpy as np

from trustescalate.calibration.population import (
    ASKED_ONLY,
    Groups,
    Judged,
    first_of_each,
    first_votes,
    one_of_each,
    tier_reached,
)
from trustescalate.calibration.scoring import Scorer
from trustescalate.records import Judgment, Run, TierShift
from trustescalate.records.policies import Policy, policies_of_rows
from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.shift import score_alarm

ALARM_LEVEL = 0.01
"""A false alarm in one run of a hundred without a shift."""


def score_shift(run: Run, judged: Judged, groups: Groups) -> tuple[TierShift, ...]:
    """Have the scores moved between certification rows and the run? An entry for each tier that is asked.

    On both sides the rows that reach the tier under the certified thresholds, with the share that the first
    prompt gives to its likeliest label: full scores are not known where asking stopped early. One item of
    each group. No label is used.
    """
    certificate = run.header.certificate
    scorer = Scorer.of(certificate)
    if certificate.status == "none" or not run.decisions:
        return ()
    rows = first_of_each(certificate.roles["certify"], groups)
    trusted = zip(rows, policies_of_rows(certificate, rows), strict=True)
    held = {item_id: policy for item_id, policy in trusted if policy is not None}
    if certificate.status == "expected":
        held = dict.fromkeys(rows, Policy((ASKED_ONLY,) * len(certificate.judges), pooled=False))
    reached, taken = tier_reached(certificate, judged, held, scorer), one_of_each(run, groups)
    now = {(row.item_id, row.judge): row for row in run.judgments}
    policies = set(held.values())
    asked = [j for j in range(len(certificate.judges)) if any(p.thresholds[j] is not None for p in policies)]
    before, after = [], []
    for j in asked:
        name = certificate.judges[j].judge
        seen = [
            judged[name][item_id]
            for (item_id, policy), last in zip(held.items(), reached, strict=True)
            if policy.thresholds[j] is not None and j <= last
        ]
        before.append(_tops(scorer, seen))
        after.append(_tops(scorer, [now[item_id, name] for item_id in taken if (item_id, name) in now]))
    alarm = score_alarm(before, after, ALARM_LEVEL)
    return tuple(
        TierShift(
            certificate.judges[j].judge,
            len(before[i]),
            len(after[i]),
            float(alarm.gap[i]),
            float(alarm.p_value[i]),
            bool(alarm.raised[i]),
        )
        for i, j in enumerate(asked)
    )


def _tops(scorer: Scorer, judgments: Sequence[Judgment]) -> FloatArray:
    tops = [scorer.shares(first_votes(scorer.task, row)[None])[0].mean(axis=0).max() for row in judgments]
    return np.array(tops, dtype=np.float64)
