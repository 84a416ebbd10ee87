import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import betainc
from scipy.stats import binom

from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.drift import drift, evidence_path, log_evidence
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
LEVEL = 0.1


def alarm_errors(n: IntArray, alpha: float, level: float) -> IntArray:
    """The fewest errors among n labels at which "above" raises the alarm; n + 1 where none do."""
    errors = np.arange(int(n.max()) + 1)
    raised = [log_evidence(errors[: rows + 1], rows, alpha, "above") >= -np.log(level) for rows in n.tolist()]
    return np.array([int(one.argmax()) if one.any() else len(one) for one in raised])


def alarm_probability(labels: int, risk: float, alpha: float, level: float) -> FloatArray:
    """P(alarm within the first 1, 2, .. labels), by going through all counts."""
    quiet, reached = np.array([1.0]), np.zeros(labels)
    for i, limit in enumerate(alarm_errors(np.arange(1, labels + 1), alpha, level)):
        grown = np.append(quiet * (1 - risk), 0.0)
        grown[1:] += quiet * risk
        quiet = grown[:limit]
        reached[i] = grown[limit:].sum()
    return reached.cumsum()


@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize(("errors", "n", "alpha"), [(0, 0, 0.1), (0, 30, 0.1), (7, 30, 0.1), (20, 60, 0.4)])
@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.5, 3.0)])
def test_evidence_is_the_likelihood_ratio_averaged_over_one_side(
    side: str, errors: int, n: int, alpha: float, prior: tuple[float, float]
) -> None:
    ends = (0.0, alpha) if side == "below" else (alpha, 1.0)

    def weight(r: float) -> float:
        return r ** (prior[0] - 1) * (1 - r) ** (prior[1] - 1)

    def ratio(r: float) -> float:
        return (r / alpha) ** errors * ((1 - r) / (1 - alpha)) ** (n - errors)

    expected = quad(lambda r: weight(r) * ratio(r), *ends)[0] / quad(weight, *ends)[0]
    assert log_evidence(errors, n, alpha, side, prior) == pytest.approx(np.log(expected), abs=1e-6)


def test_the_published_form_is_the_side_below() -> None:
    """B_alpha(a + k, b + n - k) / (B_alpha(a, b) alpha^k (1 - alpha)^(n - k)), at a = b = 1."""
    k, n, alpha = 3, 60, 0.1
    lower = betainc(1 + k, 1 + n - k, alpha) / (61 * binom.pmf(k, 60, 0.5) * 2.0**60)
    assert log_evidence(k, n, alpha, "below") == pytest.approx(
        np.log(lower / (alpha * alpha**k * (1 - alpha) ** (n - k)))
    )


@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.5])
def test_it_is_stable_at_a_million_labels(side: str, alpha: float) -> None:
    """Far on its own side it grows by the divergence a label, up to a logarithm; it never is NaN."""
    n = 1_000_000
    errors = np.linspace(0, n, 101).astype(int)
    assert np.isfinite(log_evidence(errors, n, alpha, side)).all()
    result = log_evidence(errors, n, alpha, side, (1.0, 1.0))
    assert np.isfinite(result).all()
    direction = np.diff(result) if side == "above" else -np.diff(result)
    assert np.all(direction > 0)
    rate = np.clip(errors / n, 1e-300, 1 - 1e-16)
    divergence = rate * np.log(rate / alpha) + (1 - rate) * np.log((1 - rate) / (1 - alpha))
    far = (errors / n < alpha - 0.005) if side == "below" else (errors / n > alpha + 0.005)
    far &= (errors > 0) & (errors < n)
    assert np.all(np.abs(result - n * divergence)[far] < 25 + 0.5 * np.log(n))


def test_both_ways_to_sum_agree_where_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, n = np.arange(0, 40, 3), 400
    before = log_evidence(errors, n, 0.2, "above")
    monkeypatch.setattr("trustescalate.stats.drift.TINY", 1e-3)
    np.testing.assert_allclose(log_evidence(errors, n, 0.2, "above"), before, rtol=1e-10)


