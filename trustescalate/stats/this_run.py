"""Limit the number of wrong verdicts among those that one run released.

A certificate bounds the risk R of a policy in the population. The errors K among the m verdicts that a run
releases with it vary around m R, so in every other run where R is near alpha they exceed alpha m. Two limits
hold for K, for different reasons, and the smaller of them is given.

Two steps. Unless the certificate is wrong (probability delta), R <= alpha. Given the labelled rows, the
released verdicts of fresh items are wrong independently with probability R, so K exceeds a binomial quantile
at alpha with probability at most `level`. Together: K exceeds it with probability at most delta + level.

Exchangeability. Fix one policy, and the numbers n and m of labelled and of fresh rows that it accepts. Which
n of the n + m rows are the labelled ones is then as good as drawn by lot, so given the errors S among them
all, the errors k among the labelled ones are hypergeometric, and P(HypergeomCDF(k; n + m, S, n) <= level)
<= level. That function falls as S grows; the limit is the largest K for which it is above `level` at
S = k + K. So K exceeds the limit only where it is at most `level` at the true S: with probability at most
`level`, without the certificate's delta. The policy was chosen by looking at the labels, so the limit must
hold for all of them at once: policy t gets `level` times w_t, with weights that sum to 1 and were fixed
before the labels (`policy_weights`).
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import bdtrc

from trustescalate.stats.batch import batch_errors_upper
from trustescalate.stats.bounds import Counts, FloatArray, IntArray
from trustescalate.stats.losses import hoeffding_bentkus_pvalue

LEVEL = 0.05
"""The probability that a limit misses, beyond the delta of the certificate: half for each of the two."""


def run_errors_upper(
    released: IntArray | Sequence[int],
    alpha: FloatArray | Sequence[float],
    level: float = LEVEL,
    *,
    labelled: tuple[int, int] | None = None,
    weight: float = 0.0,
) -> int:
    """Upper limit on the wrong ones among verdicts that a certified cascade released on fresh items.

    `released` (g,) verdicts under guarantees at `alpha` (g,), all of which hold at once with probability at
    least 1 - delta; one of each where there are no groups. `labelled` holds the errors and the accepted among
    the labelled rows of the policy that is used, and `weight` its entry in `policy_weights`: then each limit
    gets half of `level`, and the smaller one is returned. Without them it is the two-step limit alone.
    P(there is a certificate, and more are wrong) <= delta + level, over the draw of the labelled rows and of
    the items. Assumes that the items are independent of one another and of everything that the certificate
    was made from, and come from its population; and that the run decided all of them: one that stopped
    early has released what is easy. Raises ValueError as the functions do that it calls, or unless
    0 <= weight <= 1.

    >>> run_errors_upper([200], [0.15])
    38
    >>> run_errors_upper([200], [0.15], labelled=(10, 200), weight=0.25)
    24
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"a weight must lie between 0 and 1, not {weight}")
    counts, rates = np.asarray(released, dtype=np.int64), np.asarray(alpha, dtype=np.float64)
    if labelled is None or weight == 0:
        return two_step_errors_upper(counts, rates, level)
    direct = exchangeable_errors_upper(*labelled, int(counts.sum()), level / 2 * weight)
    return min(two_step_errors_upper(counts, rates, level / 2), int(direct))


def two_step_errors_upper(released: IntArray, alpha: FloatArray, level: float) -> int:
    """Limit on errors that rests on the guarantee: exceeded with probability <= level where risks <= alpha.

    `released` (g,) verdicts, wrong independently, with probabilities at most `alpha` (g,). With one alpha it
    is the binomial quantile. With several it is that at their mean, and no less than the errors that the
    guarantees allow: from there on a binomial count has the heavier tail. Raises ValueError unless
    `released` are integers >= 0, and alpha and level lie in (0, 1).
    Source: Hoeffding 1956, theorem 4.

    >>> two_step_errors_upper(np.array([200]), np.array([0.1]), 0.05)
    27
    >>> two_step_errors_upper(np.array([150, 50]), np.array([0.05, 0.25]), 0.05)
    27
    """
    _check(released, alpha, level)
    total, allowed = int(released.sum()), float((released * alpha).sum())
    if total == 0:
        return 0
    used = alpha[released > 0]
    if np.all(used == used[0]):
        return _binomial_quantile(level, total, float(used[0]))
    return max(_binomial_quantile(level, total, allowed / total), int(np.ceil(allowed)))


