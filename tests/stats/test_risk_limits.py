from itertools import pairwise

import numpy as np
import pytest

from trustescalate.stats.bounds import FloatArray, clopper_pearson_upper
from trustescalate.stats.certify import certify
from trustescalate.stats.policy import common_path, evaluate
from trustescalate.stats.risk_limits import RiskLimits, certified_at, simultaneous_risk_upper
from trustescalate.stats.validity import Sample, world


def risk_band(rows: Sample, delta: float, path: FloatArray) -> RiskLimits:
    """The limits on a path, as a certificate holds them."""
    outcomes = evaluate(path, *rows, np.zeros(rows.scores.shape))
    return RiskLimits(path, *outcomes, simultaneous_risk_upper(outcomes.errors, outcomes.accepted, delta))


def test_each_limit_is_clopper_pearson_at_its_share() -> None:
    errors, accepted, weights = np.array([0, 3, 9]), np.array([20, 60, 100]), np.array([0.5, 0.3, 0.2])
    expected = [
        clopper_pearson_upper(k, n, 0.1 * w) for k, n, w in zip(errors, accepted, weights, strict=True)
    ]
    np.testing.assert_array_equal(simultaneous_risk_upper(errors, accepted, 0.1, weights), expected)
    np.testing.assert_array_equal(
        simultaneous_risk_upper(errors, accepted, 0.1), clopper_pearson_upper(errors, accepted, 0.1 / 3)
    )


def test_no_information_is_no_limit() -> None:
    assert simultaneous_risk_upper(np.array([0, 5]), np.array([0, 5]), 0.1).tolist() == [1, 1]
    assert simultaneous_risk_upper(np.zeros(0, dtype=int), np.zeros(0, dtype=int), 0.1).size == 0


def test_one_checkpoint_is_the_single_limit() -> None:
    assert simultaneous_risk_upper(np.array([2]), np.array([50]), 0.1)[0] == clopper_pearson_upper(2, 50, 0.1)


def test_a_laxer_alpha_never_accepts_less_and_a_known_one_covers_more() -> None:
    place = world("monotone", 0.1, 2)
    rng = np.random.default_rng(0)
    pilot, rows = place.draw(100, rng).scores, place.draw(500, rng)
    free = np.zeros(rows.scores.shape)
    band = risk_band(rows, 0.1, common_path(pilot, 2, size=16))
    chosen = [certified_at(band, alpha, 500) for alpha in (0.02, 0.05, 0.08, 0.1, 0.2, 0.5)]
    accepted = [0 if one is None else int(band.accepted[one]) for one in chosen]
    assert all(more >= less - 10 for less, more in pairwise(accepted))
    assert accepted[0] == 0 < accepted[3]
    known = certify(*rows, free, alpha=0.1, delta=0.1, path=common_path(pilot, 2))
    assert known.table.accepted[known.chosen] >= accepted[3] - 10


def test_wrong_weights_and_rates_are_refused() -> None:
    counts = np.array([0, 1]), np.array([20, 30])
    for weights in ([0.5, 0.6], [1.0, 0.0], [1.0]):
        with pytest.raises(ValueError, match="weights"):
            simultaneous_risk_upper(*counts, 0.1, np.array(weights))
    with pytest.raises(ValueError, match="delta"):
        simultaneous_risk_upper(*counts, 1.0)
    rows = world("flat", 0.1, 1).draw(50, np.random.default_rng(0))
    with pytest.raises(ValueError, match="alpha"):
        certified_at(risk_band(rows, 0.1, common_path(None, 1, 12)), 0.0, 50)
