import numpy as np
import pytest
from scipy.stats import binom

from trustescalate.stats.policy import common_path, evaluate
from trustescalate.stats.rule import TestRule
from trustescalate.stats.validity import WORLDS, replicate, violation_limit, world


@pytest.mark.parametrize("name", WORLDS)
def test_true_risk_is_what_many_rows_show(name: str) -> None:
    place = world(name, 0.1, tiers=2)
    rows = place.draw(200_000, np.random.default_rng(0))
    policies = common_path(rows.scores[:100], 2)[::5]
    counts = evaluate(policies, *rows, np.zeros(rows.scores.shape))
    for t, policy in enumerate(policies):
        risk, coverage = place.risk_coverage(policy)
        assert counts.accepted[t] / 200_000 == pytest.approx(coverage, abs=0.006)
        limits = binom.ppf([1e-6, 1 - 1e-6], counts.accepted[t], risk)
        assert limits[0] <= counts.errors[t] <= limits[1]


def test_a_policy_that_accepts_nothing_has_no_risk() -> None:
    assert world("flat", 0.1, tiers=3).risk_coverage(np.full(3, np.inf)) == (0.0, 0.0)


def test_replications_depend_on_the_generator_only() -> None:
    once, again = (
        replicate(
            world("monotone", 0.1, 2),
            200,
            TestRule(0.1, 0.1, "common"),
            trials=10,
            rng=np.random.default_rng(3),
        )
        for _ in range(2)
    )
    assert once == again


def test_limit_is_an_exact_binomial_quantile() -> None:
    limit = violation_limit(500, 0.1)
    assert binom.sf(limit, 500, 0.1) <= 1e-6 < binom.sf(limit - 1, 500, 0.1)
    with pytest.raises(ValueError, match="delta"):
        violation_limit(500, 1.0)


def test_unknown_worlds_are_refused() -> None:
    with pytest.raises(ValueError, match="no world 'utopia'"):
        world("utopia", 0.1, 2)
