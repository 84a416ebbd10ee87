"""Count how often each printed 95 % interval misses, with few labels, rare errors and clusters.

    python -m benchmarks.intervals [--draws 1000] [--seed 0]

prints the tables of docs/intervals.md. A row is a world; each draw goes through the function that the product
calls: labels and judged rows (`stats.intervals.mean_interval`), means over all items from predictions and
from labels alone (`stats.inference.ppi_mean`), means of a run's own items and changes against a baseline
(`stats.product.sampled_limits`), measures of agreement among people
(`stats.agreement.agreement_interval`). A draw without an interval does not miss.
tests/test_interval_coverage.py holds the page's figures to their limit, and against a fresh draw.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np

from trustescalate.stats.agreement import Coefficient, agreement_interval, fleiss_kappa, gwet_ac1
from trustescalate.stats.agreement import krippendorff_alpha as alpha
from trustescalate.stats.bounds import FloatArray, IntArray
from trustescalate.stats.inference import Survey, ppi_mean
from trustescalate.stats.intervals import mean_interval
from trustescalate.stats.product import sampled_limits

DELTA, ITEMS, MANY = 0.05, 5000, 20_000
RATES, LABELS = (0.5, 0.2, 0.05, 0.02, 0.005), (30, 60, 100, 300)
Rng = np.random.Generator
Limits = tuple[float, float] | None


class Misses(NamedTuple):
    """Of `draws` draws: how many gave an interval, and how many of these missed the truth."""

    draws: int
    shown: int
    missed: int


class World(NamedTuple):
    """One row of a table: its `kind`, its name, what is true there, and what one draw gives as limits."""

    kind: str
    name: str
    truth: float
    draw: Callable[[Rng], Limits]


def measure(world: World, draws: int, seed: int) -> Misses:
    """Draw so many times; the generator depends on the world's name and the seed alone."""
    rng = np.random.default_rng([seed, *f"{world.kind} {world.name}".encode()])
    found = [limits for _ in range(draws) if (limits := world.draw(rng)) is not None]
    missed = sum(not low - 1e-12 <= world.truth <= high + 1e-12 for low, high in found)
    return Misses(draws, len(found), missed)


# ── worlds ───────────────────────────────────────────────────────────────────────────────────────

SIZES: Mapping[str, Callable[[Rng, int], IntArray]] = {
    "of 3": lambda _, g: np.full(g, 3),
    "of 10": lambda _, g: np.full(g, 10),
    "of 1 and 20": lambda rng, g: rng.choice([1, 20], g, p=[0.8, 0.2]),
}


def worlds() -> Iterator[World]:
    """Every row of every table."""
    for n, rate in product(LABELS, RATES):
        yield World("labels", f"{n} rows, rate {rate:g}", rate, _independent(n, rate))
        yield World("strata", f"{n} rows, rate {rate:g}", rate, _strata(n, rate))
    for clusters, sizes, alike, rate in product((20, 30, 60, 150), SIZES, (0.3, 1.0), RATES[:4]):
        name = f"{clusters} clusters {sizes}, alike {alike:g}, rate {rate:g}"
        yield World("clusters", name, rate, _clustered(clusters, sizes, alike, rate))
    for n, right, rate in product((100, 300), (0.995, 0.99, 0.98, 0.95, 0.8), (0.5, 0.9)):
        name = f"{n} labels, rate {rate:g}, judge right {right:g}"
        yield World("one-sided judge", name, rate, _one_sided(n, rate, right))
    for n, top in product((30, 100, 300), (0.5, 0.95)):
        yield World("ratings", f"{n} labels, {top:g} of them 5 of 5", 1 + 4 * _mean(top), _rated(n, top))
    for n, rate, size in product(LABELS, RATES, (1, 4)):
        name = f"{n} labels, rate {rate:g}{', clusters of 4' if size > 1 else ''}"
        yield World("these items", name, 0.0, _of_batch(n, rate, size))
        if rate in RATES[::2]:
            yield World("baseline", name, 0.0, _of_pairs(n, rate, size))
    for kind, right, rate in product(COEFFICIENTS, (0.98, 0.9, 0.8), (0.5, 0.2, 0.05, 0.02)):
        truth = COEFFICIENTS[kind](_opinions(np.random.default_rng(0), 400_000, rate, right)) or 0.0
        for n in (30, 100, 300):
            name = f"{NAMES[kind]}, {n} rows, rarer label {rate:g}, people right {right:g}"
            yield World("people", name, truth, _people(kind, n, rate, right))


