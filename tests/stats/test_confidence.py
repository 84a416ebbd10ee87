from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustescalate.stats.bounds import FloatArray
from trustescalate.stats.confidence import ESTIMATORS, bounds, ensemble, normalised, sampled, verbalized

pytestmark = pytest.mark.slow
SHARES = [0.0, 0.1, 0.2, 0.25, 0.3, 1 / 3, 0.5, 0.7, 0.9, 1.0]


@st.composite
def vote_arrays(draw: st.DrawFn) -> FloatArray:
    """(k, c) votes with failures and many ties."""
    labels, size = draw(st.integers(2, 4)), draw(st.integers(1, 10))
    share = st.one_of(st.sampled_from(SHARES), st.floats(0, 1))
    rows = draw(st.lists(st.lists(share, min_size=labels, max_size=labels), min_size=size, max_size=size))
    votes = np.array(rows)
    return np.asarray(votes / np.maximum(1.0, votes.sum(axis=1, keepdims=True)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@settings(derandomize=True, max_examples=300, deadline=None)
@given(vote_arrays(), st.lists(st.floats(0, 1), max_size=3))
def test_stopping_early_decides_as_the_full_ensemble(
    estimator: str, votes: FloatArray, more: list[float]
) -> None:
    label, score = (part[0] for part in ESTIMATORS[estimator](votes[None]))
    taus = [*more, score, np.nextafter(score, 2), np.nextafter(score, -1), 0.5, 1.0]
    for seen in range(len(votes) + 1):
        result = bounds(estimator, votes[:seen], len(votes))
        assert result.low <= score <= result.high
        assert result.label in (-1, label)
        for tau in taus:
            accepted = label >= 0 and score >= tau
            if result.label >= 0 and result.low >= tau:
                assert accepted
            if result.high < tau:
                assert not accepted
    assert result == (label, score, score)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(vote_arrays(), st.randoms(use_true_random=False))
def test_the_order_of_labels_does_not_matter(votes: FloatArray, random: object) -> None:
    renamed = np.random.default_rng(0).permutation(votes.shape[1])
    before, after = ensemble(votes[None]), ensemble(votes[None][:, :, renamed])
    assert before.score == after.score
    assert before.label == (renamed[after.label[0]] if after.label[0] >= 0 else -1)


def test_score_is_the_mean_share_of_the_winner() -> None:
    votes = [[[0.8, 0.1], [0.3, 0.3], [0.0, 0.0]]]
    exact = (Fraction(8, 9) + Fraction(1, 2)) / 3
    assert ensemble(votes).score[0] == pytest.approx(float(exact))


def test_a_failed_vote_stays_in_the_denominator() -> None:
    assert ensemble([[[1, 0], [0, 0], [0, 0], [0, 0]]]) == (np.array([0]), np.array([0.25]))


def test_no_verdict_where_tied_or_silent() -> None:
    label, score = ensemble([[[0.7, 0.3], [0.3, 0.7]], [[0, 0], [0, 0]], [[-0.0, 0.5], [0, 0]]])
    assert label.tolist() == [-1, -1, 1]
    assert score.tolist() == [0, 0, 0.5]
    assert not np.signbit(score).any()


@pytest.mark.parametrize(
    "vote", [[np.nan, 0.5], [np.inf, 0.0], [-np.inf, 0.0], [-0.1, 0.5], [0.6, 0.5], [1.00001, 0]]
)
def test_what_is_no_probability_is_refused_by_row(vote: list[float]) -> None:
    with pytest.raises(ValueError, match="row 1, vote 0"):
        ensemble([[[0.5, 0.5]], [vote]])


def test_wrong_shapes_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        ensemble([[0.5, 0.5]])
    with pytest.raises(ValueError, match="k >= 1"):
        ensemble(np.zeros((3, 0, 2)))
    with pytest.raises(ValueError, match="no estimator 'mean'"):
        bounds("mean", [[0.5, 0.5]], 2)
    with pytest.raises(ValueError, match="2 votes seen"):
        bounds("ensemble", [[0.5, 0.5]] * 2, 1)


def test_sampled_counts_wins_with_half_a_win_for_doubt() -> None:
    votes = np.eye(2)[[[0, 0, 0, 1]]]
    assert sampled(votes).score.tolist() == [3.5 / 5]
    assert sampled(np.eye(3)[[[2, 2, 2]]]).score.tolist() == [3.5 / 4.5]
    assert sampled(np.zeros((1, 3, 2))) == (np.array([-1]), np.array([0.0]))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(2, 4))
def test_a_stored_tie_orders_rows_within_a_level_and_never_across(seed: int, k: int, c: int) -> None:
    rng = np.random.default_rng(seed)
    votes, tie = np.eye(c)[rng.integers(c, size=(30, k))], rng.random(30)
    plain, split = sampled(votes), sampled(votes, tie)
    np.testing.assert_array_equal(plain.label, split.label)
    stated = np.flatnonzero(plain.label >= 0)
    for i in stated:
        assert np.all(split.score[stated][plain.score[stated] < plain.score[i]] < split.score[i])
        for seen in range(k + 1):
            result = bounds("sampled", votes[i, :seen], k, tie=tie[i])
            assert result.low <= split.score[i] <= result.high
    with pytest.raises(ValueError, match="tie"):
        sampled(votes, 1.0)


def test_verbalized_leaves_the_rest_to_the_labels_that_were_not_named() -> None:
    assert verbalized([[[0.3, 0.0]]]) == (np.array([1]), np.array([0.7]))
    label, score = verbalized([[[0.4, 0, 0], [0.4, 0, 0]]])
    assert (label.tolist(), score.tolist()) == ([0], [0.4])
    assert verbalized([[[0.2, 0.6]]]).score[0] == pytest.approx(0.75)
    assert verbalized([[[1.0, 0], [0, 0]]]).score.tolist() == [0.5]


def test_normalised_votes_sum_to_one_or_nothing() -> None:
    assert normalised([[[0.2, 0.2], [0, 0]]]).sum(axis=2).tolist() == [[1.0, 0.0]]
