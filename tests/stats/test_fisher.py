import numpy as np
import pytest
from scipy.stats import fisher_exact

from trustescalate.stats.fisher import fisher_pvalue


@pytest.mark.parametrize(("side", "alternative"), [("both", "two-sided"), ("more", "greater")])
def test_p_values_are_those_of_scipy(side: str, alternative: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        size, rest = (int(n) for n in rng.integers(1, rng.choice([6, 60, 3000]), 2))
        first, second = int(rng.integers(0, size + 1)), int(rng.integers(0, rest + 1))
        table = [[first, size - first], [second, rest - second]]
        wanted = fisher_exact(table, alternative=alternative).pvalue
        given = fisher_pvalue((first, size), (second, rest), side)  # type: ignore[arg-type]
        assert given == pytest.approx(wanted, rel=1e-6, abs=1e-300)


def test_counts_outside_their_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="are no counts"):
        fisher_pvalue((5, 4), (1, 2))
