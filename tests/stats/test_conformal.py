"""Conformal selection: the mean share of wrong released verdicts, by enumeration and by simulation."""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.bounds import BoolArray, FloatArray
from trustescalate.stats.conformal import fewest_rows, select, select_run
from trustescalate.stats.pooling import Votes
from trustescalate.stats.validity import WORLDS, world

pytestmark = pytest.mark.slow
Rule = Callable[[FloatArray, FloatArray, BoolArray, float], BoolArray]


def released(scores: FloatArray, known: FloatArray, wrong: BoolArray, alpha: float) -> BoolArray:
    return select(scores, known, wrong, alpha).released


def without_the_one(scores: FloatArray, known: FloatArray, wrong: BoolArray, alpha: float) -> BoolArray:
    """The canary: p = wrong rows that score as much / (n + 1)."""
    best = np.zeros(len(scores), dtype=bool)
    for level in np.unique(scores):
        at = scores >= level
        if len(scores) * (known[wrong] >= level).sum() <= alpha * at.sum() * (len(known) + 1):
            return np.asarray(at)
    return best


def by_error_rate(scores: FloatArray, known: FloatArray, wrong: BoolArray, alpha: float) -> BoolArray:
    """Another canary: the laxest threshold at which the labelled rows themselves are wrong often enough."""
    for level in np.unique(known):
        if wrong[known >= level].mean() <= alpha:
            return np.asarray(scores >= level)
    return np.zeros(len(scores), dtype=bool)


def mean_share(scores: FloatArray, wrong: BoolArray, m: int, alpha: float, rule: Rule) -> Fraction:
    """The mean share of wrong released verdicts over every way to split the rows into items and labelled."""
    total, ways = Fraction(0), 0
    for items in combinations(range(len(scores)), m):
        mine = np.isin(np.arange(len(scores)), items)
        result = rule(scores[mine], scores[~mine], wrong[~mine], alpha)
        if result.any():
            total += Fraction(int(wrong[mine][result].sum()), int(result.sum()))
        ways += 1
    return total / ways


ROWS = st.lists(
    st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), st.booleans()), min_size=4, max_size=9
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 4), st.sampled_from([0.1, 0.2, 0.3, 0.5]))
def test_over_all_splits_of_any_rows_the_mean_share_is_at_most_alpha(
    rows: list[tuple[float, bool]], m: int, alpha: float
) -> None:
    """Exact: given the rows, exchangeability means that each split is equally likely."""
    scores, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert mean_share(scores, wrong, min(m, len(rows) - 1), alpha, released) <= Fraction(str(alpha))


def test_the_limit_is_reached_and_the_canaries_are_above_it() -> None:
    scores, wrong = np.linspace(0.5, 1, 10), np.ones(10, dtype=bool)
    assert mean_share(scores, wrong, 1, 0.1, released) == Fraction(1, 10)
    assert mean_share(scores, wrong, 2, 0.2, without_the_one) > Fraction(1, 5)
    half = np.arange(10) % 2 == 0
    assert mean_share(scores, half, 4, 0.3, by_error_rate) > Fraction(3, 10)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.4]))
