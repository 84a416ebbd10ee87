"""Round and format the numbers of a report.

A `Figure` holds the rounded value with its text, so the gate compares what the page shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from trustescalate.records.failures import failure_in_words

MISSING = "—"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value as printed, and its text. `value` is None for an unknown value, with the reason in `note`.

    `counts` are the integers behind a share: (part, whole).
    """

    value: int | float | str | None
    text: str
    note: str = ""
    counts: tuple[int, int] | None = None


def missing(why: str) -> Figure:
    """Make the figure of an unknown value.

    >>> missing("nothing was released").text
    '—'
    """
    return Figure(None, MISSING, why)


def words(text: str, note: str = "") -> Figure:
    """Make a figure of a text."""
    return Figure(text, text, note)


def count(number: int, note: str = "") -> Figure:
    """Format an integer, with thousands separated.

    >>> count(12345).text
    '12,345'
    """
    return Figure(number, f"{number:,}", note)


def share(part: float, whole: int, why: str = "nothing was counted") -> Figure:
    """Format `part` of `whole` in per cent with one decimal; 0 and 100 only where exact.

    A part that is no integer, a sum of shares, has no counts.

    >>> share(271, 300)
    Figure(value=0.903, text='90.3 %', note='', counts=(271, 300))
    >>> share(2999, 3000).text, share(1, 3000).text, share(0, 7).text, share(7, 7).text
    ('> 99.9 %', '< 0.1 %', '0 %', '100 %')
    >>> share(7.5, 10)
    Figure(value=0.75, text='75.0 %', note='', counts=None)
    >>> share(0, 0, "no item was released").note
    'no item was released'
    """
    if whole == 0:
        return missing(why)
    exact, counts = Fraction(part) / whole, (part, whole) if isinstance(part, int) else None
    if exact in (0, 1):
        return Figure(float(exact), _percent(Decimal(int(exact))), "", counts)
    nearest = _rounded(exact.numerator / Decimal(exact.denominator), ROUND_HALF_EVEN)
    if nearest == 0:
        return Figure(0.001, "< 0.1 %", "", counts)
    if nearest == 1:
        return Figure(0.999, "> 99.9 %", "", counts)
    return Figure(float(nearest), f"{nearest * 100:.1f} %", "", counts)


def at_least(value: float, note: str = "") -> Figure:
    """Format a lower bound on a share, rounded down.

    >>> at_least(0.88479).text
    '88.4 %'
    """
    return _bound(value, ROUND_FLOOR, note)


def at_most(value: float, note: str = "") -> Figure:
    """Format an upper bound on a share, rounded up.

    >>> at_most(0.88401).text
    '88.5 %'
    """
    return _bound(value, ROUND_CEILING, note)


def interval(low: float, high: float) -> str:
    """Format an interval for a share, rounded outwards.

    >>> interval(0.88479, 0.93211)
    '88.4 to 93.3 %'
    """
    return f"{at_least(low).text.removesuffix(' %')} to {at_most(high).text}"


def ratio(amount: float, of: float) -> Figure:
    """Format an amount as a percentage of another, which it may exceed; `of` is not 0.

    >>> ratio(1.5, 4.0).text, ratio(5.0, 4.0).text
    ('37.5 %', '125.0 %')
    """
    rounded = _rounded(Decimal(repr(amount)) / Decimal(repr(of)), ROUND_HALF_EVEN)
    return Figure(float(rounded), f"{rounded * 100:.1f} %")


def saved(share: Figure) -> Figure:
    """Format a share of a cost as what is saved of it, or spent beyond it.

    >>> saved(ratio(1.5, 4.0)).text, saved(ratio(5.0, 4.0)).text
    ('−62.5 %', '+25.0 %')
    """
    if not isinstance(share.value, float):
        return share
    more = Decimal(repr(share.value)) - 1
    return Figure(float(more), f"{'−' if more < 0 else '+'}{abs(more) * 100:.1f} %", share.note)


