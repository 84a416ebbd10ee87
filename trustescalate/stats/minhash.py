"""Find sets that are nearly the same without comparing each with each: MinHash, banded.

A set is an array of hashes. Some pairs are missed, by chance; every candidate is compared exactly.
"""

import numpy as np
import numpy.typing as npt

BANDS, ROWS = 20, 5
"""A pair of similarity s meets in some band with probability 1 - (1 - s^5)^20: 0.9996 at 0.8, 0.05 at 0.3."""
Hashes = npt.NDArray[np.uint64]


def near_pairs(
    sets: list[Hashes], least: float, rng: np.random.Generator, most: int = 1000
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of sets whose Jaccard similarity is at least `least`; at most `most` of them.

    n sets of different hashes each; empty sets are near to nothing. In a run of candidates that meet in one
    band, each is compared with the first one alone, so the cost grows with n, not with its square. Source:
    Broder (1997), banded as in Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.

    >>> one, other = np.arange(100, dtype=np.uint64), np.arange(5, 100, dtype=np.uint64)
    >>> near_pairs([one, np.arange(500, 600, dtype=np.uint64), other], 0.8, np.random.default_rng(0))
    [(0, 2)]
    """
    factors = rng.integers(1, 2**63, size=BANDS * ROWS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shifts = rng.integers(0, 2**63, size=BANDS * ROWS, dtype=np.uint64)
    first: dict[tuple[int, bytes], int] = {}
    pairs: dict[tuple[int, int], None] = {}
    for j, hashes in enumerate(sets):
        if not len(hashes):
            continue
        # Of a product modulo 2^64 the upper half is mixed well; the lower is not.
        signature = ((hashes[:, None] * factors + shifts) >> np.uint64(32)).min(axis=0).reshape(BANDS, ROWS)
        for band, row in enumerate(signature):
            i = first.setdefault((band, row.tobytes()), j)
            if i != j and (i, j) not in pairs and jaccard(sets[i], hashes) >= least:
                pairs[i, j] = None
                if len(pairs) >= most:
                    return sorted(pairs)
    return sorted(pairs)


def jaccard(a: Hashes, b: Hashes) -> float:
    """The Jaccard similarity of two sets; both must be sets, without repeats.

    0 where both are empty. Source: Jaccard, The distribution of the flora in the alpine zone, 1912.

    >>> jaccard(np.array([1, 2, 3], dtype=np.uint64), np.array([2, 3, 4], dtype=np.uint64))
    0.5
    """
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / max(len(a) + len(b) - shared, 1)