def test_over_all_splits_pooled_judges_keep_the_limit_too(seed: int, alpha: float) -> None:
    """The weights come from items and labelled rows together, so pooling breaks no symmetry."""
    rng = np.random.default_rng(seed)
    n, m = 5, 3
    scores, labels = rng.choice([0.6, 0.8, 0.95], (n + m, 2)), rng.integers(-1, 2, (n + m, 2))
    right = np.eye(2, dtype=bool)[rng.integers(2, size=n + m)]
    total, ways = 0.0, 0
    for items in combinations(range(n + m), m):
        mine = np.isin(np.arange(n + m), items)
        run, known = Votes(scores[mine], labels[mine]), Votes(scores[~mine], labels[~mine])
        result = select_run(run, known, right[~mine], alpha)
        out, label = result.selected.released, result.read.labels[:, -1]
        assert (label[out] >= 0).all()
        total += (~right[mine][out, label[out]]).mean() if out.any() else 0.0
        ways += 1
    assert total / ways <= alpha + 1e-12


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 30), st.sampled_from([0.05, 0.1, 0.29, 0.5]))
def test_it_is_benjamini_hochberg_on_the_p_values(seed: int, n: int, m: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    scores, known = rng.choice(np.linspace(0.5, 1, 8), m), rng.choice(np.linspace(0.5, 1, 8), n)
    wrong = rng.random(n) < 0.2
    p = [Fraction(1 + int(((known >= s) & wrong).sum()), n + 1) for s in scores]
    ranked = sorted(p)
    passed = [k for k in range(1, m + 1) if ranked[k - 1] <= Fraction(str(alpha)) * k / m]
    limit = ranked[passed[-1] - 1] if passed else Fraction(-1)
    result = select(scores, known, wrong, alpha)
    assert result.released.tolist() == [each <= limit for each in p]
    if result.threshold is not None:
        assert (result.accepted, result.wrong) == (
            int((known >= result.threshold).sum()),
            int((known[wrong] >= result.threshold).sum()),
        )


def simulated(rule: Rule, n: int, m: int, alpha: float, trials: int, seed: int) -> FloatArray:
    """Shares of wrong verdicts among the released, if one with score s is wrong with chance (1 - s) / 1.5."""
    rng, shares = np.random.default_rng(seed), np.zeros(trials)
    for trial in range(trials):
        scores = rng.random(n + m)
        wrong = rng.random(n + m) < (1 - scores) / 1.5
        result = rule(scores[n:], scores[:n], wrong[:n], alpha)
        shares[trial] = wrong[n:][result].mean() if result.any() else 0.0
    return shares


def upper_slack(shares: FloatArray, tail: float = 1e-6) -> float:
    """By so much a mean of draws in [0, 1] exceeds its expectation with probability at most `tail`.

    Maurer and Pontil 2009: an empirical Bernstein bound.
    """
    t, log = len(shares), np.log(2 / tail)
    return float(np.sqrt(2 * shares.var(ddof=1) * log / t) + 7 * log / (3 * (t - 1)))


def test_the_mean_share_is_at_most_alpha_and_single_runs_are_above_it_about_half_of_the_time() -> None:
    shares = simulated(released, 100, 300, 0.1, 10_000, seed=1)
    assert 0.08 < shares.mean() <= 0.1 + upper_slack(shares)
    assert 0.35 < (shares > 0.1).mean() < 0.55
    assert np.quantile(shares, 0.95) > 0.18  # one run says little


def test_the_canaries_are_above_alpha_in_the_mean() -> None:
    for rule in (without_the_one, by_error_rate):
        shares = simulated(rule, 30, 100, 0.1, 6_000, seed=2)
        assert shares.mean() > 0.1 + upper_slack(shares)


@pytest.mark.parametrize("name", WORLDS)
def test_the_mean_share_in_every_world(name: str) -> None:
    alpha, n, m, trials = 0.2, 30, 60, 1_500
    place, rng, shares = world(name, alpha, 2), np.random.default_rng(3), np.zeros(trials)
    for trial in range(trials):
        scores, labels, truth = place.draw(n + m, rng)
        right = truth[:, None] == np.arange(2)
        result = select_run(Votes(scores[:m], labels[:m]), Votes(scores[m:], labels[m:]), right[m:], alpha)
        out = result.selected.released
        shares[trial] = (~right[:m][out, result.read.labels[out, -1]]).mean() if out.any() else 0.0
    assert shares.mean() <= alpha + upper_slack(shares)
    assert (shares > alpha).mean() < 0.6


def test_too_few_rows_release_nothing_and_the_fewest_can() -> None:
    for alpha in (0.05, 0.1, 0.15, 0.3, 0.9):
        least = fewest_rows(alpha)
        for n, any_released in ((least - 1, False), (least, True)):
            result = select(np.ones(3), np.zeros(max(n, 0)), np.zeros(max(n, 0), dtype=bool), alpha)
            assert result.released.any() == (any_released and n >= 0)
    assert select(np.ones(3), np.zeros(0), np.zeros(0, dtype=bool), 0.5).threshold is None
    assert select(np.ones(0), np.zeros(9), np.zeros(9, dtype=bool), 0.5).threshold is None


def test_rows_without_a_verdict_prove_nothing() -> None:
    """Judges that failed on the labelled rows and answer now: nothing is known of what they say."""
    silent, right = Votes(np.zeros((50, 1)), np.full((50, 1), -1)), np.ones((50, 2), dtype=bool)
    run = Votes(np.ones((20, 1)), np.zeros((20, 1), dtype=np.int64))
    result = select_run(run, silent, right, 0.2)
    assert (result.rows, result.items, result.selected.threshold) == (0, 20, None)
    assert not result.selected.released.any()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        select(np.ones(3), np.ones(4), np.ones(3, dtype=bool), 0.1)
    with pytest.raises(ValueError, match="alpha"):
        select(np.ones(3), np.ones(4), np.ones(4, dtype=bool), 1.0)
    with pytest.raises(ValueError, match="alpha"):
        fewest_rows(0.0)
