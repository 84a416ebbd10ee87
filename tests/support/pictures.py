"""Charts of every kind: edge cases by name, and random ones with hostile names."""

import random
from collections.abc import Iterator

from tests.support import factory
from trustescalate.report.pictures import (
    Bar,
    Bars,
    Flow,
    FlowTier,
    Interval,
    Intervals,
    Picture,
    Point,
    Power,
    Reliability,
    ReliabilityBin,
    RiskCoverage,
)

NAMES = (
    *("a", "simulated-XS", "meta-llama/Llama-3.1-70B-Instruct-Turbo", "WWW@%mmm" * 2_000, "", " "),
    *(factory.HOSTILE, "判" * 60, "\ufdfd" * 9, "אבג" * 30, "e" + "\u0301\u0302" * 400, "👩‍👧" * 20),
)
RISK = RiskCoverage(
    "Risk and coverage",
    0.15,
    (
        Point(0.0, None, False, False, 0),
        Point(0.4, 0.05, True, False, 0, 0.12),
        Point(0.8, 0.1, True, True, 0, 0.15),
        Point(1.0, 0.2, False, False, 0, 0.25),
        Point(0.5, 0.07, True, False, 1, 0.13),
        Point(0.9, 0.17, False, False, 1, 0.22),
    ),
    True,
    "Error rate against coverage.",
    ((0.4, 0.05, 0.12), (0.8, 0.1, 0.9), (1.0, 0.2, 0.25)),
)
FLOW = Flow(
    "Where the items went",
    (
        FlowTier("small", 300, 143, "USD 0.08"),
        FlowTier("skipped", 0, 0, "no cost"),
        FlowTier("large", 157, 96, "USD 1.76"),
    ),
    300,
    40,
    12,
    "released",
    "Of 300 items: …",
    labelled=9,
)
BINS = (ReliabilityBin(0.5, 0.75, 40, 0.6, 0.5), ReliabilityBin(0.75, 1.0, 160, 0.9, 0.95))
INTERVALS = Intervals(
    "win rate",
    (
        Interval("one", 0.6, (0.5, 0.7), "A"),
        Interval("two", 0.4, None, "B"),
        Interval("three", None, None, "0 rows"),
    ),
    True,
    "Win rates.",
    reference=0.5,
    reference_name="no difference",
)
BARS = Bars(
    "Length",
    ("first response", "second response"),
    (Bar("small", (0.5, 0.25), ("50 %", "25 %")), Bar("large", (1.0, 0.0), ("100 %", "0 %"))),
    "Shares.",
)
POWER = Power(
    "Power", (50, 100, 1600), (0.1, 0.5, 0.99), ((0.0, 0.2), (0.4, 0.6), (0.97, 1.0)), "Power.", now=266
)
CASES: dict[str, Picture] = {
    "risk": RISK,
    "tierwise": RiskCoverage("Risk", 0.15, RISK.points, False, "No path."),
    "one point": RiskCoverage("Risk", 0.02, (Point(0.84, 0.0, True, True, 0, 0.019),), True, "One."),
    "nothing tested": RiskCoverage("Risk", 0.5, (), False, "Nothing was tested."),
    "nothing released": RiskCoverage("Risk", 0.1, (Point(0.0, None, False, False, 0),), True, "None."),
    "reliability": Reliability("judge", BINS, "Reliability of judge.", threshold=0.83),
    "no bins": Reliability("judge", (), "No verdict."),
    "intervals": INTERVALS,
    "one estimate": Intervals("rate", (Interval("one", 0.5, None),), True, "One."),
    "no intervals": Intervals("rate", (), False, "None."),
    "bars": BARS,
    "no bars": Bars("Cost", ("",), (), "None."),
    "flow": FLOW,
    "no items": Flow("Flow", (FlowTier("one", 0, 0, ""),), 0, 0, 0, "judged", "No items."),
    "power": POWER,
    "power not reached": Power("Power", (50, 100), (0.1, 0.5), ((0, 0.2), (0.4, 0.6)), "Low.", now=60),
    "one size": Power("Power", (50,), (0.9,), ((0.8, 1.0),), "One size."),
}


