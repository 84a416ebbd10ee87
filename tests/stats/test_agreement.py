import numpy as np
import pytest
from scipy.stats import t as student_t
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss_kappa

from trustescalate.stats.agreement import (
    agreement_interval,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    leave_one_out_agreement,
    majority,
)
from trustescalate.stats.validity import violation_limit


@pytest.mark.parametrize("c", [2, 3, 5])
def test_kappa_by_its_definition(c: int) -> None:
    rng = np.random.default_rng(c)
    a = rng.integers(c, size=200)
    b = np.where(rng.random(200) < 0.6, a, rng.integers(c, size=200))
    chance = sum(np.mean(a == label) * np.mean(b == label) for label in range(c))
    assert cohen_kappa(a, b, c) == pytest.approx((np.mean(a == b) - chance) / (1 - chance))


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
    assert leave_one_out_agreement(row, who, label, 0.05)[:3] == (4, 6, 3)


def test_ceiling_without_second_opinions_is_none() -> None:
    one = np.arange(5)
    assert leave_one_out_agreement(one, one * 0, one * 0, 0.05) is None
    assert leave_one_out_agreement(one[:0], one[:0], one[:0], 0.05) is None
    with pytest.raises(ValueError, match="length"):
        leave_one_out_agreement(one, one, one[:4], 0.05)


@pytest.mark.parametrize("people", [2, 3, 5])
@pytest.mark.parametrize("n", [20, 80])
def test_ceiling_interval_covers(people: int, n: int) -> None:
    """Everybody says 0 with a row's own probability, so opinions on one row are clustered."""
    rng, trials, delta = np.random.default_rng(people + n), 500, 0.1
    row, who = np.repeat(np.arange(n), people), np.tile(np.arange(people), n)

    def draw(rows: int) -> np.ndarray:
        easy = rng.choice([0.6, 0.95], size=rows)
        return (rng.random((rows, people)) > easy[:, None]).astype(int)

    many = draw(50_000)
    whole = leave_one_out_agreement(
        np.repeat(np.arange(50_000), people), np.tile(np.arange(people), 50_000), many.ravel(), 0.1
    )
    rate = whole.agreements / whole.comparisons
    missed = 0
    for _ in range(trials):
        low, high = leave_one_out_agreement(row, who, draw(n).ravel(), delta).interval
        missed += not low <= rate <= high
    assert missed <= violation_limit(trials, delta)


OPINIONS = """
    1 1 . 1
    2 2 3 2
    3 3 3 3
    3 3 3 3
    2 2 2 2
    1 2 3 4
    4 4 4 4
    1 1 2 1
    2 2 2 2
    . 5 5 5
    . . 1 1
    . . 3 .
"""
"""Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section D: 12 units, 4 observers."""

COEFFICIENTS = {
    "fleiss_kappa": fleiss_kappa,
    "gwet_ac1": gwet_ac1,
    "alpha_nominal": krippendorff_alpha,
    "alpha_ordinal": lambda counts: krippendorff_alpha(counts, "ordinal"),
    "alpha_interval": lambda counts: krippendorff_alpha(counts, "interval"),
}


def textbook() -> np.ndarray:
    """Counts (12, 5) of `OPINIONS`."""
    rows = [[int(x) - 1 for x in line.split() if x != "."] for line in OPINIONS.strip().splitlines()]
    return np.array([np.bincount(row, minlength=5) for row in rows])


def draw(rng: np.random.Generator, n: int, c: int = 3) -> np.ndarray:
    """Three people, easy and hard items, one opinion in ten missing."""
    easy, truth = rng.choice([0.6, 0.95], size=(n, 1)), rng.integers(c, size=(n, 1))
    labels = np.where(rng.random((n, 3)) < easy, truth, rng.integers(c, size=(n, 3)))
    there = rng.random((n, 3)) > 0.1
    return np.stack([((labels == k) & there).sum(axis=1) for k in range(c)], axis=1)


@pytest.mark.parametrize("c", [2, 4])
def test_fleiss_kappa_is_statsmodels(c: int) -> None:
    rng = np.random.default_rng(c)
    counts = rng.multinomial(5, rng.dirichlet(np.ones(c)), size=80)
    assert fleiss_kappa(counts) == pytest.approx(statsmodels_fleiss_kappa(counts))


def test_fleiss_kappa_of_fleiss_own_table() -> None:
    """Fleiss (1971) as in every textbook: 10 subjects, 14 raters, 5 categories, 0.210."""
    counts = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    assert fleiss_kappa(counts) == pytest.approx(0.2099, abs=5e-5)


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorffs_own_table(scale: str, alpha: float) -> None:
    assert krippendorff_alpha(textbook(), scale) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]


