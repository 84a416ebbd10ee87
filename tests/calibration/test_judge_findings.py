"""What labelled rows show to be wrong with a judge, and the counts that it rests on."""

import numpy as np
import pytest

from trustescalate.calibration.judge_findings import (
    confusion_matrix,
    draws_alike,
    findings,
    surest_disagreements,
)
from trustescalate.records import Judgment, Vote
from trustescalate.stats.calibration import scores_mislead

LABELS = ("A", "B")


def test_the_confusion_matrix_counts_every_row_once() -> None:
    rng = np.random.default_rng(1)
    verdict, truth = rng.integers(-1, 2, 500), rng.integers(-1, 2, 500)
    matrix = np.array(confusion_matrix(verdict, truth, 2))
    assert matrix.sum() == 500
    for human in (-1, 0, 1):
        for given in (-1, 0, 1):
            assert matrix[human, given] == np.sum((truth == human) & (verdict == given))


def test_a_constant_judge_is_named_where_people_differ() -> None:
    assert findings(LABELS, ((20, 0, 1), (9, 0, 0), (0, 0, 0)), None)[0].startswith("answered 'A' on all 29")
    assert findings(LABELS, ((20, 0, 1), (0, 0, 0), (0, 0, 0)), None) == []  # people did not differ either
    assert findings(LABELS, ((5, 0, 0), (4, 0, 0), (0, 0, 0)), None) == []  # too few rows
    assert findings(LABELS, ((20, 0, 0), (8, 1, 0), (0, 0, 0)), None) == []


def test_scores_that_fall_with_correctness_are_named() -> None:
    confusion = ((30, 10, 0), (10, 30, 0), (0, 0, 0))
    assert "surer where it is wrong (AUROC 0.20)" in findings(LABELS, confusion, 0.2)[0]
    assert findings(LABELS, confusion, 0.48) == []


@pytest.mark.parametrize("right", [20, 60, 200])
def test_validity_scores_without_meaning_are_seldom_called_misleading(right: int) -> None:
    from sklearn.metrics import roc_auc_score

    rng, trials = np.random.default_rng(right), 2000
    correct = np.arange(right + 20) < right
    named = sum(
        scores_mislead(float(roc_auc_score(correct, rng.permutation(correct.size))), right, 20)
        for _ in range(trials)
    )
    assert named <= 0.01 * trials + 3 * (0.01 * trials) ** 0.5


def test_the_surest_disagreements_come_first() -> None:
    score, verdict, truth = np.array([0.6, 0.9, 0.8, 0.99]), np.array([0, 1, 0, 1]), np.array([1, 0, -1, 1])
    rows = surest_disagreements(["p", "q", "r", "s"], score, verdict, truth, verdict == truth, LABELS)
    assert [(one.item_id, one.verdict, one.human, one.score) for one in rows] == [
        ("q", "B", "A", 0.9), ("r", "A", None, 0.8), ("p", "A", "B", 0.6),
    ]  # fmt: skip


def judgment(*draws: str) -> Judgment:
    votes = tuple(
        Vote(0, "AB", {label: 1.0}, channel="samples")
        if label
        else Vote(0, "AB", {}, failure="none", channel="samples")
        for label in draws
    )
    return Judgment("x", "j", "f", votes, len(votes))


def test_draws_that_never_differ_are_said_to_buy_nothing() -> None:
    assert draws_alike([judgment("A", "A", "A")] * 10 + [judgment("B", "")] * 5) == (10, 10)
    assert draws_alike([judgment("A", "B"), judgment("A", "A")]) == (2, 1)
    quiet = ((10, 1, 0), (1, 10, 0), (0, 0, 0))
    assert "samples = 1 costs less" in findings(LABELS, quiet, 0.7, 10, 10)[0]
    assert findings(LABELS, quiet, 0.7, 10, 9) == [] == findings(LABELS, quiet, 0.7, 5, 5)
