"""Detect judge drift and population drift from labels that keep coming, by e-processes.

The evidence may be examined after every label, and acted on at any time: the chance that an e-process ever
reaches 1 / level is at most `level` under its null. There are two, and neither is the other's negation.
"above" rejects risk <= alpha: the alarm. "below" rejects risk >= alpha: a certificate at a number of labels
that was not fixed beforehand.
"""

import math
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from scipy.special import betainc, betaln

from trustescalate.stats.bounds import BoolArray, Counts, FloatArray
from trustescalate.stats.fisher import fisher_pvalue

Side: TypeAlias = Literal["above", "below"]
Verdict: TypeAlias = Literal["none", "judge", "population"]

TINY = 1e-290
"""Below this, an incomplete beta function is summed as a series in its logarithm, not looked up."""


class Drift(NamedTuple):
    """`verdict`; for both processes the log of the highest evidence, and the label (from 1) of the alarm."""

    verdict: Verdict
    anchor_evidence: float
    audit_evidence: float
    anchor_alarm: int | None
    audit_alarm: int | None


def log_evidence(
    errors: Counts, n: Counts, alpha: float, side: Side, prior: tuple[float, float] | None = None
) -> FloatArray:
    """The log of the e-process after n labels with that many errors; integers that broadcast.

    The likelihood ratio of risk r against alpha, averaged over r by a Beta(a, b) `prior` cut to one side of
    alpha. "below": r in [0, alpha], B_alpha(a + k, b + n - k) / (B_alpha(a, b) alpha^k (1 - alpha)^(n - k))
    with B_alpha the lower incomplete beta function; its null is risk >= alpha, so that reaching 1 / level
    shows risk < alpha. "above": r in [alpha, 1], the upper function in its place; its null is risk <= alpha.
    The default prior is uniform "below", and of mean 2 alpha "above", where a risk that doubled is found in
    a quarter fewer labels than with a uniform one. Under the null a supermartingale that starts at 1, as long
    as, given all labels before it, each is an error with a probability on the null's side. Stable up to 1e6
    labels and beyond. Raises ValueError unless
    0 <= errors <= n, 0 < alpha < 1, a and b are positive. Ville (1939); Robbins (1970).

    >>> log_evidence(np.array([0, 0, 9]), np.array([0, 45, 45]), 0.1, "below").round(2).tolist()
    [0.0, 3.21, -1.88]
    >>> errors, n = np.array([5, 12, 200_000]), np.array([45, 45, 1_000_000])
    >>> log_evidence(errors, n, 0.1, "above").round(1).tolist()
    [-1.2, 4.1, 44397.2]
    """
    k, n = np.broadcast_arrays(np.asarray(errors), np.asarray(n))
    if k.dtype.kind not in "iu" or n.dtype.kind not in "iu" or np.any((k < 0) | (k > n)):
        raise ValueError("errors and n must be integers with 0 <= errors <= n")
    a, b = _default_prior(alpha, side) if prior is None else prior
    if not 0 < alpha < 1 or min(a, b) <= 0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, the prior be positive: {alpha}, {prior}")
    if side not in get_args(Side):
        raise ValueError(f"side must be one of {', '.join(get_args(Side))}, not {side!r}")
    right, edge = n - k, np.log(alpha) * k + np.log1p(-alpha) * (n - k)
    if side == "above":
        a, b, k, right, alpha = b, a, right, k, 1 - alpha
    ratio = _log_incomplete_beta(a + k, b + right, alpha) - _log_incomplete_beta(a, b, alpha)
    return np.asarray(ratio - edge, dtype=np.float64)


def evidence_path(
    error: BoolArray, alpha: float, side: Side, prior: tuple[float, float] | None = None
) -> FloatArray:
    """The log of the e-process (n,) after each label; `error` (n,) in the order of labelling.

    Raises ValueError as `log_evidence` does, or unless `error` holds booleans.

    >>> evidence_path(np.array([False, True, True]), 0.1, "above").round(2).tolist()
    [-0.22, 0.69, 1.84]
    """
    if error.dtype != np.bool_ or error.ndim != 1:
        raise ValueError("error must be an array (n,) of booleans")
    return log_evidence(np.cumsum(error), np.arange(1, len(error) + 1), alpha, side, prior)


