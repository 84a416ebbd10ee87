from typing import Any

import numpy as np
import pytest

from trustescalate.stats.paths import PATHS, Basis
from trustescalate.stats.pilot import PilotPower, expected_cost, pilot_ceiling, pilot_power, rows_needed
from trustescalate.stats.policy import decide
from trustescalate.stats.pooling import Votes
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import Sample, world

ALPHA, DELTA = 0.1, 0.1


def plan(rows: Sample, n: list[int], wanted: float = 0.3, trials: int = 60, path: Any = None) -> PilotPower:
    costs = np.tile([1.0, 10.0], (len(rows.truth), 1))
    if path is None:
        path = PATHS["common"].build(Basis(None, Votes(rows.scores, rows.labels), rows.scores.shape[1], 2))
    rule, rng = TestRule(ALPHA, DELTA, path), np.random.default_rng(1)
    return pilot_power(*rows, costs, np.array(n), rule, wanted=wanted, rng=rng, trials=trials)


def test_power_rises_with_labels_to_one_in_an_easy_world() -> None:
    rows = world("monotone", ALPHA, tiers=2).draw(400, np.random.default_rng(0))
    result = plan(rows, [20, 200, 2000])
    assert result.power[0] < result.power[1] <= result.power[2]
    assert result.power[2] > 0.95
    assert np.all(np.diff(result.coverage) > 0)
    assert result.cost[0] > result.cost[2]
    assert np.all((result.limits[:, 0] <= result.power) & (result.power <= result.limits[:, 1]))


def test_a_plan_foretells_what_fresh_rows_then_do() -> None:
    """The pilot is large here, so that its own error does not matter; both limits are at 0.05."""
    place = world("monotone", ALPHA, tiers=2)
    foretold = plan(place.draw(20_000, np.random.default_rng(0)), [300], wanted=0.5, trials=100)
    real = plan(place.draw(20_000, np.random.default_rng(9)), [300], wanted=0.5, trials=100)
    assert foretold.limits[0, 0] <= real.limits[0, 1]
    assert real.limits[0, 0] <= foretold.limits[0, 1]


def test_nothing_comes_of_a_hopeless_pilot() -> None:
    rows = world("hopeless", ALPHA, tiers=2).draw(300, np.random.default_rng(0))
    result = plan(rows, [50, 500], trials=20)
    assert result.power.tolist() == result.coverage.tolist() == [0, 0]
    assert result.cost.tolist() == [11, 11]
    assert rows_needed(result) is None


@pytest.mark.parametrize("path", ["tierwise", np.linspace(1, 0, 6)[:, None].repeat(2, axis=1)])
def test_other_paths_and_the_generator(path: object) -> None:
    rows = world("flat", ALPHA, tiers=2).draw(200, np.random.default_rng(0))
    once, again = (plan(rows, [400], trials=5, path=path) for _ in range(2))
    for one, two in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, two)


def test_rows_needed_hold_from_there_on() -> None:
    n, none = np.array([100, 200, 300, 400]), np.zeros(4)
    for power, expected in (
        ([0.9, 0.7, 0.8, 0.9], 300),
        ([0.8, 0.8, 0.8, 0.8], 100),
        ([0.9, 0.9, 0.9, 0.7], None),
    ):
        assert rows_needed(PilotPower(n, np.array(power), none, none, none)) == expected
    with pytest.raises(ValueError, match="rise"):
        rows_needed(PilotPower(n[::-1], none, none, none, none))


def test_an_abstained_item_has_paid_every_tier_and_a_person() -> None:
    rng = np.random.default_rng(0)
    rows = world("flat", ALPHA, tiers=3).draw(200, rng)
    costs, tau = rng.random((200, 3)), np.array([0.95, 0.9, 0.9])
    tier = decide(tau, rows.scores, rows.labels)
    by_hand = sum(
        costs[i].sum() + 7 if j < 0 else costs[i, : j + 1].sum() for i, j in enumerate(tier.tolist())
    )
    assert expected_cost(tau, rows.scores, rows.labels, costs, human=7) == pytest.approx(by_hand / 200)
    strict = expected_cost(np.full(3, 2.0), rows.scores, rows.labels, costs, human=7)
    assert strict == pytest.approx(costs.sum(axis=1).mean() + 7)


def test_the_ceiling_is_reached_by_nobody_but_an_oracle() -> None:
    labels = np.array([[0, 1], [1, 1], [1, -1], [0, 0], [1, 1]])
    truth = np.array([1, 0, 0, 0, 1])
    assert pilot_ceiling(labels, truth, 0.2) == pytest.approx(0.6 / 0.8)
    assert pilot_ceiling(labels, labels[:, 0], 0.2) == 1


def test_wrong_input_is_refused() -> None:
    rows = world("flat", ALPHA, tiers=2).draw(20, np.random.default_rng(0))
    none = Sample(*(part[:0] for part in rows))
    free = np.zeros((20, 2))
    for call in (
        lambda: plan(none, [10]),
        lambda: plan(rows, [10], wanted=0.0),
        lambda: plan(rows, [10], trials=0),
        lambda: expected_cost(np.zeros(2), free[:0], rows.labels[:0], free[:0]),
        lambda: expected_cost(np.zeros(2), free, rows.labels, free, human=-1.0),
        lambda: pilot_ceiling(rows.labels[:0], rows.truth[:0], 0.1),
    ):
        with pytest.raises(ValueError, match=r"needed|needs"):
            call()