def exchangeable_errors_upper(
    errors: Counts, accepted: Counts, released: Counts, level: float | FloatArray
) -> IntArray:
    """The limit on errors that rests on exchangeability: exceeded with probability at most `level`.

    `errors` among the `accepted` labelled rows of one policy, fixed without them, that releases `released`
    fresh verdicts: integers that broadcast with `level`; the result has their shape. Without labelled rows it
    is all of them.
    Assumes that labelled and fresh rows are exchangeable; they need not be independent. Raises ValueError
    unless 0 <= errors <= accepted, released >= 0 and 0 < level < 1.
    Source: Fisher's exact test turned round; prediction limits of this kind: Thatcher 1964.

    >>> exchangeable_errors_upper(np.array([0, 10, 0]), np.array([100, 200, 0]), 50, 0.05).tolist()
    [2, 6, 50]
    """
    k, n, m = np.broadcast_arrays(np.asarray(errors), np.asarray(accepted), np.asarray(released))
    if np.any(m < 0):
        raise ValueError("released must not be negative")
    return np.asarray(batch_errors_upper(k, n, n + m, level) - k, dtype=np.int64)


def two_step_loss_upper(released: int, alpha: float, level: float) -> int:
    """As `two_step_errors_upper`, for the sum of losses in [0, 1] whose mean is at most alpha.

    It exceeds the limit, an integer, with probability at most `level`: by Hoeffding's and Bentkus's bounds,
    since nothing is known of the losses but their mean. Raises ValueError unless released >= 0, and alpha and
    level lie in (0, 1).
    Source: Hoeffding 1963, theorem 1; Bentkus 2004.

    >>> two_step_loss_upper(200, 0.1, 0.05), two_step_loss_upper(3, 0.1, 0.05)
    (30, 3)
    """
    _check(np.array([released]), np.array([alpha]), level)
    low, high = -1, released  # too likely to be exceeded, and not
    while high - low > 1:
        middle = (low + high) // 2
        gains = np.array([float(released - middle)])  # their mean is at least 1 - alpha
        small = hoeffding_bentkus_pvalue(gains, np.array([released]), 1 - alpha)[0] <= level
        low, high = (low, middle) if small else (middle, high)
    return high


def policy_weights(parts: Sequence[int]) -> FloatArray:
    """Weights (t,) for the policies of a path, which sum to 1, before any label is seen.

    `parts` (t,) is the sub-path of each. Half is shared by all alike; the other half by the last policies of
    the sub-paths, the laxest: where errors are far below alpha, and this limit the smaller one, these
    are the ones that are chosen. Raises ValueError for no policies at all.
    Source: Bonferroni's inequality with weights, Dunn 1961; the weights are this library's.

    >>> policy_weights([0, 0, 0, 1]).tolist()
    [0.125, 0.125, 0.375, 0.375]
    """
    if not len(parts):
        raise ValueError("there are no policies to weigh")
    weights = np.full(len(parts), 0.5 / len(parts))
    last = {part: place for place, part in enumerate(parts)}
    weights[list(last.values())] += 0.5 / len(last)
    return weights


def _binomial_quantile(level: float, n: int, p: float) -> int:
    """The smallest count that a binomial one exceeds with probability at most `level`, but for rounding."""
    low, high = -1, n  # exceeded too often, and not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bdtrc(middle, n, p) <= level * (1 + 1e-12) else (middle, high)
    return high


def _check(released: IntArray, alpha: FloatArray, level: float) -> None:
    if released.dtype.kind not in "iu" or released.shape != alpha.shape or np.any(released < 0):
        raise ValueError("released must be integers >= 0, one for each alpha")
    if not (np.all((alpha > 0) & (alpha < 1)) and 0 < level < 1):
        raise ValueError("alpha and level must lie strictly between 0 and 1")
