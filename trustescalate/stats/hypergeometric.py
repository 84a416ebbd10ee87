"""The hypergeometric distribution, as `scipy.stats.hypergeom`, whose import alone takes a second."""

import numpy as np

from trustescalate.stats.bounds import Counts, FloatArray


def hypergeometric_cdf(count: Counts, size: Counts, marked: Counts, drawn: Counts) -> FloatArray:
    """P(X <= count), X the marked among `drawn` of `size` rows, of which `marked` are; shapes broadcast.

    Exact but for rounding: it sums the terms by the ratio of each to the one before, so that it takes time in
    proportion to the fewer of `drawn` and `marked`. Raises ValueError unless 0 <= marked, drawn <= size.
    Source: Johnson, Kemp and Kotz 2005, section 6.2.

    >>> hypergeometric_cdf([0, 1, 5], 100, 10, 20).round(4).tolist()
    [0.0951, 0.363, 0.9961]
    """
    shaped = np.broadcast_arrays(*(np.asarray(each, dtype=np.int64) for each in (count, size, marked, drawn)))
    rows = np.array([_cdf(*map(int, each)) for each in zip(*map(np.ravel, shaped), strict=True)])
    return rows.reshape(shaped[0].shape)


def _cdf(count: int, size: int, marked: int, drawn: int) -> float:
    least, terms = hypergeometric_terms(size, marked, drawn)
    if count < least or count >= least + len(terms) - 1:
        return float(count >= least)
    return float(min(1.0, terms[: count - least + 1].sum()))


def hypergeometric_terms(size: int, marked: int, drawn: int) -> tuple[int, FloatArray]:
    """The least count of marked rows among the drawn, and the probability of it and of each larger one.

    Raises ValueError as `hypergeometric_cdf` does.

    >>> least, terms = hypergeometric_terms(5, 4, 3)
    >>> least, terms.round(2).tolist()
    (2, [0.6, 0.4])
    """
    if not (0 <= marked <= size and 0 <= drawn <= size):
        raise ValueError(f"{marked} marked and {drawn} drawn of {size} rows are no counts")
    least = max(0, drawn + marked - size)
    before = np.arange(least, min(drawn, marked), dtype=np.float64)
    ratios = (marked - before) * (drawn - before) / ((before + 1) * (size - marked - drawn + before + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    terms = np.exp(logs - logs.max())
    return least, np.asarray(terms / terms.sum())
