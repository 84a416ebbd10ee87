"""The table of docs/win-rates.md against a fresh draw: from how many labels on which interval may be read."""

import re
from pathlib import Path

import pytest
from scipy.stats import fisher_exact

from benchmarks.coverage import DELTA, LABELS, RATES, misses
from trustescalate.stats.validity import violation_limit

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "win-rates.md"
DRAWN, FRESH = 2000, 150
CELL = re.compile(r"([\d.]+) / ([\d.]+) \((\d+) %\)")


def page() -> dict[tuple[float, int], tuple[float, float, float]]:
    """Misses of the asymptotic interval, of the one shown, and how often that is the former, as shares."""
    result = {}
    for rate in RATES:
        row = next(line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| {rate:g} |"))
        for labels, cell in zip(LABELS, CELL.findall(row), strict=True):
            result[rate, labels] = tuple(float(part) / 100 for part in cell)
    return result  # type: ignore[return-value]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("labels", LABELS)
def test_the_page_says_what_is_measured(rate: float, labels: int) -> None:
    fresh = misses(rate, labels, FRESH, seed=1)
    for stated, seen in zip(page()[rate, labels], fresh[1:], strict=True):
        before = round(stated * DRAWN)
        table = [[before, DRAWN - before], [seen, FRESH - seen]]
        assert fisher_exact(table).pvalue > 1e-5, (stated, seen / FRESH)


def test_what_is_shown_misses_no_oftener_than_guaranteed_and_a_little() -> None:
    for (rate, labels), (unguarded, shown, _) in page().items():
        assert round(shown * DRAWN) <= violation_limit(DRAWN, DELTA + 0.02), (rate, labels)
        if labels * rate < 10:
            assert unguarded > shown
    assert max(unguarded for unguarded, _, _ in page().values()) > 0.3, "without the guard it would be bad"
