import numpy as np
import pytest
from scipy.stats import binom

from trustescalate.stats.bounds import binomial_pvalue
from trustescalate.stats.planning import coverage_ceiling, label_floor, labels_needed, max_errors, power


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("delta", [0.001, 0.05, 0.1, 0.25, 0.5, 0.9])
def test_floor_is_the_first_number_of_rows_that_can_pass(alpha: float, delta: float) -> None:
    n = label_floor(alpha, delta)
    assert binom.cdf(0, n, alpha) <= delta * (1 + 1e-12)
    assert n == 1 or binom.cdf(0, n - 1, alpha) > delta * (1 - 1e-12)


def test_floor_that_everybody_quotes() -> None:
    assert label_floor(0.05, 0.1) == 45


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("delta", [0.01, 0.1, 0.5])
def test_most_errors_by_search(alpha: float, delta: float) -> None:
    n = np.arange(1, 400)
    for rows, most in zip(n, max_errors(n, alpha, delta), strict=True):
        assert most == np.sum(binom.cdf(np.arange(rows + 1), rows, alpha) <= delta) - 1


@pytest.mark.parametrize("n", [20, 50, 133])
def test_most_errors_where_delta_is_met_exactly(n: int) -> None:
    for errors in range(n // 5):
        delta = float(binomial_pvalue(errors, n, 0.1))
        assert max_errors(n, 0.1, delta) == errors
        assert max_errors(n, 0.1, np.nextafter(delta, 0)) == errors - 1


def test_power_is_the_probability_to_pass() -> None:
    rng = np.random.default_rng(0)
    errors = rng.binomial(300, 0.03, size=20_000)
    passed = np.mean(binom.cdf(errors, 300, 0.05) <= 0.1)
    assert power(300, 0.03, 0.05, 0.1) == pytest.approx(passed, abs=0.015)
    assert power(44, 0.0, 0.05, 0.1) == 0
    assert power(45, 0.0, 0.05, 0.1) == 1
    assert power(100, 0.0501, 0.05, 0.1) <= 0.1


def test_power_curves_are_a_grid_of_n_and_risks() -> None:
    n, risks = np.array([30, 60, 300]), np.array([0.0, 0.02, 0.05])
    curves = power(n[:, None], risks, 0.05, 0.1)
    for i, j in np.ndindex(3, 3):
        assert curves[i, j] == power(int(n[i]), float(risks[j]), 0.05, 0.1)
    with pytest.raises(ValueError, match="risk must lie"):
        power(10, np.array([0.1, np.nan]), 0.05, 0.1)


@pytest.mark.parametrize("risk", [0.0, 0.01, 0.03, 0.045])
@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
def test_labels_needed_hold_from_there_on(risk: float, target: float) -> None:
    n = labels_needed(risk, 0.05, 0.1, target)
    assert np.all(power(np.arange(n, 3 * n + 2000), risk, 0.05, 0.1) >= target)
    assert power(n - 1, risk, 0.05, 0.1) < target


def test_what_no_number_of_labels_can_show() -> None:
    assert labels_needed(0.05, 0.05, 0.1) is None
    assert labels_needed(0.2, 0.05, 0.1) is None
    assert labels_needed(0.04999999, 0.05, 0.1) is None


def test_ceiling_on_coverage() -> None:
    assert coverage_ceiling(0.02, 0.05) == 1
    assert coverage_ceiling(1.0, 0.05) == 0
    assert coverage_ceiling(0.24, 0.05) == pytest.approx(0.8)


def test_wrong_rates_are_refused() -> None:
    for call in (
        lambda: label_floor(0.0, 0.1),
        lambda: power(10, 1.5, 0.1, 0.1),
        lambda: coverage_ceiling(-0.1, 0.1),
        lambda: labels_needed(0.01, 0.05, 0.1, 1.0),
    ):
        with pytest.raises(ValueError, match="must lie"):
            call()
