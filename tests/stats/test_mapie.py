"""The same tests by a library that others maintain: p-values, and Holm's correction."""

import numpy as np
import pytest
from scipy.stats import binom

from trustescalate.stats.bounds import binomial_pvalue
from trustescalate.stats.control import binomial_best, own_levels, reject
from trustescalate.stats.shift import score_alarm

methods = pytest.importorskip("mapie.risk_control.methods")
fwer = pytest.importorskip("mapie.risk_control.fwer_control")


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25])
def test_pvalues_are_mapies_where_it_recovers_the_count(alpha: float) -> None:
    """It takes a rate and rebuilds the count by ceil(rate * n), which is one too many for some (k, n)."""
    n, errors = np.tril_indices(400)
    n = n + 1
    rebuilt = np.ceil(n * (errors / n))
    theirs = methods.compute_hoeffding_bentkus_p_value(errors / n, n.astype(float), alpha, binary=True)[:, 0]
    ours = binomial_pvalue(errors, n, alpha)
    low = (errors / n <= alpha) & (rebuilt == errors)
    np.testing.assert_allclose(ours[low], theirs[low], rtol=1e-9)
    assert np.all(rebuilt >= errors)
    off = (errors / n <= alpha) & (rebuilt > errors)
    np.testing.assert_array_less(ours[off], np.minimum(1, binom.cdf(rebuilt[off], n[off], alpha)) + 1e-12)


def test_bonferroni_is_mapies() -> None:
    p = np.random.default_rng(0).random(20) ** 6
    own = own_levels("bonferroni", [np.full(20, 0.5)], (1.0,), 200, 0.1, binomial_best(0.1, 200))
    rejected = reject("bonferroni", [20], p, own).rejected
    assert np.flatnonzero(rejected).tolist() == fwer.control_fwer(p, 0.1, "bonferroni").tolist()


def test_holm_over_tiers_is_mapies() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        before = [rng.random(200) for _ in range(4)]
        after = [rng.random(200) + shift for shift in rng.choice([0.0, 0.08, 0.12, 0.3], size=4)]
        result = score_alarm(before, after, 0.1)
        assert np.flatnonzero(result.raised).tolist() == fwer.control_fwer(result.p_value, 0.1).tolist()
