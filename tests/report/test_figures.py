"""One function rounds for the page and for the gate, and never flatters."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from trustescalate.report import figures

COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SHARES = st.floats(0, 1)


@given(COUNTS)
def test_a_share_is_what_its_text_says(counts: tuple[int, int]) -> None:
    part, whole = counts
    figure = figures.share(part, whole)
    assert isinstance(figure.value, float)
    assert figure.counts == counts
    assert abs(figure.value - Fraction(part, whole)) <= Fraction(1, 1000)
    number = float(figure.text.lstrip("<> ").removesuffix(" %")) / 100
    assert abs(number - figure.value) < 1e-12


@given(COUNTS)
def test_nought_and_a_hundred_are_exact(counts: tuple[int, int]) -> None:
    part, whole = counts
    text = figures.share(part, whole).text
    assert (text == "100 %") == (part == whole)
    assert (text == "0 %") == (part == 0)


@given(SHARES)
def test_a_bound_stays_a_bound(value: float) -> None:
    low, high = figures.at_least(value).value, figures.at_most(value).value
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= value <= high


@given(SHARES, SHARES)
def test_a_comparison_looks_as_it_came_out(left: float, right: float) -> None:
    one, two = figures.compared(left, right)
    assert (float(one.text) <= float(two.text)) == (left <= right)


def test_settings_are_not_rounded() -> None:
    assert [figures.setting(rate).text for rate in (0.15, 0.1, 0.001, 0.0005)] == [
        "15 %",
        "10 %",
        "0.1 %",
        "0.05 %",
    ]
    assert figures.complement(0.15).value == 0.85


def test_no_information_looks_like_none() -> None:
    for figure in (figures.share(0, 0, "why"), figures.decimal(None, "why"), figures.exact(None, "why")):
        assert (figure.value, figure.text, figure.note) == (None, "—", "why")
