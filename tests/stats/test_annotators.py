import numpy as np
import pytest
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests

from trustescalate.stats.annotators import alternative_annotator_test, annotator_report
from trustescalate.stats.validity import violation_limit

Opinions = tuple[np.ndarray, np.ndarray, np.ndarray]


def stated_labels(
    rng: np.random.Generator, rows: int, skill: list[float], judge: float, asked: float = 0.8, c: int = 3
) -> tuple[*Opinions, np.ndarray]:
    """People and a judge who are right with their own probabilities; not everybody is asked each time."""
    truth = rng.integers(c, size=rows)
    row, who = (part.ravel() for part in np.meshgrid(np.arange(rows), np.arange(len(skill)), indexing="ij"))
    labels = np.where(rng.random(row.size) < np.array(skill)[who], truth[row], rng.integers(c, size=row.size))
    kept = rng.random(row.size) < asked
    verdict = np.where(rng.random(rows) < judge, truth, rng.integers(c, size=rows))
    return row[kept], who[kept], labels[kept].astype(float), verdict.astype(float)


@pytest.mark.parametrize("scale", ["nominal", "interval"])
def test_alternative_annotator_test_person_by_person(scale: str) -> None:
    """Row by row, as the paper describes it; t-test by scipy, false discovery rate by statsmodels."""
    row, who, labels, judge = stated_labels(np.random.default_rng(0), 90, [0.9, 0.7, 0.6, 0.5], 0.8)
    judge[:4] = np.nan
    result = alternative_annotator_test(row, who, labels, judge, 0.15, scale=scale)  # type: ignore[arg-type]

    def score(one: float, others: np.ndarray) -> float:
        if scale == "nominal":
            return float(np.mean(others == one))
        return -float(np.sqrt(np.mean((others - one) ** 2)))

    p_values, advantages = [], []
    for person in range(4):
        wins, losses = [], []
        for i in range(4, 90):
            mine, others = labels[(row == i) & (who == person)], labels[(row == i) & (who != person)]
            if mine.size and others.size:
                wins.append(score(judge[i], others) >= score(mine[0], others))
                losses.append(score(mine[0], others) >= score(judge[i], others))
        assert result.rows[person] == len(wins)
        advantages.append(np.mean(wins))
        p_values.append(ttest_1samp(np.array(losses, float) - wins, 0.15, alternative="less").pvalue)
    np.testing.assert_allclose(result.advantage, advantages)
    np.testing.assert_allclose(result.p_value, p_values)
    beaten = multipletests(p_values, 0.05, method="fdr_by")[0]
    assert result.beaten.tolist() == beaten.tolist()
    assert result.winning_rate == beaten.mean()
    assert result.mean_advantage == pytest.approx(np.mean(advantages))
    assert result.passes == (beaten.mean() >= 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_false_discoveries_are_cut_as_by_statsmodels(seed: int) -> None:
    row, who, labels, judge = stated_labels(
        np.random.default_rng(seed), 60, [0.8, 0.7, 0.7, 0.6, 0.6], 0.7, 1.0
    )
    result = alternative_annotator_test(row, who, labels, judge, 0.1, q=0.2)
    assert result.beaten.tolist() == multipletests(result.p_value, 0.2, method="fdr_by")[0].tolist()


def test_a_person_of_equal_skill_is_seldom_beaten_without_a_bonus() -> None:
    """epsilon = 0, judge and people alike: every null is true, at its edge."""
    rng, trials, wrong = np.random.default_rng(1), 300, 0
    for _ in range(trials):
        result = alternative_annotator_test(*stated_labels(rng, 60, [0.7, 0.7, 0.7], 0.7, 1.0), 0.0, q=0.1)
        wrong += result.beaten.any()
    assert wrong <= violation_limit(trials, 0.1)


def test_a_bonus_lets_an_equal_judge_pass() -> None:
    rng = np.random.default_rng(2)
    drawn = stated_labels(rng, 300, [0.7, 0.7, 0.7], 0.7, 1.0)
    assert alternative_annotator_test(*drawn, 0.2).passes
    assert not alternative_annotator_test(*drawn, 0.0).passes


def test_people_with_few_rows_are_left_out() -> None:
    row, who, labels, judge = stated_labels(np.random.default_rng(0), 60, [0.8, 0.8, 0.8], 0.8, 1.0)
    few = (who != 2) | (row < 29)
    assert alternative_annotator_test(row[few], who[few], labels[few], judge, 0.1).annotator.tolist() == [
        0,
        1,
    ]
    assert alternative_annotator_test(row[:60], who[:60], labels[:60], judge, 0.1) is None
    alone = who == 1
    assert alternative_annotator_test(row[alone], who[alone], labels[alone], judge, 0.1) is None


def test_no_difference_at_all_is_less_than_a_bonus() -> None:
    """Judge and people always say the same: no spread, and no loss; without a bonus, no gain either."""
    row, who, labels, judge = stated_labels(np.random.default_rng(0), 40, [1.0, 1.0], 1.0, 1.0)
    assert alternative_annotator_test(row, who, labels, judge, 0.1).p_value.tolist() == [0, 0]
    assert alternative_annotator_test(row, who, labels, judge, 0.0).p_value.tolist() == [1, 1]


def test_report_by_hand() -> None:
    """Row 0: A A B; row 1: A tie from 4 and 9, B from 6; row 2: 4 alone."""
    row = np.array([0, 0, 0, 1, 1, 1, 2])
    who = np.array([4, 6, 9, 4, 6, 9, 4])
    label = np.array([0, 0, 1, 2, 1, 2, 0])
    result = annotator_report(row, who, label)
    assert result.annotator.tolist() == [4, 6, 9]
    assert result.annotations.tolist() == [3, 2, 2]
    assert result.agreements.tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert result.comparisons.tolist() == [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
    none = annotator_report(row[:0], who[:0], label[:0])
    assert none.agreements.shape == (0, 0)


def test_wrong_input_is_refused() -> None:
    row, who, labels, judge = stated_labels(np.random.default_rng(0), 40, [0.8, 0.8], 0.8)
    for call in (
        lambda: alternative_annotator_test(row[1:], who, labels, judge, 0.1),
        lambda: alternative_annotator_test(row, who, labels, judge[:-1], 0.1),
        lambda: alternative_annotator_test(row, who, labels, judge, 0.1, q=0.0),
        lambda: annotator_report(row, who[1:], row),
        lambda: annotator_report(row, who, -row),
    ):
        with pytest.raises(ValueError, match="must"):
            call()
