"""Fisher's exact test of two counts, as `scipy.stats.fisher_exact`, whose import alone takes a second."""

from typing import Literal

from trustescalate.stats.hypergeometric import hypergeometric_terms

TIED = 1e-7
"""Tables are as likely as the observed one up to this relative error, as in SciPy."""


def fisher_pvalue(
    first: tuple[int, int], second: tuple[int, int], side: Literal["both", "more"] = "both"
) -> float:
    """The p-value of two samples (count, size) whose shares are equal; "more": against more in the first.

    Two-sided, it sums all tables of these margins that are at most as likely as the observed one. Raises
    ValueError for counts outside their sizes. Source: Fisher 1935.

    >>> round(fisher_pvalue((8, 100), (5, 60)), 3), round(fisher_pvalue((8, 100), (0, 60), "more"), 3)
    (1.0, 0.021)
    """
    (count, size), (other, rest) = first, second
    if not (0 <= count <= size and 0 <= other <= rest):
        raise ValueError(f"{count} of {size} and {other} of {rest} are no counts")
    least, p = hypergeometric_terms(size + rest, size, count + other)
    counted = p[count - least :] if side == "more" else p[p <= p[count - least] * (1 + TIED)]
    return min(1.0, float(counted.sum()))
