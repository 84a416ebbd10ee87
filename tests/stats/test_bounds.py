import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from trustescalate.stats.bounds import (
    binomial_pvalue,
    clopper_pearson_interval,
    clopper_pearson_lower,
    clopper_pearson_upper,
)

RATES = np.linspace(0.01, 0.99, 33)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.15, 0.2, 0.5])
def test_pvalues_are_scipys_for_all_counts_up_to_sixty(alpha: float) -> None:
    errors, n = np.tril_indices(61)[::-1]
    expected = np.where(n == 0, 1.0, binom.cdf(errors, n, alpha))
    np.testing.assert_allclose(binomial_pvalue(errors, n, alpha), expected, rtol=1e-12)


def test_nothing_tested_is_no_evidence() -> None:
    assert binomial_pvalue(0, 0, 0.1) == 1
    assert clopper_pearson_upper(0, 0, 0.1) == 1
    assert clopper_pearson_lower(0, 0, 0.1) == 0
    assert clopper_pearson_interval(0, 0, 0.1) == (0.0, 1.0)


def test_limits_at_the_edges() -> None:
    assert clopper_pearson_upper(7, 7, 0.1) == 1
    assert clopper_pearson_lower(0, 7, 0.1) == 0
    assert clopper_pearson_lower(7, 7, 0.1) == pytest.approx(0.1 ** (1 / 7))
    assert clopper_pearson_upper(0, 7, 0.1) == pytest.approx(1 - 0.1 ** (1 / 7))


def test_interval_is_statsmodels() -> None:
    for errors, n in [(0, 5), (1, 5), (8, 10), (50, 300), (300, 300)]:
        expected = proportion_confint(errors, n, alpha=0.05, method="beta")
        assert clopper_pearson_interval(errors, n, 0.05) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2, 17, 60])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.3])
def test_limits_miss_with_probability_at_most_delta(n: int, delta: float) -> None:
    counts = np.arange(n + 1)
    probability = binom.pmf(counts[:, None], n, RATES)
    upper, lower = clopper_pearson_upper(counts, n, delta), clopper_pearson_lower(counts, n, delta)
    for misses in (upper[:, None] < RATES, lower[:, None] > RATES):
        assert np.all((probability * misses).sum(axis=0) <= delta + 1e-12)


def test_test_form_and_bound_form_agree() -> None:
    errors, n = np.tril_indices(61)[::-1]
    passes = binomial_pvalue(errors, n, 0.1) <= 0.05
    np.testing.assert_array_equal(passes, clopper_pearson_upper(errors, n, 0.05) <= 0.1)


@pytest.mark.parametrize("counts", [(-1, 3), (4, 3), (1.0, 3), (1, 3.0), (np.nan, 3)])
def test_counts_that_are_no_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="errors"):
        binomial_pvalue(*counts, 0.1)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_rates_outside_zero_one_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="alpha must"):
        binomial_pvalue(1, 3, rate)
    with pytest.raises(ValueError, match="delta must"):
        clopper_pearson_upper(1, 3, rate)