@pytest.mark.parametrize(("side", "risk"), [("above", 0.1), ("above", 0.07), ("below", 0.1), ("below", 0.2)])
def test_it_falls_or_stays_on_average_under_the_null(side: str, risk: float) -> None:
    n = np.arange(200)[:, None]
    k = np.arange(200)[None, :]
    k = np.minimum(k, n)
    now, hit, miss = (np.exp(log_evidence(*at, 0.1, side)) for at in ((k, n), (k + 1, n + 1), (k, n + 1)))
    assert np.all(risk * hit + (1 - risk) * miss <= now * (1 + 1e-9))


@pytest.mark.parametrize("side", ["above", "below"])
def test_looking_after_every_label_keeps_the_level(side: str) -> None:
    """Stopped at the first crossing, at the edge of the null, which is its worst point."""
    rng, trials = np.random.default_rng(1), 500
    alarms = 0
    for _ in range(trials):
        alarms += bool(np.any(evidence_path(rng.random(2000) < 0.1, 0.1, side) >= -np.log(LEVEL)))
    assert alarms <= violation_limit(trials, LEVEL)


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("level", [0.01, 0.1])
def test_a_false_alarm_within_two_thousand_labels_counted_exactly(alpha: float, level: float) -> None:
    reached = alarm_probability(2000, alpha, alpha, level)
    assert np.all(np.diff(reached) >= -1e-15)
    assert reached[-1] <= level
    assert alarm_probability(2000, alpha / 2, alpha, level)[-1] < reached[-1]


def test_the_count_is_what_simulation_shows() -> None:
    rng, trials = np.random.default_rng(2), 2000
    error = rng.random((trials, 100)) < 0.25
    limits = alarm_errors(np.arange(1, 101), 0.1, LEVEL)
    alarmed = np.count_nonzero(np.any(error.cumsum(axis=1) >= limits, axis=1))
    expected = alarm_probability(100, 0.25, 0.1, LEVEL)[-1]
    low, high = binom.ppf([1e-6, 1 - 1e-6], trials, expected)
    assert low <= alarmed <= high


def test_delays_of_detection_in_the_docs() -> None:
    delay = [int(np.argmax(alarm_probability(1000, r, 0.1, 0.05) >= 0.5)) + 1 for r in (0.5, 0.25, 0.2, 0.15)]
    assert delay == [7, 33, 68, 274]


def test_verdicts() -> None:
    rng = np.random.default_rng(3)
    good, bad = rng.random(500) < 0.05, rng.random(500) < 0.3
    assert drift(good, good, 0.1, LEVEL).verdict == "none"
    assert drift(good, bad, 0.1, LEVEL).verdict == "population"
    assert drift(bad, good, 0.1, LEVEL).verdict == "judge"
    both = drift(bad, bad, 0.1, LEVEL)
    assert both.verdict == "judge"
    assert both.anchor_alarm == both.audit_alarm is not None
    assert drift(bad, good, 0.1, LEVEL, anchor_risk=0.35).verdict == "none"
    assert drift(good[:0], good[:0], 0.1, LEVEL) == ("none", 0.0, 0.0, None, None)


def test_an_alarm_stays_raised() -> None:
    result = drift(np.zeros(0, dtype=bool), np.append(np.ones(20, bool), np.zeros(5000, bool)), 0.1, LEVEL)
    assert result.verdict == "population"


def test_two_quiet_processes_seldom_alarm() -> None:
    rng, trials = np.random.default_rng(4), 500
    alarms = sum(
        drift(rng.random(500) < 0.1, rng.random(500) < 0.1, 0.1, LEVEL).verdict != "none"
        for _ in range(trials)
    )
    assert alarms <= violation_limit(trials, LEVEL)


def test_wrong_input_is_refused() -> None:
    for call in (
        lambda: log_evidence(3, 2, 0.1, "above"),
        lambda: log_evidence(1.0, 2, 0.1, "above"),  # type: ignore[arg-type]
        lambda: log_evidence(1, 2, 1.0, "above"),
        lambda: log_evidence(1, 2, 0.0, "above"),
        lambda: log_evidence(1, 2, 0.1, "aside"),  # type: ignore[arg-type]
        lambda: log_evidence(1, 2, 0.1, "below", (0.0, 1.0)),
        lambda: evidence_path(np.zeros(3), 0.1, "above"),  # type: ignore[arg-type]
        lambda: drift(np.zeros(3, bool), np.zeros(3, bool), 0.1, 1.0),
    ):
        with pytest.raises(ValueError, match=r"must|boolean|lie"):
            call()