def drift(
    anchors: BoolArray, audits: BoolArray, alpha: float, level: float, anchor_risk: float | None = None
) -> Drift:
    """Two alarms at level / 2 each: has the judge changed, has the population?

    `anchors`: errors of the live judge on old labelled items, drawn at random *with replacement* and judged
    again; their null is risk <= `anchor_risk`, what the judge's risk on them was known to be (by default
    alpha). `audits`: errors among verdicts released in production, drawn at random; null: risk <= alpha. Both
    in the order of labelling. The anchors' alarm says "judge", whatever the audits say: a changed judge
    raises both, and until it is fixed nothing can be said about the population. The audits' alone says
    "population". P(any alarm, ever) <= level if neither changed. No alarm is not a proof that all is well:
    that is "below". Raises ValueError as `evidence_path` does, or for a level outside (0, 1).
    Source: Ville's inequality for each watch, Ville 1939, and Bonferroni over the two.

    >>> rng = np.random.default_rng(0)
    >>> found = drift(rng.random(300) < 0.08, rng.random(300) < 0.25, alpha=0.1, level=0.1)
    >>> found.verdict, found.anchor_alarm, found.audit_alarm
    ('population', None, 39)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, not {level}")
    judge = evidence_path(anchors, alpha if anchor_risk is None else anchor_risk, "above")
    population = evidence_path(audits, alpha, "above")
    alarms = [_find_crossing(path, -np.log(level / 2)) for path in (judge, population)]
    verdict: Verdict = "none"
    if alarms[0] is not None:
        verdict = "judge"
    elif alarms[1] is not None:
        verdict = "population"
    highest = [float(path.max(initial=0.0)) for path in (judge, population)]
    return Drift(verdict, highest[0], highest[1], alarms[0], alarms[1])


def excess_pvalue(failed: float, n: float, failed_before: float, n_before: float) -> float:
    """The p-value of as many failures or more, if they are no oftener than before: Fisher's exact test.

    Sizes need not be integers (votes divided by votes a row): what failed is rounded down, what failed before
    up. Raises ValueError for counts outside their sizes. Source: Fisher 1935.

    >>> round(excess_pvalue(8, 100, 0, 60), 3), round(excess_pvalue(8, 100, 5, 60), 3)
    (0.021, 0.652)
    """
    if not (0 <= failed <= n and 0 <= failed_before <= n_before):
        raise ValueError(f"{failed:g} of {n:g} and {failed_before:g} of {n_before:g} are no counts")
    now, then = math.floor(failed), math.ceil(failed_before)
    return fisher_pvalue((now, max(round(n), now)), (then, max(round(n_before), then)), "more")


def _default_prior(alpha: float, side: Side) -> tuple[float, float]:
    return (1.0, 0.5 / alpha - 1) if side == "above" and 0 < alpha < 0.25 else (1.0, 1.0)


def _find_crossing(path: FloatArray, height: float) -> int | None:
    crossed = np.flatnonzero(path >= height)
    return int(crossed[0]) + 1 if crossed.size else None


def _log_incomplete_beta(a: FloatArray | float, b: FloatArray | float, x: float) -> FloatArray:
    """The log of the integral of t^(a - 1) (1 - t)^(b - 1) from 0 to x."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    share = np.asarray(betainc(a, b, x), dtype=np.float64)
    far = share < TINY
    result = np.asarray(betaln(a, b) + np.log(np.where(far, 1.0, share)), dtype=np.float64)
    if far.any():
        result = np.where(far, 0.0, result)
        result[far] = _sum_log_series(a[far], b[far], x)
    return result


def _sum_log_series(a: FloatArray, b: FloatArray, x: float) -> FloatArray:
    # x^a (1 - x)^b / a times 1 + x (a + b) / (a + 1) + ..: as far out in the tail, its terms fall.
    total, term, j = np.ones(a.shape), np.ones(a.shape), 0
    while np.any(term > 1e-17 * total):
        term = term * x * (a + b + j) / (a + 1 + j)
        total, j = total + term, j + 1
    return np.asarray(a * np.log(x) + b * np.log1p(-x) - np.log(a) + np.log(total), dtype=np.float64)
