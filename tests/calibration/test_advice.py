"""What a "no certificate" says would help: from the policies that were tested, and about right."""

import re

import numpy as np
import pytest

from tests.support.worlds import certified
from trustescalate.records import Certificate
from trustescalate.stats.validity import world

pytestmark = pytest.mark.slow
ALPHA = 0.2


def refusals(name: str, rows: int, count: int) -> list[Certificate]:
    place = world(name, ALPHA, 2)
    place = place._replace(scores=np.maximum(place.scores, 0.501))
    certificate = (certified(place, "hedged", np.random.default_rng(seed), rows) for seed in range(10_000))
    result = []
    for one in certificate:
        result += [one] if one.status == "none" else []
        if len(result) == count:
            return result
    raise AssertionError("the world certifies too often")


def test_about_as_many_labels_as_it_says_would_do() -> None:
    """Drawn again with the median of the numbers that refusals give, most calibrations certify."""
    advised = []
    for one in refusals("monotone", 50, 15):
        seen = re.search(r"about ([\d,]+) freshly labelled rows", one.advice)
        assert seen is not None, one.advice
        advised.append(int(seen[1].replace(",", "")))
    rows = int(np.median(advised))
    assert 60 <= rows <= 600
    place = world("monotone", ALPHA, 2)
    place = place._replace(scores=np.maximum(place.scores, 0.501))
    again = [certified(place, "hedged", np.random.default_rng(900 + seed), rows) for seed in range(20)]
    assert sum(one.status == "certified" for one in again) >= 13


def test_the_policy_that_it_names_was_tested() -> None:
    for one in refusals("monotone", 50, 5):
        seen = re.match(r"the closest policy released (\d+) of 50 rows, and (\d+) verdicts", one.advice)
        assert seen is not None, one.advice
        assert (int(seen[1]), int(seen[2])) in {(test.accepted, test.errors) for test in one.tests}


def test_hopeless_judges_are_told_so() -> None:
    for one in refusals("hopeless", 100, 3):
        assert "use better judges, clearer instructions, or allow a larger alpha" in one.advice
        assert "freshly labelled" not in one.advice
