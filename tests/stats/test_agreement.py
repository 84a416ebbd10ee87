import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from trustescalate.stats.agreement import cohen_kappa, human_ceiling, majority
from trustescalate.stats.validity import violation_limit


@pytest.mark.parametrize("c", [2, 3, 5])
def test_kappa_is_sklearns(c: int) -> None:
    rng = np.random.default_rng(c)
    a = rng.integers(c, size=200)
    b = np.where(rng.random(200) < 0.6, a, rng.integers(c, size=200))
    assert cohen_kappa(a, b, c) == pytest.approx(cohen_kappa_score(a, b))


def test_kappa_is_none_where_nothing_is_beyond_chance() -> None:
    same = np.zeros(5, dtype=int)
    assert cohen_kappa(same, same, 2) is None
    assert cohen_kappa(same[:0], same[:0], 2) is None
    with pytest.raises(ValueError, match=r"0\.\.1"):
        cohen_kappa(same, same + 2, 2)


def test_majority_needs_a_unique_winner() -> None:
    assert majority(np.array([[0], [2]])).tolist() == [-1, 0]
    assert majority(np.array([[1, 2, 3], [2, 2, 0], [0, 0, 0], [0, 0, 1]])).tolist() == [2, -1, -1, 2]


def test_ceiling_by_hand() -> None:
    """Row 0: A A B. A and A see one A and one B beside them: no majority. B sees A A: disagrees.

    Row 1: A A A, three agreements. Row 2: B alone, nobody to compare with. Row 3: A B, two disagreements.
    """
    row = np.array([0, 0, 0, 1, 1, 1, 2, 3, 3])
    who = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2])
    label = np.array([0, 0, 1, 0, 0, 0, 1, 0, 1])
    assert human_ceiling(row, who, label, 0.05)[:3] == (4, 6, 3)


def test_ceiling_without_second_opinions_is_none() -> None:
    one = np.arange(5)
    assert human_ceiling(one, one * 0, one * 0, 0.05) is None
    assert human_ceiling(one[:0], one[:0], one[:0], 0.05) is None
    with pytest.raises(ValueError, match="length"):
        human_ceiling(one, one, one[:4], 0.05)


@pytest.mark.parametrize("people", [2, 3, 5])
@pytest.mark.parametrize("n", [20, 80])
def test_ceiling_interval_covers(people: int, n: int) -> None:
    """Everybody says 0 with a row's own probability, so opinions on one row hang together."""
    rng, trials, delta = np.random.default_rng(people + n), 500, 0.1
    row, who = np.repeat(np.arange(n), people), np.tile(np.arange(people), n)

    def draw(rows: int) -> np.ndarray:
        easy = rng.choice([0.6, 0.95], size=rows)
        return (rng.random((rows, people)) > easy[:, None]).astype(int)

    many = draw(50_000)
    whole = human_ceiling(
        np.repeat(np.arange(50_000), people), np.tile(np.arange(people), 50_000), many.ravel(), 0.1
    )
    rate = whole.agreements / whole.comparisons
    missed = 0
    for _ in range(trials):
        low, high = human_ceiling(row, who, draw(n).ravel(), delta).interval
        missed += not low <= rate <= high
    assert missed <= violation_limit(trials, delta)
