import numpy as np
import pytest

from trustescalate.stats.calibration import auroc, brier_score, expected_calibration_error, reliability

RNG = np.random.default_rng(0)
SCORE = RNG.random(500).round(2)
CORRECT = RNG.random(500) < SCORE


def test_brier_and_auroc_by_their_definitions() -> None:
    assert brier_score(SCORE, CORRECT) == pytest.approx(np.mean((SCORE - CORRECT) ** 2))
    assert brier_score(np.array([1.0, 0.5]), np.ones(2, dtype=bool)) == 0.125
    above = np.sign(SCORE[CORRECT][:, None] - SCORE[~CORRECT])
    assert auroc(SCORE, CORRECT) == pytest.approx((1 + above.mean()) / 2)


def test_error_is_the_sum_over_bars_by_hand() -> None:
    total = 0.0
    for k in range(10):
        inside = np.minimum(np.round(SCORE * 100).astype(int) // 10, 9) == k
        total += inside.sum() * abs(SCORE[inside].mean() - CORRECT[inside].mean())
    assert expected_calibration_error(SCORE, CORRECT) == pytest.approx(total / 500)


def test_bars_hold_every_row_once_and_empty_ones_are_left_out() -> None:
    bars = reliability(np.array([0.0, 0.5, 0.55, 1.0]), np.array([False, True, False, True]))
    assert bars.low.round(1).tolist() == [0.0, 0.5, 0.9]
    assert bars.high.round(1).tolist() == [0.1, 0.6, 1.0]
    assert bars.rows.tolist() == [1, 2, 1]
    assert bars.correct.tolist() == [0, 1, 1]
    assert bars.mean_score.tolist() == [0, 0.525, 1]
    assert reliability(SCORE, CORRECT).rows.sum() == 500
    assert bars.rows.dtype.kind == bars.correct.dtype.kind == "i"


def test_no_information_looks_like_none() -> None:
    nothing = np.zeros(0), np.zeros(0, dtype=bool)
    assert expected_calibration_error(*nothing) is None
    assert brier_score(*nothing) is None
    assert auroc(*nothing) is None
    assert auroc(SCORE, np.ones(500, dtype=bool)) is None
    assert reliability(*nothing).rows.size == 0


@pytest.mark.parametrize(
    ("score", "correct", "message"),
    [
        ([1.1], [True], "scores"),
        ([np.nan], [True], "scores"),
        ([0.5], [1], "booleans"),
        ([0.5], [True, False], "must be"),
    ],
)
def test_wrong_input_is_refused(score: list[float], correct: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auroc(np.array(score), np.array(correct))