def test_ac1_of_the_same_table() -> None:
    """Gwet, Handbook of Inter-Rater Reliability (4th edition), chapter 2: 0.775 with missing opinions."""
    assert gwet_ac1(textbook()) == pytest.approx(0.7754, abs=5e-5)


def test_ac1_of_two_people_by_hand() -> None:
    """Yes-yes 118, no-no 2, 5 apart: agreement .96, chance 2 * .964 * .036; kappa is low, AC1 is not."""
    counts = np.array([[2, 0]] * 118 + [[1, 1]] * 5 + [[0, 2]] * 2)
    assert gwet_ac1(counts) == pytest.approx((0.96 - 2 * 0.964 * 0.036) / (1 - 2 * 0.964 * 0.036))
    assert fleiss_kappa(counts) == pytest.approx(1 - 0.04 / (2 * 0.964 * 0.036))


def test_alpha_by_listing_all_pairs() -> None:
    counts = draw(np.random.default_rng(0), 60, c=4)
    items = [np.repeat(np.arange(4), row) for row in counts if row.sum() >= 2]
    values = np.concatenate(items)
    within = sum(((x[:, None] - x) ** 2).sum() / (len(x) - 1) for x in items)
    overall = ((values[:, None] - values) ** 2).sum() / (len(values) - 1)
    assert krippendorff_alpha(counts, "interval") == pytest.approx(1 - within / overall)


def test_coefficients_are_none_where_nothing_is_beyond_chance() -> None:
    for counts in (np.array([[3, 0], [2, 0]]), np.array([[1, 0], [0, 1]]), np.zeros((0, 2), dtype=int)):
        assert krippendorff_alpha(counts) is None
    assert fleiss_kappa(np.array([[3, 0], [2, 0]])) is None
    assert gwet_ac1(np.array([[1, 0], [0, 1]])) is None
    assert gwet_ac1(np.array([[3], [2]])) is None
    assert gwet_ac1(np.array([[3, 0], [2, 0]])) == 1
    for bad in (np.array([[-1, 2]]), np.array([[0.5, 2]]), np.array([1, 2])):
        with pytest.raises(ValueError, match="counts must"):
            fleiss_kappa(bad)
    with pytest.raises(ValueError, match="scale"):
        krippendorff_alpha(np.array([[1, 2]]), "ratio")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("n", [30, 60])
def test_agreement_intervals_cover(name: str, n: int) -> None:
    rng, trials, delta, missed, result = np.random.default_rng(n), 300, 0.1, 0, 0
    true = COEFFICIENTS[name](draw(rng, 200_000))
    for _ in range(trials):
        interval = agreement_interval(name, draw(rng, n), delta)  # type: ignore[arg-type]
        if interval is not None:
            result += 1
            missed += not interval[0] <= true <= interval[1]
    assert missed <= violation_limit(trials, delta)
    assert result > 0.8 * trials


def test_clustered_agreement_intervals_cover_where_row_wise_ones_do_not() -> None:
    """Five copies of an item are one item."""
    rng, trials, delta = np.random.default_rng(0), 300, 0.1
    true, missed, blind = fleiss_kappa(draw(rng, 200_000)), 0, 0
    for _ in range(trials):
        counts, cluster = np.repeat(draw(rng, 40), 5, axis=0), np.repeat(np.arange(40), 5)
        low, high = agreement_interval("fleiss_kappa", counts, delta, cluster)
        missed += not low <= true <= high
        low, high = agreement_interval("fleiss_kappa", counts, delta)
        blind += not low <= true <= high
    assert missed <= violation_limit(trials, delta) < blind


def test_the_jackknife_by_leaving_out_one_by_one() -> None:
    counts = draw(np.random.default_rng(1), 40)
    left = np.array([gwet_ac1(np.delete(counts, i, axis=0)) for i in range(40)])
    scaled = -np.log(1 - left)
    low, high = agreement_interval("gwet_ac1", counts, 0.1)
    half = (-np.log(1 - high) + np.log(1 - low)) / 2
    error = np.sqrt(39 / 40 * ((scaled - scaled.mean()) ** 2).sum())
    units = int((counts.sum(axis=1) >= 2).sum())
    assert half == pytest.approx(error * student_t.isf(0.05, units - 1))


def test_unanimous_or_few_items_have_no_interval() -> None:
    agreed = np.tile([[3, 0], [0, 3]], (20, 1))
    assert fleiss_kappa(agreed) == 1
    assert agreement_interval("fleiss_kappa", agreed, 0.1) is None
    assert agreement_interval("fleiss_kappa", textbook()[:9], 0.1) is None
    with pytest.raises(ValueError, match="one of"):
        agreement_interval("luck", agreed, 0.1)  # type: ignore[arg-type]