def _independent(n: int, rate: float) -> Callable[[Rng], Limits]:
    return lambda rng: mean_interval((rng.random(n) < rate).astype(np.float64), DELTA)[:2]


def _strata(n: int, rate: float) -> Callable[[Rng], Limits]:
    """A quarter of the items, twice as often of the rarer label, has half of the labels; no prediction."""
    stratum = (np.arange(ITEMS) % 4 == 0).astype(np.int64)
    half = [np.flatnonzero(stratum == k)[: n // 2] for k in (0, 1)]
    rows = np.concatenate(half)
    chance = np.where(stratum[rows] == 1, 1.6, 0.8) * rate

    def draw(rng: Rng) -> Limits:
        label = (rng.random(len(rows)) < chance).astype(np.float64)
        return ppi_mean(Survey(np.zeros(ITEMS), rows, label, stratum=stratum), DELTA).label_only

    return draw


def _clustered(clusters: int, sizes: str, alike: float, rate: float) -> Callable[[Rng], Limits]:
    """`alike` is the correlation of two rows of one cluster; at 1 all rows of a cluster are equal."""

    def draw(rng: Rng) -> Limits:
        size = SIZES[sizes](rng, clusters)
        place = np.repeat(np.arange(clusters), size)
        if alike == 1:
            return mean_interval((rng.random(clusters) < rate)[place].astype(float), DELTA, cluster=place)[:2]
        spread = (1 - alike) / alike
        chance = rng.beta(rate * spread, (1 - rate) * spread, size=clusters)[place]
        return mean_interval((rng.random(len(place)) < chance).astype(float), DELTA, cluster=place)[:2]

    return draw


def _one_sided(n: int, rate: float, right: float) -> Callable[[Rng], Limits]:
    """The judge says 1 of every 0 label that it gets wrong, and never 0 of a 1."""
    wrong = min(1.0, (1 - right) / (1 - rate))

    def draw(rng: Rng) -> Limits:
        label = (rng.random(MANY) < rate).astype(np.float64)
        prediction = np.where(rng.random(MANY) < wrong, 1.0, label)
        return _shown(Survey(prediction, np.arange(n), label[:n]))

    return draw


def _rated(n: int, top: float) -> Callable[[Rng], Limits]:
    def draw(rng: Rng) -> Limits:
        label = np.where(rng.random(n) < top, 5.0, rng.integers(1, 5, size=n))
        survey = Survey(np.full(ITEMS, 4.0), np.arange(n), label, ends=(1.0, 5.0))
        return ppi_mean(survey, DELTA).label_only

    return draw


def _mean(top: float) -> float:
    """The mean rating of `_rated` on [0, 1]: below the top, 1 to 4 are equally common."""
    return top + (1 - top) * 1.5 / 4


def _of_batch(n: int, rate: float, size: int) -> Callable[[Rng], Limits]:
    """A thousand given items: the limits less their own mean."""

    def draw(rng: Rng) -> Limits:
        _, label, _, prediction = _releases(rng, rate, size)
        return _less(Survey(prediction, _drawn(rng, n), label, cluster=_by_four(size)), float(label.mean()))

    return draw


def _of_pairs(n: int, rate: float, size: int) -> Callable[[Rng], Limits]:
    """The same items answered by two releases, of which 300 answers are equal."""

    def draw(rng: Rng) -> Limits:
        before, after, was, seen = _releases(rng, rate, size)
        after[:300] = before[:300]
        rest = slice(300, None)
        rows, cluster = _drawn(rng, n, 700), _by_four(size)
        change, moved = (seen - was)[rest], (after - before)[rest][rows]
        survey = Survey(
            change, rows, moved, cluster=None if cluster is None else cluster[rest], ends=(-1.0, 1.0)
        )
        limits = sampled_limits(survey, DELTA, known=np.zeros(300))
        truth = float(after.mean() - before.mean())
        return limits.low - truth, limits.high - truth

    return draw


def _less(survey: Survey, truth: float) -> tuple[float, float]:
    label = survey.label[survey.labelled]
    limits = sampled_limits(survey._replace(label=label, ends=(0.0, 1.0)), DELTA)
    return limits.low - truth, limits.high - truth


def _drawn(rng: Rng, n: int, items: int = 1000) -> IntArray:
    return rng.choice(items, n, replace=False)


def _by_four(size: int) -> IntArray | None:
    return None if size == 1 else np.arange(1000) // size


def _releases(rng: Rng, rate: float, size: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Labels of two releases, alike in a cluster, and a judge that misses 5 % of the first, and flatters the
    second on 12 %."""
    chance = np.repeat(rng.beta(2 * rate, 2 * (1 - rate), size=1000 // size), size)
    before, after = ((rng.random(1000) < chance).astype(np.float64) for _ in range(2))
    was = np.where(rng.random(1000) < 0.05, 1 - before, before)
    seen = np.where(rng.random(1000) < 0.12, 1.0, after)
    return before, after, was, seen


def _shown(survey: Survey) -> tuple[float, float]:
    found = ppi_mean(survey, DELTA)
    return (found.low, found.high) if found.usable else found.label_only


COEFFICIENTS: Mapping[Coefficient, Callable[[IntArray], float | None]] = {
    "fleiss_kappa": fleiss_kappa,
    "alpha_nominal": alpha,
    "gwet_ac1": gwet_ac1,
}
NAMES: Mapping[Coefficient, str] = {"fleiss_kappa": "κ", "alpha_nominal": "α", "gwet_ac1": "AC1"}


def _opinions(rng: Rng, n: int, rate: float, right: float) -> IntArray:
    """Counts (n, 2): three people, each right with one probability."""
    truth = rng.random(n) < rate
    ones = (truth[:, None] ^ (rng.random((n, 3)) >= right)).sum(axis=1)
    return np.stack([3 - ones, ones], axis=1)


def _people(kind: Coefficient, n: int, rate: float, right: float) -> Callable[[Rng], Limits]:
    return lambda rng: agreement_interval(kind, _opinions(rng, n, rate, right), DELTA)


# ── printing ─────────────────────────────────────────────────────────────────────────────────────

TITLES = {
    "labels": "Agreement on rows that stand alone: each judge, judged items",
    "clusters": "Agreement on rows of clusters",
    "strata": "From labels alone, two strata labelled at different rates",
    "one-sided judge": "Means over all items, a judge that errs one way only",
    "ratings": "Mean rating from labels alone",
    "these items": "Mean of a run's own items, 1,000 of them, by people and judges",
    "baseline": "Change of the mean of 1,000 items against a baseline, 300 of them answered alike",
    "people": "Inter-annotator agreement beyond chance, three annotators",
}


def tables(draws: int, seed: int) -> Iterator[str]:
    """Markdown: for each kind of interval, every world with misses in per cent of the draws, and how many of
    the draws gave an interval."""
    rows: dict[str, list[str]] = {title: [] for title in TITLES}
    for world in worlds():
        found = measure(world, draws, seed)
        missed, shown = (100 * part / draws for part in (found.missed, found.shown))
        rows[world.kind].append(f"| {world.name} | {missed:.1f} | {shown:.0f} |")
    for kind, title in TITLES.items():
        yield (
            f"### {title}\n\n| world | misses, % | shown, % |\n|---|---|---|\n" + "\n".join(rows[kind]) + "\n"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Misses of everything that is printed as 95 %.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("\n".join(tables(options.draws, options.seed)))


if __name__ == "__main__":
    main()
