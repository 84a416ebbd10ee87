"""The hypergeometric distribution function: exact in fractions, and SciPy's."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from trustescalate.stats.hypergeometric import hypergeometric_cdf


@given(st.integers(0, 40), st.data())
def test_it_is_the_sum_of_exact_terms(size: int, data: st.DataObject) -> None:
    marked, drawn = data.draw(st.integers(0, size)), data.draw(st.integers(0, size))
    count = data.draw(st.integers(-1, size + 1))
    ways = sum(comb(marked, x) * comb(size - marked, drawn - x) for x in range(min(count, drawn) + 1))
    exact = float(Fraction(ways, comb(size, drawn)))
    assert hypergeometric_cdf(count, size, marked, drawn) == pytest.approx(exact, rel=1e-12, abs=0)


def test_it_is_that_of_scipy_for_a_million_rows() -> None:
    rng = np.random.default_rng(0)
    size = rng.integers(1, 1_000_000, 300)
    drawn, marked = rng.integers(0, np.minimum(size, 2000) + 1), rng.integers(0, size + 1)
    count = hypergeom.ppf(rng.uniform(1e-6, 1, 300), size, marked, drawn).astype(int)
    ours, theirs = hypergeometric_cdf(count, size, marked, drawn), hypergeom.cdf(count, size, marked, drawn)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize(("marked", "drawn"), [(-1, 2), (2, 6), (6, 2)])
def test_other_counts_are_refused(marked: int, drawn: int) -> None:
    with pytest.raises(ValueError, match="no counts"):
        hypergeometric_cdf(1, 5, marked, drawn)
