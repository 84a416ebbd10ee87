"""The guarantees of several criteria hold at once, whatever joins the errors on one item.

The worst case: verdicts on every criterion are wrong barely more often than alpha, all scores are alike, and
errors on the criteria of an item exclude one another, so that the chances of a wrong certificate add up.
"""

import numpy as np

from trustescalate.stats.certify import certify
from trustescalate.stats.groups import certify_groups
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import common_path
from trustescalate.stats.validity import violation_limit

ALPHA, DELTA, ITEMS, CRITERIA, TRIALS = 0.2, 0.1, 98, 5, 400
PLAN = Plan.laid_out((common_path(None, 1),), (1.0,), None)


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, verdicts, labels and criteria of the rows: one of each criterion for each item."""
    place = (rng.random(ITEMS)[:, None] + np.arange(CRITERIA) / CRITERIA) % 1
    wrong = (place < 1.001 * ALPHA).ravel()
    rows = ITEMS * CRITERIA
    labels = np.zeros((rows, 1), dtype=np.int64)
    return np.full((rows, 1), 0.99), labels, wrong.astype(np.int64), np.tile(np.arange(CRITERIA), ITEMS)


def together(rng: np.random.Generator) -> bool:
    scores, verdicts, truth, criterion = drawn(rng)
    outcome = certify_groups(
        scores,
        verdicts,
        truth,
        np.zeros(scores.shape),
        criterion,
        alpha=np.full(CRITERIA, ALPHA),
        delta=DELTA,
        paths=[PLAN] * CRITERIA,
    )
    return any(one.chosen is not None for one in outcome.groups)


def each_at_all_of_delta(rng: np.random.Generator) -> bool:
    scores, verdicts, truth, criterion = drawn(rng)
    return any(
        certify(
            scores[criterion == one],
            verdicts[criterion == one],
            truth[criterion == one],
            np.zeros((ITEMS, 1)),
            alpha=ALPHA,
            delta=DELTA,
            path=PLAN,
        ).chosen
        is not None
        for one in range(CRITERIA)
    )


def test_all_criteria_hold_at_once() -> None:
    rng = np.random.default_rng(0)
    broken = sum(together(rng) for _ in range(TRIALS))
    assert broken <= violation_limit(TRIALS, DELTA)
    assert broken > 0  # the world is close enough to alpha for a wrong test to show


def test_canary_all_of_delta_for_each_criterion() -> None:
    rng = np.random.default_rng(0)
    broken = sum(each_at_all_of_delta(rng) for _ in range(TRIALS))
    assert broken > violation_limit(TRIALS, DELTA)