def random_pictures(seed: int) -> Iterator[Picture]:
    """One of each kind."""
    drawn = random.Random(seed)
    yield _flow(drawn)
    yield _risk(drawn)
    yield _reliability(drawn)
    yield _intervals(drawn)
    yield _bars(drawn)
    yield _power(drawn)


def _name(drawn: random.Random) -> str:
    return drawn.choice((*NAMES, f"judge-{drawn.randrange(10**6)}"))


def _flow(drawn: random.Random) -> Flow:
    total = drawn.choice((1, 10, 300, 100_000))
    left, tiers = total, []
    for _ in range(drawn.randint(1, 6)):
        asked = drawn.choice((0, left, left, drawn.randint(0, left)))
        ended = drawn.choice((0, asked, drawn.randint(0, asked), min(asked, 1)))
        tiers.append(FlowTier(_name(drawn), asked, ended, drawn.choice(("", "USD 0.08", _name(drawn)))))
        left -= ended
    labelled, undecided = drawn.randint(0, left // 2), drawn.randint(0, left // 2)
    review = left - labelled - undecided
    return Flow(_name(drawn), tuple(tiers), total, review, undecided, "released", "Alt.", labelled)


def _risk(drawn: random.Random) -> RiskCoverage:
    alpha, worst = drawn.choice((0.02, 0.1, 0.15, 0.5)), drawn.choice((0.0, 0.05, 0.3, 1.0))
    points = []
    for part in range(drawn.randint(1, 4)):
        for step in range(drawn.choice((1, 5, 20, 75))):
            coverage, upper = (step + 1) / 75, drawn.choice((None, drawn.uniform(0, 0.3)))
            risk = worst * coverage * drawn.uniform(0.5, 1.0)
            limit = None if upper is None else min(1.0, risk + upper)
            points.append(Point(coverage, risk, drawn.random() < 0.5, drawn.random() < 0.02, part, limit))
    limits = tuple((p.coverage, p.risk or 0.0, p.upper) for p in points[::9] if p.upper is not None)
    joined = drawn.random() < 0.7
    return RiskCoverage("Risk", alpha, tuple(points), joined, "Alt.", drawn.choice(((), limits)))


def _reliability(drawn: random.Random) -> Reliability:
    count, most = drawn.randint(1, 12), drawn.choice((9, 900, 90_000))
    bins = tuple(
        ReliabilityBin(n / count, (n + 1) / count, drawn.randint(1, most), (n + 0.5) / count, drawn.random())
        for n in range(count)
    )
    return Reliability(_name(drawn), bins, "Alt.", drawn.choice((None, drawn.random())))


def _intervals(drawn: random.Random) -> Intervals:
    scale = drawn.choice((0.001, 1.0, 5.0, 1e7))
    bars = []
    for _ in range(drawn.choice((1, 3, 40))):
        estimate = drawn.choice((None, drawn.uniform(-scale, scale)))
        room = drawn.uniform(0, scale)
        limits = None if estimate is None else drawn.choice((None, (estimate - room, estimate + room)))
        note = drawn.choice(("", "A B", f"{drawn.randrange(5_000):,} of 5,000", _name(drawn)))
        bars.append(Interval(drawn.choice(("a", "b", _name(drawn))), estimate, limits, note))
    reference = drawn.choice((None, 0.0, drawn.uniform(-scale, scale)))
    return Intervals("Title", tuple(bars), drawn.random() < 0.5, "Alt.", reference, _name(drawn))


def _bars(drawn: random.Random) -> Bars:
    series = tuple(_name(drawn) for _ in range(drawn.randint(1, 4)))
    bars = tuple(
        Bar(_name(drawn), tuple(drawn.random() for _ in series), tuple(_name(drawn) for _ in series))
        for _ in range(drawn.randint(0, 6))
    )
    return Bars("Title", series if drawn.random() < 0.7 else ("",) * len(series), bars, "Alt.")


def _power(drawn: random.Random) -> Power:
    rows = sorted(drawn.sample(range(20, 5_000), drawn.randint(1, 9)))
    power = sorted(drawn.random() for _ in rows)
    limits = tuple((max(0.0, chance - 0.1), min(1.0, chance + 0.1)) for chance in power)
    now = drawn.choice((None, drawn.randint(1, 9_999)))
    return Power("Power", tuple(rows), tuple(power), limits, "Alt.", drawn.choice((0.8, 0.5)), now)
