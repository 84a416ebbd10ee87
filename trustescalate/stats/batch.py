"""Certify a finite batch: N items, n of them drawn at random and labelled; items may arise in any way.

The chance is only in *our own* draw of the rows to label; scores, labels and human labels are fixed. So the
errors among the drawn are hypergeometric, and few other rows leave little to be unsure of. Nothing is said
about items outside the batch: that is `certify`.
"""

from fractions import Fraction

import numpy as np

from trustescalate.stats.bounds import BoolArray, Counts, FloatArray, IntArray
from trustescalate.stats.certify import Certified, Table
from trustescalate.stats.control import BestPvalue, own_levels, reject
from trustescalate.stats.hypergeometric import hypergeometric_cdf
from trustescalate.stats.paths import Plan
from trustescalate.stats.policy import evaluate
from trustescalate.stats.pooling import Rows
from trustescalate.stats.rule import TestRule


def errors_allowed(accepted: Counts, alpha: float) -> IntArray:
    """floor(alpha * accepted), exactly: alpha is the decimal that it prints as, so 0.29 of 100 is 29, not 28.

    Has the shape of `accepted`. Raises ValueError unless 0 < alpha < 1.

    >>> errors_allowed(np.array([0, 9, 100]), 0.29).tolist()
    [0, 2, 29]
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, not {alpha}")
    share = Fraction(repr(float(alpha)))
    whole = np.asarray(accepted, dtype=object) * share.numerator // share.denominator
    return np.asarray(whole, dtype=np.int64)


def batch_pvalue(
    errors: Counts, drawn: Counts, accepted: Counts, alpha: float, *, release_human_labels: bool = False
) -> FloatArray:
    """P-value of "more than alpha * accepted rows are errors", from the errors among the drawn.

    `accepted` rows of the batch, `drawn` of them at random without replacement, `errors` among the drawn:
    integers that broadcast; the result has their shape. With K = errors_allowed + 1 it is P(X <= errors), X
    hypergeometric: `drawn` of `accepted`, K marked. Where nothing was drawn it is 1, and so where nothing is
    accepted: the null is empty there, but there is nothing to certify either. Elsewhere alpha < 1 leaves K <=
    accepted. With `release_human_labels` the drawn rows carry their human labels and only errors among the
    undrawn count, still against alpha * accepted: then K = errors_allowed + 1 + errors, and 0 where that
    exceeds `accepted`, since so many errors are not left. Whether that null is true depends on the draw: P(p
    <= a and it is true) <= a, but a level must not be handed on by this p (see `certify_batch`). Raises
    ValueError unless 0 <= errors <= drawn <= accepted and 0 < alpha < 1.
    Source: the hypergeometric test, Cochran 1977, chapter 3.

    >>> batch_pvalue(np.array([0, 1, 0]), np.array([20, 50, 0]), 100, 0.1).round(4).tolist()
    [0.074, 0.0039, 1.0]
    >>> batch_pvalue(1, 50, 100, 0.1, release_human_labels=True).round(4).tolist()
    0.0019
    """
    k, a, size = _check_counts(errors, drawn, accepted)
    marked = errors_allowed(size, alpha) + 1 + release_human_labels * k
    p = hypergeometric_cdf(k, size, np.minimum(marked, size), a)
    return np.where(size == 0, 1.0, np.where(marked > size, 0.0, p)).astype(np.float64)


def batch_errors_upper(
    errors: Counts, drawn: Counts, accepted: Counts, delta: float | FloatArray
) -> IntArray:
    """Upper limit on the errors among the accepted rows, drawn or not: too low with probability <= delta.

    Counts as in `batch_pvalue`; the result has their shape. It is the largest K with P(X <= errors) > delta,
    X hypergeometric with K marked. Raises ValueError as `batch_pvalue` does, or unless 0 < delta < 1.
    Source: the hypergeometric test turned round, Cochran 1977, chapter 3.

    >>> batch_errors_upper(np.array([0, 2, 0]), np.array([20, 60, 0]), 100, 0.1).tolist()
    [9, 6, 100]
    """
    if not np.all((np.asarray(delta) > 0) & (np.asarray(delta) < 1)):
        raise ValueError(f"delta must lie strictly between 0 and 1, not {delta}")
    k, a, size = _check_counts(errors, drawn, accepted)
    low, high = k.copy(), size - a + k + 1  # possible, and contradicted by the count itself
    while np.any(high - low > 1):
        middle = (low + high) // 2
        possible = hypergeometric_cdf(k, size, np.minimum(middle, size), a) > delta
        low, high = np.where(possible, middle, low), np.where(possible, high, middle)
    return low.astype(np.int64)


def judgments_needed(path: FloatArray, scores: FloatArray, labels: IntArray) -> BoolArray:
    """The judgments (n, m) that decide how many rows each policy of `path` (t, m) accepts.

    A row needs tier j iff under some policy no earlier tier releases it and tier j accepts anything at all.
    Column j depends on the columns before it alone: ask the cheapest judge about all rows, then call again
    before each more expensive one, with label -1 and any finite score where it has not judged yet.
    1e5 rows, 3 tiers, 40 policies: about 0.1 s.

    >>> scores, labels = np.array([[0.9, 0.5], [0.6, 0.8]]), np.array([[0, 1], [1, 0]])
    >>> judgments_needed(np.array([[0.8, 0.8], [0.5, 0.5]]), scores, labels).tolist()
    [[True, False], [True, True]]
    """
    needed = np.zeros(scores.shape, dtype=bool)
    for policy in path:
        open_before = np.ones(len(scores), dtype=bool)
        for j, tau in enumerate(policy):
            if tau < np.inf:
                needed[:, j] |= open_before
                open_before &= (scores[:, j] < tau) | (labels[:, j] < 0)
    return needed


def certify_batch(
    scores: FloatArray,
    labels: IntArray,
    sample: IntArray,
    truth: IntArray,
    costs: FloatArray,
    rule: TestRule[FloatArray | Plan],
    *,
    release_human_labels: bool = False,
) -> Certified:
    """Find the policy to release verdicts on this batch with, P(more than alpha of them are wrong) <= delta.

    `scores`, `labels`, `costs` (N, m) of the whole batch, as in `policy.evaluate`; where `judgments_needed`
    is False the label is -1. `sample` (n,) are the labelled rows, drawn at random; `truth` (n,) their labels
    in that order, -1 where people have no majority. `rule.path` (t, m), strict to lax, was fixed without
    `truth` and `sample`; the batch's own scores may shape it. It may be a `paths.Plan`: each sub-path is
    tested with its share of delta. Without `release_human_labels` every accepted row gets the judges'
    verdict, also the drawn, and at most alpha * accepted of these verdicts are wrong. With it the drawn rows
    carry their human labels, and at most alpha * accepted of the verdicts on the *other* rows are wrong: the
    share is of all answers on accepted rows, people's included. The risk of the judges' verdicts alone is
    then below alpha * accepted / released, not alpha. The probability is over the draw of the sample alone,
    so N, scores and labels may be anything; a sample that is not uniform (the first rows, the hard rows)
    breaks the guarantee. Where testing starts depends on N, n and the accepted of the batch, which do not
    vary with the draw. With `release_human_labels` the levels are those of the stricter test without it:
    handing on what the laxer test passed reaches 1.01 delta. Raises ValueError for unknown names, shapes that
    differ, rows drawn twice, or rates outside (0, 1).
    Source: hypergeometric tests, Cochran 1977, chapter 3, along a path as in `control`.

    >>> scores = np.linspace(1, 0, 200)[:, None]
    >>> labels, truth = np.zeros((200, 1), dtype=int), (np.arange(200) > 120).astype(int)
    >>> sample = np.random.default_rng(0).choice(200, 80, replace=False)
    >>> rule = TestRule(0.1, 0.1, np.linspace(0.9, 0, 10)[:, None])
    >>> found = certify_batch(scores, labels, sample, truth[sample], np.ones((200, 1)), rule)
    >>> found.chosen, found.table.accepted[found.chosen].tolist(), found.errors_upper
    (5, 120, 4)
    """
    _check_sample(sample, truth, len(scores))
    plan, size, alpha = Plan.of(rule.path), len(scores), rule.alpha
    whole = plan.rows(Rows(scores, labels, np.full(size, -1), costs))
    policies = plan.policies
    accepted, _, by_tier, cost = evaluate(policies, *whole)
    drawn, errors, _, _ = evaluate(policies, *whole.take(sample)._replace(truth=truth))
    # What the batch accepts is known, and does not vary with the draw: tests may be placed by it.
    covered = np.split(accepted / max(1, size), np.cumsum(plan.sizes)[:-1])
    own = own_levels(
        rule.procedure, covered, plan.shares, len(sample), rule.delta, _best_pvalue(size, len(sample), alpha)
    )
    strict = batch_pvalue(errors, drawn, accepted, alpha)
    level = reject(rule.procedure, plan.sizes, strict, own).level
    p_value = batch_pvalue(errors, drawn, accepted, alpha, release_human_labels=release_human_labels)
    rejected = (level > 0) & (p_value <= level)
    released = accepted - release_human_labels * drawn
    tests = (p_value, level, rejected)
    table = Table(policies, accepted, errors, by_tier, cost, *tests, drawn=drawn, released=released)
    chosen = rule.choose(rejected, released, cost, size)
    if chosen is None:
        return Certified(None, None, None, table)
    upper = batch_errors_upper(errors[chosen], drawn[chosen], accepted[chosen], level[chosen])
    wrong = int(upper - release_human_labels * errors[chosen])
    return Certified(chosen, policies[chosen], int(accepted[chosen]) / size, table, wrong)


def _best_pvalue(size: int, n: int, alpha: float) -> BestPvalue:
    """The least p-value where as many of the n drawn rows are accepted as of the whole batch."""

    def best(coverage: FloatArray) -> FloatArray:
        accepted = np.rint(coverage * size).astype(np.int64)
        drawn = accepted * n // max(1, size)
        return batch_pvalue(np.zeros_like(drawn), drawn, accepted, alpha)

    return best


def _check_counts(errors: Counts, drawn: Counts, accepted: Counts) -> tuple[IntArray, IntArray, IntArray]:
    counts = [np.asarray(count) for count in (errors, drawn, accepted)]
    if any(count.dtype.kind not in "iu" for count in counts):
        raise ValueError("errors, drawn and accepted must be integers: a count is never rebuilt from a rate")
    k, a, size = np.broadcast_arrays(*(count.astype(np.int64) for count in counts))
    if np.any((k < 0) | (k > a) | (a > size)):
        raise ValueError("counts must satisfy 0 <= errors <= drawn <= accepted")
    return k, a, size


def _check_sample(sample: IntArray, truth: IntArray, size: int) -> None:
    if sample.shape != truth.shape or sample.ndim != 1:
        raise ValueError(f"shapes differ: sample {sample.shape}, truth {truth.shape}")
    if sample.size and (sample.min() < 0 or sample.max() >= size or len(np.unique(sample)) < len(sample)):
        raise ValueError(f"the sample must be distinct rows of 0..{size - 1}")