def setting(value: float) -> Figure:
    """Format a configured share (α, δ), unrounded.

    >>> setting(0.15).text, setting(0.025).text
    ('15 %', '2.5 %')
    """
    return Figure(value, _percent(Decimal(repr(value))))


def complement(value: float) -> Figure:
    """Format 1 - `value` in decimal arithmetic, unrounded.

    >>> complement(0.1)
    Figure(value=0.9, text='90 %', note='', counts=None)
    """
    return setting(float(1 - Decimal(repr(value))))


def usd(amount: float) -> Figure:
    """Format US dollars: cents from one dollar up, three significant digits below.

    >>> usd(1234.567).text, usd(0.0041239).text, usd(0.0).text
    ('USD 1,234.57', 'USD 0.00412', 'USD 0')
    """
    if amount == 0:
        return Figure(0.0, "USD 0")
    places = 2 if abs(amount) >= 1 else 2 - Decimal(repr(amount)).adjusted()
    return Figure(round(amount, places), f"USD {amount:,.{places}f}")


def decimal(value: float | None, why: str, places: int = 3) -> Figure:
    """Format a number with a fixed number of decimals.

    >>> decimal(0.71249, "").text, decimal(None, "all verdicts are right").note
    ('0.712', 'all verdicts are right')
    """
    if value is None:
        return missing(why)
    text = f"{value:.{places}f}"
    return Figure(float(text), text)


def factor(value: float) -> Figure:
    """Format a factor, rounded down to two decimals.

    >>> factor(1.459).text
    '1.45'
    """
    rounded = Decimal(repr(value)).quantize(Decimal("0.01"), ROUND_FLOOR)
    return Figure(float(rounded), f"{rounded}")


def pvalue(value: float) -> Figure:
    """Format a p-value with four decimals, never as 0.

    >>> pvalue(0.04271).text, pvalue(1e-9).text
    ('0.0427', '< 0.0001')
    """
    return Figure(0.0001, "< 0.0001") if value < 0.0001 else decimal(value, "", 4)


def exact(value: float | None, why: str) -> Figure:
    """Format a number with every digit.

    >>> exact(0.1 + 0.2, "").text
    '0.30000000000000004'
    """
    return missing(why) if value is None else Figure(value, repr(value))


def compared(left: float, right: float) -> tuple[Figure, Figure]:
    """Format two numbers compared with ≤, with enough digits to show the same outcome.

    >>> [figure.text for figure in compared(0.0123456, 0.06)]
    ['0.0123', '0.06']
    >>> [figure.text for figure in compared(0.06000001, 0.06)]
    ['0.06000001', '0.06']
    """
    for digits in range(3, 17):
        one, two = f"{left:.{digits}g}", f"{right:.{digits}g}"
        shown, meant = (float(one) - float(two), left - right)
        if (shown > 0) == (meant > 0) and (shown == 0) == (meant == 0):
            break
    else:
        one, two = repr(left), repr(right)
    return Figure(float(one), one), Figure(float(two), two)


def failures_text(failures: Mapping[str, int]) -> str:
    """List failures in words, the most frequent first.

    >>> failures_text({"refused": 1, "none": 3})
    'the reply holds no verdict × 3; the model or a content filter refused × 1'
    """
    ordered = sorted(failures.items(), key=lambda pair: (-pair[1], pair[0]))
    return "; ".join(f"{failure_in_words(reason)} × {number:,}" for reason, number in ordered if number)


def _bound(value: float, rounding: str, note: str) -> Figure:
    rounded = _rounded(Decimal(repr(float(value))), rounding)
    text = _percent(rounded) if rounded in (0, 1) else f"{rounded * 100:.1f} %"
    return Figure(float(rounded), text, note)


def _rounded(value: Decimal, rounding: str) -> Decimal:
    return value.quantize(Decimal("0.001"), rounding)


def _percent(value: Decimal) -> str:
    return f"{(value * 100).normalize():f} %"
